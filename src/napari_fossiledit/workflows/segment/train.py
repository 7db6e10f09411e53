"""Train a model of a project from a few traced slices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import Region, format_slices, parse_slices
from napari_fossiledit.models.files.places import RECORD, SHIPPED, STATE
from napari_fossiledit.models.files.published import fetched
from napari_fossiledit.models.native.backends import check_precision, require_backend
from napari_fossiledit.params.segment import (
    IMAGENET,
    Architecture,
    Backend,
    CocoWeights,
    TrainParams,
)
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.stacks.window import Window
from napari_fossiledit.workflows.shared.ground_truth import ProjectSamples
from napari_fossiledit.workflows.shared.model_refs import find_model, set_in_use, standing
from napari_fossiledit.workflows.shared.stale import stale_notes

_START = "reef-lite"
"""Shipped model that `lite` starts from: better than ImageNet on real fossils and chloroplasts
(docs/benchmarks/few-slices.md)."""


@dataclass(frozen=True)
class TrainOutcome:
    """A trained model and how its training went; see `models.training.TrainResult`."""

    name: str
    folder: Path
    slices: tuple[int, ...]
    steps: int
    minutes: float
    score: float | None
    stopped: str
    scale: float
    held_back: int
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {
            "model": self.name,
            "folder": str(self.folder),
            "slices": format_slices(self.slices),
            "steps": self.steps,
            "minutes": round(self.minutes, 2),
            "validation_score": None if self.score is None else round(self.score, 4),
            "stopped": self.stopped,
            "scale": round(self.scale, 4),
            "held_back_instances": self.held_back,
            "notes": list(self.notes),
        }


def run(
    project_path: Path,
    params: TrainParams,
    *,
    job: Job = QUIET,
) -> TrainOutcome:
    """Train a new model, or go on with one of that name that was interrupted.

    Raises
    ------
    FossilError
        Where the name is taken by a finished model or trained by another process, a slice is
        not traced, or the start file does not fit.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        full = _completed(params, project)
        check_precision(full.precision, full.backend)
        require_backend(full.backend, full.architecture)
        count = project.shape[0]
        validation = parse_slices(full.validation, count) if full.validation else []
        slices = [z for z in parse_slices(full.slices, count) if z not in validation]
        region = Region.parse(full.region) if full.region else None
        window = Window.of(full.input, full.reach)
        samples = ProjectSamples(project, slices, validation, full.classes, region, window)
        notes = stale_notes(project, {ANNOTATIONS: (*samples.slices, *samples.validation)})
        notes += window.notes(project.stack.rgb) + _next(project, samples)
        with project.training(full.name) as folder:
            _require_free(project, full.name)
            record = project.ledger.begin_run("train", full.model_dump(mode="json"))
            summary: dict[str, Any] = {}
            status = "failed"
            try:
                outcome = _train(samples, full, folder, job)
                outcome = replace(outcome, notes=(*outcome.notes, *notes))
                summary, status = outcome.summary(), outcome.stopped
                # What was trained last is what the user means by "the model"; see `standing`.
                if not standing(project, full.name):
                    set_in_use(project, full.name)
            finally:
                project.ledger.end_run(record, status, summary)
        return outcome


def _next(project: Project, samples: ProjectSamples) -> tuple[str, ...]:
    """Say how to make scores probabilities, where traced slices are left that can tell."""
    used = {*samples.slices, *samples.validation, *project.settings.pinned_slices}
    left = sorted(project.ledger.traced().keys() - used)
    if not left:
        return ()
    return (
        f"Slices {format_slices(left)} are traced, and the model did not learn from them:"
        " calibrating on them makes its scores probabilities.",
    )


def _completed(params: TrainParams, project: Project) -> TrainParams:
    """Fill in the start, the classes of the project, and its traced slices, where none were named.

    Pinned slices only judge. A start from ImageNet is recorded as an empty one, as ever.
    """
    traced = format_slices(sorted(project.ledger.traced().keys() - project.settings.pinned_slices))
    changes: dict[str, Any] = {}
    if not params.classes:
        changes["classes"] = project.settings.classes
    if not params.init and params.architecture is Architecture.LITE:
        changes["init"] = str(SHIPPED / _START)
    elif params.init in {IMAGENET} - {*project.models()}:
        changes["init"] = ""
    elif params.init in set(CocoWeights) - {*project.models()}:
        changes["init"] = str(fetched(CocoWeights(params.init)))
    elif params.init and not Path(params.init).expanduser().exists():
        ref = find_model(project, params.init)
        if ref is not ref.root:
            raise FossilError(
                f"{params.init!r} is an edit, and a training starts from a model",
                expected="a model or a checkpoint file",
                advice=f"Export it first: 'fossiledit edits export PROJECT {params.init} FOLDER'.",
            )
        changes["init"] = str(ref.folder)
    if not params.slices:
        changes["slices"] = traced
    if not (params.slices or traced):
        raise FossilError(
            "No slice is traced yet",
            expected="about ten traced slices",
            found="none",
            advice="Import annotations, or draw some and mark their slice as traced.",
        )
    return params.model_copy(update=changes)


def _require_free(project: Project, name: str) -> None:
    """Raise where a finished model or an edit has the name; models and edits share their names."""
    folder = project.model_folder(name)
    if (folder / RECORD).exists() and not (folder / STATE).exists():
        raise FossilError(
            f"The project has a model {name!r} already",
            expected="a new name",
            found=name,
            advice="Choose another name; the old model stays as it is.",
        )
    if name in project.edits.names():
        raise FossilError(
            f"The project has an edit {name!r} already",
            expected="a new name",
            found=name,
            advice="Choose another name; the edit stays as it is.",
        )


def _train(
    samples: ProjectSamples,
    params: TrainParams,
    folder: Path,
    job: Job,
) -> TrainOutcome:
    """Train with the trainer that was chosen."""
    # Both import torch.
    if params.backend is Backend.DETECTRON2:
        from napari_fossiledit.models.native.training import train_native

        result = train_native(samples, params, folder=folder, job=job)
    else:
        from napari_fossiledit.models.training.train import train

        result = train(samples, params, folder=folder, resume=True, job=job)
    return TrainOutcome(
        name=params.name,
        folder=folder,
        slices=samples.slices,
        steps=result.steps,
        minutes=result.minutes,
        score=result.score,
        stopped=result.stopped,
        scale=result.segmenter.preprocessing.scale,
        held_back=result.held_back,
        notes=result.notes,
    )
