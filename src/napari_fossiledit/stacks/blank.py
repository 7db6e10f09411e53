"""A stack without photographs: outlines or labels are all that is left of the rock."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_fossiledit.stacks.pixels import Pixels
from napari_fossiledit.stacks.section import SectionStack, StackRecord

KIND = "blank"


class BlankStack(SectionStack):
    """Black grey slices of a known size, so that tracings have a stack to lie on."""

    @classmethod
    def of_shape(cls, path: Path, shape: tuple[int, int, int]) -> BlankStack:
        """Return a stack of `shape` (z, y, x) for the tracings in the file at `path`."""
        names = tuple(f"{path.name}#{z}" for z in range(shape[0]))
        record = StackRecord(
            kind=KIND, path=path, names=names, shape=shape, dtype="uint8", rgb=False
        )
        return cls(record)

    def _files(self, z: int) -> list[Path]:
        return []

    def _decode(self, z: int) -> Pixels:
        return np.zeros(self.shape[1:], dtype=np.uint8)
