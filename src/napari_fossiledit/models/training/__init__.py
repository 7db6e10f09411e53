"""Train a network on a few traced slices."""
