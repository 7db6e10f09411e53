"""Draw instances again at native resolution, by a small network that looks at single pixels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from napari_fossiledit.geometry import Box
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.probability import MASK_CUT, Piece, ProbabilityMask, values
from napari_fossiledit.models.inference.preprocessing import Rgb
from napari_fossiledit.models.refine.features import COUNT, REACH, pixel_features
from napari_fossiledit.progress import Cancel, check, never

FORMAT: Final = 2
WIDTH = 64
"""Numbers of the hidden layers; 128 gained .008 IoU on the sample reef in twice the time."""
MARGIN = 0.15
"""Of the sides of a mask: how far outside of it a refiner may still draw."""
_LEAST_MARGIN = 6
MOST_PIXELS = 128 * 128
"""In a window: larger ones are looked at in fewer, larger pixels, which bounds time and memory."""
_UNSURE, _AROUND = 0.02, 3
"""Only pixels whose probability lies farther than this from 0 and from 1, and so many around them,
are learned from and drawn again: they are where borders are."""

Probability = NDArray[np.float32]


def pixel_network() -> nn.Sequential:
    """Build the network from the features of a pixel to the logit that it is of the instance."""
    return nn.Sequential(
        nn.Linear(COUNT, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, 1),
    )


class RefinerRecord(BaseModel):
    """Content of ``refiner.json``: all but the weights.

    Attributes
    ----------
    model_hash
        Of the model whose masks it refines.
    refiner_hash
        Of the weights and of what they depend on.
    classes
        Classes whose masks it draws again. None: no class gained.
    pixel_size_um
        Pixel size that it learned at; None where it was not known.
    scale
        Its pixels per pixel of the slices it learned from, at most 1.
    smallest
        Holes and islands that no square of so many pixels of its own fits into are not drawn.
    fitted
        How it came about, for people and reports: slices, folds, figures, per class why not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[2] = FORMAT
    model_hash: str
    refiner_hash: str = ""
    classes: tuple[str, ...]
    pixel_size_um: float | None = None
    scale: float = Field(1.0, gt=0, le=1)
    smallest: int = Field(9, ge=1)
    fitted: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Window:
    """The pixels around an instance.

    Attributes
    ----------
    box
        y0, x0, y1, x1 in the slice, half open.
    unsure
        (y, x) whether a pixel of the refiner is drawn again.
    features
        (pixels, COUNT) of those.
    drawn
        (y, x) whether the model drew it.
    """

    box: Box
    unsure: NDArray[np.bool_]
    features: Tensor
    drawn: NDArray[np.bool_]


