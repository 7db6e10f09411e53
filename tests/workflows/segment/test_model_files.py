"""Models of detectron2 in and out of a project: used by name, refused with reasons."""

from __future__ import annotations

import errno
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from napari_fossiledit import files
from napari_fossiledit.editing.edit import Edit
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.models.detectron2.read import read_detectron2
from napari_fossiledit.models.detectron2.write import to_detectron2
from napari_fossiledit.models.files.registry import save_model
from napari_fossiledit.models.inference.preprocessing import Preprocessing, Resize
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import default_spec
from napari_fossiledit.params.editing import EditParams
from napari_fossiledit.params.segment import (
    Device,
    EvaluateParams,
    ExportModelParams,
    ImportModelParams,
    PredictParams,
    TrainParams,
)
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.progress import Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.edit import run as edit
from napari_fossiledit.workflows.edit.decide import save_edit
from napari_fossiledit.workflows.segment import evaluate, predict, train
from napari_fossiledit.workflows.segment.model_files import export_model, import_model, list_models
from napari_fossiledit.workflows.shared.foreign_models import proposed_name
from napari_fossiledit.workflows.shared.model_refs import find_model
from napari_fossiledit.workflows.stack import new

SMALL = {"box_width": 16, "mask_channels": 8, "exact_anchors": True, "aligned_roi": True}
CONFIG = {
    "INPUT": {"MIN_SIZE_TEST": 96},
    "MODEL": {
        "ROI_HEADS": {"NUM_CLASSES": 2},
        "ROI_BOX_HEAD": {"FC_DIM": 16},
        "ROI_MASK_HEAD": {"CONV_DIM": 8},
    },
    "VERSION": 2,
}
ONE = ImportModelParams(name="theirs", classes="archaeocyathid,-")


@pytest.fixture(scope="module")
def made():
    """A small R-50 of two classes that knows nothing."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    spec = default_spec("r50", ("a", "b")).model_copy(update=SMALL)
    return MaskRcnnSegmenter(MaskRcnn(spec), Preprocessing())


@pytest.fixture(scope="module")
def state(made):
    return to_detectron2(made)[0]["model"]


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    """The same as detectron2 writes it, with its configuration."""
    folder = tmp_path_factory.mktemp("run-7")
    torch.save({"model": state, "iteration": 7}, folder / "model_final.pth")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder / "model_final.pth"


@pytest.fixture
def with_model(reef_project, made):
    """A project with the small model in it, as if it was trained there."""
    spec = made.network.spec.model_copy(update={"classes": ("archaeocyathid", "-")})
    network = MaskRcnn(spec)
    network.load_state_dict(made.network.state_dict())
    with Project.open(reef_project) as project:
        save_model(
            MaskRcnnSegmenter(network, Preprocessing(scale=0.5)), project.model_folder("r50")
        )
    return reef_project


def said(function, *arguments, **options):
    with pytest.raises(FossilError) as caught:
        function(*arguments, **options)
    return str(caught.value)


def runs(path, kind):
    with Project.open(path) as project:
        return [run for run in project.ledger.runs() if run.kind == kind]


def left(path):
    """What lies in the project's models folder."""
    return sorted(p.name for p in (path / "models").glob("*"))


def test_an_imported_model_is_used_by_its_name(reef_project, checkpoint):
    reports = []
    done = import_model(reef_project, checkpoint, ONE, job=Job(reports.append))
    assert [r.done for r in reports] == [0, 1, 2, 3]
    assert done.classes == ("archaeocyathid", "-")
    assert done.notes == (f"The configuration is {checkpoint.parent / 'config.yaml'}.",)
    found = predict.run(reef_project, PredictParams(model="theirs", slices="1", device=Device.CPU))
    assert found.instances > 0
    judged = evaluate.run(reef_project, EvaluateParams(model="theirs", slices="1"))
    assert judged.summary()["source"] == found.source
    with Project.open(reef_project) as project:
        assert project.ledger.classes(found.source) == ["archaeocyathid"]
        ref = find_model(project, "theirs")
        assert ref.model_hash == ref.load(Device.CPU).model_hash == done.model_hash
    (run,) = runs(reef_project, "models import")
    assert (run.status, run.params["file"]) == ("done", str(checkpoint))
    assert run.summary["notes"] == list(done.notes)
    listed = {m.name: m for m in list_models(reef_project).models}
    assert (listed["theirs"].kind, listed["theirs"].of) == ("imported", str(checkpoint))
    assert (listed["theirs"].architecture, listed["theirs"].classes) == ("r50", done.classes)
    assert listed["reef-lite"].kind == "shipped"


