"""Forms and layers in napari: no algorithm and no file format."""