@dataclass(frozen=True)
class Refiner:
    """Networks that draw the masks of a model again, one for each class that gained by it.

    Attributes
    ----------
    networks
        By class, see `pixel_network`.
    """

    record: RefinerRecord
    networks: Mapping[str, nn.Sequential]

    @cached_property
    def hash(self) -> str:
        """Hex digest of the weights and of what they depend on."""
        digest = hashlib.sha256(
            self.record.model_dump_json(exclude={"refiner_hash", "fitted"}).encode()
        )
        for name, tensor in sorted(self.weights().items()):
            digest.update(name.encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def weights(self) -> dict[str, Tensor]:
        """Return all weights, named by the number of the class and of the layer."""
        return {
            f"{number}.{name}": tensor.detach().cpu().contiguous()
            for number, class_name in enumerate(self.record.classes)
            for name, tensor in self.networks[class_name].state_dict().items()
        }

    def scale_at(self, pixel_size_um: float | None) -> float:
        """Return the refiner's pixels per pixel of a slice of a pixel size."""
        learned = self.record.pixel_size_um
        ratio = 1.0 if learned is None or pixel_size_um is None else pixel_size_um / learned
        return self.record.scale * ratio

    @torch.inference_mode()
    def refine(
        self,
        rgb: Rgb,
        instances: Iterable[Instance],
        *,
        pixel_size_um: float | None = None,
        cancel: Cancel = never,
    ) -> list[Instance]:
        """Draw instances again.

        Parameters
        ----------
        rgb
            The slice in its own pixels (y, x, 3), see `Preprocessing.shown_rgb`.
        instances
            As the model found them, with probabilities; those of other classes stay as they are.

        Returns
        -------
        list of Instance in their order, with new masks and probabilities. What would vanish stays
        as the model drew it: whether there is a fossil at all is not for the refiner to say.
        """
        scale = self.scale_at(pixel_size_um)
        threads = torch.get_num_threads()
        # A window is too little to share: two threads took ten times as long on a busy machine.
        torch.set_num_threads(1)
        refined = []
        try:
            for instance in instances:
                check(cancel, "Refining")
                refined.append(self._refined(rgb, instance, scale))
        finally:
            torch.set_num_threads(threads)
        return refined

    def _refined(self, rgb: Rgb, instance: Instance, scale: float) -> Instance:
        network = self.networks.get(instance.class_name)
        if network is None or instance.probability is None:
            return instance
        window = window_of(rgb, instance.probability, scale)
        y0, x0, y1, x1 = window.box
        drawn = np.where(window.drawn, np.uint8(255), np.uint8(0))
        logits = network(window.features)[:, 0]
        drawn[window.unsure] = (logits.sigmoid() * 255).round().to(torch.uint8).numpy()
        edge = math.ceil(math.sqrt(self.record.smallest))
        grid = cleaned(drawn, edge)
        if grid.shape != (y1 - y0, x1 - x0):
            grid = _enlarged(grid, edge, (y1 - y0, x1 - x0))
        mask = Mask.from_crop(grid >= 255 * MASK_CUT, (y0, x0), (rgb.shape[0], rgb.shape[1]))
        if not mask.area:
            return instance
        piece = Piece((float(x0), float(y0), float(x1), float(y1)), grid, exact=True)
        return replace(instance, mask=mask, probability=ProbabilityMask((piece,)))


def window_of(rgb: Rgb, probability: ProbabilityMask, scale: float) -> Window:
    """Return an instance's window of a slice (y, x, 3), seen at `scale`."""
    box, inside = pasted(probability, (rgb.shape[0], rgb.shape[1]))
    y0, x0, y1, x1 = box
    scale = min(scale, math.sqrt(MOST_PIXELS / inside.size))
    # What lies beyond the window is cut out too: surroundings must not end at its border.
    reach = math.ceil(REACH / scale)
    cut, beyond = [], []
    for low, high, length in ((y0, y1, rgb.shape[0]), (x0, x1, rgb.shape[1])):
        cut.append(slice(max(low - reach, 0), min(high + reach, length)))
        beyond.append((max(reach - low, 0), max(high + reach - length, 0)))
    around = np.pad(rgb[tuple(cut)], (*beyond, (0, 0)), mode="edge")
    if scale != 1:
        shape = (max(round(inside.shape[0] * scale), 1), max(round(inside.shape[1] * scale), 1))
        wide = (shape[0] + 2 * REACH, shape[1] + 2 * REACH)
        colours = torch.from_numpy(around).permute(2, 0, 1)
        around = _resized(colours, wide).permute(1, 2, 0).numpy()
        inside = _resized(torch.from_numpy(inside), shape).numpy()
    # So that also a border without anything between 0 and 1 is one.
    square = 2 * _AROUND + 1
    unsure = ndimage.maximum_filter(inside, square) > _UNSURE
    unsure &= ndimage.minimum_filter(inside, square) < 1 - _UNSURE
    features = pixel_features(np.ascontiguousarray(around), inside, unsure)
    return Window(box, unsure, features, inside > MASK_CUT)


def cleaned(grid: NDArray[np.uint8], edge: int) -> NDArray[np.uint8]:
    """Remove islands and holes of (y, x) that no square fits into, at every level at once.

    Of each level an opening by squares is kept, and what hangs together with it; then the same of
    what lies outside, which goes on beyond the border. Islands hang together by edges and corners
    of pixels, holes by edges.

    Parameters
    ----------
    edge
        Of the squares, in pixels.
    """
    rid = without_islands(grid, edge)
    return ~_reached(~rid, _squares(~rid, edge, 255), islands=False)


def without_islands(grid: NDArray[np.uint8], edge: int) -> NDArray[np.uint8]:
    """Remove islands as `cleaned` does; holes stay."""
    return _reached(grid, _squares(grid, edge, 0), islands=True)


def _enlarged(grid: NDArray[np.uint8], edge: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize what `cleaned` returned to `shape` (y, x), clean in the pixels it came in.

    Between two pixels a thin bridge may break: what breaks off holds none of the squares.
    """

    def wide(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(_resized(torch.from_numpy(values), shape).numpy())

    rid = _reached(wide(grid), wide(_squares(grid, edge, 0)), islands=True)
    return ~_reached(~rid, wide(_squares(~grid, edge, 255)), islands=False)


def _squares(grid: NDArray[np.uint8], edge: int, beyond: int) -> NDArray[np.uint8]:
    """Open each level of (y, x) by squares; `beyond` is the value outside of it."""
    squares = np.pad(grid, edge - 1, constant_values=beyond)
    return _extreme(_extreme(squares, edge, np.minimum), edge, np.maximum)


def _reached(
    grid: NDArray[np.uint8], squares: NDArray[np.uint8], *, islands: bool
) -> NDArray[np.uint8]:
    """Return of each level what hangs together with a square: islands, or what lies outside."""
    # Not by reconstruction of scikit-image, which sorts all pixels: several times as long.
    around = np.pad(np.minimum(squares, grid), 1, constant_values=0 if islands else 255)
    reached = around[1:-1, 1:-1]
    while True:
        if islands:
            grown = _extreme(around, 3, np.maximum)
        else:
            across = np.maximum(around[1:-1, :-2], around[1:-1, 2:])
            grown = np.maximum(around[:-2, 1:-1], around[2:, 1:-1])
            grown = np.maximum(np.maximum(grown, across), reached)
        np.minimum(grown, grid, out=grown)
        if np.array_equal(grown, reached):
            return grown
        reached[:] = grown


def _extreme(grid: NDArray[np.uint8], edge: int, of: np.ufunc) -> NDArray[np.uint8]:
    """Return the least or greatest value in each square inside of a grid."""
    for _ in range(2):
        lines = len(grid) - edge + 1
        grid = reduce(of, (grid[k : k + lines] for k in range(edge))).T
    return grid


def pasted(probability: ProbabilityMask, shape: tuple[int, int]) -> tuple[Box, Probability]:
    """Paste all pieces of an instance into its window of a slice of `shape` (y, x).

    Returns
    -------
    box
        y0, x0, y1, x1 of the window, half open: that of the pieces and a margin.
    values
        (y, x) the highest probability of any piece, 0 outside of all.
    """
    pieces = [values(piece, shape) for piece in probability.pieces]
    boxes = np.array([(*o, o[0] + v.shape[0], o[1] + v.shape[1]) for v, o in pieces])
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    margin = np.maximum((high - low) * MARGIN, _LEAST_MARGIN).astype(int)
    y0, x0 = (int(v) for v in np.maximum(low - margin, 0))
    y1, x1 = (int(v) for v in np.minimum(high + margin, shape))
    inside = np.zeros((y1 - y0, x1 - x0), dtype=np.float32)
    for value, (y, x) in pieces:
        part = inside[y - y0 : y - y0 + value.shape[0], x - x0 : x - x0 + value.shape[1]]
        np.maximum(part, value, out=part)
    return (y0, x0, y1, x1), inside


def _resized(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    """Resize (y, x) or (C, y, x) to `shape` (y, x), antialiased."""
    if maps.shape[-2:] == shape:
        return maps
    stacked = maps.reshape(1, -1, *maps.shape[-2:])
    resized = F.interpolate(stacked, shape, mode="bilinear", antialias=True)
    return resized.reshape(*maps.shape[:-2], *shape)


def exclusive(
    instances: Sequence[Instance], shape: tuple[int, int], smallest: int = 1
) -> list[Instance]:
    """Give each pixel of a slice of `shape` (y, x) to one instance of a class at the most.

    Of those that draw it, the one for which score times probability is highest keeps it, so that a
    doubtful second detection of a fossil takes nothing from the first; where none does, the same of
    all. Instances left without a pixel stay out; those without probabilities stay as they are.

    Parameters
    ----------
    smallest
        What is left of an instance loses islands that no square of so many pixels fits into.
    """
    edge = math.ceil(math.sqrt(smallest))
    kept = [i for i in instances if i.probability is None]
    for name in sorted({i.class_name for i in instances}):
        ours = [i for i in instances if i.class_name == name and i.probability is not None]
        best = np.zeros(shape, dtype=np.float32)
        owner = np.full(shape, -1, dtype=np.int32)
        for number, instance in enumerate(ours):
            (y0, x0, y1, x1), value = pasted(_known(instance), shape)
            place = np.s_[y0:y1, x0:x1]
            # Whoever draws a pixel goes before all whose probability is too low for that.
            claim = np.where(value > 0, instance.score * value + (value >= MASK_CUT), 0)
            wins = claim > best[place]
            best[place][wins] = claim[wins]
            owner[place][wins] = number
        for number, instance in enumerate(ours):
            (y0, x0, y1, x1), value = pasted(_known(instance), shape)
            won = value * (owner[y0:y1, x0:x1] == number)
            grid = without_islands(np.rint(won * 255).astype(np.uint8), edge)
            piece = Piece((float(x0), float(y0), float(x1), float(y1)), grid, exact=True)
            probability = ProbabilityMask((piece,))
            mask = probability.cut(MASK_CUT, shape)
            if mask.area:
                kept.append(replace(instance, mask=mask, probability=probability))
    return sorted(kept, key=lambda i: -i.score)


def _known(instance: Instance) -> ProbabilityMask:
    return instance.probability or ProbabilityMask(())
