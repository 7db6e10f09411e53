"""A model compiled by OpenVINO finds what the plain one finds; without OpenVINO it says so."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from napari_fossiledit.editing.edit import Edit
from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.compiled import compiled
from napari_fossiledit.models.heads import Limits
from napari_fossiledit.models.maskrcnn import MaskRcnnSegmenter
from napari_fossiledit.models.network import MaskRcnn
from napari_fossiledit.models.preprocessing import Preprocessing
from napari_fossiledit.models.spec import default_spec


@pytest.fixture(scope="module")
def plain():
    """A lite model whose random heads say different things at different places."""
    torch.manual_seed(0)
    network = MaskRcnn(default_spec("lite", ("archaeocyathid", "other")))
    heads = network.roi_heads
    with torch.no_grad():
        heads.box_predictor.cls_score.weight.normal_(std=0.5)
        heads.mask_predictor.mask_fcn_logits.weight.normal_(std=2.0)
    return MaskRcnnSegmenter(network, Preprocessing())


@pytest.fixture(scope="module")
def fast(plain):
    """The same model, compiled once for all tests."""
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    return compiled(plain)


def _image(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (*shape, 3), dtype=np.uint8)


def _stage(segmenter, image):
    pixels = segmenter.preprocessing.normalise(image)
    with torch.inference_mode():
        maps = segmenter.network.backbone(pixels)
        objectness, offsets = segmenter.network.rpn.head(list(maps.values()))
        names, maps = list(maps), [m.clone() for m in maps.values()]
        return names, [*maps, *objectness, *offsets]


def test_every_stage_is_the_same_for_every_size(plain, fast):
    for shape in ((96, 128), (160, 64)):
        names, wanted = _stage(plain, _image(shape))
        found_names, found = _stage(fast, _image(shape))
        assert names == found_names
        for a, b in zip(found, wanted, strict=True):
            assert float((a - b).abs().max()) <= 1e-4 * max(float(b.abs().max()), 1)
    assert fast.model_hash == plain.model_hash
    assert fast.classes == plain.classes


def test_the_same_masks_and_those_of_an_edit(plain, fast):
    image = _image((96, 128), seed=3)
    before = fast.predict(image)
    wanted = plain.predict(image)
    assert len(before) == len(wanted) > 10
    for a, b in zip(before, wanted, strict=True):
        assert abs(a.score - b.score) <= 1e-4
        ours, theirs = a.mask.to_array(), b.mask.to_array()
        assert (ours & theirs).sum() >= 0.999 * (ours | theirs).sum()
    old = [layer.weight.detach().clone() for layer in plain.outputs]
    try:
        with torch.no_grad():
            for layer in plain.outputs:
                layer.weight.mul_(1.5)
        del plain.__dict__["model_hash"]
        edited, after = plain.predict(image), compiled(plain).predict(image)
    finally:
        with torch.no_grad():
            for layer, weight in zip(plain.outputs, old, strict=True):
                layer.weight.copy_(weight)
    scores = np.array([i.score for i in after])
    assert np.allclose(scores, [i.score for i in edited], atol=1e-4)
    assert len(scores) != len(before) or not np.allclose(scores, [i.score for i in before])


def test_nothing_found_is_no_error(fast):
    assert fast.predict_prepared(_image((64, 64)), Limits(2.0, 5)) == []


def test_without_openvino_it_says_how_to_get_it(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(FossilError, match=r'pip install "napari-fossiledit\[openvino\]"'):
        compiled(plain)


def test_its_converter_tells_nobody(fast):
    assert sys.modules["openvino_telemetry"] is None
    assert fast.network.spec == default_spec("lite", ("archaeocyathid", "other"))


def test_an_edit_of_the_masks_alone_stays_eager(plain):
    edited = Edit({"mask_outputs.0": torch.zeros(128, 128, 3, 3)}).apply(plain)
    with pytest.raises(FossilError, match=r"without an edit of the masks alone.*engine eager"):
        compiled(edited)


def test_only_a_cpu(plain, monkeypatch):
    monkeypatch.setattr(plain, "device", torch.device("cuda"))
    with pytest.raises(FossilError, match="computes on the CPU"):
        compiled(plain)


def test_importing_the_program_loads_nothing_heavy():
    heavy = ("detectron2", "cv2", "torch", "openvino")
    program = "import sys, napari_fossiledit; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not set(heavy) & set(done.stdout.split())