def test_names_are_proposed(tmp_path):
    for name in ("model_final.pth", "model_0004999.pth", "model_best.pth"):
        assert proposed_name(tmp_path / "my run" / name) == "my-run"
    assert proposed_name(tmp_path / "r101 (3x).pkl") == "r101-3x"


def test_other_classes_are_refused_with_the_way_out(reef_project, checkpoint):
    message = said(import_model, reef_project, checkpoint, ImportModelParams())
    assert str(checkpoint) in message
    assert "expected 1 class: archaeocyathid; found 2 classes without names" in message
    assert "Say which is which: --classes" in message
    assert '--classes "archaeocyathid,-" or --classes "0=archaeocyathid"' in message
    for classes, told in {
        "archaeocyathid,sponge": "found sponge",
        "0=archeocyathid": "found archeocyathid",
        "archaeocyathid": "expected 2 names in the model's order",
        "2=archaeocyathid": "numbers from 0 to 1",
        "-,-": "e.g. 0=name",
        "0=archaeocyathid,x": "which class is which",
    }.items():
        params = ImportModelParams(classes=classes)
        assert told in said(import_model, reef_project, checkpoint, params)
    assert left(reef_project) == []
    assert {run.status for run in runs(reef_project, "models import")} == {"failed"}


def test_as_many_classes_are_taken_for_the_project_s(reef_project, checkpoint):
    with Project.open(reef_project) as project:
        project.update(classes=("archaeocyathid", "calcimicrobe"))
    done = import_model(reef_project, checkpoint, ImportModelParams())
    assert done.model == checkpoint.parent.name
    assert done.classes == ("archaeocyathid", "calcimicrobe")
    assert "taken for the project's: 0=archaeocyathid, 1=calcimicrobe" in done.notes[-1]


def test_a_fixed_scale_takes_the_place_of_resizing(reef_project, checkpoint):
    done = import_model(reef_project, checkpoint, ONE.model_copy(update={"scale": 0.5}))
    assert "0.5 network pixels per pixel" in done.notes[-1]
    with Project.open(reef_project) as project:
        settings = find_model(project, "theirs").load(Device.CPU).preprocessing
        assert settings.pixel_size_um == project.geometry.pixel_size_um
    assert (settings.resize, settings.scale, settings.bgr) == (Resize.SCALE, 0.5, True)


class _Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def _without(state, *starts):
    return {n: v for n, v in state.items() if not n.startswith(starts)}


def _bad(kind, state, folder):
    """Write a bad file of some kind; return it."""
    path, one = folder / "m.pth", torch.zeros(1)
    if kind == "missing":
        return path
    if kind == "a folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "code":
        path = folder / "m.pkl"
        path.write_bytes(pickle.dumps({"model": {"a": _Runs(folder / "it ran")}}))
    else:
        narrow = {"backbone.fpn_output2.weight": torch.zeros(128, 128, 3, 3)}
        retina = _without(state, "roi_heads", "proposal_generator")
        content = {
            "truncated": state,
            "no masks": _without(state, "roi_heads.mask_head"),
            "RetinaNet": {**retina, "head.cls_score.weight": one},
            "another width": {**state, **narrow},
        }[kind]
        torch.save({"model": content}, path)
    if kind == "truncated":
        with path.open("r+b") as stream:
            stream.truncate(path.stat().st_size // 2)
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("missing", ("No such file",)),
        ("a folder", ("it is a folder", "expected a checkpoint file (.pth or .pkl)")),
        ("empty", ("found 0 bytes", "copy it again")),
        ("truncated", ("expected a torch file", "truncated")),
        ("code", ("found a call of", "Nothing of it has run")),
        ("no masks", ("expected a Mask R-CNN", "found Faster R-CNN: no masks", "Choose")),
        ("RetinaNet", ("expected a Mask R-CNN", "found RetinaNet", "Choose")),
        ("another width", ("expected 256 channels", "found 128 channels")),
    ],
)
def test_bad_files_leave_nothing_behind(reef_project, state, tmp_path, kind, told):
    path = _bad(kind, state, tmp_path)
    message = said(import_model, reef_project, path, ONE)
    assert str(path) in message
    assert all(words in message for words in told), message
    assert left(reef_project) == []
    assert not (tmp_path / "it ran").exists()
    assert [run.status for run in runs(reef_project, "models import")] == ["failed"]


