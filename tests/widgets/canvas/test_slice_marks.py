"""The strip below the slices tells and changes their states."""

from __future__ import annotations

import time

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_fossiledit.masks import Mask
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.widgets.canvas import correcting
from napari_fossiledit.widgets.canvas.layers import show_predictions
from napari_fossiledit.widgets.canvas.slice_marks import Strip, read_marks
from tests.widgets.conftest import SHAPE, SOURCE, found


def test_the_states_of_slices_are_told(session):
    ledger = session.current.ledger
    ledger.store(ANNOTATIONS, 0, found(0))
    ledger.set_traced(3, Mask.from_array(np.eye(SHAPE[1], SHAPE[2], dtype=bool)))
    session.current.update(pinned_slices=(3,))
    marks = read_marks(session.current, SOURCE)
    assert [marks.words(z) for z in range(5)] == [
        "begun, not traced, predicted, 0 of 2 masks right",
        "traced, predicted",
        "predicted",
        "traced in a part, predicted, pinned",
        "untouched",
    ]
    assert read_marks(session.current, "").predicted == frozenset()


def test_marks_follow_what_is_shown_and_done(session, qtbot):
    marks = session.view.marks
    assert "predicted" not in marks.words.text()
    show_predictions(session, SOURCE, 0.5)
    session.go_to(2)
    assert marks.words.text() == "Slice 2 of 0-4: predicted"
    with qtbot.waitSignal(session.annotations_changed):
        marks.menu(2).actions()[0].trigger()
    assert marks.words.text() == "Slice 2 of 0-4: traced, predicted"
    qtbot.waitUntil(lambda: not marks.runner.is_running)
    with qtbot.waitSignal(session.annotations_changed):
        marks.menu(2).actions()[1].trigger()
    assert sorted(session.current.ledger.traced()) == [1, 3]
    marks.menu(2).actions()[2].trigger()
    assert Project.open(session.current.path).settings.pinned_slices == (2,)
    assert [a.isEnabled() for a in marks.menu(1).actions()] == [False, True, True, False]
    session.close()
    assert marks._frame.isHidden()


def test_a_slice_is_put_on_the_agenda_until_it_is_traced(session, qtbot):
    marks = session.view.marks
    session.go_to(2)
    for expected in ("to be traced", "untouched", "to be traced"):
        with qtbot.waitSignal(session.annotations_changed):
            marks.menu(2).actions()[3].trigger()
        qtbot.waitUntil(lambda: not marks.runner.is_running)
        assert marks.words.text() == f"Slice 2 of 0-4: {expected}"
    picture = marks.strip.grab().toImage()
    assert picture.pixelColor(marks.strip.cell(2).center().x(), 5).name() == "#e69f00"
    with qtbot.waitSignal(session.annotations_changed):
        marks.menu(2).actions()[0].trigger()
    assert marks.words.text() == "Slice 2 of 0-4: traced"
    correcting.undo(session)
    assert marks.words.text() == "Slice 2 of 0-4: to be traced"
    correcting.undo(session)
    assert marks.words.text() == "Slice 2 of 0-4: untouched"


def test_a_read_only_project_is_shown_and_not_marked(session, monkeypatch):
    monkeypatch.setattr(session.current, "read_only", True)
    session.view.marks.refresh()
    assert not session.view.marks.mark.isEnabled()
    assert not any(a.isEnabled() for a in session.view.marks.menu(2).actions())


def test_a_click_goes_to_the_slice_and_every_slice_of_a_long_stack_has_its_place(qtbot):
    strip = Strip()
    qtbot.addWidget(strip)
    strip.resize(300, 22)
    chosen: list[int] = []
    strip.chosen.connect(chosen.append)
    for count, x, z in ((5, 299, 4), (5, 61, 1), (3000, 150, 1500), (1, 200, 0)):
        strip.count = count
        QTest.mouseClick(strip, Qt.MouseButton.LeftButton, pos=QPoint(x, 10))
        assert chosen[-1] == z
        assert strip.cell(z).left() <= x
        assert strip.cell(z).width() >= 1


def test_the_states_of_3000_slices_are_read_and_painted_at_once(tmp_path, qtbot):
    slices, params = 3000, NewParams(pixel_size=10, slice_spacing=10)
    stack = BlankStack.of_shape(tmp_path / "a.mat", (slices, 8, 8))
    with Project.create(tmp_path / "p.fossil", stack, params) as project:
        with project.ledger.transaction() as db:
            rows = [(name, z) for name in (SOURCE, ANNOTATIONS) for z in range(slices)]
            db.executemany("INSERT INTO done (source, z) VALUES (?, ?)", rows)
            whole = [(z, None, None, None) for z in range(slices)]
            db.executemany(
                "INSERT INTO traced (z, height, width, counts) VALUES (?, ?, ?, ?)", whole
            )
        strip = Strip()
        qtbot.addWidget(strip)
        strip.resize(900, 22)
        strip.count = slices
        read_marks(project, SOURCE)
        start = time.perf_counter()
        strip.marks = read_marks(project, SOURCE)
        read = time.perf_counter() - start
        painted = strip.grab().toImage()
        both = time.perf_counter() - start
    print(f"3000 slices: read {read * 1e3:.1f} ms, read and painted {both * 1e3:.1f} ms")  # noqa: T201
    assert len(strip.marks.traced) == slices
    assert painted.pixelColor(450, 8).name() == "#009e73"
    assert painted.pixelColor(450, 17).name() == "#56b4e9"
