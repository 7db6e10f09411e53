"""The page Review with the real workflows: the queue, the tools, through the slices, versions."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication, QPushButton

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.annotations import FillParams
from napari_fossiledit.params.review import Tool
from napari_fossiledit.project import ANNOTATIONS, Action
from napari_fossiledit.selection import Doubt
from napari_fossiledit.widgets.canvas import shortcuts
from napari_fossiledit.widgets.canvas.layers import Role, find
from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.common import notices
from napari_fossiledit.widgets.common.compat import text_overlay_of
from napari_fossiledit.widgets.common.fold import Fold
from napari_fossiledit.widgets.review.review_dock import ReviewDock
from napari_fossiledit.workflows.annotate.corrections import fill
from napari_fossiledit.workflows.review.teach import TaughtResult, TeachResult
from tests.widgets.conftest import disk, settled


@pytest.fixture
def page(session, made, qtbot):
    """The page of a project whose predictions were taken over in slices 0 and 2."""
    fill(session.current.path, FillParams(slices="0,2"))
    session.annotations_changed.emit()
    dock = made(ReviewDock)
    settled(session)
    return dock


def press(page, text):
    (button,) = (b for b in page.findChildren(QPushButton) if b.text() == text)
    button.click()


def key(session, name):
    """Do what a key does."""
    every = (*shortcuts.EDITING, *shortcuts.PAINTING, *shortcuts.PICKING)
    next(s for s in every if s.key == name).action(session)


def waited(qtbot, page):
    """Wait until no job of the page, the queue or the selection runs."""
    view = attach(page.session)
    runners = (page.jobs.runner, view.queue._runner, view.selection._runner)
    qtbot.waitUntil(lambda: not any(r.is_running for r in runners))
    QApplication.processEvents()


def own(page, z):
    return {i.id: i for i in page.session.current.ledger.instances(ANNOTATIONS, slices=[z])}


def pick(page, z, row, column):
    page.session.go_to(z)
    project = page.session.current
    attach(page.session).selection.pick_at(
        tuple(np.multiply((z, row, column), project.geometry.voxel_size.zyx))
    )


def test_the_queue_is_built_and_decided_by_keys(page, qtbot):
    press(page, "Look through all")
    waited(qtbot, page)
    queue, panel = attach(page.session).queue, page.queue
    first = queue.shown.place
    assert page.session.slice == first.slice
    assert find(page.session.viewer, Role.OUTLINE) is not None
    assert panel.text.text().startswith(f"<b>Slice {first.slice}: ")
    # Slices 1 and 3 are traced: both masks of each are right.
    assert (panel.progress.value(), panel.progress.maximum()) == (4, 6)
    kinds = [str(panel.doubts.itemData(n)) for n in range(panel.doubts.count())]
    assert kinds[0] == ""
    assert str(Doubt.LEFT_OUT) in kinds
    panel.doubts.setCurrentIndex(kinds.index(str(Doubt.LEFT_OUT)))
    waited(qtbot, page)
    assert (panel.right.text(), panel.wrong.text()) == ("A fossil", "No fossil")
    place = queue.shown.place
    key(page.session, "A")
    waited(qtbot, page)
    new = [i for i in own(page, place.slice).values() if i.reviewed]
    assert len(new) == 1
    assert panel.progress.value() == 5
    key(page.session, "R")
    waited(qtbot, page)
    assert page.session.current.ledger.rejected(2 - place.slice)
    panel.doubts.setCurrentIndex(0)
    waited(qtbot, page)
    before = queue.shown.place
    key(page.session, "J")
    waited(qtbot, page)
    assert queue.shown is None or queue.shown.place != before
    key(page.session, "K")
    waited(qtbot, page)
    assert queue.shown.place == before
    pick(page, 0, 15, 15)
    states = []
    for _ in range(2):
        key(page.session, "A")
        waited(qtbot, page)
        states.append([i.reviewed for i in own(page, 0).values()])
        pick(page, 0, 15, 15)
    assert states[0] != states[1]
    assert "can be changed again" in " ".join(m.text for m in notices.VOICE.messages[-2:])
    attach(page.session).selection.clear()
    page.session.go_to(0)
    key(page.session, "Shift-A")
    waited(qtbot, page)
    assert all(i.reviewed for i in own(page, 0).values())
    marks = attach(page.session).marks.strip.marks
    assert "masks right" in marks.words(0)
    assert 0 in marks.reviewed
    assert 1 not in marks.reviewed


def test_two_sections_are_said_to_be_of_two_specimens(page, qtbot):
    ledger = page.session.current.ledger
    before, after = (next(iter(own(page, z).values())) for z in (0, 2))
    ledger.set_specimens(ANNOTATIONS, {before.id: 1, after.id: 1}, guessed=True)
    ledger.places.doubt(before.class_name, [(2, before.id, after.id, 9.0)], Action("link"))
    press(page, "Look through all")
    waited(qtbot, page)
    queue, panel = attach(page.session).queue, page.queue
    panel.doubts.setCurrentIndex(panel.doubts.findData(str(Doubt.LINK)))
    waited(qtbot, page)
    assert "another specimen than before" in panel.text.text()
    assert (panel.right.text(), panel.wrong.text()) == ("One specimen", "Two specimens")
    key(page.session, "R")
    waited(qtbot, page)
    assert [own(page, i.slice)[i.id].specimen for i in (before, after)] == [1, 2]
    assert queue.shown is None


def test_a_mask_is_split_grown_merged_and_copied(page, qtbot):
    session, selection = page.session, attach(page.session).selection
    pick(page, 0, 15, 15)
    (id_,) = own(page, 0)
    assert selection.picked.instance.id == id_
    assert "taken over from a prediction, found by first (0123456) with a score of 0.90" in (
        selection.text
    )
    key(session, "S")
    assert selection.waiting.startswith("SPLIT")
    overlay = text_overlay_of(session.viewer)
    assert overlay.visible
    assert "SPLIT" in overlay.text
    for place in ((0, 5 * 70, 15 * 70), (0, 25 * 70, 15 * 70)):
        selection._points.point(place)
    waited(qtbot, page)
    assert not overlay.visible
    halves = own(page, 0)
    assert len(halves) == 2
    assert {*halves} > {id_}
    assert sum(i.mask.area for i in halves.values()) == disk(15, 15, 8).sum()
    key(session, "U")
    (other,) = halves.keys() - {selection.picked.instance.id}
    selection.pick(find(session.viewer, Role.LABELS), other)
    waited(qtbot, page)
    (whole,) = own(page, 0).values()
    assert whole.mask.area == disk(15, 15, 8).sum()
    selection.reshape(Tool.GROW)
    waited(qtbot, page)
    assert own(page, 0)[whole.id].mask.area > whole.mask.area
    pick(page, 2, 15, 17)
    key(session, "Delete")
    waited(qtbot, page)
    assert own(page, 2) == {}
    pick(page, 1, 15, 16)
    key(session, "C")
    waited(qtbot, page)
    assert session.slice == 2
    assert len(own(page, 2)) == 1


def test_tools_say_what_they_need(page):
    session, selection = page.session, attach(page.session).selection
    selection.clear()
    with pytest.raises(FossilError, match="No mask is picked"):
        key(session, "S")
    with pytest.raises(FossilError, match="next place"):
        key(session, "A")
    pick(page, 0, 25, 45)
    if selection.picked is not None:
        with pytest.raises(FossilError, match="Take it over first"):
            key(session, "Shift-G")
    key(session, "B")
    key(session, "Escape")
    assert not selection.waiting
    assert not text_overlay_of(session.viewer).visible


def test_interpolating_is_previewed_and_undone_as_one(page, qtbot):
    session = page.session
    session.current.ledger.forget(ANNOTATIONS, [2])
    page.through.form.fill(slices="1,3")
    press(page, "Preview")
    waited(qtbot, page)
    assert own(page, 2) == {}
    assert find(session.viewer, Role.OUTLINE).nshapes == 2
    press(page, "Interpolate")
    waited(qtbot, page)
    assert len(own(page, 2)) == 2
    session.current.ledger.undo()
    assert own(page, 2) == {}


def test_versions_and_what_was_done(page, qtbot):
    page.show()
    history = page.history
    next(f for f in page.findChildren(Fold) if f.isAncestorOf(history)).head.click()
    before = own(page, 0)
    with pytest.raises(FossilError, match="no name"):
        history.keep()
    history.name.setText("early")
    history.keep()
    waited(qtbot, page)
    page.session.current.ledger.edit(0, remove=[*before], what="clear")
    history.restore()
    waited(qtbot, page)
    assert own(page, 0) == before
    assert history.done.item(0).text() == "restore version early, slice 0"
    newest = page.session.current.ledger.history(1)[0]
    assert newest.what == "restore version early"


def test_a_mask_gets_a_class_and_predictions_are_compared(page, qtbot):
    pick(page, 0, 15, 15)
    page.correct.textures.setCurrentText("pitted")
    attach(page.session).selection.describe(texture=page.correct.textures.currentText())
    waited(qtbot, page)
    (mask,) = own(page, 0).values()
    assert mask.texture == "pitted"
    page.compare()
    waited(qtbot, page)
    said = notices.VOICE.messages[-1].text
    # Slices 1 and 3 are traced; at a score of 0.5 one of two fossils is found on each.
    assert said.startswith("On 2 slices that you found right:")
    assert (
        "archaeocyathid: 2 kept, 0 with another outline (mean IoU 1.00), 0 wrong, 2 missed" in said
    )


def test_a_specimen_is_joined_and_split(page, qtbot):
    ledger = page.session.current.ledger
    ids = [next(iter(own(page, z))) for z in (0, 1, 2)]
    ledger.set_specimens(ANNOTATIONS, dict(zip(ids, (4, 4, 7), strict=True)))
    page.session.annotations_changed.emit()
    pick(page, 0, 15, 15)
    with pytest.raises(FossilError, match="which specimen to join with"):
        page.through.join()
    page.through.other.setText("7")
    page.through.join()
    waited(qtbot, page)
    assert {own(page, z)[i].specimen for z, i in zip((0, 1, 2), ids, strict=True)} == {4}
    pick(page, 1, 15, 16)
    press(page, "Split from here")
    waited(qtbot, page)
    first, *later = (own(page, z)[i].specimen for z, i in zip((0, 1, 2), ids, strict=True))
    assert (first, len(set(later)), first in later) == (4, 1, False)


def test_teaching_is_started_and_decided(page, calls):
    panel = page.teach
    assert panel.decide.isHidden()
    calls.result = TeachResult(
        "first-2", "first", (1,), (1,), (), (), notes=("Nothing is pinned.",)
    )
    panel.form.fill(slices="1")
    press(page, "Teach the model")
    name, (_, params) = calls.made[-1]
    assert (name, params.slices, calls.in_process[-1]) == ("review.teach.run", "1", True)
    assert panel.verdict.text().startswith("Nothing judges the new model")
    assert panel.verdict.text().endswith("Nothing is pinned.")
    assert not panel.decide.isHidden()
    calls.result = TaughtResult("first-2", "kept", "first-2")
    press(page, "Keep")
    assert calls.made[-1][1][1].keep == "first-2"
    assert notices.VOICE.messages[-1].text == "first-2 is in use now."
    assert panel.decide.isHidden()
