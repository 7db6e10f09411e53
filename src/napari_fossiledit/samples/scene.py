"""The formulas of a sample reef: bodies with star-shaped sections, and all that is made of them.

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
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

Floats = NDArray[np.floating[Any]]
TAU = 2 * np.pi
#: Angles of the table that `looked_up` interpolates in.
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
        """Return the factor of the radius at `theta` and `z` (broadcast against each other)."""
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
        True where the body grows towards smaller z.
    """

    z0: float
    z1: float
    radius: float
    tip: float = 0.3
    crown: float = 0.2
    taper: float = 0.6
    down: bool = False

    def growth(self, z: Floats | float) -> Floats:
        """Return the age of the body at `z`: 0 at its tip, 1 at its crown."""
        t = (np.asarray(z, np.float64) - self.z0) / (self.z1 - self.z0)
        return 1 - t if self.down else t

    def __call__(self, z: Floats | float) -> Floats:
        """Return the radius in um at `z`, 0 beyond the ends."""
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
        # A frozen dataclass takes no plain assignment.
        object.__setattr__(self, "_turn", (np.cos(self.angle), np.sin(self.angle)))

    @cached_property
    def _line(self) -> CubicSpline:
        return CubicSpline(self.knots_z, self.knots_xy, bc_type="natural")

    @cached_property
    def _slope(self) -> CubicSpline:
        return self._line.derivative()

    def spans(self, z: float) -> bool:
        """Return whether the slice at `z` cuts the body."""
        return self.profile.z0 < z < self.profile.z1

    def centre(self, z: Floats | float) -> Floats:
        """Return the centre (..., 2) as (x, y) at `z`."""
        return np.asarray(self._line(z), np.float64)

    def radius(self, theta: Floats, z: Floats | float) -> Floats:
        """Return the radius of the outline at angle `theta` of the body's own frame (broadcast)."""
        slope = self._slope(z)
        steep = np.sqrt(1 + (slope**2).sum(-1))
        # A tube that leans is cut as an ellipse, stretched by 1/cos of the lean along it.
        lean = np.arctan2(slope[..., 1], slope[..., 0]) - self.angle
        shape = _ellipse(theta - lean, steep) * _ellipse(theta, self.aspect)
        return np.asarray(self.profile(z) * shape * self.wobble(theta, z), np.float64)

    def cavity_share(self, z: Floats | float) -> Floats:
        """Return the radius of the cavity as a share of the outline's: 0 in the tip of the cup."""
        t = np.clip((self.profile.growth(z) - 0.15) / 0.3, 0, 1)
        return np.asarray(self.cavity * t * t * (3 - 2 * t), np.float64)

    def outline(self, z: Floats | float, count: int, gap: float = 0.0) -> Floats:
        """Return points (..., count, 2) as (x, y) of the outline at `z`, moved out by `gap`."""
        theta = np.linspace(0, TAU, count, endpoint=False)
        return self.place(theta, self.radius(theta, np.asarray(z)[..., None]) + gap, z)

    def place(self, theta: Floats, distance: Floats, z: Floats | float) -> Floats:
        """Return points (..., 2) as (x, y) from polar coordinates of the body's own, bent frame."""
        u = distance * np.cos(theta)
        v = distance * np.sin(theta) + self.bend * u * u
        cos, sin = self._turn
        offset = np.stack([u * cos - v * sin, u * sin + v * cos], axis=-1)
        return np.asarray(self.centre(z)[..., None, :] + offset, np.float64)

    def polar(self, x: Floats, y: Floats, z: Floats | float) -> tuple[Floats, Floats]:
        """Return distance from the centre and angle of points in the body's own, unbent frame."""
        centre = self.centre(z)
        dx, dy = x - centre[..., 0], y - centre[..., 1]
        cos, sin = self._turn
        u, v = dx * cos + dy * sin, dy * cos - dx * sin
        v = v - self.bend * u * u
        return np.hypot(u, v), np.arctan2(v, u)

    def share(self, x: Floats, y: Floats, z: Floats | float) -> Floats:
        """Return the distance from the centre as a share of the outline's: below 1 inside."""
        distance, theta = self.polar(x, y, z)
        quick = np.ndim(z) == 0 and theta.size > _TABLE
        radius = looked_up(self.radius, theta, float(z)) if quick else self.radius(theta, z)
        return np.divide(distance, radius, out=np.full_like(distance, np.inf), where=radius > 0)


def looked_up(radius: Callable[[Floats, float], Floats], theta: Floats, z: float) -> Floats:
    """Return radii at many angles between -pi and pi, interpolated from a table.

    Far quicker than computing each pixel's, and off by less than 1e-4 of the radius.
    """
    table = radius(np.arange(-1, _TABLE + 2) * (TAU / _TABLE) - np.pi, z).astype(theta.dtype)
    place = (theta + theta.dtype.type(np.pi)) * theta.dtype.type(_TABLE / TAU) + 1
    first = place.astype(np.intp)
    part = place - first.astype(theta.dtype)
    return np.asarray(table[first] + part * np.diff(table)[first])


def _ellipse(theta: Floats, aspect: Floats | float) -> Floats:
    """Radius of an ellipse of half axes `aspect` (along theta 0) and 1."""
    return np.asarray(1 / np.sqrt((np.cos(theta) / aspect) ** 2 + np.sin(theta) ** 2), np.float64)


Texture = Literal["pitted", "mud_filled"]
Filling = Literal["mud", "spar", "skeleton"]


