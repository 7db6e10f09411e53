"""Read traced slices for training, and bring them to the working scale once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import Box
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.models.inference.looks import Look, look_of
from napari_fossiledit.models.inference.preprocessing import Image, Preprocessing, Rgb, value_range
from napari_fossiledit.stacks.window import ALONE, Window

BoolArray = NDArray[np.bool_]
Layer = NDArray[np.int32]

_IGNORED_SHARE = 0.5
"""Share of an instance outside the traced area above which it is ignored."""


@dataclass(frozen=True)
class TrainingSlice:
    """One slice with what was traced on it.

    Attributes
    ----------
    image
        (y, x) or (y, x, 3), or (y, x, C) with its neighbours; uint8 or uint16.
    instances
        Everything traced; other classes, cavities and unsure instances may be among them.
    ignore
        (y, x) True where nothing counts: outside the traced area or the region; None: nowhere.
    """

    image: Image
    instances: Sequence[Instance]
    ignore: BoolArray | None = None


class TrainingSet(Protocol):
    """Reads traced slices for training, one at a time."""

    @property
    def slices(self) -> tuple[int, ...]:
        """Slices to learn from."""

    @property
    def validation(self) -> tuple[int, ...]:
        """Slices that choose the best checkpoint; empty: a part of one of the others."""

    @property
    def pixel_size_um(self) -> float | None:
        """Pixel size of the stack in um, None where it is not known."""

    def read(self, z: int) -> TrainingSlice:
        """Read slice `z` with its instances."""


@dataclass(frozen=True)
class PreparedSlice:
    """A traced slice at working scale.

    Attributes
    ----------
    rgb
        (y, x, 3) uint8, or (y, x, C) with its neighbours.
    layers
        Images (y, x) of instance numbers from 1; overlapping instances lie in different layers.
    labels
        Number of the class (from 1) of each instance.
    areas
        Pixels of each instance at working scale.
    boxes
        (y0, x0, y1, x1) of each instance at working scale.
    ignore
        (y, x) True where nothing counts.
    window
        What the channels are.
    """

    rgb: Rgb
    layers: tuple[Layer, ...]
    labels: tuple[int, ...]
    areas: tuple[int, ...]
    boxes: tuple[Box, ...]
    ignore: BoolArray
    window: Window = ALONE

    @property
    def size_bytes(self) -> int:
        """Bytes of memory that it takes."""
        return self.rgb.nbytes + self.ignore.nbytes + sum(layer.nbytes for layer in self.layers)


def prepare(
    traced: TrainingSlice, settings: Preprocessing, classes: Sequence[str]
) -> PreparedSlice:
    """Return a traced slice at working scale.

    Unsure instances and those mostly outside the traced area become ignored area, except where
    an instance that counts lies on them, as in judging.
    """
    rgb = settings.prepare(traced.image)
    shape = (rgb.shape[0], rgb.shape[1])
    outside = np.zeros(shape, dtype=np.bool_)
    if traced.ignore is not None:
        picture = Pillow.fromarray(traced.ignore.astype(np.uint8))
        scaled = picture.resize((shape[1], shape[0]), Pillow.Resampling.NEAREST)
        outside = np.asarray(scaled).astype(np.bool_)
    unknown = np.zeros(shape, dtype=np.bool_)
    painter = _Layers(shape)
    labels: list[int] = []
    for instance in learnable(traced.instances, classes):
        window, pixels = _scaled_mask(instance, traced.image.shape[:2], shape)
        if not pixels.any():
            continue
        if instance.unsure or (pixels & outside[window]).sum() > _IGNORED_SHARE * pixels.sum():
            unknown[window] |= pixels
            continue
        labels.append(classes.index(instance.class_name) + 1)
        painter.add(window, pixels, len(labels))
    for layer in painter.layers:
        unknown &= layer == 0
    return PreparedSlice(
        rgb,
        tuple(painter.layers),
        tuple(labels),
        tuple(painter.areas),
        tuple(painter.boxes),
        outside | unknown,
        settings.window,
    )


def learnable(instances: Sequence[Instance], classes: Sequence[str]) -> list[Instance]:
    """Return bodies of the classes to learn, and unsure ones of any class: theirs is not known."""
    bodies = [i for i in instances if i.part is Part.BODY]
    return [i for i in bodies if i.unsure or i.class_name in classes]


def _scaled_mask(
    instance: Instance, own: tuple[int, ...], shape: tuple[int, int]
) -> tuple[tuple[slice, slice], BoolArray]:
    """Return the window of the slice at working scale that holds a mask, and the mask in it."""
    y0, x0, y1, x1 = instance.mask.box
    fy, fx = (s / o for s, o in zip(shape, own, strict=True))
    rows = slice(int(y0 * fy), min(int(np.ceil(y1 * fy)) + 1, shape[0]))
    columns = slice(int(x0 * fx), min(int(np.ceil(x1 * fx)) + 1, shape[1]))
    crop = instance.mask.crop()
    # The mask is looked up where the centre of each pixel at working scale falls.
    ys = ((np.arange(rows.start, rows.stop) + 0.5) / fy - y0).astype(np.intp)
    xs = ((np.arange(columns.start, columns.stop) + 0.5) / fx - x0).astype(np.intp)
    rows_in, columns_in = (
        (index >= 0) & (index < end) for index, end in zip((ys, xs), crop.shape, strict=True)
    )
    inside = np.outer(rows_in, columns_in)
    if crop.size == 0:
        return (rows, columns), inside & False
    picked = crop[ys.clip(0, crop.shape[0] - 1)][:, xs.clip(0, crop.shape[1] - 1)]
    return (rows, columns), picked & inside


class _Layers:
    """Paints instances into as few layers as keep them apart."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.layers: list[Layer] = [np.zeros(shape, dtype=np.int32)]
        self.areas: list[int] = []
        self.boxes: list[Box] = []

    def add(self, window: tuple[slice, slice], pixels: BoolArray, number: int) -> None:
        for layer in self.layers:
            if not layer[window][pixels].any():
                break
        else:
            layer = np.zeros(self.shape, dtype=np.int32)
            self.layers.append(layer)
        layer[window][pixels] = number
        self.areas.append(int(pixels.sum()))
        rows, columns = window
        self.boxes.append((rows.start, columns.start, rows.stop, columns.stop))


