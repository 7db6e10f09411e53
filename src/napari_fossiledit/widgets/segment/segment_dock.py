"""The page *Segment*: from models to instances on every slice."""

from __future__ import annotations

import napari
from qtpy.QtGui import QShowEvent

from napari_fossiledit.widgets.common.tabs import Tabs
from napari_fossiledit.widgets.dock import Dock
from napari_fossiledit.widgets.segment.evaluate_tab import EvaluateTab
from napari_fossiledit.widgets.segment.models_tab import ModelsTab
from napari_fossiledit.widgets.segment.predict_tab import PredictTab
from napari_fossiledit.widgets.segment.score_picker import picker_of
from napari_fossiledit.widgets.segment.train_tab import TrainTab

TITLE = "Segment"
EMPTY = (
    "<b>No project is open.</b><br>Here a model learns from traced slices and finds the fossils on "
    'all others. Open a project on the page "Start here" first.'
)


class SegmentDock(Dock):
    """Predict, evaluate and train; models in and out."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, TITLE, EMPTY)
        self.picker = picker_of(self.session)
        self.column.addWidget(self.picker)
        self.predict = PredictTab(self.session, self.jobs)
        self.evaluate = EvaluateTab(self.session, self.jobs)
        self.train = TrainTab(self.session, self.jobs)
        self.models = ModelsTab(self.session, self.jobs)
        self.tab_of: dict[str, PredictTab | EvaluateTab | TrainTab | ModelsTab] = {
            "Predict": self.predict,
            "Evaluate": self.evaluate,
            "Train": self.train,
            "Models": self.models,
        }
        self.tabs = Tabs()
        for title, tab in self.tab_of.items():
            self.tabs.addTab(tab, title)
        self.column.addWidget(self.tabs)
        self.tabs.currentChanged.connect(self._on_tab)
        self.predict.predicted.connect(self._on_predicted)
        self.jobs.runner.stopped.connect(self._on_stopped)
        self.session.annotations_changed.connect(self.train.refresh)
        self._on_project()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802
        """Have the picker on this page."""
        self.column.insertWidget(0, self.picker)
        self._on_tab()
        super().showEvent(event)

    def _on_tab(self) -> None:
        """Show the picker beside what it is for: elsewhere it takes the room of the buttons."""
        self.picker.setVisible(self.tabs.currentWidget() is self.predict)

    def refresh(self) -> None:
        """Show the project that is open now."""
        for tab in self.tab_of.values():
            tab.refresh()

    def _on_predicted(self, source: str) -> None:
        self.picker.refresh()
        self.picker.pick(source)

    def _on_stopped(self) -> None:
        # A cancelled job, too, leaves finished slices that can be shown.
        if self.session.project is not None:
            self.session.predictions_changed.emit()
