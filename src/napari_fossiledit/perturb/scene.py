"""What a perturbation sees of a slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance

#: A slice (y, x) or (y, x, 3), uint8 or uint16.
Image: TypeAlias = NDArray[Any]
Where: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float32]
Colour: TypeAlias = tuple[float, float, float]


def no_crop(where: str) -> Image:
    """Refuse a texture where nobody said how to read one."""
    raise FossilError(
        "There is no texture to fill with", expected="a square crop of a slice", found=repr(where)
    )


@dataclass(frozen=True)
class Scene:
    """One slice and what is known of it.

    Attributes
    ----------
    image
        The slice (y, x) or (y, x, 3), uint8 or uint16.
    instances
        Bodies that tell the regions.
    mud
        Colour of the mud in the slice's own values; None: measured where it is needed.
    crops
        Reads a crop (y, x[, 3]) of the stack, ``"SLICE:x0:x1,y0:y1"``; ``""`` is the texture that
        is used where a fill names none.
    known
        Where the instances are complete, (y, x); None: in the whole slice.
    name
        What messages call the slice.
    """

    image: Image
    instances: tuple[Instance, ...] = ()
    mud: Colour | None = None
    crops: Callable[[str], Image] = no_crop
    known: Where | None = None
    name: str = "the slice"

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width (y, x) in pixels."""
        return (self.image.shape[0], self.image.shape[1])

    @property
    def size(self) -> str:
        """The size in words, for messages."""
        return f"x 0 to {self.shape[1] - 1}, y 0 to {self.shape[0] - 1}"
