"""Instance masks of a slice: run-length encoded, overlapping where fossils do."""

from napari_fossiledit.masks.instance import Instance, Origin, Part, cut_at
from napari_fossiledit.masks.rle import Mask

__all__ = ["Instance", "Mask", "Origin", "Part", "cut_at"]
