"""The mask cut goes from every command into the masks of predictions, and nowhere else."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.masks.probability import Piece, ProbabilityMask
from napari_fossiledit.params.annotations import ExportParams, FillParams
from napari_fossiledit.params.reconstruct import LinkParams, MeshParams, PictureParams
from napari_fossiledit.params.segment import EvaluateParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.workflows.annotate.corrections import fill
from napari_fossiledit.workflows.annotate.files import export_annotations
from napari_fossiledit.workflows.reef import link, measure, mesh, pictures
from napari_fossiledit.workflows.segment import evaluate

SHAPE = (4, 60, 80)
CLASS = "archaeocyathid"
MODEL = "model:m:0123456789ab"
#: Probability of each ring of the wedge below, from the top down: rows 10-14, 15-19, ...
ROWS = (0.95, 0.85, 0.75, 0.65, 0.55, 0.45)


def wedge(z, *, score=0.9, known=True):
    """A square of 30 x 30 pixels whose probability falls by 0.1 every five rows."""
    grid = np.repeat(np.rint(255 * np.array(ROWS)).astype(np.uint8), 5)[:, None] * np.ones(
        30, np.uint8
    )
    kept = ProbabilityMask((Piece((20, 10, 50, 40), grid, exact=True),))
    mask = kept.cut(0.5, SHAPE[1:])
    return Instance(
        z,
        CLASS,
        mask,
        score=score,
        origin=Origin.MODEL,
        probability=kept if known else None,
    )


def square(z, rows):
    array = np.zeros(SHAPE[1:], dtype=bool)
    array[10 : 10 + rows, 20:50] = True
    return Instance(z, CLASS, Mask.from_array(array))


@pytest.fixture
def made(tmp_path):
    """Return a function that makes a project of predictions; `known`: with probabilities."""

    def make(*, known=True):
        path = tmp_path / f"{known}.fossil"
        params = NewParams(pixel_size=10, slice_spacing=30)
        stack = BlankStack.of_shape(tmp_path / "none.mat", SHAPE)
        with Project.create(path, stack, params) as project:
            for z in range(SHAPE[0]):
                project.ledger.store(MODEL, z, [wedge(z, known=known), wedge(z, score=0.2)])
        return path

    return make


def volumes(result):
    return [row.volume_um3 for row in result.rows]


def test_specimens_are_cut_where_they_were_linked(made, tmp_path):
    path = made()
    at = partial(MeshParams, source="m")
    plain = link.run(path, LinkParams(source="m"))
    assert (plain.mask_cut, plain.specimens) == (0.5, 1)
    assert volumes(measure.run(path, tmp_path / "a.csv", at())) == [25 * 30 * 4 * 100 * 30]
    tight = link.run(path, LinkParams(source="m", mask_cut=0.8))
    assert tight.summary()["mask_cut"] == 0.8
    measured = measure.run(path, tmp_path / "b.csv", MeshParams())
    assert (measured.mask_cut, volumes(measured)) == (0.8, [10 * 30 * 4 * 100 * 30])
    written = mesh.run(path, tmp_path / "meshes", at(mask_cut=0.7))
    assert (written.summary()["mask_cut"], volumes(written)) == (0.7, [15 * 30 * 4 * 100 * 30])
    assert mesh.in_memory(path, at()).rows[0].volume_um3 == 10 * 30 * 4 * 100 * 30
    with Project.open(path) as project:
        (_, last) = [run for run in project.ledger.runs() if run.kind == "link"]
        assert (last.params["mask_cut"], last.summary["mask_cut"]) == (0.8, 0.8)


def test_what_a_cut_leaves_without_a_pixel_belongs_to_no_specimen(made):
    path = made()
    link.run(path, LinkParams(source="m"))
    assert link.run(path, LinkParams(source="m", mask_cut=0.99)).specimens == 0
    with pytest.raises(FossilError, match="no specimens"):
        mesh.in_memory(path, MeshParams(source="m"))
    with Project.open(path) as project:
        assert {i.specimen for i in project.ledger.instances(MODEL)} == {None}


def test_evaluating_exporting_drawing_and_taking_over(made, tmp_path):
    path = made()
    with Project.open(path) as project:
        project.ledger.store(ANNOTATIONS, 0, [square(0, 15)])
        project.ledger.set_traced(0, None)
    judged = evaluate.run(path, EvaluateParams(model=MODEL, slices="0", mask_cut=0.7))
    assert judged.figures.protocol.precision.mean == 1.0
    assert json.loads(judged.report.read_text())["mask_cut"] == 0.7
    wide = evaluate.run(path, EvaluateParams(model=MODEL, slices="0"))
    assert wide.figures.protocol.precision.mean == pytest.approx(15 / 25)

    out = tmp_path / "out.json"
    written = export_annotations(path, ExportParams(file=out, source="m", mask_cut=0.9, score=0.5))
    assert (written.mask_cut, written.instances) == (0.9, 4)
    assert [a["area"] for a in json.loads(out.read_text())["annotations"]] == [5 * 30] * 4
    drawn = PictureParams(model=MODEL, slices="1", specimens=False)
    (thin,) = pictures.run(
        path, tmp_path / "thin", drawn.model_copy(update={"mask_cut": 0.9})
    ).files
    (plain,) = pictures.run(path, tmp_path / "plain", drawn).files
    assert thin.read_bytes() != plain.read_bytes()

    taken = fill(path, FillParams(source="m", slices="1", mask_cut=0.6))
    assert taken.summary()["mask_cut"] == 0.6
    with Project.open(path) as project:
        (one,) = project.instances(ANNOTATIONS, 1, mask_cut=0.9)
    assert (one.mask.area, one.part, one.probability) == (20 * 30, Part.BODY, None)


def test_predictions_of_an_earlier_version_are_cut_at_one_half(made, tmp_path):
    path = made(known=False)
    with Project.open(path) as project:
        project.ledger.store(ANNOTATIONS, 0, [square(0, 15)])
        project.ledger.set_traced(0, None)
    told = r"The masks of m \(0123456\) cannot be cut at 0.7.*--again.*at 0.5"
    out = tmp_path / "out.json"
    for call in (
        lambda cut: evaluate.run(path, EvaluateParams(model=MODEL, slices="0", mask_cut=cut)),
        lambda cut: link.run(path, LinkParams(source="m", mask_cut=cut)),
        lambda cut: mesh.in_memory(path, MeshParams(source="m", mask_cut=cut)),
        lambda cut: export_annotations(path, ExportParams(file=out, source="m", mask_cut=cut)),
        lambda cut: fill(path, FillParams(source="m", slices="1", mask_cut=cut)),
    ):
        with pytest.raises(FossilError, match=told):
            call(0.7)
        call(0.5)
