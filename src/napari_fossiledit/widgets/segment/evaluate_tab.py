"""The tab *Evaluate* of the dock *Segment*."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fossiledit.params.segment import EvaluateParams
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.model_choices import FollowedModel, model_choices
from napari_fossiledit.widgets.common.notices import show_result
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.common.tables import Table
from napari_fossiledit.widgets.dock import button, note
from napari_fossiledit.workflows.segment import evaluate

_SHOWN = ("model", "slices")
_LABELS = {
    "score": "Score, rule of the paper",
    "detection_score": "Score, all others",
    "mask_cut": "Edge of the masks",
    "against": "Compare with",
    "views": "Views of each slice",
    "refine": "Draw edges again",
    "class_name": "Kind of fossil",
    "region": "Part of the slices",
    "device": "Compute on",
}


class EvaluateTab(QWidget):
    """Compare a model's predictions with traced slices."""

    def __init__(self, session: Session, jobs: JobPanel) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.form = ParamsForm(
            EvaluateParams,
            advanced=[name for name in EvaluateParams.model_fields if name not in _SHOWN],
            labels=_LABELS,
            choices={"model": model_choices(session)},
        )
        self.table = Table({"name": "Figure", "value": "Value"})
        # The figures stay in the order in which the workflow gives them.
        self.table.setSortingEnabled(False)
        column = QVBoxLayout(self)
        column.addWidget(
            note("Judge a model on traced slices it was not trained on, best on pinned ones.")
        )
        column.addWidget(self.form)
        tip = "Compute precision, recall, overlap (IoU) and the number of missed fossils."
        column.addWidget(button("Evaluate", tip, self.evaluate))
        column.addWidget(self.table)
        FollowedModel(self.form, session)

    def refresh(self) -> None:
        """Offer the models of the project that is open now, and empty the table."""
        self.form.refresh()
        self.table.show_rows([])

    def evaluate(self) -> None:
        """Start evaluating in a separate process: missing predictions are computed too."""
        project = self.session.current
        params = self.form.read()
        then = self.session.while_open(self._show)
        self.jobs.start(
            "Evaluating", evaluate.run, project.path, params, loads_first=True, then=then
        )

    def _show(self, result: Any) -> None:
        self.table.show_rows([{"name": n, "value": v} for n, v in figures(result.summary())])
        show_result("Judged: the figures are in the table.", result)
        self.session.predictions_changed.emit()


def figures(summary: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten a summary into one name and value for each figure; lists are left out.

    Examples
    --------
    >>> list(figures({"paper": {"iou": 0.5}, "slices": [1, 2]}))
    [('paper: iou', 0.5)]
    """
    for key, value in summary.items():
        name = f"{before}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from figures(value, f"{name}: ")
        elif not isinstance(value, list | tuple):
            yield name, value
