"""Find fossils in slices of a project."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.masks import Instance
from napari_fossiledit.params.segment import Device, Engine, Precision, PredictParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project, Source
from napari_fossiledit.workflows.shared.model_refs import (
    ModelRef,
    find_model,
    halved_from,
    prediction_source,
)
from napari_fossiledit.workflows.shared.neighbours import Visit, visits
from napari_fossiledit.workflows.shared.seen import seen
from napari_fossiledit.workflows.shared.stale import added_notes

if TYPE_CHECKING:
    from napari_fossiledit.evaluation.calibration import Calibration
    from napari_fossiledit.models.inference.looks import Look
    from napari_fossiledit.models.inference.protocol import Segmenter


#: So many of the slices tell whether the rock is one that the model knows.
_LOOKED_AT = 5


@dataclass(frozen=True)
class PredictResult:
    """Counts of a prediction.

    Attributes
    ----------
    model
        Name of the model.
    source
        Name of its predictions in the ledger.
    slices
        Slices that were to be predicted.
    predicted
        Those that had no prediction yet, or one of another photograph.
    instances
        Instances now stored on these slices.
    notes
        What had to be assumed of the model, and what the backend computed differently.
    """

    model: str
    source: str
    slices: tuple[int, ...]
    predicted: tuple[int, ...]
    instances: int
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {
            "model": self.model,
            "source": self.source,
            "slices": format_slices(self.slices),
            "predicted": format_slices(self.predicted),
            "kept": len(self.slices) - len(self.predicted),
            "instances": self.instances,
            **({"notes": list(self.notes)} if self.notes else {}),
        }


def run(
    project_path: Path,
    params: PredictParams,
    *,
    job: Job = QUIET,
) -> PredictResult:
    """Predict the slices that have no prediction of this model yet.

    Each slice is saved when it is done, so that a killed process loses one slice at the most.

    Raises
    ------
    FossilError
        Where there is no such model or slice, or a slice cannot be read.
    """
    with Project.open(project_path) as project:
        slices = parse_slices(params.slices, project.shape[0])
        done = predict_missing(project, params, slices, job=job)
        if not project.read_only:
            project.ledger.set_latest(Source.parse(done.source))
        return replace(done, notes=(*done.notes, *added_notes(project)))


def predict_missing(
    project: Project,
    params: PredictParams,
    slices: Sequence[int],
    *,
    job: Job = QUIET,
) -> PredictResult:
    """Predict those of `slices` that have no prediction yet, in an open project; see `run`."""
    ref = find_model(project, params.model)
    if params.exclusive and not params.refine:
        raise FossilError(
            "Only refined masks can be made exclusive",
            expected="both options, refine and exclusive",
            found="exclusive alone",
        )
    source = str(prediction_source(ref, ref.model_hash, params, slices))
    planned = visits(project, ref, params, slices)
    stale = _stale(project, planned)
    anew = stale | (set(slices) if params.again else set())
    missing = sorted((set(slices) - project.ledger.done(source)) | anew)
    notes = ref.notes + (refining_notes(ref) if params.refine else ())
    calibration = ref.calibration if params.calibrated else None
    if calibration is not None:
        notes += calibration_notes(calibration, params)
    if missing:
        project.require_writable()
        if stale:
            notes += (_said(stale),)
        if replaced := sorted(set(slices) & project.ledger.done(source) - stale & anew):
            notes += (
                f"Slices {format_slices(replaced)} are predicted anew. Link again, where they were"
                " linked.",
            )
        if anew and params.neighbour_weight:
            # Each slice depends on the others.
            for visit in planned:
                project.ledger.forget(visit.source, [visit.slice])
            anew, missing = set(), sorted(set(slices))
        done = {name: project.ledger.done(name) for name in {v.source for v in planned}}
        left = [v for v in planned if v.slice in anew or v.slice not in done[v.source]]
        job.report(0, 0, "Loading the model")
        segmenter = load_segmenter(ref, params)
        notes += segmenter.notes + precision_notes(params)
        refine = _refining(project, ref, segmenter, params, job) if params.refine else None
        with project.ledger.recorded("predict", params.model_dump(mode="json")) as summary:
            summary["source"] = left[-1].source
            looks: list[Look] = []
            for visit in job.tracked(left, len(left), "Predicting: slice"):
                image = seen(project, segmenter.preprocessing.window, visit.slice)
                if ref.looks and len(looks) < _LOOKED_AT:
                    looks.append(look(segmenter, image, project.geometry.pixel_size_um))
                instances = segmenter.predict(
                    image,
                    slice_index=visit.slice,
                    pixel_size_um=project.geometry.pixel_size_um,
                    tiles=params.tiles,
                    max_detections=params.max_detections,
                    score_floor=params.score_floor,
                    prior=visit.prior(project, params),
                    views=params.views,
                    views_find=params.views_find,
                    cancel=job.cancelled,
                )
                # As they were fitted: to what the model itself draws.
                if calibration is not None:
                    instances = calibration.applied(instances)
                if refine is not None:
                    instances = refine(visit.slice, instances)
                project.ledger.store(visit.source, visit.slice, instances)
        notes += unlike_notes(ref, looks)
    counts = project.ledger.counts(source)
    count = sum(counts.get(z, 0) for z in slices)
    return PredictResult(ref.name, source, tuple(slices), tuple(missing), count, notes)


def _stale(project: Project, planned: Sequence[Visit]) -> set[int]:
    """Return the slices that were predicted from other photographs than are there now."""
    slices = {v.slice for v in planned}
    done = any(project.ledger.done(name) & slices for name in {v.source for v in planned})
    # Of photographs that are gone, and where nothing can be written, what there is stays as it is.
    if not done or project.read_only or not project.photographs_found:
        return set()
    project.contents.check(slices)
    of_source = {name: project.contents.stale(name) for name in {v.source for v in planned}}
    stale = sorted({v.slice for v in planned if v.slice in of_source[v.source]})
    for z in stale:
        # What cannot be read is not worth losing a prediction for.
        project.contents.read(z)
    return set(stale)


def look(segmenter: Segmenter, image: NDArray[Any], pixel_size_um: float) -> Look:
    """Return how what is seen of a slice looks to a model: the slice alone counts."""
    from napari_fossiledit.models.inference.looks import look_of

    prepared = segmenter.preprocessing.prepare(image, pixel_size_um)
    return look_of(segmenter.preprocessing.window.centre(prepared))


def unlike_notes(ref: ModelRef, looks: Sequence[Look]) -> tuple[str, ...]:
    """Return in a sentence that slices look unlike all that a model learned from."""
    from napari_fossiledit.models.inference.looks import UNLIKE, unlikeness

    if not looks or median(unlikeness(each, ref.looks) for each in looks) < UNLIKE:
        return ()
    return (
        f"These slices look unlike those that {ref.root.name} learned from: trace two slices and"
        ' train a model on them (page "Segment").',
    )


def refining_notes(ref: ModelRef) -> tuple[str, ...]:
    """Return in sentences for which classes the refiner of a model turned itself off."""
    reasons: dict[str, str] = ref.refiner.fitted.get("off", {})
    return tuple(f"{name}: masks are not refined, {why}." for name, why in reasons.items())


def calibration_notes(calibration: Calibration, params: PredictParams) -> tuple[str, ...]:
    """Return in sentences whose scores stay as they are, and which options were not fitted."""
    notes = [f"{name}: scores are not calibrated, {why}." for name, why in calibration.off.items()]
    options = (params.views > 1, params.tiles, params.neighbour_weight > 0, params.refine)
    named = zip(("views", "tiles", "neighbours", "refiner"), options, strict=True)
    if calibration.classes and (other := [name for name, used in named if used]):
        notes.append(
            f"Scores were calibrated on predictions without {', '.join(other)}: how far they are"
            " probabilities with them was not measured."
        )
    return tuple(notes)


def _refining(
    project: Project, ref: ModelRef, segmenter: Segmenter, params: PredictParams, job: Job
) -> Callable[[int, list[Instance]], list[Instance]]:
    """Return what draws the instances of a slice again."""
    from napari_fossiledit.models.refine.files import load_refiner
    from napari_fossiledit.models.refine.refiner import exclusive

    refiner = load_refiner(ref.refiner_folder, ref.refiner)

    def refine(z: int, instances: list[Instance]) -> list[Instance]:
        image = project.contents.read(z)
        refined = refiner.refine(
            segmenter.preprocessing.shown_rgb(image),
            instances,
            pixel_size_um=project.geometry.pixel_size_um,
            cancel=job.cancelled,
        )
        if not params.exclusive:
            return refined
        return exclusive(refined, project.slice_shape, refiner.record.smallest)

    return refine


def precision_notes(params: PredictParams) -> tuple[str, ...]:
    """Return in a sentence what is computed less precisely, or not as was asked for."""
    first = halved_from(params)
    if first is None:
        from napari_fossiledit.models.inference.precision import NO_GAIN

        return (NO_GAIN,) if params.precision is Precision.MIXED else ()
    what = "All but the first view of each slice" if first else "The network"
    return (f"{what} is computed in bfloat16 for the most part (--precision full: in float32).",)


def _said(stale: set[int]) -> str:
    return (
        f"Slices {format_slices(sorted(stale))} are predicted again: their photographs are others"
        " than those that were predicted before. Link again, where they were linked."
    )


def load_segmenter(ref: ModelRef, params: PredictParams) -> Segmenter:
    """Load a model where and as `params` say.

    Raises
    ------
    FossilError
        Where the engine cannot compute on the device or for the backend.
    """
    halved = halved_from(params)
    if halved is not None:
        from napari_fossiledit.models.inference.precision import mixed

        return mixed(ref.on(params.device, params.backend), halved)
    if params.engine is Engine.EXACT:
        return ref.on(params.device, params.backend)
    from napari_fossiledit.models.inference.fast_kernels import fast

    device = Device.CPU if params.device is Device.AUTO else params.device
    return fast(ref.on(device, params.backend))
