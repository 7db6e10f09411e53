"""The network a training begins with: ImageNet, another model, or a file of weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained
from napari_fossiledit.models.detectron2.file import Checkpoint, read_checkpoint
from napari_fossiledit.models.detectron2.layers import is_detectron2
from napari_fossiledit.models.detectron2.read import import_checkpoint
from napari_fossiledit.models.files.checkpoint import check_tensor, read_tensors
from napari_fossiledit.models.files.places import RECORD
from napari_fossiledit.models.files.registry import load_model
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import NetworkSpec, default_spec
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


class Start(NamedTuple):
    """What a training begins with.

    Attributes
    ----------
    preprocessing
        The one the weights expect; None: no matter.
    notes
        What was assumed and what starts anew, in sentences for the user.
    """

    network: MaskRcnn
    preprocessing: Preprocessing | None
    notes: tuple[str, ...] = ()


def initial_network(params: TrainParams) -> Start:
    """Make the network that training begins with.

    ``params.init`` is empty (ImageNet), a model folder, a ``.safetensors`` file, a ``.pth`` file
    with a state dictionary of torchvision's Mask R-CNN, or a ``.pth`` or ``.pkl`` file of
    detectron2's. Layers that depend on the number of classes start anew where their size differs.

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
    with explained(path, "Reading"):
        path.stat()
    if path.suffix == ".safetensors":
        weights = read_tensors(path.read_bytes(), str(path))
    else:
        checkpoint = read_checkpoint(path)
        if is_detectron2(checkpoint.state):
            return _from_detectron2(checkpoint, spec)
        weights = {_renamed(name): value for name, value in checkpoint.state.items()}
    network = MaskRcnn(spec)
    anew = adopt(network, weights, str(path))
    return Start(network, _usual(spec.architecture), _about_heads(str(path), anew, spec))


def _usual(architecture: Architecture) -> Preprocessing | None:
    if architecture is Architecture.LITE:
        return None
    return Preprocessing(**_TORCHVISION)


def _from_imagenet(spec: NetworkSpec) -> Start:
    if spec.architecture is Architecture.LITE:
        return Start(MaskRcnn(spec, pretrained=True), None)
    raise FossilError(
        f"No weights are at hand to start {spec.architecture} from",
        expected="--init with a file of weights, e.g. torchvision's maskrcnn_resnet50_fpn",
        found="nothing",
        advice="Give a file, or train the lite architecture.",
    )


def _from_model(path: Path, spec: NetworkSpec) -> Start:
    known = load_model(path, Device.CPU)
    network = _like(known.spec, spec, str(path))
    anew = adopt(network, known.weights(), str(path))
    return Start(network, known.preprocessing, _about_heads(str(path), anew, spec))


def _from_detectron2(checkpoint: Checkpoint, spec: NetworkSpec) -> Start:
    known = import_checkpoint(checkpoint)
    network = _like(known.spec, spec, known.where)
    anew = adopt(network, known.weights, known.where)
    return Start(
        network, known.preprocessing, (*known.notes, *_about_heads(known.where, anew, spec))
    )


def _like(known: NetworkSpec, wanted: NetworkSpec, where: str) -> MaskRcnn:
    """Make the network that a file holds, for other classes."""
    if known.architecture is not wanted.architecture:
        raise FossilError(
            f"{where} has another architecture",
            expected=wanted.architecture,
            found=known.architecture,
            advice=f"Train with --architecture {known.architecture}, or choose another file.",
        )
    return MaskRcnn(known.model_copy(update={"classes": wanted.classes}))


def _about_heads(where: str, anew: Sequence[str], wanted: NetworkSpec) -> tuple[str, ...]:
    """Say whether the outputs of each class were taken over."""
    names = ", ".join(wanted.classes)
    if not anew:
        return (f"The outputs for {names} go on from those of the classes of {where}, in order.",)
    return (
        f"{where} knows another number of classes: the outputs of scores, boxes and masks start"
        f" anew for {names}; all else is taken over.",
    )


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


def _renamed(name: str) -> str:
    """Name of a layer today: torchvision's published files use the names before version 0.13."""
    for old, new in _OLD_NAMES:
        name = old.sub(new, name)
    return _OLD_MASK_LAYER.sub(lambda found: f"mask_head.{int(found[1]) - 1}.0.", name)
