"""Networks that turn pictures into feature vectors.

`lite` comes with ImageNet weights; torchvision's and timm's models are filled from a user's file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained
from napari_fossiledit.models.files.checkpoint import fill, read_tensors
from napari_fossiledit.models.network.backbones import LiteBody
from napari_fossiledit.morphospace.crops import EDGE, Picture

LITE = "lite"
_BATCH = 16
_ZONES = (0.0, 0.4, 0.62, 1.0)
"""Limits of the zones, as shares of half the edge; no pixel of a map of 10 or 20 is on one."""
_NAMED = re.compile(r"(torchvision|timm):([\w.]+)")


@dataclass(frozen=True)
class Backbone:
    """What makes a feature vector of a picture.

    Attributes
    ----------
    name
        ``lite``, ``torchvision:NAME`` or ``timm:NAME``.
    edge
        Edge of the pictures it looks at, in pixels.
    early, late
        Networks that follow each other: (n, 3, edge, edge) to what fine-tuning starts from, and
        from there to (n, q). Only `late` is ever trained.
    mean, std
        Of the values from 0 to 1 it was trained with, by channel.
    """

    name: str
    edge: int
    early: nn.Module
    late: nn.Module
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


class _LiteEarly(nn.Module):
    """EfficientNet-Lite0 down to stride 16, before its last two stages."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.stem = nn.Sequential(net.conv_stem, net.bn1)
        self.blocks = net.blocks[:5]

    def forward(self, images: Tensor) -> Tensor:
        """Return the map of stride 16: (n, 112, y, x)."""
        x: Tensor = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return x


class _LiteLate(nn.Module):
    """The last two stages of EfficientNet-Lite0; zones of strides 16 and 32."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.blocks = net.blocks[5:]

    def train(self, mode: bool = True) -> _LiteLate:
        """Switch the mode; the batch normalisation keeps its ImageNet statistics in both."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, 2592) features."""
        return torch.cat([pooled(x), pooled(self.blocks(x))], dim=1)


def pooled(x: Tensor) -> Tensor:
    """Return means and deviations of each channel in three zones of a map: (n, 6 C).

    The zones are a square in the middle, a ring around it, and the rim: a specimen stands in the
    middle of its picture, and what it began with is in its own middle.
    """
    zones = _zones(x)
    if not all(zone.any() for zone in zones):
        x = nn.functional.interpolate(x, size=(10, 10))
        zones = _zones(x)
    found = []
    for inside in zones:
        zone = x[..., inside]
        mean = zone.mean(dim=2)
        # The root of zero has no gradient.
        spread = (zone - mean[..., None]).square().mean(dim=2).clamp_min(1e-8).sqrt()
        found += [mean, spread]
    return torch.cat(found, dim=1)


def _zones(x: Tensor) -> list[Tensor]:
    """Return which pixels (y, x) of a map are in each zone; small maps may have none in one."""
    rows, columns = (
        (torch.arange(size, device=x.device) + 0.5).mul(2 / size).sub(1).abs()
        for size in x.shape[2:]
    )
    out = torch.maximum(rows[:, None], columns)
    return [(out >= low) & (out < high) for low, high in pairwise(_ZONES)]


def lite(edge: int = EDGE) -> Backbone:
    """Return EfficientNet-Lite0 with ImageNet weights."""
    net = LiteBody(pretrained=True).net
    early = _fused(_LiteEarly(net).eval().requires_grad_(False))
    return Backbone(LITE, edge, early.to(memory_format=torch.channels_last), _LiteLate(net).eval())


def _fused(module: nn.Module) -> nn.Module:
    """Return a frozen network whose convolutions also do the normalisation that follows them.

    A third less time; it takes the place of the layers in `module`.
    """
    before: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        _fused(child)
        if before and isinstance(child, nn.BatchNorm2d):
            module.register_module(before[0], fuse_conv_bn_eval(before[1], child))
            # timm's normalisation has the activation in it.
            module.register_module(name, getattr(child, "act", nn.Identity()))
        before = (name, child) if isinstance(child, nn.Conv2d) else None
    return module


def foreign(name: str, weights: Mapping[str, Tensor], where: str, edge: int = 0) -> Backbone:
    """Return a model of torchvision or timm without its classifier.

    Parameters
    ----------
    name
        ``torchvision:NAME`` or ``timm:NAME``.
    weights
        Its state, as read from `where`; a classifier in it is left out.
    edge
        Edge of its pictures; 0: what it was made for.

    Raises
    ------
    FossilError
        Where there is no such model, or the weights do not fit.
    """
    library, _, model = name.partition(":")
    made = (_timm if library == "timm" else _torchvision)(model, edge)
    own = made.early.state_dict()
    # The classifier was taken away: what the file has of it has no place.
    kept = {n: t for n, t in weights.items() if n in own or not _is_classifier(n)}
    fill(made.early, kept, where)
    made.early.eval().requires_grad_(False)
    return made


