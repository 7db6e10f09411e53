"""The page *Perturb* of the dock *Probe & Edit*."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QVBoxLayout, QWidget
from superqt import QLabeledDoubleSlider

from napari_fossiledit.errors import FossilError
from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.params.editing import EditParams
from napari_fossiledit.params.perturb import PerturbParams, Preset
from napari_fossiledit.widgets.canvas.layers import Role, find
from napari_fossiledit.widgets.common.debounced_call import DebouncedCall
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import note, section
from napari_fossiledit.widgets.probe_edit.mud_row import MudRow
from napari_fossiledit.widgets.probe_edit.preview import (
    hide_perturbed,
    move_perturbed,
    show_perturbed,
)
from napari_fossiledit.widgets.probe_edit.steps_table import StepsTable
from napari_fossiledit.workflows.shared.perturbed_slices import Preview, preview

HELP = (
    "Change a slice the way the model should not mind, and look at it. The pages Probe and Edit "
    "do this to the slices they use."
)
_SHOWN = ("preset", "steps")
_LABELS = {"preset": "What to do", "perturb_seed": "Seed"}


class PerturbPage(QWidget):
    """Choose a perturbation, and see it on the slice on show.

    Signals
    -------
    changed
        Another perturbation is chosen.
    """

    changed = Signal()

    def __init__(self, session: Session, jobs: JobPanel, warm: WarmProcess) -> None:
        super().__init__()
        self.session = session
        self.debounced = DebouncedCall(warm, self)
        self.mud = MudRow(session, jobs)
        rest = [name for name in PerturbParams.model_fields if name not in _SHOWN]
        self.form = ParamsForm(PerturbParams, hidden=("steps",), advanced=rest, labels=_LABELS)
        # The page Edit takes what is chosen here: begin with what edits gain most from.
        self.form.fill(preset=EditParams.model_fields["preset"].default)
        self.steps = StepsTable(session)
        self.live = QCheckBox("Preview on the slice on show")
        self.where = QComboBox()
        self.opacity = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.state = note("")
        self._lay_out()
        self._connect()
        self._on_changed()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.addWidget(note(HELP))
        section(column, "Mud colour").addWidget(self.mud)
        what = section(column, "Perturbation")
        what.addWidget(self.form)
        what.addWidget(self.steps)
        seen = section(column, "Preview")
        self.live.setToolTip("Perturb the slice on show whenever anything changes.")
        self.where.addItems(["over the photograph", "beside the photograph"])
        self.where.setToolTip("Where the perturbed slice is shown.")
        self.where.setAccessibleName("Place of the preview")
        self.opacity.setRange(0, 1)
        self.opacity.setValue(1)
        self.opacity.setDecimals(2)
        self.opacity.setToolTip("How much of the photograph shines through.")
        rows = QFormLayout()
        rows.addRow(self.live)
        rows.addRow("Shown", self.where)
        rows.addRow("Opacity", self.opacity)
        seen.addLayout(rows)
        seen.addWidget(self.state)
        column.addStretch(1)

    def _connect(self) -> None:
        self.form.changed.connect(self._on_changed)
        self.steps.changed.connect(self._on_changed)
        self.session.slice_changed.connect(self._ask)
        self.session.mud_changed.connect(self._on_changed)
        self.session.annotations_changed.connect(self._ask)
        self.live.toggled.connect(self._on_live)
        self.where.currentIndexChanged.connect(self._move)
        self.opacity.valueChanged.connect(self._fade)
        self.debounced.answered.connect(self._show)
        self.debounced.failed.connect(self._on_failed)

    # ------------------------------------------------------------------ content

    def read(self) -> PerturbParams:
        """Return the perturbation that is chosen.

        Raises
        ------
        FossilError
            Where a value does not fit; its field then shows what is wrong.
        """
        self.form.fix(steps=self.steps.steps if self.is_custom else "")
        return self.form.read()

    @property
    def is_custom(self) -> bool:
        """Whether the steps below tell what is done."""
        return bool(self.form.rows["preset"].value == Preset.CUSTOM)

    def values(self) -> dict[str, Any]:
        """Values of the perturbation, for the parameters of what applies it.

        Raises
        ------
        FossilError
            See `read`.
        """
        return self.read().model_dump(exclude={"version"})

    @property
    def title(self) -> str:
        """The perturbation in a few words."""
        preset = str(self.form.rows["preset"].value).replace("-", " ")
        return self.steps.steps or "nothing yet" if self.is_custom else preset

    def refresh(self) -> None:
        """Show the project that is open now."""
        self.debounced.drop()
        self.live.setChecked(False)
        self.mud.refresh()
        self.form.refresh()
        self.steps.told = []
        self.steps.refresh()
        self.changed.emit()

    def toggle(self) -> None:
        """Show or hide the perturbed slice; make it where there is none."""
        layer = find(self.session.viewer, Role.PERTURBED)
        if layer is None:
            self.live.setChecked(True)
        else:
            layer.visible = not layer.visible

    # ------------------------------------------------------------------- events

    def _on_changed(self) -> None:
        self.steps.setVisible(self.is_custom)
        self.changed.emit()
        self._ask()

    def _on_live(self, wanted: bool) -> None:
        if wanted:
            self._ask()
            return
        self.debounced.drop()
        self.state.setText("")
        if self.session.project is not None:
            hide_perturbed(self.session)

    def _ask(self) -> None:
        project = self.session.project
        if project is None or not self.live.isChecked():
            return
        try:
            params = self.read()
        except FossilError as error:
            self._on_failed(error)
            return
        self.state.setText("Perturbing ...")
        self.debounced.request("Perturbing", preview, project.path, self.session.slice, params)

    def _show(self, made: Preview) -> None:
        if self.session.project is None or made.slice != self.session.slice:
            return
        show_perturbed(
            self.session,
            made.slice,
            made.image,
            beside=self._beside,
            opacity=self.opacity.value(),
        )
        self.state.setText(made.text)

    def _on_failed(self, error: FossilError) -> None:
        hide_perturbed(self.session)
        self.state.setText(str(error))

    @property
    def _beside(self) -> bool:
        return self.where.currentIndex() == 1

    def _move(self) -> None:
        if self.session.project is not None:
            move_perturbed(self.session, self.session.slice, beside=self._beside)

    def _fade(self, opacity: float) -> None:
        layer = find(self.session.viewer, Role.PERTURBED)
        if layer is not None:
            layer.opacity = opacity
