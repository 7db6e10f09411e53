"""A project of a stack: make it, convert it, list what it holds."""
