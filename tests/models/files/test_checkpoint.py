"""Models on disk: the same predictions after loading, and what is said of broken files."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.files.places import SHIPPED, shipped_models
from napari_fossiledit.models.files.registry import (
    load_model,
    read_record,
    save_model,
)
from napari_fossiledit.models.files.torchvision_names import ours
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import default_spec
from napari_fossiledit.models.training.initial import adopt, initial_network
from napari_fossiledit.params.segment import TrainParams

SMALL = {"channels": 16, "box_width": 16, "mask_channels": 8}


def _model(classes=("a", "b")):
    torch.manual_seed(0)
    network = MaskRcnn(default_spec("lite", classes).model_copy(update=SMALL))
    return MaskRcnnSegmenter(network, Preprocessing(scale=0.5, tile=128, overlap=32))


@pytest.fixture(scope="module")
def model():
    return _model()


@pytest.fixture
def folder(model, tmp_path):
    save_model(model, tmp_path / "m", training={"slices": [0, 2]})
    return tmp_path / "m"


def _image():
    return np.random.default_rng(0).integers(0, 255, (90, 130, 3), dtype=np.uint8)


def test_loaded_model_predicts_the_same(model, folder):
    again = load_model(folder, "cpu")
    assert isinstance(again, Segmenter)
    assert again.model_hash == model.model_hash
    assert again.classes == ("a", "b")
    assert read_record(folder).training == {"slices": [0, 2]}
    one, other = (m.predict(_image(), slice_index=3) for m in (model, again))
    assert one
    assert one == other
    assert all(i.slice == 3 and i.mask.shape == (90, 130) for i in one)


def test_half_precision_halves_the_file_and_keeps_its_own_hash(model, folder, tmp_path):
    save_model(model, tmp_path / "half", half=True)
    sizes = [(f / "weights.safetensors").stat().st_size for f in (folder, tmp_path / "half")]
    assert sizes[1] < 0.53 * sizes[0]
    again = load_model(tmp_path / "half", "cpu")
    assert again.model_hash != model.model_hash
    assert next(again.network.parameters()).dtype == torch.float32
    assert load_model(tmp_path / "half" / "model.json", "cpu").model_hash == again.model_hash


def test_predictions_are_sorted_limited_and_floored(model):
    found = model.predict(_image(), max_detections=7, score_floor=0.3)
    scores = [i.score for i in found]
    assert len(found) <= 7
    assert scores == sorted(scores, reverse=True)
    assert all(s >= 0.3 for s in scores)


def test_tiles_on_demand_and_cancel(model):
    checks = []
    model.predict(_image(), tiles=True, cancel=lambda: bool(checks.append(1)))
    assert len(checks) == 1
    tiled = MaskRcnnSegmenter(model.network, Preprocessing(tile=64, overlap=16))
    tiled.predict(_image(), cancel=lambda: bool(checks.append(1)))
    assert len(checks) > 4
    with pytest.raises(FossilError, match="cancelled"):
        tiled.predict(_image(), cancel=lambda: True)


def _said(folder):
    with pytest.raises(FossilError) as caught:
        load_model(folder, "cpu")
    return str(caught.value)


def test_missing_files(folder, tmp_path):
    assert "no such folder" in _said(tmp_path / "none")
    (folder / "weights.safetensors").unlink()
    assert "weights.safetensors" in _said(folder)
    (folder / "model.json").unlink()
    assert "expected model.json and weights.safetensors" in _said(folder)


def test_truncated_weights(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    said = _said(folder)
    assert str(path) in said
    assert "expected a complete safetensors file; found 5000 bytes" in said


def _change(folder, **changes):
    path = folder / "model.json"
    record = json.loads(path.read_text())
    network = record["network"] | changes.pop("network", {})
    path.write_text(json.dumps(record | {"network": network} | changes))


def test_unknown_architecture(folder):
    _change(folder, network={"architecture": "vit"})
    assert "expected one of lite, r50, r101, x101; found vit" in _said(folder)


def test_newer_format_and_nonsense(folder):
    _change(folder, format_version=7)
    assert "expected format 1 or older; found format 7" in _said(folder)
    (folder / "model.json").write_text("[]")
    assert "is not the record of a model" in _said(folder)
    (folder / "model.json").write_text("{")
    assert "expected the record of a model" in _said(folder)


def test_wrong_shape_names_the_layer(folder):
    _change(folder, network={"channels": 24})
    said = _said(folder)
    assert "backbone.fpn" in said
    assert "expected (24," in said
    assert "found (16," in said


def _rewrite(folder, change):
    path = folder / "weights.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def test_missing_unknown_and_damaged_layers(folder):
    name = "rpn.head.cls_logits.bias"
    _rewrite(folder, lambda w: w[name].fill_(float("nan")))
    assert f"{name} in" in _said(folder)
    assert "3 of 3 are NaN or infinite" in _said(folder)
    _rewrite(folder, lambda w: w.pop(name))
    assert f"lacks layer {name}" in _said(folder)
    _rewrite(folder, lambda w: w.update({name: torch.zeros(3), "zz": torch.zeros(1)}))
    assert "unknown layer zz" in _said(folder)


def test_changed_weights_do_not_belong_to_their_record(folder):
    _rewrite(folder, lambda w: w["rpn.head.cls_logits.bias"].add_(1))
    assert "does not belong to its model.json" in _said(folder)


def test_start_from_another_model_keeps_all_but_class_layers(model, folder):
    params = TrainParams(classes=("x",), init=str(folder))
    network, settings, notes = initial_network(params)
    assert settings == model.preprocessing
    assert "start anew for x" in notes[0]
    assert network.spec.classes == ("x",)
    old, new = model.network.state_dict(), network.state_dict()
    assert torch.equal(
        new["backbone.fpn.layer_blocks.0.0.weight"], old["backbone.fpn.layer_blocks.0.0.weight"]
    )
    assert new["roi_heads.box_predictor.cls_score.weight"].shape[0] == 2
    anew = adopt(MaskRcnn(network.spec), old, "here")
    assert all("predictor" in name for name in anew)
    assert len(anew) == 6


def _init(path, architecture="lite"):
    params = TrainParams(classes=("x",), init=str(path), architecture=architecture)
    with pytest.raises(FossilError) as caught:
        initial_network(params)
    return str(caught.value)


class _Trap:
    def __reduce__(self):
        return (pytest.fail, ("the file was unpickled",))


def test_start_files_that_do_not_fit(model, folder, tmp_path):
    torch.save({"model": {"a": torch.zeros(2)}}, tmp_path / "other.pth")
    assert "lacks layer" in _init(tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "holds no state dictionary" in _init(tmp_path / "list.pth")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(_Trap()))
    assert "expected a torch file that holds weights only" in _init(tmp_path / "evil.pth")
    (tmp_path / "short.pth").write_bytes(b"PK")
    assert "short.pth cannot be read" in _init(tmp_path / "short.pth")
    assert "none.pth" in _init(tmp_path / "none.pth")
    assert "expected r50; found lite" in _init(folder, "r50")


def test_resnets_need_a_file():
    assert "--init" in _init("", "r50")


def test_start_from_a_torch_state_dictionary(tmp_path):
    spec = default_spec("lite", ("x", "y"))
    torch.manual_seed(5)
    weights = MaskRcnn(spec).state_dict()
    torch.save(weights, tmp_path / "w.pth")
    network, *_ = initial_network(TrainParams(classes=("x",), init=str(tmp_path / "w.pth")))
    found = network.state_dict()
    same = [k for k in found if torch.equal(found[k], weights[k])]
    assert len(found) - len(same) <= 6


def test_a_new_model_has_the_classes_it_was_made_for():
    fresh = MaskRcnnSegmenter(MaskRcnn(default_spec("lite", ("a",))), Preprocessing())
    assert fresh.classes == ("a",)


def test_the_shipped_model_is_small_and_learned_archaeocyathids():
    assert "reef-lite" in shipped_models()
    folder = SHIPPED / "reef-lite"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 16e6
    record = read_record(folder)
    assert record.half
    assert record.training["slices"] == [4, 14, 24, 34, 44, 54]
    assert load_model(folder, "cpu").classes == ("archaeocyathid",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("backbone.fpn.inner_blocks.2.weight", "backbone.fpn.inner_blocks.2.0.weight"),
        ("backbone.fpn.layer_blocks.0.bias", "backbone.fpn.layer_blocks.0.0.bias"),
        ("rpn.head.conv.weight", "rpn.head.conv.0.0.weight"),
        ("roi_heads.mask_head.mask_fcn3.bias", "roi_heads.mask_head.2.0.bias"),
        ("rpn.head.cls_logits.weight", "rpn.head.cls_logits.weight"),
        ("backbone.fpn.layer_blocks.0.0.bias", "backbone.fpn.layer_blocks.0.0.bias"),
    ],
)
def test_published_files_of_torchvision_use_old_names(old, new):
    assert list(ours({old: torch.zeros(1)})) == [new]
