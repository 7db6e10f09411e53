"""Which slice to trace next, and how far slices are from those that a model knows."""
