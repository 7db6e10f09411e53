"""Draw instances again at native resolution, by a small network that looks at single pixels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from skimage.morphology import area_closing, area_opening
from torch import Tensor, nn
from torch.nn import functional as F

from napari_fossiledit.geometry import Box
from napari_fossiledit.masks import Instance
from napari_fossiledit.masks.probability import MASK_CUT, Piece, ProbabilityMask, values
from napari_fossiledit.models.inference.preprocessing import Rgb
from napari_fossiledit.models.refine.features import COUNT, REACH, pixel_features
from napari_fossiledit.progress import Cancel, check, never

FORMAT: Final = 1
WIDTH = 64
"""Numbers of the hidden layers; 128 gained .008 IoU on the sample reef in twice the time."""
MARGIN = 0.15
"""Of the sides of a mask: how far outside of it a refiner may still draw."""
_LEAST_MARGIN = 6
MOST_PIXELS = 512 * 512
"""In a window: larger ones are looked at in fewer, larger pixels, which bounds time and memory."""
_AT_ONCE = 1 << 15
"""Pixels in one pass of the network; their hidden numbers fit a processor's cache."""

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
        Holes and islands of fewer pixels of its own are not drawn.
    fitted
        How it came about, for people and reports: slices, folds, figures, per class why not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = FORMAT
    model_hash: str
    refiner_hash: str = ""
    classes: tuple[str, ...]
    pixel_size_um: float | None = None
    scale: float = Field(1.0, gt=0, le=1)
    smallest: int = Field(12, ge=1)
    fitted: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Window:
    """The pixels around an instance.

    Attributes
    ----------
    box
        y0, x0, y1, x1 in the slice, half open.
    features
        (pixels, COUNT) of the pixels of the refiner.
    shape
        Rows and columns of these pixels.
    """

    box: Box
    features: Tensor
    shape: tuple[int, int]


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
        refined = []
        for instance in instances:
            check(cancel, "Refining")
            network = self.networks.get(instance.class_name)
            if network is None or instance.probability is None:
                refined.append(instance)
                continue
            window = window_of(rgb, instance.probability, scale)
            logits = torch.cat([network(part) for part in window.features.split(_AT_ONCE)])
            y0, x0, y1, x1 = window.box
            drawn = _resized(logits.sigmoid().view(window.shape), (y1 - y0, x1 - x0))
            # At every cut at once: openings and closings by area go level by level.
            grid = (drawn * 255).round().to(torch.uint8).numpy()
            least = max(round(self.record.smallest * grid.size / math.prod(window.shape)), 1)
            grid = area_closing(area_opening(grid, least, connectivity=2), least)
            piece = Piece((float(x0), float(y0), float(x1), float(y1)), grid, exact=True)
            probability = ProbabilityMask((piece,))
            mask = probability.cut(MASK_CUT, (rgb.shape[0], rgb.shape[1]))
            refined.append(
                replace(instance, mask=mask, probability=probability) if mask.area else instance
            )
        return refined


def window_of(rgb: Rgb, probability: ProbabilityMask, scale: float) -> Window:
    """Return an instance's window of a slice (y, x, 3), seen at `scale`."""
    box, inside = pasted(probability, (rgb.shape[0], rgb.shape[1]))
    y0, x0, y1, x1 = box
    scale = min(scale, math.sqrt(MOST_PIXELS / inside.size))
    # What lies beyond the window is cut out too: surroundings must not end at its border.
    reach = math.ceil(REACH / scale)
    rows, columns = (
        np.arange(low - reach, high + reach).clip(0, length - 1)
        for low, high, length in ((y0, y1, rgb.shape[0]), (x0, x1, rgb.shape[1]))
    )
    around = rgb[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    around = around[rows - rows[0]][:, columns - columns[0]]
    if scale != 1:
        shape = (max(round(inside.shape[0] * scale), 1), max(round(inside.shape[1] * scale), 1))
        wide = (shape[0] + 2 * REACH, shape[1] + 2 * REACH)
        colours = torch.from_numpy(around).permute(2, 0, 1).float()
        around = _resized(colours, wide).round().to(torch.uint8).permute(1, 2, 0).numpy()
        inside = _resized(torch.from_numpy(inside), shape).numpy()
    features = pixel_features(np.ascontiguousarray(around), inside)
    return Window(box, features, (inside.shape[0], inside.shape[1]))


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


def exclusive(instances: Sequence[Instance], shape: tuple[int, int]) -> list[Instance]:
    """Give each pixel of a slice of `shape` (y, x) to one instance of a class at the most.

    The one for which score times probability is highest keeps it, so that a doubtful second
    detection of a fossil takes nothing from the first. Instances left without a pixel stay out;
    those without probabilities stay as they are.
    """
    kept = [i for i in instances if i.probability is None]
    for name in sorted({i.class_name for i in instances}):
        ours = [i for i in instances if i.class_name == name and i.probability is not None]
        best = np.zeros(shape, dtype=np.float32)
        owner = np.full(shape, -1, dtype=np.int32)
        for number, instance in enumerate(ours):
            (y0, x0, y1, x1), value = pasted(_known(instance), shape)
            place = np.s_[y0:y1, x0:x1]
            claim = np.where(value > 0, instance.score * value, 0)
            wins = claim > best[place]
            best[place][wins] = claim[wins]
            owner[place][wins] = number
        for number, instance in enumerate(ours):
            (y0, x0, y1, x1), value = pasted(_known(instance), shape)
            won = value * (owner[y0:y1, x0:x1] == number)
            grid = np.rint(won * 255).astype(np.uint8)
            piece = Piece((float(x0), float(y0), float(x1), float(y1)), grid, exact=True)
            probability = ProbabilityMask((piece,))
            mask = probability.cut(MASK_CUT, shape)
            if mask.area:
                kept.append(replace(instance, mask=mask, probability=probability))
    return sorted(kept, key=lambda i: -i.score)


def _known(instance: Instance) -> ProbabilityMask:
    return instance.probability or ProbabilityMask(())
