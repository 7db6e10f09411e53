"""An edit is a value: what is added to the weights of the pyramid's output convolutions.

It can be applied in part, inverted, scaled and composed; a model is never changed by it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MASK_OUTPUTS, MaskRcnn
from napari_fossiledit.params.editing import Scope


def layer_names(segmenter: MaskRcnnSegmenter, scope: Scope = Scope.ALL) -> tuple[str, ...]:
    """Names of the layers that an edit of this scope adds to, finest level first."""
    if scope is Scope.MASKS:
        return tuple(f"{MASK_OUTPUTS}{level}" for level in range(len(segmenter.outputs)))
    return tuple(segmenter.network.outputs)


def scope_layers(segmenter: MaskRcnnSegmenter, scope: Scope = Scope.ALL) -> list[nn.Conv2d]:
    """Convolutions that give the maps of a scope, finest level first; not to be changed.

    Those of the masks are the output convolutions, with what earlier edits of the masks added.
    """
    if scope is Scope.ALL:
        return segmenter.outputs
    network = segmenter.network
    added = network.mask_outputs if isinstance(network, MaskRcnn) else nn.ModuleDict()
    return [
        _summed(layer, added[str(level)]) if str(level) in added else layer
        for level, layer in enumerate(segmenter.outputs)
    ]


def _summed(layer: nn.Conv2d, added: nn.Module) -> nn.Conv2d:
    """Build the one convolution that gives the sum of both."""
    whole = copy.deepcopy(layer)
    with torch.no_grad():
        whole.weight += cast("nn.Conv2d", added).weight
    return whole


def _editable(segmenter: MaskRcnnSegmenter) -> dict[str, nn.Conv2d]:
    """All layers of either scope by their names."""
    scopes = Scope if segmenter.network.draws_apart else (Scope.ALL,)
    return {
        name: layer
        for scope in scopes
        for name, layer in zip(
            layer_names(segmenter, scope), scope_layers(segmenter, scope), strict=True
        )
    }


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

    def apply(self, segmenter: MaskRcnnSegmenter, strength: float = 1.0) -> MaskRcnnSegmenter:
        """Return a model with the edit; the given one is left as it is.

        Raises
        ------
        FossilError
            Where a layer is missing or has another shape: the model is of another architecture.
        """
        self.require_fitting(segmenter)
        network = segmenter.network.sharing()
        for name in self.deltas:
            if name.startswith(MASK_OUTPUTS):
                network.add_mask_output(int(name.removeprefix(MASK_OUTPUTS)))
        layers = network.editable
        for name, delta in self.deltas.items():
            layer = layers[name]
            old = layer.weight.detach()
            changed = old + strength * delta.to(old.device)
            layer.weight = torch.nn.Parameter(changed, requires_grad=False)
        return MaskRcnnSegmenter(network, segmenter.preprocessing, segmenter.device)

    def require_fitting(self, segmenter: MaskRcnnSegmenter) -> None:
        """Refuse a model that lacks a layer of the edit or has it in another shape."""
        layers = _editable(segmenter)
        for name, delta in self.deltas.items():
            layer = layers.get(name)
            found = None if layer is None else tuple(layer.weight.shape)
            if found != tuple(delta.shape):
                raise FossilError(
                    f"The edit does not fit the model: {name}.weight",
                    expected=f"shape {tuple(delta.shape)}",
                    found="no such layer" if found is None else f"shape {found}",
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

    def drift(self, segmenter: MaskRcnnSegmenter) -> dict[str, float]:
        """Tell |dW| / |W| of each layer (Frobenius norms)."""
        layers = _editable(segmenter)
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
        _require_deltas(tensors, place)
        return cls({name: delta.float() for name, delta in tensors.items()})


def _require_deltas(tensors: Mapping[str, Tensor], place: str) -> None:
    if not tensors:
        raise FossilError(f"{place} holds no edit", expected="one layer or more", found="none")
    for name, delta in tensors.items():
        shaped = delta.ndim == 4 and delta.shape[2:] == (3, 3)
        sound = shaped and delta.is_floating_point() and bool(delta.isfinite().all())
        if not sound:
            raise FossilError(
                f"{place} holds no edit: {name}",
                expected="finite weights (out, in, 3, 3)",
                found=f"{delta.dtype} of shape {tuple(delta.shape)}",
            )
