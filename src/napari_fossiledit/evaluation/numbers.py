"""Means, deviations and ratios that may not exist: undefined is None, never NaN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
"""Bootstrap samples of an interval."""

Floats = NDArray[np.float64]

Statistic = Callable[[NDArray[np.intp]], Floats]
"""Takes drawn truths, indices (draws, truths), and gives one value a draw, NaN where undefined."""


@dataclass(frozen=True)
class Spread:
    """Mean, population standard deviation and 95 % bootstrap interval of the mean."""

    mean: float | None
    std: float | None
    interval: tuple[float, float] | None = None

    def summary(self) -> dict[str, object]:
        """Return the values for JSON."""
        bounds = None if self.interval is None else list(self.interval)
        return {"mean": self.mean, "std": self.std, "interval_95": bounds}


def spread(values: Sequence[float], *, seed: int | None = None) -> Spread:
    """Compute mean and population standard deviation of `values`, None where there are none.

    Parameters
    ----------
    seed
        Seed of the bootstrap; None leaves the interval out.
    """
    if not values:
        return Spread(None, None)
    array = np.asarray(values, dtype=np.float64)
    interval = None if seed is None else bootstrap(array.tolist(), seed=seed)
    return Spread(float(array.mean()), float(array.std()), interval)


def bootstrap(
    values: Sequence[float], *, seed: int, resamples: int = RESAMPLES, level: float = 0.95
) -> tuple[float, float] | None:
    """Compute the percentile bootstrap interval of the mean (Efron, Tibshirani 1993, chapter 13).

    Values are drawn with replacement, as many as there are. None for less than two values,
    which have no spread.
    """
    if len(values) < 2:
        return None
    array = np.asarray(values, dtype=np.float64)
    draw = np.random.default_rng(seed).integers(len(array), size=(resamples, len(array)))
    tail = 50 * (1 - level)
    low, high = np.percentile(array[draw].mean(axis=1), [tail, 100 - tail])
    return float(low), float(high)


def resampled(statistic: Statistic, count: int, seed: int) -> Spread:
    """Compute a statistic of `count` truths, with standard error and interval of its bootstrap."""
    if not count:
        return Spread(None, None)
    value = float(statistic(np.arange(count)[None])[0])
    if np.isnan(value):
        return Spread(None, None)
    # A single instance has no spread.
    if count < 2:
        return Spread(value, None)
    # One seed for all statistics: all see the same draws of truths.
    draw = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    drawn = statistic(draw)
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Spread(value, float(drawn.std()), (float(low), float(high)))


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Compute the mean along the last axis; NaN where nothing has a weight."""
    total = weights.sum(axis=-1)
    mean = np.full(total.shape, np.nan)
    np.divide((values * weights).sum(axis=-1), total, out=mean, where=total > 0)
    return mean


def ratio(part: float, whole: float) -> float | None:
    """Return ``part / whole``, None where the whole is 0."""
    return float(part / whole) if whole else None


def harmonic(left: float | None, right: float | None) -> float | None:
    """Compute the harmonic mean of two shares (F1 of precision and recall) or None."""
    if left is None or right is None:
        return None
    return 2 * left * right / (left + right) if left + right else 0.0


def percent(share: float | None) -> str:
    """Write a share of 0 to 1 in per cent, one digit after the point below ten.

    Undefined is a dash.
    """
    if share is None:
        return "\N{EN DASH}"
    return f"{100 * share:.1f} %" if 0 < share < 0.0995 else f"{100 * share:.0f} %"
