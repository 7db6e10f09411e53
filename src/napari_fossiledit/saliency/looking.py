"""Saliency maps of what a model says of instances of one slice.

Boxes and suppression are held fixed: the boxes of the prediction go to the heads, and what they say
is differentiated down to the pixels at the network's own scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance
from napari_fossiledit.models.inference.preprocessing import Image
from napari_fossiledit.models.inference.protocol import Held, Segmenter
from napari_fossiledit.params.saliency import LookParams, Method, Said
from napari_fossiledit.progress import QUIET, Clock, Job
from napari_fossiledit.saliency.methods import (
    Number,
    Step,
    grad_cam,
    gradient,
    integrated,
    smoothgrad,
)


@dataclass(frozen=True)
class Saliency:
    """What a model looks at in one slice.

    Attributes
    ----------
    values
        (C, y, x) float32 at working scale, channels as `Window` orders them and colours as red,
        green, blue; of Grad-CAM (1, y, x). 0 where no instance lies in the tile.
    value, without
        The number that is explained, and what it is on the baseline: the colour that normalisation
        turns into zero.
    seen
        Share of the slice that was looked at: the tiles that hold instances.
    """

    values: NDArray[np.float32]
    value: float
    without: float
    seen: float


def look(
    segmenter: Segmenter,
    image: Image,
    instances: Sequence[Instance],
    params: LookParams,
    *,
    pixel_size_um: float | None = None,
    job: Job = QUIET,
) -> Saliency:
    """Compute what a model looks at when it says something of instances, summed over them.

    Parameters
    ----------
    image
        Slice as `Segmenter.predict` takes it.
    instances
        Predictions of the slice, or instances that a person drew.

    Raises
    ------
    FossilError
        Where there is no instance, one is of a class that the model does not know, the gradient is
        not finite, or the user stops.
    """
    if not instances:
        raise FossilError(
            "There is nothing to explain",
            expected="at least one instance",
            found="none",
            advice="Choose another slice or class, or a lower score.",
        )
    settings = segmenter.preprocessing
    tiles = segmenter.held(image, instances, pixel_size_um=pixel_size_um, tile=params.tile)
    shape = settings.working_shape((image.shape[0], image.shape[1]), pixel_size_um)
    channels = 1 if params.method is Method.GRAD_CAM else settings.window.channels
    values = np.zeros((channels, *shape), np.float32)
    covered = np.zeros(shape, np.bool_)
    value = without = 0.0
    clock = job.clock(len(tiles) * gradients(params), "Looking at what the model looks at")
    step = _steps(clock, job)
    for tile in tiles:
        number = _number(tile, params.of)
        with torch.no_grad():
            value += float(number(tile.pixels))
            without += float(number(torch.zeros_like(tile.pixels)))
        found = _attributed(segmenter, tile, number, params, step)
        (y0, x0, y1, x1) = tile.tile
        part = found[0, :, : y1 - y0, : x1 - x0].cpu().numpy()
        if not np.isfinite(part).all():
            raise FossilError(
                "What the model looks at cannot be computed",
                expected="finite gradients",
                found="NaN or infinity",
                advice="The weights of the model are damaged: train it again, or take another one.",
            )
        values[:, y0:y1, x0:x1] += part
        covered[y0:y1, x0:x1] = True
    if settings.bgr and settings.window.colours == 3 and channels > 1:
        values = values.reshape(-1, 3, *shape)[:, ::-1].reshape(values.shape)
    return Saliency(values, value, without, float(covered.mean()))


def memory(tiles: Sequence[Held]) -> int:
    """Estimate the bytes that a gradient holds, of the tile that needs most.

    What is kept for the way back is counted on two small pieces: it grows with their area.
    """
    return max((_held_bytes(tile) for tile in tiles), default=0)


def _held_bytes(tile: Held) -> int:
    edges = (64, 128)
    counted = []
    for edge in edges:
        kept: dict[int, int] = {}

        def count(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        piece = tile.pixels.new_zeros(1, tile.pixels.shape[1], edge, edge).requires_grad_()
        with torch.enable_grad(), saved_tensors_hooks(count, lambda tensor: tensor):
            # Kept until it is counted: what is freed would lend its place to another tensor.
            said = tile.logits(piece)
            counted.append(sum(kept.values()))
            del said
    pixels = tile.pixels.shape[-1] * tile.pixels.shape[-2]
    each = (counted[1] - counted[0]) / (edges[1] ** 2 - edges[0] ** 2)
    return int(counted[0] + each * max(pixels - edges[0] ** 2, 0))


def gradients(params: LookParams) -> int:
    """Return how many gradients are computed for each tile."""
    many = {Method.SMOOTHGRAD: params.samples, Method.INTEGRATED: params.steps + 1}
    return many.get(params.method, 1)


def _steps(clock: Clock, job: Job) -> Step:
    """Return what counts gradients on a clock; some methods may take more than were planned."""
    done = 0

    def step() -> None:
        nonlocal done
        job.check("Looking")
        clock.tick(min(done, clock.total))
        done += 1

    return step


def _number(tile: Held, said: Said) -> Number:
    """Return the sum over instances of the logit of the class, or of the mean logit of the mask."""
    which = torch.arange(len(tile.labels), device=tile.labels.device)
    if said is Said.CLASS:
        return lambda pixels: tile.logits(pixels)[0][which, tile.labels].sum()
    with torch.no_grad():
        inside = (tile.logits(tile.pixels)[1] > 0).float()
    # A mask without a pixel is explained by its whole box.
    inside[inside.sum((1, 2)) == 0] = 1
    inside /= inside.sum((1, 2), keepdim=True)
    return lambda pixels: (tile.logits(pixels)[1] * inside).sum()


def _attributed(
    segmenter: Segmenter, tile: Held, number: Number, params: LookParams, step: Step
) -> Tensor:
    """Return the map (1, C, Y, X) of a tile; of Grad-CAM (1, 1, Y, X)."""
    pixels = tile.pixels
    if params.method is Method.SMOOTHGRAD:
        noise = params.noise * float(pixels.max() - pixels.min())
        return smoothgrad(
            number, pixels, samples=params.samples, noise=noise, seed=params.seed, step=step
        )
    if params.method is Method.INTEGRATED:
        return integrated(number, pixels, steps=params.steps, step=step)
    step()
    if params.method is Method.GRAD_CAM:
        return grad_cam(number, pixels, [*segmenter.layers().values()])
    slope = gradient(number, pixels)
    return slope * pixels if params.method is Method.INPUT_X_GRADIENT else slope
