"""Procedural serial sections with exact ground truth, computed slice by slice."""
