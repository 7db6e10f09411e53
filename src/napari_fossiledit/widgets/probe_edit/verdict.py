"""What an edit brought and cost, and whether it stays."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.project import EditRecord, EditState
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import show_done, summary_text
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, note, section
from napari_fossiledit.widgets.probe_edit.judged_table import JudgedTable
from napari_fossiledit.widgets.probe_edit.strength_panel import StrengthPanel
from napari_fossiledit.workflows.edit import decide as edits

_STATES = {
    EditState.PROPOSED: "proposed: neither kept nor rolled back yet",
    EditState.KEPT: "kept",
    EditState.ROLLED_BACK: "rolled back",
}
_UNJUDGED = 'It was not judged. Pin traced slices in the dock "Stack": they only judge.'
_NONE = "Make one, or choose one on the page History."


class Verdict(QWidget):
    """Figures of one edit before and after, its strength, and *Keep* or *Roll back*.

    Signals
    -------
    decided
        The edit was kept or rolled back.
    """

    decided = Signal()

    def __init__(self, session: Session, jobs: JobPanel, warm: WarmProcess) -> None:
        super().__init__()
        self.session, self.jobs, self.warm = session, jobs, warm
        self.edit = ""
        self.title = note("")
        self.table = JudgedTable()
        self.warnings = note("")
        self.strength = StrengthPanel(session, jobs, warm)
        keep = button("Keep", "Use the edit at this strength from now on.", self.keep)
        back = button(
            "Roll back",
            "Use the model before the edit again; nothing of it was changed.",
            self.back,
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        judged = section(column, "Before and after")
        judged.addWidget(self.title)
        judged.addWidget(self.table)
        judged.addWidget(self.warnings)
        judged.addWidget(beside(keep, back))
        section(column, "Strength").addWidget(self.strength)
        self.show_edit("")

    def show_edit(self, name: str) -> None:
        """Show an edit of the open project; empty: none, and nothing of this is seen."""
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
        self.table.show_judged(record.judged)
        told = [f"<b>{text}</b>" for text in record.judged.get("warnings", ())]
        if not told and "after" not in record.judged:
            told = [_UNJUDGED]
        self.warnings.setText("<br>".join(told))
        return record

    def keep(self) -> None:
        """Use the edit at the strength of the slider."""
        strength = float(self.strength.strength.value())
        self._decide("Keeping", edits.apply, self._chosen(), strength)

    def back(self) -> None:
        """Use the parent again."""
        self._decide("Rolling back", edits.rollback, self._chosen())

    def _chosen(self) -> str:
        if not self.edit:
            raise FossilError("No edit is chosen", advice=_NONE)
        return self.edit

    def _decide(self, title: str, function: Callable[..., object], *args: object) -> None:
        path = self.session.writable.path
        then = self.session.while_open(self._on_decided)
        self.jobs.start(title, self.warm.call, function, path, *args, in_process=False, then=then)

    def _on_decided(self, result: object) -> None:
        show_done(summary_text("Done", result))
        if self.edit in self.session.current.edits.names():
            self._show_record()
        self.session.models_changed.emit()
        self.session.edits_changed.emit()
        self.decided.emit()