def _is_classifier(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in {"fc", "classifier", "head", "heads"}


def _timm(model: str, edge: int) -> Backbone:
    import timm

    if model not in timm.list_models():
        raise _unknown(f"timm:{model}", timm.list_models())
    network: Any = timm.create_model(model, pretrained=False, num_classes=0)
    made = network.pretrained_cfg
    values = tuple(made["mean"]), tuple(made["std"])
    size = edge or int(made["input_size"][-1])
    return Backbone(f"timm:{model}", size, network, nn.Identity(), *values)


def _torchvision(model: str, edge: int) -> Backbone:
    from torchvision import models

    known = models.list_models(module=models)
    if model not in known:
        raise _unknown(f"torchvision:{model}", known)
    network = models.get_model(model, weights=None)
    # The last linear layer is the classifier in all of them.
    last = [n for n, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
    parent, _, child = last.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return Backbone(f"torchvision:{model}", edge or 224, network, nn.Identity())


def _unknown(name: str, known: Iterable[str]) -> FossilError:
    from difflib import get_close_matches

    near = get_close_matches(name.partition(":")[2], known, 1)
    return FossilError(
        f"There is no backbone {name!r}",
        expected="lite, torchvision:NAME or timm:NAME",
        found=repr(name),
        advice=f"Do you mean {near[0]!r}?" if near else "",
    )


def open_backbone(name: str = LITE, file: Path | None = None, edge: int = 0) -> Backbone:
    """Return a backbone: `lite` by itself, others with weights from a file.

    Parameters
    ----------
    file
        ``.safetensors``, or a checkpoint of torch that holds nothing but tensors.
    edge
        Edge of the pictures in pixels; 0: what the network was made for.

    Raises
    ------
    FossilError
        Where there is no such network, no file is given, or it does not fit.
    """
    if name == LITE:
        return lite(edge or EDGE)
    if not _NAMED.fullmatch(name):
        raise _unknown(name, ())
    if file is None:
        raise FossilError(
            f"The backbone {name} has no weights",
            expected="a file (.safetensors, .pth)",
            advice="Give it with --weights, or take the backbone lite, which has its own.",
        )
    return foreign(name, _read_weights(file), str(file), edge)


def _read_weights(file: Path) -> dict[str, Tensor]:
    with explained(file, "Reading"):
        data = file.read_bytes()
    if file.suffix == ".safetensors":
        return read_tensors(data, str(file))
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    # What torch raises for files that are none, or hold more than tensors.
    except (RuntimeError, EOFError, ValueError, KeyError, ImportError, AttributeError) as error:
        raise _no_weights(file, str(error).splitlines()[0]) from error
    except Exception as error:
        # pickle.UnpicklingError, which is no ValueError; importing pickle only to name it is odd.
        if type(error).__name__ != "UnpicklingError":
            raise
        raise _no_weights(file, "more than tensors") from error
    for key in ("state_dict", "model"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise _no_weights(file, type(state).__name__)
    return state


def _no_weights(file: Path, found: str) -> FossilError:
    return FossilError(
        f"{file} holds no weights",
        expected="tensors by the names of layers, and nothing else",
        found=found,
        advice="Save the state_dict of the model as .safetensors.",
    )


def digest(*parts: nn.Module | Mapping[str, Tensor] | str) -> str:
    """Return a digest of networks, tensors and texts: another one where any of them differs."""
    made = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            made.update(part.encode())
            continue
        tensors = part.state_dict() if isinstance(part, nn.Module) else part
        for name in sorted(tensors):
            made.update(name.encode())
            made.update(tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return made.hexdigest()


VIEWS = 4
"""Mirrored pictures of each: a specimen has no left or right, and no up or down."""


def changed(images: Tensor, copy: int) -> Tensor:
    """Return a copy of pictures (n, 3, y, x) as another photograph of them might be.

    Copies 0 to 3 are mirrored alone: not, left to right, up to down, both. From then on they are
    turned by up to 10 degrees as well, and of other contrast and brightness, by their number.
    """
    axes = [axis for bit, axis in ((1, 3), (2, 2)) if copy & bit]
    images = images.flip(axes) if axes else images
    if copy < VIEWS:
        return images
    turn, contrast, light = np.random.default_rng(copy).uniform(-1, 1, 3)
    angle = np.deg2rad(10 * turn)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    turned = torch.tensor([[cos, -sin, 0], [sin, cos, 0]], device=images.device)
    places = nn.functional.affine_grid(
        turned.expand(len(images), 2, 3), list(images.shape), align_corners=False
    )
    # The ground goes on beyond the edge.
    images = nn.functional.grid_sample(images, places, padding_mode="border", align_corners=False)
    return images * float(1 + 0.2 * contrast) + float(0.1 * light)


def batches(
    backbone: Backbone, pictures: Iterable[Picture], device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """Yield pictures as the backbone takes them, some at a time: (n, 3, edge, edge)."""
    mean, std = (
        torch.tensor(v, device=device)[:, None, None] for v in (backbone.mean, backbone.std)
    )
    stream = iter(pictures)
    while block := list(islice(stream, _BATCH)):
        images = torch.from_numpy(np.stack(block)).to(device).permute(0, 3, 1, 2).float() / 255
        if images.shape[-1] != backbone.edge:
            images = nn.functional.interpolate(
                images, size=(backbone.edge,) * 2, mode="bicubic", antialias=True
            )
        yield ((images - mean) / std).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def features(
    backbone: Backbone,
    pictures: Iterable[Picture],
    copies: Iterable[int] = (0,),
    device: torch.device | str = "cpu",
) -> NDArray[np.float32]:
    """Return the features of changed copies of pictures: (n, v, q)."""
    backbone.early.to(device)
    backbone.late.to(device)
    chosen, found = list(copies), []
    for images in batches(backbone, pictures, device):
        seen = [backbone.late(backbone.early(changed(images, copy))) for copy in chosen]
        found.append(torch.stack(seen, dim=1).float().cpu().numpy())
    return np.concatenate(found)


@torch.inference_mode()
def early_maps(
    backbone: Backbone,
    pictures: Iterable[Picture],
    copies: Iterable[int],
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return what fine-tuning starts from, for copies of pictures: (n, v, C, y, x) in 16 bit."""
    backbone.early.to(device)
    chosen = list(copies)
    return torch.cat(
        [
            torch.stack([backbone.early(changed(images, c)).half().cpu() for c in chosen], dim=1)
            for images in batches(backbone, pictures, device)
        ]
    )
