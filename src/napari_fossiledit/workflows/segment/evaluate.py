"""Judge the predictions of a model on traced slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation import Evaluation, JudgedSlice, evaluate
from napari_fossiledit.files import write_json
from napari_fossiledit.geometry import Region, format_slices
from napari_fossiledit.params.segment import EvaluateParams, PredictParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project, Source
from napari_fossiledit.workflows.shared.ground_truth import (
    judged_slice,
    read_ground_truth,
    slices_to_judge,
)
from napari_fossiledit.workflows.shared.model_refs import find_model, prediction_source
from napari_fossiledit.workflows.shared.sources import with_class

if TYPE_CHECKING:
    from napari_fossiledit.workflows.segment.predict import PredictResult


@dataclass(frozen=True)
class EvaluateResult:
    """Figures of a model.

    Attributes
    ----------
    model, source
        Model as the user named it, and its predictions in the ledger.
    class_name, region
        What was judged, and where.
    figures
        All figures.
    report
        File they were written to; None in a read-only project.
    notes
        What had to be assumed of the model, and which predictions were not judged, in sentences
        for the user.
    """

    model: str
    source: str
    class_name: str
    region: str
    figures: Evaluation
    report: Path | None
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Tell the result as JSON-able values; undefined figures are None."""
        return {
            "model": self.model,
            "source": self.source,
            "class_name": self.class_name,
            "region": self.region,
            **self.figures.summary(),
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
        for z in slices:
            read_ground_truth(project, z, region)
        source, notes = _source(project, params, slices, job)
        judged = _judged(project, params, source, slices, region)
        figures = evaluate(
            job.tracked(judged, len(slices), "Judging slice"),
            score=params.score,
            detection_score=params.detection_score,
        )
        result = EvaluateResult(
            params.model,
            source,
            params.class_name,
            params.region,
            figures,
            _report(project, source),
            notes,
        )
        _record(project, params, result)
    return result


def _source(
    project: Project,
    params: EvaluateParams,
    slices: Sequence[int],
    job: Job,
) -> tuple[str, tuple[str, ...]]:
    """Name of the predictions in the ledger, and what to tell of them; missing ones are made.

    A name of the ledger itself is taken as it is: its model may be gone.
    """
    if params.model not in {s.name for s in project.ledger.sources()}:
        from napari_fossiledit.workflows.segment.predict import predict_missing

        wanted = _options(project, params)
        done = predict_missing(project, wanted, slices, job=job)
        return done.source, (*done.notes, *_not_judged(project, done))
    missing = set(slices) - project.ledger.done(params.model)
    if missing:
        raise FossilError(
            f"{params.model} has no prediction of slices {format_slices(list(missing))}",
            expected="slices that are predicted",
            advice="Name the model instead: what is missing is then predicted.",
        )
    return params.model, ()


def _not_judged(project: Project, judged: PredictResult) -> tuple[str, ...]:
    """Tell where the latest predictions of a model are others than those that are judged."""
    latest = project.ledger.latest(judged.model)
    if latest == judged.source or latest not in {s.name for s in project.ledger.sources()}:
        return ()
    return (
        f"Judged was {judged.source}: what {judged.model} finds by the paper's protocol. Its latest"
        f" predictions are others, made with other options or weights: to judge those, name"
        f" {latest} as the model.",
    )


def _options(project: Project, params: EvaluateParams) -> PredictParams:
    """Threshold and limit as the paper has them, tiles as the model was used last."""
    ref = find_model(project, params.model)
    latest = project.ledger.latest(ref.name)
    plain, tiled = (
        PredictParams(model=params.model, device=params.device, tiles=tiles)
        for tiles in (False, True)
    )
    return tiled if latest == str(prediction_source(ref, ref.model_hash, tiled)) else plain


def _judged(
    project: Project,
    params: EvaluateParams,
    source: str,
    slices: Sequence[int],
    region: Region | None,
) -> Iterator[JudgedSlice]:
    """Read one slice after the other and reduce it to what counts."""
    for z in slices:
        truth = read_ground_truth(project, z, region)
        yield judged_slice(project, truth, project.instances(source, z), params.class_name)


def _report(project: Project, source: str) -> Path | None:
    """Where the figures go; the newest of a source replaces the one before."""
    if project.read_only:
        return None
    return project.reports / f"evaluate-{Source.parse(source).file_name}.json"


def _record(project: Project, params: EvaluateParams, result: EvaluateResult) -> None:
    """Write the report, and note the run with its figures in the ledger."""
    if result.report is None:
        return
    write_json(result.report, result.summary())
    with project.ledger.recorded("evaluate", params.model_dump(mode="json")) as summary:
        summary.update(result.summary())
