"""Build the network a training begins with: from ImageNet, another model, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, file_digest
from napari_fossiledit.models.detectron2.file import Checkpoint, read_checkpoint
from napari_fossiledit.models.detectron2.layers import is_detectron2
from napari_fossiledit.models.detectron2.read import import_checkpoint
from napari_fossiledit.models.files.checkpoint import check_tensor, read_tensors
from napari_fossiledit.models.files.places import RECORD, SHIPPED
from napari_fossiledit.models.files.published import COCO
from napari_fossiledit.models.files.registry import load_model
from napari_fossiledit.models.files.torchvision_names import choices_of, ours
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import NetworkSpec, default_spec
from napari_fossiledit.params.segment import Architecture, CocoWeights, Device, TrainParams

# Layers whose size depends on the number of classes.
_CLASS_LAYERS = (
    "roi_heads.box_predictor.",
    "roi_heads.mask_predictor.mask_fcn_logits.",
)
# torchvision's ImageNet normalisation, for values of 0 to 255.
_TORCHVISION = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


class Start(NamedTuple):
    """A network that training begins with.

    Attributes
    ----------
    preprocessing
        The one the weights expect; None: they expect none.
    notes
        What was assumed and what starts anew, in sentences for the user.
    """

    network: MaskRcnn
    preprocessing: Preprocessing | None
    notes: tuple[str, ...] = ()


def initial_network(params: TrainParams) -> Start:
    """Build the network that training begins with.

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
    lite = spec.architecture is Architecture.LITE
    if not params.init and lite:
        note = "The backbone starts from ImageNet, all else from chance."
        return Start(MaskRcnn(spec, pretrained=True), None, (note,))
    if not params.init:
        raise FossilError(
            f"No weights are at hand to start {spec.architecture} from",
            expected="--init with a file of weights or the name of published ones",
            found="nothing",
            advice="Run 'fossiledit models fetch --help' for those of torchvision and detectron2,"
            " or train the lite architecture.",
        )
    path = Path(params.init).expanduser()
    if (path if path.is_dir() else path.parent).joinpath(RECORD).is_file():
        model = load_model(path, Device.CPU)
        where = path.name if path.parent == SHIPPED else str(path)
        return _started(model.spec, model.weights(), where, spec, model.preprocessing)
    with explained(path, "Reading"):
        path.stat()
    if path.suffix == ".safetensors":
        weights = read_tensors(path.read_bytes(), str(path))
    else:
        checkpoint = read_checkpoint(path)
        if is_detectron2(checkpoint.state):
            theirs = import_checkpoint(checkpoint)
            start = _started(theirs.spec, theirs.weights, theirs.where, spec, theirs.preprocessing)
            return start._replace(notes=(*theirs.notes, *start.notes))
        return _from_torchvision(checkpoint, spec)
    return _started(spec, weights, str(path), spec, None if lite else _TORCHVISION)


def _from_torchvision(checkpoint: Checkpoint, spec: NetworkSpec) -> Start:
    """Build the network of a state dictionary with torchvision's names."""
    where = checkpoint.where
    # torchvision adds nothing to the variances of this file, and 1e-5 to all others.
    found = f"sha256:{file_digest(Path(where), 'sha256')}"
    exact = found.startswith(COCO[CocoWeights.TORCHVISION_R50].digest)
    weights = ours(checkpoint.state, **({"epsilon": 0.0} if exact else {}))
    choices = choices_of(weights)
    usual = _TORCHVISION if choices else None
    start = _started(spec.model_copy(update=choices), weights, where, spec, usual)
    if exact or not choices or "box_convolutions" in choices:
        return start
    note = (
        "Assumed is that normalisations add 1e-5 to the variance, as torchvision's do except in its"
        " COCO weights of version 1 and what was trained from them."
    )
    return start._replace(notes=(note, *start.notes))


def _started(
    held: NetworkSpec,
    weights: Mapping[str, Tensor],
    where: str,
    spec: NetworkSpec,
    preprocessing: Preprocessing | None,
) -> Start:
    """Build the network that a file holds for the classes of `spec`, and load its weights."""
    if held.architecture is not spec.architecture:
        raise FossilError(
            f"{where} has another architecture",
            expected=spec.architecture,
            found=held.architecture,
            advice=f"Train with --architecture {held.architecture}, or choose another file.",
        )
    network = MaskRcnn(held.model_copy(update={"classes": spec.classes}))
    anew = adopt(network, weights, where)
    names = ", ".join(spec.classes)
    note = f"The outputs for {names} go on from those of the classes of {where}, in order."
    if anew:
        note = (
            f"{where} has another number of classes: the outputs of scores, boxes and masks start"
            f" anew for {names}; all else is taken over."
        )
    return Start(network, preprocessing, (note,))


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
    own = network.state_dict()
    # torchvision counts batches for a statistic that is frozen here.
    missing = sorted(n for n in own if n not in weights and not n.endswith("num_batches_tracked"))
    if missing:
        raise FossilError(
            f"{where} lacks layer {missing[0]}",
            expected=f"the {len(own)} layers of {network.spec.architecture}",
            found=f"{len(weights)} layers, {len(missing)} of the expected ones missing",
            advice="Choose weights of the same architecture.",
        )
    held = [n for n in own if n in weights]
    anew = tuple(
        n for n in held if n.startswith(_CLASS_LAYERS) and weights[n].shape != own[n].shape
    )
    used = {n: weights[n] for n in held if n not in anew}
    for name, tensor in used.items():
        check_tensor(name, tensor, own[name], where)
    network.load_state_dict({**own, **used})
    return anew
