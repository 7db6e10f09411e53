"""What painting over the labels of a slice does to the masks of its instances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.masks.instance import Instance, Origin
from napari_fossiledit.masks.labels import masks_of_labels
from napari_fossiledit.masks.rle import Mask, intersections, overlap, union

Claims = defaultdict[int, list[Mask]]


class Repainted(NamedTuple):
    """Pixels that showed the value `before` and show `after` since."""

    before: int
    after: int
    pixels: Mask


@dataclass(frozen=True)
class Stroke:
    """Pixels of one slice that were painted.

    A value is the id of an instance, and 0 where nothing is.

    Attributes
    ----------
    z
        The slice.
    parts
        One for each pair of values, without a pixel in common.
    """

    z: int
    parts: tuple[Repainted, ...]

    @classmethod
    def between(
        cls,
        z: int,
        before: NDArray[np.uint32],
        after: NDArray[np.uint32],
        origin: tuple[int, int],
        shape: tuple[int, int],
    ) -> Self:
        """Compare the labels (y, x) of a part of a slice before and after they were painted.

        Parameters
        ----------
        origin, shape
            Where the part lies (y, x) in a slice of this shape.
        """
        changed = before != after
        # Both values in one number: rows of pairs are sorted ten times as slowly.
        pairs = before[changed].astype(np.uint64) << 32 | after[changed]
        unique, inverse = np.unique(pairs, return_inverse=True)
        codes = np.zeros(before.shape, dtype=np.uint32)
        codes[changed] = inverse + 1
        masks = masks_of_labels(codes, origin, shape)
        values = [divmod(int(pair), 2**32) for pair in unique]
        return cls(z, tuple(Repainted(*values[n - 1], masks[n]) for n in sorted(masks)))

    def renamed(self, ids: Mapping[int, int]) -> Stroke:
        """Return the stroke with other values, where `ids` has one."""
        parts = (Repainted(ids.get(b, b), ids.get(a, a), pixels) for b, a, pixels in self.parts)
        return Stroke(self.z, tuple(parts))

    def applied(
        self, instances: Sequence[Instance], class_name: str
    ) -> tuple[list[Instance], list[int]]:
        """Return what the stroke makes of the instances of its slice.

        Painted pixels belong to the painted instance alone, so that it is seen there; a cavity
        and its body keep them together. Erasing takes pixels from the instance that was seen and
        leaves what lies below it. Values of no instance become new ones. A reviewed instance only
        changes where it is painted itself: others get none of its pixels, and none are erased.

        Parameters
        ----------
        class_name
            Class of new instances.

        Returns
        -------
        list of Instance
            Changed instances with their masks; the id of a new one is the painted value.
        list of int
            Ids of instances of which nothing is left.
        """
        gained, lost = self._claimed(instances)
        known = {i.id: i for i in instances if i.id is not None}
        changed: dict[int, Instance] = {}
        for id_ in gained.keys() | (lost.keys() & known.keys()):
            old = known.get(id_)
            masks = [*gained[id_], *([old.mask] if old else [])]
            mask = union(masks, masks[0].shape) - union(lost[id_], masks[0].shape)
            if old is None:
                changed[id_] = Instance(self.z, class_name, mask, id=id_)
            elif mask != old.mask:
                changed[id_] = replace(old, mask=mask, origin=Origin.HUMAN)
        gone = [id_ for id_, each in changed.items() if each.mask.area == 0]
        # A cavity whose body is gone stands alone.
        for id_, each in {**known, **changed}.items():
            if each.parent in gone:
                changed[id_] = replace(each, parent=None)
        return [each for id_, each in sorted(changed.items()) if id_ not in gone], gone

    def _claimed(self, instances: Sequence[Instance]) -> tuple[Claims, Claims]:
        """Return the pixels that instances gain and lose, by id."""
        bodies = {i.id: i.parent for i in instances if i.id is not None}
        reviewed = {i.id for i in instances if i.reviewed}
        gained, lost, painted = Claims(list), Claims(list), Claims(list)
        for before, after, pixels in self.parts:
            if after:
                painted[after].append(pixels)
            elif before not in reviewed:
                lost[before].append(pixels)
        for value, parts in painted.items():
            body = bodies.get(value)
            owners = {value} if body is None or body not in bodies else {value, body}
            pixels = union(parts, parts[0].shape)
            locked = [
                i.mask
                for i in instances
                if i.reviewed and i.id not in owners and overlap(i.mask.box, pixels.box)
            ]
            if locked:
                pixels -= union(locked, pixels.shape)
            if not pixels.area:
                continue
            for id_ in owners:
                gained[id_].append(pixels)
            others = [
                i for i in instances if i.id not in owners and overlap(i.mask.box, pixels.box)
            ]
            (shared,) = intersections([pixels], [i.mask for i in others])
            for other, count in zip(others, shared, strict=True):
                if count and other.id is not None:
                    lost[other.id].append(pixels)
        return gained, lost
