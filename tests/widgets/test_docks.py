"""The docks against workflows that only note how they were called."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from queue import Queue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PILImage
from qtpy.QtCore import QLocale, QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog, QLineEdit, QPlainTextEdit, QTextBrowser

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.exchange.meshes import SpecimenMesh
from napari_fossiledit.log import start_logging
from napari_fossiledit.masks import Instance, Origin
from napari_fossiledit.masks.probability import Piece, ProbabilityMask
from napari_fossiledit.models.files.places import STATE
from napari_fossiledit.params.annotations import ImportParams
from napari_fossiledit.params.review import CorrectParams
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.progress import QUIET, Job, Progress
from napari_fossiledit.project import ANNOTATIONS
from napari_fossiledit.widgets.canvas import correcting, turntable
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.joined_mesh import SpecimenScene, joined
from napari_fossiledit.widgets.canvas.layers import Role, find
from napari_fossiledit.widgets.canvas.project_view import open_project, opens_made
from napari_fossiledit.widgets.common import notices
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.message_board import MessageBoard
from napari_fossiledit.widgets.common.notices import VOICE
from napari_fossiledit.widgets.dock import slider
from napari_fossiledit.widgets.reef.reef_dock import ReefDock
from napari_fossiledit.widgets.review.review_dock import ReviewDock
from napari_fossiledit.widgets.segment.segment_dock import SegmentDock
from napari_fossiledit.widgets.stack.new_project import look_at_stack
from napari_fossiledit.widgets.stack.stack_dock import StackDock
from napari_fossiledit.widgets.start.start_dock import StartHere, way_of
from napari_fossiledit.workflows.annotate.corrections import correct
from napari_fossiledit.workflows.annotate.files import import_annotations
from napari_fossiledit.workflows.shared.specimens import SpecimenKey
from tests.widgets.conftest import SHAPE, settled

SOURCE = "model:first:0123456789ab"


@dataclass
class Done:
    """What a workflow that does nothing came to."""

    source: str = SOURCE
    name: str = "first"
    model: str = "first"
    slices: tuple[int, ...] = (1,)
    predicted: tuple[int, ...] = (1,)
    instances: int = 2
    file: str = "chosen"
    rows: tuple[int, ...] = ()
    minutes: float = 3
    values: dict[str, Any] = field(default_factory=lambda: {"paper": {"iou": 0.5}, "matched": 3})
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ("Pixel 70 um < 80 um.",)
    specimens: int = 2

    def summary(self) -> dict[str, Any]:
        return self.values


@pytest.fixture
def calls(calls):
    calls.result = Done()
    return calls


def press(widget, text):
    """Press the button with this text."""
    from qtpy.QtWidgets import QPushButton

    found = [b for b in widget.findChildren(QPushButton) if b.text() == text]
    assert found, f"no button {text!r}"
    found[0].click()


def test_every_dock_says_what_to_do_while_nothing_is_open(made):
    docks = [made(kind) for kind in (StartHere, StackDock, SegmentDock, ReviewDock, ReefDock)]
    for dock in docks:
        assert not dock.empty.isHidden()
        assert dock.content.isHidden()
        assert dock.minimumWidth() >= 320


def test_start_here_tells_how_far_the_project_is_and_what_to_do_next(session, made):
    project = session.current
    advice, steps = way_of(project)
    states = {step.title: (step.state, step.done) for step in steps}
    assert states["Photographs"] == ("5 slices", True)
    assert states["Found by a model"] == ("4 of 5", False)
    assert states["Traced by hand"] == ("2 of 5", True)
    assert states["Own models"] == ("none yet", False)
    assert states["Fossils in 3D"] == ("none yet", False)
    assert advice.what == "let the model go on"
    dock, asked = made(StartHere), []
    session.page_requested.connect(asked.append)
    press(dock, "Next: let the model go on")
    assert asked == ["Segment"]
    project.ledger.store(SOURCE, 4, [])
    session.predictions_changed.emit()
    assert dock.next.text() == "Next: join the outlines to fossils"
    for z in (1, 3):
        project.ledger.unset_traced(z)
    assert way_of(project)[0].page == "Review"


def test_a_training_that_was_stopped_is_no_model(session):
    for name in ("whole", "stopped"):
        folder = session.current.model_folder(name)
        folder.mkdir(parents=True)
        (folder / "model.json").touch()
    (folder / STATE).touch()
    assert session.current.models() == ["stopped", "whole"]
    (models,) = [s for s in way_of(session.current)[1] if s.title == "Own models"]
    assert models.state == "whole"
    for z in range(5):
        session.current.ledger.store("model:stopped:1234567", z, [])
    (found,) = [s for s in way_of(session.current)[1] if s.title == "Found by a model"]
    assert found.state == "4 of 5"


@pytest.fixture
def board(qtbot):
    made = MessageBoard()
    qtbot.addWidget(made)
    made.show()
    return made


def test_a_message_is_shown_with_what_can_be_done_about_it(board, monkeypatch):
    toasts, undone = [], []
    monkeypatch.setattr(notices, "show_info", toasts.append)
    notices.show_done("23 fossils outlined on slice 7.", ("Undo", lambda: undone.append(7)))
    assert board.text.text() == "23 fossils outlined on slice 7."
    assert not board.log.isVisible()
    assert board.action.text() == "Undo"
    board.action.click()
    assert undone == [7]
    assert not board.action.isVisible()
    assert toasts == []
    board.hide()
    notices.show_done("Nobody looks at the dock.")
    assert toasts == ["Nobody looks at the dock."]


def test_errors_stay_and_lead_to_the_log_and_all_messages_are_kept(board):
    start_logging()
    notices.show_done("All is well.")
    notices.show_error(FossilError("slice 3 is broken"))
    assert "slice 3 is broken" in board.text.text()
    assert not board._fading.isActive()
    listed = board.show_messages().findChild(QTextBrowser).toPlainText()
    assert listed.index("All is well.") < listed.index("slice 3 is broken")
    log = board.show_log()
    assert "slice 3 is broken" in log.findChild(QPlainTextEdit).toPlainText()
    assert "fossiledit.log" in log.windowTitle()


def test_the_stack_dock_goes_to_slices(session, made):
    dock = made(StackDock)
    session.go_to(2)
    assert dock.slice.value() == 2
    assert dock.name.text() == "slice_02.png"
    press(dock, "Next traced")
    assert session.slice == 3


def test_the_stack_dock_imports_what_the_form_says(session, made, calls, tmp_path):
    dock = made(StackDock)
    dock.file.text = str(tmp_path / "traced.json")
    dock.importing.fill(slices="0,2")
    press(dock, "Import")
    (name, (path, params)) = calls.made[-1]
    assert name == "annotate.files.import_annotations"
    assert path == session.current.path
    assert (params.file, params.slices) == (tmp_path / "traced.json", "0,2")


def test_photographs_that_were_added_are_told_and_taken_in(session, made, photographs, qtbot):
    dock = made(StackDock)
    session.go_to(2)
    for name in ("slice_10.png", "slice_9.png"):
        (photographs / name).write_bytes((photographs / "slice_04.png").read_bytes())
    # The folder is watched: nothing has to be pressed.
    # On a slow machine it rests long enough between two files to be looked into with the first.
    qtbot.waitUntil(lambda: "2 new photographs lie beside" in dock.added.text())
    assert not dock.append.isHidden()
    assert "slice_9.png and slice_10.png" in dock.added.text()
    press(dock, "Add the new photographs")
    qtbot.waitUntil(lambda: session.current.shape[0] == 7)
    assert session.current.names[5:] == ("slice_9.png", "slice_10.png")
    assert session.slice == 2
    assert sorted(session.current.ledger.traced()) == [1, 3]
    qtbot.waitUntil(lambda: not dock.looking.is_running)
    assert dock.append.isHidden()
    assert dock.added.isHidden()


def test_a_missing_file_is_told_and_starts_nothing(session, made, calls, monkeypatch):
    told = []
    monkeypatch.setattr("napari_fossiledit.widgets.common.notices.show_warning", told.append)
    dock = made(StackDock)
    press(dock, "Import")
    assert calls.made == []
    assert "annotation file is missing" in told[0]


def test_the_score_slider_paints_the_shown_slice_again(session, made):
    dock = made(SegmentDock)
    session.go_to(1)
    assert dock.picker.source == SOURCE
    assert dock.picker.count.text() == "Slice 1: 1 of 2 instances shown."
    dock.picker.slider.setValue(0.1)
    assert dock.picker.count.text() == "Slice 1: 2 of 2 instances shown."
    layer = find(session.viewer, Role.PREDICTIONS)
    assert len(np.unique(np.asarray(layer.data[1]))) == 3
    session.go_to(4)
    assert dock.picker.count.text() == "Slice 4 has not been predicted yet."


def soft(z):
    """A prediction whose probability falls from left to right over forty pixels."""
    grid = np.tile(np.linspace(255, 0, 40).astype(np.uint8), (20, 1))
    kept = ProbabilityMask((Piece((10, 5, 50, 25), grid, exact=True),))
    mask = kept.cut(0.5, SHAPE[1:])
    return Instance(z, "archaeocyathid", mask, 0.9, origin=Origin.MODEL, probability=kept)


def painted(session, z):
    layer = find(session.viewer, Role.PREDICTIONS)
    return int((np.asarray(layer.data[z]) > 0).sum())


def drag(slider, value):
    """Press the mouse on the handle of a labelled slider, move it to a value and let go."""
    inner = slider._slider
    inner.resize(300, inner.height())

    def point(at):
        share = (at - slider.minimum()) / (slider.maximum() - slider.minimum())
        return QPoint(round(7 + share * (inner.width() - 14)), inner.height() // 2)

    button = Qt.MouseButton.LeftButton
    QTest.mousePress(inner, button, pos=point(slider.value()))
    QTest.mouseMove(inner, point(value))
    QTest.mouseRelease(inner, button, pos=point(value))


def test_dragging_the_mask_cut_moves_the_border_of_the_shown_masks(session, made, calls):
    session.current.ledger.store(SOURCE, 1, [soft(1)])
    dock = made(SegmentDock)
    dock.show()
    session.go_to(1)
    cut = dock.picker.cut
    assert cut.isEnabled()
    assert "tighter" in cut.toolTip()
    at_half = painted(session, 1)
    assert at_half == soft(1).mask.area
    drag(cut, 0.8)
    assert dock.picker.mask_cut == pytest.approx(0.8, abs=0.03)
    tight = soft(1).probability.cut(dock.picker.mask_cut, SHAPE[1:]).area
    assert painted(session, 1) == tight < at_half
    press(made(ReviewDock), "Take over this slice")
    assert calls.made[-1][1][1].mask_cut == dock.picker.mask_cut
    drag(cut, 0.2)
    wide = painted(session, 1)
    assert wide > at_half
    session.go_to(2)
    session.go_to(1)
    assert painted(session, 1) == wide


def test_the_mask_cut_is_fixed_where_there_are_no_probabilities(session, made):
    """All predictions of the project are of an earlier version, but for those of slice 1."""
    session.current.ledger.store(SOURCE, 1, [soft(1)])
    dock = made(SegmentDock)
    picker = dock.picker
    session.go_to(1)
    picker.cut.setValue(0.8)
    session.go_to(2)
    before = sum(i.mask.area for i in session.current.instances(SOURCE, 2, min_score=0.5))
    assert painted(session, 2) == before
    assert not picker.cut.isEnabled()
    assert "earlier version" in picker.cut.toolTip()
    assert picker.mask_cut == 0.5
    session.go_to(1)
    assert picker.cut.isEnabled()
    assert picker.mask_cut == 0.8
    picker.pick(ANNOTATIONS)
    assert not picker.cut.isEnabled()
    assert "drawn" in picker.cut.toolTip()


def test_a_prediction_that_was_stopped_is_offered_again(session, made, calls):
    ledger = session.current.ledger
    asked = PredictParams(model="reef-lite", slices="1-3", views=4)
    params = asked.model_dump(mode="json")
    ledger.end_run(ledger.begin_run("predict", params), "done", {})
    tab = made(SegmentDock).predict
    assert tab.unfinished.isHidden()
    assert tab.form.read().views == 1
    ledger.end_run(ledger.begin_run("predict", params), "cancelled", {})
    tab.refresh()
    assert not tab.unfinished.isHidden()
    assert tab.form.read() == asked
    press(tab, "Predict")
    assert tab.unfinished.isHidden()
    tab.form.fill(slices="all")
    ledger.end_run(ledger.begin_run("predict", params | {"again": True}), "interrupted", {})
    tab.refresh()
    assert tab.unfinished.isHidden()
    assert tab.form.read().slices == "all"


def test_predicting_and_evaluating_call_their_workflows(session, made, calls):
    dock = made(SegmentDock)
    session.go_to(2)
    press(dock.predict, "This slice")
    press(dock.predict, "Predict")
    (name, (_, params)) = calls.made[-1]
    assert (name, params.slices, params.model) == ("segment.predict.run", "2", "reef-lite")
    press(dock.evaluate, "Evaluate")
    assert calls.made[-1][0] == "segment.evaluate.run"
    assert dock.evaluate.table.rows.rows == [
        {"name": "paper: iou", "value": 0.5},
        {"name": "matched", "value": 3},
    ]


@pytest.mark.parametrize("classes", [{"archaeocyathid": "regression"}, {}])
def test_calibrated_scores_are_proposed_where_they_gained(session, made, calls, classes):
    calls.result = SimpleNamespace(
        model="first", report="page.html", calibration=SimpleNamespace(classes=classes), notes=()
    )
    dock = made(SegmentDock)
    press(dock.predict, "Calibrate scores")
    (name, (_, params)) = calls.made[-1]
    assert (name, params.model) == ("segment.calibrate.run", "reef-lite")
    assert dock.predict.form.read().calibrated == bool(classes)


def test_a_result_is_told_with_its_notes_in_one_message(session, made, calls, monkeypatch):
    shown, note = [], "The configuration was assumed."
    monkeypatch.setattr(notices, "show_info", shown.append)
    calls.result = Done(notes=(note,))
    dock = made(SegmentDock)
    dock.train.form.fill(slices="1")
    for page, start, said in (
        (dock.predict, "Predict", "first found 1 fossil on slice 1, and 1 doubtful ones"),
        (dock.evaluate, "Evaluate", "Judged: the figures are in the table."),
        (dock.train, "Train", "The model first has learned from 1 slice in 3 minutes."),
    ):
        press(page, start)
        # The window shows one message: the latest.
        assert shown[-1].startswith(said)
        assert shown[-1].endswith(f"\n{note}")


def test_what_computes_is_among_the_settings_that_are_folded_away(made):
    form = made(SegmentDock).predict.form
    folded = {name for name, row in form.rows.items() if form.advanced.isAncestorOf(row)}
    assert set(form.rows) - folded == {"model", "slices", "views", "refine", "calibrated"}


def test_training_sees_what_was_traced_since_unless_the_user_wrote_slices(session, made):
    train = made(SegmentDock).train
    assert train.form.rows["slices"].value == "1,3"
    session.current.ledger.set_traced(0, None)
    session.annotations_changed.emit()
    assert train.form.rows["slices"].value == "0-1,3"
    train.form.fill(slices="3")
    session.annotations_changed.emit()
    assert train.form.rows["slices"].value == "3"


@pytest.mark.parametrize("typed", ["0.25", "0,25"])
@pytest.mark.parametrize("language", ["C", "de_DE"])
def test_a_number_beside_a_slider_has_a_point_or_a_comma(qtbot, monkeypatch, typed, language):
    before = QLocale()
    QLocale.setDefault(QLocale(language))
    try:
        made = slider(0.5, "Score.")
        qtbot.addWidget(made)
        (number,) = made.findChildren(QLineEdit)
        number.selectAll()
        QTest.keyClicks(number, typed)
        QTest.keyClick(number, Qt.Key.Key_Return)
    finally:
        QLocale.setDefault(before)
    assert made.value() == 0.25


def test_the_button_of_a_message_undoes_only_what_the_message_tells(session):
    correct(session.current.path, CorrectParams(slice=1, reject=str(own_ids(session, 1)[0])))
    word, undo_it = correcting.undo_of_newest(session)
    correct(session.current.path, CorrectParams(slice=3, reject=str(own_ids(session, 3)[0])))
    with pytest.raises(FossilError, match="changed since"):
        undo_it()
    assert (word, len(own_ids(session, 1)), len(own_ids(session, 3))) == ("Undo", 1, 1)
    correcting.undo_of_newest(session)[1]()
    assert len(own_ids(session, 3)) == 2


def own_ids(session, z):
    return [i.id for i in session.current.instances(ANNOTATIONS, z)]


def test_training_proposes_traced_slices_but_no_pinned_ones(session, made, calls):
    session.current.update(pinned_slices=(3,))
    dock = made(SegmentDock)
    press(dock.train, "Use all traced slices")
    press(dock.train, "Train")
    (name, (_, params)) = calls.made[-1]
    assert (name, params.slices) == ("segment.train.run", "1")
    dock.train.form.fill(slices="")
    with pytest.raises(FossilError, match="no slices to train on"):
        dock.train.train()


def test_correcting_by_hand_goes_from_predictions_to_annotations(session, made, qtbot):
    """The real workflows, in their thread: take over, delete one, trace."""
    dock = made(ReviewDock)
    session.go_to(0)
    dock.picker.slider.setValue(0.0)
    with qtbot.waitSignal(dock.jobs.runner.stopped):
        press(dock.correct, "Take over this slice")
    values = [i.id for i in session.current.instances(ANNOTATIONS, 0)]
    assert len(values) == 2
    assert not dock.picker.layer.visible
    correcting.delete(session, values[1])
    with qtbot.waitSignal(dock.jobs.runner.stopped):
        session.trace_requested.emit()
    found = session.current.ledger.instances(ANNOTATIONS, slices=[0])
    assert len(found) == 1
    assert 0 in session.current.ledger.traced()


def test_tracing_a_slice_keeps_what_was_imported(session, made, qtbot, tmp_path):
    """Import label images, paint one more instance, press 'Slice is traced'."""
    labels = np.zeros(SHAPE, np.uint16)
    for n, (y, x) in enumerate([(1, 1), (1, 50), (30, 1), (30, 50)], 1):
        labels[:, y : y + 6, x : x + 6] = n
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    params = ImportParams(file=tmp_path / "labels.tif")
    import_annotations(session.current.path, params)
    dock = made(ReviewDock)
    session.go_to(2)
    value = correcting.new_instance(session)
    before = session.current.instances(ANNOTATIONS, 2)
    assert len(before) == 4
    correcting.show_labels(session).paint((2, 20, 30), value)
    with qtbot.waitSignal(dock.jobs.runner.stopped):
        press(dock.correct, "Slice is traced")
    after = session.current.instances(ANNOTATIONS, 2)
    assert [i for i in after if i.id != value] == before
    assert len(after) == 5
    # The import has marked the slice already, so that marking it again changed nothing.
    press(dock.history, "Undo")
    assert session.current.instances(ANNOTATIONS, 2) == before


def tetrahedron(specimen: int) -> SpecimenMesh:
    corners = np.array([[0, 0, 0], [500, 0, 0], [0, 700, 0], [0, 0, 700]], float) + 100 * specimen
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    return SpecimenMesh(specimen, f"specimen_{specimen}", corners, faces)


def test_specimens_are_shown_in_3d_and_picked_in_the_table(session, made, calls, qtbot):
    rows = [
        {"specimen": 4, "first_slice": 3, "last_slice": 4, "slices": 2, "volume_um3": 2e9},
        {"specimen": 9, "first_slice": 1, "last_slice": 1, "slices": 1, "volume_um3": 1e9},
    ]
    calls.result = SpecimenScene(joined([tetrahedron(4), tetrahedron(9)]), tuple(rows), ())
    dock = made(ReefDock)
    press(dock, "Show in 3D")
    assert calls.made[-1][0] == "widgets.canvas.joined_mesh.build_scene"
    settled(session)
    layer = dock.surfaces.layer
    assert session.viewer.dims.ndisplay == 3
    assert layer.data[0].shape == (8, 3)
    np.testing.assert_allclose(layer.extent.world[1], (1400, 1600, 1600), rtol=1e-5)
    model = dock.table.model()
    swatches = [model.index(r, 0).data(Qt.ItemDataRole.DecorationRole) for r in range(2)]
    expected = [colours_of(session).specimen(SpecimenKey("", n)) for n in (4, 9)]
    np.testing.assert_allclose([s.getRgbF()[:3] for s in swatches], expected, atol=1e-3)
    assert model.index(0, 1).data(Qt.ItemDataRole.DecorationRole) is None
    bright = layer.vertex_colors.copy()
    dock.table.selectRow(0)
    assert session.slice == 1
    assert (layer.vertex_colors[:4] == bright[:4]).all()
    assert (layer.vertex_colors[4:] != bright[4:]).any()
    press(dock, "Show all")
    assert (layer.vertex_colors == bright).all()
    look_at_specimens(session, dock, layer, qtbot)
    session.viewer.dims.ndisplay = 2
    assert layer not in session.viewer.layers
    assert session.slice == 3
    assert session.viewer.dims.nsteps[0] == 5


def look_at_specimens(session, dock, layer, qtbot):
    """Colour them by volume, click one, and cut what lies before it away."""
    dock.looks.by.setCurrentText("Volume")
    assert "1 <span" in dock.looks.legend.text()
    assert dock.looks.legend.text().endswith("2 mm3, by factors")
    small, big = dock.looks.colour(SpecimenKey("", 9)), dock.looks.colour(SpecimenKey("", 4))
    assert sum(small) < sum(big)
    np.testing.assert_allclose(layer.vertex_colors[0, :3] / layer.vertex_colors[0, 0] * big[0], big)
    session.go_to(0)
    down, up = np.array([-1.0, 0, 0]), np.array([1.0, 0, 0])
    seen = dock.surfaces.hit
    assert seen(np.array([5000.0, 950, 950]), down) == (SpecimenKey("", 9), 3)
    qtbot.waitUntil(lambda: find(session.viewer, Role.REDUCED) is not None)
    assert seen(np.array([-5000.0, 950, 950]), up) is None
    find(session.viewer, Role.REDUCED).visible = False
    assert seen(np.array([-5000.0, 950, 950]), up) == (SpecimenKey("", 9), 2)
    assert seen(np.array([5000.0, 420, 2000]), down) is None
    press_at = SimpleNamespace(
        type="mouse_press", button=1, position=(5000, 950, 950), view_direction=down
    )
    for _ in dock.surfaces._on_press(session.viewer, press_at):
        press_at.type = "mouse_release"
    assert colours_of(session).chosen_specimens == {SpecimenKey("", 9)}
    assert session.slice == 3
    (marked,) = dock.table.selectionModel().selectedRows()
    assert dock.table.model().mapToSource(marked).row() == 1
    session.go_to(2)
    dock.looks.cut.setCurrentText("Cut away what lies after the slice")
    assert seen(np.array([5000.0, 950, 950]), down) == (SpecimenKey("", 9), 2)
    (plane,) = layer.experimental_clipping_planes
    # In um: it is drawn in the scene, not in the voxels of the layer.
    step = session.current.geometry.slice_spacing_um
    assert (plane.position, plane.normal) == ((2 * step, 0, 0), (-1, 0, 0))
    dock.looks.slice.setValue(1)
    assert session.slice == 1
    assert layer.experimental_clipping_planes[0].position[0] == step
    session.go_to(3)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_turn_is_a_movie_that_is_written_whole_or_not_at_all(tmp_path, stopped):
    file, frames = tmp_path / "turn.gif", Queue()
    for n in range(3):
        frames.put(np.full((900, 1000, 3), 80 * n, np.uint8))
    if stopped:
        with pytest.raises(CancelledError):
            turntable.write(frames, 4, file, job=Job(cancelled=frames.empty))
        assert not list(tmp_path.iterdir())
        return
    assert turntable.write(frames, 3, file) == file
    with PILImage.open(file) as movie:
        assert (movie.size, movie.n_frames, movie.info["loop"]) == ((800, 720), 3, 0)
    np.testing.assert_allclose(turntable.turning(1, np.pi / 2) @ [1, 5, 0], [0, 5, 1], atol=1e-12)


def test_pictures_are_of_what_is_shown_in_3d(session, made, tmp_path):
    table = made(ReefDock).looks.turntable
    with pytest.raises(FossilError, match=r"Nothing is shown in 3D.*Show in 3D"):
        table.start(tmp_path / "a.png", print)
    session.viewer.dims.ndisplay = 3
    with pytest.raises(FossilError, match=r"expected.*movie.*found \.mp4"):
        table.start(tmp_path / "a.mp4", print)


def test_specimens_fit_the_photographs_where_steps_of_slices_differ(session, made):
    session.current.update(z_positions_um=(0.0, 100.0, 400.0, 900.0, 2000.0))
    layer = made(ReefDock).surfaces.show(joined([tetrahedron(4)]))
    np.testing.assert_allclose(layer.extent.world[:, 0], (2 * 500, 3 * 500))


def test_no_specimen_says_what_to_do(session, made, calls):
    calls.result = SpecimenScene(None, (), ())
    dock = made(ReefDock)
    press(dock, "Show in 3D")
    assert "Link the sections first" in dock.hint.text()
    assert session.viewer.dims.ndisplay == 2


def slow(*, job):
    job.on_progress(Progress(1, 4, "Waiting", 90.0))
    while True:
        job.check()
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("how", "left"),
    [
        ({"whole": True}, "No file was written."),
        ({}, "What was finished before is kept."),
        (
            {"pausable": True},
            "What was finished before is kept. Start it again to go on from there.",
        ),
    ],
)
def test_the_job_panel_tells_time_and_stops(qtbot, how, left):
    panel = JobPanel()
    qtbot.addWidget(panel)
    assert panel.start("Waiting", slow, in_process=False, **how)
    qtbot.waitUntil(lambda: panel.text.text() == "Waiting: 1 of 4, 1:30 left")
    assert not panel.start("Again", slow, in_process=False)
    with qtbot.waitSignal(panel.runner.stopped):
        panel.button.click()
    assert panel.text.text() == f"Stopped. {left}"
    assert panel.bar.isHidden()


def test_a_file_dialog_that_is_cancelled_writes_nothing(session, made, calls):
    press(made(StackDock), "Export ...")
    press(made(ReefDock), "Measure ...")
    assert calls.made == []


def test_what_is_written_goes_to_the_chosen_file(session, made, calls, monkeypatch, tmp_path):
    chosen = tmp_path / "chosen"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(chosen), ""))
    press(made(StackDock), "Export ...")
    session.current.update(
        orientation={"block_strike": 30, "block_dip": 80, "bedding_strike": 10, "bedding_dip": 5}
    )
    reef = made(ReefDock)
    assert reef.orienting.read().block_dip == 80
    reef.measuring.fill(close_cracks="150")
    for text in ("Measure ...", "Report ...", "One file ..."):
        press(reef, text)
    exported, measured, reported, one = (args for _, args in calls.made)
    assert exported[1].file == measured[1] == reported[1] == one[1] == chosen
    assert (measured[2].close_cracks, reported[2].close_cracks) == (150, 150)
    assert measured[2].plots == tmp_path / "chosen_plots"
    assert reef.assumed.text() == "Pixel 70 um &lt; 80 um."


def test_a_result_is_dropped_once_another_project_is_open(session):
    taken = []
    then = session.while_open(taken.append)
    then(1)
    session.open(session.current.path)
    then(2)
    assert taken == [1]


def test_outlines_are_looked_at_without_being_taken_for_a_photograph(tmp_path, monkeypatch):
    file = tmp_path / "outlines.mat"
    outlines = SimpleNamespace(shape=(4, 20, 30))
    monkeypatch.setattr("napari_fossiledit.workflows.stack.new.read_outlines", lambda _: outlines)
    look = look_at_stack(file, job=QUIET)
    assert look.text() == "4 slices of 30 x 20 pixels."


@pytest.mark.parametrize("other", [False, True])
def test_a_project_that_is_made_opens_unless_another_one_was_opened(
    session, project_path, tmp_path, other
):
    made = tmp_path / "made.fossil"
    shutil.copytree(project_path, made)
    session.close()
    open_made = opens_made(session)
    if other:
        open_project(session, project_path)
    assert open_made(made) is not other
    assert session.current.path == (project_path if other else made)
    if other:
        assert VOICE.messages[-1].text == f"The project made is made, in {tmp_path}."
        VOICE.messages[-1].action[1]()
        assert session.current.path == made


def test_the_page_stack_shows_what_it_can_of_a_project_whose_photographs_were_moved(
    session, made, photographs
):
    photographs.rename(photographs.with_name("elsewhere"))
    dock = made(StackDock)
    assert "5 slices of 60 x 40 pixels" in dock.info.text()
    assert dock.slice.maximum() == 4
    assert f"Reading {photographs} failed" in "".join(m.text for m in VOICE.messages[-2:])
