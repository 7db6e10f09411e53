"""Layers of the viewer and what the pointer does there."""
