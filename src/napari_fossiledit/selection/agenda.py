"""Rules for which slices to trace next.

Distances alone choose neighbours that look alike, so those of the paper are drawn at random from
the far part of the range. Comparisons of such rules (arXiv 2412.08081, 2511.19183) often find
none better than even spacing or chance, weighted by how much there is to see: these are rules too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from napari_fossiledit.selection.distances import Floats

FAR = 0.6
"""Scaled distance from which on the paper draws images (its section 4.3)."""


@dataclass(frozen=True)
class Pick:
    """A slice that is worth tracing.

    Attributes
    ----------
    slice
        Index of the slice.
    reason
        Why, in words.
    fossils, hours
        How many it probably shows, and how long it takes to trace them; None: not known.
    gain
        By how much the mean F-score of all that is not traced may rise for each of these hours;
        None: not known.
    expected, low, high
        F-score to expect of the model on it, and its 90 % interval; None: not known.
    """

    slice: int
    reason: str
    fossils: float | None = None
    hours: float | None = None
    gain: float | None = None
    expected: float | None = None
    low: float | None = None
    high: float | None = None


def by_distance(
    slices: Sequence[int], scaled: Floats, count: int, rng: np.random.Generator
) -> list[Pick]:
    """Draw slices of a scaled distance of at least `FAR`; the farthest where there are too few."""
    order = np.argsort(-scaled, kind="stable")
    far = order[: max(int((scaled >= FAR).sum()), count)]
    drawn = rng.permutation(far)[:count]
    return [
        Pick(slices[i], f"It looks unlike the traced slices: {_rank(order, i)}.") for i in drawn
    ]


def farthest_first(
    slices: Sequence[int],
    scaled: Floats,
    places: Floats,
    known: Floats,
    count: int,
    *,
    known_slices: Sequence[int] = (),
    depth: int = 1,
) -> list[Pick]:
    """Choose, among slices far from the traced ones, each as far as can be from all chosen so far.

    Parameters
    ----------
    slices
        Slices (m) to choose from.
    scaled
        (m,) distances from the traced slices, 0 to 1.
    places, known
        (m, z) and (n, z) coordinates of the slices and of the traced ones in the feature space.
    known_slices
        Traced slices of the same stack: their distance in z counts as well.
    depth
        Slices of the stack.
    """
    order = np.argsort(-scaled, kind="stable")
    far = np.zeros(len(slices), dtype=bool)
    far[order[: max(int((scaled >= FAR).sum()), count)]] = True
    feature = _nearest(places, known)
    z = np.asarray(slices, dtype=np.float64)[:, None]
    # With no traced slice in the stack all are equally far in z.
    depths = _nearest(z, np.asarray(known_slices, dtype=np.float64)[:, None], depth)
    unit = max(float(feature.max()), 1e-12)
    picks: list[Pick] = []
    while len(picks) < min(count, len(slices)):
        # Both as shares of what there is: a unit of features and one of z have no common measure.
        gain = np.where(far, feature / unit + depths / depth, -1.0)
        best = int(gain.argmax())
        picks.append(
            Pick(
                slices[best],
                f"It looks unlike the traced slices ({_rank(order, best)}) and unlike the other "
                "suggestions.",
            )
        )
        far[best] = False
        feature = np.minimum(feature, _nearest(places, places[best : best + 1]))
        depths = np.minimum(depths, np.abs(z[:, 0] - z[best, 0]))
    return picks


def typical(
    slices: Sequence[int],
    places: Floats,
    count: int,
    depth: int,
    known: Floats | None = None,
    known_slices: Sequence[int] = (),
    weights: Floats | None = None,
) -> list[Pick]:
    """Choose slices that stand for many others which no traced slice stands for yet: medoids.

    Each is the one that brings the others nearest to a traced or suggested slice, in features and
    in z, all taken together: the greedy first phase of PAM (Kaufman, Rousseeuw 1990), its exchanges
    left out. With weights, the heaviest of the slices that it stands for takes its place.

    Parameters
    ----------
    slices
        Slices (m) to choose from.
    places, known
        (m, z) and (n, z) coordinates of the slices and of the traced ones in the feature space.
    depth
        Slices of the stack.
    known_slices
        The traced slices (n).
    weights
        (m,) How much there is to learn from a slice: the fossil area that is predicted.
    """
    pairs, z = cdist(places, places), np.asarray(slices, dtype=np.float64)[:, None]
    # Both as shares of what there is: a unit of features and one of z have no common measure.
    unit = max(float(pairs.max()), 1e-12)
    pairs = pairs / unit + cdist(z, z) / depth
    traced = np.full(len(slices), np.inf)
    if known is not None:
        there = np.asarray(known_slices, dtype=np.float64)[:, None]
        traced = (cdist(places, known) / unit + cdist(z, there) / depth).min(axis=1)
    chosen: list[int] = []
    nearest = traced
    while len(chosen) < min(count, len(slices)):
        cost = np.minimum(nearest, pairs).sum(axis=1)
        # Slices that are all alike bring each other no nearer: none is taken twice.
        cost[chosen] = np.inf
        chosen.append(int(cost.argmin()))
        nearest = np.minimum(nearest, pairs[chosen[-1]])
    owner = pairs[chosen].argmin(axis=0)
    owner[pairs[chosen].min(axis=0) > traced] = -1
    owner[chosen] = np.arange(len(chosen))
    picks = []
    for n, medoid in enumerate(chosen):
        group = np.flatnonzero(owner == n)
        best = medoid if weights is None else group[weights[group].argmax()]
        said = f"it stands for {len(group)} of {len(slices)} slices, itself included"
        most = ", and is to show the most fossil area of them" if weights is not None else ""
        picks.append(Pick(slices[best], f"It is typical: {said}{most}."))
    return picks


def evenly_spaced(
    slices: Sequence[int], count: int, depth: int, known_slices: Sequence[int] = ()
) -> list[Pick]:
    """Choose slices so that each slice of the stack has a traced or suggested one near.

    The widest gap between traced slices, or between one and an end of the stack, is divided first;
    with no traced slice they are the middles of equal parts.
    """
    known = sorted(known_slices)
    ends = [-0.5, *known, depth - 0.5]
    # How far the farthest slice of a gap is from what is traced, in parts of its length: an end of
    # the stack is no traced slice.
    open_ends = [int(not g) + int(g == len(known)) for g in range(len(ends) - 1)]
    parts = [0] * len(open_ends)

    def farthest(gap: int) -> float:
        sides = 2 * (parts[gap] + 1) - open_ends[gap]
        return (ends[gap + 1] - ends[gap]) / sides if sides else np.inf

    for _ in range(min(count, len(slices))):
        parts[max(range(len(parts)), key=farthest)] += 1
    left, picks = list(slices), []
    for gap, number in enumerate(parts):
        reach = farthest(gap)
        # The first lies two reaches from a traced slice, one from an end.
        first = ends[gap] + (reach if gap == 0 else 2 * reach)
        for n in range(number):
            best = min(left, key=lambda z: abs(z - (first + 2 * reach * n)))
            left.remove(best)
            picks.append(Pick(best, _gap(best, known)))
    return picks


def _gap(z: int, known: Sequence[int]) -> str:
    if not known:
        return "It stands for an equal part of the stack."
    return f"It fills a gap: the nearest traced slice is {min(abs(z - k) for k in known)} away."


def by_chance(
    slices: Sequence[int],
    count: int,
    rng: np.random.Generator,
    weights: NDArray[np.float64] | None = None,
) -> list[Pick]:
    """Draw slices at random, each as likely as it has fossil pixels where `weights` tell them."""
    if weights is None or not weights.sum():
        drawn = rng.permutation(len(slices))[:count]
        return [Pick(slices[i], "It was drawn at random.") for i in drawn]
    # Gumbel keys: a draw without replacement that slices of weight 0 do not make impossible.
    with np.errstate(divide="ignore"):
        keys = np.log(weights) + rng.gumbel(size=len(slices))
    share = weights / weights.mean()
    return [
        Pick(
            slices[i],
            f"It was drawn at random among slices with much to see: {share[i]:.1f} times the "
            "fossil area of a mean slice is predicted.",
        )
        for i in np.argsort(-keys)[:count]
    ]


def _rank(order: NDArray[np.intp], index: int) -> str:
    place = int(np.flatnonzero(order == index)[0]) + 1
    return "the farthest of all" if place == 1 else f"number {place} of {len(order)} by distance"


def _nearest(places: Floats, others: Floats, without: float = np.inf) -> Floats:
    """Return how far each place is from the nearest of others; `without` where there are none."""
    if not len(others):
        return np.full(len(places), float(without))
    return np.asarray(cdist(places, others).min(axis=1))
