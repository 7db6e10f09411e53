"""The page Review: take predictions over, correct them, mark slices as traced."""
