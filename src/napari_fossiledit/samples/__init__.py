"""Procedural serial sections with exact truth, made on the spot."""
