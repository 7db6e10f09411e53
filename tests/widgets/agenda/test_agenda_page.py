"""The page Agenda: suggestions, marks, plots, and what it says while there is nothing to show."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QPushButton

from napari_fossiledit.params.agenda import Rule
from napari_fossiledit.project import Project
from napari_fossiledit.selection.agenda import Pick
from napari_fossiledit.widgets.agenda.agenda_dock import AgendaDock
from napari_fossiledit.widgets.common.notices import VOICE
from napari_fossiledit.widgets.start.window import open_window
from napari_fossiledit.workflows.agenda.suggest import SuggestResult
from tests.widgets.user import User

ROWS = [
    {"slice": z, "f_score": 0.8 if z in (1, 3) else None, "expected": 0.9 - 0.1 * z}
    | {"low": 0.3, "high": 0.95, "distance": z / 4}
    for z in range(5)
]


def expectation():
    one = SimpleNamespace(model="first", distances=(0.1, 0.2), **ROWS[0])
    return SimpleNamespace(
        rows=lambda: ROWS,
        model="first",
        calibrated_on="4 traced slices",
        candidates=(one,),
        choice="Take first.",
        notes=("One note.",),
    )


def press(page, text):
    (found,) = (b for b in page.findChildren(QPushButton) if b.text() == text)
    found.click()


@pytest.fixture
def page(session, made):
    return made(AgendaDock)


def test_slices_are_suggested_gone_to_and_marked(session, page, calls, qtbot):
    picks = (Pick(4, "It is far."), Pick(0, "It is near."))
    calls.result = SuggestResult(Rule.EVEN, picks, 3, 2, notes=("A note.",))
    page.form.fill(rule=Rule.EVEN, model="imagenet")
    page.count.button(1).click()
    press(page, "Suggest slices")
    name, (path, params) = calls.made[-1]
    assert (name, path) == ("agenda.suggest.run", session.current.path)
    assert (params.count, params.rule, params.model) == (1, Rule.EVEN, "imagenet")
    assert calls.in_process == [True]
    assert VOICE.messages[-1].text.endswith("Mark what you will trace.\nA note.")
    far, near = page.suggestions
    assert "Slice 4" in far.text.text()
    assert "It is far." in far.text.text()
    qtbot.waitUntil(lambda: not far.picture.icon().isNull())
    far.picture.click()
    assert session.slice == 4
    with qtbot.waitSignal(session.annotations_changed):
        far.mark.click()
    assert Project.open(session.current.path).ledger.to_trace() == [4]
    assert (far.mark.text(), near.mark.text()) == ("✓ To trace", "To trace")
    assert "To be traced: slice 4." in page.state.text()
    session.current.ledger.set_traced(4, None)
    session.annotations_changed.emit()
    assert (far.mark.text(), far.mark.isEnabled()) == ("Traced", False)


def test_what_is_known_of_a_slice_is_said(page, calls):
    slow = Pick(2, "Why.", fossils=12.4, hours=1.55, gain=0.02)
    quick = Pick(0, "So.", fossils=1.2, hours=0.2, expected=0.5, low=0.4, high=0.6)
    calls.result = SuggestResult(Rule.EVEN, (slow, quick), 3, 2, "F rose.", "Stop now.")
    page.suggest()
    shown, other = page.suggestions
    assert shown.text.text() == "<b>Slice 2</b>: 12 fossils, 1.6 hours, F +0.02 an hour.<br>Why."
    told = "<b>Slice 0</b>: F 0.50 (0.40 to 0.60), 1 fossil, 12 minutes.<br>So."
    assert other.text.text() == told
    assert page.gained.text() == "F rose.<br>Stop now."
    calls.result = expectation()
    page.expect()
    assert "F 0.70 (0.30 to 0.95)" in shown.text.text()


def test_the_quality_is_plotted_and_a_click_goes_to_the_slice(session, page, calls, qtbot):
    calls.result = expectation()
    page.form.fill(model="reef-lite")
    press(page, "Estimate the quality")
    name, (_, params) = calls.made[-1]
    assert (name, params.model) == ("agenda.expected.run", "reef-lite")
    assert "4 traced slices" in page.trust.text()
    assert "slice 4: F 0.50" in VOICE.messages[-1].text
    assert page.along_z.plot.traced == (1, 3)
    assert page.by_distance.plot.slices == (1, 3)
    for view, z in ((page.along_z, 2), (page.by_distance, 3)):
        view.resize(300, view.height())
        qtbot.waitUntil(lambda view=view: view.drawing is not None)
        at = QPoint(round(view.drawing.columns[z]) + 3, 60)
        QTest.mouseClick(view, Qt.MouseButton.LeftButton, pos=at)
        assert session.slice == z


def test_models_are_compared_on_another_rock(page, calls, tmp_path):
    calls.result = expectation()
    page.other.text = str(tmp_path / "other.fossil")
    press(page, "Compare the models")
    _, (_, params) = calls.made[-1]
    assert params.other == tmp_path / "other.fossil"
    assert "reef-lite" in params.candidates.split(",")
    assert page.choice.text() == "Take first."
    assert page.violins.plot.words == "first: F 0.90 (0.30 to 0.95)"


def test_nothing_is_traced_and_nothing_left_of_another_project(session, page, calls):
    calls.result = expectation()
    page.expect()
    for z in (1, 3):
        session.current.ledger.unset_traced(z)
    path = session.current.path
    session.close()
    assert page.along_z.plot is None
    assert "F is the F-score" in page.trust.text()
    assert not page.empty.isHidden()
    session.open(path)
    page.refresh()
    assert "Nothing is traced yet" in page.state.text()
    assert page.form.rows["rule"].value is Rule.TYPICAL


def test_a_user_gets_a_suggestion_and_puts_it_on_the_agenda(project_path, qapp):
    viewer = open_window(project_path)
    try:
        user = User(viewer)
        user.goes_to("Agenda")
        user.click(user.button("1"))
        user.presses("Suggest slices")
        user.reads("1 slice suggested")
        (shown,) = user.page.suggestions
        user.until(lambda: not shown.picture.icon().isNull())
        user.click(shown.picture)
        assert user.session.slice == shown.pick.slice
        user.click(user.button("To trace"))
        user.until(lambda: user.session.current.ledger.to_trace() == [shown.pick.slice])
        user.reads(f"To be traced: slice {shown.pick.slice}.")
        user.presses("Undo", within=user.rail)
        assert user.session.current.ledger.to_trace() == []
    finally:
        viewer.close()
