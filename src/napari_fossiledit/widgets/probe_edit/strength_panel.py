"""How much of an edit is applied: a slider that applies it and predicts again at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.masks.probability import MASK_CUT
from napari_fossiledit.params.segment import Device
from napari_fossiledit.widgets.canvas.before_after import BeforeAfter
from napari_fossiledit.widgets.common.curves import Curve, CurvePlot
from napari_fossiledit.widgets.common.debounced_call import DebouncedCall
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, slider
from napari_fossiledit.workflows.edit import live
from napari_fossiledit.workflows.edit.live import LiveComparison, StrengthCurve

TOGGLE_KEY = "Shift-B"
_NO_CURVE = "Press the button to judge the edit at several strengths on the pinned slices."
_CURVES = {"precision": "precision", "recall": "recall", "iou": "IoU", "recall_all": "recall, all"}


class StrengthPanel(QWidget):
    """Strength of one edit, seen on the shown slice and as a trade-off on pinned slices.

    Attributes
    ----------
    more
        What experts want besides, to be put where it can be folded away.
    """

    def __init__(self, session: Session, jobs: JobPanel, warm: WarmProcess) -> None:
        super().__init__()
        self.session, self.jobs, self.warm = session, jobs, warm
        self.edit = ""
        self._comparison: LiveComparison | None = None
        self.layers = BeforeAfter(session)
        self.debounced = DebouncedCall(warm, self)
        self.live = QCheckBox("Show on the slice")
        self.live.setToolTip(
            "Show what is found before the edit and with it; predicts the slice again whenever the "
            "strength or the slice changes."
        )
        self.strength = slider(1.0, "Share of the edit that is applied.")
        self.score = slider(0.5, "Hide instances that the model is less sure of than this.")
        self.cut = slider(MASK_CUT, "Probability from which on a pixel belongs to a mask.")
        self.cut.setRange(0.01, 0.99)
        self.state = QLabel()
        self.state.setWordWrap(True)
        self.state.setAlignment(Qt.AlignmentFlag.AlignTop)
        # The page does not jump with each slice: its text has three lines in a narrow page, and
        # the font that napari's style gives it later is larger than this one.
        self.state.setMinimumHeight(4 * self.state.fontMetrics().lineSpacing() + 4)
        self.plot = CurvePlot("strength", "mean over instances", _NO_CURVE)
        form, rest = QFormLayout(), QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Strength", self.strength)
        tip = "Switch between what is found before the edit and with it."
        toggle = button("Before / after", tip, self.toggle, shortcut=TOGGLE_KEY)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(form)
        column.addWidget(beside(self.live, toggle))
        column.addWidget(self.state)
        self.more = QWidget()
        below = QVBoxLayout(self.more)
        below.setContentsMargins(0, 0, 0, 0)
        rest.addRow("Least score", self.score)
        rest.addRow("Masks end at", self.cut)
        below.addLayout(rest)
        below.addWidget(
            button("Curve over strengths", "Judge it on the pinned slices.", self.judge)
        )
        below.addWidget(self.plot)
        self.strength.valueChanged.connect(self.plot.mark)
        self.strength.valueChanged.connect(self._ask)
        self.score.valueChanged.connect(self._ask)
        self.cut.valueChanged.connect(self._ask)
        session.slice_changed.connect(self._ask)
        self.debounced.follow(self.live, self._ask, self._hide)
        self.debounced.answered.connect(self._show)
        self.debounced.failed.connect(self._on_failed)

    def show_edit(
        self, name: str, strength: float = 1.0, tried: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Show another edit; where `name` is empty, none.

        Parameters
        ----------
        tried
            Figures on the tuning slices by strength, where they are known.
        """
        # What is on the slice belongs to the edit before.
        self.live.setChecked(False)
        self.debounced.drop()
        self.edit, self._comparison = name, None
        self._draw([(float(t["strength"]), t) for t in tried], "tuning slices")
        self.state.setText("")
        # By command an edit can be kept at more than its whole strength.
        self.strength.setRange(0, max(1.0, strength))
        self.strength.setValue(strength)
        # Also where the slider stands there already and signals nothing.
        self.plot.mark(strength)
        if name and self.isVisible():
            self.live.setChecked(True)

    def toggle(self) -> None:
        """Swap before and after; compute them where they are not shown yet."""
        if not self.live.isChecked():
            self.live.setChecked(True)
            return
        self.layers.toggle()
        self._show_counts()

    def judge(self) -> None:
        """Judge the edit at several strengths, in the background."""
        path = self.session.current.path
        if not self.edit:
            raise FossilError(
                "No edit is chosen", advice="Mend the model, or choose an edit in the history."
            )
        # In the process that stays: it holds the model already.
        then = self.session.while_open(self._show_curve)
        self.jobs.start(
            "Trying strengths",
            self.warm.call,
            live.curve,
            path,
            self.edit,
            live.STRENGTHS,
            "",
            "",
            0.0,
            Device.AUTO,
            round(self.cut.value(), 2),
            in_process=False,
            then=then,
        )

    # ------------------------------------------------------------------- events

    def _hide(self) -> None:
        self.state.setText("")
        if self.session.project is not None:
            self.layers.hide()

    def _ask(self) -> None:
        project = self.session.project
        if project is None or not self.edit or not self.live.isChecked():
            return
        self.state.setText("Predicting ...")
        z, strength, score = self.session.slice, self.strength.value(), self.score.value()
        cut = round(self.cut.value(), 2)
        self.debounced.request(
            "Predicting",
            live.compared,
            project.path,
            self.edit,
            strength,
            z,
            score,
            Device.AUTO,
            cut,
        )

    def _show(self, comparison: LiveComparison) -> None:
        # The user may have moved on while the slice was predicted.
        if self.session.project is None or comparison.slice != self.session.slice:
            return
        self.layers.show(comparison.slice, comparison.before, comparison.after)
        self._comparison = comparison
        self._show_counts()

    def _show_counts(self) -> None:
        made = self._comparison
        if made is None:
            return
        seen = "with the edit" if self.layers.sees_after else "before the edit"
        self.state.setText(
            f"<b>Seen: {seen}</b> ({TOGGLE_KEY} switches). Slice {made.slice}, "
            f"strength {made.strength:.2f}: "
            f"{len(made.before)} masks before, {len(made.after)} with it "
            f"({made.gained} new, {made.lost} gone)."
        )
        self.state.setToolTip(
            f"Applied in {made.apply_s * 1000:.0f} ms, predicted in {made.predict_s * 1000:.0f} ms."
        )

    def _on_failed(self, error: FossilError) -> None:
        self.state.setText(str(error))

    def _show_curve(self, curve: StrengthCurve) -> None:
        # The user may look at another edit by now.
        if curve.edit != self.edit:
            return
        self._draw([(p.strength, vars(p)) for p in curve.points], "pinned slices")
        self.plot.mark(self.strength.value())
        matched = ", ".join(f"{p.matched} at {p.strength:g}" for p in curve.points)
        self.state.setText(f"Matched of {curve.truths}: {matched}.")

    def _draw(self, points: Sequence[tuple[float, Mapping[str, Any]]], where: str) -> None:
        """Draw each figure over the strength; `where` names the slices it was measured on."""
        self.plot.x_label = f"strength ({where})"
        self.plot.show_curves(
            [
                Curve(
                    name, tuple((x, float(p[key])) for x, p in points if p[key] is not None), True
                )
                for key, name in _CURVES.items()
            ]
        )
