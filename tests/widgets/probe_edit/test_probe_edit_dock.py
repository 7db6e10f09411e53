"""The dock Probe & Edit against workflows that only note how they were called."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QDesktopServices
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QInputDialog, QMessageBox, QPushButton

from napari_fossiledit.errors import FossilError
from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.params.editing import EditParams, Scope
from napari_fossiledit.params.perturb import Preset
from napari_fossiledit.params.saliency import Method, Said
from napari_fossiledit.params.segment import Device
from napari_fossiledit.perturb import SliceScene, parse_region, region_mask
from napari_fossiledit.progress import QUIET, Progress
from napari_fossiledit.project import EditRecord, EditState, Project
from napari_fossiledit.project.history import HistoryEntry
from napari_fossiledit.widgets.canvas import regions
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.layers import ROLE, Role, find, show_predictions
from napari_fossiledit.widgets.canvas.pointing import Pointer
from napari_fossiledit.widgets.common.compat import camera_of
from napari_fossiledit.widgets.common.curves import COLOURS, Curve, CurvePlot
from napari_fossiledit.widgets.common.debounced_call import DebouncedCall
from napari_fossiledit.widgets.common.notices import VOICE
from napari_fossiledit.widgets.probe_edit.history import _item
from napari_fossiledit.widgets.probe_edit.judge import judged_rows, plain_figures
from napari_fossiledit.widgets.probe_edit.mend import level_of
from napari_fossiledit.widgets.probe_edit.probe_edit_dock import ProbeEditDock
from napari_fossiledit.widgets.probe_edit.repair import instance_at
from napari_fossiledit.widgets.segment.segment_dock import SegmentDock
from napari_fossiledit.workflows.edit.live import LiveComparison, StrengthCurve, StrengthPoint
from napari_fossiledit.workflows.edit.result import DecisionResult
from napari_fossiledit.workflows.probe.places import WrongPlace
from napari_fossiledit.workflows.saliency.look import SaliencyResult
from napari_fossiledit.workflows.shared.model_refs import set_in_use
from napari_fossiledit.workflows.shared.perturbed_slices import Preview
from tests.widgets.conftest import settled

SOURCE = "model:first:0123456789ab"
JUDGED = {
    "before": {"precision": {"mean": 0.86}, "recall": {"mean": 0.75}, "matched": 27},
    "after": {"precision": {"mean": 0.91}, "recall": {"mean": 0.7}, "matched": 25},
    "deltas": {"precision": {"mean": 0.05, "interval_95": [0.02, 0.08]}},
    "warnings": ["Recall fell from 0.750 to 0.700."],
    "tried": [
        {"strength": s, "precision": 0.9, "recall": 0.7, "iou": 0.6, "recall_all": 0.6}
        for s in (0.5, 1.0)
    ],
}


@pytest.fixture
def _no_process(monkeypatch):
    """Calls of the warm process run in the thread that waits for them."""

    def call(_, function, *args, job=QUIET):
        return function(*args, job=job)

    monkeypatch.setattr(WarmProcess, "call", call)


@pytest.fixture
def dock(session, made):
    save_edit(session.current, "to-mud", "reef-lite", judged=JUDGED)
    save_edit(session.current, "second", "to-mud")
    return made(ProbeEditDock)


def save_edit(project: Project, name: str, parent: str, **fields: Any) -> EditRecord:
    known = {"strength": 0.5, "curves": {"backbone.fpn.layer_blocks.1.0": [[0, 4.0], [1, 2.0]]}}
    record = EditRecord(
        name=name,
        parent=parent,
        parent_hash=f"hash of {parent}",
        result_hash=f"hash of {name}",
        model="reef-lite",
        **{**known, **fields},
    )
    return project.edits.save(record, b"weights")


def press(widget, text):
    found = [b for b in widget.findChildren(QPushButton) if b.text() == text]
    assert found, f"no button {text!r}"
    found[0].click()


def told(monkeypatch) -> list[str]:
    messages: list[str] = []
    monkeypatch.setattr("napari_fossiledit.widgets.common.notices.show_warning", messages.append)
    return messages


def rectangle(z, y0, x0, y1, x1):
    return np.array([[z, y0, x0], [z, y0, x1], [z, y1, x1], [z, y1, x0]], float)


# ------------------------------------------------------------------------ the dock


def test_without_a_project_the_dock_says_what_it_is_for(made):
    dock = made(ProbeEditDock)
    assert not dock.empty.isHidden()
    assert dock.content.isHidden()
    assert dock.minimumWidth() >= 320


def test_every_step_fits_into_the_dock(dock, tmp_path):
    margins = 40
    dock.judge.show_edit("to-mud")
    dock.wrong._show(probed(tmp_path))
    for content, step in dock.steps.items():
        step.open()
        assert content.minimumSizeHint().width() <= dock.minimumWidth() - margins, step.head.text()


def test_one_step_is_open_at_a_time(dock):
    assert [c for c in dock.steps if not c.isHidden()] == [dock.wrong]
    assert not dock.steps[dock.judge].head.isEnabled()
    dock.steps[dock.mend].head.click()
    assert [c for c in dock.steps if not c.isHidden()] == [dock.mend]


def test_leaving_the_page_takes_its_layers_and_coming_back_brings_drawn_regions(session, dock):
    dock.show()
    session.go_to(2)
    dock.perturbation.form.fill(preset=Preset.CUSTOM)
    dock.perturbation.steps.draw("Box")
    find(session.viewer, Role.REGIONS).add_rectangles([rectangle(2, 5, 10, 10, 20)])
    regions.show_outline(session, 2, disk(10, 15, 6))
    there = len(session.viewer.layers)
    dock.hide()
    assert len(session.viewer.layers) == there - 2
    assert not {Role.REGIONS, Role.OUTLINE} & {
        lay.metadata.get(ROLE) for lay in session.viewer.layers
    }
    dock.show()
    assert find(session.viewer, Role.REGIONS).nshapes == 1
    assert find(session.viewer, Role.OUTLINE) is None
    dock.hide()


def test_the_picker_follows_the_model_in_use_and_never_presets_an_edit(session, dock):
    assert dock.model.name == "reef-lite"
    set_in_use(session.current, "to-mud")
    session.current.edits.update("to-mud", state=EditState.KEPT)
    session.models_changed.emit()
    assert (dock.model.name, dock.model.currentText()) == ("to-mud", "to-mud")
    set_in_use(session.current, "reef-lite")
    session.current.edits.update("to-mud", state=EditState.ROLLED_BACK)
    session.models_changed.emit()
    assert dock.model.name == "reef-lite"
    assert dock.model.findText("to-mud (rolled back)") >= 0


def test_what_was_chosen_and_is_rolled_back_is_chosen_no_more(session, dock, made):
    form = made(SegmentDock).predict.form
    # Nobody decided for the edits.
    assert form.rows["model"].value == "reef-lite"
    set_in_use(session.current, "reef-lite")
    session.models_changed.emit()
    form.fill(model="second")
    dock.model.setCurrentIndex(dock.model.findData("second"))
    session.current.edits.update("second", state=EditState.ROLLED_BACK)
    session.edits_changed.emit()
    assert (form.rows["model"].value, dock.model.name) == ("reef-lite", "reef-lite")
    # Who chooses it now knows what it is.
    form.fill(model="second")
    dock.model.setCurrentIndex(dock.model.findData("second"))
    session.edits_changed.emit()
    assert (form.rows["model"].value, dock.model.name) == ("second", "second")


# ------------------------------------------------------------------------- regions


def shown(region):
    scene = SliceScene(np.zeros((40, 60, 3), np.uint8))
    return region_mask(parse_region(region), scene)


def test_a_drawn_box_covers_the_pixels_inside_it():
    expected = np.zeros((40, 60), bool)
    expected[5:11, 10:21] = True
    corners = rectangle(0, 4.6, 9.7, 10.3, 20.2)[:, 1:]
    np.testing.assert_array_equal(shown(regions.region_of(corners, "rectangle")), expected)


def test_a_drawn_ellipse_covers_the_pixels_whose_centres_are_inside():
    y, x = np.mgrid[:40, :60]
    expected = ((x - 30) / 14.25) ** 2 + ((y - 20) / 9.75) ** 2 <= 1
    corners = rectangle(0, 10.25, 15.75, 29.75, 44.25)[:, 1:]
    np.testing.assert_array_equal(shown(regions.region_of(corners, "ellipse")), expected)


def test_a_turned_ellipse_becomes_a_polygon_of_the_same_area():
    corners = np.array([[20, 10], [10, 30], [20, 50], [30, 30]], float)
    region = regions.region_of(corners, "ellipse")
    assert region.startswith("polygon ")
    sides = np.linalg.norm(corners[1] - corners[0]), np.linalg.norm(corners[2] - corners[1])
    sine = np.sin(2 * np.arctan2(10, 20))
    assert shown(region).sum() == pytest.approx(np.pi / 4 * sides[0] * sides[1] * sine, rel=0.1)


def test_what_is_drawn_becomes_steps_with_a_fill_each(session, dock):
    tab, session_slice = dock.perturbation, 2
    session.go_to(session_slice)
    tab.form.fill(preset=Preset.CUSTOM)
    press(tab, "Box")
    layer = find(session.viewer, Role.REGIONS)
    layer.add_rectangles([rectangle(2, 5, 10, 10, 20)])
    tab.steps.add("class archaeocyathid", "blur 3")
    tab.steps.table.cellWidget(0, 1).setCurrentText("colour 1,2,3")
    assert tab.read().steps == "box 10:21,5:11 -> colour 1,2,3; class archaeocyathid -> blur 3"
    assert tab.steps.table.item(0, 0).text() == "region 1 on slice 2: box of 11 x 6 pixels"
    session.go_to(3)
    assert tab.read().steps == "class archaeocyathid -> blur 3"
    session.go_to(2)
    tab.steps.table.selectRow(0)
    press(tab.steps, "Remove")
    assert layer.nshapes == 0
    assert tab.steps.table.rowCount() == 1


def test_words_of_a_region_can_be_corrected_in_the_table(session, dock):
    dock.perturbation.form.fill(preset=Preset.CUSTOM)
    dock.perturbation.steps.add("rock", "mud")
    dock.perturbation.steps.table.item(0, 0).setText("rock and not class archaeocyathid")
    assert dock.perturbation.read().steps == "rock and not class archaeocyathid -> mud"


def test_choices_are_told_in_words_that_name_the_option_of_the_command(dock):
    rows = dock.mend.form.rows
    assert rows["solver"].native.currentText() == "evenly, seconds (ridge)"
    dock.mend.form.fill(scope=Scope.ALL)
    assert rows["scope"].native.currentText() == "also what is found (all)"
    assert dock.perturbation.form.rows["preset"].native.currentText() == "Blur all but the fossils"
    assert "This is a proposal" in dock.mend.what.text()


def test_another_preset_takes_no_steps(session, dock):
    dock.perturbation.steps.add("rock")
    assert dock.perturbation.read().steps == ""
    assert dock.perturbation.steps.isHidden()
    assert dock.perturbation.words == "everything but the fossils is blurred"
    assert dock.perturbation.read().preset == EditParams().preset


# ------------------------------------------------------------------------- preview


@pytest.mark.usefixtures("_no_process")
def test_the_preview_is_computed_away_from_the_window_and_shown_on_its_slice(session, dock, qtbot):
    tab = dock.perturbation
    session.go_to(2)
    show_predictions(session, SOURCE, 0.5)
    tab.form.fill(preset=Preset.CUSTOM)
    tab.steps.add("box 0:30,0:20", "colour 1,2,3")
    with qtbot.waitSignal(tab.debounced.answered):
        tab.live.setChecked(True)
    layer = find(session.viewer, Role.PERTURBED)
    assert tuple(np.asarray(layer.data)[0, 10, 10]) == (1, 2, 3)
    assert tuple(np.asarray(layer.data)[0, 30, 50]) == (42, 42, 42)
    np.testing.assert_allclose(layer.translate, (1000, 0, 0))
    assert session.viewer.dims.nsteps[0] == 5
    assert tab.state.text() == (
        "Slice 2: 25% of the pixels are changed. Nothing is traced here: the outlines are those "
        "found by first (0123456)."
    )
    tab.where.setCurrentIndex(1)
    assert layer.translate[2] >= 60 * 70
    session.preview_requested.emit()
    assert not layer.visible
    tab.live.setChecked(False)
    assert find(session.viewer, Role.PERTURBED) is None


@pytest.mark.usefixtures("_no_process")
def test_what_cannot_be_perturbed_is_told_below_the_preview(session, dock, qtbot):
    tab = dock.perturbation
    tab.form.fill(preset=Preset.CUSTOM)
    tab.steps.add("box 100:120,0:10", "mud")
    with qtbot.waitSignal(tab.debounced.failed):
        tab.live.setChecked(True)
    assert "has no pixel of slice" in tab.state.text()


def test_a_perturbation_without_regions_says_how_to_add_one_and_inserts_an_example(dock):
    tab = dock.perturbation
    tab.form.fill(preset=Preset.CUSTOM)
    tab.live.setChecked(True)
    assert "add one by name" in tab.state.text()
    assert "add one by name" in dock.mend.why_not.text()
    tab.live.setChecked(False)
    assert tab.steps.empty.text().endswith("For example: rock is filled with mud.")
    press(tab, "Insert the example")
    assert tab.read().steps == "rock -> mud"
    assert dock.mend.why_not.text() == ""


def test_a_region_of_many_corners_has_a_name_without_them():
    drawn = regions.DrawnRegion(0, "polygon 1,2 3,4 5,6 7,8", "mud")
    assert drawn.words == "polygon of 4 corners"


def test_the_preview_waits_until_a_shape_is_drawn(session, dock, qtbot):
    tab = dock.perturbation
    session.go_to(2)
    tab.steps.draw("Box")
    layer = find(session.viewer, Role.REGIONS)
    layer._is_creating = True
    made = Preview(2, np.zeros((40, 60, 3), np.uint8), 0.5, "rock -> mud", None)
    tab._show(made)
    assert find(session.viewer, Role.PERTURBED) is None
    layer._is_creating = False
    qtbot.waitUntil(lambda: find(session.viewer, Role.PERTURBED) is not None)
    assert list(session.viewer.layers.selection) == [layer]


def drag(layer, start, end, meanwhile):
    """Drag the mouse from a pixel (z, y, x) to another one, with the tool of a layer."""
    event = SimpleNamespace(type="mouse_press", position=layer.data_to_world(start), modifiers=())
    (tool,) = [
        made for act in layer.mouse_drag_callbacks if (made := act(layer, event)) is not None
    ]
    next(tool)
    event.type = "mouse_move"
    meanwhile()
    for share in (0.5, 1):
        place = np.add(start, np.subtract(end, start) * share)
        event.position = layer.data_to_world(place)
        next(tool)
    event.type = "mouse_release"
    assert next(tool, None) is None


def test_regions_drawn_while_the_preview_is_on_keep_their_size(session, dock, qtbot):
    tab = dock.perturbation
    session.go_to(2)
    tab.form.fill(preset=Preset.CUSTOM)
    tab.steps.draw("Box")
    layer = find(session.viewer, Role.REGIONS)
    made = Preview(2, np.zeros((40, 60, 3), np.uint8), 0.5, "", None)
    drag(layer, (2, 5, 10), (2, 25, 40), lambda: tab._show(made))
    assert tab.read().steps == "box 10:41,5:26 -> mud"
    qtbot.waitUntil(lambda: find(session.viewer, Role.PERTURBED) is not None)
    assert list(session.viewer.layers.selection) == [layer]
    drag(layer, (2, 30, 2), (2, 36, 8), lambda: tab._show(made))
    assert tab.read().steps == "box 10:41,5:26 -> mud; box 2:9,30:37 -> mud"


def test_only_the_newest_wish_is_answered(qtbot):
    gate, ran, answers = threading.Event(), [], []

    def work(value, *, job):
        ran.append(value)
        assert gate.wait(60)
        return value

    warm = SimpleNamespace(call=lambda f, *a, **k: f(*a, **k))
    debounced = DebouncedCall(warm, delay_ms=1)
    debounced.answered.connect(answers.append)
    debounced.request("Working", work, 1)
    qtbot.waitUntil(lambda: ran == [1])
    debounced.request("Working", work, 2)
    debounced.request("Working", work, 3)
    gate.set()
    qtbot.waitUntil(lambda: answers == [3])
    assert ran == [1, 3]
    assert not debounced.is_busy


def test_a_forgotten_wish_is_not_answered(qtbot):
    gate, ran, answers = threading.Event(), [], []

    def work(*, job):
        ran.append(1)
        gate.wait(60)
        return 1

    debounced = DebouncedCall(SimpleNamespace(call=lambda f, *a, **k: f(*a, **k)), delay_ms=1)
    debounced.answered.connect(answers.append)
    debounced.request("Working", work)
    qtbot.waitUntil(lambda: ran == [1])
    debounced.drop()
    gate.set()
    qtbot.wait(50)
    assert answers == []


# --------------------------------------------------------------------- the canvas


def test_a_click_is_told_in_pixels_and_a_drag_is_not_a_click(session):
    pointer, clicks = Pointer(session), []
    pointer.clicked.connect(lambda *place: clicks.append(place))
    session.go_to(2)
    pointer.start()
    event = SimpleNamespace(type="mouse_press", position=(1000.0, 12.4 * 70, 33.6 * 70))
    moved = pointer._on_press(session.viewer, event)
    next(moved)
    event.type = "mouse_move"
    next(moved)
    event.type = "mouse_release"
    assert next(moved, None) is None
    assert clicks == []
    event.type = "mouse_press"
    still = pointer._on_press(session.viewer, event)
    next(still)
    event.type = "mouse_release"
    assert next(still, None) is None
    assert clicks == [(2, 34, 12)]
    assert not pointer.is_active
    assert pointer._on_press not in session.viewer.mouse_drag_callbacks


def test_the_eyedropper_stores_the_mud_colour(session, dock, qtbot):
    mud = dock.perturbation.mud
    assert "measured on each slice" in mud.text.text()
    session.go_to(3)
    press(mud, "Pick from slice")
    with qtbot.waitSignal(dock.jobs.runner.stopped):
        mud.pointer.point((1500.0, 35 * 70, 50 * 70))
    assert session.current.settings.mud_colour == (43, 43, 43)
    assert mud.text.text() == "43, 43, 43, picked on slice 3"
    press(mud, "Forget")
    assert session.current.settings.mud_colour is None


def test_an_eyedropper_outside_the_slice_says_so(session, dock, qtbot, monkeypatch):
    messages = told(monkeypatch)
    monkeypatch.setattr("napari_fossiledit.widgets.common.job_panel.show_error", messages.append)
    dock.perturbation.mud.toggle()
    with qtbot.waitSignal(dock.jobs.runner.stopped):
        dock.perturbation.mud.pointer.point((0.0, 35 * 70, -5 * 70))
    assert session.current.settings.mud_colour is None
    assert "outside" in str(messages[0])


# --------------------------------------------------------------------------- probe


def disk(row, column, radius):
    y, x = np.mgrid[:40, :60]
    return Mask.from_array(np.hypot(y - row, x - column) < radius)


def place(z, name, row, column, *, missed=False):
    there = Instance(z, "archaeocyathid", disk(row, column, 6), 0.9)
    return WrongPlace(there, missed, name, 50, np.zeros((20, 30, 3), np.uint8))


def probed(tmp_path):
    return SimpleNamespace(
        sentence="Takes calcimicrobe for archaeocyathid: 40 % of the false area.",
        places=(*[place(3, "calcimicrobe", 25, 45)] * 3, place(1, "", 10, 15, missed=True)),
        worst=(3, 1),
        edit={"preset": Preset.BACKGROUND_TO_MUD, "scope": Scope.ALL},
        report=tmp_path / "index.html",
        summary=dict,
    )


def test_what_is_wrong_is_a_sentence_with_places_to_go_to(session, dock, calls, tmp_path):
    calls.result = probed(tmp_path)
    tab = dock.wrong
    dock.perturbation.form.fill(class_name="archaeocyathid")
    press(tab, "Find what is wrong")
    (name, (path, params)) = calls.made[-1]
    assert (name, path) == ("probe.run.run", session.current.path)
    assert (params.slices, params.presets, params.model) == ("", "all", "reef-lite")
    assert params.class_name == "archaeocyathid"
    assert "Takes calcimicrobe for archaeocyathid" in tab.answer.text()
    shown = [tab.grid.itemAt(n).widget() for n in range(tab.grid.count())]
    assert shown[0].text().endswith("slice 3")
    assert shown[3].accessibleName() == "Slice 1: this archaeocyathid was missed."
    shown[0].click()
    assert session.slice == 3
    assert colours_of(session).outlined
    colours_of(session).toggle()
    np.testing.assert_allclose(camera_of(session.viewer).center[-2:], (25 * 70, 45 * 70))
    outline = find(session.viewer, Role.OUTLINE)
    low, high = outline.data[0].min(axis=0), outline.data[0].max(axis=0)
    np.testing.assert_allclose([*low, *high], [3, 19, 39, 3, 31, 51], atol=1)
    assert regions.drawn_regions(session, 3, Role.OUTLINE) == []
    shown[3].click()
    assert session.slice == 1
    assert [lay.metadata.get(ROLE) for lay in session.viewer.layers].count(Role.OUTLINE) == 1


def test_nothing_can_be_found_or_mended_where_nothing_is_traced(session, dock):
    for z in (1, 3):
        session.current.ledger.unset_traced(z)
    session.annotations_changed.emit()
    assert not dock.wrong.start.isEnabled()
    assert "No slice is traced yet" in dock.wrong.why_not.text()
    assert not dock.mend.start.isEnabled()
    assert "No slice is traced yet" in dock.mend.start.toolTip()


# ---------------------------------------------------------------------------- mend


@pytest.mark.usefixtures("_no_process")
def test_from_the_first_click_to_a_judged_edit(session, dock, calls, tmp_path, qtbot, monkeypatch):
    """Real clicks on the page: find, use, mend; the page before it takes one more."""
    monkeypatch.setattr("napari_fossiledit.workflows.edit.live.compared", compared)
    qtbot.addWidget(dock)
    dock.resize(340, 700)
    with qtbot.waitExposed(dock):
        dock.show()
    clicks = []

    def click(widget):
        # The position of a widget is known once it is laid out.
        qtbot.waitUntil(lambda: widget.isVisible() and widget.height() > 10)
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton)
        clicks.append(widget.text())

    calls.result = probed(tmp_path)
    click(dock.wrong.start)
    click(dock.wrong.use)
    assert dock.mend.form.values()["scope"] == Scope.ALL
    assert dock.perturbation.words == "everything but the fossils is filled with mud"
    calls.result = SimpleNamespace(name="to-mud", verdict="Keep it.", report=None, summary=dict)
    click(dock.mend.start)
    (name, (_, params)) = calls.made[-1]
    assert name == "edit.run.run"
    assert (params.slices, params.tuning, params.pinned) == ("3", "", "1")
    assert params.preset is Preset.BACKGROUND_TO_MUD
    assert dock.judge.edit == "to-mud"
    assert not dock.judge.isHidden()
    assert len(clicks) + 1 <= 6
    dock.hide()


def test_slices_are_proposed_and_pinned_with_one_click(session, dock):
    tab = dock.mend
    values = tab.form.values()
    assert [values[n] for n in ("slices", "tuning", "pinned")] == ["3", "", "1"]
    assert "No slice is pinned yet" in tab.about_pins.text()
    press(tab, "Pin slice 1 for judging")
    assert session.current.settings.pinned_slices == (1,)
    assert tab.pins.isHidden()
    assert tab.form.values()["slices"] == "3"


def test_what_the_user_wrote_is_kept_and_checked_before_a_job_starts(session, dock, calls):
    tab = dock.mend
    tab.form.fill(slices="")
    assert "Name traced slices to learn from, of 1,3" in tab.form.rows["slices"].error.text()
    assert not tab.start.isEnabled()
    assert "Name traced slices" in tab.start.toolTip()
    tab.form.fill(slices="2")
    assert tab.form.rows["slices"].error.text() == (
        "Slice 2 is not traced: nobody told what is a fossil."
    )
    tab.form.fill(slices="1")
    assert "would judge an edit that they were edited with" in tab.why_not.text()
    tab.form.fill(pinned="3")
    assert tab.start.isEnabled()
    session.annotations_changed.emit()
    assert tab.form.values()["slices"] == "1"
    calls.result = SimpleNamespace(name="to-mud", verdict="Keep it.", report=None, summary=dict)
    press(tab, "Mend the model")
    assert calls.made[-1][1][1].pinned == "3"


def test_mending_shows_what_came_of_it(session, dock, calls, monkeypatch):
    dock.perturbation.form.fill(mud="10,20,30")
    dock.mend.form.fill(name="mine")
    report = Path("report.html")
    calls.result = SimpleNamespace(name="to-mud", verdict="Keep it.", report=report, summary=dict)
    press(dock.mend, "Mend the model")
    (name, (_, params)) = calls.made[-1]
    assert (name, params.mud, params.name) == ("edit.run.run", "10,20,30", "mine")
    rows = {r["name"]: r for r in dock.judge.table.rows.rows}
    assert rows["Precision"]["change"] == "+0.050"
    assert rows["Precision"]["interval"] == "+0.020 to +0.080"
    assert rows["Matched"]["change"] == "-2"
    assert "Recall fell" in dock.judge.warnings.text()
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    press(dock.judge, "Open the report")
    assert opened == ["report.html"]
    assert dock.judge.strength.strength.value() == 0.5
    assert len(dock.judge.strength.plot.curves) == 4


def test_losses_are_drawn_while_the_edit_is_solved(session, dock, calls):
    tab = dock.mend
    tab._is_editing = True
    for level, step, loss in ((0, 1, 4.0), (0, 2, 3.0), (1, 1, 2.0)):
        values = {"level": float(level), "step": float(step), "loss": loss}
        dock.jobs.runner.progressed.emit(Progress(1, 4, "Editing", 3.0, values))
    assert tab.plot.curves == (
        Curve("level 0", ((1, 1.0), (2, 0.75))),
        Curve("level 1", ((1, 1.0),)),
    )
    assert level_of("somewhere") == "somewhere"


def shown_figures(dock):
    grid = dock.judge.figures
    return [
        [grid.itemAtPosition(row, at).widget().text() for at in range(2)]
        for row in range(grid.rowCount())
        if grid.itemAtPosition(row, 0)
    ]


def test_three_figures_tell_what_is_clearly_better_and_worse(session, dock):
    dock.judge.show_edit("to-mud")
    precision, recall = shown_figures(dock)
    assert "0.860 → 0.910" in precision[0]
    assert "▲ +0.050" in precision[1]
    assert "+0.020 to +0.080" in precision[1]
    # Without an interval nothing is clear.
    assert "<b>-0.050</b>" in recall[1]
    assert dock.judge.try_first.isHidden()


def test_at_equal_recall_the_comparison_is_with_a_tighter_cut():
    gains = {"precision": {"mean": 0.01, "interval_95": [-0.02, 0.03]}, "iou": {}}
    judged = {
        "slices": "12",
        "at_equal_recall": {
            "recall_all": 0.93,
            "cut": 0.61,
            "before": {"precision": 0.94, "iou": 0.88, "matched": 5},
            "after": {"precision": 0.95, "iou": None, "matched": 4},
            "gains": gains,
        },
    }
    rows, words = plain_figures(judged)
    assert [(key, pair, interval) for key, pair, _, interval in rows] == [
        ("precision", "0.940 → 0.950", (-0.02, 0.03)),
        ("matched", "5 → 4", None),
    ]
    assert words == (
        "Against the model without the edit, its masks cut at 0.61 so that both outline 93% of the"
        " fossils. Nothing was learned from what judges: slice 12."
    )
    # A recall that the model before does not reach is no equal one.
    judged["at_equal_recall"]["within"] = False
    rows, words = plain_figures({**JUDGED, **judged})
    assert rows[0][:2] == ("precision", "0.860 → 0.910")
    assert words.startswith("Not at equal recall: a tighter mask cut may give as much.")
    assert plain_figures({}) == ([], "")


def test_an_edit_no_better_than_a_cut_recommends_something_else_first(session, dock):
    save_edit(session.current, "cut", "reef-lite", judged={**JUDGED, "advice": "move the mask cut"})
    dock.judge.show_edit("cut")
    assert not dock.judge.try_first.isHidden()
    wanted = []
    session.page_requested.connect(wanted.append)
    press(dock.judge, "Go to Segment")
    assert wanted == ["Segment"]


def test_an_edit_is_kept_at_the_strength_of_the_slider_or_rolled_back(session, dock, calls):
    record = session.current.edits.read("to-mud")
    calls.result = DecisionResult(record, "reef-lite", ())
    dock.judge.show_edit("to-mud")
    dock.judge.strength.strength.setValue(0.75)
    press(dock.judge, "Keep")
    assert calls.made[-1] == ("edit.decide.apply", [session.current.path, "to-mud", 0.75])
    press(dock.judge, "Roll back")
    assert calls.made[-1] == ("edit.decide.rollback", [session.current.path, "to-mud"])


def test_keeping_against_the_verdict_is_asked_back(session, dock, calls, monkeypatch):
    advised = {"advice": "roll back", "verdict": "Recall fell: roll it back."}
    record = save_edit(session.current, "bad", "reef-lite", judged={**JUDGED, **advised})
    calls.result = DecisionResult(record, "bad", ())
    asked, answers = [], iter([QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes])
    monkeypatch.setattr(
        QMessageBox, "question", lambda *texts: (asked.append(texts[-1]), next(answers))[1]
    )
    dock.judge.show_edit("bad")
    assert "Recall fell: roll it back." in dock.judge.verdict.text()
    press(dock.judge, "Keep")
    assert calls.made == []
    assert "The verdict is: Recall fell: roll it back." in asked[0]
    press(dock.judge, "Keep")
    assert calls.made[-1][0] == "edit.decide.apply"


def test_what_was_decided_is_told_also_while_another_edit_is_looked_at(session, dock):
    kept = session.current.edits.update("to-mud", state=EditState.KEPT)
    dock.judge.show_edit("second")
    dock.judge._on_decided(DecisionResult(kept, "to-mud", ()))
    assert VOICE.messages[-1].text.startswith("to-mud is kept and in use.")
    assert dock.judge.title.text() == "second, an edit of to-mud: not decided yet."


def test_an_edit_that_was_not_judged_says_what_to_do(session, dock):
    dock.judge.show_edit("second")
    assert dock.judge.table.rows.rows == []
    assert "It was not judged" in dock.judge.verdict.text()


def test_without_an_edit_nothing_can_be_decided(session, dock):
    with pytest.raises(FossilError, match="No edit is chosen"):
        dock.judge.keep()
    with pytest.raises(FossilError, match="No edit is chosen"):
        dock.judge.strength.judge()


# ------------------------------------------------------------------------ strength


def compared(path, edit, strength, z, score, device=Device.AUTO, mask_cut=0.5, *, job):
    """As `live.compared`: one instance stays, one is lost."""
    stays, gone = disk(10, 15, 6), disk(25, 45, 8)
    before = (Instance(z, "a", stays, 0.9, id=1), Instance(z, "a", gone, 0.8, id=2))
    return LiveComparison(edit, z, strength, score, before, before[:1], 0, 1, 0.021, 1.5)


@pytest.mark.usefixtures("_no_process")
def test_before_and_after_lie_over_the_slice_in_equal_colours(session, dock, qtbot, monkeypatch):
    monkeypatch.setattr("napari_fossiledit.workflows.edit.live.compared", compared)
    panel = dock.judge.strength
    session.go_to(2)
    show_predictions(session, SOURCE, 0.5)
    dock.judge.show_edit("to-mud")
    with qtbot.waitSignal(panel.debounced.answered):
        panel.live.setChecked(True)
    qtbot.waitUntil(lambda: find(session.viewer, Role.BEFORE) is not None)
    before, after = (find(session.viewer, role) for role in (Role.BEFORE, Role.AFTER))
    assert isinstance(before, Labels)
    assert (after.visible, before.visible) == (True, False)
    assert set(np.unique(np.asarray(before.data[2]))) == {0, 1, 2}
    assert set(np.unique(np.asarray(after.data[2]))) == {0, 1}
    assert not np.asarray(after.data[3]).any()
    assert "Applied in 21 ms, predicted in 1500 ms" in panel.state.toolTip()
    assert "strength 0.50" in panel.state.text()
    session.swap_requested.emit()
    assert (after.visible, before.visible) == (False, True)
    assert "before the edit" in panel.state.text()
    with qtbot.waitSignal(panel.debounced.answered):
        panel.strength.setValue(0.25)
    assert "strength 0.25" in panel.state.text()
    assert not find(session.viewer, Role.PREDICTIONS).visible
    assert not find(session.viewer, Role.LABELS).visible
    dock.judge.show_edit("second")
    assert find(session.viewer, Role.BEFORE) is None
    settled(session)
    assert find(session.viewer, Role.PREDICTIONS).visible
    assert find(session.viewer, Role.LABELS).visible


@pytest.mark.usefixtures("_no_process")
def test_a_result_for_a_slice_that_is_left_is_not_shown(session, dock, qtbot, monkeypatch):
    panel = dock.judge.strength
    dock.judge.show_edit("to-mud")
    session.go_to(1)
    panel._show(compared(None, "to-mud", 1.0, 2, 0.5, job=QUIET))
    assert find(session.viewer, Role.AFTER) is None


def test_the_trade_off_over_strengths_is_drawn_with_the_number_matched(session, dock, calls):
    points = tuple(StrengthPoint(s, 0.8 + s / 10, 0.7, 0.6, None, 0.5, 9) for s in (0.0, 1.0))
    calls.result = StrengthCurve("to-mud", (1, 3), 12, points)
    dock.judge.show_edit("to-mud")
    press(dock.judge, "Curve over strengths")
    assert calls.made[-1][0] == "edit.live.curve"
    panel = dock.judge.strength
    assert [c.name for c in panel.plot.curves] == ["precision", "recall", "IoU"]
    assert panel.plot.curves[0].points == ((0.0, 0.8), (1.0, 0.9))
    assert panel.plot.marked == 0.5
    assert panel.state.text() == "Matched of 12: 9 at 0, 9 at 1."


# ------------------------------------------------------------------------- history


def chosen(dock, name):
    def walk(item):
        yield item
        for n in range(item.childCount()):
            yield from walk(item.child(n))

    tree = dock.history.tree
    tree.clearSelection()
    items = [i for n in range(tree.topLevelItemCount()) for i in walk(tree.topLevelItem(n))]
    (item,) = [i for i in items if i.text(0).split()[-1] == name]
    tree.setCurrentItem(item)
    return item


def test_the_history_is_a_tree_with_figures(session, dock):
    item = chosen(dock, "to-mud")
    assert item.parent().text(0).endswith("reef-lite")
    assert item.text(1) == "proposed"
    assert "Precision 0.860 → 0.910" in dock.history.about.text()
    assert "Its strength is 0.5." in dock.history.about.text()
    assert item.child(0).text(0).endswith("second")
    assert "made from another" in item.toolTip(0)


def test_the_history_tells_what_an_edit_gained_where_it_was_judged():
    judged = HistoryEntry("e", figures={"iou": (0.6, 0.62)}, judged_at=1.0)
    assert [_item(e, is_used=False).text(2) for e in (judged, HistoryEntry("m"))] == ["+0.020", ""]


def test_an_edit_is_used_rolled_back_or_combined_from_the_history(
    session, dock, calls, monkeypatch, tmp_path
):
    path = session.current.path
    names = iter(["undone", "both"])
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: (next(names), True))
    monkeypatch.setattr(
        "napari_fossiledit.widgets.probe_edit.history.ask_path", lambda *_: str(tmp_path)
    )
    for text, expected in (
        ("Use this", ("edit.decide.apply", (path, "to-mud"))),
        ("Roll back", ("edit.decide.rollback", (path, "to-mud"))),
        ("Export ...", ("edit.decide.export", (path, "to-mud", tmp_path / "to-mud"))),
        ("Invert ...", ("edit.decide.invert", (path, "to-mud", "undone"))),
        ("Compose ...", ("edit.decide.compose", (path, ["to-mud"], "both"))),
    ):
        chosen(dock, "to-mud")
        press(dock.history, text)
        assert (calls.made[-1][0], tuple(calls.made[-1][1])) == expected


def test_a_model_can_be_used_again(session, dock):
    chosen(dock, "reef-lite")
    press(dock.history, "Use this")
    assert dock.history.tree.topLevelItem(0).text(1) == "in use"


def test_the_record_of_an_edit_can_be_read_and_the_edit_looked_at(session, dock):
    from qtpy.QtWidgets import QDialog, QPlainTextEdit

    chosen(dock, "second")
    press(dock.history, "Show record")
    (window,) = dock.history.findChildren(QDialog)
    assert '"parent": "to-mud"' in window.findChild(QPlainTextEdit).toPlainText()
    window.close()
    press(dock.history, "Look at it")
    assert not dock.judge.isHidden()
    assert dock.judge.edit == "second"


def test_what_needs_one_edit_says_so(session, dock, calls, monkeypatch):
    messages = told(monkeypatch)
    dock.history.tree.clearSelection()
    press(dock.history, "Roll back")
    assert "This needs one edit" in messages[0]
    assert calls.made == []


def test_states_of_decided_edits_are_shown(session, dock):
    session.current.edits.update("to-mud", state=EditState.ROLLED_BACK)
    session.edits_changed.emit()
    assert chosen(dock, "to-mud").text(1) == "rolled back"


# -------------------------------------------------------------------------- repair


def test_the_instance_under_a_pixel_is_the_surest_one_that_holds_it():
    ring = disk(20, 30, 10).to_array() & ~disk(20, 30, 5).to_array()
    low = Instance(0, "a", disk(20, 30, 8), 0.4, id=1)
    high = Instance(0, "a", Mask.from_array(ring), 0.9, id=2)
    assert instance_at([low, high], 30, 20) is low
    assert instance_at([low, high], 37, 20) is high
    assert instance_at([low, high], 0, 0) is None


@pytest.fixture
def _first(dock):
    """The page is about the model that predicted."""
    dock.model.addItem("first", "first")
    dock.model.setCurrentIndex(dock.model.count() - 1)


@pytest.mark.usefixtures("_first")
def test_a_wrong_mask_is_clicked_outlined_and_repaired(session, dock, calls, tmp_path):
    tab = dock.repair
    session.go_to(2)
    show_predictions(session, SOURCE, 0.2)
    tab.click()
    assert tab.pointer.is_active
    tab.pointer.point((1000.0, 25 * 70, 45 * 70))
    (expected,) = [i for i in session.current.instances(SOURCE, 2) if i.score == 0.3]
    assert tab.target.instance == expected.id
    assert "score 0.30" in tab.chosen.text()
    outline = find(session.viewer, Role.OUTLINE)
    np.testing.assert_allclose(outline.data[0].mean(axis=0), (2, 25, 45), atol=1)
    calls.result = SimpleNamespace(
        verdict="Keep it.",
        misled_by="Its colour.",
        report=tmp_path / "report.html",
        edit="to-mud",
        summary=dict,
    )
    press(tab, "Repair")
    name, (_, params) = calls.made[-1]
    assert name == "repair.run.run"
    assert (params.model, params.slice) == ("first", 2)
    assert (params.instance, params.outline) == (expected.id, "")
    assert "Its colour." in tab.chosen.text()
    assert not dock.judge.isHidden()
    assert dock.judge.edit == "to-mud"
    assert dock.judge.report.isEnabled()
    assert find(session.viewer, Role.OUTLINE) is None


@pytest.mark.usefixtures("_first")
def test_a_mask_that_the_tracing_bears_out_is_not_repaired(session, dock, calls):
    session.go_to(1)
    dock.repair._on_click(1, 16, 15)
    assert "is right by the tracing" in dock.repair.chosen.text()
    assert not dock.repair.repair_button.isEnabled()
    assert calls.made == []


@pytest.mark.usefixtures("_first")
def test_a_click_beside_every_mask_says_what_to_do(session, dock):
    session.go_to(2)
    with pytest.raises(FossilError, match="found nothing there on slice"):
        dock.repair.point(2, 2, 38)
    session.go_to(4)
    with pytest.raises(FossilError, match="Slice 4 has not been predicted by first"):
        dock.repair.click()


def test_a_missed_fossil_is_outlined(session, dock):
    session.go_to(1)
    press(dock.repair, "Outline a missed fossil")
    layer = find(session.viewer, Role.OUTLINE)
    layer.add_polygons([rectangle(1, 5, 10, 10, 20)])
    assert dock.repair.target.slice == 1
    assert dock.repair.target.outline == "polygon 10,5 20,5 20,10 10,10"
    assert dock.repair.repair_button.isEnabled()


# --------------------------------------------------------------------------- plots


def test_curves_are_drawn_in_their_colours(qtbot):
    plot = CurvePlot("step", "loss", "nothing")
    qtbot.addWidget(plot)
    plot.resize(300, 170)
    plot.show_curves([Curve("a", ((0, 4.0), (10, 1.0))), Curve("b", ((0, float("nan")),))])
    assert len(plot.curves) == 1
    image = plot.grab().toImage()
    wanted = QColor(COLOURS[0])
    places = [
        (x, y)
        for x in range(image.width())
        for y in range(image.height())
        if image.pixelColor(x, y).name() == wanted.name()
    ]
    columns = [x for x, _ in places if x < 200]
    assert min(columns) < 60
    first = np.mean([y for x, y in places if x == min(columns)])
    later = np.mean([y for x, y in places if 150 < x < 200])
    assert first < later
    assert plot.accessibleDescription() == "a 1 at 10"


def test_ticks_are_round_and_inside(qtbot):
    plot = CurvePlot("step", "loss", "nothing")
    qtbot.addWidget(plot)
    plot.resize(300, 170)

    def ticks(low, high):
        plot.show_curves([Curve("a", ((low, 1.0), (high, 2.0)))])
        (axes,) = plot.canvas.figure.axes
        return [tick for tick in axes.get_xticks() if low <= tick <= high]

    np.testing.assert_allclose(ticks(0.03, 0.97), [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(ticks(0, 20000), [0, 5000, 10000, 15000, 20000])


def test_a_mark_is_drawn_a_few_times_a_second_and_the_wheel_passes(qtbot):
    plot = CurvePlot("strength", "recall", "nothing")
    qtbot.addWidget(plot)
    plot.mark(0.5)
    assert plot.canvas is None
    plot.show_curves([Curve("recall", ((0, 0.5), (1, 0.7)), dots=True)])
    drawn = []
    plot.canvas.draw_idle = lambda: drawn.append(plot.marked)
    for mark in (0.6, 0.7, 0.8):
        plot.mark(mark)
    qtbot.waitUntil(lambda: drawn == [0.8])
    assert plot.canvas.testAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
    plot.show_curves([])
    assert plot.canvas.isHidden()
    assert plot.accessibleDescription() == "nothing"


def test_figures_without_a_spread_or_a_side_are_shown_as_they_are():
    rows = judged_rows({"before": {"iou": 0.5, "missed": 3}, "after": {"missed": 1}})
    assert [(r["name"], r["before"], r["after"], r["change"]) for r in rows] == [
        ("IoU", "0.500", "", ""),
        ("Missed", "3", "1", "-2"),
    ]


# ------------------------------------------------------------------ what it looks at


def _looked(folder, **changes):
    maps = np.zeros((3, 20, 30), np.float32)
    maps[:, 5, 6] = (1, 6, 3)
    values = {
        "model": "first",
        "slice": 1,
        "instances": (1,),
        "method": Method.INPUT_X_GRADIENT,
        "of": Said.CLASS,
        "value": 2.0,
        "without": -1.0,
        "near": (0, 1, 2),
        "shares": (0.1, 0.6, 0.3),
        "cost": "1 gradient of about 0.10 GB",
        "folder": folder,
        "strongest": 6.0,
        "maps": maps,
    }
    return SaliencyResult(**{**values, **changes})


def _layers(session):
    roles = (layer.metadata.get(ROLE) for layer in session.viewer.layers)
    return [la for la, r in zip(session.viewer.layers, roles, strict=True) if r == Role.SALIENCY]


def test_what_the_model_looks_at_lies_over_each_slice_of_its_window(session, dock, calls, tmp_path):
    session.go_to(1)
    calls.result = _looked(tmp_path)
    dock.steps[dock.sees].open()
    press(dock.sees, "Of this slice")
    name, (path, params) = calls.made[-1]
    assert (name, path) == ("saliency.look.run", session.current.path)
    assert (params.model, params.z, params.instance) == (dock.model.name, 1, 0)
    shown = {layer.translate[0]: layer for layer in _layers(session)}
    assert [*sorted(shown)] == [0, 500, 1000]
    for z, value in ((0, 1), (500, 6), (1000, 3)):
        assert np.asarray(shown[z].data[0])[5, 6] == value
        assert shown[z].contrast_limits == [0, 6]
        # 40 x 60 pixels of 70 um, 20 x 30 of the network: the first one lies amid four.
        np.testing.assert_allclose(shown[z].scale, (500, 140, 140))
        np.testing.assert_allclose(shown[z].translate[1:], (35, 35))
    assert "10 % on slice 0, 60 % on slice 1, 30 % on slice 2" in dock.sees.legend.text()
    assert not dock.sees.legend.isHidden()
    press(dock.sees, "Clear")
    assert not _layers(session)
    assert dock.sees.legend.isHidden()


def test_one_mask_is_clicked_and_another_model_clears_what_was_shown(
    session, dock, calls, tmp_path, monkeypatch
):
    # At the first slice the window is mirrored: slice 1 was seen twice.
    calls.result = _looked(tmp_path, slice=0, near=(1, 0, 1), of=Said.MASK)
    show_predictions(session, SOURCE, 0.5)
    monkeypatch.setattr(type(dock.model), "name", property(lambda _: "first"))
    session.go_to(0)
    press(dock.sees, "Of one mask ...")
    assert dock.sees.pointer.is_active
    dock.sees.pointer.point((0.0, 15 * 70.0, 15 * 70.0))
    _, (_, params) = calls.made[-1]
    hit = session.current.instances(SOURCE, 0, min_score=0.5)[0]
    assert (params.z, params.instance) == (0, hit.id)
    assert {la.translate[0]: float(np.max(la.data[0])) for la in _layers(session)} == {0: 6, 500: 4}
    assert "for the outline of one mask on slice 0" in dock.sees.legend.text()
    dock.model.currentIndexChanged.emit(0)
    assert not _layers(session)
    messages = told(monkeypatch)
    press(dock.sees, "Of one mask ...")
    dock.sees.pointer.point((0.0, 0.0, 59 * 70.0))
    assert "found nothing there on slice 0" in messages[-1]
    assert len(calls.made) == 1
