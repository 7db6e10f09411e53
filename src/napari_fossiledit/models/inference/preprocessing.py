"""Turn a slice into the network's input, by settings that are stored with the model.

Training, prediction, capture and edit all go through here, so that fossils always have the
size, the colours and the brightness the network was trained with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.network.mask_rcnn import STRIDE
from napari_fossiledit.params.segment import InputMode
from napari_fossiledit.stacks.window import Window

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
        Of 0-255 values of the three colours, in the order of the network's channels. Grey channels
        have the mean of these, all alike: what shows the same values is the same input.
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
    input, reach
        What is seen with a slice, see `Window`.
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
    input: InputMode = InputMode.RGB
    reach: int = Field(0, ge=0)

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Models of single slices are written as they always were, so that older ones keep their
        # hash, under which their predictions are stored.
        written: dict[str, Any] = write(self)
        later = ("input", "reach") if self.input is InputMode.RGB else ()
        return {name: value for name, value in written.items() if name not in later}

    @property
    def window(self) -> Window:
        """Slices and channels that the network sees."""
        return Window.of(self.input, self.reach)

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
        """Return what is seen of a slice at working scale: (y', x', C) uint8.

        Parameters
        ----------
        image
            What `Window.read` gives: a slice (y, x) or (y, x, 3), or (y, x, C) with neighbours.
        """
        shape, window = (image.shape[0], image.shape[1]), self.window
        if self.input is InputMode.RGB:
            planes = self.shown_rgb(image)
        elif image.ndim == 3 and image.shape[2] == window.channels:
            planes = eight_bit(image, *(self.shown or (self.low, self.high)))
        else:
            raise FossilError(
                "A slice has the wrong shape for a model that sees its neighbours, too",
                expected=f"(y, x, {window.channels}): {window.slices} slices",
                found=image.shape,
            )
        return resized(planes, self.working_shape(shape, pixel_size_um))

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
        """Return (y, x, C) uint8 as (1, C, Y, X) float32, padded to multiples of 32."""
        window, ordered = self.window, rgb
        if self.bgr and window.colours == 3:
            ordered = rgb.reshape(*rgb.shape[:2], -1, 3)[..., ::-1].reshape(rgb.shape)
        mean, std = (
            torch.tensor((v if window.colours == 3 else (sum(v) / 3,)) * window.slices)
            for v in (self.mean, self.std)
        )
        values = torch.from_numpy(ordered.astype(np.float32)).permute(2, 0, 1)
        values = values.sub_(mean[:, None, None])
        values = values.div_(std[:, None, None])[None]
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
    eight = eight_bit(image, low, high)
    return np.ascontiguousarray(eight if eight.ndim == 3 else np.stack([eight] * 3, axis=2))


def eight_bit(image: Image, low: float, high: float) -> Rgb:
    """Return values of 8 or 16 bit as 8 bit, `low` as 0 and `high` as 255.

    Raises
    ------
    FossilError
        Where they are others.
    """
    if image.dtype not in (np.uint8, np.uint16):
        raise FossilError(
            "A slice has the wrong type for a model", expected="uint8 or uint16", found=image.dtype
        )
    if image.dtype == np.uint8 and (low, high) == (0.0, 255.0):
        return image.astype(np.uint8, copy=False)
    # A table over all values keeps the memory at one byte a pixel.
    values = np.arange(np.iinfo(image.dtype).max + 1, dtype=np.float64)
    table = (values - low) / max(high - low, 1e-9) * 255
    eight: Rgb = np.rint(table.clip(0, 255)).astype(np.uint8)[image]
    return eight


def resized(planes: Rgb, shape: tuple[int, int]) -> Rgb:
    """Resize (y, x, C) to `shape` (y, x), antialiased."""
    if planes.shape[:2] == shape:
        return planes
    size, how = (shape[1], shape[0]), Pillow.Resampling.BILINEAR
    return as_pictures(planes, lambda picture: picture.resize(size, how))


def as_pictures(planes: Rgb, change: Callable[[Pillow.Image], Pillow.Image]) -> Rgb:
    """Change (y, x, C) as pictures, which have three channels or one."""
    channels = planes.shape[2]
    if channels % 3:
        parts = [planes[..., n] for n in range(channels)]
    else:
        parts = [planes[..., n : n + 3] for n in range(0, channels, 3)]
    changed = [np.array(change(Pillow.fromarray(part))) for part in parts]
    return changed[0] if channels == 3 else np.dstack(changed)


def value_range(images: Sequence[Image]) -> tuple[float, float]:
    """Return the values to show as 0 and 255: all of 8 bit, the used range of 16 bit slices.

    The used range runs from the 0.1 to the 99.9 percentile over all given slices.
    """
    if all(image.dtype == np.uint8 for image in images):
        return (0.0, 255.0)
    values = np.concatenate([image.ravel() for image in images])
    low, high = (float(v) for v in np.percentile(values, (0.1, 99.9)))
    return (low, high) if high > low else (low, low + 1.0)
