"""Expected quality of slices, and of models on another rock, on the small sample reef."""

import json
import sqlite3
from contextlib import closing
from shutil import copytree, ignore_patterns

import numpy as np
import pytest
from PIL import Image

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.expected import reference
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.models.files.registry import save_model
from napari_fossiledit.params.agenda import DistanceParams, ExpectParams
from napari_fossiledit.params.annotations import UntraceParams
from napari_fossiledit.params.segment import Device
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.agenda import distance, expected
from napari_fossiledit.workflows.annotate import corrections
from napari_fossiledit.workflows.stack import new


def told(path, **values):
    return expected.run(path, ExpectParams(device=Device.CPU, **values))


@pytest.fixture
def other(reef_home, tmp_path):
    """Return another project of the same photographs, without a model, with nothing traced."""
    (tmp_path / "far").mkdir()
    copytree(reef_home / "reef", tmp_path / "far" / "reef")
    leave = ignore_patterns("blank")
    project = copytree(reef_home / "tiny.fossil", tmp_path / "far" / "tiny.fossil", ignore=leave)
    corrections.untrace(project, UntraceParams(slices="0-4"))
    return project


def photographs(path):
    with Project.open(path) as project:
        return sorted(project.stack_path.iterdir())


def learned_from(path, model, slices):
    """Say in its record what a model learned from."""
    file = path / "models" / model / "model.json"
    record = json.loads(file.read_text())
    record["training"] = {**(record["training"] or {}), "slices": slices}
    file.write_text(json.dumps(record))


def test_each_slice_gets_an_interval(reef_project):
    corrections.untrace(reef_project, UntraceParams(slices="1-4"))
    result = told(reef_project, model="reef-lite", slices="0-2")
    assert (result.model, result.choice) == ("reef-lite", None)
    assert result.calibrated_on == "sample reefs, not this rock (1 of 9 traced slices)"
    rows = result.rows()
    assert [row["slice"] for row in rows] == [0, 1, 2]
    assert [row["f_score"] is None for row in rows] == [False, True, True]
    assert all(0 <= row["low"] <= row["expected"] <= row["high"] <= 1 for row in rows)
    assert {row["distance"] for row in rows} >= {0.0, 1.0}
    (found,) = result.candidates
    # What it learned from comes with the package.
    (learned,) = reference().learned.values()
    length = np.linalg.norm(np.mean(learned, axis=0))
    assert found.relative_distance == pytest.approx(found.mean_distance / length)
    assert found.f_score == rows[0]["f_score"]
    assert found.low <= found.expected <= found.high
    # Of a size that no sample reef has.
    assert any("are farther from what reef-lite learned" in note for note in result.notes)
    assert 0 in [row["low"] for row in rows]
    report = json.loads(result.report.read_text())
    assert report["candidates"][0]["rows"] == rows


def test_slices_that_the_model_learned_from_are_left_out(reef_project, blank_model):
    learned_from(reef_project, blank_model, [0, 3])
    result = told(reef_project, model=blank_model)
    assert [row["slice"] for row in result.rows()] == [1, 2, 4]
    assert f"{blank_model} learned from slices 0,3: they are left out." in result.notes
    with pytest.raises(FossilError, match="No slice is left whose quality"):
        told(reef_project, model=blank_model, slices="0,3")


def test_models_are_compared_on_another_rock(reef_project, blank_model, other):
    learned_from(reef_project, blank_model, [0])
    result = told(other, candidates=f"{reef_project}/models/{blank_model},reef-lite", slices="1-2")
    best, last = result.candidates
    assert {best.model, last.model} == {"reef-lite", f"{blank_model} of {reef_project.name}"}
    assert best.expected > last.expected
    assert best.f_score is None
    assert result.choice.startswith(f"Take {best.model}")
    assert len(last.distances) == len(last.slices) == 2


def test_traced_slices_decide_between_models(reef_project, blank_model):
    learned_from(reef_project, blank_model, [0])
    result = told(reef_project, candidates=f"{blank_model},reef-lite", slices="0,1")
    best, last = result.candidates
    # Slice 0 is none that both can be judged on.
    scores = [{row["slice"]: row["f_score"] for row in c.rows} for c in (best, last)]
    assert best.model == "reef-lite"
    assert (set(scores[0]), set(scores[1])) == ({0, 1}, {1})
    assert f"on 1 traced slice it has F {scores[0][1]:.2f}" in result.choice
    assert "so few slices may mislead" in result.choice


