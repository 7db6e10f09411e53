"""Corrected slices teach the model: trained further, judged, and kept or rolled back.

The model in use is never changed. The new one is not in use, and no default, before a person keeps
it; keeping and rolling back only say which model is in use, as with edits.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.figures import detection
from napari_fossiledit.evaluation.numbers import Spread
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.models.files.places import RECORD, STATE
from napari_fossiledit.params.annotations import TraceParams
from napari_fossiledit.params.editing import EditParams
from napari_fossiledit.params.review import TeachParams
from napari_fossiledit.params.segment import TrainParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.annotate import corrections
from napari_fossiledit.workflows.edit import decide as edits
from napari_fossiledit.workflows.edit.judging import Judgement, judge_edit
from napari_fossiledit.workflows.edit.result import Advice
from napari_fossiledit.workflows.segment import train
from napari_fossiledit.workflows.shared.folds import trained_on
from napari_fossiledit.workflows.shared.frontier import NO_PROBABILITIES
from napari_fossiledit.workflows.shared.ground_truth import judged_slice, read_ground_truth
from napari_fossiledit.workflows.shared.model_refs import (
    EditRef,
    ModelRef,
    find_model,
    in_use,
    model_names,
    require_kept,
    set_in_use,
)
from napari_fossiledit.workflows.shared.sources import with_class
from napari_fossiledit.workflows.shared.taught import (
    Teaching,
    TeachingState,
    read_teaching,
    write_teaching,
)

_START = "start"
"""Folder in that of the new model, with the edit in use as a model, while it is trained."""
_FIGURES = ("advice", "verdict", "gain_iou_all", "found", "judged")
"""What is written beside the new model: the same whether the training was interrupted or not."""
_FALL = 0.02
"""A figure of detection may fall by this much."""


@dataclass(frozen=True)
class TeachResult(Summary):
    """A model that was taught, beside the one before it.

    Attributes
    ----------
    model, parent
        Name of the new model and of the one that it goes on from; `model` is empty where slices
        were pinned and nothing was left to learn from.
    slices, new
        Slices that it learned from, and those of them that were new to it.
    traced, pinned
        Slices that were marked as traced, and pinned, on the way.
    steps, minutes
        Of the training, those before an interruption included; 0 where it was trained before.
    judged
        Both models on the pinned slices; None where nothing judges.
    found
        F1 of detections there (score and IoU from 0.5 on), before and after.
    notes
        What was assumed, and why nothing judges.
    cancelled
        Whether it was stopped; the same command goes on.
    """

    model: str
    parent: str
    slices: tuple[int, ...]
    new: tuple[int, ...]
    traced: tuple[int, ...]
    pinned: tuple[int, ...]
    steps: int = 0
    minutes: float = 0.0
    judged: Judgement | None = None
    found: tuple[float | None, float | None] = (None, None)
    notes: tuple[str, ...] = ()
    cancelled: bool = False

    @property
    def gain(self) -> Spread | None:
        """Gain in IoU over all truths, see `EqualRecall.gain`; None where it is not known."""
        equal = self.judged.at_equal_recall if self.judged else None
        return None if equal is None else equal.gain

    @property
    def advice(self) -> Advice:
        """Return what to do with the new model."""
        gain, (before, after) = self.gain, self.found
        if gain is None or gain.interval is None:
            return Advice.LOOK
        fewer = (after or 0.0) < (before or 0.0) - _FALL
        if gain.interval[1] < 0 or (fewer and gain.interval[0] <= 0):
            return Advice.ROLL_BACK
        return Advice.KEEP if gain.interval[0] > 0 and not fewer else Advice.LOOK

    @property
    def verdict(self) -> str:
        """The gain, and advice to keep the new model or to roll it back, in a sentence or two."""
        gain = self.gain
        if not self.model:
            return "Nothing was left to learn from: slices were pinned, no model was trained."
        if self.cancelled:
            return "Stopped before the end: the same command goes on."
        if self.judged is None or gain is None or gain.mean is None:
            return "Nothing judges the new model: look at what it finds before you keep it."
        equal = self.judged.at_equal_recall
        where = "at equal recall" if equal and equal.within else "over its best mask cut"
        text = f"IoU over all fossils {gain.mean:+.3f}"
        if gain.interval is not None:
            text += " (95 % interval {:+.3f} to {:+.3f})".format(*gain.interval)
        text += f" against {self.parent} {where}"
        before, after = self.found
        if before is not None and after is not None:
            text += f"; F1 of detections {before:.3f} to {after:.3f}"
        said = {
            Advice.KEEP: "Better: keep it.",
            Advice.ROLL_BACK: "Worse: roll it back.",
        }.get(self.advice, "No clear gain: more corrected slices may help.")
        return f"{said} On the pinned slices {format_slices(self.judged.slices)}: {text}."

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        lists = ("slices", "new", "traced", "pinned")
        gain = self.gain
        return {
            **super().summary(),
            **{name: format_slices(getattr(self, name)) for name in lists},
            "minutes": round(self.minutes, 2),
            "found": {"f1_before": self.found[0], "f1_after": self.found[1]},
            "gain_iou_all": None if gain is None else gain.summary(),
            "advice": str(self.advice),
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class TaughtResult(Summary):
    """A decision about a model that was taught, and the model in use now."""

    model: str
    state: TeachingState
    in_use: str


def run(project_path: Path, params: TeachParams, *, job: Job = QUIET) -> TeachResult | TaughtResult:
    """Train the model in use further on corrected slices, and judge both on the pinned ones.

    Slices whose masks are all reviewed are marked as traced first, as one action. The same call
    goes on where it was interrupted. The new model is used once it is kept, see `decide`.

    Raises
    ------
    FossilError
        Where no corrected slice is new to the model, a named one is not corrected or both teaches
        and judges, there is no model, or the name is taken.
    """
    if params.keep or params.roll_back:
        if params.keep and params.roll_back:
            raise FossilError(
                "One thing is decided at a time", expected="a model to keep, or one to roll back"
            )
        return decide(project_path, params.keep or params.roll_back, keep=bool(params.keep))
    with Project.open(project_path) as project:
        project.require_writable()
        ref = find_model(project, params.model)
        require_kept(ref)
        params = with_class(project, params)
        result = choose(project, params, ref)
        _mark(project, result)
        if not result.slices:
            return result
        name, taught = _begun(project, params, ref, result)
        result = replace(result, model=name)
        if _missing(project, name):
            result = _trained(project, params, ref, result, job)
        shutil.rmtree(project.model_folder(name) / _START, ignore_errors=True)
        if result.cancelled:
            return result
        with project.ledger.recorded("review teach", params.model_dump(mode="json")) as summary:
            result = _judged(project, params, ref, result, job)
            summary.update(result.summary())
            figures = {key: summary[key] for key in _FIGURES}
            write_teaching(project, name, taught.model_copy(update={"figures": figures}))
    return result


def decide(project_path: Path, name: str, *, keep: bool, job: Job = QUIET) -> TaughtResult:
    """Keep a model that was taught and use it, or roll it back: the one before is in use again.

    Where another model is in use by now, rolling back leaves that one.

    Raises
    ------
    FossilError
        Where no such model was taught, or one that is to be kept was not trained or judged yet.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        taught = read_teaching(project, name)
        if taught is None:
            raise FossilError(
                f"No model {name!r} was taught by corrected slices",
                expected="a model that 'fossiledit review teach' made",
                found=", ".join(project.models()) or "no model at all",
            )
        if keep and (taught.figures is None or _missing(project, name)):
            raise FossilError(
                f"The model {name!r} was not trained to its end, or not judged yet",
                advice="Teach it again with the same slices and settings, which goes on.",
            )
        state = TeachingState.KEPT if keep else TeachingState.ROLLED_BACK
        with project.ledger.recorded(f"review teach: {state}", {"name": name}) as summary:
            write_teaching(project, name, taught.model_copy(update={"state": state}))
            if keep:
                set_in_use(project, name)
            elif in_use(project) == name:
                set_in_use(project, taught.parent)
            result = TaughtResult(name, state, in_use(project))
            summary.update(result.summary())
    return result


