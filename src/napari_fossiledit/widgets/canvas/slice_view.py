"""The user's instances as an array that napari's Labels layer shows and paints into."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.labels import Labels, paint_box, paint_masks, paint_order
from napari_fossiledit.masks.strokes import Stroke
from napari_fossiledit.project import ANNOTATIONS, Ledger

#: Corners of a part of a slice (y0, x0, y1, x1) in pixels, half open.
Box = tuple[int, int, int, int]

#: What is ready where no slice is.
_NOTHING: tuple[int, list[Instance], Labels] = (-1, [], np.zeros((0, 0), np.uint32))


class SliceView:
    """Ids (z, y, x) uint32 of the user's instances; writing into it edits the instances.

    One slice is held in memory, painted when it is read. What is written there is a stroke, which
    becomes one action of the ledger in `save`; until then it is kept, also when another slice is
    read. The ledger stays the truth: after each change the slice is compared with what the ledger
    holds, and what differs, whoever changed it, is painted again.

    Parameters
    ----------
    ledger
        Where the instances are.
    shape
        (z, y, x) of the stack in voxels.
    class_name
        Returns the class of the next new instance.
    seen
        Called with a slice and all its instances before they are shown.

    Attributes
    ----------
    edited
        Set with each stroke that is saved; whoever tells others takes it back.
    """

    dtype = np.dtype(np.uint32)
    ndim = 3

    def __init__(
        self,
        ledger: Ledger,
        shape: tuple[int, int, int],
        class_name: Callable[[], str],
        seen: Callable[[int, Sequence[Instance]], object] = lambda _z, _instances: None,
    ) -> None:
        self.shape, self.edited = shape, False
        self._ledger, self._class_name, self._seen = ledger, class_name, seen
        # napari may read from a thread of its own.
        self._lock = threading.RLock()
        self._z = -1
        # As they are painted, the lowest first. Outside the written box `_labels` always shows
        # exactly these in this order.
        self._shown: list[Instance] = []
        self._labels: Labels = np.zeros((0, 0), np.uint32)
        self._ready = _NOTHING
        self._written: Box | None = None
        self._repainted: Box | None = None
        self._unsaved: list[Stroke] = []
        self._problem: FossilError | None = None
        self._reserved: set[int] = set()

    # ------------------------------------------------------------------ array

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        first, rest = (parts[0], parts[1:]) if parts else (slice(None), ())
        if isinstance(first, slice):
            planes = [self._at(z)[rest] for z in range(*first.indices(self.shape[0]))]
            return np.stack(planes) if planes else np.zeros((0, *self.shape[1:]), np.uint32)
        slices = np.asarray(first)
        if slices.ndim == 0:
            return self._at(int(slices))[rest]
        values = np.zeros(slices.shape, np.uint32)
        for z, here in _by_slice(slices):
            values[here] = self._at(z)[tuple(np.asarray(part)[here] for part in rest)]
        return values

    def __setitem__(self, key: Any, value: Any) -> None:
        first, rest = key[0], key[1:]
        if isinstance(first, slice):
            for n, z in enumerate(range(*first.indices(self.shape[0]))):
                self._write(z, rest, value[n] if np.ndim(value) == 3 else value)
            return
        slices = np.asarray(first)
        if slices.ndim == 0:
            self._write(int(slices), rest, value)
            return
        values = np.broadcast_to(value, slices.shape)
        for z, here in _by_slice(slices):
            self._write(z, tuple(np.asarray(part)[here] for part in rest), values[here])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    # ------------------------------------------------------------------ slice

    def instances(self, z: int) -> list[Instance]:
        """Return the instances that slice `z` shows, the lowest first."""
        with self._lock:
            self._at(z)
            return list(self._shown)

    def make_ready(self, z: int) -> None:
        """Paint a slice that may be read next.

        Raises
        ------
        FossilError
            Where the ledger cannot be read.
        """
        with self._lock:
            if z not in (self._z, self._ready[0]):
                shown = paint_order(self._ledger.instances(ANNOTATIONS, slices=[z]))
                self._ready = (z, shown, _painted(shown, self.shape[1:]))
                self._seen(z, shown)

    def reserve(self) -> int:
        """Return a value for a new instance, which will be its id."""
        value = self._ledger.reserve_id()
        self._reserved.add(value)
        return value

    def save(self) -> dict[int, int]:
        """Write what was painted to the ledger, each stroke as one action.

        Returns
        -------
        dict
            Ids that instances got instead of the values with which they were painted.

        Raises
        ------
        FossilError
            Where the ledger cannot be written; the strokes are kept for the next call.
        """
        given: dict[int, int] = {}
        error: FossilError | None = None
        with self._lock:
            self._collect()
            for z in dict.fromkeys(stroke.z for stroke in self._unsaved):
                # A damaged slice must not keep those of others from being saved.
                try:
                    given |= self._save_slice(z)
                except FossilError as failed:
                    error = error or failed
        if error is not None:
            raise error
        return given

    def _save_slice(self, z: int) -> dict[int, int]:
        given: dict[int, int] = {}
        while (stroke := next((s for s in self._unsaved if s.z == z), None)) is not None:
            new, stored = self._saved(stroke)
            self._unsaved = [
                each.renamed(new) if each.z == z else each
                for each in self._unsaved
                if each is not stroke
            ]
            given |= new
            if z == self._z:
                self._show(self._as_painted(z, stored))
        return given

    def remove(self, z: int, id_: int) -> None:
        """Remove an instance of slice `z` from the ledger, with its cavities, as one action."""
        with self._lock:
            self.save()
            self._ledger.edit(z, remove=[id_], what="delete instance")
            self.compare()

    def compare(self) -> None:
        """Show what the ledger holds of the slice in memory, whoever changed it."""
        with self._lock:
            if self._z >= 0:
                self._collect()
                self._show(self._stored(self._z))

    def take_repainted(self) -> Box | None:
        """Return the part of the slice that was painted by itself since the last call, if any."""
        with self._lock:
            box, self._repainted = self._repainted, None
        return box

    def take_problem(self) -> FossilError | None:
        """Return why a slice could not be read since the last call, if one could not."""
        problem, self._problem = self._problem, None
        return problem

    # --------------------------------------------------------------- inwards

    def _at(self, z: int) -> Labels:
        """Return the labels of slice `z`, painted now unless it is in memory."""
        with self._lock:
            z = range(self.shape[0])[z]
            if z != self._z:
                self._collect()
                self._shown = paint_order(self._stored(z))
                (ready, shown, labels), self._ready = self._ready, _NOTHING
                # Somebody may have changed it meanwhile.
                if ready != z or shown != self._shown:
                    labels = _painted(self._shown, self.shape[1:])
                self._labels = labels
                self._z, self._repainted = z, None
                self._seen(z, self._shown)
            return self._labels

    def _write(self, z: int, where: tuple[Any, ...], value: Any) -> None:
        with self._lock:
            labels = self._at(z)
            box = _box_of(where, self.shape[1:])
            if box is not None:
                labels[where] = value
                self._written = _around(self._written, box)

    def _stored(self, z: int) -> list[Instance]:
        """Return what the ledger holds of a slice; nothing where it cannot be read."""
        try:
            return self._as_painted(z, self._ledger.instances(ANNOTATIONS, slices=[z]))
        except FossilError as error:
            # napari would leave the slice before on the screen, to be painted into.
            self._problem = error
            return []

    def _as_painted(self, z: int, instances: list[Instance]) -> list[Instance]:
        """Return what strokes that are not saved yet make of the ledger's instances of a slice."""
        for stroke in self._unsaved:
            if stroke.z == z:
                instances = self._changed(stroke, instances)
        return instances

    def _changed(self, stroke: Stroke, instances: Sequence[Instance]) -> list[Instance]:
        put, gone = stroke.applied(instances, self._class_name())
        new = {i.id: i for i in put}
        kept = [new.pop(i.id, i) for i in instances if i.id not in gone]
        return [*kept, *new.values()]

    def _collect(self) -> None:
        """Turn what was written since the last call into a stroke that is not saved yet."""
        box, self._written = self._written, None
        if box is None:
            return
        y0, x0, y1, x1 = box
        masks, ids = [i.mask for i in self._shown], [i.id or 0 for i in self._shown]
        before, after = paint_box(masks, ids, box), self._labels[y0:y1, x0:x1]
        stroke = Stroke.between(self._z, before, after, (y0, x0), self.shape[1:])
        if stroke.parts:
            self._unsaved.append(stroke)
            reviewed = {i.id for i in self._shown if i.reviewed}
            if any(part.before in reviewed for part in stroke.parts):
                self._problem = FossilError(
                    "A mask that you have found right was left as it is",
                    advice="Click it and press A to take the mark away, or paint its own number.",
                )
            self._shown = self._changed(stroke, self._shown)
            self._repaint(box)

    def _saved(self, stroke: Stroke) -> tuple[dict[int, int], list[Instance]]:
        """Write a stroke; return new ids by painted value, and what the slice holds then."""
        put: list[Instance] = []
        rest: list[Instance] = []

        def change(now: list[Instance]) -> tuple[list[Instance], list[int]]:
            changed, gone = stroke.applied(now, self._class_name())
            put.extend(changed)
            rest.extend(i for i in now if i.id not in {*gone, *(c.id for c in changed)})
            # An id that a person typed could be anybody's.
            ours = self._reserved | {i.id for i in now}
            return [i if i.id in ours else replace(i, id=None) for i in changed], gone

        ids = self._ledger.revise(stroke.z, change, what="paint")
        self.edited = True
        new = {i.id or 0: id_ for i, id_ in zip(put, ids, strict=True) if i.id != id_}
        return new, [*rest, *(replace(i, id=id_) for i, id_ in zip(put, ids, strict=True))]

    def _show(self, instances: Sequence[Instance]) -> None:
        """Show other instances in place of those on show; paint only where they differ.

        Instances that stay keep their place above and below others: of similar overlapping ones,
        another would lie on top as soon as one of them grows.
        """
        found = {i.id: i for i in instances}
        kept = [found.pop(i.id) for i in self._shown if i.id in found]
        instances = [*kept, *(i for i in instances if i.id in found)]
        old, new = ({i.id: i.mask for i in each} for each in (self._shown, instances))
        nothing = Mask.empty(self.shape[1:])
        box: Box | None = None
        for id_ in old.keys() | new.keys():
            a, b = old.get(id_, nothing), new.get(id_, nothing)
            if a != b:
                box = _around(_around(box, (a - b).box), (b - a).box)
        self._shown = instances
        if box is not None:
            self._repaint(box)

    def _repaint(self, box: Box) -> None:
        """Paint a part of the slice from its instances."""
        y0, x0, y1, x1 = box
        part = self._labels[y0:y1, x0:x1]
        # Painting a slice as a whole takes about as long as painting a quarter of it as a box.
        if 4 * part.size > self._labels.size:
            painted = _painted(self._shown, self.shape[1:])[y0:y1, x0:x1]
        else:
            painted = paint_box(
                [i.mask for i in self._shown], [i.id or 0 for i in self._shown], box
            )
        rows, columns = (np.flatnonzero((part != painted).any(axis=n)) for n in (1, 0))
        if rows.size:
            part[...] = painted
            differing = (y0 + rows[0], x0 + columns[0], y0 + rows[-1] + 1, x0 + columns[-1] + 1)
            self._repainted = _around(self._repainted, differing)


