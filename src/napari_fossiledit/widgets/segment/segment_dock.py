"""The dock *Segment*: from models to instances on every slice."""

from __future__ import annotations

import napari
from qtpy.QtWidgets import QTabWidget, QWidget

from napari_fossiledit.widgets.dock import Dock, section
from napari_fossiledit.widgets.segment.correct_tab import CorrectPage
from napari_fossiledit.widgets.segment.evaluate_tab import EvaluatePage
from napari_fossiledit.widgets.segment.models_tab import ModelsPage
from napari_fossiledit.widgets.segment.predict_tab import PredictPage
from napari_fossiledit.widgets.segment.score_picker import ScorePicker
from napari_fossiledit.widgets.segment.train_tab import TrainPage

TITLE = "Segment"
EMPTY = (
    "<b>No project is open.</b><br>Here a model learns from traced slices and finds the fossils on "
    'all others. Open a project in the dock "Start here" first.'
)


class SegmentDock(Dock):
    """Train, predict, look, evaluate, correct; models in and out."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, TITLE, EMPTY)
        self.picker = ScorePicker(self.session)
        section(self.column, "Shown over the stack").addWidget(self.picker)
        self.predict = PredictPage(self.session, self.jobs)
        self.correct = CorrectPage(self.session, self.jobs, self.picker)
        self.evaluate = EvaluatePage(self.session, self.jobs)
        self.train = TrainPage(self.session, self.jobs)
        self.models = ModelsPage(self.session, self.jobs)
        self.pages = QTabWidget()
        self.pages.setDocumentMode(True)
        for title, page in self._pages().items():
            self.pages.addTab(page, title)
        self.column.addWidget(self.pages)
        self.predict.predicted.connect(self._on_predicted)
        self.jobs.runner.stopped.connect(self._on_stopped)
        self.session.annotations_changed.connect(self.train.refresh)
        self._on_project()

    def _pages(self) -> dict[str, QWidget]:
        return {
            "Predict": self.predict,
            "Correct": self.correct,
            "Evaluate": self.evaluate,
            "Train": self.train,
            "Models": self.models,
        }

    def refresh(self) -> None:
        """Show the project that is open now."""
        self.picker.refresh()
        for page in (self.predict, self.correct, self.evaluate, self.train, self.models):
            page.refresh()

    def _on_predicted(self, source: str) -> None:
        """Show what the model found."""
        self.picker.refresh()
        self.picker.pick(source)

    def _on_stopped(self) -> None:
        """Also a cancelled job leaves finished slices."""
        if self.session.project is not None:
            self.session.predictions_changed.emit()
