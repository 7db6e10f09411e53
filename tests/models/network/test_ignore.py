"""What lies outside the traced area teaches the network nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torchvision.models.detection.image_list import ImageList

from napari_fossiledit.models.network.heads import _counted, ignored_share, mostly_ignored
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import default_spec

EDGE = 128
SMALL = {"channels": 32, "box_width": 32, "mask_channels": 16, "roi_batch": 400}


@given(
    arrays.arrays(np.bool_, (9, 13)),
    st.tuples(*[st.integers(-3, 15)] * 4),
)
def test_share_is_that_of_the_pixels(ignore, corners):
    x0, x1 = sorted(corners[:2])
    y0, y1 = sorted(corners[2:])
    part = ignore[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    wanted = part.mean() if part.size else 0.0
    box = torch.tensor([[x0, y0, x1, y1]], dtype=torch.float32)
    assert float(ignored_share(box, torch.from_numpy(ignore))) == pytest.approx(wanted)


def test_no_area_ignores_nothing():
    boxes = torch.tensor([[0.0, 0, 5, 5]])
    assert not mostly_ignored(boxes, None).any()
    assert not mostly_ignored(boxes, torch.zeros(9, 9, dtype=torch.bool)).any()


def test_mask_pixels_in_the_area_have_no_weight():
    ignore = torch.zeros(40, 40, dtype=torch.bool)
    ignore[:, 20:] = True
    weight = _counted(ignore, torch.tensor([[0.0, 0, 40, 40], [0, 0, 16, 16]]), 8)
    assert weight[0, :, :4].all()
    assert not weight[0, :, 4:].any()
    assert weight[1].all()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    spec = default_spec("lite", ("a",)).model_copy(update=SMALL)
    return MaskRcnn(spec, pretrained=False).train()


def _target(ignore):
    mask = torch.zeros(1, EDGE, EDGE, dtype=torch.uint8)
    mask[0, 20:50, 10:40] = 1
    return {
        "boxes": torch.tensor([[10.0, 20, 40, 50]]),
        "labels": torch.tensor([1]),
        "masks": mask,
        "ignore": ignore,
    }


def _right_half():
    ignore = torch.zeros(EDGE, EDGE, dtype=torch.bool)
    ignore[:, EDGE // 2 :] = True
    return ignore


def _anchor_gradient(network, target):
    """Gradient of the proposal loss by the objectness of every anchor, and the anchors."""
    levels = [torch.randn(1, 3, EDGE // s, EDGE // s) for s in (4, 8, 16, 32, 64)]
    anchors = network.rpn.anchor_generator(
        ImageList(torch.zeros(1, 3, EDGE, EDGE), [(EDGE, EDGE)]), levels
    )
    objectness = torch.randn(len(anchors[0]), 1, requires_grad=True)
    labels, boxes = network.rpn.assign_targets_to_anchors(anchors, [target])
    offsets = network.rpn.box_coder.encode(boxes, anchors)
    network.rpn.fg_bg_sampler.batch_size_per_image = 10**6
    loss, _ = network.rpn.compute_loss(objectness, torch.zeros(len(anchors[0]), 4), labels, offsets)
    loss.backward()
    return objectness.grad[:, 0], anchors[0]


def test_anchors_in_the_area_get_no_gradient(network):
    ignore = _right_half()
    gradient, anchors = _anchor_gradient(network, _target(ignore))
    inside = mostly_ignored(anchors, ignore)
    assert inside.any()
    assert not gradient[inside].any()
    assert gradient[~inside].any()
    counted, _ = _anchor_gradient(network, _target(torch.zeros_like(ignore)))
    assert counted[inside].any()


def _region_losses(network, target, change):
    """Losses of the region heads where the features of the right half are changed."""
    generator = torch.Generator().manual_seed(1)
    features = {
        str(i): torch.randn(1, 32, EDGE // s, EDGE // s, generator=generator)
        for i, s in enumerate((4, 8, 16, 32))
    }
    for level in features.values():
        level[..., -(level.shape[-1] * 3 // 8) :] *= change
    left = torch.rand(40, 4, generator=generator) * 20
    left[:, 2:] += 25
    right = left + torch.tensor([84.0, 0, 84, 0])
    torch.manual_seed(2)
    return network.roi_heads.losses(features, [torch.cat([left, right])], [(EDGE, EDGE)], [target])


@pytest.mark.parametrize("ignored", [True, False])
def test_an_untraced_object_in_the_area_changes_no_loss(network, ignored):
    ignore = _right_half() if ignored else torch.zeros(EDGE, EDGE, dtype=torch.bool)
    plain = _region_losses(network, _target(ignore), 1.0)
    other = _region_losses(network, _target(ignore), 5.0)
    same = {k: torch.equal(plain[k], other[k]) for k in plain}
    assert same["loss_classifier"] is ignored
    assert same["loss_mask"]


def test_a_crop_without_anything_that_counts_costs_nothing(network):
    target = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, EDGE, EDGE, dtype=torch.uint8),
        "ignore": torch.ones(EDGE, EDGE, dtype=torch.bool),
    }
    losses = network.losses(torch.randn(1, 3, EDGE, EDGE), [target])
    assert len(losses) == 5
    assert all(loss.item() == 0 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
