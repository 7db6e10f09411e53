"""The tab *Edit* of the dock *Probe & Edit*."""

from __future__ import annotations

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.params.editing import EditParams
from napari_fossiledit.params.perturb import PerturbParams
from napari_fossiledit.progress import Progress
from napari_fossiledit.widgets.common.curves import Curve, CurvePlot, Point
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.model_choices import model_choices, only_installed_backends
from napari_fossiledit.widgets.common.notices import show_done
from napari_fossiledit.widgets.common.paths import ReportButton
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import button, note, section
from napari_fossiledit.widgets.probe_edit.perturb_tab import PerturbTab
from napari_fossiledit.widgets.probe_edit.verdict import VerdictPanel
from napari_fossiledit.workflows.edit import run as edit
from napari_fossiledit.workflows.edit.result import EditResult

HELP = (
    "Edit a model so that it treats a slice as if it had been changed in the way chosen in the tab "
    "Perturb. The edit is judged on the pinned slices; the model itself is never changed."
)
_NO_CURVE = "The loss of each pyramid level of the network appears here while the edit is solved."
_LEVEL = "level {}"
_SHOWN = ("name", "model", "slices", "preserve", "tuning", "pinned", "solver", "scope")


class EditTab(QWidget):
    """Compute an edit, watch its loss, judge it."""

    def __init__(
        self, session: Session, jobs: JobPanel, warm: WarmProcess, perturb: PerturbTab
    ) -> None:
        super().__init__()
        self.session, self.jobs, self.perturb = session, jobs, perturb
        # The perturbation is chosen in the tab Perturb.
        hidden = tuple(PerturbParams.model_fields)
        rest = [n for n in EditParams.model_fields if n not in (*hidden, *_SHOWN)]
        choices = {"model": model_choices(session)}
        form = ParamsForm(EditParams, hidden=hidden, advanced=rest, choices=choices)
        self.form = only_installed_backends(form)
        self.perturbation = note("")
        self.plot = CurvePlot("step", "loss, as share of the first", _NO_CURVE)
        self.verdict = VerdictPanel(session, jobs, warm)
        self._losses: dict[str, list[Point]] = {}
        # All jobs of the dock report through one runner: only losses of this tab's are drawn.
        self._is_editing = False
        self.outcome, self.report = note(""), ReportButton()
        column = QVBoxLayout(self)
        column.addWidget(note(HELP))
        column.addWidget(self.perturbation)
        column.addWidget(self.form)
        tip = "Compute the edit in the background; Cancel stops it at any step."
        column.addWidget(button("Edit the model", tip, self.edit))
        inside = section(column, "Loss")
        inside.addWidget(self.plot)
        inside.addWidget(self.outcome)
        inside.addWidget(self.report)
        column.addWidget(self.verdict)
        column.addStretch(1)
        perturb.changed.connect(self._show_perturbation)
        session.models_changed.connect(self.form.refresh)
        jobs.runner.progressed.connect(self._on_progress)
        jobs.runner.stopped.connect(self._on_stopped)

    def refresh(self) -> None:
        """Show the project that is open now."""
        self.form.refresh()
        self._clear()
        self.verdict.show_edit("")
        self._show_perturbation()

    def edit(self) -> None:
        """Start the computation of an edit in a separate process."""
        project = self.session.writable
        self.form.fix(**self.perturb.values())
        params = self.form.read()
        self._clear()
        then = self.session.while_open(self._on_done)
        self._is_editing = self.jobs.start("Editing", edit.run, project.path, params, then=then)

    def _clear(self) -> None:
        self._losses = {}
        self.plot.show_curves(())
        self.outcome.setText("")
        self.report.take(None)

    def show_edit(self, name: str) -> None:
        """Show the loss and the figures of a stored edit."""
        self._clear()
        curves = self.session.current.edits.read(name).curves
        self._losses = {
            level_of(layer): [(step, loss) for step, loss in points]
            for layer, points in curves.items()
        }
        self._draw()
        self.verdict.show_edit(name)

    def _show_perturbation(self) -> None:
        self.perturbation.setText(f"<b>Perturbation</b> (tab Perturb): {self.perturb.title}.")

    def _on_progress(self, progress: Progress) -> None:
        loss = progress.values.get("loss")
        if self._is_editing and loss is not None:
            level = _LEVEL.format(int(progress.values.get("level", 0)))
            points = self._losses.setdefault(level, [])
            step = progress.values.get("step", float(len(points)))
            points.append((step, loss))
            self._draw()

    def _draw(self) -> None:
        # As shares of the first loss: the losses of fine levels are far larger than of coarse ones.
        curves = []
        for name, points in self._losses.items():
            first = next((loss for _, loss in points if loss), 1.0)
            curves.append(Curve(name, tuple((step, loss / first) for step, loss in points)))
        self.plot.show_curves(curves)

    def _on_stopped(self) -> None:
        self._is_editing = False

    def _on_done(self, result: EditResult) -> None:
        show_done(f"Edited: {result.name}. {result.verdict}")
        self.session.models_changed.emit()
        self.session.edits_changed.emit()
        self.session.predictions_changed.emit()
        self.show_edit(result.name)
        self.outcome.setText(f"<b>{result.verdict}</b>")
        self.report.take(result.report)


def level_of(layer: str) -> str:
    """Return the name of the pyramid level that a layer of the network belongs to.

    Examples
    --------
    >>> level_of("backbone.fpn.layer_blocks.2.0")
    'level 2'
    """
    numbers = [part for part in layer.split(".") if part.isdigit()]
    return _LEVEL.format(numbers[0]) if numbers else layer
