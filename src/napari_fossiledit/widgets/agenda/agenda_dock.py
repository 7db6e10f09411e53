"""The page *Agenda*: which slices to trace next, how good the model is on them, which to take."""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import Any

import napari
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_fossiledit.geometry import format_slices
from napari_fossiledit.params.agenda import ExpectParams, Rule, SuggestParams
from napari_fossiledit.params.segment import IMAGENET
from napari_fossiledit.widgets.agenda.plot_view import PlotView
from napari_fossiledit.widgets.agenda.suggestion import PICTURE, Suggestion
from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec
from napari_fossiledit.widgets.common.model_choices import Choice, FollowedModel, model_choices
from napari_fossiledit.widgets.common.notices import counted, show_error, show_result
from napari_fossiledit.widgets.common.paths import PathRow, Pick
from napari_fossiledit.widgets.dock import Dock, button, fold, note, section
from napari_fossiledit.workflows.agenda import expected, suggest, thumbnails
from napari_fossiledit.workflows.agenda.plots import AlongZ, ByDistance, Violins
from napari_fossiledit.workflows.agenda.suggest import SuggestResult

TITLE = "Agenda"
EMPTY = (
    "<b>No project is open.</b><br>Here you learn which slice to trace next, and how far to trust "
    'a model. Open a project on the page "Start here" first.'
)
COUNTS = (1, 3, 7)
_NOTHING_TRACED = (
    "Nothing is traced yet. Slices that are typical of the stack, or evenly spaced ones, are a "
    "good start."
)
_TRUST = (
    "F is the F-score: 1 where every pixel of the fossils is found and none besides, 0 where none "
    "is. It is estimated on slices that nobody traced, too."
)
_CHOICE = "Each model looks at the other rock. One to which it is near is likely to do well there."
_LABELS = {
    "model": "Model",
    "rule": "Rule",
    "gain": "Gain",
    "slice_minutes": "Minutes a slice",
    "fossil_minutes": "Minutes a fossil",
    "components": "Components",
    "device": "Compute on",
    "seed": "Random number",
    "slices": "Among slices",
}
_RULES: dict[Enum, str] = {
    Rule.EVEN: "evenly spaced",
    Rule.DISTANCE: "drawn from unlike ones",
    Rule.FARTHEST: "unlike the traced ones",
    Rule.TYPICAL: "typical of the others",
    Rule.FOREGROUND: "drawn, many fossils",
    Rule.RANDOM: "drawn at random",
}


