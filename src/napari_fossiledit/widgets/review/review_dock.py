"""The page *Review*: doubtful places, tools to correct masks, and what was done."""

from __future__ import annotations

import napari
from qtpy.QtGui import QHideEvent, QShowEvent

from napari_fossiledit.params.review import AgreementParams
from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.common.notices import counted, show_done
from napari_fossiledit.widgets.dock import Dock, button, fold, section
from napari_fossiledit.widgets.review.correct_tab import CorrectTab
from napari_fossiledit.widgets.review.history_panel import HistoryPanel
from napari_fossiledit.widgets.review.queue_panel import QueuePanel
from napari_fossiledit.widgets.review.teach_panel import TeachPanel
from napari_fossiledit.widgets.review.through_panel import ThroughPanel
from napari_fossiledit.widgets.segment.picked_panel import PickedPanel
from napari_fossiledit.widgets.segment.score_picker import picker_of
from napari_fossiledit.workflows.review import agreement

TITLE = "Review"
EMPTY = (
    "<b>No project is open.</b><br>Here you correct what a model found, and draw what it missed. "
    'Open a project on the page "Start here" first.'
)


class ReviewDock(Dock):
    """Look at doubtful places, correct masks, mark slices as traced."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, TITLE, EMPTY)
        self.picker = picker_of(self.session)
        self.queue = QueuePanel(self.session, self.jobs)
        self.correct = CorrectTab(self.session, self.jobs, self.picker)
        self.through = ThroughPanel(self.session, self.jobs)
        self.teach = TeachPanel(self.session, self.jobs)
        self.history = HistoryPanel(self.session, self.jobs)
        section(self.column, "What to look at").addWidget(self.queue)
        correct = section(self.column, "Correct")
        correct.addWidget(PickedPanel(self.session))
        correct.addWidget(self.correct)
        fold(self.column, "Through the slices").addWidget(self.through)
        fold(self.column, "Teach the model").addWidget(self.teach)
        fold(self.column, "What was done, and versions").addWidget(self.history)
        self._predictions = fold(self.column, "Predictions on show")
        self._predictions.addWidget(
            button(
                "Compare with what is right",
                "Count the predictions on show against the masks that you found right.",
                self.compare,
            )
        )
        self._on_project()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802
        """Have the picker on this page."""
        self._predictions.addWidget(self.picker)
        self.picker.show()
        super().showEvent(event)

    def hideEvent(self, event: QHideEvent | None) -> None:  # noqa: N802
        """Outline no place any more once the page is left."""
        super().hideEvent(event)
        attach(self.session).queue.leave()
        attach(self.session).selection.leave()

    def compare(self) -> None:
        """Compare the predictions on show with the review."""
        params = AgreementParams(
            source=self.picker.source, score=self.picker.score, mask_cut=self.picker.mask_cut
        )
        then = self.session.while_open(self._on_compared)
        path = self.session.current.path
        self.jobs.start("Comparing", agreement.run, path, params, in_process=False, then=then)

    def _on_compared(self, result: agreement.AgreementResult) -> None:
        said = [f"On {counted(len(result.slices), 'slice')} that you found right:"]
        for each in result.classes:
            alike = "" if each.iou is None else f" (mean IoU {each.iou:.2f})"
            said.append(
                f"{each.class_name}: {each.kept} kept, {each.changed} with another outline{alike}, "
                f"{each.wrong} wrong, {each.missed} missed."
            )
        show_done("\n".join(said))

    def refresh(self) -> None:
        """Show the project that is open now."""
        self.correct.refresh()
        self.through.refresh()
        self.teach.refresh()
        self.history.refresh()
