"""Fitting a refiner in a project: what it gains decides whether it is used."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Origin, Part
from napari_fossiledit.masks.probability import Piece, ProbabilityMask
from napari_fossiledit.masks.rle import iou_matrix
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.refine import fit
from napari_fossiledit.params.segment import Device, EvaluateParams, PredictParams, RefineParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.segment import evaluate, predict, refine
from napari_fossiledit.workflows.stack import new

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
    monkeypatch.setattr(fit, "fit_network", functools.partial(fit.fit_network, steps=50))


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


def as_kind(reef_project, folder, kind):
    """Make a project of the same slices and traced instances with other values."""
    with Project.open(reef_project, read_only=True) as project:
        slices = range(project.shape[0])
        pixels = np.stack([project.stack.read(z) for z in slices])
        traced = [
            project.ledger.instances(ANNOTATIONS, slices=[z], class_name=CLASS, part=Part.BODY)
            for z in slices
        ]
    if kind.startswith("grey"):
        pixels = pixels.mean(axis=-1).astype(np.uint8)
    if kind.endswith("16 bit"):
        pixels = pixels.astype(np.uint16) * 257
    colours = "rgb" if pixels.ndim == 4 else "minisblack"
    tifffile.imwrite(folder / "slices.tif", pixels, photometric=colours)
    new.run(
        folder / "other.fossil",
        folder / "slices.tif",
        NewParams(pixel_size=72.7, slice_spacing=500),
    )
    with Project.open(folder / "other.fossil") as project:
        for z in slices:
            project.ledger.edit(z, put=traced[z], traced=None)
    return folder / "other.fossil"


def in_tiles(instance):
    """Return an instance whose probabilities are those of two tiles that overlap."""
    (piece,) = instance.probability.pieces
    x0, y0, x1, y1 = piece.box
    middle = int(x1 - x0) // 2
    left = Piece((x0, y0, x0 + middle + 2, y1), piece.grid[:, : middle + 2], exact=True)
    right = Piece((x0 + middle - 2, y0, x1, y1), piece.grid[:, middle - 2 :], exact=True)
    return dataclasses.replace(instance, probability=ProbabilityMask((left, right)))


@pytest.mark.parametrize("kind", ["grey", "grey 16 bit", "16 bit", "tiled"])
def test_grey_deep_and_tiled_slices_are_refined_alike(
    reef_project, blank_model, shifted_model, monkeypatch, tmp_path, kind
):
    other = as_kind(reef_project, tmp_path, kind)
    model = str(reef_project / "models" / blank_model)
    if kind == "tiled":
        whole = refine.find_instances

        def find(segmenter, project, z, cancel=None):
            return [in_tiles(i) for i in whole(segmenter, project, z)]

        monkeypatch.setattr(refine, "find_instances", find)
    assert fitted(other, model).gains[CLASS].iou_gain.interval[0] > 0
    with Project.open(other, read_only=True) as project:
        traced = project.ledger.instances(ANNOTATIONS, slices=[0], part=Part.BODY)
    drawn = [beside(t) for t in traced]
    found = [in_tiles(i) for i in drawn] if kind == "tiled" else drawn
    monkeypatch.setattr(MaskRcnnSegmenter, "predict", lambda self, image, **options: found)
    source = predicted(other, model, refine=True).source
    with Project.open(other, read_only=True) as project:
        refined = project.instances(source, 0)
    truths = [t.mask for t in traced]
    before, after = (
        iou_matrix([i.mask for i in some], truths).max(axis=0).mean() for some in (drawn, refined)
    )
    assert after > before + 0.05


def test_what_agrees_in_one_of_two_slices_is_divided_too(
    reef_project, blank_model, shifted_model, monkeypatch
):
    every = refine.find_instances

    def find(segmenter, project, z, cancel=None):
        return every(segmenter, project, z) * 2 if z == 0 else []

    monkeypatch.setattr(refine, "find_instances", find)
    monkeypatch.setattr(refine, "LEAST_TRACED", 1)
    assert "no certain gain" in fitted(reef_project, blank_model, slices="0,1").off[CLASS]


def test_one_instance_leaves_nothing_to_judge_by(
    reef_project, blank_model, shifted_model, monkeypatch
):
    monkeypatch.setattr(refine, "LEAST_TRACED", 1)
    assert "too little" in fitted(reef_project, blank_model, slices="0").off[CLASS]
    # Nor does what was traced outside of the region.
    monkeypatch.setattr(refine, "LEAST_TRACED", 2)
    with Project.open(reef_project, read_only=True) as project:
        first, *_ = project.ledger.instances(ANNOTATIONS, slices=[1], class_name=CLASS)
    y0, x0, _, _ = first.mask.box
    corner = f"0:{max(x0, 1)},0:{max(y0, 1)}"
    assert "0 traced" in fitted(reef_project, blank_model, slices="1", region=corner).off[CLASS]


def test_small_is_meant_in_pixels_of_the_slices(
    reef_project, blank_model, shifted_model, monkeypatch
):
    monkeypatch.setattr(refine, "TYPICAL_SIDE", 5)
    monkeypatch.setattr(refine, "LEAST_TRACED", 1000)
    result = fitted(reef_project, blank_model, slices="0", smallest=1000)
    record = json.loads((result.folder / "refiner.json").read_text())
    assert 0 < record["scale"] < 0.9
    assert record["smallest"] == round(1000 * record["scale"] ** 2)


def test_evaluating_tells_what_the_refiner_learned_from(
    reef_project, blank_model, shifted_model, monkeypatch
):
    fitted(reef_project, blank_model, slices="0-2")
    monkeypatch.setattr(MaskRcnnSegmenter, "predict", lambda self, image, **options: [])
    params = EvaluateParams(model=blank_model, refine=True, slices="2,3")
    (note,) = [n for n in evaluate.run(reef_project, params).notes if "learned from" in n]
    assert "blank or its refiner learned from slices 2, or from parts of them" in note


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
