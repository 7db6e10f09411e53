"""Figures of an edit before and after, its strength, and the decision to keep it or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.project import EditRecord, EditState
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import show_done, summary_text
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.common.tables import Table
from napari_fossiledit.widgets.dock import beside, button, note, section
from napari_fossiledit.widgets.probe_edit.strength_panel import StrengthPanel
from napari_fossiledit.workflows.edit import decide as edits

MEASURES = {
    "precision": "Precision",
    "recall": "Recall",
    "iou": "IoU",
    "recall_all": "Recall (all)",
    "iou_all": "IoU (all)",
    "matched": "Matched",
    "missed": "Missed",
    "spurious": "Spurious",
}
_HEADINGS = {
    "name": "Figure",
    "before": "Before",
    "after": "After",
    "change": "Change",
    "interval": "95 % interval",
}
_TABLE_TOOLTIP = (
    "As in the paper: means over the fossils that were found (matched); (all): over all traced "
    "fossils, with 0 for those that were missed."
)
_TABLE_HEIGHT = 200
_STATES = {
    EditState.PROPOSED: "proposed: neither kept nor rolled back yet",
    EditState.KEPT: "kept",
    EditState.ROLLED_BACK: "rolled back",
}
_NOT_JUDGED = (
    'It was not judged. Pin traced slices in the dock "Stack": pinned slices are never trained '
    "on, they only judge."
)


class VerdictPanel(QWidget):
    """Figures of one edit before and after, its strength, and *Keep* or *Roll back*."""

    def __init__(self, session: Session, jobs: JobPanel, warm: WarmProcess) -> None:
        super().__init__()
        self.session, self.jobs, self.warm = session, jobs, warm
        self.edit = ""
        self.title = note("")
        self.table = Table(_HEADINGS)
        # The figures stay in the order of `MEASURES`.
        self.table.setSortingEnabled(False)
        self.table.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
        self.table.setMinimumHeight(_TABLE_HEIGHT)
        self.table.setToolTip(_TABLE_TOOLTIP)
        self.table.setAccessibleName("Figures before and after")
        self.warnings = note("")
        self.strength = StrengthPanel(session, jobs, warm)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        judged = section(column, "Before and after")
        judged.addWidget(self.title)
        judged.addWidget(self.table)
        judged.addWidget(self.warnings)
        judged.addWidget(
            beside(
                button("Keep", "Use the edit at this strength from now on.", self.keep),
                button(
                    "Roll back",
                    "Use the model before the edit again; nothing of it was changed.",
                    self.back,
                ),
            )
        )
        section(column, "Strength").addWidget(self.strength)
        self.show_edit("")

    def show_edit(self, name: str) -> None:
        """Show an edit of the open project; where `name` is empty the panel is hidden."""
        self.edit = name
        self.setVisible(bool(name))
        if not name:
            self.strength.show_edit("")
            return
        record = self._show_record()
        self.strength.show_edit(name, record.strength, record.judged.get("tried", ()))

    def _show_record(self) -> EditRecord:
        record = self.session.current.edits.read(self.edit)
        state = _STATES[EditState(record.state)]
        text = f"<b>{record.name}</b> of {record.parent}, {state}; strength {record.strength:g}."
        self.title.setText(text)
        self.table.show_rows(judged_rows(record.judged))
        warnings = [f"<b>{text}</b>" for text in record.judged.get("warnings", ())]
        if not warnings and "after" not in record.judged:
            warnings = [_NOT_JUDGED]
        self.warnings.setText("<br>".join(warnings))
        return record

    def keep(self) -> None:
        """Use the edit at the strength of the slider."""
        self._decide("Keeping", edits.apply, float(self.strength.strength.value()))

    def back(self) -> None:
        """Use the parent again."""
        self._decide("Rolling back", edits.rollback)

    def _decide(self, title: str, function: Callable[..., object], *args: object) -> None:
        if not self.edit:
            raise FossilError(
                "No edit is chosen", advice="Make one, or choose one in the tab History."
            )
        path = self.session.writable.path
        then = self.session.while_open(self._on_decided)
        # In the process that stays: it holds the model already.
        self.jobs.start(
            title, self.warm.call, function, path, self.edit, *args, in_process=False, then=then
        )

    def _on_decided(self, result: object) -> None:
        show_done(summary_text("Done", result))
        if self.edit in self.session.current.edits.names():
            self._show_record()
        self.session.models_changed.emit()
        self.session.edits_changed.emit()


def judged_rows(judged: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return rows of figures before and after.

    Parameters
    ----------
    judged
        ``"before"`` and ``"after"`` with the figures of the paper's protocol, and where there are
        any, ``"deltas"`` with their 95 % intervals; empty: no rows.

    Examples
    --------
    >>> rows = judged_rows({"before": {"matched": 4}, "after": {"matched": 5}})
    >>> rows[0]["name"], rows[0]["change"]
    ('Matched', '+1')
    """
    rows = []
    for key, title in MEASURES.items():
        before, after = (_number(judged.get(when, {}).get(key)) for when in ("before", "after"))
        if before is None and after is None:
            continue
        interval = _mapping(_mapping(judged.get("deltas")).get(key)).get("interval_95")
        rows.append(
            {
                "name": title,
                "before": _text(before),
                "after": _text(after),
                "change": "" if before is None or after is None else _text(after - before, "+"),
                "interval": "" if not interval else f"{interval[0]:+.3f} to {interval[1]:+.3f}",
            }
        )
    return rows


def _text(value: float | None, sign: str = "") -> str:
    """Return counts as whole numbers and shares with three digits."""
    if value is None:
        return ""
    return f"{value:{sign}d}" if isinstance(value, int) else f"{value:{sign}.3f}"


def _number(value: Any) -> float | None:
    """Return the value of a figure, which may be stored alone or with its spread."""
    number = value.get("mean") if isinstance(value, Mapping) else value
    return number if isinstance(number, int | float) and not isinstance(number, bool) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
