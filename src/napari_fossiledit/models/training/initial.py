"""Build the network a training begins with: from ImageNet, another model, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from timm.models import adapt_input_conv
from torch import Tensor

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, file_digest
from napari_fossiledit.models.detectron2.file import Checkpoint, read_checkpoint
from napari_fossiledit.models.detectron2.layers import is_detectron2
from napari_fossiledit.models.detectron2.read import import_checkpoint
from napari_fossiledit.models.files.checkpoint import ModelRecord, check_tensor, read_tensors
from napari_fossiledit.models.files.places import RECORD, SHIPPED
from napari_fossiledit.models.files.published import COCO
from napari_fossiledit.models.files.registry import load_model
from napari_fossiledit.models.files.torchvision_names import choices_of, ours
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.backbones import first_convolution
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import NetworkSpec, default_spec
from napari_fossiledit.params.segment import (
    Architecture,
    CocoWeights,
    Device,
    FirstLayer,
    InputMode,
    TrainParams,
)
from napari_fossiledit.stacks.window import Window

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
    detectron2's. Layers that depend on the number of classes start anew where their size differs,
    and the first convolution is that of ``params.input``, see `first_kernel`.

    Raises
    ------
    FossilError
        Where the file is missing, broken, or of another architecture, or the first convolution
        cannot start so.
    """
    torch.manual_seed(params.seed)
    window = Window.of(params.input, params.reach)
    needs = {
        FirstLayer.UNIFORM_Z: (InputMode.RGB_WINDOW,),
        FirstLayer.SYMMETRIC: (InputMode.RGB_WINDOW, InputMode.GREY_WINDOW),
    }
    fitting = needs.get(params.start, tuple(InputMode))
    if params.input not in fitting or (params.z_flip and not window.reach):
        raise FossilError(
            "What the model sees does not fit how it is to learn",
            expected=f"--input {' or '.join(needs.get(params.start, needs[FirstLayer.SYMMETRIC]))}",
            found=f"{params.input} with --start {params.start}"
            + (" and --z-flip" if params.z_flip else ""),
            advice="Choose a window of slices, or another start.",
        )
    start = _held(params)
    had = (start.preprocessing or _TORCHVISION).window
    # Where nothing is to change the start stays as it is, to the last bit.
    if window == had and params.start is FirstLayer.PRETRAINED:
        return start
    return _seeing(start, had, window, params.start)


def before_training(record: ModelRecord) -> MaskRcnnSegmenter:
    """Build again what the training of a model began with; what began from chance, by its seed.

    Raises
    ------
    FossilError
        Where the record does not say how it was trained, or what it began with is gone.
    """
    said, network, settings = record.training, record.network, record.preprocessing
    if "init" not in said:
        raise FossilError(
            "What this model began with is not known",
            expected="a model that this program trained",
            found="no training in its record",
        )
    window = {"input": settings.input, "reach": settings.reach} if settings.reach else {}
    params = TrainParams(
        architecture=network.architecture,
        classes=network.classes,
        init=said["init"],
        seed=said.get("seed", 0),
        start=network.first_layer,
        **window,
    )
    start = initial_network(params)
    return MaskRcnnSegmenter(start.network, settings)


def _seeing(start: Start, had: Window, window: Window, how: FirstLayer) -> Start:
    """Return a start whose network sees a window of slices, or begins to see it otherwise."""
    # What is new to the first convolution has to be learned there.
    changes = {"inputs": window.channels, "first_layer": how, "frozen_stages": 0}
    network = MaskRcnn(start.network.spec.model_copy(update=changes))
    weights = start.network.state_dict()
    old = first_convolution(start.network.backbone).weight
    name = next(n for n, p in start.network.named_parameters() if p is old)
    weights[name] = first_kernel(old.detach(), had, window, how)
    network.load_state_dict(weights)
    seen = "the slice alone"
    if window.reach:
        grey = " in grey" if window.colours == 1 else ""
        seen = f"{window.slices} slices at once{grey}, its own in the middle"
    note = f"The model sees {seen}. Its first layer, which learns as well, starts {_STARTS[how]}"
    if how is FirstLayer.PRETRAINED and window.channels != 3:
        note += ", repeated over all channels and divided by how often"
    elif how is FirstLayer.PRETRAINED and window.reach:
        note += ", its three colours for the three slices"
    if had.reach and window != had:
        note += "; the slices that the start saw at once were added up first"
    return Start(network, start.preprocessing, (*start.notes, f"{note}."))


_STARTS = {
    FirstLayer.PRETRAINED: "as it was trained",
    FirstLayer.UNIFORM: "with the mean of its weights over all channels, so that all count alike",
    FirstLayer.UNIFORM_Z: "with the mean of its weights over the slices, colours as they were",
    FirstLayer.SYMMETRIC: "with the mean of its weights before and after the slice, and keeps so",
    FirstLayer.RANDOM: "from chance, with the spread of the weights that it had",
}


def first_kernel(weight: Tensor, had: Window, window: Window, how: FirstLayer) -> Tensor:
    """Return the weights (O, C, h, w) of a first convolution for other channels.

    Channels that show the same values give what they gave before: the sum over them is kept, but
    for pretrained weights that are repeated a broken number of times (five grey slices), and for
    chance.

    Parameters
    ----------
    weight
        Of a convolution that saw the channels of `had`.
    """
    slices = weight.unflatten(1, (had.slices, had.colours))
    base: Tensor = weight
    if window != had:
        # A grey window knows no colours: each gets a third.
        colours = slices.sum(1).expand(-1, 3, -1, -1) / (3 / had.colours)
        base = adapt_input_conv(window.channels, colours)
    if how is FirstLayer.UNIFORM:
        return weight.sum(1, keepdim=True).expand_as(base) / window.channels
    if how is FirstLayer.UNIFORM_Z:
        by_slice: Tensor = base.unflatten(1, (window.slices, 3))
        return by_slice.mean(1).repeat(1, window.slices, 1, 1)
    if how is FirstLayer.SYMMETRIC:
        return (base + base[:, window.mirrored]) / 2
    if how is FirstLayer.RANDOM:
        # The normalisation that follows keeps its statistics, and with them the scale it expects.
        return torch.randn_like(base) * base.std()
    return base


def _held(params: TrainParams) -> Start:
    """Build the network of the weights to start from, seeing what it saw."""
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
