"""What a sample reef is made of: its rock and everything in it, as values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from napari_fossiledit.samples.bodies import TAU, Floats, StarBody, Wobble, looked_up

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
        Whether pores stand in rays; otherwise in an even mesh.
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
        """Whether the slice at `z` may cut it."""
        return self.body.spans(z)

    def reach(self, z: float) -> Floats:
        """Points (n, 2) that enclose it at `z`."""
        return self.body.outline(z, 64, gap=0.4 * float(self.body.profile(z)))

    def depth(self, x: Floats, y: Floats, z: float) -> Floats:
        """Above 0 inside the even body, 1 at its centre; raggedness is added by the caller."""
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
        """Whether the slice at `z` may cut it."""
        return self.z0 < z < self.z1 and self.body.spans(z)

    def reach(self, z: float) -> Floats:
        """Points (n, 2) that enclose it at `z`."""
        return self.body.outline(z, 64, gap=1.3 * self.thickness)

    def depth(self, x: Floats, y: Floats, z: float) -> Floats:
        """Above 0 within the even crust; raggedness is added by the caller."""
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
        """Half the thickness in um at angle `theta`; 0 beyond the arc."""
        away = np.abs((theta - self.side + np.pi) % TAU - np.pi)
        taper = np.sqrt(np.clip(1 - (away / self.spread) ** 2, 0, 1))
        return np.asarray(self.thickness / 2 * taper, np.float64)


@dataclass(frozen=True)
class Spar:
    """A pocket of spar cement."""

    body: StarBody
    warmth: float


@dataclass(frozen=True)
class Rock:
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
        """Distance in um of the outline from the middle (broadcast)."""
        n = self.squareness
        sides = (
            np.abs(np.cos(theta) / self.half[0]) ** n + np.abs(np.sin(theta) / self.half[1]) ** n
        )
        return np.asarray(sides ** (-1 / n) * self.wobble(theta, z), np.float64)

    def share(self, x: Floats, y: Floats, z: float) -> Floats:
        """Distance from the middle as a share of the outline's: below 1 inside."""
        dx, dy = x - self.middle[0], y - self.middle[1]
        outline = looked_up(self.radius, np.arctan2(dy, dx), z)
        return np.asarray(np.hypot(dx, dy) / outline)


@dataclass(frozen=True)
class Scene:
    """Everything in the stack, in um; `extent` is its (depth, height, width)."""

    extent: tuple[float, float, float]
    rock: Rock
    cups: tuple[Cup, ...]
    microbes: tuple[Microbe, ...]
    shells: tuple[Shell, ...]
    spars: tuple[Spar, ...]

    @cached_property
    def by_id(self) -> dict[int, Cup | Microbe | Shell]:
        """Everything that has an id."""
        return {item.id: item for item in (*self.cups, *self.microbes, *self.shells)}
