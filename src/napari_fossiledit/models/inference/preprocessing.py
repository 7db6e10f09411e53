"""Turn a slice into the network's input, by settings that are stored with the model.

Training, prediction, capture and edit all go through here, so that fossils always have the
size, the colours and the brightness the network was trained with.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydantic import BaseModel, ConfigDict, Field

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.network.mask_rcnn import STRIDE

Image = NDArray[np.integer[Any]]
Rgb = NDArray[np.uint8]

_MOST_RESIZED = 4.0
"""Factor between the pixel sizes of stack and model from which a wrong unit is likelier than a use:
such a slice asked for 73 GB."""


class Resize(StrEnum):
    """A fixed number of network pixels per um, or a fixed short edge (detectron2's models)."""

    SCALE = "scale"
    SHORT_EDGE = "short_edge"


class Preprocessing(BaseModel):
    """Settings that turn a slice in its own pixels into the network's input.

    Attributes
    ----------
    bgr
        Channels are turned round before normalising.
    mean, std
        Of 0-255 values, in the order of the network's channels.
    low, high
        Values of the training stack shown as 0 and 255; 0 and 255 themselves: it had 8 bit.
    shown
        Values of another stack shown in their place, see `values.shown_to`. It is no part of the
        model: neither stored nor hashed.
    scale
        Network pixels per pixel of the training stack.
    pixel_size_um
        Pixel size of the training stack in um; None where it was not known.
    tile, overlap
        Edge and least overlap of tiles in network pixels.
    short_edge, long_edge
        Target and limit of `Resize.SHORT_EDGE`, in network pixels; a target of 0: no resizing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bgr: bool = False
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    low: float = 0.0
    high: float = 255.0
    shown: tuple[float, float] | None = Field(None, exclude=True)
    resize: Resize = Resize.SCALE
    scale: float = Field(1.0, gt=0)
    pixel_size_um: float | None = None
    tile: int = Field(1024, ge=64)
    overlap: int = Field(192, ge=0)
    short_edge: int = 800
    long_edge: int = 1333

    def working_scale(self, shape: tuple[int, int], pixel_size_um: float | None = None) -> float:
        """Compute the network pixels per pixel of a slice of `shape` (y, x) and `pixel_size_um`.

        Raises
        ------
        FossilError
            Where the slice is so much finer or coarser than the training slices that a wrong unit
            is likelier than a use.
        """
        if self.resize is Resize.SHORT_EDGE:
            short, long = sorted(shape)
            return min(self.short_edge / short, self.long_edge / long) if self.short_edge else 1.0
        if pixel_size_um is None or self.pixel_size_um is None:
            return self.scale
        ratio = pixel_size_um / self.pixel_size_um
        if not 1 / _MOST_RESIZED <= ratio <= _MOST_RESIZED:
            low, high = self.pixel_size_um / _MOST_RESIZED, self.pixel_size_um * _MOST_RESIZED
            raise FossilError(
                "The pixels of the stack do not fit the model",
                expected=f"{low:.4g} to {high:.4g} um (it learned at {self.pixel_size_um:.4g})",
                found=f"{pixel_size_um:.4g} um",
                advice="Check the pixel size of the project, or train a model on its own slices.",
            )
        return self.scale * ratio

    def prepare(self, image: Image, pixel_size_um: float | None = None) -> Rgb:
        """Return a slice (y, x) or (y, x, 3) at working scale: (y', x', 3) uint8 RGB."""
        shape = (image.shape[0], image.shape[1])
        return resized(self.shown_rgb(image), self.working_shape(shape, pixel_size_um))

    def shown_rgb(self, image: Image) -> Rgb:
        """Return a slice (y, x) or (y, x, 3) in its own pixels as the model sees it: 8 bit RGB."""
        return as_rgb(image, *(self.shown or (self.low, self.high)))

    def working_shape(
        self, shape: tuple[int, int], pixel_size_um: float | None = None
    ) -> tuple[int, int]:
        """Compute height and width of a slice of `shape` (y, x) at working scale."""
        if self.resize is Resize.SHORT_EDGE and self.short_edge:
            return short_edge_shape(shape, self.short_edge, self.long_edge)
        scale = self.working_scale(shape, pixel_size_um)
        return (max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1))

    def normalise(self, rgb: Rgb) -> torch.Tensor:
        """Return (y, x, 3) uint8 RGB as (1, 3, Y, X) float32, padded to multiples of 32."""
        ordered = rgb[..., ::-1] if self.bgr else rgb
        values = torch.from_numpy(ordered.astype(np.float32)).permute(2, 0, 1)
        values = values.sub_(torch.tensor(self.mean)[:, None, None])
        values = values.div_(torch.tensor(self.std)[:, None, None])[None]
        down, right = (-n % STRIDE for n in rgb.shape[:2])
        padded = torch.nn.functional.pad(values, (0, right, 0, down))
        return padded.contiguous(memory_format=torch.channels_last)


def short_edge_shape(shape: tuple[int, int], short: int, long: int) -> tuple[int, int]:
    """Compute height and width with a given short edge, or with a long one of at most `long`.

    In detectron2's order of operations (``ResizeShortestEdge``): half a pixel is rounded up, and
    the limit of the long edge scales what the short edge gave.
    """
    scale = short / min(shape)
    sides = [float(short) if n == min(shape) else scale * n for n in shape]
    if max(sides) > long:
        scale = long / max(sides)
        sides = [n * scale for n in sides]
    return (max(int(sides[0] + 0.5), 1), max(int(sides[1] + 0.5), 1))


def as_rgb(image: Image, low: float, high: float) -> Rgb:
    """Return a grey or colour slice of 8 or 16 bit as 8 bit RGB, `low` as 0 and `high` as 255.

    Raises
    ------
    FossilError
        Where the array is neither (y, x) nor (y, x, 3) or no integer image.
    """
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise FossilError(
            "A slice has the wrong shape for a model",
            expected="(y, x) or (y, x, 3)",
            found=image.shape,
        )
    if image.dtype not in (np.uint8, np.uint16):
        raise FossilError(
            "A slice has the wrong type for a model", expected="uint8 or uint16", found=image.dtype
        )
    if image.dtype == np.uint8 and (low, high) == (0.0, 255.0):
        eight = image
    else:
        # A table over all values keeps the memory at one byte a pixel.
        values = np.arange(np.iinfo(image.dtype).max + 1, dtype=np.float64)
        table = (values - low) / max(high - low, 1e-9) * 255
        eight = np.rint(table.clip(0, 255)).astype(np.uint8)[image]
    return np.ascontiguousarray(eight if eight.ndim == 3 else np.stack([eight] * 3, axis=2))


def resized(rgb: Rgb, shape: tuple[int, int]) -> Rgb:
    """Resize (y, x, 3) to `shape` (y, x), antialiased."""
    if rgb.shape[:2] == shape:
        return rgb
    picture = Pillow.fromarray(rgb).resize((shape[1], shape[0]), Pillow.Resampling.BILINEAR)
    return np.array(picture)


def value_range(images: Sequence[Image]) -> tuple[float, float]:
    """Return the values to show as 0 and 255: all of 8 bit, the used range of 16 bit slices.

    The used range runs from the 0.1 to the 99.9 percentile over all given slices.
    """
    if all(image.dtype == np.uint8 for image in images):
        return (0.0, 255.0)
    values = np.concatenate([image.ravel() for image in images])
    low, high = (float(v) for v in np.percentile(values, (0.1, 99.9)))
    return (low, high) if high > low else (low, low + 1.0)
