"""Rewrite a model: solve for an edit, choose its strength, judge it, and save it as a proposal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.evaluation import JudgedSlice
from napari_fossiledit.evaluation.protocol import protocol
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.models.native.backends import require_backend
from napari_fossiledit.params.editing import EditParams, Pull, Scope, Solver
from napari_fossiledit.params.segment import Backend
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.project.edit_record import STRONGEST
from napari_fossiledit.workflows.edit.choice import Trial, best, numbers, trials
from napari_fossiledit.workflows.edit.decide import save_edit
from napari_fossiledit.workflows.edit.judging import Judging
from napari_fossiledit.workflows.edit.pairs import Pairs, Recipe, Slices
from napari_fossiledit.workflows.edit.report import write_page
from napari_fossiledit.workflows.edit.result import EditResult
from napari_fossiledit.workflows.edit.slices import CHOSEN, EditSlices, choose_slices, trained_on
from napari_fossiledit.workflows.shared.judging import find_instances, judged_slice
from napari_fossiledit.workflows.shared.model_refs import (
    ModelRef,
    find_model,
    require_free_name,
    require_kept,
)
from napari_fossiledit.workflows.shared.perturbed_slices import class_of
from napari_fossiledit.workflows.shared.truth import Truth, read_truth

if TYPE_CHECKING:
    from napari_fossiledit.editing.solve import Solution
    from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter

__all__ = ["EditResult", "EditWork", "completed", "run"]

PRUDENT = 0.5
"""Where there is no slice to choose the strength on, the one nearest to this is taken."""

_SOLVING_CANCELLED = "Solving was cancelled: these are the best weights up to then."
_CHOOSING_CANCELLED = "Choosing the strength was cancelled"
_NO_TUNING = "No traced slice is left to choose the strength on"
_NO_PINNED = (
    "The edit was not judged: no traced slice is pinned, or left that neither the model nor the"
    " edit has seen. Trace a slice and pin it."
)
_JUDGING_CANCELLED = "The edit was not judged: judging was cancelled. The edit itself is saved."
_SEEN = "The pinned slices {} are no strangers: the model {!r} was made with them."
_NOTHING_SPARE = (
    "No slice is left whose output could be preserved: the edit was held to the weights instead."
)


def run(
    project_path: Path,
    params: EditParams,
    *,
    job: Job = QUIET,
) -> EditResult:
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
    _require_in_backend(params)
    with Project.open(project_path) as project:
        project.require_writable()
        params = completed(project, params)
        ref = find_model(project, params.model)
        require_kept(ref)
        _require_network(params, ref)
        slices = choose_slices(project, params, ref)
        work = EditWork(project, params, ref, slices, job)
        with project.ledger.recorded("edit", params.model_dump(mode="json")) as summary:
            result = work.result()
            result = replace(result, page=write_page(project, result))
            summary.update(result.summary())
    return result


def _require_in_backend(params: EditParams) -> None:
    """Refuse what only this program's own network can do, before anything is read."""
    if params.backend is not Backend.TWIN and params.scope is Scope.MASKS:
        raise FossilError(
            f"The backend {params.backend} cannot edit the masks alone",
            expected=f"the scope {Scope.ALL}, or the backend {Backend.TWIN}",
            found=f"the scope {params.scope}",
            advice=f"Choose --scope {Scope.ALL}, or the backend {Backend.TWIN}.",
        )


def _require_network(params: EditParams, ref: ModelRef) -> None:
    """Refuse a backend that is missing or lacks the network, before the weights are read."""
    if params.backend is Backend.TWIN:
        return
    from napari_fossiledit.models.files.registry import read_record

    require_backend(params.backend, read_record(ref.root.folder).network.architecture)


def completed(project: Project, params: EditParams) -> EditParams:
    """Fill in the class, and a name where none was given.

    Raises
    ------
    FossilError
        Where the name is taken.
    """
    name = params.name or f"edit-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    require_free_name(project, name)
    return params.model_copy(update={"name": name, "class_name": class_of(project, params)})


