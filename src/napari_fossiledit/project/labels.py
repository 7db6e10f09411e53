"""Corrected labels of the whole stack: the one place where corrected geometry is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained
from napari_fossiledit.project.journal import Journal, Overwritten

Labels = NDArray[np.uint32]

_CHUNK = 512


class LabelVolume:
    """Labels (z, y, x) of uint32 in ``labels.zarr``; a value is the id of an instance.

    napari paints into `array` directly. Bulk changes go through `write`, which stores what it
    overwrites before a voxel changes, so that `undo_last` works even after a crash in between.

    Parameters
    ----------
    path
        The zarr folder; made by `ensure` or on the first write.
    shape
        (z, y, x) of the stack.
    journal
        Where overwritten labels are kept.
    read_only
        Refuse every change.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int], journal: Journal, *, read_only: bool
    ) -> None:
        self.path, self.shape, self.read_only = path, shape, read_only
        self._journal = journal
        self._array: zarr.Array[Any] | None = None

    @property
    def exists(self) -> bool:
        """Whether anything was ever painted."""
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
        found = f"{tuple(array.shape)} of {array.dtype}"
        if (tuple(array.shape), array.dtype) != (self.shape, np.dtype(np.uint32)):
            raise FossilError(
                f"{self.path} does not fit the stack",
                expected=f"{self.shape} of uint32",
                found=found,
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
        if self.read_only:
            raise FossilError(
                f"{self.path} is open for reading only",
                advice="Copy the project to a place you may write to.",
            )

    def read(self, z: int) -> Labels:
        """Labels (y, x) of slice `z`; all 0 where nothing was ever painted."""
        self._check(z)
        if not self.exists:
            return np.zeros(self.shape[1:], dtype=np.uint32)
        with explained(self.path, f"Reading slice {z} of"):
            return np.asarray(self.ensure()[z], dtype=np.uint32)

    def values(self, z: int) -> list[int]:
        """Values other than 0 in slice `z`, ascending."""
        return [int(v) for v in np.unique(self.read(z)) if v]

    def begin(self, what: str) -> int:
        """Start a bulk change of several slices that is taken back as one; returns its number."""
        self._require_writable()
        return self._journal.begin(what)

    def write(self, z: int, labels: NDArray[np.integer], change: int | None = None) -> None:
        """Replace slice `z` by `labels` (y, x), keeping what is overwritten in the journal.

        Parameters
        ----------
        change
            Number from `begin`; None makes a change of this slice alone.
        """
        self._require_writable()
        self._check(z)
        if labels.shape != self.shape[1:]:
            raise FossilError(
                f"Labels of slice {z} do not fit {self.path}",
                expected=self.shape[1:],
                found=labels.shape,
            )
        item = Overwritten.of_slices(z, self.read(z), labels.astype(np.uint32))
        if item is not None:
            self._journal.note(self.begin("write") if change is None else change, item)
            self._put(item, item.after)

    def undo_last(self) -> list[int]:
        """Take the newest bulk change back; what was painted over it since then stays.

        Returns
        -------
        list of int
            Slices that changed, ascending; empty where there is nothing to take back.
        """
        self._require_writable()
        change = self._journal.last()
        if change is None:
            return []
        slices = {self._take_back(row) for row in self._journal.rows(change)}
        # Only now: a crash before this line leaves the change to be taken back again.
        self._journal.forget(change)
        return sorted(slices)

    def _take_back(self, row: int) -> int:
        item = self._journal.load(row)
        self._put(item, item.taken_back(self.read(item.z)[item.box]))
        return item.z

    def _put(self, item: Overwritten, values: Labels) -> None:
        with explained(self.path, f"Writing slice {item.z} of"):
            self.ensure()[(item.z, *item.box)] = values

    def _check(self, z: int) -> None:
        if not 0 <= z < self.shape[0]:
            raise FossilError(
                f"Slice {z} is not in {self.path}", expected=f"0 to {self.shape[0] - 1}", found=z
            )
