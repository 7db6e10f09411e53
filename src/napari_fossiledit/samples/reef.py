"""A procedural serial-section reef with exact truth, made slice by slice.

Any slice can be made at any time, and only one is held: the reef is a handful of formulas.
Positions are in um: pixel (row, column) of slice z stands for the point x = (column + 1/2) p,
y = (row + 1/2) p, and depth (z + 1/2) s, with pixel size p and slice spacing s, before the
slice's misalignment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter

from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.samples.fields import FieldSource
from napari_fossiledit.samples.painting import paint
from napari_fossiledit.samples.planting import plant
from napari_fossiledit.samples.scene import ReefScene
from napari_fossiledit.samples.volumes import Volume, volumes

Labels = NDArray[np.uint16]
_T = TypeVar("_T", bound=np.generic)
#: Standard deviation of the blur of the camera.
_SHARPNESS_PX = 0.45


@dataclass(frozen=True)
class Shift:
    """The misalignment of one slice.

    A point at (y, x) of the aligned slice is photographed at
    c + R (p - c) + (dy, dx), where c is the middle of the slice and R turns by `angle_deg`
    from the x axis towards the y axis (clockwise as seen on the screen).
    """

    dy: float
    dx: float
    angle_deg: float

    @property
    def matrix(self) -> NDArray[np.float64]:
        """R for (y, x) columns."""
        cos, sin = np.cos(np.deg2rad(self.angle_deg)), np.sin(np.deg2rad(self.angle_deg))
        return np.array([[cos, sin], [-sin, cos]])

    def move(self, layer: NDArray[_T], order: int) -> NDArray[_T]:
        """Return a layer (y, x) moved as the slice was; the edge is repeated beyond it."""
        if self == Shift(0.0, 0.0, 0.0):
            return layer
        middle = (np.array(layer.shape) - 1) / 2
        back = self.matrix.T
        offset = middle - back @ (middle + np.array((self.dy, self.dx)))
        moved = affine_transform(layer, back, offset, order=order, mode="nearest")
        return np.asarray(moved, layer.dtype)


@dataclass(frozen=True)
class ReefSlice:
    """One slice and its truth.

    Attributes
    ----------
    rgb
        (y, x, 3) uint8.
    specimens
        (y, x) ids of archaeocyathids, everything within the outer wall; 0 elsewhere.
    cavities
        (y, x) ids of the specimens whose central cavity is there.
    calcimicrobes, shells
        (y, x) ids.
    rock
        (y, x) True where the sawn rock face is.
    """

    rgb: NDArray[np.uint8]
    specimens: Labels
    cavities: Labels
    calcimicrobes: Labels
    shells: Labels
    rock: NDArray[np.bool_]


class Reef:
    """A reef made from parameters alone."""

    def __init__(self, params: ReefParams | None = None) -> None:
        self.params = params or ReefParams()
        self.scene: ReefScene = plant(self.params)
        self._fields = FieldSource(self.params)

    def __len__(self) -> int:
        return self.params.slices

    @property
    def geometry(self) -> StackGeometry:
        """Pixel size and slice spacing; slices count into the rock."""
        return StackGeometry(self.params.pixel_size_um, self.params.slice_spacing_um)

    @cached_property
    def textures(self) -> dict[int, str]:
        """Texture (pitted or mud_filled) of each archaeocyathid by its id."""
        return {cup.id: cup.texture for cup in self.scene.cups}

    def volumes(self) -> list[Volume]:
        """Compute the volumes of all specimens by formula, see `samples.volumes`."""
        return volumes(self.scene)

    def shift(self, z: int) -> Shift:
        """Return the misalignment of slice `z`."""
        # One generator for each purpose and slice: a slice is the same whichever were made before.
        rng = np.random.default_rng((self.params.seed, 4, z))
        dy, dx, turn = rng.standard_normal(3)
        size = self.params.misalignment_px
        return Shift(float(dy * size), float(dx * size), float(turn * self.params.misalignment_deg))

    def slices(self) -> Iterator[ReefSlice]:
        """Compute all slices in order."""
        return (self.slice(z) for z in range(len(self)))

    def slice(self, z: int) -> ReefSlice:
        """Compute slice `z`.

        Raises
        ------
        IndexError
            Where the reef has no such slice.
        """
        if not 0 <= z < len(self):
            raise IndexError(f"slice {z} is not in a reef of {len(self)}")
        z_um = (z + 0.5) * self.params.slice_spacing_um
        canvas = paint(self.scene, self.params, self._fields.at(z, z_um), z_um)
        shift = self.shift(z)
        moved = np.stack([shift.move(colour, 1) for colour in canvas.rgb])
        return ReefSlice(
            self._exposed(moved * self._light(z_um), z),
            # Order 0, the nearest pixel: ids must not be mixed.
            shift.move(canvas.specimens, 0),
            shift.move(canvas.cavities, 0),
            shift.move(canvas.calcimicrobes, 0),
            shift.move(canvas.shells, 0),
            shift.move(canvas.rock, 0),
        )

    def _light(self, z_um: float) -> NDArray[np.float32]:
        """Gain (3, y, x) of the lamps: it leans to one side and drifts with z in colour too."""
        # The same draws for all slices: only the depth moves the phases, so light drifts evenly.
        rng = np.random.default_rng((self.params.seed, 5))
        phases = rng.uniform(0, 2 * np.pi, 5) + z_um / 1000 * rng.uniform(0.08, 0.25, 5)
        drift = self.params.light_drift * np.sin(phases)
        _, rows, columns = self.params.shape_zyx
        y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)[None]
        plane = 1 + drift[0] + drift[1] * y + drift[2] * x - 0.05 * (x * x + y * y)
        colour = 1 + 0.3 * np.array([drift[3], 0.0, drift[4]])
        return np.asarray(plane * colour[:, None, None], np.float32)

    def _exposed(self, image: NDArray[np.float32], z: int) -> NDArray[np.uint8]:
        """Blur (3, y, x), add the camera's noise and make 8 bit (y, x, 3) of it."""
        rng = np.random.default_rng((self.params.seed, 6, z))
        sharp = gaussian_filter(image, (0, _SHARPNESS_PX, _SHARPNESS_PX), truncate=3.0)
        noise = rng.standard_normal(image.shape, dtype=np.float32) * self.params.camera_noise
        sharp += noise
        exposed = np.clip(np.rint(sharp, out=sharp), 0, 255, out=sharp).astype(np.uint8)
        return np.ascontiguousarray(np.moveaxis(exposed, 0, -1))
