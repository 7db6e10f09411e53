"""The backend detectron2 against the twin; run by test_backends.py.

It is not collected by itself: detectron2 must be importable, which it never is in other tests.
"""

from __future__ import annotations

import copy
import json
import math
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_fossiledit.cli.commands import app
from napari_fossiledit.editing.edit import Edit
from napari_fossiledit.editing.examples import Pair
from napari_fossiledit.editing.solve import solve
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.models.detectron2.read import read_detectron2
from napari_fossiledit.models.detectron2.write import write_detectron2
from napari_fossiledit.models.files.registry import load_model, save_model
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.native import training as native_detectron2_train
from napari_fossiledit.models.native.backends import has_detectron2, on_backend, require_backend
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import default_spec
from napari_fossiledit.params.annotations import ImportParams
from napari_fossiledit.params.editing import Pull, SolveParams, Solver
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.params.segment import Backend, Device, PredictParams, TrainParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.progress import Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.annotate.files import import_annotations
from napari_fossiledit.workflows.sample import reef as sample
from napari_fossiledit.workflows.segment import predict, train
from napari_fossiledit.workflows.stack import new

LIBRARIES = {"cv2", "detectron2", "fvcore"}


def _section(seed, shape=(120, 165)):
    """Rings on mud, blurred by nothing and a little noisy."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.full((*shape, 3), (120, 90, 80)) + 25 * np.sin(x / 9 + seed)[..., None]
    for _ in range(25):
        distance = np.hypot(y - draw.uniform(0, shape[0]), x - draw.uniform(0, shape[1]))
        image[abs(distance - draw.uniform(8, 40)) < 4] = draw.uniform(60, 240, 3)
    return (image + draw.normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8)


def test_nothing_of_detectron2_is_imported_to_find_it():
    assert has_detectron2()
    require_backend(Backend.DETECTRON2)
    assert not LIBRARIES & set(sys.modules)


def _fewer(config):
    """Take fewer proposals and samples, for the sake of time."""
    config = re.sub(r"(TOPK_T\w+): \d+", r"\1: 150", config)
    return re.sub(r"(BATCH_SIZE_PER_IMAGE): 512", r"\1: 16", config)


@pytest.fixture(scope="module")
def both(native, tmp_path_factory):
    """A model that detectron2 made, here as the twin and in the backend."""
    folder = tmp_path_factory.mktemp("made")
    image = _section(0)
    np.save(folder / "section.npy", image)
    options = {"architecture": "r50", "classes": 2, "short_edge": 96, "long_edge": 128}
    native("create", images=[folder / "section.npy"], folder=folder, seed=2, **options)
    config = folder / "config.yaml"
    config.write_text(_fewer(config.read_text()))
    twin = read_detectron2(folder / "model_final.pth").segmenter("cpu")
    made = on_backend(twin, Backend.DETECTRON2)
    return SimpleNamespace(twin=twin, native=made, folder=folder, image=image)


def _require_same(found, wanted):
    """Same instances in the same order, by the tolerances of scores and masks."""
    assert len(found) == len(wanted) > 0
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.class_name, ours.slice) == (theirs.class_name, theirs.slice)
        assert abs(ours.score - theirs.score) <= 1e-4
        boxes = np.subtract(ours.mask.box, theirs.mask.box)
        assert np.abs(boxes).max() <= 1
        one, other = ours.mask.to_array(), theirs.mask.to_array()
        assert (one & other).sum() >= 0.999 * (one | other).sum()


def test_it_is_a_segmenter_with_the_name_of_the_twin(both):
    assert isinstance(both.native, Segmenter)
    assert both.native.classes == both.twin.classes
    assert both.native.model_hash == both.twin.model_hash
    assert tuple(both.native.layers()) == tuple(both.twin.layers())
    assert type(both.native.network.model).__module__.startswith("detectron2.")
    assert both.native.network.notes == ()


@pytest.mark.parametrize(
    "options",
    [
        {"max_detections": 40},
        {"max_detections": 7, "slice_index": 3, "score_floor": 0.6},
        {"max_detections": 7, "views": 8},
    ],
    ids=["plain", "limited", "views"],
)
def test_predictions_are_those_of_the_twin(both, options):
    found = both.native.predict(both.image, **options)
    _require_same(found, both.twin.predict(both.image, **options))
    assert len(found) <= options.get("max_detections", 100)
    assert min(i.score for i in found) > options.get("score_floor", 0.0)
    assert found[0].mask.shape == both.image.shape[:2]


def _with_spec(segmenter, **changes):
    """Same weights under another record."""
    network = copy.deepcopy(segmenter.network)
    network.spec = network.spec.model_copy(update=changes)
    return MaskRcnnSegmenter(network, segmenter.preprocessing)


def test_classes_that_are_left_out_stay_out(both):
    twin = _with_spec(both.twin, classes=("-", "cup"))
    twin.network.roi_heads.left_out = (0,)
    found = on_backend(twin, Backend.DETECTRON2).predict(both.image, max_detections=10)
    assert {i.class_name for i in found} == {"cup"}
    _require_same(found, twin.predict(both.image, max_detections=10))


def test_boxes_are_those_of_the_twin(both):
    rgb = both.twin.preprocessing.prepare(both.image)
    pixels, size = both.twin.preprocessing.normalise(rgb), rgb.shape[:2]
    limits = SimpleNamespace(floor=0.0, count=20)
    networks = (both.native.network, both.twin.network)
    with torch.inference_mode():
        found, wanted = (n.find(pixels, n.maps(pixels), size, limits) for n in networks)
    assert torch.equal(found["labels"], wanted["labels"])
    assert float((found["boxes"] - wanted["boxes"]).abs().max()) <= 0.05
    assert float((found["scores"] - wanted["scores"]).abs().max()) <= 1e-4


def test_tiles_grey_and_sixteen_bits_go_through(both):
    tiled = both.twin.preprocessing.model_copy(update={"tile": 80, "overlap": 16})
    grey = both.image[..., 0].astype(np.uint16)
    found, wanted = (
        MaskRcnnSegmenter(s.network, tiled).predict(grey, tiles=True, max_detections=8)
        for s in (both.native, both.twin)
    )
    assert len(wanted) > 8
    _require_same(found, wanted)


def test_a_prediction_is_cancelled(both):
    with pytest.raises(CancelledError, match="prediction was cancelled"):
        both.native.predict(both.image, cancel=lambda: True)


def test_an_image_without_detections_gives_none(both):
    assert both.native.predict(both.image, score_floor=1.0) == []


def test_keys_and_values_are_those_of_the_twin(both):
    found, wanted = both.native.capture(both.image), both.twin.capture(both.image)
    assert [c.stride for c in found] == [c.stride for c in wanted] == [4, 8, 16, 32]
    for ours, theirs in zip(found, wanted, strict=True):
        assert float((ours.key - theirs.key).abs().max()) <= 1e-4
        assert float((ours.value - theirs.value).abs().max()) <= 1e-4


def _mud(image):
    filled = image.copy()
    filled[:60] = (150, 60, 50)
    return filled


def _solved(segmenter, image):
    params = SolveParams(solver=Solver.RIDGE, levels="3", pull_to=Pull.WEIGHTS)
    return solve(segmenter, [Pair(image, _mud(image))], params).edit


def test_an_edit_is_the_same_and_goes_either_way(both):
    edit, wanted = _solved(both.native, both.image), _solved(both.twin, both.image)
    assert set(edit.deltas) == set(wanted.deltas) == set(tuple(both.twin.layers())[3:])
    for name, delta in edit.deltas.items():
        assert float(wanted.deltas[name].abs().max()) > 1e-3
        assert float((delta - wanted.deltas[name]).abs().max()) <= 1e-5
    before = both.native.model_hash
    edited, twin = edit.apply(both.native, 0.5), edit.apply(both.twin, 0.5)
    assert edited.model_hash == twin.model_hash != before
    assert MaskRcnnSegmenter(both.native.network, both.native.preprocessing).model_hash == before
    few = {"max_detections": 10}
    _require_same(edited.predict(both.image, **few), twin.predict(both.image, **few))
    assert edit.drift(both.native) == pytest.approx(edit.drift(both.twin))


def test_what_is_saved_from_it_is_the_model(both, tmp_path):
    record = save_model(both.native, tmp_path / "ours")
    assert load_model(tmp_path / "ours", Device.CPU).model_hash == record.model_hash
    write_detectron2(both.native, tmp_path / "theirs")
    again = read_detectron2(tmp_path / "theirs" / "model_final.pth").segmenter("cpu")
    assert again.model_hash == both.twin.model_hash


def test_an_edit_of_another_model_is_refused(both):
    with pytest.raises(FossilError, match=r"does not fit.*no such layer"):
        Edit({"backbone.fpn_output2": torch.zeros(256, 256, 3, 3)}).apply(both.native)


def test_rounded_anchors_are_told(both):
    twin = _with_spec(both.twin, exact_anchors=False)
    (note,) = on_backend(twin, Backend.DETECTRON2).network.notes
    assert "rounded to whole pixels" in note


def test_a_lite_model_is_refused():
    twin = MaskRcnnSegmenter(MaskRcnn(default_spec("lite", ("a",))), Preprocessing())
    with pytest.raises(FossilError, match=r"lite model cannot run in detectron2.*backend twin"):
        on_backend(twin, Backend.DETECTRON2)


@pytest.fixture(scope="module")
def project(both, tmp_path_factory):
    """A sample reef, every slice traced, with the model of `both`."""
    folder = tmp_path_factory.mktemp("reef")
    sample.run(folder, ReefParams(slices=3, size=128, seed=3, cups_per_cm3=6))
    path = folder / "tiny.fossil"
    new.run(path, folder / "images", NewParams(pixel_size=72.7, slice_spacing=500))
    import_annotations(path, ImportParams(file=folder / "annotations.json"))
    with Project.open(path) as opened:
        save_model(both.twin, opened.model_folder("theirs"))
    return path


def test_the_command_predicts_with_it(project):
    command = ["predict", str(project), "--model", "theirs", "--slices", "1", "--json"]
    cpu = ["--device", "cpu", "--max-detections", "10"]
    done = CliRunner().invoke(app, [*command, *cpu, "--backend", "detectron2"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["predicted"], told["kept"]) == ("1", 0)
    wanted = PredictParams(model="theirs", slices="1", device=Device.CPU, max_detections=10)
    twin = predict.run(project, wanted)
    assert twin.source != told["source"]
    with Project.open(project) as opened:
        _require_same(
            list(opened.ledger.instances(told["source"], slices=[1])),
            list(opened.ledger.instances(twin.source, slices=[1])),
        )


def test_a_device_that_is_not_there_is_told(project):
    device = "cuda" if sys.platform == "darwin" else "mps"
    params = PredictParams(model="theirs", slices="2", device=device, backend="detectron2")
    with pytest.raises(FossilError, match=f"device {device} cannot be used"):
        predict.run(project, params)


def test_it_trains_and_gives_a_normal_model(project, both):
    seen = []
    params = TrainParams(
        name="trained",
        architecture="r50",
        backend="detectron2",
        slices="0,2",
        init=str(both.folder / "model_final.pth"),
        max_steps=2,
        crop=64,
        batch=2,
        learning_rate=1e-5,
        device="cpu",
    )
    made = train.run(project, params, job=Job(seen.append))
    assert (made.steps, made.stopped) == (2, "steps")
    assert [p.values["loss"] > 0 for p in seen] == [True] * 2
    assert {"loss_cls", "loss_mask", "loss_rpn_loc", "rate"} <= set(seen[0].values)
    assert seen[0].eta_s > 0
    assert seen[-1].done == seen[-1].total
    assert len((made.folder / "curve.jsonl").read_text().splitlines()) == 2
    trained = load_model(made.folder, Device.CPU)
    assert trained.network.spec.exact_anchors
    assert trained.classes == ("archaeocyathid",)
    start = dict(both.twin.network.named_parameters())
    moved = {n for n, p in trained.network.named_parameters() if not torch.equal(p, start[n])}
    assert {f"backbone.fpn.layer_blocks.{n}.0.weight" for n in range(4)} <= moved
    assert not [n for n in moved if n.startswith(("backbone.body.conv1", "backbone.body.layer1"))]
    wanted = PredictParams(model="trained", slices="1", device=Device.CPU, max_detections=5)
    found = predict.run(project, wanted)
    assert found.predicted == (1,)


def _quick(both, **values):
    start = str(both.folder / "model_final.pth")
    fixed = {"architecture": "r50", "backend": "detectron2", "slices": "0", "init": start}
    tiny = {"crop": 64, "batch": 1, "learning_rate": 1e-5, "device": "cpu", "max_steps": 50}
    return TrainParams(**{**fixed, **tiny, **values})


def test_a_training_that_is_cancelled_keeps_its_model(project, both, caplog):
    seen = []
    made = train.run(
        project,
        _quick(both, name="stopped"),
        job=Job(seen.append, lambda: len(seen) == 1),
    )
    assert (made.steps, made.stopped) == (1, "cancelled")
    assert load_model(made.folder, Device.CPU).classes == ("archaeocyathid",)
    assert "Exception during training" not in caplog.text
    with pytest.raises(FossilError, match="has a model 'stopped' already"):
        train.run(project, _quick(both, name="stopped"))


def test_a_training_that_is_cancelled_at_once_leaves_no_model(project, both):
    with pytest.raises(CancelledError):
        train.run(project, _quick(both, name="never"), job=Job(cancelled=lambda: True))
    with Project.open(project) as opened:
        assert "never" not in opened.models()


def test_a_training_that_diverges_is_told(project, both, monkeypatch):
    monkeypatch.setattr(native_detectron2_train, "one_cycle", lambda share: math.inf)
    with pytest.raises(FossilError, match=r"diverged at step 1.*lower learning rate"):
        train.run(project, _quick(both, name="wild"))
