"""How much of an edit is applied: a slider that re-applies and predicts again at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QFormLayout, QVBoxLayout, QWidget
from superqt import QLabeledDoubleSlider

from napari_fossiledit.errors import FossilError
from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.widgets.canvas.before_after import BeforeAfter
from napari_fossiledit.widgets.common.curves import Curve, CurvePlot
from napari_fossiledit.widgets.common.debounced_call import DebouncedCall
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, note
from napari_fossiledit.workflows.edit import live
from napari_fossiledit.workflows.edit.live import LiveComparison, StrengthCurve

TOGGLE_KEY = "Shift-B"
_EMPTY = "Press the button to judge the edit at several strengths on the pinned slices."
_CURVES = {"precision": "precision", "recall": "recall", "iou": "IoU", "recall_all": "recall, all"}


class StrengthPanel(QWidget):
    """Strength of one edit, seen on the slice on show and as a trade-off on pinned slices."""

    def __init__(self, session: Session, jobs: JobPanel, warm: WarmProcess) -> None:
        super().__init__()
        self.session, self.jobs, self.warm = session, jobs, warm
        self.edit = ""
        self._made: LiveComparison | None = None
        self.layers = BeforeAfter(session)
        self.debounced = DebouncedCall(warm, self)
        self.live = QCheckBox("Live on the slice on show")
        self.strength = _slider(1.0, "Share of the edit that is applied.")
        self.score = _slider(0.5, "Hide instances that the model is less sure of than this.")
        self.state = note("")
        self.plot = CurvePlot("strength", "mean over instances", _EMPTY)
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        self.live.setToolTip("Predict the slice again whenever the strength or the slice changes.")
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Strength", self.strength)
        form.addRow(self.live)
        form.addRow("Score", self.score)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(form)
        tip = "See what was found before the edit, or with it."
        toggle = button("Before / after", tip, self.toggle, shortcut=TOGGLE_KEY)
        judge = button("Curve over strengths", "Judge on the pinned slices.", self.judge)
        column.addWidget(beside(toggle, judge))
        column.addWidget(self.state)
        column.addWidget(self.plot)

    def _connect(self) -> None:
        self.strength.valueChanged.connect(self._on_strength)
        self.score.valueChanged.connect(self._ask)
        self.session.slice_changed.connect(self._ask)
        self.live.toggled.connect(self._on_live)
        self.debounced.answered.connect(self._show)
        self.debounced.failed.connect(self._on_failed)

    def show_edit(
        self, name: str, strength: float = 1.0, tried: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Take another edit; empty: none.

        Parameters
        ----------
        tried
            Figures on the tuning slices by strength, where they are known.
        """
        self.debounced.drop()
        self.edit = name
        self._draw([(float(t["strength"]), t) for t in tried], "tuning slices")
        self.state.setText("")
        if not name:
            self.live.setChecked(False)
        self.strength.setRange(0, max(1.0, strength))
        self.strength.setValue(strength)
        self.plot.mark(strength)
        self._ask()

    def toggle(self) -> None:
        """Swap before and after; compute them where they are not shown yet."""
        if not self.live.isChecked():
            self.live.setChecked(True)
            return
        self.layers.toggle()
        self._tell()

    def judge(self) -> None:
        """Judge the edit at several strengths, in the background."""
        path = self.session.current.path
        self._require_edit()
        then = self.session.while_open(self._show_curve)
        self.jobs.start(
            "Trying strengths",
            self.warm.call,
            live.curve,
            path,
            self.edit,
            in_process=False,
            then=then,
        )

    def _require_edit(self) -> None:
        if not self.edit:
            raise FossilError(
                "No edit is chosen", advice='Make one, or choose one on the page "History".'
            )

    # ------------------------------------------------------------------- events

    def _on_strength(self, strength: float) -> None:
        self.plot.mark(strength)
        self._ask()

    def _on_live(self, wanted: bool) -> None:
        if wanted:
            self._ask()
            return
        self.debounced.drop()
        self.state.setText("")
        if self.session.project is not None:
            self.layers.hide()

    def _ask(self) -> None:
        project = self.session.project
        if project is None or not self.edit or not self.live.isChecked():
            return
        self.state.setText("Predicting ...")
        z, strength, score = self.session.slice, self.strength.value(), self.score.value()
        self.debounced.request(
            "Predicting", live.compared, project.path, self.edit, strength, z, score
        )

    def _show(self, made: LiveComparison) -> None:
        if self.session.project is None or made.slice != self.session.slice:
            return
        self.layers.show(made.slice, made.before, made.after)
        self._made = made
        self._tell()

    def _tell(self) -> None:
        made = self._made
        if made is None:
            return
        seen = "with the edit" if self.layers.sees_after else "before the edit"
        self.state.setText(
            f"<b>Seen: {seen}.</b> Slice {made.slice}, strength {made.strength:.2f}: "
            f"{len(made.before)} instances before, {len(made.after)} after "
            f"({made.gained} gained, {made.lost} lost). "
            f"Applied in {made.apply_s * 1000:.0f} ms, predicted in {made.predict_s * 1000:.0f} ms."
        )

    def _on_failed(self, error: FossilError) -> None:
        self.state.setText(str(error))

    def _show_curve(self, made: StrengthCurve) -> None:
        if made.edit != self.edit:
            return
        self._draw([(p.strength, vars(p)) for p in made.points], "pinned slices")
        self.plot.mark(self.strength.value())
        matched = ", ".join(f"{p.matched} at {p.strength:g}" for p in made.points)
        self.state.setText(f"Matched of {made.truths}: {matched}.")

    def _draw(self, points: Sequence[tuple[float, Mapping[str, Any]]], where: str) -> None:
        """Draw figures by strength."""
        self.plot.x_label = f"strength ({where})"
        self.plot.show_curves(
            [
                Curve(
                    name, tuple((x, float(p[key])) for x, p in points if p[key] is not None), True
                )
                for key, name in _CURVES.items()
            ]
        )


def _slider(value: float, tip: str) -> QLabeledDoubleSlider:
    made = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    made.setRange(0, 1)
    made.setDecimals(2)
    made.setValue(value)
    made.setToolTip(tip)
    return made
