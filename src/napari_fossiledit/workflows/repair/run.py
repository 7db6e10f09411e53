"""The shortest way from a wrong mask to a judged edit.

The place is perturbed to find out what misleads the model there; then an edit is proposed, solved
and judged by the same steps as any other, with the place counting as much as a fossil.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.evaluation import changes
from napari_fossiledit.evaluation.causes import (
    Found,
    Outcome,
    Place,
    fitting_tests,
    mended,
    misled_by,
    outcome,
    ranking,
)
from napari_fossiledit.evaluation.compare import best_trial
from napari_fossiledit.geometry import check_slice
from napari_fossiledit.masks import cut_at
from napari_fossiledit.params.editing import RepairParams
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.perturb import SliceScene, perturb
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.edit.judging import found_at_strengths
from napari_fossiledit.workflows.edit.run import (
    Begun,
    Choice,
    EditPlan,
    Tradeoff,
    begun_edit,
    chosen,
    completed,
    finished,
    judged,
    planned,
    saved,
    solved,
    tried,
)
from napari_fossiledit.workflows.edit.slices import Recipe, choose_slices, require_not_pinned
from napari_fossiledit.workflows.repair.proposal import (
    Case,
    find_case,
    joint_slices,
    proposed,
    recipe_for,
)
from napari_fossiledit.workflows.repair.report import around, write_report
from napari_fossiledit.workflows.repair.result import RepairResult, shown_from
from napari_fossiledit.workflows.segment.predict import predict_missing
from napari_fossiledit.workflows.shared.crops import default_crop, read_crop
from napari_fossiledit.workflows.shared.model_refs import (
    find_model,
    require_free_name,
    require_kept,
)
from napari_fossiledit.workflows.shared.perturbed_slices import mud_colour
from napari_fossiledit.workflows.shared.seen import seen
from napari_fossiledit.workflows.shared.stack_values import StackValues

if TYPE_CHECKING:
    from napari_fossiledit.models.inference.protocol import Segmenter


def run(project_path: Path, params: RepairParams, *, job: Job = QUIET) -> RepairResult:
    """Find out what misleads a model at a place, and propose an edit that mends it.

    Raises
    ------
    FossilError
        Where there is no such model, slice or instance, the mask is right by the tracing, the name
        is taken, or memory or disk do not suffice.
    CancelledError
        Where it is cancelled before the edit is saved; a saved edit stays a proposal.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        # Checked here, not after minutes of predicting and probing.
        require_not_pinned(project, [check_slice(params.slice, project.shape[0])])
        ref = find_model(project, params.model)
        require_kept(ref)
        with project.ledger.recorded("repair", params.model_dump(mode="json")) as summary:
            usual = PredictParams(model=params.model, device=params.device)
            source = predict_missing(project, usual, [params.slice], job=job).source
            case = find_case(project, params, ref.name, source)
            joint = joint_slices(project, params, ref, case.place.class_name)
            edit = completed(project, proposed(params, case.place, joint))
            slices = choose_slices(project, edit, ref)
            here = recipe_for(edit, params, case)
            recipes = [here if z == here.slice else Recipe(z, edit) for z in slices.edit]
            plan = planned(project, edit, ref, slices, recipes)
            begun = begun_edit(plan)
            if begun is None:
                require_free_name(project, edit.name)
            result = _repaired(plan, case, begun, job)
            result = replace(result, report=write_report(project, result))
            summary.update(result.summary())
        finished(project, result.edited, (result.advice, result.verdict))
    return result


