"""The tab *Probe* of the dock *Probe & Edit*."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fossiledit.evaluation.changes import Change, Kind
from napari_fossiledit.params.perturb import PerturbParams, Preset
from napari_fossiledit.params.probe import ALL, ProbeParams
from napari_fossiledit.widgets.canvas.before_after import BeforeAfter
from napari_fossiledit.widgets.canvas.layers import Role
from napari_fossiledit.widgets.canvas.pointing import look_at
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.model_choices import model_choices
from napari_fossiledit.widgets.common.paths import ReportButton
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.common.tables import Table
from napari_fossiledit.widgets.dock import button, note, section
from napari_fossiledit.widgets.probe_edit.perturb_tab import PerturbTab
from napari_fossiledit.workflows.probe import run as probe
from napari_fossiledit.workflows.probe.result import ProbeResult

HELP = (
    "Let a model predict changed slices and compare: what misleads it most? Double-click a row to "
    "look at the place."
)
_SHOWN = ("model", "slices", "presets")
_HEADINGS = {
    "kind": "What",
    "sits_on": "Sits on",
    "slice": "Slice",
    "perturbation": "Perturbation",
    "share_on": "Share on it",
    "score_before": "Score before",
    "score_after": "Score after",
    "iou": "IoU",
}
_NOT_PROBED = "Nothing was probed yet."


class ProbeTab(QWidget):
    """Predict changed slices, read which change misleads the model most, look at the places."""

    def __init__(self, session: Session, jobs: JobPanel, perturb: PerturbTab) -> None:
        super().__init__()
        self.session, self.jobs, self.perturb = session, jobs, perturb
        self.layers = BeforeAfter(session)
        # The perturbation is chosen in the tab Perturb.
        hidden = tuple(PerturbParams.model_fields)
        self.form = ParamsForm(
            ProbeParams,
            hidden=hidden,
            advanced=[n for n in ProbeParams.model_fields if n not in (*hidden, *_SHOWN)],
            choices={"model": model_choices(session), "presets": lambda: [ALL, *Preset]},
        )
        self.weakness = note(_NOT_PROBED)
        self.table = Table(_HEADINGS)
        self.report = ReportButton()
        self.table.setAccessibleName("What changed")
        # Unsorted, as the probe gives them: the largest gained ones first.
        self.table.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
        self.table.opened.connect(self.look_at)
        column = QVBoxLayout(self)
        column.addWidget(note(HELP))
        column.addWidget(self.form)
        tip = "Predict the slices as they are and changed, in the background."
        column.addWidget(button("Probe", tip, self.probe))
        inside = section(column, "Result")
        inside.addWidget(self.weakness)
        inside.addWidget(self.table)
        inside.addWidget(self.report)
        column.addStretch(1)
        session.models_changed.connect(self.form.refresh)

    def refresh(self) -> None:
        """Show the project that is open now, without a report."""
        self.form.refresh()
        self.weakness.setText(_NOT_PROBED)
        self.table.show_rows([])
        self.report.take(None)

    def probe(self) -> None:
        """Start probing in a separate process."""
        project = self.session.current
        # With the steps of the tab Perturb whatever preset is chosen there: the presets to probe,
        # of which custom is one, are chosen here.
        steps = self.perturb.steps.steps
        self.form.fix(**{**self.perturb.values(), "steps": steps})
        params = self.form.read()
        then = self.session.while_open(self._show)
        self.jobs.start("Probing", probe.run, project.path, params, then=then)

    def _show(self, result: ProbeResult) -> None:
        advice = result.summary().get("advice", "")
        self.weakness.setText(f"<b>{result.weakness}</b><br>{advice}")
        self.table.show_rows(rows_of(result))
        self.report.take(result.report)
        self.session.predictions_changed.emit()

    def look_at(self, row: Mapping[str, Any]) -> None:
        """Show the slice of a change with the instance in the middle of the canvas."""
        change: Change = row["change"]
        look_at(self.session, change.slice, change.box)
        # The same id, so that both have the same colour.
        before, after = ((replace(i, id=1),) if i else () for i in (change.before, change.after))
        self.layers.show(change.slice, before, after)
        self.layers.see(Role.AFTER if after else Role.BEFORE)


def rows_of(result: ProbeResult) -> list[dict[str, Any]]:
    """Return a table row for each instance that changed."""
    return [
        {
            **change.summary(),
            "perturbation": name.replace("-", " "),
            "sits_on": change.sits_on or "no class",
            "change": change,
        }
        for name, change in result.changes
        if change.kind is not Kind.SAME
    ]
