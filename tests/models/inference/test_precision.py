"""Mixed precision: what it changes, what it never does, and where it is not used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_fossiledit.editing.edit import Edit
from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.inference import precision
from napari_fossiledit.models.inference.precision import gain, gains, halved, mixed
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import default_spec

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def full():
    """A lite model whose random heads say different things at different places."""
    torch.manual_seed(0)
    network = MaskRcnn(default_spec("lite", ("archaeocyathid", "other")))
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.weight.normal_(std=0.5)
        network.roi_heads.mask_predictor.mask_fcn_logits.weight.normal_(std=0.1)
    return MaskRcnnSegmenter(network, Preprocessing())


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(3).integers(0, 255, (96, 128, 3), dtype=np.uint8)


def _maps(segmenter, seed=0):
    pixels = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        return segmenter.network.maps(pixels)


@pytest.mark.parametrize("edit", [None, "backbone.fpn.layer_blocks.0.0", "mask_outputs.0"])
def test_maps_differ_by_the_rounding_of_bfloat16(full, edit):
    if edit:
        random = torch.Generator().manual_seed(1)
        full = Edit({edit: torch.randn(128, 128, 3, 3, generator=random) * 0.02}).apply(full)
    ours, theirs = _maps(mixed(full)), _maps(full)
    for found, wanted in zip(ours, theirs, strict=True):
        for name, values in wanted.items():
            off = (found[name] - values).norm() / values.norm()
            assert found[name].dtype == torch.float32
            assert 1e-4 < off < 4e-2


def test_the_model_stays_the_same(full):
    before = {name: type(m) for name, m in full.network.named_modules()}
    half = mixed(full)
    assert half.model_hash == full.model_hash
    weights = zip(half.network.parameters(), full.network.parameters(), strict=True)
    assert all(a is b for a, b in weights)
    assert {name: type(m) for name, m in full.network.named_modules()} == before


def test_masks_in_the_same_boxes_agree(full, image):
    boxes = torch.tensor([[8.0, 8, 60, 50], [30, 20, 120, 90]])
    labels = torch.tensor([1, 2])
    with torch.inference_mode():
        pixels = full.preprocessing.normalise(full.preprocessing.prepare(image))
        drawn = [
            s.network.draw(s.network.maps(pixels), boxes, labels, (96, 128))
            for s in (full, mixed(full))
        ]
    assert float((drawn[0] - drawn[1]).abs().max()) < 0.05
    assert not torch.equal(*drawn)


def test_scores_and_places_of_proposals_are_not_rounded(full):
    levels = list(_maps(full).finding.values())
    head = mixed(full).network.rpn.head
    with torch.inference_mode():
        for values in (*head(levels)[0], *head(levels)[1]):
            assert values.dtype == torch.float32
            assert not torch.equal(values, values.bfloat16().float())


def test_views_beyond_the_first_alone_are_mixed(full, image):
    plain, views = (s.predict(image, views=4) for s in (full, mixed(full, 1)))
    assert len(plain) == len(views) > 10
    for a, b in zip(plain, views, strict=True):
        assert a.score == b.score
        ours, theirs = a.mask.to_array(), b.mask.to_array()
        assert (ours ^ theirs).sum() <= 0.1 * max(theirs.sum(), 100)
    one, same = (s.predict(image) for s in (full, mixed(full, 1)))
    assert [i.mask for i in one] == [i.mask for i in same]


def test_depthwise_convolutions_learn_in_float32(full):
    network = halved(full.network)
    seen = set()
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.register_forward_hook(lambda m, i, output: seen.add(output.dtype))
    network.maps(torch.ones(1, 3, 64, 64))
    assert seen == {torch.float32}


def test_other_models_are_refused(full):
    class Other:
        network = nn.Identity()

    with pytest.raises(FossilError, match=r"Mixed precision cannot.*Identity.*precision full"):
        mixed(Other())


def test_the_gain_is_measured_once(monkeypatch):
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no bfloat16")
    gain.cache_clear()
    calls = []
    convolve = nn.functional.conv2d
    monkeypatch.setattr(
        precision.nn.functional, "conv2d", lambda *a, **k: calls.append(a) or convolve(*a, **k)
    )
    first = gain("cpu")
    assert len(calls) == 50
    assert gain("cpu") == first > 0
    assert len(calls) == 50


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda"])
def test_no_gain_where_a_device_lacks_it(device, monkeypatch):
    monkeypatch.setattr(precision, "gain", gain.__wrapped__)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert not gains(torch.device(device))
