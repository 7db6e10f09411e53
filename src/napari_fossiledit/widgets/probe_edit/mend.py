"""The step *Mend it*: teach a model with a few traced slices, without training it again."""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.models.native.backends import has_detectron2
from napari_fossiledit.params.editing import EditParams, Pull, Scope, Solver
from napari_fossiledit.params.perturb import PerturbParams
from napari_fossiledit.progress import Progress
from napari_fossiledit.widgets.common.curves import Curve, CurvePlot, Point
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import show_done
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import button, fold, note
from napari_fossiledit.widgets.probe_edit.model_picker import ModelPicker
from napari_fossiledit.widgets.probe_edit.perturbation import NO_STEPS, Perturbation
from napari_fossiledit.workflows.edit import run as edit
from napari_fossiledit.workflows.edit.result import EditResult
from napari_fossiledit.workflows.edit.slices import EditSlices, choose_slices, proposed_slices
from napari_fossiledit.workflows.probe.result import ProbeResult
from napari_fossiledit.workflows.shared.model_refs import find_model

_NO_CURVE = "While an edit is computed, the error that is left appears here."
_LEVEL = "level {}"
_SLICES = ("slices", "tuning", "pinned")
_LABELS = {
    "slices": "Learn from slices",
    "tuning": "Choose strength on",
    "pinned": "Judge on",
    "name": "Name of the edit",
    "preserve": "Keep the answer on",
    "scope": "What may change",
    "solver": "How it learns",
    "levels": "Levels of detail",
    "pull": "Hold on to the old",
    "pull_to": "Of the old, hold",
    "fossil_weight": "Fossils count, times",
    "marked_only": "Changed pixels only",
    "rank": "Most patterns to learn",
    "iterations": "Most rounds (robust)",
    "adam_steps": "Steps (small steps)",
    "learning_rate": "Size of these steps",
    "batch": "Pixels in such a step",
    "block": "Pixels in memory",
    "keep_partial": "Keep when cancelled",
    "seed": "Random number",
    "region": "Part of the slice",
    "strengths": "Strengths to try",
    "scores": "Least scores to try",
    "mask_cut": "Masks end at",
    "tolerance": "Accepted loss",
    "device": "Computed on",
    "backend": "Computed by",
}
#: The names in brackets are those of the command and of the reports.
LEARNING: dict[Enum, str] = {
    Solver.RIDGE: "evenly, seconds (ridge)",
    Solver.DIRECT: "robustly, seconds (direct)",
    Solver.ADAM: "in small steps, minutes (adam)",
}
_WORDS: dict[Enum, str] = {
    **LEARNING,
    Scope.MASKS: "outlines alone (masks)",
    Scope.ALL: "also what is found (all)",
    Pull.OUTPUT: "its answers (output)",
    Pull.WEIGHTS: "its inner numbers (weights)",
}


