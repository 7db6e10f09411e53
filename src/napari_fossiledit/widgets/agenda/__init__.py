"""The page *Agenda*: which slices to trace next, and how far to trust the model."""
