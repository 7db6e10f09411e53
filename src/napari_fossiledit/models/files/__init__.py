"""Checkpoints, the models that come along, where models lie."""
