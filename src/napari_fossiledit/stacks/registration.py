"""How neighbouring slices lie to each other, and where a stack jumps.

What is in two slices is not the same: fossils lean, begin and end. A motion between two neighbours
is therefore never taken for a fault of the photographs by itself; see `find_jumps`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.placement import Alignment, Placement, placed

Grey = NDArray[np.float32]

#: Longer edge in pixels at which a motion is looked for, and at which it is measured.
_COARSE, _FINE = 192, 1024
#: Turns that are tried, in degrees.
_TURNS = np.arange(-6.0, 6.01, 0.75)
#: Width of the surroundings that contrast is measured against, as a share of the longer edge.
_SURROUNDINGS = 1 / 24
#: Below this correlation two slices show nothing in common. The best that slices of different reefs
#: reach by chance falls with the root of their pixels: 0.27 at 256 x 192, 0.13 at 640 x 480.
_LEAST_ALIKE, _BY_CHANCE = 0.15, 75.0
#: A residual beyond so many of the usual ones is something that is in one slice only.
_OUTLYING = 2.0
_STEPS, _STILL_PX = 25, 0.005
#: A jump is so many times what motions usually differ by, and so many pixels of the finest copy.
_STANDS_OUT, _LEAST_JUMP = 6.0, 1.5
#: Slices on either side that say what is usual, and slices over which a drift is no tremor.
_NEAR, _DRIFTING = 10, 61
#: Two motions differ from what is usual by the same; photographs with fewer pixels than this are
#: alike only where they are the same.
FEWEST_SLICES, FEWEST_PIXELS = 4, round(_BY_CHANCE**2)


@dataclass(frozen=True)
class Reduced:
    """A slice as it is registered: grey, smaller, of the same contrast everywhere.

    Attributes
    ----------
    pixels
        (y, x).
    whole
        Height and width of the photograph.
    factor
        Pixels of the photograph that one of `pixels` spans.
    """

    pixels: Grey
    whole: tuple[int, int]
    factor: int

    @classmethod
    def of(cls, image: NDArray[np.generic], longest: int = _FINE) -> Reduced:
        """Reduce a slice (y, x) or (y, x, 3)."""
        from skimage.measure import block_reduce

        grey = np.asarray(image, np.float32)
        grey = grey.mean(axis=2) if grey.ndim == 3 else grey
        factor = max(1, math.ceil(max(grey.shape) / longest))
        # Whole blocks only: one that is padded would be darker.
        height, width = (n // factor * factor for n in grey.shape)
        small = block_reduce(grey[:height, :width], factor, np.mean)
        return cls(_even(small), (grey.shape[0], grey.shape[1]), factor)

    def reduced(self, longest: int) -> Reduced:
        """Return the slice still smaller."""
        from skimage.measure import block_reduce

        more = max(1, math.ceil(max(self.pixels.shape) / longest))
        height, width = (n // more * more for n in self.pixels.shape)
        small = block_reduce(self.pixels[:height, :width], more, np.mean)
        return Reduced(_even(small), self.whole, self.factor * more)

    def at(self, placement: Placement) -> Grey:
        """Return the pixels as they lie where the photograph does."""
        return placed(self.pixels, placement, self.whole, factor=self.factor)


def _even(grey: NDArray[np.floating]) -> Grey:
    """Return pixels by how they differ from their surroundings, so that light plays no part."""
    from scipy.ndimage import gaussian_filter

    wide = max(2.0, max(grey.shape) * _SURROUNDINGS)
    apart = grey - gaussian_filter(grey, wide)
    spread = np.sqrt(gaussian_filter(apart**2, wide))
    return np.asarray(apart / (spread + 0.1 * spread.mean() + 1e-6), np.float32)


def register(fixed: Reduced, moving: Reduced) -> Placement | None:
    """Return the motion that lays one slice over another; None where they have nothing in common.

    Shift and turn are looked for by phase correlation at several turns of a small copy, then
    measured at growing size by weighted least squares (Lucas and Kanade 1981; Tukey's weights, so
    that what is in one slice only has no say).
    """
    if not (fixed.pixels.any() and moving.pixels.any()):
        return None
    start = _looked_for(fixed.reduced(_COARSE), moving.reduced(_COARSE))
    if start is None:
        return None
    found = start
    for longest in (256, 512, _FINE):
        if longest < 2 * max(fixed.pixels.shape):
            better = _measured(fixed.reduced(longest), moving.reduced(longest), found)
            if better is None:
                break
            found = better
    least = max(_LEAST_ALIKE, _BY_CHANCE / math.sqrt(fixed.pixels.size))
    return found if _alike(fixed, moving, found) >= least else None


def _looked_for(fixed: Reduced, moving: Reduced) -> Placement | None:
    from skimage.registration import phase_cross_correlation

    window = np.outer(np.hanning(fixed.pixels.shape[0]), np.hanning(fixed.pixels.shape[1]))
    best: tuple[float, Placement] | None = None
    for degrees in _TURNS:
        turned = moving.at(Placement(0, 0, float(degrees)))
        # Phases alone find fine details; where those changed, plain correlation finds the coarse.
        for normalization in ("phase", None):
            (dy, dx), *_ = phase_cross_correlation(
                fixed.pixels * window,
                turned * window,
                upsample_factor=4,
                normalization=normalization,
            )
            found = Placement(float(dy) * fixed.factor, float(dx) * fixed.factor, float(degrees))
            alike = _alike(fixed, moving, found)
            if best is None or alike > best[0]:
                best = (alike, found)
    return best[1] if best is not None and best[0] >= _LEAST_ALIKE / 2 else None


def _inside(moving: Reduced, placement: Placement) -> NDArray[np.bool_]:
    ones = Reduced(np.ones_like(moving.pixels), moving.whole, moving.factor)
    return np.asarray(ones.at(placement) > 0.99)


def _alike(fixed: Reduced, moving: Reduced, placement: Placement) -> float:
    """Return the correlation of two slices where both are, 0 where they hardly overlap."""
    inside = _inside(moving, placement)
    if inside.mean() < 0.3:
        return 0.0
    a, b = fixed.pixels[inside], moving.at(placement)[inside]
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def _measured(fixed: Reduced, moving: Reduced, start: Placement) -> Placement | None:
    """Return the motion at which two slices differ least; None where that runs away."""
    found, factor = start, fixed.factor
    middle = ((np.array(fixed.whole) - 1) / 2 + (1 - factor) / 2) / factor
    rows, columns = np.indices(fixed.pixels.shape, np.float32)
    for _ in range(_STEPS):
        image, inside = moving.at(found), _inside(moving, found)
        difference = fixed.pixels - image
        # The slopes of both: half the way from either side, which converges from further away.
        down, right = np.gradient((image + fixed.pixels) / 2)
        y, x = rows - middle[0] - found.dy / factor, columns - middle[1] - found.dx / factor
        slopes = np.stack([-down, -right, -(down * x - right * y)])[:, inside]
        rest = difference[inside]
        usual = 1.4826 * float(np.median(np.abs(rest))) + 1e-6
        weight = np.clip(1 - (rest / (_OUTLYING * 2.34 * usual)) ** 2, 0, None) ** 2
        weighted = slopes * weight
        step = np.linalg.lstsq(weighted @ slopes.T, weighted @ rest, rcond=None)[0]
        found = Placement(
            found.dy + float(step[0]) * factor,
            found.dx + float(step[1]) * factor,
            found.degrees + math.degrees(float(step[2])),
        )
        if max(abs(found.dy - start.dy), abs(found.dx - start.dx)) > max(fixed.whole) / 4:
            return None
        if (
            np.abs(step[:2]).max() < _STILL_PX
            and abs(step[2]) * max(fixed.pixels.shape) < _STILL_PX
        ):
            break
    return found


@dataclass(frozen=True)
class Found:
    """Where photographs lie by their motions, and why.

    Attributes
    ----------
    alignment
        Placements.
    jumps
        Slices with which everything moves, and how; what came back after one slice is `alone`.
    alone
        Slices that lie elsewhere than both of their neighbours.
    """

    alignment: Alignment
    jumps: dict[int, Placement] = field(default_factory=dict)
    alone: dict[int, Placement] = field(default_factory=dict)


def follow_neighbours(
    motions: Mapping[int, Placement | None], jumps: Found, whole: tuple[int, int]
) -> Found:
    """Lay each slice over the one before it, but for what all slices around it do alike.

    The way of the slices through the stack is a tremor about a slow drift. The tremor is taken for
    a fault of the photographs, the drift for the fossils' own lean, which stays; `jumps` are taken
    out before. How far a lean is told from a fault is a matter of chance: see the documentation.
    """
    from scipy.signal import savgol_filter

    first, here = min(motions) - 1, Placement()
    way = [np.zeros(3)]
    for _, motion in sorted(motions.items()):
        here = here.after(motion or Placement())
        way.append(_as_pixels(here, whole))
    slices = range(first, first + len(way))
    found = np.array([_as_pixels(jumps.alignment.at(z), whole) for z in slices])
    tremor = np.array(way) - found
    around = min(_DRIFTING, len(way) - 1 + len(way) % 2)
    if around > 2:
        tremor -= savgol_filter(tremor, around, 1, axis=0, mode="interp")
    rows = zip(slices, tremor + found, strict=True)
    placements = {z: _as_placement(row, whole) for z, row in rows}
    return Found(Alignment.of(placements), jumps.jumps, jumps.alone)


def find_jumps(
    motions: Mapping[int, Placement | None],
    between: Callable[[int, int], Placement | None],
    whole: tuple[int, int],
) -> Found:
    """Find where a stack jumps, and let all that follows follow; what moves slowly stays.

    A jump is a motion that stands out of those of the ten slices around it, and that the slices
    before and after it, `between` them, agree on. So fossils that lean stay as they are, and a
    slice that lies elsewhere by itself is put back by itself.

    Parameters
    ----------
    motions
        What lays each slice over the one before it; None where that was not found.
    between
        Returns what lays its second slice over its first one.
    """
    known = {z: _as_pixels(m, whole) for z, m in sorted(motions.items()) if m is not None}
    if not known:
        return Found(Alignment())
    each = np.array(list(known.values()))
    usual_of_all = np.median(each, axis=0)
    spread = 1.4826 * np.median(np.abs(each - usual_of_all), axis=0)
    least = np.maximum(_STANDS_OUT * spread, _LEAST_JUMP * max(1, math.ceil(max(whole) / _FINE)))

    def usual(z: int) -> NDArray[np.float64]:
        around = range(z - _NEAR, z + _NEAR + 1)
        near = [known[n] for n in around if n != z and n in known]
        middle: NDArray[np.float64] = np.median(near, axis=0) if len(near) >= 4 else usual_of_all
        return middle

    beyond = {z: motion - usual(z) for z, motion in known.items()}
    beyond = {z: v for z, v in beyond.items() if (np.abs(v) > least).any()}
    found, alone, last = dict[int, NDArray[np.float64]](), dict[int, Placement](), -1
    first, end = min(motions) - 1, max(motions)

    def judged(z: int) -> tuple[Placement | None, int, int]:
        """Return the motion from before to after slice `z`, and between which slices that is."""
        low, high = max(first, z - 2), min(end, z + 1)
        # Past slices that cannot be read; what lies elsewhere by itself says nothing of others.
        while z not in known and high < end and high not in known:
            high += 1
        across = None if low in alone else between(low, high)
        return (between(z - 1, high), z - 1, high) if across is None else (across, low, high)

    for z in sorted(motions):
        if z == last or (z in known and z not in beyond):
            continue
        across, low, high = judged(z)
        if across is None:
            continue
        agreed = _as_pixels(across, whole) - (high - low) * usual(z)
        agreed = agreed - sum(found[n] for n in range(low + 1, z) if n in found)
        # The next slice may jump, too.
        alike = agreed - sum(beyond[n] for n in range(z + 1, high + 1) if n in beyond)
        if z not in known:
            if (np.abs(alike) > least).any():
                found[z] = alike
        elif (np.abs(agreed) > least).any():
            near = np.abs(beyond[z] - alike).max() < least.max()
            found[z], last = (beyond[z], last) if near else (agreed, z + 1)
        elif z < end:
            alone[z], last = _as_placement(beyond[z], whole), z + 1
    jumps = {z: _as_placement(v, whole) for z, v in found.items()}
    return Found(_laid(jumps, alone), jumps, alone)


def _laid(jumps: Mapping[int, Placement], alone: Mapping[int, Placement]) -> Alignment:
    here, placements = Placement(), dict[int, Placement]()
    for z in sorted({*jumps, *alone}):
        here = jumps.get(z, Placement()).after(here)
        placements |= {z: alone.get(z, Placement()).after(here), z + 1: here}
    return Alignment.of(placements)


def _as_pixels(motion: Placement, whole: tuple[int, int]) -> NDArray[np.float64]:
    """Return shift and turn in pixels: a turn by what it moves the edge of the slice."""
    return np.array([motion.dy, motion.dx, math.radians(motion.degrees) * max(whole) / 2])


def _as_placement(pixels: NDArray[np.float64], whole: tuple[int, int]) -> Placement:
    dy, dx, turn = (float(v) for v in pixels)
    return Placement(dy, dx, math.degrees(turn / (max(whole) / 2)))
