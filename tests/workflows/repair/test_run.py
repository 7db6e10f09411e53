"""Repairing a model that takes everything bright for a fossil, at one wrong place."""

import json
import pickle
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from napari_fossiledit.cli.commands import app
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.evaluation.causes import Cause, Found
from napari_fossiledit.evaluation.changes import class_masks, shares_on
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.rle import union
from napari_fossiledit.params.editing import EditParams, RepairParams
from napari_fossiledit.params.segment import Device, PredictParams
from napari_fossiledit.progress import Job, check, never
from napari_fossiledit.project import ANNOTATIONS, EditState, Project
from napari_fossiledit.workflows.edit import decide as edits
from napari_fossiledit.workflows.repair import run as repair
from napari_fossiledit.workflows.segment import predict
from napari_fossiledit.workflows.shared import perturbed_slices as perturbing

FOSSIL, MICROBE = "archaeocyathid", "calcimicrobe"
Z = 1


@dataclass
class Wrong:
    """A wrong mask of the model on slice `Z`."""

    path: object
    source: str
    instance: Instance

    def params(self, **values):
        fixed = {
            "model": "blank",
            "slice": Z,
            "instance": self.instance.id,
            "tuning": "0",
            "pinned": "2",
            "joint": 1,
            "name": "mended",
            "solver": "ridge",
            "strengths": "0.5,1",
            "device": Device.CPU,
        }
        return RepairParams(**{**fixed, **values})


def bright(image):
    found, count = ndimage.label(image.mean(axis=2) > 110)
    parts = [found == i for i in range(1, count + 1)]
    return [Mask.from_array(p) for p in parts if p.sum() >= 25]


@pytest.fixture
def wrong(reef_home, tmp_path, monkeypatch):
    """A copy of that project whose model finds fossils and all that is bright; edited, no more."""
    from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
    from napari_fossiledit.workflows.shared.model_refs import find_model

    path = shutil.copytree(reef_home, tmp_path / "home") / "tiny.fossil"
    with Project.open(path) as project:
        layer = next(iter(find_model(project, "blank").load(Device.CPU).layers().values()))
        unedited = float(layer.weight.detach().sum())
        shape = project.slice_shape
        truths = {z: project.instances(ANNOTATIONS, z) for z in range(project.shape[0])}

    def find(self, image, *, slice_index=0, cancel=never, **_):
        check(cancel)
        edited = float(next(iter(self.layers().values())).weight.detach().sum()) != unedited
        wrong = [] if edited else bright(image)
        fossils = [i.mask for i in truths[slice_index] if i.class_name == FOSSIL]
        pairs = [*((m, 0.9) for m in fossils), *((m, 0.8) for m in wrong)]
        return [Instance(slice_index, FOSSIL, mask, score=score) for mask, score in pairs]

    monkeypatch.setattr(MaskRcnnSegmenter, "predict", find)
    asked = PredictParams(model="blank", slices=str(Z), device=Device.CPU)
    source = predict.run(path, asked).source
    with Project.open(path) as project:
        found = project.instances(source, Z)
    shares = shares_on([i.mask for i in found], class_masks(truths[Z], shape))
    off = [i for i, s in zip(found, shares, strict=True) if s[FOSSIL] < 0.2 and s[MICROBE] > 0.5]
    return Wrong(path, source, max(off, key=lambda i: i.mask.area))


def test_a_wrong_mask_is_explained_mended_and_judged(wrong):
    result = repair.run(wrong.path, wrong.params())
    assert result.edit == "mended"
    assert f"misled by the class {MICROBE}" in result.misled_by
    assert result.before == Found(0.8, 1.0)
    assert result.after.response < 0.1
    assert result.repaired
    assert "is repaired" in result.verdict
    assert [c.kind for c in result.changes if c.kind != "same"] == ["lost"]
    before, after = (r.predictions for r in (result.comparison.before, result.comparison.after))
    assert before - after == 1
    assert {t.cause for t in result.tests} == set(Cause)
    assert pickle.loads(pickle.dumps(result)).verdict == result.verdict
    json.dumps(result.summary(), allow_nan=False)
    with Project.open(wrong.path, read_only=True) as project:
        record = project.edits.read("mended")
        (run,) = [r for r in project.ledger.runs() if r.kind == "repair"]
    assert (record.parent, record.state) == ("blank", EditState.PROPOSED)
    here, other = sorted(record.params["recipes"], key=lambda r: r["slice"] != Z)
    assert (here["slice"], here["steps"]) == (Z, f"other {FOSSIL} -> mud")
    assert (other["place_box"], other["source"]) == (None, ANNOTATIONS)
    assert other["preset"] == EditParams().preset
    assert here["place_box"] is not None
    assert (run.status, run.summary["edit"]) == ("done", "mended")


