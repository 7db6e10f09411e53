"""Calibrating a model in a project: what it gains decides whether it is used."""

import dataclasses
import json

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Origin
from napari_fossiledit.masks.probability import Piece, ProbabilityMask
from napari_fossiledit.params.segment import CalibrateParams, Device, PredictParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.segment import calibrate, predict
from napari_fossiledit.workflows.shared.folds import folds_of

CLASS = "archaeocyathid"


def found_by(project, z, *, doubles=True, score=0.9):
    """Return all that is traced as a model finds it, and each of them once more."""
    found = []
    for truth in project.ledger.instances(ANNOTATIONS, slices=[z], class_name=CLASS):
        if str(truth.part) != "body":
            continue
        y0, x0, y1, x1 = truth.mask.box
        grid = truth.mask.crop().astype(np.uint8) * 255
        piece = Piece((float(x0), float(y0), float(x1), float(y1)), grid, exact=True)
        made = {"probability": ProbabilityMask((piece,)), "origin": Origin.MODEL, "id": None}
        found.append(dataclasses.replace(truth, score=score, **made))
        if doubles:
            half = truth.mask.to_array()
            half[(y0 + y1) // 2 :] = False
            found.append(
                dataclasses.replace(truth, score=0.8, **made | {"mask": Mask.from_array(half)})
            )
    return [i for i in found if i.mask.area]


@pytest.fixture
def doubling_model(monkeypatch):
    """Let every model find what is traced, and half of each again with a high score."""

    def find(segmenter, project, z, cancel=None):
        return found_by(project, z)

    monkeypatch.setattr(calibrate, "find_instances", find)
    # So few are traced in the small reef.
    monkeypatch.setattr(calibrate, "LEAST", 5)


def calibrated(project, model, **values):
    return calibrate.run(project, CalibrateParams(model=model, device=Device.CPU, **values))


def predicted(project, model, **values):
    fixed = {"slices": "0", "device": Device.CPU, "max_detections": 5}
    return predict.run(project, PredictParams(model=model, **fixed | values))


def test_a_calibration_changes_scores_and_the_name_of_predictions(
    reef_project, blank_model, doubling_model
):
    result = calibrated(reef_project, blank_model)
    assert result.off == {}
    figures = result.figures[CLASS]
    assert figures.after.error < figures.before.error
    assert figures.gain.interval[0] > 0
    page = result.report.read_text()
    assert "Scores become probabilities" in page
    assert "data:image/png" in page
    plain, told = (predicted(reef_project, blank_model, calibrated=on) for on in (False, True))
    assert plain.source != told.source
    with Project.open(reef_project, read_only=True) as project:
        before, after = (project.instances(r.source, 0) for r in (plain, told))
        assert sorted(i.mask.counts for i in before) == sorted(i.mask.counts for i in after)
        expected = result.calibration.applied(before)
        assert [i.score for i in after] == pytest.approx([i.score for i in expected])
        assert [i.score for i in after] != [i.score for i in before]
        assert "calibrate" in {run.kind for run in project.ledger.runs()}
    note = predicted(reef_project, blank_model, calibrated=True, tiles=True, slices="1").notes[-1]
    assert "calibrated on predictions without tiles" in note


def test_scores_stay_as_they_are_where_nothing_tells_right_from_false(
    reef_project, blank_model, doubling_model, monkeypatch
):
    def find(segmenter, project, z, cancel=None):
        right = found_by(project, z, doubles=False, score=0.5)
        away = [np.roll(i.mask.to_array(), i.mask.shape[1] // 2, axis=1) for i in right]
        false = [
            dataclasses.replace(i, mask=Mask.from_array(pixels))
            for i, pixels in zip(right, away, strict=True)
        ]
        return [*right, *false]

    monkeypatch.setattr(calibrate, "find_instances", find)
    result = calibrated(reef_project, blank_model)
    assert "no certain gain" in result.off[CLASS]
    assert "Scores stay as they are" in result.report.read_text()
    plain = predicted(reef_project, blank_model)
    again = predicted(reef_project, blank_model, calibrated=True)
    assert again.source == plain.source
    assert "scores are not calibrated, on detections" in again.notes[-1]


def test_one_slice_is_divided_into_parts(reef_project, blank_model, doubling_model):
    result = calibrated(reef_project, blank_model, slices="2")
    assert result.calibration.slices == (2,)
    assert CLASS in result.figures or "of each are needed" in result.off[CLASS]


def test_what_was_found_in_one_of_two_slices_is_divided_too(
    reef_project, blank_model, doubling_model, monkeypatch
):
    def find(segmenter, project, z, cancel=None):
        return found_by(project, z) if z == 0 else []

    monkeypatch.setattr(calibrate, "find_instances", find)
    monkeypatch.setattr(calibrate, "LEAST", 1)
    figures = calibrated(reef_project, blank_model, slices="0,1").figures[CLASS]
    assert np.isfinite(figures.after.log_loss)


def test_folds_hold_something_to_fit_to_each():
    def at(x):
        mask = np.zeros((4, 100), dtype=np.bool_)
        mask[1:3, x : x + 2] = True
        return Instance(0, CLASS, Mask.from_array(mask))

    row, used = [at(x) for x in (80, 10, 30, 50, 12)], np.array([True, True, True, True, False])
    none = np.zeros(1, dtype=np.bool_)
    # The last one counts for nothing, and lies beside the second.
    divided = folds_of([[at(5)], row], [none, used])
    assert [some.tolist() for some in divided] == [[0], [3, 0, 1, 2, 0]]
    slices = folds_of([row, [at(5)], row], [used, none, used])
    assert [some.tolist() for some in slices] == [[0] * 5, [0], [1] * 5]


def test_without_a_false_or_a_right_detection_there_is_nothing_to_learn(
    reef_project, blank_model, monkeypatch
):
    def right(segmenter, project, z, cancel=None):
        return found_by(project, z, doubles=False)

    monkeypatch.setattr(calibrate, "find_instances", right)
    assert "and 0 false detections" in calibrated(reef_project, blank_model).off[CLASS]

    def nothing(segmenter, project, z, cancel=None):
        return []

    monkeypatch.setattr(calibrate, "find_instances", nothing)
    result = calibrated(reef_project, blank_model)
    assert "0 right and 0 false" in result.off[CLASS]
    assert "8 of each are needed" in result.report.read_text()


def test_slices_that_the_model_learned_from_are_avoided_or_named(
    reef_project, blank_model, doubling_model
):
    record = reef_project / "models" / blank_model / "model.json"
    content = json.loads(record.read_text())
    with Project.open(reef_project) as project:
        traced = sorted(project.ledger.traced())
    record.write_text(json.dumps(content | {"training": {"slices": traced[:1]}}))
    assert list(calibrated(reef_project, blank_model).calibration.slices) == traced[1:]
    record.write_text(json.dumps(content | {"training": {"slices": traced}}))
    result = calibrated(reef_project, blank_model)
    assert list(result.calibration.slices) == traced
    assert any("The model learned from slices" in note for note in result.notes)


def test_a_calibration_of_another_model_or_none_is_refused(
    reef_project, blank_model, doubling_model
):
    with pytest.raises(FossilError, match="fossiledit calibrate PROJECT --model blank"):
        predicted(reef_project, blank_model, calibrated=True)
    file = calibrated(reef_project, blank_model).file
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"model_hash": "0" * 64}))
    with pytest.raises(FossilError, match="for another model than 'blank'"):
        predicted(reef_project, blank_model, calibrated=True)
    content["classes"][CLASS]["bias"] = "high"
    file.write_text(json.dumps(content))
    with pytest.raises(FossilError, match=r"classes\.archaeocyathid\.bias"):
        predicted(reef_project, blank_model, calibrated=True)


def test_without_a_traced_slice_it_is_refused(reef_project, blank_model):
    with Project.open(reef_project) as project:
        for z in list(project.ledger.traced()):
            project.ledger.edit(z, clear_traced=True)
    with pytest.raises(FossilError, match="No slice is traced yet"):
        calibrated(reef_project, blank_model)