def _painted(instances: Sequence[Instance], shape: tuple[int, int]) -> Labels:
    return paint_masks([i.mask for i in instances], [i.id or 0 for i in instances], shape)


def _by_slice(slices: NDArray[Any]) -> list[tuple[int, NDArray[np.bool_]]]:
    return [(int(z), slices == z) for z in np.unique(slices)]


def _box_of(where: tuple[Any, ...], shape: tuple[int, int]) -> Box | None:
    """Return the corners of an index (rows, columns), None where it is empty."""
    ends = []
    for part, length in zip((*where, slice(None), slice(None)), shape, strict=False):
        if isinstance(part, slice):
            # As each stamp of the brush has it.
            inside = range(length)[part]
            places = np.array([*inside[:1], *inside[-1:]])
        else:
            places = np.asarray(part) % length
        if not places.size:
            return None
        ends.append((int(places.min()), int(places.max()) + 1))
    (y0, y1), (x0, x1) = ends
    return (y0, x0, y1, x1)


def _around(box: Box | None, other: Box) -> Box | None:
    """Return the box around two boxes; an empty one adds nothing."""
    if other[0] >= other[2] or other[1] >= other[3]:
        return box
    if box is None:
        return other
    return (
        min(box[0], other[0]),
        min(box[1], other[1]),
        max(box[2], other[2]),
        max(box[3], other[3]),
    )
