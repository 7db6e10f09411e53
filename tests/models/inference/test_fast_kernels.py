"""The engine fast finds what the exact one finds, and says where it cannot compute."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from napari_fossiledit.editing.edit import Edit
from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.inference.fast_kernels import fast
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import default_spec

pytestmark = pytest.mark.skipif(
    not torch.backends.nnpack.is_available(), reason="this torch comes without NNPACK"
)


@pytest.fixture(scope="module")
def exact():
    """A lite model whose random heads say different things at different places."""
    torch.manual_seed(0)
    network = MaskRcnn(default_spec("lite", ("archaeocyathid", "other")))
    heads = network.roi_heads
    with torch.no_grad():
        heads.box_predictor.cls_score.weight.normal_(std=0.5)
        heads.mask_predictor.mask_fcn_logits.weight.normal_(std=2.0)
    return MaskRcnnSegmenter(network, Preprocessing())


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(3).integers(0, 255, (96, 128, 3), dtype=np.uint8)


def _kinds(segmenter):
    return {type(module).__name__ for module in segmenter.network.modules()}


def _same(found, wanted):
    assert len(found) == len(wanted) > 10
    for a, b in zip(found, wanted, strict=True):
        assert abs(a.score - b.score) <= 1e-4
        ours, theirs = a.mask.to_array(), b.mask.to_array()
        assert (ours & theirs).sum() >= 0.999 * (ours | theirs).sum()


def test_the_same_is_found(exact, image):
    quick = fast(exact)
    _same(quick.predict(image), exact.predict(image))
    assert "_Winograd" in _kinds(quick)
    assert "_Winograd" not in _kinds(exact)
    assert quick.model_hash == exact.model_hash
    weights = zip(quick.network.parameters(), exact.network.parameters(), strict=True)
    assert all(a is b for a, b in weights)


def test_maps_differ_by_rounding(exact):
    random = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, 192, 160, generator=random)
    with torch.inference_mode():
        ours, theirs = (s.network.maps(pixels).finding for s in (fast(exact), exact))
    for name, wanted in theirs.items():
        assert float((ours[name] - wanted).abs().max()) <= 2e-4 * float(wanted.abs().max())
    assert any(not torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("layer", ["backbone.fpn.layer_blocks.0.0", "mask_outputs.0"])
def test_edits_are_computed_fast_too(exact, image, layer):
    random = torch.Generator().manual_seed(1)
    edited = Edit({layer: torch.randn(128, 128, 3, 3, generator=random) * 0.02}).apply(exact)
    _same(fast(edited).predict(image), edited.predict(image))


def test_nothing_found_is_no_error(exact, image):
    assert fast(exact).predict(image, score_floor=1.0) == []


@pytest.mark.parametrize("broken", ["device", "kernels"])
def test_where_it_cannot_compute_it_says_so(exact, monkeypatch, broken):
    if broken == "device":
        monkeypatch.setattr(exact, "device", torch.device("cuda"))
    else:
        monkeypatch.delattr(torch, "_nnpack_spatial_convolution")
    with pytest.raises(FossilError, match=r"engine fast cannot be used here.*engine exact"):
        fast(exact)


def test_importing_the_program_loads_nothing_heavy():
    heavy = ("detectron2", "cv2", "torch")
    program = "import sys, napari_fossiledit; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not set(heavy) & set(done.stdout.split())
