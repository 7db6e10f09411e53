"""How everything looks: platform, flank, red mud, and fossils with pores, mud, spar and shell.

Colours and weights imitate the rock that this program was written for. They are frozen, because
figures in this repository are measured on this reef (docs/sample-reef.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.samples.fields import Fields, Image
from napari_fossiledit.samples.scene import Floats, Look, ReefRock


def colour(red: float, green: float, blue: float) -> Image:
    """Return a colour (3, 1, 1) of numbers from 0 to 255.

    Colours come first in every picture here: with them last, numpy would loop over three numbers
    at a time.
    """
    return np.array((red, green, blue), np.float32)[:, None, None]


MUD = colour(71, 42, 31)
_MUD_PALE = colour(98, 62, 47)
_MUD_DARK = colour(52, 30, 22)
_PLATFORM = colour(38, 44, 56)
_FLANK = colour(58, 38, 27)
_LICHEN = colour(126, 116, 90)
_CRUMB = colour(172, 160, 150)
_VEIN = colour(120, 100, 80)
_WHITE = colour(217, 226, 223)
_CREAM = colour(206, 192, 168)
_PIT = colour(166, 173, 164)
_STAIN = colour(150, 104, 76)
_SEPTUM = colour(150, 128, 118)
_CLOT_LOW = colour(104, 68, 51)
_CLOT_MIDDLE = colour(143, 112, 93)
_CLOT_HIGH = colour(178, 160, 142)
_SPAR = colour(122, 106, 100)
_SPAR_PALE = colour(184, 184, 176)
_SPAR_YELLOW = colour(206, 192, 140)
_SHELL = colour(142, 142, 148)
_PINKISH = colour(0.97, 0.92, 0.88)


def step(value: NDArray[np.floating], low: float, high: float) -> Image:
    """Compute a smooth rise from 0 at `low` to 1 at `high`."""
    t = np.clip((np.asarray(value, np.float32) - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def mix(under: Image, over: NDArray[np.float32], alpha: NDArray[np.floating]) -> Image:
    """Lay colours (3, y, x) or (3, 1, 1) over others with opacity `alpha` (y, x)."""
    image = np.subtract(over, under, dtype=np.float32)
    image *= np.asarray(alpha, np.float32)
    image += under
    return image


# ------------------------------------------------------------------ ground


def mud(fields: Fields) -> Image:
    """Paint red mud with burrows, crumbs of shell, veins and cracks: (3, y, x)."""
    tone = 0.35 * fields.broad + 0.3 * fields.medium + 0.22 * fields.small + 0.3 * fields.fine
    image = MUD * (1 + 0.055 * tone + 0.035 * fields.grain)
    burrow = step(fields.broad + 0.6 * fields.medium, 1.0, 1.12)
    image = mix(image, _MUD_PALE, 0.25 * burrow)
    image = mix(image, _MUD_DARK, 0.4 * step(-fields.medium - 0.4 * fields.small, 1.3, 2.2))
    nest = step(fields.medium + 0.5 * fields.broad, -0.2, 1.2)
    image = mix(image, _CRUMB, 0.75 * nest * step(fields.crumbs, 2.05, 2.6))
    # Thin dark cracks and pale veins run along the zero lines of a smooth field.
    line = np.abs(fields.cracks + 0.06 * fields.small)
    crack = step(-line, -0.022, -0.008) * step(fields.broad, 0.2, 0.8)
    vein = step(-line, -0.03, -0.01) * step(-fields.broad + 0.3 * fields.medium, 0.9, 1.5)
    image = mix(image, _MUD_DARK * 0.55, 0.8 * crack)
    return mix(image, _VEIN, 0.6 * vein * step(fields.small, -0.4, 0.6))


def surroundings(fields: Fields, rock: ReefRock, x: Floats, y: Floats, z_um: float) -> Image:
    """Paint the dark bluish platform and the weathered flank of the rock around its sawn face."""
    width = np.float32(rock.middle[0] * 2)
    streaks = 0.12 * np.sin(x / width * 60) * np.sin(x / width * 17)
    fall = 1.15 - 0.75 * (x / width) ** 2 + streaks
    image = _PLATFORM * (fall + 0.03 * fields.broad + 0.04 * fields.grain)
    edge = rock.share(x + 0.035 * width, y + 0.03 * width, z_um) + 0.012 * fields.medium
    rough = 0.5 * fields.medium + 0.5 * fields.small + 0.4 * fields.fine
    flank = _FLANK * (0.8 + 0.2 * rough)
    flank = mix(flank, _LICHEN, 0.55 * step(fields.medium + 0.6 * fields.small, 0.7, 1.8))
    shadow = step(rock.share(x - 0.01 * width, y - 0.02 * width, z_um), 0.95, 1.1)
    image *= 0.25 + 0.75 * shadow
    return mix(image, flank, step(-edge, -1.04, -1.02))


# ----------------------------------------------------------------- fossils


@dataclass(frozen=True)
class Frame:
    """Coordinates of a window in the frame of one fossil.

    Attributes
    ----------
    distance, theta
        (y, x) polar coordinates around the fossil's centre, in um and radians.
    radius
        (y, x) radius of its outline in the direction of each pixel.
    cavity
        (y, x) radius of its cavity as a share of the outline's, 0 without.
    pixel_um
        Edge of a pixel.
    z_um
        Depth of the slice.
    """

    distance: Floats
    theta: Floats
    radius: Floats
    cavity: Floats
    pixel_um: float
    z_um: float

    @property
    def share(self) -> Floats:
        """Distance as a share of the outline's radius."""
        return self.distance / np.maximum(self.radius, 1e-9)

    def line(self, share: float | Floats, width_um: float) -> Image:
        """Return the opacity of a line along the outline times `share`, no thinner than a pixel."""
        away = np.abs(self.distance - share * self.radius)
        half = max(width_um, 0.9 * self.pixel_um) / 2
        return step(-away, -half - self.pixel_um / 2, -half + self.pixel_um / 2)

    def cavity_wall(self, width_um: float) -> Image:
        """Return the opacity of the inner wall."""
        return self.line(self.cavity, width_um) * (self.cavity > 0)


