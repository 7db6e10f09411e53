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
    """

    slice: int
    reason: str


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


def typical(slices: Sequence[int], places: Floats, count: int) -> list[Pick]:
    """Choose medoids: slices that all others together are nearest to, where nothing is traced yet.

    The greedy first phase of PAM (Kaufman, Rousseeuw 1990); its exchanges are left out.
    """
    pairs, nearest = cdist(places, places), np.full(len(slices), np.inf)
    chosen: list[int] = []
    while len(chosen) < min(count, len(slices)):
        chosen.append(int(np.minimum(nearest, pairs).sum(axis=1).argmin()))
        nearest = np.minimum(nearest, pairs[chosen[-1]])
    stands_for = np.bincount(pairs[chosen].argmin(axis=0), minlength=len(chosen))
    return [
        Pick(
            slices[i], f"It is typical: it stands for {n} of {len(slices)} slices, itself included."
        )
        for i, n in zip(chosen, stands_for.tolist(), strict=True)
    ]


def evenly_spaced(slices: Sequence[int], count: int, depth: int) -> list[Pick]:
    """Choose the slices nearest to the middles of `count` equal parts of the stack."""
    left, picks = list(slices), []
    for part in range(min(count, len(slices))):
        middle = (part + 0.5) * depth / count - 0.5
        best = min(left, key=lambda z: abs(z - middle))
        left.remove(best)
        picks.append(Pick(best, f"It is in the middle of part {part + 1} of {count} of the stack."))
    return picks


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
