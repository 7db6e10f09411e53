"""Pixels of one slice: their type, their orientation, their area mean."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_fossiledit.errors import FossilError

#: A slice (y, x) or (y, x, 3), uint8 or uint16.
Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

_ALLOWED_DTYPES = ("uint8", "uint16")
#: Pixels that are reduced at a time.
_STRIP_PIXELS = 16 * 2**20


@dataclass(frozen=True)
class Format:
    """Size, colours and dtype that every slice of a stack has in common.

    Attributes
    ----------
    size
        Height and width (y, x) in pixels, after the camera's orientation was applied.
    rgb
        True where the slices have three colour channels.
    dtype
        ``"uint8"`` or ``"uint16"``.
    """

    size: tuple[int, int]
    rgb: bool
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a slice, (y, x) or (y, x, 3)."""
        return (*self.size, 3) if self.rgb else self.size

    def __str__(self) -> str:
        colour = "RGB" if self.rgb else "grey"
        return f"{self.size[1]} x {self.size[0]} pixels, {colour}, {self.dtype}"


@dataclass(frozen=True)
class Header:
    """Size, colours and resolution that an image file states.

    Attributes
    ----------
    format
        Size after orientation, colour and bit depth.
    alpha
        True where there is a transparency channel, which is left out.
    orientation
        EXIF/TIFF tag 274, 1 where the file has none.
    dpi
        Pixels per inch along x and y, None where the file states none.
    notes
        How the file is interpreted, and what is odd about it, for the user.
    """

    format: Format
    alpha: bool = False
    orientation: int = 1
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


def format_of(pixels: NDArray[Any]) -> Format:
    """Return the format of a decoded slice (y, x) or (y, x, 3)."""
    return Format((pixels.shape[0], pixels.shape[1]), pixels.ndim == 3, pixels.dtype.name)


def check_dtype(dtype: np.dtype[Any], name: str) -> str:
    """Return the name of a dtype, checked to be one that a stack may have.

    Raises
    ------
    FossilError
        Where the pixels are neither uint8 nor uint16.
    """
    if dtype.name not in _ALLOWED_DTYPES:
        raise FossilError(
            f"The pixels of {name} cannot be used",
            expected="8 or 16 bit unsigned integers",
            found=dtype.name,
            advice="Convert the images to 8 bit first.",
        )
    return dtype.name


def content_hash(pixels: Pixels) -> str:
    """Return a hash of the pixels of a slice, the same for every format of file."""
    whole: Any = np.ascontiguousarray(pixels)
    return hashlib.blake2b(whole, digest_size=16).hexdigest()


def oriented(pixels: NDArray[Any], orientation: int) -> Pixels:
    """Turn and mirror pixels (y, x[, 3]) by the EXIF/TIFF tag 274 (1 to 8; others do nothing)."""
    turned: NDArray[Any] = pixels.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else pixels
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)


def oriented_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return the size (y, x) of an image after `oriented`."""
    return (size[1], size[0]) if orientation in (5, 6, 7, 8) else size


def without_alpha(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the colour channels of an image (y, x, channels), grey (y, x) where there is one."""
    if pixels.ndim == 2:
        return pixels
    return pixels[..., 0] if pixels.shape[2] <= 2 else pixels[..., :3]


def area_mean(pixels: Pixels, factor: int) -> Pixels:
    """Compute the mean of each square of `factor` x `factor` pixels of a slice (y, x[, 3]).

    Squares cut by the foot or the right edge average what they have, so the result has
    ceil(size / factor) rows and columns.
    """
    if factor == 1:
        return pixels
    # Pillow copies what it reduces, with four bytes a pixel: strips keep that copy small.
    rows = max(1, _STRIP_PIXELS // (pixels.shape[1] * factor)) * factor
    starts = range(0, pixels.shape[0], rows)
    strips: list[NDArray[Any]] = [_reduced(pixels[y : y + rows], factor) for y in starts]
    return np.concatenate(strips)


def _reduced(pixels: Pixels, factor: int) -> Pixels:
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).reduce(factor))
    # Pillow averages 16 bit only as floating point, one channel at a time.
    planes = np.moveaxis(np.atleast_3d(pixels), 2, 0).astype(np.float32)
    means = [np.asarray(Image.fromarray(plane).reduce(factor)) for plane in planes]
    whole: NDArray[np.uint16] = np.rint(np.stack(means, axis=2)).astype(np.uint16)
    return whole.reshape(*whole.shape[:2], *pixels.shape[2:])
