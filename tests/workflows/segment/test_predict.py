"""Predicting: every finished slice is kept, whatever ends the process."""

import json
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from typer.testing import CliRunner

from napari_fossiledit.cli.commands import app
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.files import write_json
from napari_fossiledit.jobs.spread import Spread
from napari_fossiledit.models.files.places import RECORD
from napari_fossiledit.models.files.registry import read_record
from napari_fossiledit.models.inference.looks import look_of
from napari_fossiledit.params.segment import Device, PredictParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.placement import Alignment, Placement
from napari_fossiledit.progress import Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.segment import predict
from napari_fossiledit.workflows.stack import new


def params(model, **values):
    fixed = {"device": Device.CPU, "max_detections": 5}
    return PredictParams(model=model, **{**fixed, **values})


def stored(project_path, source):
    with Project.open(project_path, read_only=True) as project:
        done = project.ledger.done(source)
        return {z: project.ledger.instances(source, slices=[z]) for z in done}


def test_only_missing_slices_are_predicted(reef_project, blank_model):
    first = predict.run(reef_project, params(blank_model, slices="0,2"))
    before = stored(reef_project, first.source)
    second = predict.run(reef_project, params(blank_model, slices="0-3"))
    assert second.source == first.source
    assert second.predicted == (1, 3)
    after = stored(reef_project, second.source)
    assert set(after) == {0, 1, 2, 3}
    assert all(after[z] == before[z] for z in before)


def test_predicting_again_gives_old_predictions_their_probabilities(reef_project, blank_model):
    first = predict.run(reef_project, params(blank_model, slices="0-1"))
    before = stored(reef_project, first.source)
    with Project.open(reef_project) as project, project.ledger.transaction() as db:
        db.execute("UPDATE instances SET probability = NULL")
    assert predict.run(reef_project, params(blank_model, slices="0-1")).predicted == ()
    again = predict.run(reef_project, params(blank_model, slices="0", again=True))
    assert (again.source, again.predicted) == (first.source, (0,))
    assert "Slices 0 are predicted anew. Link again" in again.notes[-1]
    with Project.open(reef_project) as project:
        known = [project.ledger.has_probabilities(first.source, z) for z in (0, 1)]
        assert known == [True, False]
        assert project.instances(first.source, 0, mask_cut=0.4)
    masks = [
        [i.mask for i in found] for found in (before[0], stored(reef_project, again.source)[0])
    ]
    assert masks[0] == masks[1]


def test_other_options_do_not_touch_stored_predictions(reef_project, blank_model):
    first = predict.run(reef_project, params(blank_model, slices="0"))
    other = predict.run(reef_project, params(blank_model, slices="0", score_floor=0.99))
    assert other.source != first.source
    assert other.instances == 0
    assert len(stored(reef_project, first.source)[0]) == first.instances


def test_views_draw_what_one_view_finds_under_another_name(reef_project, blank_model):
    one, four, find = (
        predict.run(reef_project, params(blank_model, slices="0", max_detections=5, **options))
        for options in ({"views_find": True}, {"views": 4}, {"views": 4, "views_find": True})
    )
    # One view finds whatever is said of the others, and keeps the name it always had.
    plain = predict.run(reef_project, params(blank_model, slices="0", max_detections=5))
    assert (plain.source, plain.predicted) == (one.source, ())
    assert len({one.source, four.source, find.source}) == 3
    first, second = (stored(reef_project, r.source)[0] for r in (one, four))
    assert [i.mask for i in first] != [i.mask for i in second]


KILLED = """
import os, signal
from pathlib import Path
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.progress import Job
from napari_fossiledit.workflows.segment import predict
def die(progress):
    if progress.done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
predict.run(
    Path({path!r}), PredictParams(model="blank", device="cpu", max_detections=5), job=Job(die
))
"""


