"""Which predictions are shown over the stack, from which score on, and where their masks end."""

from __future__ import annotations

import math
from functools import partial

from napari.layers import Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QGroupBox
from superqt.utils import signals_blocked

from napari_fossiledit.masks.probability import MASK_CUT
from napari_fossiledit.project import ANNOTATIONS, Source
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
from napari_fossiledit.widgets.dock import note, slider
from napari_fossiledit.widgets.segment.picked_panel import PickedPanel
from napari_fossiledit.workflows.shared.sources import default_source, marked, shown_sources

_CUT_TIP = (
    "Probability from which on a pixel belongs to a mask: higher makes masks tighter, lower wider."
    " Exports, meshes and figures have a mask cut of their own."
)
_NO_CUT_TIP = (
    f"Fixed at {MASK_CUT:g}: this slice was predicted by an earlier version, which kept no"
    " probabilities. To move it, predict the slice again with Predict anew of More settings."
)
_DRAWN_TIP = "Only predictions have probabilities: what was drawn or imported has the masks it has."
_NOTHING = "nothing"
_EVERY_CLASS = "every class"


class ScorePicker(QGroupBox):
    """A source, a class, a score and a mask cut; owns the predictions' layer while it exists.

    Signals
    -------
    picked(str)
        Another source is shown; empty where none is.
    """

    picked = Signal(str)

    def __init__(self, session: Session) -> None:
        super().__init__("Shown over the stack")
        self.session = session
        self.sources = QComboBox()
        self.sources.setToolTip("Predictions or annotations to show over the photographs.")
        self.sources.setAccessibleName("Shown")
        # Names of sources are long: the box must not widen the dock to the longest.
        self.sources.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.classes = QComboBox()
        self.classes.setToolTip("Class to show.")
        self.classes.setAccessibleName("Class to show")
        self.slider = slider(0.5, "Hide predictions that the model is less sure of than this.")
        self.cut = slider(MASK_CUT, _CUT_TIP)
        self.cut.setRange(0.01, 0.99)
        self.cut.setAccessibleName("Mask cut")
        self.count = note("")
        form = QFormLayout(self)
        form.setContentsMargins(6, 6, 6, 6)
        form.addRow("Shown", self.sources)
        form.addRow("Class", self.classes)
        form.addRow("Score", self.slider)
        form.addRow("Mask cut", self.cut)
        form.addRow(self.count)
        self.about = PickedPanel(session)
        form.addRow(self.about)
        self.sources.currentIndexChanged.connect(self._on_source)
        self.classes.currentIndexChanged.connect(self._show)
        self.slider.valueChanged.connect(self._on_score)
        self.cut.valueChanged.connect(self._on_cut)
        session.slice_changed.connect(self._on_slice)
        session.project_changed.connect(self._on_project)
        session.predictions_changed.connect(self.refresh)
        session.annotations_changed.connect(self._on_annotations)
        session.edits_changed.connect(self.refresh)

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
        """The lowest score of the predictions that are shown."""
        return float(self.slider.value())

    @property
    def mask_cut(self) -> float:
        """The probability at which the masks of the shown slice end."""
        return self._cut_asked if self.cut.isEnabled() else MASK_CUT

    @property
    def _cut_asked(self) -> float:
        # One half has to be one half: the masks of the ledger are then shown as they are.
        return round(float(self.cut.value()), 2)

    @property
    def layer(self) -> Labels | None:
        """The layer of the shown source, None where the user closed it."""
        layer = find(self.session.viewer, Role.PREDICTIONS)
        return layer if isinstance(layer, Labels) else None

    def _on_project(self) -> None:
        """Show the predictions once the photographs are there: a layer takes 0.2 s to be added."""
        if self.session.project is None:
            self.refresh()
        else:
            self.session.soon(self.refresh)

    def refresh(self) -> None:
        """Read the sources of the project again; the same one stays shown where it still exists."""
        shown, project = self.source, self.session.project
        names = shown_sources(project) if project is not None else []
        with signals_blocked(self.sources):
            self.sources.clear()
            for name in names:
                mark = marked(project, name) if project is not None else ""
                title = Source.parse(name).title
                self.sources.addItem(f"{title} ({mark})" if mark else title, name)
            self.sources.addItem(_NOTHING, "")
        layer = self.layer
        if layer is None or shown not in names:
            # The Labels layer shows the annotations already.
            first = "" if project is None else default_source(project)
            self.pick(shown if shown in names else first)
            return
        # The layer is painted again, not replaced: it keeps the looks that the user gave it.
        with signals_blocked(self.sources):
            self.sources.setCurrentIndex(self.sources.findData(shown))
        prediction_array(layer).forget()
        layer.refresh(extent=False)
        self._on_slice(self.session.slice)

    def _on_annotations(self) -> None:
        """Read again what annotations change: predictions stay as they are."""
        offered = self.sources.findData(ANNOTATIONS) >= 0
        if not (self.layer is not None and offered and Source.parse(self.source).is_prediction):
            self.refresh()

    def pick(self, source: str) -> None:
        """Show a source; its slices are read again."""
        # Also where the source is the one that is shown: Qt would not signal that.
        with signals_blocked(self.sources):
            self.sources.setCurrentIndex(max(self.sources.findData(source), 0))
        self._on_source()

    def reveal(self, source: str, class_name: str, score: float) -> None:
        """Show a source, and of it at least this class from this score on."""
        if self.source != source:
            self.pick(source)
        if self.class_name not in ("", class_name):
            self.classes.setCurrentIndex(self.classes.findData(""))
        if self.score > score:
            # The slider has two digits.
            self.slider.setValue(math.floor(score * 100) / 100)

    def _on_source(self) -> None:
        """Offer the classes of the source and show it, the project's first class at first."""
        project = self.session.project
        names = project.ledger.classes(self.source) if project is not None else []
        chosen = self.class_name or (project.settings.classes[0] if project is not None else "")
        with signals_blocked(self.classes):
            self.classes.clear()
            self.classes.addItem(_EVERY_CLASS, "")
            for name in names:
                self.classes.addItem(name, name)
            self.classes.setCurrentIndex(max(self.classes.findData(chosen), 0))
        self._show()
        self.picked.emit(self.source)

    def _show(self) -> None:
        with errors_shown():
            if self.session.project is not None and self.source:
                self._allow_cut()
                show_predictions(
                    self.session, self.source, self.score, self.class_name, self._cut_asked
                )
            else:
                remove(self.session.viewer, Role.PREDICTIONS)
            self._on_slice(self.session.slice)

    def _on_score(self, score: float) -> None:
        layer = self.layer
        if layer is not None:
            prediction_array(layer).score = score
            layer.refresh(extent=False)
            self._show_count()

    def _on_cut(self) -> None:
        layer = self.layer
        if layer is not None:
            with errors_shown():
                prediction_array(layer).mask_cut = self._cut_asked
                layer.refresh(extent=False)

    def _allow_cut(self) -> None:
        """Let the cut move where the shown slice has probabilities, and tell why it does not."""
        project, source, tip = self.session.project, self.source, _CUT_TIP
        if source and not Source.parse(source).is_prediction:
            tip = _DRAWN_TIP
        elif project is not None and not project.ledger.has_probabilities(
            source, self.session.slice
        ):
            tip = _NO_CUT_TIP
        self.cut.setEnabled(tip is _CUT_TIP)
        self.cut.setToolTip(tip)

    def _on_slice(self, _: int) -> None:
        self._allow_cut()
        layer = self.layer
        if layer is not None and self.session.project is not None:
            painted = prediction_array(layer).painted(self.session.slice)
            describe(layer, painted.instances)
        self._show_count()

    def _show_count(self) -> None:
        """Write how many instances of the slice are shown, or why there are none."""
        project, layer, z = self.session.project, self.layer, self.session.slice
        if project is None or layer is None:
            text = "No predictions are shown. Make some on the page Segment."
        elif z not in project.ledger.done(self.source):
            text = f"Slice {z} has not been predicted yet."
        else:
            scores = [i.score for i in prediction_array(layer).painted(z).instances]
            shown = sum(score >= self.score for score in scores)
            text = f"Slice {z}: {shown} of {len(scores)} instances shown."
        self.count.setText(text)


def picker_of(session: Session) -> ScorePicker:
    """Return the picker of a session; the first call makes it.

    There is one, which moves to the page that is shown.
    """
    if not isinstance(session.picker, ScorePicker):
        session.picker = picker = ScorePicker(session)
        picker.destroyed.connect(partial(setattr, session, "picker", None))
        picker.refresh()
    return session.picker
