"""Lay the photographs over each other: find jumps, or move a slice and all that follow by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from napari.layers import Image, Layer
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QHideEvent, QKeySequence, QPixmap, QShortcut
from qtpy.QtWidgets import QCheckBox, QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.stack import AlignParams, CutParams, PlaceParams
from napari_fossiledit.placement import Placement, from_points
from napari_fossiledit.widgets.canvas.layers import ROLE, Role, find, placed
from napari_fossiledit.widgets.canvas.readers import placed_in
from napari_fossiledit.widgets.canvas.view3d import FLAT
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec
from napari_fossiledit.widgets.common.notices import counted, errors_shown, show_done, show_error
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, note
from napari_fossiledit.workflows.stack import align

_WHY = (
    "A camera that was bumped moves every photograph after it. <b>Find</b> looks for such jumps. "
    "Photographs stay as they are, and masks move with them."
)
_BY_HAND = (
    "Go to the first slice that lies wrong, let it flicker with the slice before, and move it with "
    "the buttons or with Alt and the arrow keys (with Shift, too: a tenth of a pixel)."
)
_FLICKER_MS = 450
#: Motions (down, right, degrees) by what their buttons say, their keys, and their place in a grid.
_MOVES: dict[str, tuple[Placement, str, int, int]] = {
    "↑": (Placement(-1, 0), "Alt+Up", 0, 1),
    "←": (Placement(0, -1), "Alt+Left", 1, 0),
    "→": (Placement(0, 1), "Alt+Right", 1, 2),
    "↓": (Placement(1, 0), "Alt+Down", 2, 1),
    "↺": (Placement(0, 0, -0.1), "Alt+,", 0, 0),
    "↻": (Placement(0, 0, 0.1), "Alt+.", 0, 2),
}
_FINE = 0.1
#: Pixels of the screen: how wide a cut is, and how high at least each of its slices.
_CUT_WIDTH, _CUT_STEP = 280, 3


class AlignPanel(QWidget):
    """Finds jumps in a job, and shows at once how a slice is moved by hand.

    What is moved by hand is shown by the graphics card; it is written, and the slices are read
    anew, when it is kept.
    """

    def __init__(self, session: Session, jobs: JobPanel) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.pending, self._first = Placement(), 0
        self.form = ParamsForm(AlignParams, labels={"how": "Lay over each other"})
        self.lies, self.moved = note(""), note("")
        self.alone = QCheckBox("This slice alone")
        self.alone.setToolTip("Move this slice only; else all that follow move with it.")
        self.alone.toggled.connect(self._show_pending)
        self.flicker = button(
            "Flicker", "Show this slice and the one before by turns.", self._flicker
        )
        self.flicker.setCheckable(True)
        self._before: Image | None = None
        self._flickered = 0
        self._timer = QTimer(self)
        self._timer.setInterval(_FLICKER_MS)
        self._timer.timeout.connect(self._turn)
        self.reading = JobRunner(self)
        self.reading.failed.connect(show_error)
        self.cut = QLabel()
        self.cut.setAccessibleName("Cut through the stack")
        self.cut_says = note("")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (
            note(_WHY),
            self.form,
            button("Find", "Register each slice with the one before; it can be undone.", self.look),
            self.lies,
            note(_BY_HAND),
            self._moves(),
            beside(self.alone, self.flicker),
            beside(
                button("Mark same places", "Click places in both slices.", self.mark),
                button("Use places", "Lay the places over each other.", self.use_places),
            ),
            self.moved,
            beside(
                button("Keep", "Write where the slice lies; Ctrl-Z undoes it.", self.keep),
                button("Discard", "Leave the slice where it was.", self.discard),
            ),
            button(
                "Cut through the stack",
                "Show the rows in the middle, slice by slice.",
                self.show_cut,
            ),
            self.cut,
            self.cut_says,
        ):
            column.addWidget(widget)
        session.slice_changed.connect(self._on_slice)
        session.project_changed.connect(self.discard)
        session.annotations_changed.connect(self.refresh)
        self.refresh()

    def _moves(self) -> QWidget:
        made = QWidget()
        grid = QGridLayout(made)
        grid.setContentsMargins(0, 0, 0, 0)
        for text, (motion, keys, row, place) in _MOVES.items():
            for modifier, share in (("", 1.0), ("Shift+", _FINE)):
                part = Placement(motion.dy * share, motion.dx * share, motion.degrees * share)
                shortcut = QShortcut(QKeySequence(modifier + keys), self)
                shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
                shortcut.activated.connect(self._mover(part))
            tip = "Turn by 0.1 degrees" if motion.degrees else "Move by a pixel"
            made_button = button(text, f"{tip} ({keys}).", self._mover(motion))
            made_button.setAccessibleName(keys)
            grid.addWidget(made_button, row, place)
        return made

    # ---------------------------------------------------------------- showing

    def refresh(self) -> None:
        """Say where the photographs lie."""
        project = self.session.project
        entries = () if project is None else project.ledger.alignment().entries
        lines = [f"From slice {z}: {placement}" for z, placement in entries[:6]]
        more = [f"and {len(entries) - 6} more"] if len(entries) > 6 else []
        self.lies.setText("<br>".join(lines + more) or "All photographs lie as they were taken.")

    def hideEvent(self, event: QHideEvent | None) -> None:  # noqa: N802
        """Stop flickering once the page is left."""
        super().hideEvent(event)
        self._stop_flicker()

    def _on_slice(self, z: int) -> None:
        # A layer that reaches further shifts the steps of the sliders: the slice is the same.
        if z != self._flickered:
            self._stop_flicker()
        self._show_pending()

    def _show_pending(self) -> None:
        """Show what is pending on the slices that it concerns: the photograph, and masks on it."""
        project = self.session.project
        if project is None:
            return
        z, motion = self.session.slice, self.pending
        moves = z == self._first if self.alone.isChecked() else z >= self._first
        matrix = np.eye(4)
        if moves and not motion.is_none:
            pixel = project.geometry.pixel_size_um
            middle = (np.array(project.slice_shape) - 1) / 2
            matrix[1:3, 1:3] = motion.matrix
            matrix[1:3, 3] = pixel * (middle - motion.matrix @ middle + motion.shift)
        for layer in self.session.viewer.layers:
            # What is clicked on a photograph moves with it; meshes are of all slices.
            if layer.metadata.get(ROLE) in FLAT and (layer.affine.affine_matrix != matrix).any():
                layer.affine = matrix
        self.moved.setText("" if motion.is_none else f"Slice {self._first}: {motion}")

    # ---------------------------------------------------------------- actions

    def look(self) -> None:
        """Find where the photographs lie."""
        self.discard()
        self.jobs.start(
            "Laying slices over each other",
            align.run,
            self.session.writable.path,
            self.form.read(),
            then=self.session.while_open(self._found),
        )

    def _found(self, result: align.AlignResult) -> None:
        jumps = counted(len(result.jumps), "jump") if result.jumps else "No jump"
        alone = f"; {counted(len(result.alone), 'slice')} lay elsewhere" if result.alone else ""
        show_done("\n".join((f"{jumps} found{alone}.", *result.notes)))
        self.session.annotations_changed.emit()

    def _mover(self, motion: Placement) -> Callable[[], None]:
        def move() -> None:
            if self.isVisible():
                with errors_shown():
                    self.move_by(motion)

        return move

    def move_by(self, motion: Placement) -> None:
        """Move the slice on show, and all that follow, by so much more."""
        if self.session.writable.settings.stack.kind == "blank":
            raise FossilError("There are no photographs to move")
        if self.pending.is_none or self._first != self.session.slice:
            self.pending, self._first = Placement(), self.session.slice
        self.pending = motion.after(self.pending)
        self._show_pending()

    def keep(self) -> None:
        """Write what is pending."""
        if self.pending.is_none:
            raise FossilError("Nothing was moved", advice="Move the slice first.")
        p = self.pending
        params = PlaceParams(
            z=self._first, shift=f"{p.dx!r},{p.dy!r}", turn=p.degrees, alone=self.alone.isChecked()
        )
        self.session.saving.emit()
        result = align.place(self.session.writable.path, params)
        self.discard()
        show_done("\n".join(("The slices lie there now. Ctrl-Z undoes it.", *result.notes)))
        self.session.annotations_changed.emit()

    def discard(self) -> None:
        """Forget what is pending."""
        self.pending = Placement()
        self._stop_flicker()
        self._show_pending()
        self.cut.clear()
        self.cut_says.setText("")

    def mark(self) -> None:
        """Let the user click places that this slice and the one before both show."""
        viewer = self.session.viewer
        layer = self._places()
        if layer is None:
            options = placed(self.session.current, Role.PLACES) | {"face_color": "transparent"}
            layer = viewer.add_points(
                np.zeros((0, 3)), name="Same places", size=12, border_color="yellow", **options
            )
            self._show_pending()
        layer.mode = "add"
        viewer.layers.selection.active = layer
        show_done(
            "Click places on this slice, then the same places on the slice before, in the same"
            ' order; then "Use places".'
        )

    def use_places(self) -> None:
        """Lay the places of this slice over those of the slice before."""
        layer, z = self._places(), self.session.slice
        marked = np.zeros((0, 3)) if layer is None else np.asarray(layer.data)
        before, here = (marked[np.rint(marked[:, 0]) == n, 1:] for n in (z - 1, z))
        motion = from_points(here.tolist(), before.tolist(), self.session.current.slice_shape)
        self.pending, self._first = Placement(), z
        self.move_by(motion)
        if layer is not None:
            self.session.viewer.layers.remove(layer)

    def _places(self) -> Layer | None:
        return find(self.session.viewer, Role.PLACES)

    # ---------------------------------------------------------------- flicker

    def _flicker(self) -> None:
        wanted = self.flicker.isChecked()
        self._stop_flicker()
        if not wanted:
            return
        z, project = self.session.slice, self.session.current
        if z == 0:
            raise FossilError("Slice 0 has none before it", advice="Go to a later slice.")
        job = JobSpec("Reading the slice before", align.read_slice, (project.path, z - 1), False)
        self.reading.start(job, self.session.while_open(partial(self._show_before, z)))
        self._flickered = z
        self.flicker.setChecked(True)

    def _show_before(self, z: int, pixels: np.ndarray) -> None:
        """Show the slice before `z`, unless the user has gone on meanwhile."""
        if not self.flicker.isChecked() or z != self.session.slice:
            self._stop_flicker()
            return
        project = self.session.current
        options = placed_in(project.geometry.voxel_size)
        shown = {name: value[1:] for name, value in options.items()}
        self._before = self.session.viewer.add_image(
            pixels, name="Slice before", rgb=pixels.ndim == 3, **shown
        )
        self._timer.start()

    def _turn(self) -> None:
        if self._before is not None and self._before in self.session.viewer.layers:
            self._before.visible = not self._before.visible
        else:
            self._stop_flicker()

    def _stop_flicker(self) -> None:
        self._timer.stop()
        self.flicker.setChecked(False)
        layers, before, self._before = self.session.viewer.layers, self._before, None
        if before is not None and before in layers:
            layers.remove(before)

    # -------------------------------------------------------------------- cut

    def show_cut(self) -> None:
        """Show a row of pixels of the slices around the one on show, one above the other."""
        project = self.session.current
        params = CutParams(z=self.session.slice, row=project.slice_shape[0] // 2)
        job = JobSpec("Cutting through the stack", align.read_cut, (project.path, params), False)
        self.reading.start(job, self.session.while_open(partial(self._show_cut, params)))

    def _show_cut(self, params: CutParams, picture: np.ndarray) -> None:
        from napari_fossiledit.exchange.pages.pictures import encode_png

        shown = QPixmap()
        shown.loadFromData(encode_png(picture))
        last = self.session.current.shape[0] - 1
        top, bottom = max(0, params.z - params.around), min(last, params.z + params.around)
        # Sections lie much closer than a picture is wide: a step of one would not be seen.
        height = max(_CUT_WIDTH * shown.height() // shown.width(), _CUT_STEP * (bottom - top + 1))
        how = Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation
        self.cut.setPixmap(shown.scaled(_CUT_WIDTH, height, *how))
        self.cut_says.setText(
            f"Row {params.row} of slices {top} (top) to {bottom} (bottom), as they are written:"
            " where they fit, borders run on without steps."
        )
