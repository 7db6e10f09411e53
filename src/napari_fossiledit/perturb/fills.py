"""Fills of a region. Each fill paints into the slice in place, where a mask says so."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from skimage.color import rgb2gray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.perturb.mud import measure_mud, mud_patches
from napari_fossiledit.perturb.scene import Colour, Floats, Image, SliceScene, Where
from napari_fossiledit.perturb.texture import check_crop, quilt, seamless, tile

Rng: TypeAlias = np.random.Generator

#: Rows that are changed at a time, so that the copy in floating point stays small.
_ROWS = 256
#: Standard deviations at which a blur is cut off.
_TRUNCATE = 4.0


@dataclass(frozen=True)
class Fill(ABC):
    """Something to fill a region with; ``str`` gives the text it is read from."""

    word: ClassVar[str]

    def __str__(self) -> str:
        words = [self.word]
        for value in astuple(self):
            numbers = value if isinstance(value, tuple) else (value,)
            words.append(",".join(n if isinstance(n, str) else f"{n:.10g}" for n in numbers))
        return " ".join(words).rstrip()

    @abstractmethod
    def paint(self, image: Image, mask: Where, scene: SliceScene, rng: Rng) -> None:
        """Paint into `image` (y, x[, 3]) where `mask` (y, x) is True.

        A `FossilError` is raised where the fill does not suit the slice.

        Parameters
        ----------
        image
            The slice as the steps before left it; changed in place.
        scene
            The slice as it was photographed, and what is known of it.
        """


@dataclass(frozen=True)
class Mud(Fill):
    """The mud colour of the slice."""

    word = "mud"

    def paint(self, image: Image, mask: Where, scene: SliceScene, rng: Rng) -> None:
        """See `Fill`."""
        mud = measure_mud(scene) if scene.mud is None else scene.mud
        image[mask] = as_pixel(mud, image)


@dataclass(frozen=True)
class Solid(Fill):
    """One colour, in the slice's own values."""

    word = "colour"
    colour: Colour

    def paint(self, image: Image, mask: Where, scene: SliceScene, rng: Rng) -> None:
        """See `Fill`."""
        image[mask] = as_pixel(self.colour, image)


@dataclass(frozen=True)
class Texture(Fill):
    """A square crop laid side by side; an empty name means the texture of the scene."""

    word = "texture"
    crop: str = ""

    def paint(self, image: Image, mask: Where, scene: SliceScene, rng: Rng) -> None:
        """See `Fill`."""
        rows, columns = window = _window_of(mask)
        crop = _fitting_crop(scene, self.crop, image)
        _lay(image, mask, tile(crop, mask[window].shape, (rows.start, columns.start)))


@dataclass(frozen=True)
class Seamless(Fill):
    """A square crop stitched so that no seam shows."""

    word = "seamless"
    crop: str = ""

    def paint(self, image: Image, mask: Where, scene: SliceScene, rng: Rng) -> None:
        """See `Fill`."""
        crop = _fitting_crop(scene, self.crop, image)
        _lay(image, mask, seamless(crop, mask[_window_of(mask)].shape, rng))


@dataclass(frozen=True)
class RealMud(Fill):
    """Mud stitched from the slice's own mud, or from a crop."""

    word = "real-mud"
    crop: str = ""

    def paint(self, image: Image, mask: Where, scene: SliceScene, rng: Rng) -> None:
        """See `Fill`."""
        shape = mask[_window_of(mask)].shape
        if self.crop:
            stitched = seamless(_fitting_crop(scene, self.crop, image), shape, rng)
        else:
            stitched = quilt(mud_patches(scene, rng), shape, rng)
        _lay(image, mask, stitched)


@dataclass(frozen=True)
class Blur(Fill):
    """A Gaussian blur of what is there, `sigma` in pixels."""

    word = "blur"
    sigma: float

    def paint(self, image: Image, mask: Where, scene: SliceScene, rng: Rng) -> None:
        """See `Fill`."""
        window = _window_of(mask)
        # The window is widened by the reach of the blur, so that its edge blurs as the rest.
        reach = round(_TRUNCATE * self.sigma) + 1
        around = tuple(
            slice(max(side.start - reach, 0), min(side.stop + reach, end))
            for side, end in zip(window, mask.shape, strict=True)
        )
        inner = tuple(
            slice(w.start - a.start, w.stop - a.start) for w, a in zip(window, around, strict=True)
        )
        inside = mask[window]
        for plane in [image] if image.ndim == 2 else np.moveaxis(image, -1, 0):
            source = plane[around].astype(np.float32)
            blurred = ndimage.gaussian_filter(source, self.sigma, truncate=_TRUNCATE)[inner]
            plane[window][inside] = _rounded(blurred[inside], image.dtype)