def _repaired(plan: EditPlan, case: Case, begun: Begun | None, job: Job) -> RepairResult:
    """Test the place, and take the steps of an edit, the strength chosen by what it does there."""
    place = case.place
    before = place.found_in(case.predictions)
    if not place.missed and not before.response:
        raise FossilError(
            f"{plan.ref.name} does not find the {place} when it predicts the slice"
            " with its usual options",
            advice="Choose a mask of a prediction without tiles and with the usual options.",
        )
    job.report(0, 0, "Loading the model")
    segmenter = plan.ref.load(plan.params.device)
    outcomes, skipped = _outcomes(plan, case, segmenter, job)
    solution = solved(plan, segmenter, job) if begun is None else begun.solution
    tradeoff = tried(plan, segmenter, solution, job)
    instances = {0.0: list(case.predictions)}
    strengths = sorted({*plan.strengths} - {0.0})
    for strength, _, there in found_at_strengths(
        plan.project,
        lambda strength: solution.edit.apply(segmenter, strength),
        strengths,
        [place.slice],
        job,
        "Looking at the place",
        mask_cut=plan.params.mask_cut,
    ):
        instances[strength] = there
    # The place decides, not only the tuning slices: an edit that spares it is no repair.
    at_strengths = {s: place.found_in(there) for s, there in instances.items()}
    if begun is None:
        edited = saved(plan, solution, tradeoff, _chosen(plan, tradeoff, place, at_strengths))
    else:
        edited = replace(begun.result, tried=tradeoff.trials)
    edited = judged(plan, edited, job)
    least = shown_from(place, before)
    old, new = (
        [i for i in instances[strength] if i.score >= least] for strength in (0.0, edited.strength)
    )
    return RepairResult(
        place=place,
        misled_by=misled_by(place, before, outcomes, case.neighbour),
        tests=tuple(ranking(outcomes)),
        before=before,
        after=at_strengths[edited.strength],
        at_strengths=at_strengths,
        edited=edited,
        changes=changes(old, new, truths=case.truths),
        skipped=skipped,
    )


def _outcomes(
    plan: EditPlan, case: Case, segmenter: Segmenter, job: Job
) -> tuple[list[Outcome], tuple[str, ...]]:
    """Try on the place what may mislead the model; return also what could not be tried."""
    project, place = plan.project, case.place
    texture = ""
    skipped: tuple[str, ...] = ()
    if place.missed:
        try:
            texture = default_crop(project, place.class_name)
        except FossilError as error:
            skipped = (f"The pitted texture was not tried: {error}",)
    image = project.stack.read(place.slice)
    scene = SliceScene(
        image,
        case.instances,
        mud_colour(project, place.slice, plan.params, image, case.instances),
        lambda crop: read_crop(project, crop or texture),
        None,
        f"slice {place.slice}",
        StackValues(project).span,
    )
    tests = fitting_tests(place, case.neighbour, coloured=image.ndim == 3, textured=bool(texture))
    perturbed = partial(perturb, scene, cancel=job.cancelled)
    y0, x0, y1, x1 = around(place)
    clock = job.clock(len(tests))
    outcomes = []
    for done, test in enumerate(tests):
        job.check("The repair")
        clock.tick(done, f"Trying what misleads the model: {test.words}")
        try:
            made = perturbed([test.step]).image
        except CancelledError:
            raise
        except FossilError:
            # The slice shows too little real mud to fill with.
            test = test.with_flat_mud()  # noqa: PLW2901
            made = perturbed([test.step]).image
        there = segmenter.predict(
            seen(project, segmenter.preprocessing.window, place.slice, made),
            slice_index=place.slice,
            pixel_size_um=project.geometry.pixel_size_um,
            cancel=job.cancelled,
        )
        there = cut_at(there, plan.params.mask_cut, "this model")
        crop = made[y0:y1, x0:x1].copy()
        outcomes.append(outcome(place, test, case.predictions, there, crop))
    return outcomes, skipped


def _chosen(
    plan: EditPlan, tradeoff: Tradeoff, place: Place, at_strengths: Mapping[float, Found]
) -> Choice:
    """Choose a strength that mends the place and is accepted; else as for any edit."""
    before = at_strengths[0.0]
    mending = [s for s, there in at_strengths.items() if s and mended(place, before, there)]
    good = [t for t in tradeoff.trials if t.accepted and t.strength in mending]
    if good:
        best = best_trial(good)
        return Choice(best.strength, best.score)
    if mending and not tradeoff.trials:
        note = (
            "No traced slice is left to choose the strength on: the mildest one that repairs the"
            " place was taken."
        )
        return Choice(min(mending), 0.0, (note,))
    return chosen(plan, tradeoff)
