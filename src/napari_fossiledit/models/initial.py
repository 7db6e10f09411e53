"""The network a training begins with: ImageNet, another model, or a file of weights."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained
from napari_fossiledit.models.checkpoint import check_tensor, read_tensors
from napari_fossiledit.models.network import MaskRcnn
from napari_fossiledit.models.places import RECORD, WEIGHTS
from napari_fossiledit.models.preprocessing import Preprocessing
from napari_fossiledit.models.registry import load_model
from napari_fossiledit.models.spec import NetworkSpec, default_spec
from napari_fossiledit.params.segment import Architecture, Device, TrainParams

# Layers whose size depends on the number of classes.
_CLASS_LAYERS = (
    "roi_heads.box_predictor.",
    "roi_heads.mask_predictor.mask_fcn_logits.",
)
_OLD_NAMES = (
    (re.compile(r"(fpn\.(?:inner|layer)_blocks\.\d)\.(?=weight|bias)"), r"\1.0."),
    (re.compile(r"rpn\.head\.conv\.(?=weight|bias)"), "rpn.head.conv.0.0."),
)
_OLD_MASK_LAYER = re.compile(r"mask_head\.mask_fcn(\d)\.")
# torchvision's ImageNet normalisation, for values of 0 to 255.
_TORCHVISION = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}


def initial_network(params: TrainParams) -> tuple[MaskRcnn, Preprocessing | None]:
    """Make the network that training begins with, and the preprocessing its weights expect.

    ``params.init`` is empty (ImageNet), a model folder, a ``.safetensors`` file or a ``.pth`` file
    with a state dictionary of torchvision's Mask R-CNN. Layers that depend on the number of classes
    start anew where their size differs.

    Raises
    ------
    FossilError
        Where the file is missing, broken, or of another architecture.
    """
    torch.manual_seed(params.seed)
    spec = default_spec(params.architecture, params.classes)
    if not params.init:
        return _from_imagenet(spec)
    path = Path(params.init).expanduser()
    if (path if path.is_dir() else path.parent).joinpath(RECORD).is_file():
        return _from_model(path, spec)
    network = MaskRcnn(spec)
    adopt(network, _read_weights(path), str(path))
    return network, _usual(spec.architecture)


def _usual(architecture: Architecture) -> Preprocessing | None:
    if architecture is Architecture.LITE:
        return None
    return Preprocessing(**_TORCHVISION)


def _from_imagenet(spec: NetworkSpec) -> tuple[MaskRcnn, Preprocessing | None]:
    if spec.architecture is Architecture.LITE:
        return MaskRcnn(spec, pretrained=True), None
    raise FossilError(
        f"No weights are at hand to start {spec.architecture} from",
        expected="--init with a file of weights, e.g. torchvision's maskrcnn_resnet50_fpn",
        found="nothing",
        advice="Give a file, or train the lite architecture.",
    )


def _from_model(path: Path, spec: NetworkSpec) -> tuple[MaskRcnn, Preprocessing]:
    known = load_model(path, Device.CPU)
    wanted = known.network.spec.architecture
    if wanted is not spec.architecture:
        raise FossilError(
            f"{path} has another architecture", expected=spec.architecture, found=wanted
        )
    network = MaskRcnn(known.network.spec.model_copy(update={"classes": spec.classes}))
    adopt(network, known.network.state_dict(), str(path))
    return network, known.preprocessing


def adopt(network: MaskRcnn, weights: Mapping[str, Tensor], where: str) -> tuple[str, ...]:
    """Load weights into a network, leaving out class layers of another size.

    Returns
    -------
    names of the layers that keep their random start

    Raises
    ------
    FossilError
        Naming a layer that is missing, of another shape or not finite.
    """
    wanted = network.state_dict()
    missing = sorted(
        n for n in wanted if n not in weights and not n.endswith("num_batches_tracked")
    )
    if missing:
        raise FossilError(
            f"{where} lacks layer {missing[0]}",
            expected=f"the {len(wanted)} layers of {network.spec.architecture}",
            found=f"{len(weights)} layers, {len(missing)} of the expected ones missing",
            advice="Choose weights of the same architecture.",
        )
    anew = tuple(n for n in wanted if _of_other_classes(n, weights, wanted))
    used = {n: weights[n] for n in wanted if n in weights and n not in anew}
    for name, tensor in used.items():
        check_tensor(name, tensor, wanted[name], where)
    network.load_state_dict({**wanted, **used})
    return anew


def _of_other_classes(
    name: str, weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> bool:
    if not name.startswith(_CLASS_LAYERS) or name not in weights:
        return False
    return weights[name].shape != wanted[name].shape


def _read_weights(path: Path) -> dict[str, Tensor]:
    with explained(path, "Reading"):
        if path.suffix == ".safetensors" or path.name == WEIGHTS:
            return read_tensors(path.read_bytes(), str(path))
        path.stat()
    return _state_dict(_unpickled(path), path)


def _unpickled(path: Path) -> Any:
    """Read a torch file without running any code that may be in it."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise FossilError(
            f"{path} cannot be read",
            expected="a torch file that holds weights only",
            found=str(error).splitlines()[0],
            advice="Save the state dictionary alone with torch.save.",
        ) from error


def _renamed(name: str) -> str:
    """Name of a layer today: torchvision's published files use the names before version 0.13."""
    for old, new in _OLD_NAMES:
        name = old.sub(new, name)
    return _OLD_MASK_LAYER.sub(lambda found: f"mask_head.{int(found[1]) - 1}.0.", name)


def _state_dict(value: Any, path: Path) -> dict[str, Tensor]:
    inner = value.get("model", value) if isinstance(value, dict) else value
    if isinstance(inner, dict) and inner and all(isinstance(v, Tensor) for v in inner.values()):
        return {_renamed(str(k)): v for k, v in inner.items()}
    raise FossilError(
        f"{path} holds no state dictionary",
        expected="names of layers with their weights",
        found=type(inner).__name__,
    )
