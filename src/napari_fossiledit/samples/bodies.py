"""Solid bodies whose section by every slice is a star-shaped curve.

A body is given by its centre c(z) and the radius r(theta, z) of its outline around it, both smooth
in z. The area of a section is then exactly half the integral of r squared over theta, and the
volume the integral of the areas over z. Bending a section by (u, v) -> (u, v + k u^2) makes a
crescent of it and keeps its area, because the map's Jacobian is 1.

Lengths are in um; x points right, y down, z into the stack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

Floats = NDArray[np.floating[Any]]
TAU = 2 * np.pi
_TABLE = 720


@dataclass(frozen=True)
class Wobble:
    """Relative unevenness of an outline: harmonics of theta that turn with z.

    Attributes
    ----------
    orders, amplitudes, phases
        (n,) number of lobes, relative height and angle in radians of each harmonic.
    twists
        (n,) change of the phase in radians per um of z.
    """

    orders: Floats
    amplitudes: Floats
    phases: Floats
    twists: Floats

    def __call__(self, theta: Floats, z: Floats | float) -> Floats:
        """Factor of the radius at `theta` and `z` (broadcast against each other)."""
        total = np.ones(np.broadcast_shapes(np.shape(theta), np.shape(z)))
        for m, a, p, w in zip(self.orders, self.amplitudes, self.phases, self.twists, strict=True):
            total += a * np.cos(m * theta + p + w * z)
        return total


@dataclass(frozen=True)
class Profile:
    """How the radius grows from one end of a body to the other.

    Attributes
    ----------
    z0, z1
        The ends in um.
    radius
        Largest radius in um.
    tip, crown
        Shares of the length over which the start and the end round off elliptically.
    taper
        Radius where growth starts, as a share of `radius`.
    down
        Whether the body grows towards smaller z.
    """

    z0: float
    z1: float
    radius: float
    tip: float = 0.3
    crown: float = 0.2
    taper: float = 0.6
    down: bool = False

    def growth(self, z: Floats | float) -> Floats:
        """Age of the body at `z`: 0 at its tip, 1 at its crown."""
        t = (np.asarray(z, np.float64) - self.z0) / (self.z1 - self.z0)
        return 1 - t if self.down else t

    def __call__(self, z: Floats | float) -> Floats:
        """Radius in um at `z`, 0 beyond the ends."""
        t = self.growth(z)
        start = np.clip(1 - t / self.tip, 0, 1)
        end = np.clip((t - 1) / self.crown + 1, 0, 1)
        rounding = np.sqrt((1 - start**2) * (1 - end**2))
        cone = self.taper + (1 - self.taper) * np.clip(t, 0, 1)
        return np.asarray(self.radius * rounding * cone, np.float64)


@dataclass(frozen=True)
class StarBody:
    """A body with star-shaped sections around a smooth centreline.

    Attributes
    ----------
    knots_z, knots_xy
        (k,) and (k, 2) points of the centreline in um, joined by a cubic spline.
    profile, wobble
        Mean radius along z and unevenness of the outline.
    aspect, angle
        Elongation of the section and its direction in radians.
    bend
        k of the bending map in 1/um.
    cavity
        Radius of the central cavity as a share of the outline's, 0 without.
    """

    knots_z: Floats
    knots_xy: Floats
    profile: Profile
    wobble: Wobble
    aspect: float = 1.0
    angle: float = 0.0
    bend: float = 0.0
    cavity: float = 0.0
    _turn: tuple[float, float] = field(init=False, repr=False, default=(1.0, 0.0))

    def __post_init__(self) -> None:
        object.__setattr__(self, "_turn", (np.cos(self.angle), np.sin(self.angle)))

    @cached_property
    def _line(self) -> CubicSpline:
        return CubicSpline(self.knots_z, self.knots_xy, bc_type="natural")

    @cached_property
    def _slope(self) -> CubicSpline:
        return self._line.derivative()

    def spans(self, z: float) -> bool:
        """Whether the slice at `z` cuts the body."""
        return self.profile.z0 < z < self.profile.z1

    def centre(self, z: Floats | float) -> Floats:
        """Centre (..., 2) as (x, y) at `z`."""
        return np.asarray(self._line(z), np.float64)

    def radius(self, theta: Floats, z: Floats | float) -> Floats:
        """Radius of the outline at angle `theta` of the body's own frame (broadcast)."""
        slope = self._slope(z)
        steep = np.sqrt(1 + (slope**2).sum(-1))
        # A tube that leans is cut as an ellipse, stretched by 1/cos of the lean along it.
        lean = np.arctan2(slope[..., 1], slope[..., 0]) - self.angle
        shape = _ellipse(theta - lean, steep) * _ellipse(theta, self.aspect)
        return np.asarray(self.profile(z) * shape * self.wobble(theta, z), np.float64)

    def cavity_share(self, z: Floats | float) -> Floats:
        """Radius of the cavity as a share of the outline's: none in the tip of the cup."""
        t = np.clip((self.profile.growth(z) - 0.15) / 0.3, 0, 1)
        return np.asarray(self.cavity * t * t * (3 - 2 * t), np.float64)

    def outline(self, z: Floats | float, count: int, gap: float = 0.0) -> Floats:
        """Points (..., count, 2) as (x, y) of the outline at `z`, moved outwards by `gap`."""
        theta = np.linspace(0, TAU, count, endpoint=False)
        return self.place(theta, self.radius(theta, np.asarray(z)[..., None]) + gap, z)

    def place(self, theta: Floats, distance: Floats, z: Floats | float) -> Floats:
        """Points (..., 2) as (x, y) at polar coordinates of the body's own, bent frame."""
        u = distance * np.cos(theta)
        v = distance * np.sin(theta) + self.bend * u * u
        cos, sin = self._turn
        offset = np.stack([u * cos - v * sin, u * sin + v * cos], axis=-1)
        return np.asarray(self.centre(z)[..., None, :] + offset, np.float64)

    def polar(self, x: Floats, y: Floats, z: Floats | float) -> tuple[Floats, Floats]:
        """Distance from the centre and angle of points in the body's own, unbent frame."""
        centre = self.centre(z)
        dx, dy = x - centre[..., 0], y - centre[..., 1]
        cos, sin = self._turn
        u, v = dx * cos + dy * sin, dy * cos - dx * sin
        v = v - self.bend * u * u
        return np.hypot(u, v), np.arctan2(v, u)

    def share(self, x: Floats, y: Floats, z: Floats | float) -> Floats:
        """Distance of points from the centre as a share of the outline's: below 1 inside."""
        distance, theta = self.polar(x, y, z)
        quick = np.ndim(z) == 0 and theta.size > _TABLE
        radius = looked_up(self.radius, theta, float(z)) if quick else self.radius(theta, z)
        return np.divide(distance, radius, out=np.full_like(distance, np.inf), where=radius > 0)


def looked_up(radius: Callable[[Floats, float], Floats], theta: Floats, z: float) -> Floats:
    """Radii at many angles between -pi and pi, interpolated from a table.

    Far quicker than asking for each pixel, and off by less than 1e-4 of the radius.
    """
    table = radius(np.arange(-1, _TABLE + 2) * (TAU / _TABLE) - np.pi, z).astype(theta.dtype)
    place = (theta + theta.dtype.type(np.pi)) * theta.dtype.type(_TABLE / TAU) + 1
    first = place.astype(np.intp)
    part = place - first.astype(theta.dtype)
    return np.asarray(table[first] + part * np.diff(table)[first])


def _ellipse(theta: Floats, aspect: Floats | float) -> Floats:
    """Radius of an ellipse of half axes `aspect` (along theta 0) and 1."""
    return np.asarray(1 / np.sqrt((np.cos(theta) / aspect) ** 2 + np.sin(theta) ** 2), np.float64)