def choose(project: Project, params: TeachParams, ref: ModelRef) -> TeachResult:
    """Choose which slices would teach and which be pinned, and change nothing.

    Returns
    -------
    TeachResult
        What `run` begins with: it has no model, no steps and no judgement.

    Raises
    ------
    FossilError
        As `run`.
    """
    parse = partial(parse_slices, count=project.shape[0])
    reviewed, traced = project.ledger.reviewed(), project.ledger.traced()
    corrected = {z for z, (done, every) in reviewed.items() if done == every} | traced.keys()
    named = {*parse(params.slices)} if params.slices.strip() else set()
    pin = {*parse(params.pin)} if params.pin.strip() else set()
    pinned = pin | {*project.settings.pinned_slices}
    if both := named & pinned:
        raise FossilError(
            f"Slices {format_slices(sorted(both))} are pinned: they only judge",
            expected="slices to learn from that are not pinned",
            found=format_slices(sorted(named)),
            advice="Choose others, or take the pin off.",
        )
    if open_ := sorted((named | pin) - corrected):
        done = [reviewed.get(z, (0, 0)) for z in open_]
        raise FossilError(
            f"Slices {format_slices(open_)} are not corrected yet",
            expected="slices with every mask reviewed, or marked as traced",
            found=f"{sum(d for d, _ in done)} of {sum(n for _, n in done)} masks reviewed",
            advice="Accept their masks, or mark the slices as traced if all fossils are drawn.",
        )
    seen = trained_on(project, ref)
    new = named or corrected - pinned - seen
    if not new and not pin:
        raise FossilError(
            f"No corrected slice is new to the model {ref.name!r}",
            expected="slices with every mask reviewed, or marked as traced, that are not pinned",
            found=f"reviewed or traced: {format_slices(sorted(corrected)) or 'none'}; "
            f"learned: {format_slices(sorted(seen)) or 'none'}; "
            f"pinned: {format_slices(sorted(pinned)) or 'none'}",
            advice="Accept all masks of a slice or trace it; name one it has learned to teach it"
            " again.",
        )
    others = traced.keys() - pinned if params.others and new else set()
    mark = tuple(sorted((new | pin) - traced.keys()))
    notes = (f"Marked as traced: slices {format_slices(mark)}.",) if mark else ()
    return TeachResult(
        model="",
        parent=ref.name,
        slices=tuple(sorted(new | others)),
        new=tuple(sorted(new)),
        traced=mark,
        pinned=tuple(sorted(pin - {*project.settings.pinned_slices})),
        notes=(*notes, *ref.notes),
    )


