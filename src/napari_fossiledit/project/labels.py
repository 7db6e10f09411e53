"""Corrected labels of the whole stack, and the instances that they show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, require_writable
from napari_fossiledit.geometry import check_slice
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.labels import masks_of_labels
from napari_fossiledit.project.journal import Journal, Overwritten
from napari_fossiledit.project.ledger import Ledger
from napari_fossiledit.project.source import LABELS

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

    def values(self, z: int) -> list[int]:
        """Return the values other than 0 in slice `z`, ascending."""
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
        check_slice(z, self.shape[0], str(self.path))
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
        slices = set()
        for row in self._journal.rows(change):
            item = self._journal.load(row)
            self._put(item, item.taken_back(self.read(item.z)[item.box]))
            slices.add(item.z)
        # Only now: a crash before this line leaves the change to be taken back again.
        self._journal.forget(change)
        return sorted(slices)

    def _put(self, item: Overwritten, values: Labels) -> None:
        with explained(self.path, f"Writing slice {item.z} of"):
            self.ensure()[(item.z, *item.box)] = values


def labelled_instances(
    ledger: Ledger, labels: LabelVolume, z: int, default_class: str
) -> list[Instance]:
    """Return the instances that ``labels.zarr`` shows in slice `z`.

    Geometry is from the voxels, all else from the ledger's rows. A body is given back what its
    own cavities cover, because a voxel holds one value only. Cavities of bodies that are gone
    stand alone.

    Parameters
    ----------
    default_class
        Class of values that a person painted without asking for an id.
    """
    masks = masks_of_labels(labels.read(z))
    rows = {i.id: i for i in ledger.instances(LABELS, ids=masks)}
    items = [
        replace(rows[value], mask=mask, slice=z)
        if value in rows
        else Instance(z, default_class, mask, id=value)
        for value, mask in masks.items()
    ]
    cavities: dict[int, list[Mask]] = {}
    for item in items:
        if item.part is Part.CAVITY and item.parent in masks:
            cavities.setdefault(item.parent, []).append(item.mask)
    whole = []
    for item in items:
        mask = item.mask
        for cavity in cavities.get(item.id or 0, []):
            mask = mask | cavity
        parent = item.parent if item.parent in masks else None
        whole.append(replace(item, mask=mask, parent=parent))
    return whole
