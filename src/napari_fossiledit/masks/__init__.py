"""Instance masks of a slice: run-length encoded, overlapping where fossils do."""

from napari_fossiledit.masks.instance import Instance, Origin, Part, beside_reviewed, cut_at
from napari_fossiledit.masks.rle import Mask

__all__ = ["Instance", "Mask", "Origin", "Part", "beside_reviewed", "cut_at"]
