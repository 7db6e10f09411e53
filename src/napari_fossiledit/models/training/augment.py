"""Cut random training crops: place, turn, mirror, size and light of a piece of a slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy import ndimage

from napari_fossiledit.models.inference.preprocessing import Preprocessing, Rgb, as_pictures
from napari_fossiledit.models.network.heads import Target
from napari_fossiledit.models.training.sampling import BoolArray, Layer, PreparedSlice

_LEAST_SHARE = 0.2
_LEAST_PIXELS = 12
"""Of an instance that a crop must show for it to be learned."""
_THINNED = 8
"""Places to cut are looked up on every eighth pixel along each axis."""
_GREY = (127, 127, 127)
"""Colour beyond the slice, where everything is ignored: about 0 to a network with the default
preprocessing."""


@dataclass(frozen=True)
class Variation:
    """Ranges in which training crops vary.

    Attributes
    ----------
    free_turns
        Share of crops that are turned by any angle instead of a multiple of 90 degrees.
    zoom
        Largest factor by which a crop is enlarged or shrunk.
    light
        Largest relative change of contrast, brightness and gamma.
    on_instance
        Share of crops centred near an instance instead of anywhere.
    z_flip
        Share of crops whose window of slices runs the other way.
    """

    free_turns: float = 0.5
    zoom: float = 1.25
    light: float = 0.15
    on_instance: float = 0.5
    z_flip: float = 0.0


@dataclass(frozen=True)
class Cut:
    """One crop at working scale: channels, an image of instance numbers per layer, ignored area."""

    rgb: Rgb
    layers: tuple[Layer, ...]
    ignore: BoolArray
    zoom: float


def random_cut(
    source: PreparedSlice, edge: int, variation: Variation, random: np.random.Generator
) -> Cut:
    """Cut a random square of `edge` network pixels; what lies beyond the slice is ignored."""
    zoom = float(variation.zoom ** random.uniform(-1, 1))
    free = random.random() < variation.free_turns
    angle = random.uniform(0, 2 * np.pi) if free else np.pi / 2 * random.integers(4)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    # Sine and cosine of a right angle are not exactly 0 and 1.
    matrix = (turn if free else np.rint(turn)) / zoom
    if random.random() < 0.5:
        matrix = matrix @ np.diag([-1.0, 1.0])
    centre = _centre(source, edge / zoom, variation, random)
    offset = centre - matrix @ np.array([edge / 2, edge / 2])
    place = _Place(edge, (*matrix[0], offset[0], *matrix[1], offset[1]))
    rgb = _lit(place.colours(source.rgb), variation.light, source.window.colours, random)
    # Without it nothing is drawn by chance, so that other trainings stay what they were.
    if variation.z_flip and random.random() < variation.z_flip:
        rgb = rgb[..., source.window.mirrored]
    layers = tuple(place.numbers(layer) for layer in source.layers)
    return Cut(rgb, layers, place.ignored(source.ignore), zoom)


@dataclass(frozen=True)
class _Place:
    """Affine map from a crop to the slice, in Pillow's order: x before y."""

    edge: int
    matrix: tuple[float, ...]

    def colours(self, rgb: Rgb) -> Rgb:
        def moved(picture: Pillow.Image) -> Pillow.Image:
            fill = _GREY if picture.mode == "RGB" else _GREY[0]
            return self._moved(picture, Pillow.Resampling.BILINEAR, fill)

        return as_pictures(rgb, moved)

    def numbers(self, layer: Layer) -> Layer:
        moved = self._moved(Pillow.fromarray(layer), Pillow.Resampling.NEAREST, 0)
        return np.asarray(moved, dtype=np.int32)

    def ignored(self, ignore: BoolArray) -> BoolArray:
        picture = Pillow.fromarray(ignore.astype(np.uint8))
        return np.asarray(self._moved(picture, Pillow.Resampling.NEAREST, 1)).astype(np.bool_)

    def _moved(
        self, picture: Pillow.Image, how: Pillow.Resampling, fill: int | tuple[int, ...]
    ) -> Pillow.Image:
        size = (self.edge, self.edge)
        affine = Pillow.Transform.AFFINE
        return picture.transform(size, affine, self.matrix, resample=how, fillcolor=fill)


