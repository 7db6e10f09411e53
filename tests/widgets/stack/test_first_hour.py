"""From photographs that are dropped on the window to a project of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import ZDirection
from napari_fossiledit.progress import Job
from napari_fossiledit.project import Project
from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.canvas.readers import PHOTOGRAPHS
from napari_fossiledit.widgets.common.compat import drop_area_of
from napari_fossiledit.widgets.common.notices import VOICE
from napari_fossiledit.widgets.common.session import session_of
from napari_fossiledit.widgets.stack.new_project import project_name
from napari_fossiledit.widgets.stack.stack_dock import StackDock
from napari_fossiledit.workflows.stack import convert
from tests.widgets.conftest import settled


@pytest.fixture
def dock(viewer, made):
    """The page Stack of a window without a project."""
    attach(session_of(viewer))
    yield made(StackDock)
    session_of(viewer).close()
    session_of(viewer).photographs = None
    viewer.layers.clear()


def looked(qtbot, dock):
    qtbot.waitUntil(lambda: dock.new._look is not None)
    qtbot.waitUntil(lambda: not dock.jobs.runner.is_running)
    return dock.new


def test_a_dropped_folder_leads_to_a_project(viewer, dock, photographs, qtbot):
    viewer.open(str(photographs), plugin="napari-fossiledit")
    new = looked(qtbot, dock)
    assert new.photographs.text == str(photographs)
    # A folder "photographs" says nothing of the rock: the one around it names the project.
    around = photographs.parent
    assert new.folder.text == str(around / f"{around.name}.fossil")
    assert len(viewer.layers) == 1
    assert new.missing.text() == "Enter: Size of a pixel (um)."
    assert not new.make.isEnabled()
    QTest.keyClicks(new.form.rows["pixel_size"].native, "0,05")
    QTest.keyClicks(new.form.rows["slice_spacing"].native, "0.07")
    assert new.make.isEnabled()
    with qtbot.waitSignal(session_of(viewer).project_changed):
        new.make.click()
    qtbot.waitUntil(lambda: not session_of(viewer).is_settling)
    geometry = session_of(viewer).current.geometry
    assert (geometry.pixel_size_um, geometry.slice_spacing_um) == (0.05, 0.07)
    # What was dropped, in pixels, is gone, and the view shows the whole slice.
    assert not [layer for layer in viewer.layers if PHOTOGRAPHS in layer.metadata]
    assert viewer.layers[0].extent.world[1][1:] == pytest.approx((39 * 0.05, 59 * 0.05))
    assert not dock.next_box.isHidden()
    assert "Show the program some fossils" in dock.next.text()


def test_a_folder_of_the_menu_is_taken_before_napari_asks_for_a_reader(
    viewer, dock, photographs, qtbot, monkeypatch, tmp_path
):
    area, left = drop_area_of(viewer), []
    # What napari goes on with, in place of its question.
    monkeypatch.setattr(type(viewer), "open", lambda *_, **__: left.append("napari"))
    area._qt_open([str(photographs)], stack=False, choose_plugin=False)
    assert looked(qtbot, dock).photographs.text == str(photographs)
    assert left == []
    empty = tmp_path / "empty"
    empty.mkdir()
    area._qt_open([str(empty)], stack=False, choose_plugin=False)
    area._qt_open([str(photographs / "slice_00.png")], stack=False)
    assert left == ["napari"] * 2


@pytest.mark.parametrize("what", ["folder", "file", "files"])
def test_a_drop_is_taken_before_napari_asks_for_a_reader(viewer, dock, photographs, qtbot, what):
    files = sorted(photographs.iterdir())
    dropped = {"folder": [photographs], "file": files[:1], "files": files[:2]}[what]
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in dropped])
    buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    copy, area = Qt.DropAction.CopyAction, drop_area_of(viewer)
    # Qt drops only where something was dragged in.
    QApplication.sendEvent(area, QDragEnterEvent(QPoint(9, 9), copy, data, buttons, keys))
    QApplication.sendEvent(area, QDropEvent(QPointF(9, 9), copy, data, buttons, keys))
    new = looked(qtbot, dock)
    assert new.photographs.text == str(files[0] if what == "file" else photographs)
    assert [layer.metadata[PHOTOGRAPHS] for layer in viewer.layers] == [new.photographs.text]


def test_a_chosen_photograph_is_shown_and_its_resolution_offered(dock, viewer, tmp_path, qtbot):
    file = tmp_path / "slab.png"
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(file, dpi=(2540, 2540))
    dock.new._choose(str(file))
    new = looked(qtbot, dock)
    assert viewer.layers[0].metadata[PHOTOGRAPHS] == str(file)
    # There is nothing between the slices of a single one.
    assert new.form.rows["slice_spacing"].isHidden()
    assert new.form.rows["pixel_size"].value == ""
    offer = new.offers["pixel_size"]
    assert offer.text() == "The file says pixels of 10 um: use it"
    offer.click()
    assert new.form.rows["pixel_size"].value == pytest.approx(10, rel=1e-3)
    assert new.make.isEnabled()


def test_a_scale_bar_gives_the_pixel_size(dock, viewer, photographs, qtbot):
    bar = dock.new.scale_bar
    with pytest.raises(FossilError, match="No photograph is on show"):
        bar.points.start()
    dock.new._choose(str(photographs))
    new = looked(qtbot, dock)
    bar.points.start()
    bar.points.point((0.0, 5.0, 10.0))
    assert "click the other end" in bar.said.text()
    bar.points.point((0.0, 5.0, 50.0))
    assert "40.0 pixels" in bar.said.text()
    QTest.keyClicks(bar.length, "2,5")
    assert new.form.rows["pixel_size"].value == 62.5
    bar.unit.setCurrentText("um")
    assert new.form.rows["pixel_size"].value == 0.0625
    bar.stop()
    assert len(viewer.layers) == 1


def test_the_project_can_be_checked_by_its_scale_bar(session, made):
    check = made(StackDock).check
    check.bar.points.start()
    check.bar.points.point((0.0, 70.0, 70.0))
    check.bar.points.point((0.0, 70.0, 70.0 * 31))
    assert "30.0 pixels" in check.bar.said.text()
    QTest.keyClicks(check.bar.length, "2.31")
    assert "77 um by the scale bar and 70 um in the project: +10.0%" in check.verdict.text()
    # Of another project nothing was measured yet.
    session.open(session.current.path)
    assert check.verdict.text() == ""


def test_photographs_that_cannot_be_read_are_told(dock, tmp_path: Path, qtbot):
    file = tmp_path / "broken.png"
    file.write_bytes(b"no picture")
    dock.new._choose(str(file))
    qtbot.waitUntil(lambda: not dock.jobs.runner.is_running)
    assert dock.new.missing.text() == "These photographs cannot be used."
    assert "broken.png" in dock.jobs.text.text()
    assert not dock.new.make.isEnabled()


def test_photographs_chosen_while_others_are_looked_at_are_those_that_count(
    dock, photographs, tmp_path, qtbot
):
    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(np.zeros((7, 9), np.uint8)).save(other / "0.png")
    dock.new._choose(str(photographs))
    dock.new._choose(str(other))
    assert not dock.new.make.isEnabled()
    assert looked(qtbot, dock)._look.path == other
    assert "1 slice of 9 x 7 pixels" in dock.new.look.text()


def test_a_photograph_that_could_not_be_converted_is_named(session, made, photographs):
    file = photographs / "slice_02.png"
    whole = file.read_bytes()
    file.write_bytes(b"no picture")
    dock, said, reports = made(StackDock), len(VOICE.messages), []
    path = session.current.path
    dock._converted(convert.run(path, job=Job(reports.append)))
    assert next(r.said for r in reports if r.said).startswith("5 slices to copy: about ")
    text = "\n".join(m.text for m in VOICE.messages[said:])
    assert "The copy holds 4 slices: they now show at once. 1 could not be read." in text
    assert "slice_02.png" in text
    assert session.current.stack.kind == "zarr"
    settled(session)
    assert not dock.convert.isHidden()
    assert dock.convert.text() == "Convert the slice that is missing"
    file.write_bytes(whole)
    dock._converted(convert.run(path))
    settled(session)
    assert dock.convert.isHidden()


def test_what_comes_next_is_told(session, made):
    dock = made(StackDock)
    assert "Train a model" in dock.next.text()
    asked: list[str] = []
    session.page_requested.connect(asked.append)
    dock.train.click()
    assert asked == ["Segment"]
    assert Project.open(session.current.path).models() == []


@pytest.mark.parametrize("is_open", [False, True])
def test_photographs_opened_as_a_plain_layer_are_offered_as_a_project(
    viewer, dock, photographs, project_path, qtbot, is_open
):
    session = session_of(viewer)
    if is_open:
        session.open(project_path)
    said = len(VOICE.messages)
    viewer.open(str(photographs), plugin="napari")
    (message,) = VOICE.messages[said:]
    assert message.text.startswith("photographs is shown as a picture")
    assert ("beside the project toy" in message.text) is is_open
    word, make = message.action
    assert word == "Make a project of these photographs"
    make()
    new = looked(qtbot, dock)
    assert session.project is None
    assert new.photographs.text == str(photographs)
    # No second layer of them.
    assert [layer.metadata[PHOTOGRAPHS] for layer in viewer.layers] == [str(photographs)]


@pytest.mark.parametrize(
    ("folder", "name"),
    [("reef/slab 3", "slab 3"), ("labrador/images", "labrador"), ("a/Photos_2/tif", "a")],
)
def test_a_project_is_not_named_after_a_folder_that_says_nothing(folder, name):
    assert project_name(Path("/rocks") / folder) == name


def test_the_directions_are_words(dock):
    choices = dock.new.form.rows["z_direction"].input.native.itemText
    assert [choices(n) for n in (0, 1)] == ["into the rock", "out of the rock"]
    assert dock.new.form.values()["z_direction"] is ZDirection.INTO