class AgendaDock(Dock):
    """Suggest slices to trace, mark them, and see how far the model is to be trusted."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, TITLE, EMPTY)
        session = self.session
        self.marks = attach(session).marks
        self.reading = JobRunner(self)
        self.reading.failed.connect(show_error)
        models = model_choices(session)
        self.form = ParamsForm(
            SuggestParams,
            advanced=[n for n in SuggestParams.model_fields if n not in ("model", "rule", "gain")],
            hidden=("count",),
            labels=_LABELS,
            words=_RULES,
            choices={
                "model": lambda: [*models(), Choice.named(IMAGENET, "none: how photographs look")]
            },
        )
        FollowedModel(self.form, session)
        self.count = QButtonGroup(self)
        self.state, self.gained = note(""), note("")
        self.suggestions: list[Suggestion] = []
        self._expected: dict[int, Any] = {}
        self._list = QVBoxLayout()
        self._list.setSpacing(6)
        self._make_suggesting()
        self._make_expecting()
        self._make_comparing()
        session.annotations_changed.connect(self._show_marks)
        self._on_project()

    # ----------------------------------------------------------------- making

    def _make_suggesting(self) -> None:
        inside = section(self.column, "Which slice to trace next")
        inside.addWidget(self.state)
        inside.addWidget(self.form)
        numbers = QWidget()
        row = QHBoxLayout(numbers)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("How many"))
        for count in COUNTS:
            chosen = QPushButton(str(count))
            chosen.setCheckable(True)
            chosen.setChecked(count == COUNTS[1])
            chosen.setToolTip(f"Suggest {counted(count, 'slice')}.")
            chosen.setAccessibleName(counted(count, "slice"))
            self.count.addButton(chosen, count)
            row.addWidget(chosen, 1)
        inside.addWidget(numbers)
        tip = "Look at all slices that are not traced, in the background, and choose some."
        inside.addWidget(button("Suggest slices", tip, self.suggest))
        inside.addWidget(self.gained)
        inside.addLayout(self._list)

    def _make_expecting(self) -> None:
        inside = fold(self.column, "How far to trust the model")
        tip = "Predict what is not predicted yet, and say how good each slice may be."
        inside.addWidget(button("Estimate the quality", tip, self.expect))
        self.trust = note("")
        inside.addWidget(self.trust)
        empty = "The estimate is drawn here."
        self.along_z = PlotView(self.session, "Expected quality of each slice", empty)
        self.by_distance = PlotView(self.session, "Quality by distance", empty)
        for plot in (self.along_z, self.by_distance):
            inside.addWidget(plot)

    def _make_comparing(self) -> None:
        inside = fold(self.column, "Compare with another rock")
        self.other = PathRow(
            "project of the other rock", Pick.FOLDER, "Folder NAME.fossil of the other rock."
        )
        self.other.line.setPlaceholderText("empty: this rock")
        inside.addWidget(self.other)
        tip = "Say which of the models is best for that rock, with up to ten of its slices."
        inside.addWidget(button("Compare the models", tip, self.compare))
        self.choice = note("")
        inside.addWidget(self.choice)
        self.violins = PlotView(
            self.session, "Distance of the rock to each model", "The models are compared here."
        )
        inside.addWidget(self.violins)

    # ---------------------------------------------------------------- actions

    def suggest(self) -> None:
        """Choose slices in a process of their own."""
        self.form.fix(count=self.count.checkedId())
        self._start("Choosing slices", suggest.run, self.form.read(), self._on_suggested)

    def expect(self) -> None:
        """Estimate the quality of each slice in a process of its own."""
        params = ExpectParams(**self._shared())
        self._start("Estimating the quality", expected.run, params, self._on_expected)

    def compare(self) -> None:
        """Compare all models of the project on another rock in a process of their own."""
        # Those that were rolled back or not finished have a label that says so.
        names = [str(n) for n in model_choices(self.session)() if getattr(n, "label", n) == n]
        other = self.other.path() if self.other.text else None
        shared = self._shared() | {"model": ""}
        params = ExpectParams(**shared, other=other, candidates=",".join(names))
        self._start("Comparing the models", expected.run, params, self._on_compared)

    def _shared(self) -> dict[str, Any]:
        """Return what the form says of all parameter models of this page."""
        params = self.form.read()
        return {n: getattr(params, n) for n in ("model", "components", "device", "seed")}

    def _start(self, title: str, function: Any, params: Any, then: Any) -> None:
        path = self.session.current.path
        then = self.session.while_open(then)
        self.jobs.start(title, function, path, params, loads_first=True, then=then)

    # ---------------------------------------------------------------- showing

    def refresh(self) -> None:
        """Show the agenda of the project that is open now."""
        self.reading.abandon()
        self._show_picks(())
        self.gained.hide()
        self._expected = {}
        self.trust.setText(_TRUST)
        self.choice.setText(_CHOICE)
        for plot in (self.along_z, self.by_distance, self.violins):
            plot.show_plot(None)
        project = self.session.project
        if project is not None:
            rule = self.form.model.model_fields["rule"].default
            self.form.fill(rule=rule if project.ledger.traced() else Rule.TYPICAL)
        self._show_marks()

    def _on_suggested(self, result: SuggestResult) -> None:
        self.gained.setText("<br>".join(filter(None, (result.gained, result.stop))))
        self.gained.setVisible(bool(self.gained.text()))
        self._show_picks(result.picks)
        said = f"{counted(len(result.picks), 'slice')} suggested: click a picture to go there."
        show_result(f"{said} Mark what you will trace.", result)
        slices = [pick.slice for pick in result.picks]
        job = JobSpec(
            "Reading pictures",
            thumbnails.run,
            (self.session.current.path, slices, 2 * PICTURE),
            in_process=False,
        )
        self.reading.abandon()
        self.reading.start(job, self.session.while_open(self._show_pictures))

    def _show_picks(self, picks: Any) -> None:
        for old in self.suggestions:
            old.hide()
            old.deleteLater()
        self.suggestions = [
            Suggestion(
                pick,
                partial(self.session.go_to, pick.slice),
                partial(self.marks.plan, pick.slice),
            )
            for pick in picks
        ]
        for each in self.suggestions:
            each.tell(self._expected.get(each.pick.slice))
            self._list.addWidget(each)
        self._show_marks()

    def _show_pictures(self, pictures: dict[int, Any]) -> None:
        for each in self.suggestions:
            each.show_picture(pictures[each.pick.slice])

    def _show_marks(self) -> None:
        """Say which slices are on the agenda, and what to do with them."""
        project = self.session.project
        if project is None:
            return
        traced, marked = project.ledger.traced(), project.ledger.to_trace()
        said = [] if traced else [_NOTHING_TRACED]
        if marked:
            which = "slice" if len(marked) == 1 else "slices"
            said.append(
                f"<b>To be traced: {which} {format_slices(marked)}.</b> Outline every fossil there "
                'on the page "Review", then press Shift-T.'
            )
        self.state.setText("<br>".join(said))
        self.state.setVisible(bool(said))
        for each in self.suggestions:
            z = each.pick.slice
            each.show_mark(traced=z in traced, marked=z in marked)
        plot = self.along_z.plot
        # Every stroke of the brush comes here.
        if isinstance(plot, AlongZ) and plot != (new := self._along_z(plot.rows)):
            self.along_z.show_plot(new)

    def _along_z(self, rows: tuple[Any, ...]) -> AlongZ:
        ledger = self.session.current.ledger
        wanted = {each.pick.slice for each in self.suggestions} | set(ledger.to_trace())
        return AlongZ(rows, tuple(ledger.traced()), tuple(sorted(wanted)))

    def _on_expected(self, result: expected.ExpectResult) -> None:
        rows = tuple(sorted(result.rows(), key=lambda row: int(row["slice"])))
        self._expected = {int(row["slice"]): row for row in rows}
        for each in self.suggestions:
            each.tell(self._expected.get(each.pick.slice))
        self.trust.setText(f"{result.model}: the intervals come from {result.calibrated_on}.")
        self.along_z.show_plot(self._along_z(rows))
        by_distance = ByDistance.of(rows)
        self.by_distance.show_plot(by_distance if by_distance.slices else None)
        worst = min(rows, key=lambda row: float(row["expected"]))
        said = f"The least is to be expected of slice {worst['slice']}: F {worst['expected']:.2f}."
        show_result(f"{said} Click a plot to go to a slice.", result)
        self.session.predictions_changed.emit()

    def _on_compared(self, result: expected.ExpectResult) -> None:
        self.choice.setText(result.choice or f"There is one model: {result.model}.")
        self.violins.show_plot(Violins(tuple(vars(c) for c in result.candidates)))
        show_result(self.choice.text(), result)