def _centre(
    source: PreparedSlice, reach: float, variation: Variation, random: np.random.Generator
) -> NDArray[np.float64]:
    """Choose the centre x, y of a crop that covers about `reach` pixels of the slice."""
    if source.labels and random.random() < variation.on_instance:
        y0, x0, y1, x1 = source.boxes[int(random.integers(len(source.labels)))]
        place = [v + random.uniform(-0.4, 0.4) * reach for v in ((x0 + x1) / 2, (y0 + y1) / 2)]
    else:
        counts = ~source.ignore[::_THINNED, ::_THINNED]
        candidates = np.flatnonzero(counts if counts.any() else ~counts)
        row, column = divmod(int(random.choice(candidates)), counts.shape[1])
        place = [_THINNED * (v + random.random()) for v in (column, row)]
    height, width = source.ignore.shape
    # A crop stays inside the slice where it fits.
    halves = [min(reach, length) / 2 for length in (width, height)]
    return np.array(
        [
            np.clip(v, half, length - half)
            for v, half, length in zip(place, halves, (width, height), strict=True)
        ]
    )


def _lit(rgb: Rgb, amount: float, colours: int, random: np.random.Generator) -> Rgb:
    """Vary gamma, contrast, brightness and a little of the colour by a table a colour.

    All slices of a window (y, x, slices * colours) vary alike.
    """
    gamma, contrast = np.exp(random.uniform(-amount, amount, 2))
    shift = random.uniform(-amount, amount) / 2
    gains = np.exp(random.uniform(-amount, amount, 3) / 4)
    values = np.linspace(0, 1, 256) ** gamma
    table = ((values - 0.5) * contrast + 0.5 + shift)[None] * gains[:, None]
    eight = np.rint(table.clip(0, 1) * 255).astype(np.uint8)
    return np.stack([eight[c % colours][rgb[..., c]] for c in range(rgb.shape[2])], axis=2)


def target_of(cut: Cut, source: PreparedSlice) -> Target:
    """Return what the network learns from a crop.

    Instances of which the crop shows too little to tell what they are become ignored area; others
    that the border cuts keep their visible part.

    Returns
    -------
    dict with boxes (k, 4) as x0 y0 x1 y1, labels (k,), masks (k, edge, edge) uint8 and ignore
    (edge, edge) bool
    """
    ignore = cut.ignore.copy()
    boxes, labels, masks = [], [], []
    for layer in cut.layers:
        for number, window in enumerate(ndimage.find_objects(layer), 1):
            if window is None:
                continue
            mask = layer == number
            whole = source.areas[number - 1] * cut.zoom**2
            if mask.sum() < max(_LEAST_PIXELS, _LEAST_SHARE * whole):
                ignore |= mask
                continue
            rows, columns = window
            boxes.append([columns.start, rows.start, columns.stop, rows.stop])
            labels.append(source.labels[number - 1])
            masks.append(mask)
    stacked = np.array(masks, dtype=np.uint8).reshape(-1, *cut.ignore.shape)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": torch.from_numpy(stacked),
        "ignore": torch.from_numpy(ignore),
    }


def random_batch(
    sources: list[PreparedSlice],
    edge: int,
    settings: Preprocessing,
    variation: Variation,
    random: np.random.Generator,
) -> tuple[torch.Tensor, list[Target]]:
    """Cut one crop from each source: images (n, C, edge, edge) and their targets."""
    cuts = [random_cut(source, edge, variation, random) for source in sources]
    images = torch.cat([settings.normalise(cut.rgb) for cut in cuts])
    return images, [target_of(c, s) for c, s in zip(cuts, sources, strict=True)]