class EditWork:
    """One edit, from slices to judgement; each step can be taken by itself.

    Parameters
    ----------
    params
        With name and class, see `completed`.
    recipes
        How the slices are shown to the solver; None: all as `params` say.

    Raises
    ------
    FossilError
        Where strengths or scores cannot be read.
    """

    def __init__(
        self,
        project: Project,
        params: EditParams,
        ref: ModelRef,
        slices: EditSlices,
        job: Job = QUIET,
        recipes: Sequence[Recipe] | None = None,
    ) -> None:
        self.project, self.ref, self.slices = project, ref, slices
        self.job = job
        self.strengths = numbers(params.strengths, "strengths", 0.0, STRONGEST)
        self.scores = numbers(params.scores, "scores", 0.0, 1.0)
        self.notes: list[str] = self._seen_before()
        self._made_from = ref.model_hash
        self.params = self._held(params)
        self.recipes = recipes or [Recipe(z, self.params) for z in slices.edit]

    def _seen_before(self) -> list[str]:
        """Note which pinned slices the model knows already."""
        seen = sorted({*self.slices.pinned} & {*trained_on(self.project, self.ref)})
        return [_SEEN.format(format_slices(seen), self.ref.name)] if seen else []

    def _held(self, params: EditParams) -> EditParams:
        """Hold to the weights where no slice is left to preserve."""
        to_output = params.pull_to is Pull.OUTPUT and params.pull > 0
        if self.slices.preserve or params.solver is Solver.ADAM or not to_output:
            return params
        self.notes.append(_NOTHING_SPARE)
        return params.model_copy(update={"pull_to": Pull.WEIGHTS})

    def result(self) -> EditResult:
        """Solve, choose the strength, save, and judge."""
        segmenter = self.ref.on(self.params.device, self.params.backend)
        self.notes.extend(segmenter.notes)
        solution = self.solve(segmenter)
        tried, stopped = self._tried_or_cancelled(segmenter, solution)
        strength, score = self.choose(tried, stopped)
        result = self.save(solution, tried, strength, score)
        return self.judge(replace(result, cancelled=solution.cancelled or stopped))

    def solve(self, segmenter: MaskRcnnSegmenter) -> Solution:
        """Find the weights to add."""
        from napari_fossiledit.editing.solve import solve

        params = self.params
        solution = solve(
            segmenter,
            Pairs(
                self.project,
                self.recipes,
                params.fossil_weight,
                params.marked_only,
                self.job.cancelled,
            ),
            params,
            preserve=Slices(self.project, self.slices.preserve),
            pixel_size_um=self.project.geometry.pixel_size_um,
            job=self.job,
        )
        if solution.cancelled:
            self.notes.append(_SOLVING_CANCELLED)
        return solution

    def _tried_or_cancelled(
        self, segmenter: MaskRcnnSegmenter, solution: Solution
    ) -> tuple[tuple[Trial, ...], bool]:
        """Try strengths; whether that was cancelled."""
        if solution.cancelled:
            return (), True
        try:
            return self.trials(segmenter, solution), False
        except CancelledError:
            if not self.params.keep_partial:
                raise
            return (), True

    def trials(self, segmenter: MaskRcnnSegmenter, solution: Solution) -> tuple[Trial, ...]:
        """Judge the model without the edit and with it at all strengths on the tuning slices."""
        if not self.slices.tuning:
            return ()
        truths = [read_truth(self.project, z) for z in self.slices.tuning]
        wanted = (0.0, *sorted(set(self.strengths) - {0.0}))
        jobs = [(strength, truth) for strength in wanted for truth in truths]
        clock = self.job.clock(len(jobs))
        judged: dict[float, list[JudgedSlice]] = {strength: [] for strength in wanted}
        edited, at = segmenter, 0.0
        for done, (strength, truth) in enumerate(jobs):
            self.job.check("Choosing the strength")
            told = f"strength {strength:g} on slice {truth.slice}"
            clock.tick(done, f"Choosing the strength: {told}")
            if at != strength:
                edited, at = solution.edit.apply(segmenter, strength), strength
            judged[strength].append(self._judged(edited, truth))
        clock.tick(len(jobs), "Chose the strength")
        unedited = judged.pop(0.0)
        found = trials(unedited, judged, self.scores, self.params.tolerance)
        return (Trial(0.0, 0.0, protocol(unedited), accepted=True), *found)

    def _judged(self, segmenter: MaskRcnnSegmenter, truth: Truth) -> JudgedSlice:
        found = find_instances(segmenter, self.project, truth.slice, self.job.cancelled)
        return judged_slice(self.project, truth, found, self.params.class_name)

    def choose(self, tried: Sequence[Trial], stopped: bool = False) -> tuple[float, float]:
        """Choose strength and score, and note why where that is not plain."""
        edited = [t for t in tried if t.strength]
        if not edited:
            return self._unchosen(_CHOOSING_CANCELLED if stopped else _NO_TUNING)
        chosen = best(edited)
        if not chosen.accepted:
            self.notes.append(
                f"On the tuning slices {format_slices(self.slices.tuning)} every strength costs"
                f" more recall, IoU or matched fossils than is accepted; the mildest was taken."
            )
        return chosen.strength, chosen.score

    def _unchosen(self, why: str) -> tuple[float, float]:
        """Take, of what was asked for, a prudent strength and the score that loses least."""
        strength = min(self.strengths, key=lambda s: abs(s - PRUDENT))
        told = f"{why}: {strength:g} was taken. Look at other strengths before you keep the edit."
        self.notes.append(told)
        return strength, min(self.scores)

    def save(
        self, solution: Solution, tried: Sequence[Trial], strength: float, score: float
    ) -> EditResult:
        """Save the edit as a proposal before it is judged: nothing that was computed is lost.

        Raises
        ------
        FossilError
            Where the model was replaced meanwhile, or the edit cannot be saved.
        """
        self._require_unchanged()
        name = self._free_name()
        known = self._known(solution, [t.summary() for t in tried], strength)
        told = {
            **self.params.model_dump(mode="json"),
            "name": name,
            CHOSEN: self.slices.summary(),
            "recipes": [recipe.summary() for recipe in self.recipes],
        }
        note, how = " ".join(self.notes), {"strength": strength, "score": score, **known}
        saved = save_edit(self.project, self.ref, solution.edit, name, told, note, **how)
        return EditResult(
            name,
            saved.folder,
            self.ref.name,
            self.slices,
            strength,
            score,
            tuple(tried),
            tuple(self.notes),
            known["losses"],
            solution.drift,
            solution.preservation,
            solution.seconds,
        )

    def _known(
        self, solution: Solution, tried: list[dict[str, Any]], strength: float
    ) -> dict[str, Any]:
        """Tell what the record of the edit keeps of its solution."""
        before, after = solution.before, solution.after
        return {
            "losses": {name: [before[name], after.get(name)] for name in before},
            "drift": solution.drift,
            "preservation": solution.preservation,
            "curves": {n: [list(p) for p in c] for n, c in solution.curves.items()},
            "judged": {"tried": tried, "strength": strength, "warnings": self.notes},
        }

    def judge(self, result: EditResult) -> EditResult:
        """Judge parent and edit on the pinned slices; their predictions stay in the ledger."""
        if not self.slices.pinned:
            return self._unjudged(result, _NO_PINNED)
        if result.cancelled:
            return self._unjudged(result, _JUDGING_CANCELLED)
        try:
            found = self.judging.judge(
                self.ref.address, result.name, self.slices.pinned, result.score
            )
        except CancelledError:
            return replace(self._unjudged(result, _JUDGING_CANCELLED), cancelled=True)
        if found is None:
            where, name = format_slices(self.slices.pinned), self.params.class_name
            return self._unjudged(result, f"It was not judged: slices {where} show no {name}.")
        return self._noted(replace(result, judged=found))

    def _free_name(self) -> str:
        """Name of the edit, or one like it where another edit took it meanwhile."""
        wanted = self.params.name
        taken = {*self.project.edits.names(), *self.project.models()}
        if wanted not in taken:
            return wanted
        name = next(n for i in count(2) if (n := f"{wanted[:58]}-{i}") not in taken)
        self.notes.append(f"The name {wanted!r} was taken meanwhile: it is saved as {name!r}.")
        return name

    def _require_unchanged(self) -> None:
        """Refuse to save an edit below another model than it was solved for."""
        found = self.ref.model_hash
        if found != self._made_from:
            raise FossilError(
                f"The model {self.ref.name!r} was replaced while the edit was solved",
                expected=f"hash {self._made_from[:12]}",
                found=f"{found[:12]} in {self.ref.folder}",
                advice="Make the edit again, when nothing writes that model any more.",
            )

    @property
    def judging(self) -> Judging:
        """Judges with the parameters of this edit."""
        params = self.params
        return Judging(
            self.project,
            params.class_name,
            params.tolerance,
            params.device,
            self.job,
        )

    def _unjudged(self, result: EditResult, why: str) -> EditResult:
        return self._noted(replace(result, notes=(*result.notes, why)))

    def _noted(self, result: EditResult) -> EditResult:
        """Write what came out into the record of the edit."""
        told = {
            **({} if result.judged is None else result.judged.summary()),
            "strength": result.strength,
            "tried": [t.summary() for t in result.tried],
            "warnings": list(result.warnings),
        }
        self.project.edits.update(result.name, judged=told, note=" ".join(result.notes))
        return result
