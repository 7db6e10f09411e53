"""Judge the predictions of a model on traced slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation import Evaluation, JudgedSlice, evaluate
from napari_fossiledit.evaluation.frontier import EqualRecall
from napari_fossiledit.files import write_json
from napari_fossiledit.geometry import Region, format_slices
from napari_fossiledit.params.segment import EvaluateParams, PredictParams, Views
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, Project, Source
from napari_fossiledit.workflows.shared.folds import trained_on
from napari_fossiledit.workflows.shared.frontier import NO_PROBABILITIES, against_cuts
from napari_fossiledit.workflows.shared.ground_truth import (
    judged_slice,
    read_ground_truth,
    slices_to_judge,
)
from napari_fossiledit.workflows.shared.model_refs import find_model, prediction_source
from napari_fossiledit.workflows.shared.sources import with_class
from napari_fossiledit.workflows.shared.stale import stale_notes


@dataclass(frozen=True)
class EvaluateResult:
    """Figures of a model.

    Attributes
    ----------
    model, source
        Model as the user named it, and its predictions in the ledger.
    class_name, region
        What was judged, and where.
    mask_cut
        Probability at which the masks end.
    figures
        All figures.
    report
        File they were written to; None in a read-only project.
    at_equal_recall
        The gain over another model at the mask cut that gives it the same recall; None where
        there is none to compare with, or its predictions have no mask probabilities.
    notes
        What had to be assumed of the model, and which predictions were not judged, in sentences
        for the user.
    """

    model: str
    source: str
    class_name: str
    region: str
    mask_cut: float
    figures: Evaluation
    report: Path | None
    at_equal_recall: EqualRecall | None = None
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values; undefined figures are None."""
        return {
            "model": self.model,
            "source": self.source,
            "class_name": self.class_name,
            "region": self.region,
            "mask_cut": self.mask_cut,
            **self.figures.summary(),
            **({"at_equal_recall": self.at_equal_recall.summary()} if self.at_equal_recall else {}),
            "report": None if self.report is None else str(self.report),
            **({"notes": list(self.notes)} if self.notes else {}),
        }


def run(
    project_path: Path,
    params: EvaluateParams,
    *,
    job: Job = QUIET,
) -> EvaluateResult:
    """Judge a model on traced slices, predicting those that have no prediction yet.

    Raises
    ------
    FossilError
        Where no slice is chosen, one is not traced, or there is no such model.
    """
    with Project.open(project_path) as project:
        params = with_class(project, params)
        if not params.model:
            params = params.model_copy(update={"model": find_model(project, "").name})
        slices = slices_to_judge(project, params.slices)
        region = Region.parse(params.region) if params.region else None
        # A slice that is not traced ends the evaluation before minutes of predicting, not after.
        for z in slices:
            read_ground_truth(project, z, region)
        rival = params.against or _unchanged(project, params)
        for name in filter(None, (params.model, rival)):
            _require_there(project, name, slices)
        source, notes = _source(project, params, slices, job)
        notes += _learned_notes(project, params, slices)
        notes += stale_notes(project, {ANNOTATIONS: slices, source: slices})

        def judged(z: int) -> JudgedSlice:
            truth = read_ground_truth(project, z, region)
            found = project.instances(source, z, mask_cut=params.mask_cut)
            return judged_slice(project, truth, found, params.class_name)

        figures = evaluate(
            job.tracked(map(judged, slices), len(slices), "Judging slice"),
            score=params.score,
            detection_score=params.detection_score,
        )
        gain = None
        if rival:
            bare = {"model": rival, "views": Views.ONE, "refine": False}
            plain = params.model_copy(update=bare)
            # What is noted of them is of no use to who asked for the others.
            other, _ = _source(project, plain, slices, job)
            gain = against_cuts(
                project,
                other,
                [read_ground_truth(project, z, region) for z in slices],
                params.class_name,
                figures.protocol,
                scores=sorted({0.0, params.score}),
                job=job,
            )
            said = gain.words if gain else NO_PROBABILITIES
            notes += (f"Compared with {other}: {said}",)
        # The newest report of a source replaces the one before.
        name = f"evaluate-{Source.parse(source).file_name}.json"
        report = None if project.read_only else project.reports / name
        result = EvaluateResult(
            params.model,
            source,
            params.class_name,
            params.region,
            params.mask_cut,
            figures,
            report,
            gain,
            notes,
        )
        if report is not None:
            write_json(report, result.summary())
            with project.ledger.recorded("evaluate", params.model_dump(mode="json")) as summary:
                summary.update(result.summary())
    return result


def _unchanged(project: Project, params: EvaluateParams) -> str:
    """Return the model that nothing was done to; empty where that is the one that is judged."""
    if params.model in project.edits.names():
        return project.edits.read(params.model).parent
    return params.model if params.refine or params.views is not Views.ONE else ""


def _require_there(project: Project, name: str, slices: Sequence[int]) -> None:
    """Check that there is such a model, or that predictions of that name have the slices."""
    if name not in {s.name for s in project.ledger.sources()}:
        find_model(project, name)
    elif missing := set(slices) - project.ledger.done(name):
        raise FossilError(
            f"{name} has no prediction of slices {format_slices(list(missing))}",
            expected="slices that are predicted",
            advice="Name the model instead: what is missing is then predicted.",
        )


def _learned_notes(
    project: Project, params: EvaluateParams, slices: Sequence[int]
) -> tuple[str, ...]:
    """Tell in a sentence which slices are no fair judges of the model."""
    if params.model in {s.name for s in project.ledger.sources()}:
        return ()
    ref = find_model(project, params.model)
    learned = trained_on(project, ref)
    if params.refine:
        learned |= {*ref.refiner.fitted.get("slices", ())}
    if not (seen := sorted(learned & {*slices})):
        return ()
    return (
        f"{ref.name}{' or its refiner' if params.refine else ''} learned from slices"
        f" {format_slices(seen)}, or from parts of them: on slices that it never saw it may do"
        " worse.",
    )


def _source(
    project: Project,
    params: EvaluateParams,
    slices: Sequence[int],
    job: Job,
) -> tuple[str, tuple[str, ...]]:
    """Return the predictions in the ledger, with notes on them; missing ones are made.

    A name of the ledger itself is taken as it is: its model may be gone.
    """
    if params.model not in {s.name for s in project.ledger.sources()}:
        from napari_fossiledit.workflows.segment.predict import predict_missing

        done = predict_missing(project, _options(project, params), slices, job=job)
        latest = project.ledger.latest(done.model)
        if latest == done.source or latest not in {s.name for s in project.ledger.sources()}:
            return done.source, done.notes
        note = (
            f"Judged was {done.source}: what {done.model} finds by the paper's protocol. Its latest"
            f" predictions are others, made with other options or weights: to judge those, name"
            f" {latest} as the model."
        )
        return done.source, (*done.notes, note)
    return params.model, ()


def _options(project: Project, params: EvaluateParams) -> PredictParams:
    """Return threshold and limit as in the paper, tiles as the model was used last."""
    ref = find_model(project, params.model)
    latest = project.ledger.latest(ref.name)
    plain, tiled = (
        PredictParams(
            model=params.model,
            device=params.device,
            tiles=tiles,
            views=params.views,
            refine=params.refine,
        )
        for tiles in (False, True)
    )
    return tiled if latest == str(prediction_source(ref, ref.model_hash, tiled)) else plain
