"""Morphospace: pictures of specimens as points, near where shape and texture are alike.

Pure: arrays and models in, values out. Only modules that run a network import torch.
"""
