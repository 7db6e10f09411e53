"""Read and write the content of a model's files: ``weights.safetensors`` and ``model.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.files.places import RECORD
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import NetworkSpec
from napari_fossiledit.params.segment import Architecture

FORMAT: Final = 1
_OTHER = "Train the model again, or take another copy of it."

Weights = Mapping[str, Tensor]


class ModelRecord(BaseModel):
    """Content of ``model.json``: all but the weights.

    Attributes
    ----------
    format_version
        Of this record.
    model_hash
        Of the weights as stored and of the preprocessing; shows whether both belong together.
    training
        How the model came about, for people and reports: slices, parameters, score.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = FORMAT
    network: NetworkSpec
    preprocessing: Preprocessing
    half: bool = False
    model_hash: str
    training: dict[str, Any] = Field(default_factory=dict)


def to_bytes(
    segmenter: Segmenter, *, half: bool = False, training: dict[str, Any] | None = None
) -> tuple[bytes, ModelRecord]:
    """Return a model as the content of its two files.

    Parameters
    ----------
    half
        Store weight matrices in half precision (normalisation and biases stay whole). The hash is
        that of the model as it will be read again.
    """
    state = {k: v.detach().cpu().contiguous() for k, v in segmenter.weights().items()}
    model_hash = segmenter.model_hash if not half else ""
    if half:
        state = {
            k: v.half() if v.is_floating_point() and v.ndim >= 2 else v for k, v in state.items()
        }
        network = MaskRcnn(segmenter.spec)
        network.load_state_dict(state)
        model_hash = MaskRcnnSegmenter(network, segmenter.preprocessing).model_hash
    record = ModelRecord(
        network=segmenter.spec,
        preprocessing=segmenter.preprocessing,
        half=half,
        model_hash=model_hash,
        training=training or {},
    )
    return save_tensors(state), record


def from_bytes(
    weights: bytes, record: ModelRecord, where: str, device: torch.device | str = "cpu"
) -> Segmenter:
    """Build a model from the content of its files.

    Parameters
    ----------
    where
        Name of the weights file, for messages.

    Raises
    ------
    FossilError
        Where a weight is missing, of another shape, not finite or not the one recorded.
    """
    network = MaskRcnn(record.network)
    fill(network, read_tensors(weights, where), where)
    segmenter = MaskRcnnSegmenter(network, record.preprocessing, device)
    if segmenter.model_hash != record.model_hash:
        raise FossilError(
            f"{where} does not belong to its {RECORD}",
            expected=f"weights with hash {record.model_hash[:12]}",
            found=segmenter.model_hash[:12],
            advice="One of the two files was changed or copied alone. " + _OTHER,
        )
    return segmenter


def read_tensors(data: bytes, where: str) -> dict[str, Tensor]:
    """Read safetensors bytes; raise `FossilError` where the file is broken."""
    try:
        return load_tensors(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise FossilError(
            f"{where} cannot be read",
            expected="a complete safetensors file",
            found=f"{len(data)} bytes ({error})",
            advice="It may be truncated: copy it again or train again.",
        ) from error


def fill(network: nn.Module, weights: Weights, where: str) -> None:
    """Load all weights into a network, strictly.

    Raises
    ------
    FossilError
        Naming the first layer that is missing, unknown, of another shape or not finite.
    """
    own = network.state_dict()
    missing, unknown = own.keys() - weights.keys(), weights.keys() - own.keys()
    if missing or unknown:
        lacks = f"lacks layer {min(missing)}" if missing else ""
        raise FossilError(
            f"{where} {lacks or f'has an unknown layer {min(unknown)}'}",
            expected=f"{len(own)} layers of this architecture",
            found=f"{len(weights)} layers, {len(missing)} of the expected ones missing"
            if missing
            else f"{len(unknown)} unknown ones",
            advice=_OTHER,
        )
    for name, tensor in own.items():
        check_tensor(name, weights[name], tensor, where)
    network.load_state_dict(dict(weights))


def check_tensor(name: str, tensor: Tensor, own: Tensor, where: str) -> None:
    """Raise `FossilError` where a weight has another shape than the network's or is not finite."""
    if tensor.shape != own.shape:
        raise FossilError(
            f"{name} in {where} has the wrong shape",
            expected=tuple(own.shape),
            found=tuple(tensor.shape),
            advice="The file belongs to another architecture, number of classes or input (slices).",
        )
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).sum())
        raise FossilError(
            f"{name} in {where} is damaged",
            expected="finite numbers",
            found=f"{bad} of {tensor.numel()} are NaN or infinite",
            advice=_OTHER,
        )


def parse_record(data: Any, where: str) -> ModelRecord:
    """Check the content of ``model.json``.

    Raises
    ------
    FossilError
        Where the architecture is unknown, the format newer, or a field missing or wrong.
    """
    record = data if isinstance(data, dict) else {}
    version = record.get("format_version", FORMAT)
    if isinstance(version, int) and version > FORMAT:
        raise FossilError(
            f"{where} was written by a newer version",
            expected=f"format {FORMAT} or older",
            found=f"format {version}",
            advice="Update napari-fossiledit.",
        )
    network = record.get("network")
    name = network.get("architecture") if isinstance(network, dict) else None
    architectures = [str(a) for a in Architecture]
    if name is not None and name not in architectures:
        raise FossilError(
            f"{where} names an unknown architecture",
            expected=f"one of {', '.join(architectures)}",
            found=name,
            advice="Update napari-fossiledit, or choose another model.",
        )
    try:
        return ModelRecord.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors()[0]
        raise FossilError(
            f"{where} is not the record of a model",
            expected="fields as this program writes them",
            found=f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}",
            advice=_OTHER,
        ) from error
