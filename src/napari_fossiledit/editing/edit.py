"""An edit is a value: what is added to the weights of the pyramid's output convolutions.

It can be applied in part, inverted, scaled and composed; a model is never changed by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.inference.protocol import Segmenter


def _layers(segmenter: Segmenter) -> dict[str, nn.Conv2d]:
    """Return all layers that an edit of any scope may add to, by name."""
    return {n: layer for scope in segmenter.scopes for n, layer in segmenter.layers(scope).items()}


@dataclass(frozen=True)
class Edit:
    """Weights to add, one tensor a layer.

    Attributes
    ----------
    deltas
        By name of the layer, (out, in, 3, 3) float32 on the CPU: an output convolution of the
        pyramid, or ``mask_outputs.LEVEL`` for what is added for the masks alone.
    """

    deltas: Mapping[str, Tensor] = field(default_factory=dict)

    def apply(self, segmenter: Segmenter, strength: float = 1.0) -> Segmenter:
        """Return a model with the edit; the given one is left as it is.

        Raises
        ------
        FossilError
            Where a layer is missing or has another shape: the model is of another architecture.
        """
        self.require_fitting(segmenter)
        return segmenter.edited(self.deltas, strength)

    def require_fitting(self, segmenter: Segmenter) -> None:
        """Raise where a model lacks a layer of the edit or has it in another shape."""
        layers = _layers(segmenter)
        for name, delta in self.deltas.items():
            layer = layers.get(name)
            shape = None if layer is None else tuple(layer.weight.shape)
            if shape != tuple(delta.shape):
                raise FossilError(
                    f"The edit does not fit the model: {name}.weight",
                    expected=f"shape {tuple(delta.shape)}",
                    found="no such layer" if shape is None else f"shape {shape}",
                    advice="Apply an edit to the model it was made for.",
                )

    def inverted(self) -> Edit:
        """Return the edit that undoes this one (up to rounding; for exactness use the parent)."""
        return self.scaled(-1.0)

    def scaled(self, strength: float) -> Edit:
        """Return the edit at another strength."""
        return Edit({name: strength * delta for name, delta in self.deltas.items()})

    def composed(self, other: Edit) -> Edit:
        """Return both edits as one; layers of either are kept."""
        both = dict(self.deltas)
        for name, delta in other.deltas.items():
            if name in both and both[name].shape != delta.shape:
                raise FossilError(
                    f"The two edits do not fit each other: {name}",
                    expected=f"shape {tuple(both[name].shape)}",
                    found=f"shape {tuple(delta.shape)}",
                )
            both[name] = both[name] + delta if name in both else delta
        return Edit(both)

    def drift(self, segmenter: Segmenter) -> dict[str, float]:
        """Compute |dW| / |W| of each layer (Frobenius norms)."""
        layers = _layers(segmenter)
        return {
            name: float(delta.norm() / layers[name].weight.detach().cpu().norm())
            for name, delta in self.deltas.items()
        }

    def to_bytes(self, metadata: Mapping[str, str] | None = None) -> bytes:
        """Write the deltas as safetensors."""
        tensors = {name: delta.cpu().contiguous() for name, delta in self.deltas.items()}
        return save_tensors(tensors, metadata=dict(metadata or {}))

    @classmethod
    def from_bytes(cls, data: bytes, place: str) -> Edit:
        """Read deltas.

        Raises
        ------
        FossilError
            Where the data is truncated, damaged or no edit.
        """
        try:
            tensors = load_tensors(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise FossilError(
                f"{place} cannot be read",
                expected="the weights of an edit (safetensors)",
                found=f"{len(data)} bytes: {error}",
                advice="Take another copy of it, or make the edit again.",
            ) from error
        if not tensors:
            raise FossilError(f"{place} holds no edit", expected="one layer or more", found="none")
        for name, delta in tensors.items():
            shaped = delta.ndim == 4 and delta.shape[2:] == (3, 3)
            if not (shaped and delta.is_floating_point() and bool(delta.isfinite().all())):
                raise FossilError(
                    f"{place} holds no edit: {name}",
                    expected="finite weights (out, in, 3, 3)",
                    found=f"{delta.dtype} of shape {tuple(delta.shape)}",
                )
        return cls({name: delta.float() for name, delta in tensors.items()})
