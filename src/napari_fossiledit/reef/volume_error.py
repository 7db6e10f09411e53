"""How far the volume of a specimen may be off: intervals of 95 %.

The area of the sections times the step between them is Cavalieri's estimator. Its variance is
predicted from the areas alone (Gundersen and Jensen 1987, Journal of Microscopy 147, 229-263;
Gundersen et al. 1999, ibid. 193, 199-211; Garcia-Finana and Cruz-Orive 2004, Statistics 38,
235-247):

    Var = alpha (3 (C0 - nu) - 4 C1 + C2) T^2 + nu T^2,   Ck = sum over i of A(i) A(i + k),

with nu the variance of counting pixels, in each section anew (of a body whose sections are all
alike the pixels err alike, too, by some tenths of a percent). The bracket is half the sum of the
squared second differences of the areas, continued by zeros where the body ends in the rock. Written
that way it also holds at a side of the stack, where the body is cut and nothing is known of how it
goes on: differences across such a side are left out.

Areas of rounded bodies begin linearly, which is smoothness 1: alpha = 1 / 240, and the error grows
with the square of the step. Smoothness 0, alpha = 1 / 12, would make intervals 4.5 times as wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

ALPHA = 1 / 240
"""Of smoothness 1, chosen on tuning seeds of the sample reef (benchmarks/volumes.py)."""

FEW = 8
"""Second differences below which the prediction itself is uncertain; chosen there, too."""

ONE_SECTION = 0.20, 4.8
"""Interval of the volume of a body in a single section, as multiples of area times step: quantiles
of ellipsoids of any height up to two steps in any place, which one slice happens to cut."""

LEVEL = 0.95
"""Probability that an interval holds the volume."""

#: Degrees of freedom where it is uncertain: then the quantile is 3.2 instead of 2.0.
_FEW_DEGREES = 3
#: Variance of the number of pixels in an outline, by its length in pixels (Gundersen and Jensen
#: 1987), and length of the outline of a usual section, as multiple of that of a circle.
_NUGGET, _OUTLINE = 0.0724, 1.15
#: Error of a midpoint sum at a cut side, as a share of the last step in area.
_SIDE = 1 / 24
#: Thickest by mean slice above which the prediction, made for even steps, is uncertain, too.
_UNEVEN = 1.05
_QUANTILE = (1 + LEVEL) / 2


@dataclass(frozen=True)
class SegmentationError:
    """How much larger masks of a model are than those a person traced, in pinned slices.

    Attributes
    ----------
    log_bias, log_spread
        Mean and standard deviation of the logarithm of predicted by traced area.
    count
        Instances that were matched.
    """

    log_bias: float
    log_spread: float
    count: int

    @classmethod
    def of(cls, predicted: Sequence[float], traced: Sequence[float]) -> SegmentationError | None:
        """Compare areas of matched instances; None where there are fewer than two."""
        if len(predicted) < 2:
            return None
        ratios = np.log(np.asarray(predicted) / np.asarray(traced))
        return cls(float(ratios.mean()), float(ratios.std(ddof=1)), len(ratios))


def volume_interval_um3(
    areas: Sequence[int],
    thicknesses_um: Sequence[float],
    pixel_size_um: float,
    cut: tuple[bool, bool],
    segmentation: SegmentationError | None = None,
) -> tuple[float, float] | None:
    """Return the interval that holds the volume with a probability of 95 %.

    Parameters
    ----------
    areas
        Pixels in each slice from the first with a section to the last, 0 where there is none.
    thicknesses_um
        Rock that each slice stands for. Uneven ones are taken to be as bad as the thickest.
    cut
        Whether the first and the last lie at the side of the stack: the volume is that within.
    segmentation
        Of the model that drew the sections. What it does to one section of a specimen it is taken
        to do to all, so that nothing averages out.

    Returns
    -------
    tuple of float, or None where a single section is cut on both sides
    """
    pixels = np.asarray(areas, dtype=np.float64)
    steps = np.asarray(thicknesses_um, dtype=np.float64)
    volume = float(pixels @ steps) * pixel_size_um**2
    if len(pixels) == 1:
        if all(cut):
            return None
        low, high = (volume * share for share in ONE_SECTION)
    else:
        uneven = float(steps.max() / steps.mean())
        half = _half_width(pixels, cut, uneven) * uneven**2 * float(steps.mean())
        half *= pixel_size_um**2
        low, high = max(volume - half, 0.0), volume + half
    if segmentation is None:
        return low, high
    spread = segmentation.log_spread * math.sqrt(1 + 1 / segmentation.count)
    far = float(t.ppf(_QUANTILE, segmentation.count - 1)) * spread
    middle = volume * math.exp(-segmentation.log_bias)
    up, down = (math.hypot(far, math.log(max(v, 1e-9 * volume) / volume)) for v in (high, low))
    return middle * math.exp(-down), middle * math.exp(up)


def _half_width(pixels: NDArray[np.float64], cut: tuple[bool, bool], uneven: float) -> float:
    """Half the interval, in pixels of a slice."""
    ends = [() if side else (0.0, 0.0) for side in cut]
    second = np.diff(np.concatenate([ends[0], pixels, ends[1]]), 2)
    outlines = _OUTLINE * 2 * np.sqrt(math.pi * pixels)
    nugget = _NUGGET * float(outlines.sum())
    variance = ALPHA * max(0.0, float(second @ second) / 2 - 3 * nugget) + nugget
    for side, (here, beside) in zip(cut, (pixels[:2], pixels[:-3:-1]), strict=True):
        variance += (_SIDE * (beside - here)) ** 2 if side else 0.0
    uncertain = len(second) < FEW or uneven > _UNEVEN
    quantile = t.ppf(_QUANTILE, _FEW_DEGREES) if uncertain else norm.ppf(_QUANTILE)
    return float(quantile) * math.sqrt(variance)