@dataclass(frozen=True)
class Noise(Fill):
    """Gaussian noise on what is there; `deviation` in levels of an 8-bit slice."""

    word = "noise"
    deviation: float

    def paint(self, image: Image, mask: Where, scene: SliceScene, rng: Rng) -> None:
        """See `Fill`."""
        black, white = scene.span
        deviation = self.deviation * (white - black) / 255

        def noisy(pixels: Floats) -> Floats:
            return pixels + deviation * rng.standard_normal(pixels.shape, dtype=np.float32)

        _pointwise(image, mask, noisy)


@dataclass(frozen=True)
class Brightness(Fill):
    """A gain of what is there in decibels: 6 doubles every value, -6 halves it."""

    word = "brightness"
    decibels: float

    def paint(self, image: Image, mask: Where, scene: SliceScene, rng: Rng) -> None:
        """See `Fill`."""
        gain = np.float32(10 ** (self.decibels / 20))
        _pointwise(image, mask, lambda pixels: pixels * gain)


@dataclass(frozen=True)
class Hue(Fill):
    """A turn of the colours about the grey axis in degrees: 120 makes red green."""

    word = "hue"
    degrees: float

    def paint(self, image: Image, mask: Where, scene: SliceScene, rng: Rng) -> None:
        """See `Fill`."""
        if image.ndim == 2:
            raise FossilError(
                f"A grey slice has no hue to shift ({scene.name})",
                expected="three colour channels",
                advice="Shift the brightness instead.",
            )
        grey = np.ones(3) / np.sqrt(3)
        turn = Rotation.from_rotvec(self.degrees * grey, degrees=True).as_matrix()
        turned: Floats = turn.T.astype(np.float32)
        _pointwise(image, mask, lambda pixels: pixels @ turned)


def as_pixel(colour: Colour, image: Image) -> NDArray[np.integer]:
    """Convert a colour to a pixel of the slice: its dtype, and one value where it is grey.

    Raises
    ------
    FossilError
        Where the slice cannot hold the colour.
    """
    top = int(np.iinfo(image.dtype).max)
    if not all(0 <= value <= top for value in colour):
        raise FossilError(
            "The slice cannot hold the colour",
            expected=f"values from 0 to {top}",
            found=", ".join(f"{value:g}" for value in colour),
        )
    if image.ndim == 3:
        return _rounded(np.array(colour), image.dtype)
    return _rounded(np.asarray(rgb2gray(np.array(colour, dtype=np.float64))), image.dtype)


def _fitting_crop(scene: SliceScene, name: str, image: Image) -> Image:
    """Read a crop and check that it is square, large enough, and of the same kind as the slice."""
    crop = scene.crops(name)
    kinds = [f"{'RGB' if a.ndim == 3 else 'grey'}, {a.dtype}" for a in (image, crop)]
    if kinds[0] != kinds[1]:
        raise FossilError(
            "The texture crop does not fit the slice", expected=kinds[0], found=kinds[1]
        )
    return check_crop(crop)


def _window_of(mask: Where) -> tuple[slice, slice]:
    """Bounding rows and columns of a mask that is not empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _rounded(values: NDArray[np.floating], dtype: np.dtype[np.integer]) -> NDArray[np.integer]:
    """Round to the nearest value that `dtype` holds."""
    return np.asarray(np.clip(np.rint(values), 0, np.iinfo(dtype).max), dtype=dtype)


def _lay(image: Image, mask: Where, filling: Image) -> None:
    """Copy what was made for the window of the mask to where the mask says so."""
    window = _window_of(mask)
    inside = mask[window]
    image[window][inside] = filling[inside]


def _pointwise(image: Image, mask: Where, change: Callable[[Floats], Floats]) -> None:
    """Change pixels one by one, some rows at a time."""
    for start in range(0, len(mask), _ROWS):
        rows = slice(start, start + _ROWS)
        inside = mask[rows]
        if inside.any():
            pixels = image[rows][inside].astype(np.float32)
            image[rows][inside] = _rounded(change(pixels), image.dtype)
