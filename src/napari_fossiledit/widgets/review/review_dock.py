"""The page *Review*: what the model found, corrected by hand."""

from __future__ import annotations

import napari
from qtpy.QtGui import QShowEvent

from napari_fossiledit.widgets.dock import Dock
from napari_fossiledit.widgets.review.correct_tab import CorrectTab
from napari_fossiledit.widgets.segment.score_picker import picker_of

TITLE = "Review"
EMPTY = (
    "<b>No project is open.</b><br>Here you correct what a model found, and draw what it missed. "
    'Open a project on the page "Start here" first.'
)


class ReviewDock(Dock):
    """Take predictions over, correct them, mark slices as traced."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, TITLE, EMPTY)
        self.picker = picker_of(self.session)
        self.correct = CorrectTab(self.session, self.jobs, self.picker)
        self.column.addWidget(self.picker)
        self.column.addWidget(self.correct)
        self._on_project()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802
        """Have the picker on this page."""
        self.column.insertWidget(0, self.picker)
        self.picker.show()
        super().showEvent(event)

    def refresh(self) -> None:
        """Show the project that is open now."""
        self.correct.refresh()