class Mend(QWidget):
    """Choose what teaches and what judges, and compute an edit.

    Signals
    -------
    mended(object)
        The edit was computed and judged: its result.
    """

    mended = Signal(object)

    def __init__(
        self, session: Session, jobs: JobPanel, model: ModelPicker, perturbation: Perturbation
    ) -> None:
        super().__init__()
        self.session, self.jobs, self.model, self.perturbation = session, jobs, model, perturbation
        # Slices that the page filled in: what the user wrote is never replaced.
        self._proposed: dict[str, str] = dict.fromkeys(_SLICES, "")
        self._wrong: tuple[int, ...] = ()
        self._losses: dict[str, list[Point]] = {}
        # All jobs of the page report through one runner: only losses of this step's are drawn.
        self._is_editing = False
        hidden = ["model", *PerturbParams.model_fields, *([] if has_detectron2() else ["backend"])]
        rest = [n for n in EditParams.model_fields if n not in (*hidden, *_SLICES)]
        self.form = ParamsForm(
            EditParams, hidden=hidden, advanced=rest, labels=_LABELS, words=_WORDS
        )
        self.what, self.why_not = note(""), note("")
        self.pins = QWidget()
        self.about_pins = note("")
        self.pin = button(
            "Pin", "Keep these slices for judging from now on; nothing learns from them.", self._pin
        )
        row = QVBoxLayout(self.pins)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.about_pins)
        row.addWidget(self.pin)
        self.start = button("Mend the model", "", self.mend)
        self.plot = CurvePlot("step", "error, as share of the first", _NO_CURVE)
        column = QVBoxLayout(self)
        column.addWidget(self.what)
        column.addWidget(self.form)
        column.addWidget(self.pins)
        column.addWidget(self.start)
        column.addWidget(self.why_not)
        fold(column, "Change the slice yourself").addWidget(perturbation)
        fold(column, "Progress of the computation").addWidget(self.plot)
        self.form.changed.connect(self._check)
        perturbation.changed.connect(self._check)
        model.currentIndexChanged.connect(self.propose)
        session.annotations_changed.connect(self.propose)
        jobs.runner.progressed.connect(self._on_progress)
        jobs.runner.stopped.connect(self._on_stopped)

    def refresh(self) -> None:
        """Show the project that is open now."""
        self.form.refresh()
        self.form.fill(**dict.fromkeys(_SLICES, ""))
        self._proposed, self._wrong = dict.fromkeys(_SLICES, ""), ()
        self.draw({})
        self.propose()

    def use(self, result: ProbeResult) -> None:
        """Fill the step in so that it mends what a probe found."""
        self._wrong = result.worst
        settings = result.edit
        self.perturbation.form.fill(**{k: v for k, v in settings.items() if k == "preset"})
        self.form.fill(**{k: v for k, v in settings.items() if k != "preset"})
        self.propose()

    def propose(self) -> None:
        """Fill in slices where the user has not written any."""
        project = self.session.project
        if project is None or not self.model.name:
            return
        slices = EditSlices((), (), (), ())
        # What is missing is said by the check below.
        with suppress(FossilError):
            slices = proposed_slices(project, find_model(project, self.model.name), self._wrong)
        proposed = {
            "slices": format_slices(slices.edit),
            "tuning": format_slices(slices.tuning),
            "pinned": format_slices(slices.pinned),
        }
        written = {name: str(self.form.rows[name].value) for name in _SLICES}
        ours = {n: proposed[n] for n in _SLICES if written[n] in ("", self._proposed[n])}
        self._proposed = proposed
        self.form.fill(**ours)
        self._check()

    def mend(self) -> None:
        """Start the computation of an edit in a separate process."""
        path = self.session.writable.path
        params = self._params()
        self.draw({})
        then = self.session.while_open(self._on_done)
        self._is_editing = self.jobs.start(
            "Mending the model", edit.run, path, params, loads_first=True, then=then
        )

    def _params(self) -> EditParams:
        self.form.fix(**self.perturbation.values(), model=self.model.name)
        return self.form.read()

    # ------------------------------------------------------------- what is missing

    def _check(self) -> None:
        """Say what is missing before a job starts, and disable the button until it is there."""
        project = self.session.project
        if project is None:
            return
        words = self.perturbation.words
        self.what.setText(
            f"The model learns to answer as if {words}. This is a proposal: whether it helps, the "
            "next step judges."
            if words
            else ""
        )
        messages, reason = self._missing()
        self.form.complain(messages)
        reason = reason or next(iter(messages.values()), "")
        self.start.setEnabled(not reason)
        self.start.setToolTip(reason or "Compute an edit and judge it, in the background.")
        self.why_not.setText(reason)
        self.why_not.setVisible(bool(reason) and reason not in messages.values())
        judging = str(self.form.rows["pinned"].value)
        pinned = project.settings.pinned_slices
        self.pins.setVisible(not pinned)
        self.pin.setVisible(bool(judging))
        self.pin.setText(f"Pin slice {judging} for judging")
        self.about_pins.setText(
            f"No slice is pinned yet. Slice {judging} judges this edit: the model never learns "
            "from it. Pin it, and it judges every edit."
            if judging
            else "No traced slice is left to judge the edit: trace one more, else it can only be "
            "looked at."
        )

    def _missing(self) -> tuple[dict[str, str], str]:
        """Return what is wrong by the field, and what belongs to none of them."""
        project, messages = self.session.current, dict[str, str]()
        if not project.ledger.traced():
            return {}, "No slice is traced yet: trace one completely, for the model to learn from."
        for name in _SLICES:
            try:
                text = str(self.form.rows[name].value).strip()
                if text:
                    parse_slices(text, project.shape[0])
                elif name == "slices":
                    traced = format_slices(sorted(project.ledger.traced()))
                    messages[name] = f"Name traced slices to learn from, of {traced}."
            except FossilError as error:
                messages[name] = str(error)
        if messages:
            return messages, ""
        if not self.perturbation.words:
            return {}, f"{NO_STEPS}."
        try:
            model = find_model(project, self.model.name)
            chosen = choose_slices(project, self._params(), model)
        except FossilError as error:
            return {}, str(error)
        untraced = sorted({*chosen.edit} - {*project.ledger.traced()})
        if untraced:
            where = format_slices(untraced)
            return {"slices": f"Slice {where} is not traced: nobody told what is a fossil."}, ""
        return {}, ""

    def _pin(self) -> None:
        project = self.session.writable
        slices = parse_slices(str(self.form.rows["pinned"].value), project.shape[0])
        project.update(pinned_slices=tuple(sorted(slices)))
        self.session.annotations_changed.emit()

    # --------------------------------------------------------------- while it runs

    def draw(self, losses: dict[str, list[Point]]) -> None:
        """Draw the error that is left, by level of the network."""
        self._losses = losses
        # As shares of the first: those of fine levels are far larger than of coarse ones.
        curves = []
        for name, points in losses.items():
            first = next((loss for _, loss in points if loss), 1.0)
            curves.append(Curve(name, tuple((step, loss / first) for step, loss in points)))
        self.plot.show_curves(curves)

    def show_edit(self, name: str) -> None:
        """Draw the error of a stored edit."""
        curves: dict[str, Any] = self.session.current.edits.read(name).curves
        self.draw({level_of(layer): [(s, v) for s, v in c] for layer, c in curves.items()})

    def _on_progress(self, progress: Progress) -> None:
        loss = progress.values.get("loss")
        if self._is_editing and loss is not None:
            level = _LEVEL.format(int(progress.values.get("level", 0)))
            points = self._losses.setdefault(level, [])
            points.append((progress.values.get("step", float(len(points))), loss))
            self.draw(self._losses)

    def _on_stopped(self) -> None:
        self._is_editing = False

    def _on_done(self, result: EditResult) -> None:
        show_done(result.verdict)
        self.session.models_changed.emit()
        self.session.edits_changed.emit()
        self.session.predictions_changed.emit()
        self.mended.emit(result)


def level_of(layer: str) -> str:
    """Return the name of the pyramid level that a layer of the network belongs to.

    Examples
    --------
    >>> level_of("backbone.fpn.layer_blocks.2.0")
    'level 2'
    """
    numbers = [part for part in layer.split(".") if part.isdigit()]
    return _LEVEL.format(numbers[0]) if numbers else layer