def skeleton(frame: Frame, look: Look, fields: Fields) -> Image:
    """Paint recrystallised white with pores: the pitted texture, (3, y, x)."""
    pits = step(_pores(frame, look, fields), 0.25, 1.2)
    rim = frame.line(1.0, 320) + 0.7 * frame.cavity_wall(200)
    white = _WHITE * (1 + 0.02 * fields.fine + 0.012 * fields.grain)
    image = mix(white, _CREAM, np.clip(0.35 * look.warmth + 0.12 * fields.medium, 0, 0.6))
    patchy = 0.7 + 0.3 * np.clip(fields.medium + 0.3, -1, 1)
    image = mix(image, _PIT, 0.85 * pits * patchy * np.clip(1 - rim, 0, 1))
    stain = step(fields.medium + 0.5 * fields.small, 1.6, 2.6)
    image = mix(image, _CREAM * 0.92, 0.6 * stain)
    shade = 1 - 0.14 * step(fields.broad + 0.7 * fields.medium, 0.2, 2.0)
    return image * np.float32(look.brightness) * shade


def _pores(frame: Frame, look: Look, fields: Fields) -> Floats:
    """Pattern of pores, about -1 to 1.5: in rays that widen outwards, or in an even mesh."""
    warp_x = 0.55 * fields.warp_x + 0.25 * fields.small
    warp_y = 0.55 * fields.warp_y - 0.25 * fields.medium
    if look.radial:
        rays = look.septa * frame.theta + look.phase + 2.0 * warp_x
        mean = look.septa * look.cell_um / (2 * np.pi)
        rings = look.septa * np.log(np.maximum(frame.distance, 60) / mean) + 2.0 * warp_y
        return np.asarray(np.cos(rays) * np.cos(rings) + 0.35 * fields.fine, np.float64)
    scale = 2 * np.pi / (0.9 * look.cell_um)
    u = scale * frame.distance * np.cos(frame.theta) + 3.0 * warp_x
    v = scale * frame.distance * np.sin(frame.theta) + 3.0 * warp_y + look.phase
    waves = np.cos(u) + np.cos(0.5 * u + 0.866 * v) + np.cos(0.5 * u - 0.866 * v)
    return np.asarray(0.6 * waves + 0.35 * fields.fine, np.float64)


