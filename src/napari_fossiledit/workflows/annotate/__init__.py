"""Annotations: import and export files, correct labels."""
