"""Every file that is not the project's own: annotations, outlines, meshes, tables."""