def test_a_model_of_which_nothing_is_known_goes_by_its_scores(reef_project, blank_model, other):
    result = told(reef_project, model=blank_model, other=other, slices="2")
    assert result.rows()[0]["distance"] is None
    assert result.candidates[0].relative_distance is None
    assert any("not known what blank learned from" in note for note in result.notes)


def test_fewer_components_do_not_bring_slices_nearer(reef_project):
    all_of_them, one = (
        told(reef_project, model="reef-lite", slices="0-2", components=n) for n in (25, 1)
    )
    assert one.candidates[0].mean_distance < all_of_them.candidates[0].mean_distance
    assert [r["expected"] for r in one.rows()] == [r["expected"] for r in all_of_them.rows()]


def test_a_class_that_one_slice_does_not_show_is_known_all_the_same():
    def found(*names):
        mask = Mask.from_array(np.ones((4, 4), bool))
        return [Instance(0, name, mask, score) for name, score in names]

    first, second = found(("shell", 0.9)), found(("shell", 0.4), ("coral", 0.2))
    assert distance._classes([first, second], "coral", "mine") == ("coral", ())
    as_class, said = distance._classes([found(), second, first], "sponge", "mine")
    assert (as_class, said) == ("shell", ("mine finds no sponge: its shell is taken for it.",))
    assert distance._classes([found(), found()], "coral", "mine") == ("coral", ())


def test_a_class_that_a_model_does_not_know_is_said_of_distances_too(reef_project):
    with Project.open(reef_project) as project:
        project.update(classes=("bryozoan",))
    with closing(sqlite3.connect(reef_project / "ledger.sqlite")) as db, db:
        db.execute("UPDATE instances SET class = 'bryozoan' WHERE source = ?", (ANNOTATIONS,))
    params = DistanceParams(model="reef-lite", known="4", slices="0,1", device=Device.CPU)
    found = distance.run(reef_project, params)
    assert any("reef-lite finds no bryozoan" in note for note in found.notes)
    expectation = told(reef_project, model="reef-lite", slices="0,1")
    assert found.quality.f_scores == tuple(row["f_score"] for row in expectation.rows())
    assert min(found.quality.f_scores) > 0


def test_bad_choices_are_refused(reef_project, blank_model, tmp_path):
    with pytest.raises(FossilError, match="no model 'nothing'"):
        told(reef_project, candidates=f"{blank_model},nothing", slices="1")
    with pytest.raises(FossilError, match="No model is chosen"):
        told(reef_project, model="imagenet")
    with pytest.raises(FossilError, match=r"gone\.fossil"):
        told(reef_project, model=blank_model, other=tmp_path / "gone.fossil")
    for file in photographs(reef_project):
        with Image.open(file) as image:
            Image.new(image.mode, image.size).save(file)
    with pytest.raises(FossilError, match=r"No slice is left[\s\S]*0-4, all blank"):
        told(reef_project, model=blank_model)


def test_a_model_that_was_replaced_looks_again(reef_project, blank_model, blank_segmenter):
    params = DistanceParams(model=blank_model, known="0", slices="1", quality=False, device="cpu")
    first = distance.run(reef_project, params).distances.overall
    save_model(blank_segmenter(seed=1), reef_project / "models" / blank_model)
    again = distance.run(reef_project, params).distances.overall
    assert again != pytest.approx(first, rel=1e-3)


def test_another_kind_of_photographs_is_said(reef_project, blank_model, tmp_path):
    grey = tmp_path / "grey"
    grey.mkdir()
    for number, file in enumerate(photographs(reef_project)[:2]):
        with Image.open(file) as image:
            Image.fromarray(np.asarray(image.convert("L"))[:64, :80]).save(grey / f"{number}.png")
    other = tmp_path / "grey.fossil"
    new.run(other, grey, NewParams(pixel_size=100, slice_spacing=500))
    params = DistanceParams(model=blank_model, known="0,1", other=other, device=Device.CPU)
    result = distance.run(reef_project, params)
    assert any("are in colour, those of grey.fossil grey" in note for note in result.notes)
    assert any("has 72.7 um, one of grey.fossil 100 um" in note for note in result.notes)
    # Nothing of it is traced.
    assert (result.slices, result.quality) == ((0, 1), None)
    same = params.model_copy(update={"other": reef_project, "quality": False})
    assert any("is the project itself" in note for note in distance.run(reef_project, same).notes)
