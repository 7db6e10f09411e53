"""How much of the space of forms a group of items takes, compared at equal numbers of specimens.

Groups of many specimens look more diverse than groups of few, so each is drawn down to the same
number (rarefaction). Sections of one specimen are not independent: a draw takes one of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.summary import Summary

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Statistic = Callable[[Rows], float]
"""Of some rows; NaN where there are too few of them."""

CELLS = 20
"""Cells along each edge of the map, of which a group occupies some."""


@dataclass(frozen=True)
class Rarefied(Summary):
    """A statistic of a group, drawn down to a number of specimens.

    Attributes
    ----------
    value
        Mean of draws without replacement, which is not biased by the number of specimens there
        are; None where it is defined for none.
    interval
        95 % of draws with replacement (bootstrap), moved so that their mean is `value`: repeated
        specimens make every draw less diverse.
    """

    value: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Group(Summary):
    """A class, or what lies in some neighbouring slices.

    Attributes
    ----------
    name
        Of the class; of slices the middle one.
    items, specimens
        How many there are.
    figures
        Of each statistic, at the number of specimens that all groups have.
    """

    name: str
    items: int
    specimens: int
    figures: Mapping[str, Rarefied]


class Space:
    """The statistics of some rows of an embedding.

    Parameters
    ----------
    vectors
        (n, d).
    points
        (n, 2) on a map, for the share of its occupied cells that the rows occupy; None: without.
    components
        Principal components of all rows that the hull is taken in: its volume needs more specimens
        than it has dimensions, and is mostly noise in many.
    """

    def __init__(
        self, vectors: NDArray[np.floating[Any]], points: Floats | None = None, components: int = 3
    ) -> None:
        from sklearn.decomposition import PCA

        self._vectors = np.array(vectors, dtype=np.float64)
        self._vectors -= self._vectors.mean(axis=0)
        self._squares: Floats = (self._vectors**2).sum(axis=1)
        count = min(components, len(vectors), self._vectors.shape[1])
        with np.errstate(invalid="ignore"):
            # Of vectors that are all the same it divides nothing by nothing.
            self._parts: Floats = PCA(count, random_state=0).fit_transform(self._vectors)
        self.hull_share = float((self._parts**2).sum() / max(self._squares.sum(), 1e-12))
        self.statistics: dict[str, Statistic] = {
            "sum_of_variances": self.sum_of_variances,
            "hull_volume": self.hull_volume,
        }
        if points is not None:
            low, high = points.min(axis=0), points.max(axis=0)
            place = ((points - low) / np.maximum(high - low, 1e-12) * CELLS).astype(np.intp)
            self._cells: Rows = np.minimum(place, CELLS - 1) @ np.array([CELLS, 1])
            self.statistics["occupied"] = self.occupied

    def sum_of_variances(self, rows: Rows) -> float:
        """Return the sum of the variances along all axes; does not depend on the axes."""
        if len(rows) < 2:
            return np.nan
        total = self._vectors[rows].sum(axis=0)
        squares = float(self._squares[rows].sum() - total @ total / len(rows))
        return max(squares, 0.0) / (len(rows) - 1)

    def hull_volume(self, rows: Rows) -> float:
        """Return the volume of the convex hull in the principal components; 0 where it is flat."""
        from scipy.spatial import ConvexHull, QhullError

        parts = self._parts[rows]
        if len(rows) <= parts.shape[1]:
            return np.nan
        if parts.shape[1] == 1:
            return float(np.ptp(parts))
        try:
            return float(ConvexHull(parts).volume)
        except QhullError:
            return 0.0

    def occupied(self, rows: Rows) -> float:
        """Return the share of the occupied cells of the map that the rows occupy."""
        return len(np.unique(self._cells[rows])) / len(np.unique(self._cells))


def rarefied(
    statistic: Statistic, rows: Rows, groups: Sequence[str], size: int, *, draws: int, seed: int = 0
) -> Rarefied:
    """Return a statistic of rows at `size` specimens.

    Parameters
    ----------
    groups
        Specimen or picture of each row of the embedding.
    draws
        How many samples are drawn, with and without replacement each.
    """
    rng = np.random.default_rng(seed)
    members: dict[str, list[int]] = {}
    for row in rows:
        members.setdefault(groups[row], []).append(int(row))
    sections = list(members.values())

    def drawn(replace: bool) -> Floats:
        values = []
        for _ in range(draws):
            chosen = rng.choice(len(sections), size, replace=replace)
            drawn_from = [sections[k] for k in chosen]
            one = [of[int(w * len(of))] for of, w in zip(drawn_from, rng.random(size), strict=True)]
            values.append(statistic(np.array(one)))
        return np.array(values)

    if not 0 < size <= len(sections) or np.isnan(plain := drawn(False)).all():
        return Rarefied(None, None)
    value, repeated = float(np.nanmean(plain)), drawn(True)
    low, high = np.nanpercentile(repeated - np.nanmean(repeated) + value, [2.5, 97.5])
    # No volume is below nothing; the shift may say so of a few specimens.
    return Rarefied(value, (max(float(low), 0.0), max(float(high), 0.0)))


def compare(
    space: Space,
    members: Mapping[str, Rows],
    groups: Sequence[str],
    *,
    least: int = 4,
    draws: int = 200,
    seed: int = 0,
    job: Job = QUIET,
) -> tuple[tuple[Group, ...], int, tuple[str, ...]]:
    """Return the figures of groups at the number of specimens of the smallest, and that number.

    Parameters
    ----------
    members
        Rows of each group.
    least
        Groups of fewer specimens are left out.

    Returns
    -------
    groups, size, left_out
        Names of those that were left out last.
    """
    counts = {name: len({groups[row] for row in rows}) for name, rows in members.items()}
    kept = [name for name, count in counts.items() if count >= least]
    size = min((counts[name] for name in kept), default=0)
    found = []
    for name in job.tracked(kept, len(kept), "Drawing specimens"):
        figures = {
            title: rarefied(statistic, members[name], groups, size, draws=draws, seed=seed)
            for title, statistic in space.statistics.items()
        }
        found.append(Group(name, len(members[name]), counts[name], figures))
    return tuple(found), size, tuple(name for name in members if name not in kept)


def curve(
    statistic: Statistic, rows: Rows, groups: Sequence[str], *, draws: int = 50, seed: int = 0
) -> dict[int, Rarefied]:
    """Return a statistic by number of specimens, at up to ten numbers where it is defined."""
    most = len({groups[row] for row in rows})
    sizes = map(int, np.unique(np.linspace(2, most, 10).astype(int)) if most > 1 else ())
    found = {n: rarefied(statistic, rows, groups, n, draws=draws, seed=seed) for n in sizes}
    return {n: figure for n, figure in found.items() if figure.value is not None}


def windows(slices: Sequence[int | None], width: int) -> dict[str, Rows]:
    """Return the rows in each `width` slices that follow one another, by the middle slice.

    Windows overlap by half, so that no boundary hides a change.
    """
    at = np.array([-1 if z is None else z for z in slices])
    known = at[at >= 0]
    if not len(known):
        return {}
    first, last, step = int(known.min()), int(known.max()), max(1, width // 2)
    starts = range(first, max(first, last - width + 1) + step, step)
    return {
        str(start + width // 2): np.flatnonzero((at >= start) & (at < start + width))
        for start in starts
    }