def muddy(frame: Frame, look: Look, fields: Fields, ground: Image, contrast: float) -> Image:
    """Paint mud between thin pale walls and septa: the mud-filled texture, (3, y, x)."""
    image = mix(ground, MUD * 0.93, np.full(ground.shape[1:], 0.94))
    image *= 1 + 0.03 * fields.grain + 0.03 * fields.fine
    between = step(frame.share - frame.cavity, 0, 0.04)
    lines = np.maximum(_septa(frame, look, fields) * between, 0.9 * frame.line(1.0, 110))
    lines = np.maximum(lines, 0.85 * frame.cavity_wall(90))
    kept = step(fields.medium + 0.4 * fields.small, -1.4, 0.4)
    alpha = contrast * lines * (0.25 + 0.75 * kept)
    image = mix(image, _SEPTUM * np.float32(look.brightness), alpha)
    lining = frame.line(0.97, 260) * step(fields.broad + 0.5 * fields.medium, 0.5, 1.6)
    return mix(image, _CLOT_HIGH, 0.55 * contrast * lining)


def _septa(frame: Frame, look: Look, fields: Fields) -> Image:
    """Opacity of radial septa, broken by pores."""
    number = max(8, round(0.8 * look.septa))
    bent = number * (frame.theta + 0.03 * fields.warp_x) + look.phase
    away = np.abs(np.sin(bent / 2)) * 2 / number * frame.distance
    half = max(80.0, 0.8 * frame.pixel_um) / 2
    lines = step(-away, -half - frame.pixel_um / 2, -half + frame.pixel_um / 2)
    pores = 0.6 + 0.4 * np.cos(frame.distance * (2 * np.pi / 420.0) + fields.warp_y)
    return np.asarray(lines * pores, np.float32)


def cup(
    frame: Frame, look: Look, fields: Fields, ground: Image, pitted: bool, contrast: float
) -> Image:
    """Paint one archaeocyathid over its whole window; the caller cuts it out."""
    bare = muddy(frame, look, fields, ground, contrast)
    if not pitted:
        return bare
    white = skeleton(frame, look, fields)
    level = 3.0 - 4.2 * np.sqrt(min(look.mud, 0.5))
    came_in = step(fields.medium + 0.7 * fields.small + 0.2 * fields.fine, level, level + 0.35)
    image = mix(white, bare, 0.9 * came_in)
    if look.filling != "skeleton":
        filled = bare if look.filling == "mud" else spar(look.warmth, fields)
        ragged = frame.cavity * (1 + 0.06 * fields.small)
        image = mix(image, filled, step(ragged - frame.share, -0.02, 0.02) * (frame.cavity > 0))
    rust = frame.line(1.0, 150) * step(fields.small + 0.5 * fields.medium, 0.3, 1.3)
    return mix(image, _STAIN, 0.6 * rust)


def calcimicrobe(
    frame: Frame, look: Look, fields: Fields, ground: Image, similarity: float
) -> Image:
    """Paint pinkish grains; with growing `similarity` pale, with pores like a pitted cup."""
    grains = 0.55 * fields.small + 1.1 * fields.fine + 0.2 * fields.grain
    image = mix(ground, _CLOT_LOW, np.full(ground.shape[1:], 0.85))
    image = mix(image, _CLOT_MIDDLE, step(grains, -1.3, 0.3))
    image = mix(image, _CLOT_HIGH, 0.85 * step(grains + 0.4 * fields.medium, 0.1, 1.7))
    image = mix(image, MUD, 0.7 * step(-grains - 0.4 * fields.medium, 1.4, 2.0))
    if similarity <= 0:
        return image
    pale = skeleton(frame, look, fields) * _PINKISH
    bloom = step(0.5 * fields.medium + 0.5 * fields.small + 2.6 * similarity, 0.6, 2.2)
    return mix(image, pale, bloom * min(1.0, 0.55 + 0.45 * similarity))


def spar(warmth: float, fields: Fields) -> Image:
    """Paint translucent grey cement with bright crystals."""
    cloud = 0.6 * fields.medium + 0.5 * fields.small + 0.25 * fields.fine
    image = _SPAR * (1 + 0.06 * cloud + 0.015 * fields.grain)
    bright = _SPAR_PALE + np.float32(warmth) * (_SPAR_YELLOW - _SPAR_PALE)
    return mix(image, bright, 0.8 * step(cloud, 0.1, 1.5))


def shell(brightness: float, fields: Fields) -> Image:
    """Paint a bluish grey, translucent shell."""
    tone = brightness * (1 + 0.05 * fields.fine + 0.02 * fields.grain)
    return np.asarray(_SHELL * tone, np.float32)


def edge(distance: NDArray[np.floating], radius: NDArray[np.floating], pixel_um: float) -> Image:
    """Return the share of each pixel inside an outline, softened over a pixel."""
    return np.asarray(np.clip((radius - distance) / pixel_um + 0.5, 0, 1), np.float32)
