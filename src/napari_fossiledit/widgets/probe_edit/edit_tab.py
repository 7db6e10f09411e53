"""The page *Edit* of the dock *Probe & Edit*."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
from napari_fossiledit.widgets.common.report_button import ReportButton
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import button, note, section
from napari_fossiledit.widgets.probe_edit.perturb_tab import PerturbPage
from napari_fossiledit.widgets.probe_edit.verdict import Verdict
from napari_fossiledit.workflows.edit import run as edit
from napari_fossiledit.workflows.edit.result import EditResult

HELP = (
    "Rewrite the model so that it sees the slices as if they were perturbed. It is judged on the "
    "pinned slices; the model itself is never changed."
)
_EMPTY = "The loss of each level appears here while the edit is solved."
_LEVEL = "level {}"
_SHOWN = ("name", "model", "slices", "preserve", "tuning", "pinned", "solver", "scope")


class EditPage(QWidget):
    """Solve for an edit, watch it, judge it."""

    def __init__(
        self, session: Session, jobs: JobPanel, warm: WarmProcess, perturb: PerturbPage
    ) -> None:
        super().__init__()
        self.session, self.jobs, self.perturb = session, jobs, perturb
        hidden = tuple(PerturbParams.model_fields)
        rest = [n for n in EditParams.model_fields if n not in (*hidden, *_SHOWN)]
        choices = {"model": model_choices(session)}
        form = ParamsForm(EditParams, hidden=hidden, advanced=rest, choices=choices)
        self.form = only_installed_backends(form)
        self.what = note("")
        self.plot = CurvePlot("step", "loss, as share of the first", _EMPTY)
        self.verdict = Verdict(session, jobs, warm)
        self._losses: dict[str, list[Point]] = {}
        self._runs = False
        self.outcome, self.report = note(""), ReportButton()
        self.start = button(
            "Edit the model", "Solve in the background; Cancel stops it at any step.", self.edit
        )
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.addWidget(note(HELP))
        column.addWidget(self.what)
        column.addWidget(self.form)
        column.addWidget(self.start)
        solved = section(column, "Loss")
        solved.addWidget(self.plot)
        solved.addWidget(self.outcome)
        solved.addWidget(self.report)
        column.addWidget(self.verdict)
        column.addStretch(1)

    def _connect(self) -> None:
        self.perturb.changed.connect(self._tell)
        self.session.models_changed.connect(self.form.refresh)
        self.jobs.runner.progressed.connect(self._on_progress)
        self.jobs.runner.stopped.connect(self._on_stopped)

    def refresh(self) -> None:
        """Show the project that is open now."""
        self.form.refresh()
        self._forget()
        self.verdict.show_edit("")
        self._tell()

    def edit(self) -> None:
        """Start solving in a process of its own."""
        project = self.session.writable
        self.form.fix(**self.perturb.values())
        params = self.form.read()
        self._forget()
        then = self.session.while_open(self._on_done)
        self._runs = self.jobs.start("Editing", edit.run, project.path, params, then=then)

    def _forget(self) -> None:
        """Forget the edit that was made last."""
        self._losses = {}
        self.plot.show_curves(())
        self.outcome.setText("")
        self.report.take(None)

    def show_edit(self, name: str) -> None:
        """Show an edit that was made before."""
        self._forget()
        curves = self.session.current.edits.read(name).curves
        self._losses = {
            level_of(layer): [(step, loss) for step, loss in points]
            for layer, points in curves.items()
        }
        self._draw()
        self.verdict.show_edit(name)

    def _tell(self) -> None:
        self.what.setText(f"<b>Perturbation</b> (page Perturb): {self.perturb.title}.")

    def _on_progress(self, progress: Progress) -> None:
        """Add a point to the curve of a level."""
        loss = progress.values.get("loss")
        if self._runs and loss is not None:
            level = _LEVEL.format(int(progress.values.get("level", 0)))
            points = self._losses.setdefault(level, [])
            step = progress.values.get("step", float(len(points)))
            points.append((step, loss))
            self._draw()

    def _draw(self) -> None:
        """Draw the losses as shares of the first one: those of fine levels are far larger."""
        self.plot.show_curves(
            [Curve(name, tuple(_shares(points))) for name, points in self._losses.items()]
        )

    def _on_stopped(self) -> None:
        self._runs = False

    def _on_done(self, result: EditResult) -> None:
        show_done(f"Edited: {result.name}. {result.verdict}")
        self.session.models_changed.emit()
        self.session.edits_changed.emit()
        self.session.predictions_changed.emit()
        self.show_edit(result.name)
        self.outcome.setText(f"<b>{result.verdict}</b>")
        self.report.take(result.page)


def _shares(points: Sequence[Point]) -> Iterator[Point]:
    first = next((loss for _, loss in points if loss), 1.0)
    return ((step, loss / first) for step, loss in points)


def level_of(layer: str) -> str:
    """Name the level of the pyramid that a layer belongs to.

    Examples
    --------
    >>> level_of("backbone.fpn.layer_blocks.2.0")
    'level 2'
    """
    numbers = [part for part in layer.split(".") if part.isdigit()]
    return _LEVEL.format(numbers[0]) if numbers else layer
