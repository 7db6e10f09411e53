"""A photograph is replaced: every command says what was made from the old one."""

import os

import pytest
from PIL import Image, ImageOps

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.annotations import ExportParams, TraceParams
from napari_fossiledit.params.reconstruct import LinkParams, MeshParams
from napari_fossiledit.params.segment import Device, EvaluateParams, PredictParams, TrainParams
from napari_fossiledit.params.stack import ConvertParams, NewParams
from napari_fossiledit.project import Project
from napari_fossiledit.project.contents import ContentTable
from napari_fossiledit.workflows.annotate import corrections
from napari_fossiledit.workflows.annotate.files import export_annotations
from napari_fossiledit.workflows.reef import link, mesh
from napari_fossiledit.workflows.segment import evaluate, predict, train
from napari_fossiledit.workflows.stack import convert, info, new

ANNOTATIONS_STALE = (
    "The annotations of slices 1 were made from other photographs than are there now: look at them"
    " again and mark the slices as traced."
)


def replace(folder, z=1):
    """Turn a photograph upside down: the same name and size."""
    path = sorted((folder / "images").iterdir())[z]
    stat = path.stat()
    with Image.open(path) as image:
        ImageOps.flip(image.convert("RGB")).save(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))


def options(model, **values):
    return PredictParams(model=model, device=Device.CPU, max_detections=5, **values)


def stale(project):
    return info.run(project).summary()["stale"]


def test_predictions_of_a_replaced_photograph_are_made_again(reef_project, tiny_reef, blank_model):
    first = predict.run(reef_project, options(blank_model, slices="0-2"))
    assert stale(reef_project) == []
    replace(tiny_reef)
    told = stale(reef_project)
    assert told[0] == ANNOTATIONS_STALE
    assert f"The predictions {first.source} of slices 1 were made from other photographs" in told[1]
    again = predict.run(reef_project, options(blank_model, slices="0-2"))
    assert (again.source, again.predicted) == (first.source, (1,))
    assert "Slices 1 are predicted again" in again.notes[0]
    assert stale(reef_project) == [ANNOTATIONS_STALE]
    last = predict.run(reef_project, options(blank_model, slices="0-2"))
    assert (last.predicted, last.notes) == ((), ())


def test_a_project_whose_photographs_cannot_be_noted_is_not_made(tiny_reef, tmp_path, monkeypatch):
    def full(*_):
        raise FossilError("Writing the ledger failed", advice="The disk is full.")

    path, params = tmp_path / "p.fossil", NewParams(pixel_size=10, slice_spacing=100)
    with monkeypatch.context() as patch:
        patch.setattr(ContentTable, "note", full)
        with pytest.raises(FossilError, match="Writing the ledger failed"):
            new.run(path, tiny_reef / "images", params)
    # The same command ends it, and a photograph that is replaced then is noticed.
    new.run(path, tiny_reef / "images", params)
    with Project.open(path, read_only=True) as project:
        assert project.ledger.contents.known("").keys() == {*range(5)}


def test_with_neighbours_all_are_predicted_again(reef_project, tiny_reef, blank_model):
    near = options(blank_model, slices="0-2", neighbour_weight=1.0)
    predict.run(reef_project, near)
    assert predict.run(reef_project, near).predicted == ()
    replace(tiny_reef)
    assert predict.run(reef_project, near).predicted == (0, 1, 2)


def test_what_uses_stale_annotations_says_so(reef_project, tiny_reef, blank_model, tmp_path):
    predict.run(reef_project, options(blank_model, slices="1"))
    replace(tiny_reef)
    judged = evaluate.run(
        reef_project, EvaluateParams(model=blank_model, slices="1", device=Device.CPU)
    )
    assert ANNOTATIONS_STALE in judged.notes
    learned = TrainParams(name="new", slices="1", max_steps=1, crop=64, batch=1, device=Device.CPU)
    assert ANNOTATIONS_STALE in train.run(reef_project, learned).notes
    assert ANNOTATIONS_STALE in link.run(reef_project, LinkParams(source="annotations")).warnings
    assert ANNOTATIONS_STALE in mesh.run(reef_project, tmp_path / "out", MeshParams()).warnings
    out = ExportParams(file=tmp_path / "out.json", slices="0-1", source="annotations")
    assert export_annotations(reef_project, out).notes[0] == ANNOTATIONS_STALE
    corrections.trace(reef_project, TraceParams(slices="1"))
    assert ANNOTATIONS_STALE not in stale(reef_project)


def test_a_photograph_that_cannot_be_read_costs_no_prediction(reef_project, tiny_reef, blank_model):
    for near in (0.0, 1.0):
        chosen = options(blank_model, slices="0-1", neighbour_weight=near)
        source = predict.run(reef_project, chosen).source
        with Project.open(reef_project) as project:
            before = project.ledger.counts(source)
        path = sorted((tiny_reef / "images").iterdir())[1]
        whole = path.read_bytes()
        path.write_bytes(b"no image")
        with pytest.raises(FossilError, match="slice_0001"):
            predict.run(reef_project, chosen)
        with Project.open(reef_project) as project:
            assert project.ledger.counts(source) == before
        path.write_bytes(whole)


def test_the_converted_copy_follows_its_photographs(reef_project, tiny_reef, blank_model):
    found = predict.run(reef_project, options(blank_model, slices="0-2"))
    convert.run(reef_project, ConvertParams())
    # The copy is the same photographs: nothing has to be predicted again, or read.
    assert stale(reef_project) == []
    assert predict.run(reef_project, options(blank_model, slices="0-2")).predicted == ()
    replace(tiny_reef)
    (told,) = stale(reef_project)
    assert "The converted copy of slices 1 is damaged, or was made from other photographs" in told
    assert convert.run(reef_project, ConvertParams()).again == (1,)
    assert convert.run(reef_project, ConvertParams()).again == ()
    assert [note.partition(" were")[0] for note in stale(reef_project)] == [
        "The annotations of slices 1",
        f"The predictions {found.source} of slices 1",
    ]
    with Project.open(reef_project) as project, Project.open(reef_project) as other:
        assert project.original is not None
        assert (project.stack.read(1) == other.original.stack.read(1)).all()
    assert predict.run(reef_project, options(blank_model, slices="0-2")).predicted == (1,)
