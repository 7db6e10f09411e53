"""One slice and what is known of it: what regions and fills are computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance
from napari_fossiledit.masks.rle import union

#: A slice (y, x) or (y, x, 3), uint8 or uint16.
Image: TypeAlias = NDArray[Any]
Where: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float32]
Colour: TypeAlias = tuple[float, float, float]


def no_crop(crop: str) -> Image:
    """Raise `FossilError`: the reader of crops of a scene that was given none."""
    raise FossilError(
        "There is no texture to fill with", expected="a square crop of a slice", found=repr(crop)
    )


@dataclass(frozen=True)
class SliceScene:
    """One slice and what is known of it.

    Attributes
    ----------
    image
        The slice (y, x) or (y, x, 3), uint8 or uint16.
    instances
        Bodies from which regions are made.
    mud
        Colour of the mud in the slice's own values; None: measured where it is needed.
    crops
        Reads a crop (y, x[, 3]) of the stack, ``"SLICE:x0:x1,y0:y1"``; ``""`` is the texture that
        is used where a fill names none.
    complete
        Where the instances are complete, (y, x); None: in the whole slice.
    name
        Name of the slice in messages.
    values
        What is black and white in the stack; None: all that its dtype holds. Slices of 12 bit in
        files of 16 use a sixteenth of that.
    """

    image: Image
    instances: tuple[Instance, ...] = ()
    mud: Colour | None = None
    crops: Callable[[str], Image] = no_crop
    complete: Where | None = None
    name: str = "the slice"
    values: tuple[float, float] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width (y, x) in pixels."""
        return (self.image.shape[0], self.image.shape[1])

    @property
    def span(self) -> tuple[float, float]:
        """Values that are black and white."""
        return self.values or (0.0, float(np.iinfo(self.image.dtype).max))

    @property
    def extent(self) -> str:
        """First and last column and row, for messages."""
        return f"x 0 to {self.shape[1] - 1}, y 0 to {self.shape[0] - 1}"

    def covered(self, instances: Iterable[Instance]) -> Where:
        """Return the pixels (y, x) of instances, checked to be of a slice of this size."""
        masks = [i.mask for i in instances]
        wrong = next((m.shape for m in masks if m.shape != self.shape), None)
        if wrong is not None:
            raise FossilError(
                f"The instances of {self.name} are of a slice of another size",
                expected=f"{self.shape[1]} x {self.shape[0]} pixels",
                found=f"{wrong[1]} x {wrong[0]}",
            )
        return union(masks, self.shape).to_array()
