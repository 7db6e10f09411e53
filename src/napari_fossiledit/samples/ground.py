"""What lies between the fossils: platform, weathered flank, red mud, cracks, spar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.params.reef import ReefParams
from napari_fossiledit.samples.bodies import Floats
from napari_fossiledit.samples.noise import Lattice
from napari_fossiledit.samples.scene import Rock

Image = NDArray[np.float32]


def colour(red: float, green: float, blue: float) -> Image:
    """Make a colour (3, 1, 1) of numbers from 0 to 255.

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

# Lattice steps in um, in the slice and through z, of the fields that everything is drawn from.
_FIELDS = {
    "broad": (6000.0, 8000.0),
    "medium": (1500.0, 3500.0),
    "small": (520.0, 1800.0),
    "fine": (150.0, 900.0),
    "crumbs": (260.0, 700.0),
    "cracks": (3600.0, 9000.0),
    "warp_x": (800.0, 3000.0),
    "warp_y": (800.0, 3000.0),
}


@dataclass(frozen=True)
class Fields:
    """The random fields of one slice: each (y, x) float32 of mean 0 and variance 1."""

    broad: Image
    medium: Image
    small: Image
    fine: Image
    crumbs: Image
    cracks: Image
    warp_x: Image
    warp_y: Image
    grain: Image

    def window(self, window: tuple[slice, slice]) -> Fields:
        """Cut out the part of every field in a window."""
        return Fields(**{name: value[window] for name, value in vars(self).items()})


class FieldSource:
    """Makes the fields of any slice of a reef."""

    def __init__(self, params: ReefParams) -> None:
        shape = params.shape_zyx[1:]
        self._seed, self._shape = params.seed, shape
        self._lattices = {
            name: Lattice.of((params.seed, 2, i), scale, deep, shape, params.pixel_size_um)
            for i, (name, (scale, deep)) in enumerate(_FIELDS.items())
        }

    def at(self, z: int, z_um: float) -> Fields:
        """Fields of slice `z` at depth `z_um`; `grain` alone differs from slice to slice."""
        rng = np.random.default_rng((self._seed, 3, z))
        grain = rng.standard_normal(self._shape, dtype=np.float32)
        fields = {name: lattice.at(z_um) for name, lattice in self._lattices.items()}
        return Fields(**fields, grain=grain)


def step(value: NDArray[np.floating], low: float, high: float) -> Image:
    """Smooth rise from 0 at `low` to 1 at `high`."""
    t = np.clip((np.asarray(value, np.float32) - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def mix(under: Image, over: NDArray[np.float32], alpha: NDArray[np.floating]) -> Image:
    """Lay colours (3, y, x) or (3, 1, 1) over others with opacity `alpha` (y, x)."""
    image = np.subtract(over, under, dtype=np.float32)
    image *= np.asarray(alpha, np.float32)
    image += under
    return image


def mud(fields: Fields) -> Image:
    """Red mud with burrows, crumbs of shell, veins and cracks: (3, y, x)."""
    tone = 0.35 * fields.broad + 0.3 * fields.medium + 0.22 * fields.small + 0.3 * fields.fine
    image = MUD * (1 + 0.055 * tone + 0.035 * fields.grain)
    burrow = step(fields.broad + 0.6 * fields.medium, 1.0, 1.12)
    image = mix(image, _MUD_PALE, 0.25 * burrow)
    image = mix(image, _MUD_DARK, 0.4 * step(-fields.medium - 0.4 * fields.small, 1.3, 2.2))
    nest = step(fields.medium + 0.5 * fields.broad, -0.2, 1.2)
    image = mix(image, _CRUMB, 0.75 * nest * step(fields.crumbs, 2.05, 2.6))
    return _cracked(image, fields)


def _cracked(image: Image, fields: Fields) -> Image:
    """Thin dark cracks and pale veins along the zero lines of a smooth field."""
    line = np.abs(fields.cracks + 0.06 * fields.small)
    crack = step(-line, -0.022, -0.008) * step(fields.broad, 0.2, 0.8)
    vein = step(-line, -0.03, -0.01) * step(-fields.broad + 0.3 * fields.medium, 0.9, 1.5)
    image = mix(image, _MUD_DARK * 0.55, 0.8 * crack)
    return mix(image, _VEIN, 0.6 * vein * step(fields.small, -0.4, 0.6))


def surroundings(fields: Fields, rock: Rock, x: Floats, y: Floats, z_um: float) -> Image:
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
