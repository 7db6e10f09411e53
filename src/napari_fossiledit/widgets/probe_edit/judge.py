"""The step *Judge*: three figures, one sentence, before and after on the slice, and a decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QMessageBox, QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.project import EditRecord, EditState
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import show_done
from napari_fossiledit.widgets.common.paths import ReportButton
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.common.tables import Table
from napari_fossiledit.widgets.dock import beside, button, fold, note
from napari_fossiledit.widgets.probe_edit.strength_panel import StrengthPanel
from napari_fossiledit.workflows.edit import decide as edits
from napari_fossiledit.workflows.edit.result import Advice, DecisionResult

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
#: The three figures that are seen at once: what they are called, and what they mean.
_PLAIN = {
    "precision": ("Precision", "of what is outlined, is fossil"),
    "recall": ("Recall", "of the fossils, is outlined"),
    "iou": ("Fit (IoU)", "of outlines; 1 is perfect"),
    "matched": ("Found", "traced fossils with a mask"),
}
_SHOWN, _AT_EQUAL_RECALL = ("precision", "recall", "iou"), ("precision", "iou", "matched")
_ARROWS = (
    "▲ clearly more, ▼ clearly less, ≈ no clear change: below stands the range in which the "
    "change lies with 95 % certainty."
)
# As far from the light page as from the dark one, and told apart by the colour-blind.
_BETTER, _WORSE = "#008a64", "#d55e00"
_STATES = {
    EditState.PROPOSED: "not decided yet",
    EditState.KEPT: "kept",
    EditState.ROLLED_BACK: "rolled back",
}
_NOT_JUDGED = (
    "It was not judged: no traced slice was left to judge it. Look at it on the slice before you "
    "keep it."
)
_NO_VERDICT = "Read the figures: this edit was made before a verdict was stored."
_TRY_FIRST = (
    "This edit is no better than masks cut a little tighter, which costs nothing. Several views "
    "and a refiner gain more: try them first."
)


class Judge(QWidget):
    """Figures of one edit before and after, its strength, and *Keep* or *Roll back*."""

    def __init__(self, session: Session, jobs: JobPanel, warm: WarmProcess) -> None:
        super().__init__()
        self.session, self.jobs, self.warm = session, jobs, warm
        self.edit = ""
        self.title, self.verdict, self.below = note(""), note(""), note("")
        figures = QWidget()
        self.figures = QGridLayout(figures)
        self.figures.setContentsMargins(0, 0, 0, 0)
        self.figures.setColumnStretch(0, 1)
        self.try_first = QWidget()
        inside = QVBoxLayout(self.try_first)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addWidget(note(_TRY_FIRST))
        inside.addWidget(
            button(
                "Go to Segment",
                "Predict with several views or a refiner.",
                lambda: session.page_requested.emit("Segment"),
            )
        )
        self.strength = StrengthPanel(session, jobs, warm)
        self.report = ReportButton()
        self.table = Table(_HEADINGS)
        # The figures stay in the order of `MEASURES`.
        self.table.setSortingEnabled(False)
        self.table.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
        self.table.setToolTip(_TABLE_TOOLTIP)
        # The page is narrow: the range stands in the tooltip of a row.
        self.table.hideColumn(list(_HEADINGS).index("interval"))
        self.table.setAccessibleName("Figures before and after")
        self.warnings = note("")
        column = QVBoxLayout(self)
        column.addWidget(self.verdict)
        column.addWidget(figures)
        column.addWidget(self.below)
        column.addWidget(
            beside(
                button("Keep", "Use the edit at this strength from now on.", self.keep),
                button(
                    "Roll back",
                    "Use the model before the edit again; nothing of it was changed.",
                    self.back,
                ),
            )
        )
        column.addWidget(self.strength)
        column.addWidget(self.try_first)
        column.addWidget(self.title)
        inside = fold(column, "All figures")
        inside.addWidget(self.warnings)
        inside.addWidget(self.table)
        inside.addWidget(self.strength.more)
        inside.addWidget(self.report)
        self.show_edit("")

    def show_edit(self, name: str, report: Path | None = None) -> None:
        """Show an edit of the open project; where `name` is empty, none."""
        self.edit = name
        self.report.take(report)
        self.strength.show_edit("")
        if name:
            record = self._show_record()
            self.strength.show_edit(name, record.strength, record.judged.get("tried", ()))

    def _show_record(self) -> EditRecord:
        record = self.session.current.edits.read(self.edit)
        judged, state = record.judged, _STATES[EditState(record.state)]
        self.title.setText(f"{record.name}, an edit of {record.parent}: {state}.")
        is_judged = "after" in judged
        verdict = judged.get("verdict") or (_NO_VERDICT if is_judged else _NOT_JUDGED)
        self.verdict.setText(f"<b>{verdict}</b>")
        self.try_first.setVisible(judged.get("advice") == Advice.CUT)
        self._show_figures(judged)
        self.table.show_rows(judged_rows(judged))
        self.warnings.setText("<br>".join(judged.get("warnings", ())))
        self.warnings.setVisible(bool(judged.get("warnings")))
        return record

    def _show_figures(self, judged: Mapping[str, Any]) -> None:
        while (item := self.figures.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        rows, below = plain_figures(judged)
        for row, (key, pair, change, interval) in enumerate(rows):
            name, means = _PLAIN[key]
            sure = interval is not None and interval[0] * interval[1] > 0
            arrow = ("▲ " if change > 0 else "▼ ") if sure else "≈ " if interval else ""
            colour = (_BETTER if change > 0 else _WORSE) if sure else ""
            digits = 0 if key == "matched" else 3
            spread = f"{interval[0]:+.{digits}f} to {interval[1]:+.{digits}f}" if interval else ""
            told = QLabel(f"<b>{arrow}{change:+.{digits}f}</b><br><small>{spread}</small>")
            if colour:
                told.setStyleSheet(f"color: {colour};")
            words = note(f"<b>{name}</b> <nobr>{pair}</nobr><br><small>{means}</small>")
            for column, label in enumerate((words, told)):
                label.setToolTip(_ARROWS)
                self.figures.addWidget(label, row, column)
        self.below.setText(below)
        self.below.setVisible(bool(below))

    def keep(self) -> None:
        """Use the edit at the strength of the slider; ask first where the verdict is against it."""
        if self.edit:
            judged = self.session.current.edits.read(self.edit).judged
            if judged.get("advice") == Advice.ROLL_BACK and not self._is_sure(judged["verdict"]):
                return
        self._decide("Keeping", edits.apply, float(self.strength.strength.value()))

    def _is_sure(self, verdict: str) -> bool:
        answer = QMessageBox.question(
            self.window(), "Keep the edit?", f"The verdict is: {verdict}\n\nKeep it all the same?"
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    def back(self) -> None:
        """Use the parent again."""
        self._decide("Rolling back", edits.rollback)

    def _decide(self, title: str, function: Callable[..., object], *args: object) -> None:
        if not self.edit:
            raise FossilError(
                "No edit is chosen", advice="Mend the model, or choose an edit in the history."
            )
        path = self.session.writable.path
        then = self.session.while_open(self._on_decided)
        # In the process that stays: it holds the model already.
        self.jobs.start(
            title, self.warm.call, function, path, self.edit, *args, in_process=False, then=then
        )

    def _on_decided(self, result: DecisionResult) -> None:
        record = result.record
        # The user may look at another edit by now.
        if record.name == self.edit:
            self._show_record()
        if record.state is EditState.KEPT:
            show_done(
                f"{record.name} is kept and in use. Predict again to see what it finds.",
                ("Go to Segment", lambda: self.session.page_requested.emit("Segment")),
            )
        else:
            show_done(f"{record.name} is rolled back: {result.in_use} is used again.")
        self.session.models_changed.emit()
        self.session.edits_changed.emit()


Figure = tuple[str, str, float, tuple[float, float] | None]


def plain_figures(judged: Mapping[str, Any]) -> tuple[list[Figure], str]:
    """Return the three figures that tell most, and what they are compared with.

    Parameters
    ----------
    judged
        Of the record of an edit: ``"at_equal_recall"`` where it can be compared so, else
        ``"before"``, ``"after"`` and ``"deltas"``.

    Returns
    -------
    tuple
        Key, text before and after, change and its 95 % interval of each; a sentence.
    """
    slices = judged.get("slices", "")
    where = f" Nothing was learned from what judges: slice {slices}." if slices else ""
    equal = _mapping(judged.get("at_equal_recall"))
    # Records of before it was stored were read as if it was reached.
    if equal and equal.get("within", True):
        before, after, gains = equal["before"], equal["after"], _mapping(equal["gains"])
        keys = _AT_EQUAL_RECALL
        words = (
            f"Against the model without the edit, its masks cut at {equal['cut']:.2f} so that both"
            f" outline {equal['recall_all']:.0%} of the fossils.{where}"
        )
    else:
        before, after = _mapping(judged.get("before")), _mapping(judged.get("after"))
        gains, keys = _mapping(judged.get("deltas")), _SHOWN
        words = f"Not at equal recall: a tighter mask cut may give as much.{where}"
    rows: list[Figure] = []
    for key in keys:
        old, new = _number(before.get(key)), _number(after.get(key))
        if old is None or new is None:
            continue
        pair = f"{old:.0f} → {new:.0f}" if key == "matched" else f"{old:.3f} → {new:.3f}"
        interval = _mapping(gains.get(key)).get("interval_95")
        rows.append((key, pair, new - old, tuple(interval) if interval else None))
    return rows, words if rows else ""


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
