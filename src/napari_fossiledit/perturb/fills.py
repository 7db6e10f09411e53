"""What a region is filled with. Each fill paints into the slice in place, where a mask says so."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from skimage.color import rgb2gray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.perturb.mud import measure_mud
from napari_fossiledit.perturb.quilt import quilt
from napari_fossiledit.perturb.real_mud import mud_patches
from napari_fossiledit.perturb.scene import Colour, Floats, Image, Scene, Where
from napari_fossiledit.perturb.texture import check_crop, seamless, tile

Rng: TypeAlias = np.random.Generator
Window: TypeAlias = tuple[slice, slice]

_ROWS = 256
_REACH = 4.0


class Fill(ABC):
    """Something to fill a region with; ``str`` gives the text it is read from."""

    @abstractmethod
    def paint(self, image: Image, mask: Where, scene: Scene, rng: Rng) -> None:
        """Paint into `image` (y, x[, 3]) where `mask` (y, x) is True.

        Parameters
        ----------
        image
            The slice as the steps before left it; changed in place.
        scene
            The slice as it was photographed, and what is known of it.

        Raises
        ------
        FossilError
            Where the fill does not suit the slice.
        """


@dataclass(frozen=True)
class Mud(Fill):
    """The mud colour of the slice."""

    def __str__(self) -> str:
        return "mud"

    def paint(self, image: Image, mask: Where, scene: Scene, rng: Rng) -> None:
        """See `Fill`."""
        mud = measure_mud(scene.image, scene.instances) if scene.mud is None else scene.mud
        image[mask] = as_pixel(mud, image)


@dataclass(frozen=True)
class Solid(Fill):
    """One colour, in the slice's own values."""

    colour: Colour

    def __str__(self) -> str:
        return "colour " + ",".join(f"{value:.10g}" for value in self.colour)

    def paint(self, image: Image, mask: Where, scene: Scene, rng: Rng) -> None:
        """See `Fill`."""
        image[mask] = as_pixel(self.colour, image)


@dataclass(frozen=True)
class Texture(Fill):
    """A square crop laid side by side; an empty place means the texture of the scene."""

    crop: str = ""

    def __str__(self) -> str:
        return f"texture {self.crop}".rstrip()

    def paint(self, image: Image, mask: Where, scene: Scene, rng: Rng) -> None:
        """See `Fill`."""
        window = window_of(mask)
        origin = (window[0].start, window[1].start)
        crop = fitting(scene.crops(self.crop), image)
        _lay(image, mask, window, tile(crop, mask[window].shape, origin))


@dataclass(frozen=True)
class Seamless(Fill):
    """A square crop stitched so that no seam shows."""

    crop: str = ""

    def __str__(self) -> str:
        return f"seamless {self.crop}".rstrip()

    def paint(self, image: Image, mask: Where, scene: Scene, rng: Rng) -> None:
        """See `Fill`."""
        window = window_of(mask)
        crop = fitting(scene.crops(self.crop), image)
        _lay(image, mask, window, seamless(crop, mask[window].shape, rng))


@dataclass(frozen=True)
class RealMud(Fill):
    """Mud stitched from the slice's own mud, or from a crop."""

    crop: str = ""

    def __str__(self) -> str:
        return f"real-mud {self.crop}".rstrip()

    def paint(self, image: Image, mask: Where, scene: Scene, rng: Rng) -> None:
        """See `Fill`."""
        window = window_of(mask)
        if self.crop:
            made = seamless(fitting(scene.crops(self.crop), image), mask[window].shape, rng)
        else:
            made = quilt(mud_patches(scene, rng), mask[window].shape, rng)
        _lay(image, mask, window, made)


@dataclass(frozen=True)
class Blur(Fill):
    """A Gaussian blur of what is there, `sigma` in pixels."""

    sigma: float

    def __str__(self) -> str:
        return f"blur {self.sigma:.10g}"

    def paint(self, image: Image, mask: Where, scene: Scene, rng: Rng) -> None:
        """See `Fill`."""
        window = window_of(mask)
        around = _widened(window, round(_REACH * self.sigma) + 1, mask.shape)
        inner = tuple(
            slice(w.start - a.start, w.stop - a.start) for w, a in zip(window, around, strict=True)
        )
        inside = mask[window]
        for plane in planes_of(image):
            source = plane[around].astype(np.float32)
            blurred = ndimage.gaussian_filter(source, self.sigma, truncate=_REACH)[inner]
            plane[window][inside] = rounded(blurred[inside], image.dtype)


