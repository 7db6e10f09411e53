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
from napari_fossiledit.masks.rle import Mask, intersections, union


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
        pairs = np.stack([before[changed], after[changed]], axis=1)
        unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
        codes = np.zeros(before.shape, dtype=np.uint32)
        codes[changed] = inverse.ravel() + 1
        masks = masks_of_labels(codes, origin, shape)
        values = [(int(old), int(new)) for old, new in unique]
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
        leaves what lies below it. Values of no instance become new ones.

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
        known = {i.id: i for i in instances if i.id is not None}
        gained: defaultdict[int | None, list[Mask]] = defaultdict(list)
        lost: defaultdict[int | None, list[Mask]] = defaultdict(list)
        for before, after, pixels in self.parts:
            if after == 0:
                lost[before].append(pixels)
                continue
            body = known[after].parent if after in known else None
            painted = {after, body} if body in known else {after}
            for id_ in painted:
                gained[id_].append(pixels)
            others = [i for i in instances if i.id not in painted]
            (shared,) = intersections([pixels], [i.mask for i in others])
            for other, count in zip(others, shared, strict=True):
                if count:
                    lost[other.id].append(pixels)
        changed: dict[int, Instance] = {}
        for id_, old in known.items():
            if id_ not in gained and id_ not in lost:
                continue
            mask = union([old.mask, *gained[id_]], old.mask.shape)
            mask -= union(lost[id_], mask.shape)
            if mask != old.mask:
                changed[id_] = replace(old, mask=mask, origin=Origin.HUMAN)
        for new in {part.after for part in self.parts} - known.keys() - {0}:
            mask = union(gained[new], gained[new][0].shape)
            changed[new] = Instance(self.z, class_name, mask, id=new)
        gone = [id_ for id_, each in changed.items() if each.mask.area == 0]
        # A cavity whose body is gone stands alone.
        for id_, each in {**known, **changed}.items():
            if each.parent in gone:
                changed[id_] = replace(each, parent=None)
        return [each for id_, each in sorted(changed.items()) if id_ not in gone], gone