class PreparedSlices:
    """Prepared slices, the last used ones kept in memory up to a limit.

    Attributes
    ----------
    looks
        How each slice looks that was asked for so far.
    """

    def __init__(
        self,
        samples: TrainingSet,
        settings: Preprocessing,
        classes: Sequence[str],
        budget_bytes: int = 1 << 30,
    ) -> None:
        self._samples, self._settings, self._classes = samples, settings, classes
        self._budget = budget_bytes
        self._kept: OrderedDict[int, PreparedSlice] = OrderedDict()
        self.looks: dict[int, Look] = {}

    def __call__(self, z: int) -> PreparedSlice:
        """Return slice `z` at working scale."""
        if z not in self._kept:
            self._kept[z] = prepare(self._samples.read(z), self._settings, self._classes)
            if z not in self.looks:
                self.looks[z] = look_of(self._settings.window.centre(self._kept[z].rgb))
        self._kept.move_to_end(z)
        while len(self._kept) > 1 and sum(p.size_bytes for p in self._kept.values()) > self._budget:
            self._kept.popitem(last=False)
        return self._kept[z]


TARGET_DIAMETER = 64.0
"""Network pixels of the median fossil: the middle one of the anchors of `lite`."""


@dataclass(frozen=True)
class Survey:
    """Scale and range of values that suit the training slices.

    Attributes
    ----------
    scale
        Network pixels per stack pixel at which the median fossil has a diameter of 64 network
        pixels (that of the circle of equal area), within 0.05 to 2.
    low, high
        Values to show as 0 and 255.
    """

    scale: float
    low: float
    high: float


def survey(samples: TrainingSet, classes: Sequence[str]) -> Survey:
    """Compute scale and range of values from all training slices, reading one at a time.

    Raises
    ------
    FossilError
        Where no instance of the classes was traced on them.
    """
    areas: list[int] = []
    values: list[NDArray[np.integer[Any]]] = []
    for z in samples.slices:
        traced = samples.read(z)
        areas += [i.mask.area for i in learnable(traced.instances, classes) if not i.unsure]
        # Every 49th pixel is enough for percentiles, and all slices are held at once.
        values.append(traced.image[::7, ::7].copy())
    if not areas:
        raise FossilError(
            "Nothing was traced on the training slices",
            expected=f"instances of {', '.join(classes)}",
            found=f"none on {len(samples.slices)} slices",
            advice="Trace some instances, or choose other slices or classes.",
        )
    diameter = 2 * float(np.sqrt(np.median(areas) / np.pi))
    scale = float(np.clip(round(TARGET_DIAMETER / diameter, 3), 0.05, 2.0))
    return Survey(scale, *value_range(values))
