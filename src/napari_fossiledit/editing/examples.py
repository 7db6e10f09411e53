"""Original and perturbed slices as keys and values of the pyramid's output convolutions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.inference.preprocessing import Image
from napari_fossiledit.models.inference.protocol import Captured, Segmenter
from napari_fossiledit.params.editing import Scope


@dataclass(frozen=True)
class Pair:
    """A slice and what it should look like to the model.

    Attributes
    ----------
    original, perturbed
        Slice (y, x) or (y, x, 3); both of one shape.
    weight
        (y, x) float32, how often a position counts; None: all alike, as in the paper.
    mask
        (y, x) bool, the only positions to fit; None: all.
    """

    original: Image
    perturbed: Image
    weight: NDArray[np.float32] | None = None
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Example:
    """One pair at one level.

    Attributes
    ----------
    key
        (1, C, y, x): input of the convolution on the original slice.
    value, target
        (1, O, y, x): its output on the original and on the perturbed slice.
    weight
        (1, 1, y, x) of mean 1, 0 at what does not count; None: all alike.
    """

    key: Tensor
    value: Tensor
    target: Tensor
    weight: Tensor | None = None

    @property
    def residual(self) -> Tensor:
        """Output that an edit has to add."""
        return self.target - self.value

    @property
    def positions(self) -> int:
        """Positions of the map."""
        return self.key.shape[-1] * self.key.shape[-2]


def residual_alone(example: Example) -> Example:
    """Return an example that asks for the change of the output alone: half the memory."""
    nothing = example.target.new_zeros(()).expand(example.target.shape)
    return replace(example, value=nothing, target=example.residual)


def examples_of(
    segmenter: Segmenter,
    pair: Pair,
    pixel_size_um: float | None = None,
    scope: Scope = Scope.ALL,
) -> list[Example]:
    """Capture a pair at all levels, finest first.

    Raises
    ------
    FossilError
        Where the two pictures differ in size, a weight or mask does not fit or leaves nothing,
        or a weight, key or value is not finite.
    """
    _require_alike(pair)
    weight = _position_weight(pair)
    before, after = (
        segmenter.capture(image, pixel_size_um=pixel_size_um, scope=scope)
        for image in (pair.original, pair.perturbed)
    )
    made = []
    for name, old, new in zip(segmenter.layers(scope), before, after, strict=True):
        require_finite(name, old.key, old.value, new.value)
        at_level = None if weight is None else _at_level(weight, old)
        # Weight gradients of maps with channels last are several times slower.
        key, value, target = (t.contiguous() for t in (old.key, old.value, new.value))
        made.append(Example(key, value, target, at_level))
    return made


def require_finite(name: str, *tensors: Tensor) -> None:
    """Raise where keys or values are not numbers."""
    if not all(bool(torch.isfinite(t).all()) for t in tensors):
        raise FossilError(
            f"The keys of {name} cannot be used",
            expected="finite numbers",
            found="NaN or infinity",
            advice="The weights of the model are damaged: train it again, or take another one.",
        )


def _require_alike(pair: Pair) -> None:
    shape = pair.original.shape
    if pair.perturbed.shape != shape:
        raise FossilError(
            "The perturbed slice has another size than the original",
            expected=shape,
            found=pair.perturbed.shape,
        )
    if pair.perturbed.dtype != pair.original.dtype:
        raise FossilError(
            "The perturbed slice has another type than the original",
            expected=pair.original.dtype,
            found=pair.perturbed.dtype,
        )
    for what, array in (("weights", pair.weight), ("mask", pair.mask)):
        if array is not None and array.shape != shape[:2]:
            raise FossilError(
                f"The {what} of the positions do not fit the slice",
                expected=shape[:2],
                found=array.shape,
            )


def _position_weight(pair: Pair) -> NDArray[np.float32] | None:
    """Return weight and mask as one array; None where all positions count alike."""
    if pair.weight is None and pair.mask is None:
        return None
    weight = np.ones(pair.original.shape[:2], np.float32) if pair.weight is None else pair.weight
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise FossilError(
            "The weights of the positions cannot be used",
            expected="finite numbers from 0 on",
            found=f"{weight.min()} to {weight.max()}",
        )
    weight = weight if pair.mask is None else weight * pair.mask
    if not weight.any():
        raise FossilError(
            "No position is left to edit",
            expected="a perturbed region inside the slice, with a weight above 0",
            found="an empty one",
        )
    return weight.astype(np.float32, copy=False)


def _at_level(weight: NDArray[np.float32], level: Captured) -> Tensor:
    """Average the weights below each position, 0 where the map lies off the slice; scale to 1."""
    height, width = level.key.shape[-2:]
    source = torch.from_numpy(np.ascontiguousarray(weight))[None, None]
    small = functional.interpolate(source, size=level.inside, mode="area")
    full = functional.pad(small, (0, width - level.inside[1], 0, height - level.inside[0]))
    return (full / full.mean().clamp_min(1e-12)).to(level.key.device)