@dataclass(frozen=True)
class Noise(Fill):
    """Gaussian noise on what is there; `deviation` in levels of an 8-bit slice."""

    deviation: float

    def __str__(self) -> str:
        return f"noise {self.deviation:.10g}"

    def paint(self, image: Image, mask: Where, scene: Scene, rng: Rng) -> None:
        """See `Fill`."""
        deviation = self.deviation * np.iinfo(image.dtype).max / 255

        def noisy(pixels: Floats) -> Floats:
            return pixels + deviation * rng.standard_normal(pixels.shape, dtype=np.float32)

        _pointwise(image, mask, noisy)


@dataclass(frozen=True)
class Brightness(Fill):
    """A gain of what is there in decibels: 6 doubles every value, -6 halves it."""

    decibels: float

    def __str__(self) -> str:
        return f"brightness {self.decibels:.10g}"

    def paint(self, image: Image, mask: Where, scene: Scene, rng: Rng) -> None:
        """See `Fill`."""
        gain = np.float32(10 ** (self.decibels / 20))
        _pointwise(image, mask, lambda pixels: pixels * gain)


@dataclass(frozen=True)
class Hue(Fill):
    """A turn of the colours about the grey axis in degrees: 120 makes red green."""

    degrees: float

    def __str__(self) -> str:
        return f"hue {self.degrees:.10g}"

    def paint(self, image: Image, mask: Where, scene: Scene, rng: Rng) -> None:
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


# ---------------------------------------------------------------------- helpers


def as_pixel(colour: Colour, image: Image) -> NDArray[np.integer]:
    """Make a colour a pixel of the slice: its dtype, and one value where the slice is grey.

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
        return rounded(np.array(colour), image.dtype)
    return rounded(np.asarray(rgb2gray(np.array(colour, dtype=np.float64))), image.dtype)


def fitting(crop: Image, image: Image) -> Image:
    """Refuse a crop that is too small, not square, or of another kind than the slice."""
    kinds = [f"{'RGB' if a.ndim == 3 else 'grey'}, {a.dtype}" for a in (image, crop)]
    if kinds[0] != kinds[1]:
        raise FossilError(
            "The texture crop does not fit the slice", expected=kinds[0], found=kinds[1]
        )
    return check_crop(crop)


def window_of(mask: Where) -> Window:
    """Bounding rows and columns of a mask that is not empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def planes_of(image: Image) -> list[Image]:
    """Take the channels of a slice apart: views (y, x)."""
    return [image] if image.ndim == 2 else [image[..., c] for c in range(image.shape[2])]


def rounded(values: NDArray[np.floating], dtype: np.dtype[np.integer]) -> NDArray[np.integer]:
    """Round to the nearest value that `dtype` holds."""
    return np.asarray(np.clip(np.rint(values), 0, np.iinfo(dtype).max), dtype=dtype)


def _lay(image: Image, mask: Where, window: Window, made: Image) -> None:
    """Copy a made window where the mask says so."""
    inside = mask[window]
    image[window][inside] = made[inside]


def _widened(window: Window, by: int, shape: tuple[int, ...]) -> Window:
    rows, columns = (
        slice(max(side.start - by, 0), min(side.stop + by, end))
        for side, end in zip(window, shape, strict=True)
    )
    return rows, columns


def _pointwise(image: Image, mask: Where, change: Callable[[Floats], Floats]) -> None:
    """Change pixels one by one, some rows at a time so that memory stays small."""
    for rows in _blocks(mask):
        inside = mask[rows]
        if inside.any():
            pixels = image[rows][inside].astype(np.float32)
            image[rows][inside] = rounded(change(pixels), image.dtype)


def _blocks(mask: Where) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, len(mask), _ROWS))
