"""Layers of the network: backbones, heads, pooling."""
