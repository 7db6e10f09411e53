"""Rewrite a model: solve for an edit, choose its strength, save it as a proposal, and judge it.

Each step is a function of the values of the steps before it:

    planned -> solved -> tried -> chosen -> saved -> judged -> finished

Between the last two, the report is written. Until it is finished, an edit is marked as not judged,
and the same command takes it up where the program ended, see `begun_edit`. What a step could not do
as asked is part of its value (``notes``). An edit takes the steps one after the other, see `run`; a
repair (`workflows.repair.run`) looks at its place between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.evaluation.compare import Trial, best_trial, trials
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.models.native.backends import require_backend
from napari_fossiledit.params.editing import EditParams, Pull, Scope, Solver
from napari_fossiledit.params.segment import Backend
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, EditRecord, Project
from napari_fossiledit.project.edit_record import STRONGEST, UNJUDGED
from napari_fossiledit.workflows.edit.decide import save_edit
from napari_fossiledit.workflows.edit.judging import judge_edit, judged_at_strengths
from napari_fossiledit.workflows.edit.report import write_report
from napari_fossiledit.workflows.edit.result import Advice, EditResult
from napari_fossiledit.workflows.edit.slices import (
    EditSlices,
    Lazy,
    Recipe,
    choose_slices,
    region_of,
    shown_pair,
)
from napari_fossiledit.workflows.shared.folds import CHOSEN, trained_on
from napari_fossiledit.workflows.shared.ground_truth import read_ground_truth
from napari_fossiledit.workflows.shared.model_refs import (
    ModelRef,
    find_model,
    require_free_name,
    require_kept,
)
from napari_fossiledit.workflows.shared.perturbed_slices import check_readable, class_of
from napari_fossiledit.workflows.shared.seen import seen
from napari_fossiledit.workflows.shared.stale import stale_notes

if TYPE_CHECKING:
    from napari_fossiledit.editing.solve import Solution
    from napari_fossiledit.models.inference.protocol import Segmenter

UNTRIED_STRENGTH = 0.5
"""Where there is no slice to choose the strength on, the one nearest to this is taken."""

_JUDGING_CANCELLED = "The edit was not judged: judging was cancelled. The edit itself is saved."


def run(project_path: Path, params: EditParams, *, job: Job = QUIET) -> EditResult:
    """Rewrite a model with perturbed slices and save the edit; the model itself is not touched.

    Raises
    ------
    FossilError
        Where a slice is not there or not traced, the perturbation does not suit it, the name is
        taken, the backend cannot edit masks alone, or memory or disk do not suffice.
    CancelledError
        Where it is cancelled before the edit is saved and ``keep_partial`` is off; a saved edit
        that is not judged stays a proposal.
    """
    if params.backend is not Backend.TWIN and params.scope is Scope.MASKS:
        raise FossilError(
            f"The backend {params.backend} cannot edit the masks alone",
            expected=f"the scope {Scope.ALL}, or the backend {Backend.TWIN}",
            found=f"the scope {params.scope}",
            advice=f"Choose --scope {Scope.ALL}, or the backend {Backend.TWIN}.",
        )
    with Project.open(project_path) as project:
        project.require_writable()
        params = completed(project, params)
        ref = find_model(project, params.model)
        require_kept(ref)
        if params.backend is not Backend.TWIN:
            from napari_fossiledit.models.files.registry import read_record

            # Checked here, before the weights are read.
            require_backend(params.backend, read_record(ref.root.folder).network.architecture)
        plan = planned(project, params, ref, choose_slices(project, params, ref))
        begun = begun_edit(plan)
        if begun is None:
            require_free_name(project, params.name)
        with project.ledger.recorded("edit", params.model_dump(mode="json")) as summary:
            job.report(0, 0, "Loading the model")
            segmenter = ref.on(params.device, params.backend)
            plan = replace(plan, notes=(*plan.notes, *segmenter.notes))
            solution = solved(plan, segmenter, job) if begun is None else begun.solution
            # Tried again: a record has the means of the trials alone, and the report wants more.
            tradeoff = tried(plan, segmenter, solution, job)
            if begun is None:
                result = saved(plan, solution, tradeoff, chosen(plan, tradeoff))
            else:
                result = replace(begun.result, tried=tradeoff.trials)
            result = judged(plan, result, job)
            result = replace(result, report=write_report(project, result))
            summary.update(result.summary())
        finished(project, result)
    return result


def completed(project: Project, params: EditParams) -> EditParams:
    """Fill in the class, and a name where none was given.

    Raises
    ------
    FossilError
        Where a mud colour or texture is named that cannot be used, whether it is needed or not.
    """
    check_readable(project, params)
    name = params.name or f"edit-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    return params.model_copy(update={"name": name, "class_name": class_of(project, params)})


# ---------------------------------------------------------------------- the values


@dataclass(frozen=True)
class EditPlan:
    """All that an edit is made of, settled before anything is computed.

    Attributes
    ----------
    project, ref
        The open project, and the model or edit to rewrite.
    model_hash
        Of that model now: an edit is not saved below another one.
    params
        With name and class, see `completed`.
    slices
        Which slices are used for what.
    recipes
        How the slices to edit with are shown to the solver.
    strengths, scores
        To choose from.
    notes
        What cannot be done as asked, in words.
    """

    project: Project
    ref: ModelRef
    model_hash: str
    params: EditParams
    slices: EditSlices
    recipes: tuple[Recipe, ...]
    strengths: tuple[float, ...]
    scores: tuple[float, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tradeoff:
    """Gains and costs of strengths and scores on the tuning slices.

    Attributes
    ----------
    trials
        The first one is without the edit; empty where nothing was tried.
    cancelled
        Whether it was broken off, here or while solving.
    """

    trials: tuple[Trial, ...] = ()
    cancelled: bool = False


@dataclass(frozen=True)
class Choice:
    """Strength and score of an edit, and why these where that is not plain."""

    strength: float
    score: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Begun:
    """An edit that is saved and not finished, and its weights."""

    result: EditResult
    solution: Solution


# ----------------------------------------------------------------------- the steps


def begun_edit(plan: EditPlan) -> Begun | None:
    """Return the edit of this plan where it is saved, and the program ended before it was finished.

    None where there is no such edit, or it was made otherwise.
    """
    name, edits = plan.params.name, plan.project.edits
    record = edits.look(name) if name in edits.names() else None
    if not isinstance(record, EditRecord) or not record.judged.get(UNJUDGED):
        return None
    of_model = (record.parent, record.parent_hash) == (plan.ref.address, plan.model_hash)
    if not of_model or record.params != _recorded(plan, name):
        return None
    from napari_fossiledit.editing.edit import Edit
    from napari_fossiledit.editing.solve import Solution

    weights = Edit.from_bytes(edits.delta(name), f"The weights of the edit {name!r}")
    result = EditResult(
        name=name,
        folder=edits.place(name),
        parent=plan.ref.name,
        slices=plan.slices,
        strength=record.strength,
        score=record.score,
        tried=(),
        notes=tuple(record.judged["warnings"]),
        losses={layer: (before, after) for layer, (before, after) in record.losses.items()},
        drift=record.drift,
        preservation=record.preservation,
        seconds=record.judged["seconds"],
    )
    return Begun(result, Solution(weights))


def _recorded(plan: EditPlan, name: str) -> dict[str, Any]:
    """Return what the record of an edit says of how it was made."""
    return {
        **plan.params.model_dump(mode="json"),
        "name": name,
        CHOSEN: plan.slices.summary(),
        "recipes": [recipe.summary() for recipe in plan.recipes],
    }


def planned(
    project: Project,
    params: EditParams,
    ref: ModelRef,
    slices: EditSlices,
    recipes: Sequence[Recipe] = (),
) -> EditPlan:
    """Settle what an edit is made of.

    Parameters
    ----------
    params
        With name and class, see `completed`.
    recipes
        How the slices are shown to the solver; empty: all as `params` say.

    Raises
    ------
    FossilError
        Where strengths, scores or the region cannot be read, or the region lies outside of what
        is traced.
    """
    strengths = _numbers(params.strengths, "strengths", 0.0, STRONGEST)
    scores = _numbers(params.scores, "scores", 0.0, 1.0)
    # Before minutes of solving, not after.
    for z in (*slices.tuning, *slices.pinned):
        read_ground_truth(project, z, region_of(params))
    used = (*slices.edit, *slices.tuning, *slices.pinned)
    notes = [*ref.notes, *stale_notes(project, {ANNOTATIONS: used})]
    seen = sorted({*slices.pinned} & trained_on(project, ref))
    if seen:
        notes.append(
            f"The pinned slices {format_slices(seen)} are not independent: the model {ref.name!r}"
            " was made with them."
        )
    holds_output = params.pull_to is Pull.OUTPUT and params.pull > 0
    if holds_output and not slices.preserve and params.solver is not Solver.ADAM:
        notes.append(
            "No slice is left whose output could be preserved: the edit was held to the weights"
            " instead."
        )
        params = params.model_copy(update={"pull_to": Pull.WEIGHTS})
    return EditPlan(
        project,
        ref,
        ref.model_hash,
        params,
        slices,
        tuple(recipes) or tuple(Recipe(z, params) for z in slices.edit),
        strengths,
        scores,
        tuple(notes),
    )


def _numbers(text: str, what: str, low: float, high: float) -> tuple[float, ...]:
    """Read ``"0.25,0.5,1"``; raise where a part is no number between `low` and `high`."""
    try:
        values = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        values = ()
    if not values or not all(low <= value <= high for value in values):
        raise FossilError(
            f"The {what} cannot be read",
            expected=f"numbers from {low:g} to {high:g}, such as 0.25,0.5,1",
            found=repr(text),
        )
    return values


def solved(plan: EditPlan, segmenter: Segmenter, job: Job) -> Solution:
    """Find the weights to add."""
    from napari_fossiledit.editing.solve import solve

    project, params = plan.project, plan.params
    window = segmenter.preprocessing.window
    pair = partial(shown_pair, project, params=params, window=window, cancel=job.cancelled)
    return solve(
        segmenter,
        Lazy(pair, plan.recipes),
        params,
        preserve=Lazy(partial(seen, project, window), plan.slices.preserve),
        pixel_size_um=project.geometry.pixel_size_um,
        job=job,
    )


def tried(plan: EditPlan, segmenter: Segmenter, solution: Solution, job: Job) -> Tradeoff:
    """Judge the model without the edit and with it at all strengths on the tuning slices.

    Raises
    ------
    CancelledError
        Where it is cancelled and ``keep_partial`` is off.
    """
    if solution.cancelled:
        return Tradeoff(cancelled=True)
    if not plan.slices.tuning:
        return Tradeoff()
    try:
        slices = judged_at_strengths(
            plan.project,
            lambda strength: solution.edit.apply(segmenter, strength) if strength else segmenter,
            (0.0, *sorted({*plan.strengths} - {0.0})),
            [
                read_ground_truth(plan.project, z, region_of(plan.params))
                for z in plan.slices.tuning
            ],
            plan.params.class_name,
            job,
            "Choosing the strength",
            mask_cut=plan.params.mask_cut,
        )
    except CancelledError:
        if not plan.params.keep_partial:
            raise
        return Tradeoff(cancelled=True)
    return Tradeoff(trials(slices, plan.scores, plan.params.tolerance))


def chosen(plan: EditPlan, tradeoff: Tradeoff) -> Choice:
    """Choose strength and score; where nothing was tried, those asked for that risk least."""
    edited = [t for t in tradeoff.trials if t.strength]
    if not edited:
        why = "No traced slice is left to choose the strength on"
        if tradeoff.cancelled:
            why = "Choosing the strength was cancelled"
        strength = min(plan.strengths, key=lambda s: abs(s - UNTRIED_STRENGTH))
        note = f"{why}: {strength:g} was taken. Look at other strengths before you keep the edit."
        return Choice(strength, min(plan.scores), (note,))
    best = best_trial(edited)
    notes: tuple[str, ...] = ()
    if not best.accepted:
        notes = (
            f"On the tuning slices {format_slices(plan.slices.tuning)} every strength costs more"
            " recall, IoU or matched fossils than is accepted; the mildest was taken.",
        )
    return Choice(best.strength, best.score, notes)


def saved(plan: EditPlan, solution: Solution, tradeoff: Tradeoff, choice: Choice) -> EditResult:
    """Save the edit as a proposal before it is judged: nothing that was computed is lost.

    Raises
    ------
    FossilError
        Where the model was replaced meanwhile, or the edit cannot be saved.
    """
    project, ref, params = plan.project, plan.ref, plan.params
    if ref.model_hash != plan.model_hash:
        raise FossilError(
            f"The model {ref.name!r} was replaced while the edit was solved",
            expected=f"hash {plan.model_hash[:12]}",
            found=f"{ref.model_hash[:12]} in {ref.folder}",
            advice="Make the edit again, when nothing writes that model any more.",
        )
    notes = [*plan.notes]
    if solution.cancelled:
        notes.append("Solving was cancelled: these are the best weights up to then.")
    notes += choice.notes
    name, taken = params.name, {*project.edits.names(), *project.models()}
    if name in taken:
        # Another process saved it since `completed` looked; hours of solving are not thrown away.
        name = next(n for i in count(2) if (n := f"{params.name[:58]}-{i}") not in taken)
        notes.append(f"The name {params.name!r} was taken meanwhile: it is saved as {name!r}.")
    new = save_edit(
        project,
        ref,
        solution.edit,
        name,
        _recorded(plan, name),
        " ".join(notes),
        strength=choice.strength,
        score=choice.score,
        losses=solution.losses,
        drift=solution.drift,
        preservation=solution.preservation,
        curves={n: [list(point) for point in curve] for n, curve in solution.curves.items()},
        # Kept even if judging is cancelled or fails; `finished` adds the figures.
        judged={
            "tried": [t.summary() for t in tradeoff.trials],
            "strength": choice.strength,
            "warnings": notes,
            "seconds": solution.seconds,
            UNJUDGED: True,
        },
    )
    return EditResult(
        name=name,
        folder=new.folder,
        parent=ref.name,
        slices=plan.slices,
        strength=choice.strength,
        score=choice.score,
        tried=tradeoff.trials,
        notes=tuple(notes),
        losses=solution.losses,
        drift=solution.drift,
        preservation=solution.preservation,
        seconds=solution.seconds,
        cancelled=tradeoff.cancelled,
    )


def judged(plan: EditPlan, result: EditResult, job: Job) -> EditResult:
    """Judge parent and edit on the pinned slices, or say why not; predictions stay."""
    judgement, note, cancelled = None, "", result.cancelled
    pinned, params = plan.slices.pinned, plan.params
    if not pinned:
        note = (
            "The edit was not judged: no traced slice is pinned, or left that neither the model nor"
            " the edit has seen. Trace a slice and pin it."
        )
    elif cancelled:
        note = _JUDGING_CANCELLED
    else:
        try:
            judgement = judge_edit(
                plan.project, plan.ref.address, result.name, pinned, params, result.score, job
            )
        except CancelledError:
            note, cancelled = _JUDGING_CANCELLED, True
        else:
            if judgement is None:
                where = format_slices(pinned)
                note = f"It was not judged: slices {where} show no {params.class_name}."
    notes = (*result.notes, note) if note else result.notes
    return replace(result, judged=judgement, notes=notes, cancelled=cancelled)


def finished(
    project: Project, result: EditResult, verdict: tuple[Advice, str] | None = None
) -> None:
    """Write the figures of an edit into its record, and so take the mark that it is not judged.

    It must be the last thing that is written: a program that ends before leaves the mark.

    Parameters
    ----------
    verdict
        Other advice, and the sentence with it, than the edit's own.
    """
    advice, words = verdict or (result.advice, result.verdict)
    figures = {
        **({} if result.judged is None else result.judged.summary()),
        "strength": result.strength,
        "tried": [t.summary() for t in result.tried],
        "warnings": list(result.warnings),
        "advice": str(advice),
        "verdict": words,
    }
    project.edits.update(result.name, judged=figures, note=" ".join(result.notes))
