"""Which predictions are shown over the stack, and from which score on."""

from __future__ import annotations

from napari.layers import Labels
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QWidget
from superqt import QLabeledDoubleSlider

from napari_fossiledit.project import Source
from napari_fossiledit.widgets.canvas.layers import (
    Role,
    describe,
    find,
    prediction_array,
    remove,
    show_predictions,
)
from napari_fossiledit.widgets.common.notices import errors_shown
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import note
from napari_fossiledit.workflows.shared.sources import shown_sources

_NOTHING = "nothing"
_EVERY_CLASS = "every class"


class ScorePicker(QWidget):
    """A source and a score; owns the predictions' layer while it exists.

    Signals
    -------
    picked(str)
        Another source is shown; empty where none is.
    """

    picked = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.sources = QComboBox()
        self.sources.setToolTip("Predictions or annotations to show over the photographs.")
        self.sources.setAccessibleName("Shown")
        self.sources.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.classes = QComboBox()
        self.classes.setToolTip("Class to show.")
        self.classes.setAccessibleName("Class to show")
        self.slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, 1)
        self.slider.setDecimals(2)
        self.slider.setValue(0.5)
        self.slider.setToolTip("Hide predictions the model is less sure of than this.")
        self.count = note("")
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Shown", self.sources)
        form.addRow("Class", self.classes)
        form.addRow("Score", self.slider)
        form.addRow(self.count)
        self._connect()

    def _connect(self) -> None:
        self.sources.currentIndexChanged.connect(self._on_source)
        self.classes.currentIndexChanged.connect(self._show)
        self.slider.valueChanged.connect(self._on_score)
        self.session.slice_changed.connect(self._on_slice)
        self.session.predictions_changed.connect(self.refresh)
        self.session.annotations_changed.connect(self.refresh)

    @property
    def source(self) -> str:
        """The source that is shown, empty where none is."""
        return str(self.sources.currentData() or "")

    @property
    def class_name(self) -> str:
        """The class that is shown, empty for all."""
        return str(self.classes.currentData() or "")

    @property
    def score(self) -> float:
        """The score from which on predictions are shown."""
        return float(self.slider.value())

    @property
    def layer(self) -> Labels | None:
        """The layer of the shown source, where the user has not closed it."""
        found = find(self.session.viewer, Role.PREDICTIONS)
        return found if isinstance(found, Labels) else None

    def refresh(self) -> None:
        """Ask the project again which sources there are, and show the same one if it is there."""
        kept, project = self.source, self.session.project
        names = shown_sources(project) if project is not None else []
        self.sources.blockSignals(True)
        self.sources.clear()
        for name in names:
            self.sources.addItem(Source.parse(name).title, name)
        self.sources.addItem(_NOTHING, "")
        self.sources.blockSignals(False)
        if kept and kept in names and self.layer is not None:
            self._reread(kept)
        else:
            self.pick(kept if kept in names else (names[0] if names else ""))

    def _reread(self, source: str) -> None:
        """Paint the same source again; the layer keeps the looks that the user gave it."""
        self.sources.blockSignals(True)
        self.sources.setCurrentIndex(self.sources.findData(source))
        self.sources.blockSignals(False)
        layer = self.layer
        if layer is not None:
            prediction_array(layer).forget()
            layer.refresh(extent=False)
            self._on_slice(self.session.slice)

    def pick(self, source: str) -> None:
        """Show a source; its slices are read again."""
        self.sources.blockSignals(True)
        self.sources.setCurrentIndex(max(self.sources.findData(source), 0))
        self.sources.blockSignals(False)
        self._on_source()

    def _on_source(self) -> None:
        self._offer_classes()
        self._show()
        self.picked.emit(self.source)

    def _offer_classes(self) -> None:
        """Offer the classes of the source; the first class of the project is shown at first."""
        project = self.session.project
        names = project.ledger.classes(self.source) if project is not None else []
        wanted = self.class_name or (project.settings.classes[0] if project is not None else "")
        self.classes.blockSignals(True)
        self.classes.clear()
        self.classes.addItem(_EVERY_CLASS, "")
        for name in names:
            self.classes.addItem(name, name)
        self.classes.setCurrentIndex(max(self.classes.findData(wanted), 0))
        self.classes.blockSignals(False)

    def _show(self) -> None:
        with errors_shown():
            if self.session.project is not None and self.source:
                show_predictions(self.session, self.source, self.score, self.class_name)
            else:
                remove(self.session.viewer, Role.PREDICTIONS)
            self._on_slice(self.session.slice)

    def _on_score(self, score: float) -> None:
        layer = self.layer
        if layer is not None:
            prediction_array(layer).score = score
            layer.refresh(extent=False)
            self._tell()

    def _on_slice(self, _: int) -> None:
        layer = self.layer
        if layer is not None and self.session.project is not None:
            painted = prediction_array(layer).painted(self.session.slice)
            describe(layer, painted.instances)
        self._tell()

    def _tell(self) -> None:
        """Tell how many instances of the slice are shown, or why there are none."""
        project, layer = self.session.project, self.layer
        if project is None or layer is None:
            self.count.setText("No predictions are shown. Make some with the page Predict.")
            return
        z = self.session.slice
        if z not in project.ledger.done(self.source):
            self.count.setText(f"Slice {z} has not been predicted yet.")
            return
        scores = [i.score for i in prediction_array(layer).painted(z).instances]
        shown = sum(score >= self.score for score in scores)
        self.count.setText(f"Slice {z}: {shown} of {len(scores)} instances shown.")
