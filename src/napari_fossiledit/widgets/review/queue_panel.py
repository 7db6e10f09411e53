"""The queue on the page *Review*: how far the review has come, and the place on show."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QComboBox, QProgressBar, QVBoxLayout, QWidget

from napari_fossiledit.params.review import QueueParams
from napari_fossiledit.selection import Doubt
from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.canvas.shortcuts import REVIEWING, Shortcut
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import show_result
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, note
from napari_fossiledit.workflows.review.queue import QueueResult, build

HELP = (
    "The masks are looked through for places where something may be wrong. You see those first "
    "where most of the volume is at stake."
)
_ANY = "any doubt"


class QueuePanel(QWidget):
    """Builds the queue, and goes through it."""

    def __init__(self, session: Session, jobs: JobPanel) -> None:
        super().__init__()
        self.session, self.jobs, self.queue = session, jobs, attach(session).queue
        self.starter = button(
            "Look through all",
            "Find the places that are worth a look, in the background.",
            self.build,
        )
        self.progress = QProgressBar()
        self.progress.setFormat("%v of %m masks are right")
        self.progress.setToolTip("Masks that you have found right, or that you traced.")
        self.doubts = QComboBox()
        self.doubts.setToolTip("Kind of doubt that you want to see.")
        self.doubts.setAccessibleName("Kind of doubt")
        self.doubts.currentIndexChanged.connect(self._on_doubt)
        self.text = note(HELP)
        made = {s.text: keyed(session, s) for s in REVIEWING if s.text}
        self.right, self.wrong = made["Right"], made["Wrong"]
        self.decide = beside(self.right, self.wrong)
        self.go = beside(made["Previous"], made["Next"])
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.progress, self.text, self.decide, self.go, self.doubts):
            column.addWidget(widget)
        column.addWidget(beside(self.starter, made["All are right"]))
        self.queue.changed.connect(self._show)
        self._show()

    def build(self) -> None:
        """Look through all masks in a thread, and show the first place."""
        path = self.session.writable.path
        then = self.session.while_open(self._on_built)
        title = "Looking through masks"
        self.jobs.start(title, build, path, QueueParams(), in_process=False, then=then)

    def _on_built(self, result: QueueResult) -> None:
        count = sum(result.counts.values())
        show_result(f"{count} places are worth a look.", result)
        self.queue.step(0)

    def _on_doubt(self, _: int) -> None:
        self.queue.choose(str(self.doubts.currentData() or ""))

    def _show(self) -> None:
        result = self.queue.result
        for widget in (self.progress, self.decide, self.go, self.doubts):
            widget.setVisible(result is not None)
        self.text.setText(HELP if result is None else self.queue.text)
        self.starter.setText("Look through all" if result is None else "Look again")
        if result is None:
            return
        self.decide.setEnabled(self.queue.shown is not None)
        right, wrong = self.queue.answers
        self.right.setText(right)
        self.wrong.setText(wrong)
        self.wrong.setVisible(bool(wrong))
        # A bar of nothing would run to and fro.
        self.progress.setMaximum(max(result.masks, 1))
        self.progress.setValue(result.reviewed)
        items: list[tuple[str, Any]] = [(f"{_ANY} ({sum(result.counts.values())})", "")]
        # Also the chosen one where nothing is left of it.
        shown = (d for d in Doubt if d in result.counts or d == self.queue.doubt)
        items += [(f"{d} ({result.counts.get(d, 0)})", str(d)) for d in shown]
        self.doubts.blockSignals(True)
        self.doubts.clear()
        for text, value in items:
            self.doubts.addItem(text, value)
        self.doubts.setCurrentIndex(max(self.doubts.findData(self.queue.doubt), 0))
        self.doubts.blockSignals(False)


def keyed(session: Session, shortcut: Shortcut) -> Any:
    """Return the button of a key."""
    tip = f"{shortcut.what[0].upper()}{shortcut.what[1:]}."
    return button(shortcut.text, tip, lambda: shortcut.action(session), shortcut=shortcut.key)
