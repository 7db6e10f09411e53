"""Backbones: the same function as their references, four pyramid outputs at one place."""

from __future__ import annotations

import pytest
import timm
import torch
from torch.nn import functional as F
from torchvision.models import resnet50
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d

from napari_fossiledit.models.network.backbones import (
    LiteBody,
    _package_file,
    build_backbone,
    lite0_weights,
    pyramid_outputs,
)
from napari_fossiledit.models.network.heads import Limits
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import default_spec
from napari_fossiledit.params.segment import Architecture

# Kernel, stride, first block and number of blocks of each stage (EfficientNet-Lite0).
STAGES = [(3, 1, 0, 1), (3, 2, 1, 2), (5, 2, 3, 2), (3, 2, 5, 3), (5, 1, 8, 3), (5, 2, 11, 4)]
STAGES += [(3, 1, 15, 1)]


@pytest.fixture(scope="module")
def package() -> dict[str, torch.Tensor]:
    return torch.load(_package_file(), weights_only=True)


def _conv(x, weight, stride=1, groups=1):
    """Convolution with TensorFlow's SAME padding: the odd pixel goes to the foot and right."""
    kernel = weight.shape[-1]
    total = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:]]
    (up, left) = (t // 2 for t in total)
    x = F.pad(x, (left, total[1] - left, up, total[0] - up))
    return F.conv2d(x, weight, stride=stride, groups=groups)


def _norm(x, weights, name):
    values = (weights[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *values, training=False, eps=1e-3)


def _block(x, w, number, stride):
    name, start = f"_blocks.{number}", x
    if f"{name}._expand_conv.weight" in w:
        x = F.relu6(_norm(_conv(x, w[f"{name}._expand_conv.weight"]), w, f"{name}._bn0"))
    x = _conv(x, w[f"{name}._depthwise_conv.weight"], stride, x.shape[1])
    x = F.relu6(_norm(x, w, f"{name}._bn1"))
    x = _norm(_conv(x, w[f"{name}._project_conv.weight"]), w, f"{name}._bn2")
    return x + start if x.shape == start.shape and stride == 1 else x


def _reference(x, w):
    """The network by the package's own names; what each stage that is used gives."""
    x = F.relu6(_norm(_conv(x, w["_conv_stem.weight"], 2), w, "_bn0"))
    maps = []
    for _, stride, first, count in STAGES:
        for number in range(first, first + count):
            x = _block(x, w, number, stride if number == first else 1)
        maps.append(x)
    return [maps[i] for i in (1, 2, 4, 6)]


def test_lite_backbone_computes_what_the_package_holds(package):
    image = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = list(LiteBody(pretrained=True).eval()(image).values())
        wanted = _reference(image, package)
    assert [f.shape[1] for f in found] == [24, 40, 112, 320]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_every_weight_of_the_package_gets_its_own_name(package):
    named = lite0_weights()
    assert len(named) == len(package)
    wanted = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    assert {k: v.shape for k, v in named.items()} == {k: v.shape for k, v in wanted.items()}


@pytest.mark.parametrize("architecture", ["lite", "r50", "r101"])
def test_four_output_convolutions_at_one_path(architecture):
    with torch.device("meta"):
        network = MaskRcnn(default_spec(architecture, ("a",)))
    width = 128 if architecture == "lite" else 256
    for index, layer in enumerate(pyramid_outputs(network.backbone)):
        name = f"backbone.fpn.layer_blocks.{index}.0"
        assert network.get_submodule(name) is layer
        assert layer.weight.shape == (width, width, 3, 3)
    assert len(network.backbone.fpn.layer_blocks) == 4


def test_lite_fits_16_mb_in_half_precision():
    weights = MaskRcnn(default_spec("lite", ("a",))).state_dict()
    assert sum(value.numel() for value in weights.values()) * 2 < 15.5e6


def test_r50_takes_torchvision_checkpoints_layer_for_layer():
    with torch.device("meta"):
        ours = MaskRcnn(default_spec("r50", ("a",))).state_dict()
        theirs = maskrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=2, norm_layer=FrozenBatchNorm2d
        ).state_dict()
    wanted = {k: v.shape for k, v in theirs.items() if not k.endswith("num_batches_tracked")}
    assert {k: v.shape for k, v in ours.items()} == wanted


def test_heads_detect_what_torchvision_detects():
    torch.manual_seed(0)
    changes = {"channels": 16, "box_width": 1024, "mask_channels": 256}
    spec = default_spec("r50", ("a", "b")).model_copy(
        update={**changes, "architecture": Architecture.LITE}
    )
    ours = MaskRcnn(spec).eval()
    theirs = MaskRCNN(ours.backbone, num_classes=3).eval()
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        features = theirs.backbone(image)
        proposals, _ = theirs.rpn(ImageList(image, [(90, 120)]), features)
        wanted, _ = theirs.roi_heads(features, proposals, [(90, 120)])
        maps = ours.maps(image)
        found = ours.find(image, maps, (90, 120), Limits(0.05, 100))
        drawn = ours.draw(maps, found["boxes"], found["labels"], (90, 120))
    assert len(found["boxes"]) > 10
    for name in ("boxes", "scores", "labels"):
        torch.testing.assert_close(found[name], wanted[0][name])
    torch.testing.assert_close(drawn, wanted[0]["masks"][:, 0])


@pytest.mark.parametrize("first", [False, True])
def test_stride_place_of_resnets(first):
    spec = default_spec("r50", ("a",)).model_copy(update={"stride_in_1x1": first})
    body = build_backbone(spec, pretrained=False).body
    for stage in ("layer2", "layer3", "layer4"):
        block = getattr(body, stage)[0]
        strides = (block.conv1.stride, block.conv2.stride, block.downsample[0].stride)
        assert strides == (((2, 2), (1, 1)) if first else ((1, 1), (2, 2))) + ((2, 2),)
    # Without the change it is torchvision's own network.
    if not first:
        image = torch.randn(1, 3, 64, 64)
        plain = resnet50(weights=None, norm_layer=FrozenBatchNorm2d).eval()
        plain.load_state_dict(body.state_dict(), strict=False)
        x = plain.maxpool(plain.relu(plain.bn1(plain.conv1(image))))
        x = plain.layer4(plain.layer3(plain.layer2(plain.layer1(x))))
        # Folding the normalisation into the weights rounds otherwise.
        near = 1e-5 * float(x.abs().max())
        with torch.no_grad():
            torch.testing.assert_close(body(image)["3"], x, rtol=1e-4, atol=near)


def test_training_leaves_normalisation_and_frozen_stages_alone():
    body = build_backbone(default_spec("lite", ("a",)), pretrained=False).body.train()
    norms = [m for m in body.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)
    learned = {n for n, p in body.net.named_parameters() if p.requires_grad}
    assert not any("bn" in n or n.startswith(("conv_stem", "blocks.0.")) for n in learned)
    assert any(n.startswith("blocks.1.") for n in learned)