def test_a_configuration_of_another_network_is_refused(reef_project, checkpoint, tmp_path):
    other = tmp_path / "r101.yaml"
    values = {**CONFIG, "MODEL": {**CONFIG["MODEL"], "RESNETS": {"DEPTH": 101}}}
    other.write_text(yaml.safe_dump(values))
    params = ONE.model_copy(update={"config": str(other)})
    message = said(import_model, reef_project, checkpoint, params)
    assert f"{other} does not belong to {checkpoint}" in message
    assert "expected MODEL.RESNETS.DEPTH = 50" in message
    assert "found MODEL.RESNETS.DEPTH = 101" in message
    params = ONE.model_copy(update={"config": str(tmp_path / "none.yaml")})
    assert "none.yaml" in said(import_model, reef_project, checkpoint, params)


def test_names_that_cannot_be_used(with_model, checkpoint):
    for name, told in {"r50": "has a model 'r50' already", "../out": "leads out of"}.items():
        params = ONE.model_copy(update={"name": name})
        assert told in said(import_model, with_model, checkpoint, params)
    params = ONE.model_copy(update={"name": "reef-lite"})
    assert "comes with the program" in said(import_model, with_model, checkpoint, params)
    assert left(with_model) == ["r50"]


def test_a_full_disk_and_a_cancelled_import_leave_nothing(
    reef_project, with_model, checkpoint, monkeypatch, tmp_path
):
    with pytest.raises(CancelledError):
        import_model(reef_project, checkpoint, ONE, job=Job(cancelled=lambda: True))
    with pytest.raises(CancelledError):
        export_model(with_model, "r50", tmp_path / "out", job=Job(cancelled=lambda: True))

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    for use in (
        lambda: import_model(reef_project, checkpoint, ONE),
        lambda: export_model(with_model, "r50", tmp_path / "out"),
    ):
        message = said(use)
        assert "No space left" in message
        assert "free some space" in message
    assert left(reef_project) == ["r50"]
    assert not (tmp_path / "out").exists()
    statuses = [
        r.status for kind in ("import", "export") for r in runs(with_model, f"models {kind}")
    ]
    assert statuses == ["cancelled", "failed"] * 2


def test_an_edited_model_goes_out_whole(with_model, tmp_path):
    layer = "backbone.fpn.layer_blocks.0.0"
    draw = np.random.default_rng(0)
    change = {layer: torch.from_numpy(draw.normal(0, 0.01, (256, 256, 3, 3)).astype(np.float32))}
    with Project.open(with_model) as project:
        save_edit(project, find_model(project, "r50"), Edit(change), "mended", {})
        edited = find_model(project, "mended").load(Device.CPU)
    out = tmp_path / "out"
    params = ExportModelParams(score=0.25, max_detections=50)
    done = export_model(with_model, "mended", out, params)
    assert sorted(p.name for p in out.iterdir()) == sorted(done.files)
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["MODEL"]["ROI_HEADS"]["SCORE_THRESH_TEST"] == 0.25
    assert config["TEST"]["DETECTIONS_PER_IMAGE"] == 50
    assert "# Classes: 0=archaeocyathid, 1=-" in (out / "config.yaml").read_text()
    assert any("scaled by 0.5" in note for note in done.notes)
    assert any("left out" in note for note in done.notes)
    again = read_detectron2(out / "model_final.pth").segmenter("cpu")
    assert again.model_hash == edited.model_hash
    back = import_model(with_model, out / "model_final.pth", ImportModelParams())
    assert (back.model, back.model_hash) == ("out", edited.model_hash)
    assert [run.status for run in runs(with_model, "models export")] == ["done"]


def test_what_cannot_go_out(with_model, blank_model, tmp_path):
    out = tmp_path / "out"
    message = said(export_model, with_model, blank_model, out)
    assert "The model 'blank' cannot be written for detectron2" in message
    assert "expected a model of architecture r50, r101 or x101" in message
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").touch()
    assert "expected a new or empty folder" in said(export_model, with_model, "r50", out)
    assert "There is no model 'r51'" in said(export_model, with_model, "r51", tmp_path / "new")
    assert [p.name for p in out.iterdir()] == ["mine.txt"]


