"""Whether bodies of a sample reef come too close to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_fossiledit.samples.bodies import Floats, StarBody

_CHECK_STEP_UM = 500.0
_CHECK_POINTS = 48


@dataclass(frozen=True)
class Footprint:
    """How far a body reaches, on a common grid of depths, to test it for contact with others.

    Attributes
    ----------
    first
        Number of the first depth.
    centres
        (z, 2) centres at each depth.
    reach, core
        (z,) farthest and nearest distance of the outline from the centre.
    low, high
        Corners (x, y) of the box around all outlines.
    """

    body: StarBody
    first: int
    centres: Floats
    reach: Floats
    core: Floats
    low: tuple[float, float]
    high: tuple[float, float]

    @classmethod
    def of(cls, body: StarBody) -> Footprint:
        """Sample a body."""
        first = int(np.ceil(body.profile.z0 / _CHECK_STEP_UM))
        last = int(np.floor(body.profile.z1 / _CHECK_STEP_UM))
        z = np.arange(first, last + 1) * _CHECK_STEP_UM
        outlines = body.outline(z, _CHECK_POINTS)
        centres = body.centre(z)
        away = np.linalg.norm(outlines - centres[:, None], axis=-1)
        (x0, y0), (x1, y1) = outlines.min((0, 1)), outlines.max((0, 1))
        return cls(body, first, centres, away.max(1), away.min(1), (x0, y0), (x1, y1))

    def apart(self, other: Footprint, gap: float) -> bool:
        """Whether the boxes alone show that the two are more than `gap` um apart."""
        return any(
            self.low[i] > other.high[i] + gap or other.low[i] > self.high[i] + gap for i in (0, 1)
        )

    def meets(self, other: Footprint, gap: float) -> bool:
        """Whether the two come closer than `gap` um at any common depth."""
        low = max(self.first, other.first)
        high = max(low, min(self.first + len(self.reach), other.first + len(other.reach)))
        if low == high or self.apart(other, gap):
            return False
        mine, theirs = (slice(low - p.first, high - p.first) for p in (self, other))
        away = np.linalg.norm(self.centres[mine] - other.centres[theirs], axis=-1)
        near = np.flatnonzero(away < self.reach[mine] + other.reach[theirs] + gap)
        if (away < self.core[mine] + other.core[theirs]).any():
            return True
        z = (low + near) * _CHECK_STEP_UM
        return len(near) > 0 and (
            _enters(self.body, other.body, z, gap) or _enters(other.body, self.body, z, gap)
        )


def _enters(one: StarBody, other: StarBody, z: Floats, gap: float) -> bool:
    """Whether the outline of `one`, moved out by `gap`, comes into `other` at any of the depths."""
    points = one.outline(z, _CHECK_POINTS, gap)
    return bool((other.share(points[..., 0], points[..., 1], z[:, None]) < 1).any())


def crowded(prints: Sequence[Footprint], taken: Sequence[Footprint], gap: float) -> bool:
    """Whether any of the bodies would touch one that is there."""
    return any(a.meets(b, gap) for a in prints for b in taken)
