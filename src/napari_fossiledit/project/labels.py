"""Voxels of the window's Labels layer, until it paints instances of the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, require_writable
from napari_fossiledit.geometry import check_slice

Labels = NDArray[np.uint32]

_CHUNK = 512


class LabelVolume:
    """Labels (z, y, x) of uint32 in ``labels.zarr``; nothing but the window reads them."""

    def __init__(self, path: Path, shape: tuple[int, int, int], *, read_only: bool) -> None:
        self.path, self.shape, self.read_only = path, shape, read_only
        self._array: zarr.Array[Any] | None = None

    @property
    def exists(self) -> bool:
        """True where anything was ever painted."""
        return (self.path / "zarr.json").is_file()

    @property
    def array(self) -> zarr.Array[Any]:
        """The voxels (z, y, x); writing into it changes the project, without a journal."""
        return self.ensure()

    def ensure(self) -> zarr.Array[Any]:
        """Open the voxels, making them where they are missing.

        Raises
        ------
        FossilError
            Where the folder cannot be read or made, or has another shape than the stack.
        """
        if self._array is None:
            self._array = self._opened() if self.exists else self._made()
        return self._array

    def _opened(self) -> zarr.Array[Any]:
        mode = "r" if self.read_only else "r+"
        try:
            with explained(self.path, "Opening"):
                array = zarr.open_array(self.path, mode=mode)
        except (ValueError, KeyError, TypeError) as error:
            raise FossilError(
                f"{self.path} cannot be read", expected="a zarr array", found=str(error)
            ) from error
        if (tuple(array.shape), array.dtype) != (self.shape, np.dtype(np.uint32)):
            raise FossilError(
                f"{self.path} does not fit the stack",
                expected=f"{self.shape} of uint32",
                found=f"{tuple(array.shape)} of {array.dtype}",
            )
        return array

    def _made(self) -> zarr.Array[Any]:
        self._require_writable()
        chunks = (1, min(_CHUNK, self.shape[1]), min(_CHUNK, self.shape[2]))
        with explained(self.path, "Making"):
            return zarr.create_array(
                self.path,
                shape=self.shape,
                chunks=chunks,
                dtype=np.uint32,
                fill_value=0,
                dimension_names=("z", "y", "x"),
            )

    def _require_writable(self) -> None:
        require_writable(self.path, read_only=self.read_only)

    def read(self, z: int) -> Labels:
        """Read the labels (y, x) of slice `z`; all 0 where nothing was ever painted."""
        check_slice(z, self.shape[0], str(self.path))
        if not self.exists:
            return np.zeros(self.shape[1:], dtype=np.uint32)
        with explained(self.path, f"Reading slice {z} of"):
            return np.asarray(self.ensure()[z], dtype=np.uint32)
