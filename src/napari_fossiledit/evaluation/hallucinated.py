"""Finds of a model where every fossil is hidden, and the classes that suggested them.

A pixel that is found although nothing is there either lies on something else, or on the fill that
hides a fossil. The fill itself shows nothing, so that a find on it was suggested by what frames it:
mud in the midst of a calcimicrobe looks like a fossil filled with mud.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_fossiledit.evaluation.changes import BACKGROUND, Change, Kind
from napari_fossiledit.evaluation.judged import JudgedSlice
from napari_fossiledit.evaluation.numbers import ratio
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.rle import union

FRAME_SHARE = 0.15
"""Width of the frame of an instance, in roots of its area."""

#: Least width of the frame in pixels.
_LEAST_FRAME = 3
_Where = NDArray[np.bool_]


@dataclass(frozen=True)
class Hallucinated:
    """Finds where no fossil shows, over any number of slices.

    Attributes
    ----------
    area
        Pixels of the union of all finds.
    fossils
        Pixels of the fossils that were hidden, the measure of `area`.
    on
        Pixels by what they lie on: an annotated class, or `BACKGROUND`. Without those on fills.
    framed
        Pixels on fills, by what frames the find, in proportion. Classes may overlap, so that `on`
        and `framed` may add up to a little more than `area`.
    instances
        Each find as a gained `Change`; it sits on the class that it covers, or that frames it.
    """

    area: int = 0
    fossils: int = 0
    on: dict[str, int] = field(default_factory=dict)
    framed: dict[str, int] = field(default_factory=dict)
    instances: tuple[Change, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Area found relative to the area of the hidden fossils."""
        return ratio(self.area, self.fossils)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the area that lies on each class or is framed by it, the largest first."""
        total = Counter(self.on) + Counter(self.framed)
        return {name: count / self.area for name, count in total.most_common() if self.area}

    @property
    def counts(self) -> dict[str, int]:
        """Number of finds that sit on each class, the largest first."""
        return dict(Counter(c.sits_on for c in self.instances).most_common())

    @property
    def main(self) -> str:
        """Class that most of the area comes from, `BACKGROUND` left aside; empty: none."""
        classes = [name for name in self.shares if name != BACKGROUND]
        return classes[0] if classes else ""

    @property
    def main_share(self) -> float:
        """Share of `main` in the area that comes from any class; 0 where none does."""
        classes = {name: share for name, share in self.shares.items() if name != BACKGROUND}
        return ratio(classes.get(self.main, 0.0), sum(classes.values())) or 0.0

    def on_class(self, name: str) -> float:
        """Return the area that comes from a class, relative to the area of the hidden fossils."""
        return ratio(self.on.get(name, 0) + self.framed.get(name, 0), self.fossils) or 0.0

    def summary(self) -> dict[str, object]:
        """Return the figures for JSON; the background has the name ``"background"``."""
        return {
            "instances": len(self.instances),
            "instances_on": with_background_named(self.counts),
            "area": self.area,
            "fossil_area": self.fossils,
            "area_per_fossil_area": self.ratio,
            "shares": with_background_named(self.shares),
            "area_on": with_background_named(self.on),
            "area_on_fill_framed_by": with_background_named(self.framed),
        }


def with_background_named(parts: Mapping[str, float]) -> dict[str, float]:
    """Return the parts with the name ``"background"`` for the background."""
    return {name or "background": value for name, value in parts.items()}


def hallucinated(judged: JudgedSlice, filled: _Where, *, score: float = 0.5) -> Hallucinated:
    """Measure what was found in one slice in which every fossil of the class is hidden.

    Parameters
    ----------
    judged
        The slice with what was found after hiding; `judged.others` are the classes to sit on.
    filled
        The pixels (y, x) that hide the fossils.
    score
        Finds below it are ignored.
    """
    finds = judged.predictions[: judged.above(score)]
    others = {name: mask.to_array() for name, mask in judged.others.items()}
    covered = union((f.mask for f in finds), judged.shape).to_array()
    bare = covered & ~filled
    on = {name: int((bare & other).sum()) for name, other in others.items()}
    on[BACKGROUND] = int((bare & ~_any(others, judged.shape)).sum())
    framed: Counter[str] = Counter()
    claimed = np.zeros(judged.shape, dtype=np.bool_)
    changes = []
    for find in finds:
        place = _Framed(find.mask, filled, others)
        framed.update(place.framed(claimed))
        changes.append(place.change(find))
    area, fossils = int(covered.sum()), judged.truth.area
    seen, around = ({n: c for n, c in counts.items() if c} for counts in (on, framed))
    return Hallucinated(area, fossils, seen, around, tuple(changes))


def combined(parts: Iterable[Hallucinated]) -> Hallucinated:
    """Add up several slices."""
    results = list(parts)
    on: Counter[str] = Counter()
    framed: Counter[str] = Counter()
    for result in results:
        on.update(result.on)
        framed.update(result.framed)
    instances = sorted((c for r in results for c in r.instances), key=lambda c: -c.shown.mask.area)
    area, fossils = sum(r.area for r in results), sum(r.fossils for r in results)
    return Hallucinated(area, fossils, dict(on), dict(framed), tuple(instances))


class _Framed:
    """One find with a frame around it: only its own box of the slice is read."""

    def __init__(self, mask: Mask, filled: _Where, others: Mapping[str, _Where]) -> None:
        width = max(_LEAST_FRAME, round(FRAME_SHARE * mask.area**0.5))
        y0, x0, y1, x1 = mask.box
        y0, x0 = max(y0 - width, 0), max(x0 - width, 0)
        y1, x1 = min(y1 + width, mask.shape[0]), min(x1 + width, mask.shape[1])
        self._index = np.s_[y0:y1, x0:x1]
        self._body = mask.crop((y0, x0, y1, x1))
        self._filled = filled[self._index]
        self._others = {name: other[self._index] for name, other in others.items()}
        around = ndimage.distance_transform_edt(~self._body) <= width
        self._frame = self._shares(around & ~self._body & ~self._filled)

    def framed(self, claimed: _Where) -> dict[str, int]:
        """Claim the pixels on a fill that are still free; they count for what frames the find."""
        mine = self._body & self._filled & ~claimed[self._index]
        claimed[self._index] |= mine
        count = int(mine.sum())
        return {name: round(count * share) for name, share in self._frame.items()}

    def change(self, find: Instance) -> Change:
        """Return what the find sits on: what frames it, where half of it or more is fill."""
        filled = 2 * int((self._body & self._filled).sum()) >= find.mask.area
        shares = self._frame if filled else self._shares(self._body & ~self._filled)
        name = max(shares, key=lambda n: shares[n])
        return Change(Kind.GAINED, None, find, 0.0, name, shares[name])

    def _shares(self, where: _Where) -> dict[str, float]:
        """Share of the pixels on each class and on none; all on none where there is no pixel."""
        total = int(where.sum())
        counts = {name: int((where & other).sum()) for name, other in self._others.items()}
        bare = int((where & ~_any(self._others, where.shape)).sum())
        shares = {name: ratio(count, total) or 0.0 for name, count in counts.items()}
        return {**shares, BACKGROUND: bare / total if total else 1.0}


def _any(masks: Mapping[str, _Where], shape: tuple[int, ...]) -> _Where:
    """Union of arrays; empty of `shape` where there is none."""
    joined = np.zeros(shape, dtype=np.bool_)
    for mask in masks.values():
        joined |= mask
    return joined
