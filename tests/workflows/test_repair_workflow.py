"""Repairing a model that takes everything bright for a fossil, at one wrong place."""

import json
import pickle
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from napari_fossiledit.cli.commands import app
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.evaluation.causes import (
    Cause,
    Found,
    Outcome,
    Place,
    fitting_tests,
    misled_by,
    outcome,
    ranking,
)
from napari_fossiledit.evaluation.changes import class_masks, shares_on
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.rle import union
from napari_fossiledit.params.editing import EditParams, RepairParams
from napari_fossiledit.params.segment import Device, PredictParams
from napari_fossiledit.progress import Job, check, never
from napari_fossiledit.project import ANNOTATIONS, EditState, Project
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
        layer = find_model(project, "blank").load(Device.CPU).outputs[0]
        unedited = float(layer.weight.detach().sum())
        shape = project.slice_shape
        truths = {z: project.instances(ANNOTATIONS, z) for z in range(project.shape[0])}

    def find(self, image, *, slice_index=0, cancel=never, **_):
        check(cancel)
        edited = float(self.outputs[0].weight.detach().sum()) != unedited
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


def test_the_page_tells_all_of_it(wrong):
    result = repair.run(wrong.path, wrong.params())
    page = result.page.read_text()
    assert result.page.parent == wrong.path / "reports" / "repair-mended"
    for text in (
        result.verdict,
        "What misled the model",
        "The slice before and after the edit",
        "What it costs elsewhere",
        f"fossiledit edits rollback {wrong.path} mended",
    ):
        assert text in page
    overlays = {f.name for f in (result.page.parent / "overlays").iterdir()}
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
    assert result.page.is_file()


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


# ------------------------------------------------------------------- places and causes

SHAPE = (60, 80)


def box(y0, x0, y1, x1):
    array = np.zeros(SHAPE, dtype=bool)
    array[y0:y1, x0:x1] = True
    return Mask.from_array(array)


def traced(class_name, mask):
    return Instance(0, class_name, mask)


PLACE = Place(0, box(20, 20, 40, 40), FOSSIL, Instance(0, FOSSIL, box(20, 20, 40, 40), id=7))


def test_the_best_answer_to_a_place_is_that_of_score_and_overlap():
    half = Instance(0, FOSSIL, box(20, 20, 40, 30), score=0.9)
    whole = Instance(0, FOSSIL, box(20, 20, 40, 40), score=0.6)
    other = Instance(0, MICROBE, box(20, 20, 40, 40), score=1.0)
    assert PLACE.found_in([half, whole, other]) == Found(0.6, 1.0)
    assert PLACE.found_in([half]) == Found(0.9, 0.5)
    assert PLACE.found_in([]) == Found(0.0, 0.0)


def test_what_a_place_lies_on_counts_before_what_frames_it():
    ground = traced("rock_face", box(0, 0, 60, 80))
    on = traced(MICROBE, box(20, 20, 40, 30))
    beside = traced("shell", box(15, 40, 45, 50))
    assert PLACE.neighbour([ground, on, beside]) == MICROBE
    assert PLACE.neighbour([ground, beside, traced(FOSSIL, box(0, 0, 9, 9))]) == "shell"
    assert PLACE.neighbour([traced(FOSSIL, box(20, 20, 40, 40))]) == ""
    assert PLACE.neighbour([]) == ""


def test_the_frame_of_a_place_lies_around_it():
    frame = PLACE.frame.to_array()
    assert not (frame & PLACE.pixels.to_array()).any()
    assert frame[19, 30]
    assert frame[17, 30]
    assert not frame[10, 30]


def everywhere():
    tests = fitting_tests(PLACE, MICROBE, coloured=True, textured=False)
    return next(t for t in tests if t.everywhere)


def test_what_the_others_suffer_is_taken_off():
    wrong = Instance(0, FOSSIL, PLACE.pixels, score=0.8)
    right = Instance(0, FOSSIL, box(5, 50, 15, 70), score=0.9)
    faint = replace(right, score=0.45)
    whole = outcome(PLACE, everywhere(), [wrong, right], [faint])
    assert (whole.others, whole.effect) == pytest.approx((0.5, 0.5))
    local = outcome(PLACE, replace(everywhere(), everywhere=False), [wrong, right], [faint])
    assert (local.others, local.effect) == (0.0, 1.0)
    alone = outcome(PLACE, everywhere(), [wrong], [])
    assert (alone.others, alone.effect) == (0.0, 1.0)
    assert "while the others change by 0.50" in misled_by(PLACE, Found(0.8, 1.0), [whole], "")


def test_for_a_missed_fossil_what_is_won_counts():
    place = Place(0, PLACE.pixels, FOSSIL, None, "box 20:40,20:40")
    tests = fitting_tests(place, "", coloured=False, textured=True)
    assert [t.cause for t in tests] == [Cause.NEIGHBOUR, Cause.TEXTURE, Cause.TEXTURE]
    after = [Instance(0, FOSSIL, PLACE.pixels, score=0.7)]
    assert outcome(place, tests[0], [], after).effect == pytest.approx(0.7)


def shown(cause, effect, words="it is tried"):
    return Outcome(cause, words, "", Found(0.4, 0.5), effect)


def test_of_causes_that_tell_the_same_the_more_telling_one_is_named():
    tests = [shown(Cause.TEXTURE, 1.0), shown(Cause.CLASS, 0.95), shown(Cause.NEIGHBOUR, 0.2)]
    assert [t.cause for t in ranking(tests)] == [Cause.CLASS, Cause.TEXTURE, Cause.NEIGHBOUR]
    told = misled_by(PLACE, Found(0.8, 1.0), tests, MICROBE)
    assert told.startswith(f"The model seems to be misled by the class {MICROBE}")
    assert "from score 0.80 with overlap 1.00 to score 0.40 with overlap 0.50" in told
    assert "It leans on more than that" in told


def test_small_effects_name_no_cause():
    told = misled_by(PLACE, Found(0.8, 1.0), [shown(Cause.COLOUR, 0.3)], "")
    assert told.startswith("No single cause is clear")
    assert "0.30" in told
    assert "not known" in misled_by(PLACE, Found(0.8, 1.0), [], "")