def test_a_checkpoint_predicts_where_it_lies(reef_project, checkpoint, tmp_path):
    with Project.open(reef_project) as project:
        project.update(classes=("archaeocyathid", "calcimicrobe"))
    own = shutil.copytree(checkpoint.parent, tmp_path / "run")
    file = str(own / "model_final.pth")
    params = PredictParams(model=file, slices="0", device=Device.CPU)
    found = predict.run(reef_project, params)
    assert found.model == "run.pth"
    config, assumed = found.notes
    assert config == f"The configuration is {own / 'config.yaml'}."
    assert "taken for the project's: 0=archaeocyathid, 1=calcimicrobe" in assumed
    assert found.summary()["notes"] == [config, assumed]
    judged = evaluate.run(reef_project, EvaluateParams(model=file, slices="0"))
    assert (judged.source, judged.notes) == (found.source, found.notes)
    assert judged.summary()["notes"] == [config, assumed]
    assert found.instances > 0
    assert predict.run(reef_project, params).predicted == ()
    assert "Import it first" in said(edit.run, reef_project, EditParams(model=file, name="e"))
    with Project.open(reef_project) as project:
        project.update(classes=("archaeocyathid",))
    message = said(predict.run, reef_project, params)
    assert "found 2 classes" in message
    assert 'fossiledit models import PROJECT FILE --classes "archaeocyathid,-"' in message
    assert "a checkpoint file" in said(
        predict.run, reef_project, PredictParams(model=str(tmp_path / "none.pth"))
    )


@pytest.fixture
def deep_project(tmp_path):
    """A project of a stack of 16 bit whose values lie far above 255."""
    folder = tmp_path / "deep"
    folder.mkdir()
    values = np.random.default_rng(0).integers(3000, 23001, (4, 96, 128)).astype(np.uint16)
    for z, section in enumerate(values):
        Image.fromarray(section).save(folder / f"slice_{z}.png")
    path = tmp_path / "deep.fossil"
    new.run(path, folder, NewParams(pixel_size=72.7, slice_spacing=500))
    return path


def test_values_of_16_bit_are_shown_in_the_8_that_a_model_knows(deep_project, checkpoint, tmp_path):
    import_model(deep_project, checkpoint, ONE)
    with Project.open(deep_project) as project:
        ref = find_model(project, "theirs")
        assert "The model learned from 8 bit. The stack has 16 bit: its values" in ref.notes[-1]
        made = ref.load(Device.CPU).preprocessing
        assert made.shown == pytest.approx((3020, 22980), abs=60)
        seen = made.prepare(project.stack.read(1))
        project.update(classes=("archaeocyathid", "calcimicrobe"))
        lying = find_model(project, str(checkpoint))
        assert lying.load(Device.CPU).preprocessing == made
        assert lying.notes[-1] == ref.notes[-1]
    assert seen.mean() == pytest.approx(127.5, abs=5)
    assert seen.std() > 30
    # The stack leaves no trace in the model.
    export_model(deep_project, "theirs", tmp_path / "out")
    again = import_model(
        deep_project, tmp_path / "out" / "model_final.pth", ImportModelParams(name="again")
    )
    assert "16 bit" not in "".join(again.notes)
    with Project.open(deep_project) as project:
        kept = find_model(project, "again").load(Device.CPU).preprocessing
    assert kept == made


def test_training_starts_from_a_checkpoint_and_says_what_is_new(reef_project, checkpoint):
    values = {"slices": "0", "max_steps": 1, "crop": 64, "batch": 1, "device": Device.CPU}
    params = TrainParams(name="tuned", architecture="r50", init=str(checkpoint), **values)
    done = train.run(reef_project, params)
    assert any("start anew for archaeocyathid; all else is taken over" in n for n in done.notes)
    assert done.summary()["notes"] == list(done.notes)
    message = said(train.run, reef_project, params.model_copy(update={"architecture": "lite"}))
    assert "expected" in message


def test_broken_records_are_listed(with_model):
    (with_model / "models" / "r50" / "model.json").write_text("{")
    listed = {m.name: m for m in list_models(with_model).models}
    assert "model.json" in listed["r50"].problem