@pytest.mark.parametrize("step", ["judged", "write_report", "finished"])
def test_the_same_command_ends_a_repair_that_was_not_finished(wrong, tmp_path, monkeypatch, step):
    def killed(*_, **__):
        raise KeyboardInterrupt

    path = shutil.copytree(wrong.path.parent, tmp_path / "undisturbed") / wrong.path.name
    undisturbed = repair.run(path, wrong.params()).summary()
    with monkeypatch.context() as patch:
        patch.setattr(repair, step, killed)
        with pytest.raises(KeyboardInterrupt):
            repair.run(wrong.path, wrong.params())
    with pytest.raises(FossilError, match="'mended' was saved, but the program ended before it"):
        edits.apply(wrong.path, "mended")
    monkeypatch.setattr(repair, "solved", killed)  # not solved again
    again = repair.run(wrong.path, wrong.params()).summary()
    for result in (again, undisturbed):
        del result["page"], result["edited"]["folder"], result["edited"]["seconds"]
    assert again == undisturbed
    edits.apply(wrong.path, "mended")


def test_the_page_tells_all_of_it(wrong):
    result = repair.run(wrong.path, wrong.params())
    page = result.report.read_text()
    assert result.report.parent == wrong.path / "reports" / "repair-mended"
    for text in (
        result.verdict,
        "What misled the model",
        "The slice before and after the edit",
        "What it costs elsewhere",
        f"fossiledit edits rollback {wrong.path} mended",
    ):
        assert text in page
    overlays = {f.name for f in (result.report.parent / "overlays").iterdir()}
    assert overlays == {f"repaired_{Z:04d}.png", "slice_0002.png"}
    assert not list((wrong.path / "reports").glob(".*"))


def test_without_a_tracing_the_predictions_tell_the_regions(wrong):
    with Project.open(wrong.path) as project:
        for z in range(5):
            project.ledger.unset_traced(z)
    result = repair.run(wrong.path, wrong.params(tuning="", pinned=""))
    assert result.comparison is None
    assert "not known" in result.verdict
    with Project.open(wrong.path, read_only=True) as project:
        (here,) = project.edits.read("mended").params["recipes"]
        found = project.instances(wrong.source, Z, min_score=0.5)
    others = {str(i.id) for i in found} - {str(wrong.instance.id)}
    region, fill = here["steps"].split(" -> ")
    assert (here["source"], fill) == (wrong.source, "mud")
    assert set(region.removeprefix("not instance ").split("+")) == others


def outline_of(mask):
    y0, x0, y1, x1 = mask.box
    return f"{x0},{y0} {x1},{y0} {x1},{y1} {x0},{y1}"


def test_a_missed_fossil_is_shown_alone(wrong):
    corner = Mask.from_array(np.pad(np.ones((12, 12), dtype=bool), ((2, 82), (2, 114))))
    result = repair.run(wrong.path, wrong.params(instance=None, outline=outline_of(corner)))
    assert result.place.missed
    assert result.before.response < 0.2
    assert not result.repaired
    assert "not repaired" in result.verdict
    with Project.open(wrong.path, read_only=True) as project:
        recipes = project.edits.read("mended").params["recipes"]
    (here,) = [r for r in recipes if r["slice"] == Z]
    assert here["steps"] == f"other {FOSSIL} and not polygon 2,2 14,2 14,14 2,14 -> mud"
    assert {t.cause for t in result.tests} >= {Cause.NEIGHBOUR, Cause.COLOUR}


