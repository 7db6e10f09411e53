"""Fitting a refiner in a project: what it gains decides whether it is used."""

import dataclasses
import functools

import numpy as np
import pytest
from scipy import ndimage

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Origin, Part
from napari_fossiledit.masks.probability import Piece, ProbabilityMask
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.refine import fit
from napari_fossiledit.params.segment import Device, PredictParams, RefineParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.segment import predict, refine

CLASS = "archaeocyathid"


def beside(truth):
    """Return a traced instance as a model draws it that always draws a little beside it."""
    y0, x0, y1, x1 = truth.mask.box
    y0, x0 = max(y0 - 8, 0), max(x0 - 8, 0)
    shape = truth.mask.shape
    y1, x1 = min(y1 + 8, shape[0]), min(x1 + 8, shape[1])
    # No cut of these probabilities can put the mask where it belongs.
    moved = np.roll(truth.mask.crop((y0, x0, y1, x1)), (5, 5), (0, 1)).astype(float)
    grid = np.rint(ndimage.gaussian_filter(moved, 2) * 255).astype(np.uint8)
    piece = Piece((float(x0), float(y0), float(x1), float(y1)), grid, exact=True)
    probability = ProbabilityMask((piece,))
    mask = probability.cut(0.5, shape)
    changed = {"mask": mask, "probability": probability, "score": 0.9, "origin": Origin.MODEL}
    return dataclasses.replace(truth, **changed)


@pytest.fixture
def shifted_model(monkeypatch):
    """Let every model find all that is traced, with masks that lie beside it."""

    def find(segmenter, project, z, cancel=None):
        bodies = project.ledger.instances(ANNOTATIONS, slices=[z], class_name=CLASS)
        return [beside(t) for t in bodies if str(t.part) == "body"]

    monkeypatch.setattr(refine, "find_instances", find)
    monkeypatch.setattr(refine, "LEAST_TRACED", 3)
    monkeypatch.setattr(fit, "fit_network", functools.partial(fit.fit_network, steps=100))


def fitted(project, model, **values):
    return refine.run(project, RefineParams(model=model, device=Device.CPU, **values))


def predicted(project, model, **values):
    fixed = {"slices": "0", "device": Device.CPU, "max_detections": 5}
    return predict.run(project, PredictParams(model=model, **fixed, **values))


def test_a_refiner_that_gains_changes_what_is_predicted(
    reef_project, blank_model, shifted_model, monkeypatch
):
    result = fitted(reef_project, blank_model)
    assert result.off == {}
    assert result.gains[CLASS].gains["iou_all"].interval[0] > 0
    with Project.open(reef_project, read_only=True) as project:
        bodies = project.ledger.instances(ANNOTATIONS, slices=[0], class_name=CLASS, part=Part.BODY)
    monkeypatch.setattr(
        MaskRcnnSegmenter, "predict", lambda self, image, **options: [beside(b) for b in bodies]
    )
    plain = predicted(reef_project, blank_model)
    refined = predicted(reef_project, blank_model, refine=True)
    apart = predicted(reef_project, blank_model, refine=True, exclusive=True)
    assert len({plain.source, refined.source, apart.source}) == 3
    with Project.open(reef_project, read_only=True) as project:
        masks = [i.mask for i in project.instances(refined.source, 0)]
        assert masks != [i.mask for i in project.instances(plain.source, 0)]
        moved = project.instances(refined.source, 0, mask_cut=0.7)
        assert [m.mask for m in moved] != masks
        alone = [i.mask.to_array() for i in project.instances(apart.source, 0)]
        assert np.sum(alone, axis=0).max() <= 1
        assert "refine" in {run.kind for run in project.ledger.runs()}


def test_masks_that_are_right_already_turn_it_off(
    reef_project, blank_model, shifted_model, monkeypatch
):
    def find(segmenter, project, z, cancel=None):
        bodies = project.ledger.instances(ANNOTATIONS, slices=[z], class_name=CLASS)
        return [exact(t) for t in bodies if str(t.part) == "body"]

    monkeypatch.setattr(refine, "find_instances", find)
    result = fitted(reef_project, blank_model)
    assert "no certain gain" in result.off[CLASS]
    assert result.gains == {}
    plain = predicted(reef_project, blank_model)
    again = predicted(reef_project, blank_model, refine=True)
    assert again.source == plain.source
    assert "masks are not refined" in again.notes[-1]


def exact(truth):
    y0, x0, y1, x1 = truth.mask.box
    grid = truth.mask.crop().astype(np.uint8) * 255
    piece = Piece((float(x0), float(y0), float(x1), float(y1)), grid, exact=True)
    changed = {"probability": ProbabilityMask((piece,)), "origin": Origin.MODEL}
    return dataclasses.replace(truth, **changed)


def test_too_few_found_turn_it_off(reef_project, blank_model):
    # Random weights find nothing.
    result = fitted(reef_project, blank_model, slices="0")
    assert "8 are needed" in result.off[CLASS]


def test_without_a_traced_slice_it_is_refused(reef_project, blank_model):
    with Project.open(reef_project) as project:
        for z in list(project.ledger.traced()):
            project.ledger.edit(z, clear_traced=True)
    with pytest.raises(FossilError, match="No slice is traced yet"):
        fitted(reef_project, blank_model)


def test_predicting_without_a_refiner_tells_how_to_fit_one(reef_project, blank_model):
    with pytest.raises(FossilError, match="fossiledit refine PROJECT --model blank"):
        predicted(reef_project, blank_model, refine=True)


def test_exclusive_masks_need_a_refiner(reef_project, blank_model):
    with pytest.raises(FossilError, match="Only refined masks"):
        predicted(reef_project, blank_model, exclusive=True)
