"""What the backend detectron2 refuses in a project, before anything is computed or recorded."""

from __future__ import annotations

import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.native.backends import has_detectron2
from napari_fossiledit.params.editing import EditParams
from napari_fossiledit.params.segment import Backend, PredictParams, TrainParams
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.edit import run as edit
from napari_fossiledit.workflows.segment import predict, train
from napari_fossiledit.workflows.shared.model_refs import find_model, prediction_source

NATIVE = {"backend": Backend.DETECTRON2, "device": "cpu"}


def _kinds(path):
    with Project.open(path) as project:
        return [
            run.kind for run in project.ledger.runs() if run.kind in ("edit", "predict", "train")
        ]


def test_a_lite_model_is_refused(reef_project, blank_model):
    message = r"lite model cannot run in detectron2; expected .* r50, r101 or x101.*backend twin"
    with pytest.raises(FossilError, match=message):
        predict.run(reef_project, PredictParams(model=blank_model, slices="0", **NATIVE))
    with pytest.raises(FossilError, match=message):
        edit.run(reef_project, EditParams(model=blank_model, slices="0", scope="all", **NATIVE))
    with pytest.raises(FossilError, match=message):
        train.run(reef_project, TrainParams(name="new", slices="0", **NATIVE))
    assert _kinds(reef_project) == []


def test_masks_alone_are_refused(reef_project, blank_model):
    message = (
        r"cannot edit the masks alone.*found the scope masks.*--scope all, or the backend twin"
    )
    with pytest.raises(FossilError, match=message):
        edit.run(reef_project, EditParams(model=blank_model, slices="0", **NATIVE))
    assert _kinds(reef_project) == []


@pytest.mark.skipif(has_detectron2(), reason="detectron2 is installed here")
def test_a_training_without_detectron2_is_refused(reef_project):
    params = TrainParams(name="new", slices="0", architecture="r50", init="reef-lite", **NATIVE)
    with pytest.raises(FossilError, match=r"detectron2 is not installed.*docs/detectron2.md"):
        train.run(reef_project, params)
    assert _kinds(reef_project) == []


def test_predictions_of_the_two_backends_have_other_names(reef_project, blank_model):
    with Project.open(reef_project) as project:
        ref = find_model(project, blank_model)
        names = {
            prediction_source(ref, "hash", PredictParams(backend=backend)) for backend in Backend
        }
    assert len(names) == 2