def test_the_pitted_texture_is_shown_on_request_only(wrong, monkeypatch):
    asked = wrong.params(instance=0, outline="box 4:20,4:20", towards_texture=True)
    with pytest.raises(FossilError, match="has no pitted archaeocyathid"):
        repair.run(wrong.path, asked)
    for module in (repair, perturbing):
        monkeypatch.setattr(module, "default_crop", lambda *_: "0:10:30,10:30")
    result = repair.run(wrong.path, asked)
    with Project.open(wrong.path, read_only=True) as project:
        recipes = project.edits.read("mended").params["recipes"]
    assert [r["steps"].endswith("; box 4:20,4:20 -> texture") for r in recipes].count(True) == 1
    assert Cause.TEXTURE in {t.cause for t in result.tests}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"instance": None}, "not clear what is to be repaired.*neither"),
        ({"outline": "1,1 9,1 9,9"}, "not clear what is to be repaired.*both"),
        ({"instance": 99999}, r"has no instance 99999 on slice 1; expected one of \d+ \(score"),
        ({"instance": None, "outline": "1,1 9,1"}, "corners"),
        ({"instance": None, "outline": "900,900 950,900 950,950"}, "no pixel of slice 1"),
        ({"instance": None, "outline": "box 1:3,1:3"}, "too small to be repaired"),
        ({"slice": 9}, "Slice 9 is not in the stack; expected 0 to 4"),
        ({"model": "none"}, "There is no model 'none'"),
        ({"name": "blank"}, "a model 'blank' already"),
        ({"pinned": "1"}, "1 would judge an edit that they were edited with"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_bad_input_is_told_and_leaves_no_edit(wrong, values, message):
    with pytest.raises(FossilError, match=message):
        repair.run(wrong.path, wrong.params(**values))
    with Project.open(wrong.path, read_only=True) as project:
        assert project.edits.names() == []
    assert list((wrong.path / "reports").glob("*")) == []


def test_a_pinned_slice_is_refused_before_anything_is_predicted(wrong):
    with Project.open(wrong.path) as project:
        project.update(pinned_slices=(1,))
    told = []
    with pytest.raises(FossilError, match="Slices 1 are pinned: they only judge"):
        repair.run(wrong.path, wrong.params(pinned="2"), job=Job(told.append))
    assert told == []


def test_a_mask_that_is_right_by_the_tracing_is_not_repaired(wrong):
    with Project.open(wrong.path) as project:
        truth = union(
            (i.mask for i in project.instances(ANNOTATIONS, Z) if i.class_name == FOSSIL),
            project.slice_shape,
        )
        right = Instance(Z, FOSSIL, truth, score=0.7)
        project.ledger.store("model:blank:other", Z, [right])
        (stored,) = project.instances("model:blank:other", Z)
    with pytest.raises(FossilError, match="is right by the tracing"):
        repair.run(wrong.path, wrong.params(instance=stored.id))


@pytest.mark.parametrize(
    "message", ["Trying what misleads", "Editing ", "Choosing the strength", "Looking at the place"]
)
def test_a_cancelled_repair_leaves_no_edit(wrong, message):
    seen = []
    with pytest.raises(CancelledError):
        repair.run(
            wrong.path,
            wrong.params(solver="direct"),
            job=Job(
                lambda p: seen.append(p.message), lambda: any(message in text for text in seen)
            ),
        )
    with Project.open(wrong.path, read_only=True) as project:
        assert project.edits.names() == []
        assert project.ledger.runs()[-1].status == "cancelled"


def test_a_cancelled_judging_leaves_a_proposed_edit(wrong):
    seen = []
    result = repair.run(
        wrong.path,
        wrong.params(),
        job=Job(
            lambda p: seen.append(p.message), lambda: any("Judging mended" in text for text in seen)
        ),
    )
    assert result.comparison is None
    assert any("judging was cancelled" in w for w in result.warnings)
    assert result.report.is_file()


def test_the_command_repairs_and_prints_json(wrong):
    params = wrong.params().model_dump(
        mode="json", exclude={"version", "outline", "towards_texture"}
    )
    typed = [part for n, v in params.items() for part in (f"--{n.replace('_', '-')}", str(v))]
    result = CliRunner().invoke(app, ["repair", str(wrong.path), *typed, "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["edit"] == "mended"
    assert told["repaired"] is True
