"""One dock: its rail, its pages, the marks of their jobs, and the question before closing."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
from npe2 import PluginManifest
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QCloseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QMessageBox,
    QScrollArea,
)

from napari_fossiledit.errors import FossilError
from napari_fossiledit.widgets.canvas.layers import Role, find
from napari_fossiledit.widgets.common.compat import ask_before_closing
from napari_fossiledit.widgets.common.job_runner import JobSpec
from napari_fossiledit.widgets.dock import WIDTH
from napari_fossiledit.widgets.start import opening
from napari_fossiledit.widgets.start.opening import dock_frame, show_dock
from napari_fossiledit.widgets.start.rail import PAGES, rail_of
from napari_fossiledit.widgets.start.start_dock import TITLE as START
from napari_fossiledit.workflows.annotate.corrections import TraceResult


def slow(*, job):
    while True:
        job.check()
        time.sleep(0.01)


def broken(*, job):
    raise FossilError("The slice is broken")


def test_the_manifest_opens_the_dock_and_its_pages():
    file = Path(opening.__file__).parents[2] / "napari.yaml"
    manifest = PluginManifest.from_file(file)
    (widget,) = manifest.contributions.widgets
    assert f"{widget.display_name} ({manifest.display_name})" == opening._NAME
    names = [c.python_name.split(":") for c in manifest.contributions.commands]
    ours = [name for module, name in names if module == opening.__name__]
    assert len(ours) == 5
    assert all(callable(getattr(opening, name)) for name in ours)


@pytest.fixture
def rail(session):
    """The rail in its dock; it is gone after the test."""
    show_dock(session, START)
    made = rail_of(session.viewer)
    yield made
    frame = dock_frame(made)
    if frame is not None:
        frame.destroyOnClose()
    made.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert session.rail is None
    assert session.picker is None


def test_one_dock_makes_each_page_when_it_is_shown_first(session, rail):
    assert list(rail.pages) == [START]
    rail.buttons["Stack"].click()
    page = session.docks["Stack"]
    assert rail.stack.currentWidget() is page
    assert show_dock(session, "Stack") is page
    assert rail_of(session.viewer) is rail
    session.page_requested.emit("Reef")
    assert rail.stack.currentWidget() is session.docks["Reef"]
    assert [t for t, b in rail.buttons.items() if b.isChecked()] == ["Reef"]
    assert set(rail.pages) == {START, "Stack", "Reef"}


def test_every_page_fits_the_dock(session, rail, qtbot):
    for title in PAGES:
        page = show_dock(session, title)
        area = page.findChild(QScrollArea)
        assert area.widget().minimumSizeHint().width() <= WIDTH - 20, title
    assert rail.minimumSizeHint().width() <= 64 + WIDTH


def test_what_was_found_is_shown_before_a_page_with_the_picker_is(session, rail):
    assert find(session.viewer, Role.PREDICTIONS) is not None
    segment, review = show_dock(session, "Segment"), show_dock(session, "Review")
    assert segment.picker is review.picker
    # `show=False`: no window, so that nothing is shown.
    review.showEvent(None)
    assert review.isAncestorOf(review.picker)
    segment.showEvent(None)
    assert segment.isAncestorOf(review.picker)


def test_a_key_makes_the_page_that_it_is_for(session, rail, calls):
    calls.result = TraceResult(slices=(2,), instances=0)
    session.go_to(2)
    session.trace_requested.emit()
    assert [name for name, _ in calls.made] == ["annotate.corrections.trace"]
    session.trace_requested.emit()
    assert len(calls.made) == 2


def test_the_rail_tells_of_a_job_on_a_page_that_is_not_looked_at(session, rail, qtbot):
    page, button = show_dock(session, "Stack"), rail.buttons["Stack"]
    page.jobs.start("Waiting", slow, in_process=False)
    show_dock(session, START)
    assert button.mark == "…"
    assert "Waiting is running" in button.toolTip()
    page.jobs.runner.cancel()
    qtbot.waitUntil(lambda: not page.jobs.runner.is_running)
    assert button.mark == ""
    page.jobs.start("Breaking", broken, in_process=False)
    qtbot.waitUntil(lambda: button.mark == "!")
    show_dock(session, "Stack")
    assert button.mark == ""
    assert "running" not in button.toolTip()


@pytest.mark.parametrize("stop", [True, False])
def test_closing_the_window_on_jobs_asks_once(session, rail, qtbot, monkeypatch, stop):
    asked, answers = [], QMessageBox.StandardButton

    def question(_, title, text):
        asked.append(text)
        return answers.Yes if stop else answers.No

    monkeypatch.setattr(QMessageBox, "question", question)
    runners = [show_dock(session, title).jobs.runner for title in ("Stack", "Reef")]
    for runner, name in zip(runners, ("Reading", "Linking"), strict=True):
        runner.start(JobSpec(name, slow, (), in_process=False))
    ignored = rail.eventFilter(None, QCloseEvent())
    assert ignored is not stop
    assert len(asked) == 1
    assert "Reading, Linking" in asked[0]
    assert [runner.is_running for runner in runners] == [not stop] * 2
    for runner in runners:
        runner.cancel()
        qtbot.waitUntil(lambda r=runner: not r.is_running)


@pytest.mark.parametrize("stop", [True, False])
def test_napari_asks_no_second_question_where_its_menu_closes_the_window(stop):
    asked, closed = [], []

    class Window:
        def close(self, quit_app=False, confirm_need=False):
            closed.append((quit_app, confirm_need))

    window, answers = Window(), [None, stop]
    ask_before_closing(window, lambda: asked.append(1) or answers.pop(0))
    # As napari's menu does: nothing runs, then a job does. As programs do.
    window.close(quit_app=True, confirm_need=True)
    window.close(quit_app=False, confirm_need=True)
    window.close()
    assert closed == [(True, True), *([(False, False)] if stop else []), (False, False)]
    assert len(asked) == 2


def test_the_menu_of_a_window_with_a_job_asks_ours_alone(session, rail, qtbot, monkeypatch):
    asked = []

    def question(_, title, text):
        asked.append(title)
        return QMessageBox.StandardButton.No

    monkeypatch.setattr(QMessageBox, "question", question)
    monkeypatch.setattr("napari._qt.qt_main_window.ConfirmCloseDialog", asked.append)
    runner = show_dock(session, "Reef").jobs.runner
    runner.start(JobSpec("Linking", slow, (), in_process=False))
    rail.showEvent(None)
    session.viewer.window._qt_window.close(quit_app=True, confirm_need=True)
    assert asked == ["Close the window?"]
    assert runner.is_running
    runner.cancel()
    qtbot.waitUntil(lambda: not runner.is_running)


def test_keys_show_the_pages(session, rail, qtbot):
    window = session.viewer.window._qt_window
    window.show()
    try:
        window.activateWindow()
        qtbot.waitUntil(window.isActiveWindow)
        canvas = session.viewer.window._qt_viewer.canvas.native
        for number in (2, 3, 4, 5, 6, 1):
            key = Qt.Key(Qt.Key.Key_0 + number)
            QTest.keyClick(canvas, key, Qt.KeyboardModifier.ControlModifier)
            title = list(PAGES)[number - 1]
            assert rail.stack.currentWidget() is rail.pages[title]
            assert rail.buttons[title].isChecked()
    finally:
        window.hide()


def test_a_dock_that_was_closed_by_its_x_opens_again(session, rail):
    page = show_dock(session, "Stack")
    dock_frame(rail).destroyOnClose()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert dock_frame(rail) is None
    assert show_dock(session, "Stack") is page
    assert dock_frame(rail) is not None


def test_tab_walks_through_all_that_is_seen_of_a_page_and_nothing_else(session, rail, qtbot):
    page, window = show_dock(session, "Segment"), rail.window()
    window.show()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    kinds = (QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit)
    seen = {w for kind in kinds for w in page.findChildren(kind) if w.isVisible() and w.isEnabled()}
    wanted = {w for w in seen if w.focusPolicy() & Qt.FocusPolicy.TabFocus and not w.focusProxy()}
    rail.buttons["Segment"].setFocus()
    walked = []
    while (here := QApplication.focusWidget()) not in walked and rail.isAncestorOf(here):
        walked.append(here)
        QTest.keyClick(here, Qt.Key.Key_Tab)
    assert len(wanted) > 10
    assert wanted <= set(walked)
    assert all(w.isVisible() for w in walked)
    inside = page.content
    heights = [w.mapTo(inside, w.rect().center()).y() for w in walked if inside.isAncestorOf(w)]
    assert all(below >= above - 8 for above, below in pairwise(heights))
    window.hide()