def test_slices_of_another_rock_are_told(reef_project, blank_model):
    with Project.open(reef_project, read_only=True) as project:
        folder = project.model_folder(blank_model)
        slices = [project.stack.read(z) for z in range(2)]
    record = read_record(folder)

    def notes_of(images, **options):
        looks = [look_of(record.preprocessing.prepare(image)) for image in images]
        known = {"training": {"looks": looks}}
        write_json(folder / RECORD, record.model_copy(update=known).model_dump(mode="json"))
        told = predict.run(reef_project, params(blank_model, slices="0-1", again=True, **options))
        return [note for note in told.notes if "unlike" in note]

    assert notes_of(slices) == []
    assert notes_of([]) == []
    (note,) = notes_of([255 - image for image in slices])
    assert note == (
        f"These slices look unlike those that {blank_model} learned from: trace two slices and"
        ' train a model on them (page "Segment").'
    )


def test_a_killed_prediction_goes_on_where_it_was(reef_project, blank_model):
    script = textwrap.dedent(KILLED.format(path=str(reef_project)))
    ended = subprocess.run([sys.executable, "-c", script], check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    again = predict.run(reef_project, params(blank_model))
    assert again.slices == (0, 1, 2, 3, 4)
    # Two were there; which ones is a matter of which thread was quicker.
    assert len(again.predicted) == 3
    assert set(stored(reef_project, again.source)) == {0, 1, 2, 3, 4}


def test_cancelling_keeps_finished_slices(reef_project, blank_model):
    reports = []
    with pytest.raises(CancelledError):
        predict.run(
            reef_project,
            params(blank_model),
            job=Job(reports.append, lambda: bool(reports) and reports[-1].done >= 1),
        )
    with Project.open(reef_project) as project:
        assert project.ledger.runs()[-1].status == "cancelled"
        (kept,) = (project.ledger.done(s.name) for s in project.ledger.predictions(blank_model))
    # Several were on their way.
    assert 1 <= len(kept) < 5
    assert {*predict.run(reef_project, params(blank_model)).predicted} == {*range(5)} - kept


def test_a_full_disk_is_told_and_harms_nothing(reef_project, blank_model, monkeypatch):
    first = predict.run(reef_project, params(blank_model, slices="0"))
    before = stored(reef_project, first.source)
    monkeypatch.setattr(sqlite3, "connect", _small(sqlite3.connect))
    with pytest.raises(FossilError, match=r"ledger\.sqlite.*full"):
        predict.run(reef_project, params(blank_model, slices="1-4", max_detections=100))
    monkeypatch.undo()
    assert stored(reef_project, first.source)[0] == before[0]
    assert predict.run(reef_project, params(blank_model)).predicted


def _small(connect):
    """Make connections whose database cannot grow: what SQLite answers on a full disk."""

    def limited(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    return limited


def test_unknown_models_and_slices_are_refused(reef_project):
    with pytest.raises(FossilError, match=r"no model 'none'; expected one of reef-lite"):
        predict.run(reef_project, params("none"))
    with pytest.raises(FossilError, match=r"Slices 9 are not in the stack; expected 0 to 4"):
        predict.run(reef_project, params("reef-lite", slices="9"))


def test_a_broken_photograph_costs_its_own_slice(reef_project, blank_model, monkeypatch):
    with Project.open(reef_project) as project:
        photograph = project.stack_path / project.names[3]
    whole = photograph.read_bytes()
    photograph.write_bytes(whole[:2000])
    job = CliRunner().invoke(app, ["predict", str(reef_project), "--model", blank_model, "--json"])
    told = json.loads(job.stdout)
    assert (job.exit_code, told["predicted"], told["kept"]) == (3, "0-2,4", 0)
    assert [f["slice"] for f in told["failed"]] == [3]
    assert "slice_0003.png cannot be read" in told["failed"][0]["reason"]
    assert "Slices 3 could not be predicted: mend what is said of each" in told["notes"][-1]
    # Nothing but the slice that failed is left, so that a run in which it fails again is an error.
    every = {"max_detections": 100}
    with pytest.raises(FossilError, match=r"slice_0003\.png"):
        predict.run(reef_project, params(blank_model, **every))
    with Project.open(reef_project) as project:
        source = told["source"]
        assert project.ledger.failed(source)[3].attempts == 4
        files = [project.stack_path / project.names[z] for z in (0, 1, 2)]
        kept = [file.read_bytes() for file in files]
        monkeypatch.setattr(predict, "_LOST", 2)
        for file in files:
            file.write_bytes(whole[:2000])
        # Nobody waits for a thousand slices that fail, twice each.
        with pytest.raises(FossilError, match=r"None of 2 slices could be predicted\. The first"):
            predict.run(reef_project, params(blank_model, max_detections=3))
        for file, content in zip(files, kept, strict=True):
            file.write_bytes(content)
        # Who needs all of them is not given a part.
        with pytest.raises(FossilError, match=r"slice_0003\.png"):
            predict.predict_missing(project, params(blank_model, max_detections=4), [2, 3])
    photograph.write_bytes(whole)
    assert predict.run(reef_project, params(blank_model, **every)).predicted == (3,)
    with Project.open(reef_project) as project:
        assert project.ledger.failed(source) == {}


def test_a_photograph_that_is_replaced_meanwhile(reef_project, blank_model):
    """What was read counts: the next run predicts what took its place."""
    with Project.open(reef_project) as project:
        place = project.stack_path / project.names[1]
        other = (project.stack_path / project.names[2]).read_bytes()

    def put(progress):
        if progress.finished and progress.finished[1] == 1:
            place.write_bytes(other)

    found = predict.run(reef_project, params(blank_model, slices="0-2"), job=Job(put))
    assert found.predicted == (0, 1, 2)
    again = predict.run(reef_project, params(blank_model, slices="0-2"))
    assert again.predicted == (1,)
    place.unlink()
    gone = predict.run(reef_project, params(blank_model, slices="1-3"))
    assert (gone.predicted, list(gone.failed)) == ((3,), [1])
    assert len(stored(reef_project, found.source)[1]) == 5


def test_two_runs_at_once_keep_what_the_other_stored(reef_project, blank_model):
    """Who judges masks while a run goes on judges those that stay."""
    made = []

    def begin_another(progress):
        if progress.finished and not made:
            made.append(predict.run(reef_project, params(blank_model)).source)
            made.append(stored(reef_project, made[0]))

    found = predict.run(reef_project, params(blank_model), job=Job(begin_another))
    assert (found.predicted, found.failed) == ((0, 1, 2, 3, 4), {})
    assert stored(reef_project, found.source) == made[1]


def test_a_slice_that_is_moved_while_it_is_read(reef_project, monkeypatch):
    """Its masks would be taken for masks of where it lies now."""
    moves = [Placement(0, 1)]
    window = SimpleNamespace(preprocessing=SimpleNamespace(window=None))
    with Project.open(reef_project) as project:

        def read_and_move(*_):
            if moves:
                project.ledger.set_alignment(Alignment().moved(1, moves.pop()))

        monkeypatch.setattr(predict, "seen", read_and_move)
        assert predict._read(project, window, 1)[2] == Placement(0, 1)
        moves += [Placement(0, 3), Placement(0, 2)]
        with pytest.raises(FossilError, match="slice 1 changes, or is moved, while it is read"):
            predict._read(project, window, 1)


def test_wherever_and_in_whatever_order_the_result_is_the_same(
    reef_project, blank_model, monkeypatch
):
    # Two threads overtake each other; the sums of a convolution depend on how many compute it.
    monkeypatch.setattr(predict, "Spread", partial(Spread, threads=1))
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    order = []

    def note(progress):
        if progress.finished:
            order.append(progress.finished[1])

    found = []
    for options, job in (
        ({"workers": 1}, Job()),
        ({"first": 3}, Job(note)),
        ({}, Job(note, focus=lambda: 0 if len(order) > 6 else 4)),
    ):
        some = params(blank_model, again=True, max_detections=2, **options)
        made = predict.run(reef_project, some, job=job)
        kept = stored(reef_project, made.source)
        found.append({z: [replace(i, id=None) for i in kept[z]] for z in sorted(kept)})
    assert found[0] == found[1] == found[2]
    # The one that is given while another is computed is chosen before that one is there.
    assert order == [3, 2, 4, 1, 0, 4, 3, 2, 0, 1]


def test_two_slices_tell_how_long_the_others_take(reef_project, blank_model):
    told = predict.run(reef_project, params(blank_model, estimate=True))
    assert (told.predicted, told.summary()["waiting"]) == ((0, 1), 3)
    assert 0 < told.estimate.seconds < 60
    assert 1e8 < told.estimate.memory_bytes < 8e9
    assert str(told.estimate).startswith("3 more slices take about ")
    rest = predict.run(reef_project, params(blank_model))
    assert (rest.predicted, rest.estimate) == ((2, 3, 4), None)


def test_the_same_picture_in_16_bit_gives_the_same_detections(reef_project, blank_model, tmp_path):
    eight = predict.run(reef_project, params(blank_model, slices="0-1"))
    assert eight.notes == ()
    with Project.open(reef_project) as project:
        pixels = np.stack([project.stack.read(z) for z in range(2)])
        model = project.model_folder(blank_model)
    tifffile.imwrite(tmp_path / "deep.tif", pixels.astype(np.uint16) * 257, photometric="rgb")
    new.run(
        tmp_path / "deep.fossil",
        tmp_path / "deep.tif",
        NewParams(pixel_size=72.7, slice_spacing=500),
    )
    deep = predict.run(tmp_path / "deep.fossil", params(str(model)))
    assert "its values from 0 to 65535 are shown to the model as 0 to 255" in deep.notes[0]
    masks = [
        [(i.mask, i.score) for z in range(2) for i in stored(path, found.source)[z]]
        for path, found in ((reef_project, eight), (tmp_path / "deep.fossil", deep))
    ]
    assert masks[0] == masks[1]
    assert masks[0]


def _gains(monkeypatch, value):
    monkeypatch.setattr("napari_fossiledit.models.inference.precision.gains", lambda device: value)


def _hash(model_hash, **options):
    from napari_fossiledit.workflows.shared.model_refs import find_model, prediction_source

    return str(prediction_source(find_model(None, "reef-lite"), model_hash, params("", **options)))


def test_only_what_is_not_computed_in_full_is_named_otherwise(monkeypatch):
    views = {"views": 4}
    find = {"views": 4, "views_find": True}
    choices = ({}, views, find, {"engine": "fast"})
    full = [_hash("a", precision="full", **options) for options in choices]
    _gains(monkeypatch, False)
    for precision in ("auto", "mixed"):
        assert [_hash("a", precision=precision, **options) for options in choices] == full
    _gains(monkeypatch, True)
    auto = [_hash("a", **options) for options in choices]
    mixed = [_hash("a", precision="mixed", **options) for options in choices]
    # What is compared stays exact, and so does all that gives scores.
    assert [a == f for a, f in zip(auto, full, strict=True)] == [True, False, True, False]
    assert not set(mixed) & set(full)
    assert mixed[0] == mixed[3] == auto[3]


def test_mixed_precision_is_said_and_computed_in_full_without_a_gain(
    reef_project, blank_model, monkeypatch
):
    chosen = {"slices": "0", "precision": "mixed"}
    _gains(monkeypatch, False)
    without = predict.run(reef_project, params(blank_model, **chosen))
    assert "not faster so: computed in float32" in without.notes[-1]
    _gains(monkeypatch, True)
    halved = predict.run(reef_project, params(blank_model, **chosen))
    views = predict.run(reef_project, params(blank_model, slices="0", views=2))
    assert "The network is computed in bfloat16" in halved.notes[-1]
    assert "All but the first view of each slice is computed in bfloat16" in views.notes[-1]
    assert len({without.source, halved.source, views.source}) == 3
    assert predict.run(reef_project, params(blank_model, slices="0")).source == without.source


def test_mixed_precision_of_another_backend_is_refused(reef_project, blank_model):
    with pytest.raises(FossilError, match=r"detectron2 does not compute in mixed.*precision full"):
        predict.run(reef_project, params(blank_model, precision="mixed", backend="detectron2"))
