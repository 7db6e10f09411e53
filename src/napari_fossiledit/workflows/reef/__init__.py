"""Instances to specimens, meshes, measurements and pictures."""