@dataclass(frozen=True)
class Look:
    """How one specimen looks.

    Attributes
    ----------
    brightness, warmth
        Factor of the brightness, and how far its white leans to cream.
    septa
        Number of radial septa.
    cell_um
        Size of its pores.
    radial
        True where pores stand in rays; otherwise they form an even mesh.
    filling
        What fills the central cavity.
    mud
        Share of a pitted specimen that mud stains.
    phase
        Where its patterns start, in radians.
    """

    brightness: float
    warmth: float
    septa: int
    cell_um: float
    radial: bool
    filling: Filling
    mud: float
    phase: float


@dataclass(frozen=True)
class Cup:
    """An archaeocyathid: one cup, or a modular one whose branches share its id."""

    id: int
    texture: Texture
    bodies: tuple[StarBody, ...]
    look: Look


@dataclass(frozen=True)
class Clot:
    """A clot of calcimicrobe around its own centre."""

    id: int
    body: StarBody
    similarity: float
    look: Look

    def spans(self, z: float) -> bool:
        """Return whether the slice at `z` may cut it."""
        return self.body.spans(z)

    def reach(self, z: float) -> Floats:
        """Return points (n, 2) that enclose it at `z`."""
        return self.body.outline(z, 64, gap=0.4 * float(self.body.profile(z)))

    def depth(self, x: Floats, y: Floats, z: float) -> Floats:
        """Return values above 0 in the even body, 1 at its centre; the caller adds raggedness."""
        distance, theta = self.body.polar(x, y, z)
        return 1 - distance / looked_up(self.body.radius, theta, z)


@dataclass(frozen=True)
class Crust:
    """Calcimicrobe that grows on a cup.

    Attributes
    ----------
    body
        The body it grows on.
    z0, z1
        Its ends in um.
    thickness
        Largest thickness in um.
    side, turn, spread
        Middle angle, its change in radians per um of z, and half the angle it covers.
    """

    id: int
    body: StarBody
    z0: float
    z1: float
    thickness: float
    side: float
    turn: float
    spread: float
    similarity: float
    look: Look

    def spans(self, z: float) -> bool:
        """Return whether the slice at `z` may cut it."""
        return self.z0 < z < self.z1 and self.body.spans(z)

    def reach(self, z: float) -> Floats:
        """Return points (n, 2) that enclose it at `z`."""
        return self.body.outline(z, 64, gap=1.3 * self.thickness)

    def depth(self, x: Floats, y: Floats, z: float) -> Floats:
        """Return values above 0 within the even crust; the caller adds raggedness."""
        distance, theta = self.body.polar(x, y, z)
        above = distance - looked_up(self.body.radius, theta, z)
        away = np.abs((theta - self.side - self.turn * z + np.pi) % TAU - np.pi)
        swell = np.sqrt(np.clip((z - self.z0) * (self.z1 - z), 0, None)) * 2 / (self.z1 - self.z0)
        cover = np.clip(1.6 * (1 - away / self.spread), -0.5, 1) * swell
        return np.asarray(cover - np.abs(above) / self.thickness, np.float64)


Microbe = Clot | Crust


@dataclass(frozen=True)
class Shell:
    """A thin shell: a band along the outline of a body, tapering to the ends of its arc."""

    id: int
    body: StarBody
    thickness: float
    side: float
    spread: float
    brightness: float

    def half_width(self, theta: Floats) -> Floats:
        """Return half the thickness in um at angle `theta`; 0 beyond the arc."""
        away = np.abs((theta - self.side + np.pi) % TAU - np.pi)
        taper = np.sqrt(np.clip(1 - (away / self.spread) ** 2, 0, 1))
        return np.asarray(self.thickness / 2 * taper, np.float64)


@dataclass(frozen=True)
class Spar:
    """A pocket of spar cement."""

    body: StarBody
    warmth: float


@dataclass(frozen=True)
class ReefRock:
    """The outline of the sawn rock face, star-shaped around the middle of the slice.

    Attributes
    ----------
    middle
        (x, y) in um.
    half
        Half width and half height in um.
    squareness
        Exponent of the superellipse; 2 is an ellipse.
    wobble
        Unevenness of the outline.
    """

    middle: tuple[float, float]
    half: tuple[float, float]
    squareness: float
    wobble: Wobble

    def radius(self, theta: Floats, z: float) -> Floats:
        """Return the distance in um of the outline from the middle (broadcast)."""
        n = self.squareness
        sides = (
            np.abs(np.cos(theta) / self.half[0]) ** n + np.abs(np.sin(theta) / self.half[1]) ** n
        )
        return np.asarray(sides ** (-1 / n) * self.wobble(theta, z), np.float64)

    def share(self, x: Floats, y: Floats, z: float) -> Floats:
        """Return the distance from the middle as a share of the outline's: below 1 inside."""
        dx, dy = x - self.middle[0], y - self.middle[1]
        outline = looked_up(self.radius, np.arctan2(dy, dx), z)
        return np.asarray(np.hypot(dx, dy) / outline)


@dataclass(frozen=True)
class ReefScene:
    """Everything that a sample reef holds, in um; `extent` is its (depth, height, width)."""

    extent: tuple[float, float, float]
    rock: ReefRock
    cups: tuple[Cup, ...]
    microbes: tuple[Microbe, ...]
    shells: tuple[Shell, ...]
    spars: tuple[Spar, ...]