def _mark(project: Project, result: TeachResult) -> None:
    """Mark slices as traced, as one action that can be undone, and pin slices."""
    if result.traced:
        corrections.trace(project.path, TraceParams(slices=format_slices(result.traced)))
    if result.pinned:
        pins = {*project.settings.pinned_slices, *result.pinned}
        project.update(pinned_slices=tuple(sorted(pins)))


def _begun(
    project: Project, params: TeachParams, ref: ModelRef, result: TeachResult
) -> tuple[str, Teaching]:
    """Note what is taught before the training begins, and return its name.

    A model that nobody has decided about yet and that was made the same way is gone on with.
    """
    settings = {"max_steps", "learning_rate", "crop", "batch", "seed"}
    made_with = {
        "slices": format_slices(result.slices),
        "seen": format_slices(sorted(trained_on(project, ref))),
        **params.model_dump(mode="json", include=settings),
    }
    new = Teaching(parent=ref.address, parent_hash=ref.model_hash, made_with=made_with)
    stem = re.sub(r"-\d+$", "", ref.name)[:58]
    for name in [params.name] if params.name else (f"{stem}-{n}" for n in count(2)):
        known = read_teaching(project, name)
        if known is not None and known.model_copy(update={"figures": None}) == new:
            return name, known
        taken = known or any((project.model_folder(name) / f).exists() for f in (RECORD, STATE))
        if not taken and name not in model_names(project):
            write_teaching(project, name, new)
            return name, new
    raise FossilError(
        f"The name {params.name!r} is taken by another model or edit",
        expected="a new name",
        advice="Leave the name out, or choose another one.",
    )


def _missing(project: Project, name: str) -> bool:
    """Return whether the training of a model is still to be done, or to be ended."""
    folder = project.model_folder(name)
    return not (folder / RECORD).exists() or (folder / STATE).exists()


def _trained(
    project: Project, params: TeachParams, ref: ModelRef, result: TeachResult, job: Job
) -> TeachResult:
    """Train the new model; one that learned on this rock keeps its scale."""
    from napari_fossiledit.models.files.registry import read_record

    start = ref.folder
    if isinstance(ref, EditRef):
        # A training starts from whole weights.
        start = project.model_folder(result.model) / _START
        if not start.exists():
            edits.export(project.path, ref.name, start)
    root = read_record(ref.root.folder)
    same = {"max_minutes", "max_steps", "learning_rate", "crop", "batch", "seed", "device"}
    outcome = train.run(
        project.path,
        TrainParams(
            name=result.model,
            architecture=root.network.architecture,
            slices=format_slices(result.slices),
            init=str(start.resolve()),
            input=root.preprocessing.input,
            reach=max(root.preprocessing.reach, 1),
            z_flip=bool(root.training.get("z_flip")),
            scale=root.preprocessing.scale if trained_on(project, ref) else 0.0,
            **params.model_dump(include=same),
        ),
        job=job.renamed("Teaching"),
    )
    return replace(
        result,
        steps=outcome.steps,
        minutes=outcome.minutes,
        notes=(*result.notes, *outcome.notes),
        cancelled=outcome.stopped == "cancelled",
    )


def _judged(
    project: Project, params: TeachParams, ref: ModelRef, result: TeachResult, job: Job
) -> TeachResult:
    """Judge both models on the pinned slices, or say why not; predictions stay."""
    pinned = sorted(project.ledger.traced().keys() & {*project.settings.pinned_slices})
    name = params.class_name
    if not pinned:
        note = (
            "Nothing judges the new model, for no traced slice is pinned: pin one or two corrected"
            " slices (--pin)."
        )
        return replace(result, notes=(*result.notes, note))
    notes = result.notes
    if seen := sorted({*pinned} & (trained_on(project, ref) | {*result.slices})):
        notes += (
            f"The pinned slices {format_slices(seen)} are not independent: the model"
            f" {ref.name!r} has learned from them.",
        )
    options = EditParams(class_name=name, device=params.device)
    judged = judge_edit(project, ref.address, result.model, pinned, options, 0.0, job)
    if judged is None:
        note = f"Nothing judges the new model: slices {format_slices(pinned)} show no {name}."
        return replace(result, notes=(*notes, note))
    if judged.at_equal_recall is None:
        notes += (f"Of the gain {NO_PROBABILITIES}",)
    truths = [read_ground_truth(project, z) for z in pinned]
    before, after = (
        detection(
            judged_slice(project, t, project.instances(source, t.slice), name) for t in truths
        ).f1
        for source in judged.sources
    )
    return replace(result, judged=judged, found=(before, after), notes=(*notes, *judged.warnings))
