"""The whole way through the window with mouse and keys, the real workflows and the shipped model.

What trains, edits and repairs on the sample, and the way with the chloroplast folder, take minutes
and run where FOSSILEDIT_WHOLE_WAY is set::

    FOSSILEDIT_WHOLE_WAY=1 FOSSILEDIT_PICTURES=pictures pytest tests/widgets/test_whole_way.py
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_fossiledit.masks import Origin
from napari_fossiledit.masks.rle import iou_matrix
from napari_fossiledit.project import EditState
from napari_fossiledit.widgets.canvas.layers import Role, find, prediction_array
from napari_fossiledit.widgets.common.compat import drop_area_of
from napari_fossiledit.widgets.probe_edit.probe_edit_dock import TITLE as PROBE_EDIT
from napari_fossiledit.widgets.reef.reef_dock import TITLE as REEF
from napari_fossiledit.widgets.review.review_dock import TITLE as REVIEW
from napari_fossiledit.widgets.segment.segment_dock import TITLE as SEGMENT
from napari_fossiledit.widgets.stack.stack_dock import TITLE as STACK
from napari_fossiledit.widgets.start.start_dock import TITLE as START
from napari_fossiledit.widgets.start.window import open_window
from napari_fossiledit.workflows.shared.model_refs import in_use
from napari_fossiledit.workflows.shared.specimens import count_linked
from tests.widgets.user import User

WHOLE = bool(os.environ.get("FOSSILEDIT_WHOLE_WAY"))
SHIPPED, CLASS = "reef-lite", "archaeocyathid"
CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def windows(qapp):
    """Open windows; they are closed after the test."""
    opened = []

    def open_one(path=None):
        opened.append(open_window(path))
        return User(opened[-1])

    yield open_one
    for viewer in opened:
        viewer.close()


@pytest.fixture
def chosen(monkeypatch):
    """Answer the file dialogs: the only thing of the window that is not the real one."""

    def answer(path):
        monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(path))
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))

    return answer


def predictions(user, z, score=0.0):
    """What is shown of the predictions on a slice, surest first."""
    array = prediction_array(find(user.viewer, Role.PREDICTIONS))
    shown = [i for i in array.painted(z).instances if i.score >= max(score, array.score)]
    return sorted(shown, key=lambda i: -i.score)


def free_place(user, z, size):
    """The middle (y, x) of a square of the slice without any instance, not at its edge."""
    rows, columns = user.session.current.shape[1:]
    taken = np.zeros((rows, columns), bool)
    for item in (*user.own(z), *predictions(user, z)):
        y0, x0, y1, x1 = item.mask.box
        taken[y0:y1, x0:x1] = True
    for y in range(size, rows - size, 4):
        for x in range(size, columns - size, 4):
            if not taken[y - size : y + size, x - size : x + size].any():
                return y, x
    raise AssertionError("the slice is full")


@pytest.mark.timeout(1800)
def test_the_sample_from_an_empty_window_to_a_reef(windows, chosen, tmp_path):
    user = windows()
    start_with_the_sample(user, chosen, tmp_path)
    predict(user)
    correct(user)
    if WHOLE:
        train(user)
        edit(user)
        repair(user)
    reconstruct(user, chosen, tmp_path)
    close_and_reopen(user, windows)


def start_with_the_sample(user, chosen, folder):
    assert user.page.title == START
    user.reads("From ground-away slices to a reef in 3D")
    user.pictures("empty window")
    chosen(folder)
    user.presses("Try the sample reef")
    assert user.page.title == SEGMENT
    assert (folder / "sample-reef" / "sample.fossil").is_dir()
    assert user.session.current.shape == (16, 288, 384)
    assert sorted(user.session.current.ledger.traced()) == [0, 4, 8, 12]
    assert find(user.viewer, Role.IMAGE) is not None
    user.goes_to(START)
    user.reads("Traced by hand : 4 of 16")
    assert user.button("Next: let the model find the fossils").isEnabled()
    user.pictures("sample")


def predict(user):
    user.presses("Next: let the model find the fossils")
    assert user.page.title == SEGMENT
    user.to_slice(1)
    user.reads("Slice 1 has not been predicted yet|No predictions are shown")
    user.presses("This slice")
    user.presses("Predict")
    found = user.reads(rf"{SHIPPED} found (\d+) fossils on slice 1, and (\d+) doubtful ones")
    sure, doubtful = (int(number) for number in found.groups())
    user.reads(f"Slice 1: {sure} of {sure + doubtful} instances shown")
    assert len(predictions(user, 1, 0.5)) == sure > 2
    user.pictures("one slice")
    user.types("slices", "0-4")
    user.presses("Predict")
    user.reads(rf"{SHIPPED} found \d+ fossils on 5 slices")
    (source,) = user.session.current.ledger.predictions()
    assert user.session.current.ledger.done(source.name) == {0, 1, 2, 3, 4}
    assert "predicted" in user.session.view.marks.words.text()


def correct(user):
    first = predictions(user, 1)[0]
    user.goes_to(REVIEW)
    user.clicks_on(first)
    user.reads(rf"{first.class_name}, .* mm², .*score {first.score:.2f}, found by")
    user.pictures("picked")
    user.key(Qt.Key.Key_G)
    user.until(lambda: user.own(1))
    (taken,) = user.own(1)
    assert (taken.origin, taken.mask.area) == (Origin.MODEL, first.mask.area)
    user.reads("taken over from a prediction")
    user.key(Qt.Key.Key_Z, CTRL)
    assert user.own(1) == []

    shown = predictions(user, 1)
    user.presses("Take over this slice")
    user.reads(rf"{len(shown)} fossils outlined on slice 1")
    assert len(user.own(1)) == len(shown)

    y, x = free_place(user, 1, 12)
    user.key(Qt.Key.Key_N)
    user.drags((y, x - 6), (y, x + 6))
    assert len(user.own(1)) == len(shown) + 1
    painted = max(user.own(1), key=lambda i: i.id)
    assert painted.origin == Origin.HUMAN
    y0, x0, y1, x1 = painted.mask.box
    assert y0 <= y < y1
    assert x0 <= x - 6 < x + 6 < x1
    user.pictures("stroke")
    user.key(Qt.Key.Key_Z, CTRL)
    assert len(user.own(1)) == len(shown)
    user.reads("Undo: .*slice 1")
    user.key(Qt.Key.Key_Z, CTRL | SHIFT)
    assert len(user.own(1)) == len(shown) + 1

    user.marks(1, "as traced")
    assert sorted(user.session.current.ledger.traced()) == [0, 1, 4, 8, 12]
    user.reads("Slice 1 is traced")
    assert "traced" in user.session.view.marks.words.text()
    user.pictures("traced")


def train(user):
    user.goes_to(SEGMENT)
    user.tab("Train")
    user.presses("Use all traced slices")
    user.types("name", "own")
    user.types("slices", "0,1")
    user.presses("More settings")
    user.types("max_steps", "4")
    user.presses("Train")
    user.reads("The model own has learned from 2 slices")
    assert user.session.current.models() == ["own"]
    assert in_use(user.session.current) == "own"
    user.pictures("trained")


def edit(user):
    """Four clicks from *Start here* to a judged edit: the page, probe, use, mend."""
    user.goes_to(PROBE_EDIT)
    user.presses("Find what is wrong")
    mend_what_was_found(user)


def mend_what_was_found(user):
    project = user.session.current
    result = user.page.wrong.result
    user.reads(result.sentence[:40])
    user.pictures("what is wrong")
    place = result.places[0]
    user.click(user.page.wrong.grid.itemAt(0).widget())
    assert user.session.slice == place.instance.slice
    assert find(user.viewer, Role.OUTLINE) is not None
    user.presses("Use this")
    user.pictures("mend")
    user.presses("Mend the model")
    (name,) = project.edits.names()
    judged = project.edits.read(name).judged
    user.reads(judged["verdict"][:40])
    user.reads("Precision")
    user.pictures("judge")
    assert find(user.viewer, Role.OUTLINE) is None
    user.presses("Keep")
    assert project.edits.read(name).state == EditState.KEPT
    assert in_use(project) == name
    user.reads(f"{name} is kept")
    user.presses("Roll back")
    assert project.edits.read(name).state == EditState.ROLLED_BACK
    assert in_use(project) == "own"
    user.reads(f"{name} is rolled back: own is used again")
    user.goes_to(SEGMENT)
    user.tab("Predict")
    user.reads("Shown")
    assert name not in user.page.picker.source


def repair(user):
    project = user.session.current
    user.goes_to(PROBE_EDIT)
    user.click(user.page.steps[user.page.repair].head)
    # What the model in use finds, which another model's masks may hide.
    sources = [source.name for source in project.ledger.predictions("own")]
    found = [
        (z, item)
        for source in sources
        for z in sorted(project.ledger.traced().keys() & project.ledger.done(source))
        for item in project.instances(source, z, min_score=0.5)
    ]

    def fit(z, item):
        truths = [o.mask for o in user.own(z) if o.class_name == CLASS]
        return max(iou_matrix([item.mask], truths)[0], default=0)

    z, item = min(found, key=lambda each: fit(*each))
    user.to_slice(z)
    user.presses("Click a wrong mask")
    user.clicks_on(item)
    user.reads(f"Slice {z}: the outlined mask is wrong")
    user.pictures("repair")
    before = set(project.edits.names())
    user.presses("Repair")
    (name,) = set(project.edits.names()) - before
    user.reads(project.edits.read(name).judged["verdict"][:40])
    user.pictures("repaired")
    user.presses("Roll back")
    assert project.edits.read(name).state == EditState.ROLLED_BACK


def reconstruct(user, chosen, folder):
    project = user.session.current
    user.goes_to(REEF)
    user.presses("Link")
    linked = int(user.reads(r"joined to (\d+) fossils").group(1))
    assert linked > 3
    assert count_linked(project) == linked
    user.presses("Show in 3D")
    user.until(lambda: find(user.viewer, Role.SPECIMENS) is not None)
    assert user.viewer.dims.ndisplay == 3
    table = user.page.table
    assert len(table.rows.rows) > 3
    user.until(lambda: find(user.viewer, Role.REDUCED) is not None)
    user.pictures("reef")
    first_slice = table.model().index(1, table.rows.keys.index("first_slice"))
    table.scrollTo(first_slice)
    user.click(table.viewport(), table.visualRect(first_slice).center())
    last_slice = first_slice.siblingAtColumn(table.rows.keys.index("last_slice"))
    # The photograph lies behind the fossil, on whichever side of it that is.
    assert int(first_slice.data()) <= user.session.slice <= int(last_slice.data())
    user.pictures("one fossil")
    user.presses("3. Export")
    meshes = folder / "meshes"
    user.types("mesh folder", str(meshes))
    user.presses("Export meshes")
    written = int(user.reads(r"(\d+) surfaces written into").group(1))
    assert len(list(meshes.glob("*.stl"))) == written
    # Fossils with slices in their midst that nobody looked at get no surface.
    assert written == sum(row["volume_mm3"] is not None for row in table.rows.rows) > 0
    chosen(folder / "fossils.csv")
    user.presses("4. Measure and report")
    user.presses("Measure ...")
    lines = (folder / "fossils.csv").read_text().splitlines()
    assert len(lines) == 1 + len(table.rows.rows)


def close_and_reopen(user, windows):
    project = user.session.current
    path, own, models = project.path, len(user.own(1)), project.models()
    linked, edits = count_linked(project), project.edits.names()
    user.viewer.close()
    again = windows(path)
    again.waits()
    assert again.page.title == START
    again.reads("Traced by hand : 5 of 16")
    again.reads(f"Fossils in 3D : {linked}")
    assert len(again.own(1)) == own
    assert (again.session.current.models(), again.session.current.edits.names()) == (models, edits)
    again.to_slice(1)
    assert ": traced" in again.session.view.marks.words.text()
    predicted = max(again.session.current.ledger.done(again.session.picker.source))
    again.to_slice(predicted)
    assert "predicted" in again.session.view.marks.words.text()
    assert len(predictions(again, predicted)) > 2
    again.pictures("reopened")


@pytest.mark.skipif(not WHOLE, reason="takes minutes: set FOSSILEDIT_WHOLE_WAY")
@pytest.mark.timeout(3600)
def test_a_dropped_folder_of_real_sections_from_nothing_to_3d(windows, shared_data, tmp_path):
    data = shared_data / "chloroplast"
    if not data.is_dir():
        pytest.skip(f"no {data}")
    user = windows()
    drop(user, data / "images")
    measure_and_create(user, tmp_path / "chloro.fossil")
    import_tracings(user, data / "labels")
    train_on_tracings(user)
    predict_and_correct(user)
    reconstruct_sections(user)


def drop(user, folder):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(folder))])
    keys, copy = Qt.KeyboardModifier.NoModifier, Qt.DropAction.CopyAction
    area = drop_area_of(user.viewer)
    place = area.rect().center()
    # Qt drops only where something was dragged in.
    left = Qt.MouseButton.LeftButton
    QApplication.sendEvent(area, QDragEnterEvent(place, copy, data, left, keys))
    QApplication.sendEvent(area, QDropEvent(QPointF(place), copy, data, left, keys))
    user.waits()
    assert user.page.title == STACK
    user.reads("10 slices of 1024 x 1024 pixels")
    user.reads("Enter: Size of a pixel")
    assert not user.button("Create project").isEnabled()
    user.pictures("dropped")


def measure_and_create(user, path):
    user.presses("Measure a scale bar in the photograph")
    user.reads("Click one end of the scale bar")
    user.clicks(300, 200, scale=(1, 1))
    user.reads("Now click the other end")
    user.clicks(300, 700, scale=(1, 1))
    length = float(user.reads(r"The line is ([\d.]+) pixels long").group(1))
    # The mouse hits whole pixels of the screen, of which there are fewer.
    assert length == pytest.approx(500, abs=4)
    user.types("Length of the scale bar", "25")
    user.types("Unit of the length", "um")
    rows = user.page.new.form.rows
    assert rows["pixel_size"].value == pytest.approx(25 / length, rel=1e-3)
    user.pictures("measured")
    user.types("pixel_size", "0,05")
    user.types("slice_spacing", "0,05")
    user.types("classes", "chloroplast")
    user.types("project folder", str(path))
    user.presses("Create project")
    geometry = user.session.current.geometry
    assert (geometry.pixel_size_um, geometry.slice_spacing_um) == (0.05, 0.05)
    assert user.session.current.settings.classes == ("chloroplast",)
    user.reads("Show the program some fossils")


def import_tracings(user, labels):
    user.types("annotation file", str(labels))
    user.types("slices", "0,2,4")
    user.presses("Import")
    number = int(user.reads(r"(\d+) fossils imported on 3 slices").group(1))
    assert number == sum(len(user.own(z)) for z in range(10)) > 30
    for z in (0, 2, 4):
        if z not in user.session.current.ledger.traced():
            user.marks(z, "as traced")
    assert sorted(user.session.current.ledger.traced()) == [0, 2, 4]
    user.pictures("imported")


def train_on_tracings(user):
    user.goes_to(SEGMENT)
    user.tab("Train")
    user.presses("Use all traced slices")
    user.types("name", "chloro")
    user.types("max_minutes", "3")
    user.presses("Train")
    user.reads("The model chloro has learned from 3 slices")
    assert in_use(user.session.current) == "chloro"


def predict_and_correct(user):
    user.to_slice(1)
    user.tab("Predict")
    user.types("slices", "1,3")
    user.presses("Predict")
    user.reads("chloro found [0-9]+ fossils on 2 slices")
    shown = predictions(user, 1)
    assert len(shown) > 10
    user.pictures("predicted")
    user.clicks_on(shown[0])
    user.reads("score")
    user.goes_to(REVIEW)
    user.presses("Take over this slice")
    assert len(user.own(1)) == len(shown)
    user.clicks_on(shown[0])
    user.key(Qt.Key.Key_Delete)
    user.until(lambda: len(user.own(1)) < len(shown))
    user.key(Qt.Key.Key_Z, CTRL)
    assert len(user.own(1)) == len(shown)
    user.presses("Slice is traced")
    assert 1 in user.session.current.ledger.traced()


def reconstruct_sections(user):
    user.goes_to(REEF)
    user.presses("Link")
    linked = int(user.reads(r"joined to (\d+) fossils").group(1))
    assert 10 < linked < 100
    user.presses("Show in 3D")
    user.until(lambda: find(user.viewer, Role.SPECIMENS) is not None)
    assert user.viewer.dims.ndisplay == 3
    user.pictures("in 3D")
