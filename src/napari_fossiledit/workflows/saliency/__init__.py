"""Show what a model looks at, and how unequally."""
