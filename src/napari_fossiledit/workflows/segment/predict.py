"""Find fossils in slices of a project."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil
from numpy.typing import NDArray

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.jobs.spread import Outcome, Spread, spread
from napari_fossiledit.masks import Instance
from napari_fossiledit.params.segment import Backend, Device, Engine, Precision, PredictParams
from napari_fossiledit.params.spread import SpreadParams
from napari_fossiledit.placement import Placement
from napari_fossiledit.progress import QUIET, Cancel, Clock, Job, never, time_words
from napari_fossiledit.project import Project, Source
from napari_fossiledit.project.contents import Known
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
    from napari_fossiledit.models.inference.preprocessing import Image
    from napari_fossiledit.models.inference.protocol import Segmenter


#: So many of the slices tell whether the rock is one that the model knows.
_LOOKED_AT = 5
#: A slice that fails is tried once more when all others are done: a drive may be back by then.
_ATTEMPTS = 2
#: So many slices one after another that fail are a drive that is gone, or a model that fits none.
_LOST = 20
#: So many slices tell how long all take, where there are more than the second number.
_PROBED, _MANY = 2, 20


@dataclass(frozen=True)
class Estimate:
    """What the slices that are left will take, from the first ones.

    Attributes
    ----------
    slices
        How many are left.
    seconds, ledger_bytes
        Time, and space in the project.
    memory_bytes
        Memory of all processes together, as it is now.
    """

    slices: int
    seconds: float
    memory_bytes: int
    ledger_bytes: int

    def __str__(self) -> str:
        megabytes = max(1, round(self.ledger_bytes / 1e6))
        return (
            f"{self.slices} more slices take about {time_words(self.seconds)},"
            f" {self.memory_bytes / 1e9:.1f} GB of memory and {megabytes} MB in the project."
        )


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
    failed
        Slices that could not be predicted, and why; what was there before is kept.
    estimate
        What the others will take, where only that was asked for.
    """

    model: str
    source: str
    slices: tuple[int, ...]
    predicted: tuple[int, ...]
    instances: int
    notes: tuple[str, ...] = ()
    failed: dict[int, str] = field(default_factory=dict)
    estimate: Estimate | None = None

    @property
    def exit_code(self) -> int:
        """Exit code for a shell: 3 where slices failed."""
        return 3 if self.failed else 0

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {
            "model": self.model,
            "source": self.source,
            "slices": format_slices(self.slices),
            "predicted": format_slices(self.predicted),
            "kept": len(self.slices) - len(self.predicted) - len(self.failed) - self._waiting,
            "instances": self.instances,
            **(
                {"failed": [{"slice": z, "reason": why} for z, why in self.failed.items()]}
                if self.failed
                else {}
            ),
            **({"waiting": self._waiting, "estimate": str(self.estimate)} if self.estimate else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
        }

    @property
    def _waiting(self) -> int:
        return self.estimate.slices if self.estimate else 0


def run(
    project_path: Path,
    params: PredictParams,
    *,
    job: Job = QUIET,
) -> PredictResult:
    """Predict the slices that have no prediction of this model yet.

    Each slice is saved when it is done, so that a killed process loses those that it was at and no
    others. One that cannot be predicted is noted and left out; the next run tries it again.

    Raises
    ------
    FossilError
        Where there is no such model or slice, no slice at all can be predicted, or the ledger
        cannot be written.
    """
    with Project.open(project_path) as project:
        slices = parse_slices(params.slices, project.shape[0])
        if params.first >= 0:
            parse_slices(str(params.first), project.shape[0])
        done = predict_missing(project, params, slices, past_failed=True, job=job)
        if not project.read_only:
            project.ledger.set_latest(Source.parse(done.source))
        return replace(done, notes=(*done.notes, *added_notes(project)))


def predict_missing(
    project: Project,
    params: PredictParams,
    slices: Sequence[int],
    *,
    past_failed: bool = False,
    job: Job = QUIET,
) -> PredictResult:
    """Predict those of `slices` that have no prediction yet, in an open project; see `run`.

    Parameters
    ----------
    past_failed
        Whether the result names slices that cannot be predicted; else the first one is raised, once
        the others are done. Where neighbours count, it is raised at once: the others depend on it.
    """
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
    if params.calibrated:
        notes += calibration_notes(ref.calibration, params)
    run = _Run(project, ref, params)
    if missing:
        project.require_writable()
        if stale:
            notes += (_said(stale),)
        before = project.ledger.done(source) - stale
        if anew and params.neighbour_weight:
            # Each slice depends on the others.
            for visit in planned:
                project.ledger.forget(visit.source, [visit.slice])
            anew, missing = set(), sorted(set(slices))
        done = {name: project.ledger.done(name) for name in {v.source for v in planned}}
        left = [v for v in planned if v.slice in anew or v.slice not in done[v.source]]
        # Where all are gone, no slice is to blame.
        project.photos.stamp(0)
        job.report(0, 0, "Loading the model")
        if params.backend is not Backend.TWIN:
            # What it does not have is refused before anything is recorded.
            load_segmenter(ref, params)
        where = params.model_dump(mode="json", exclude=_WHERE)
        with project.ledger.recorded("predict", where) as summary:
            summary["source"] = left[-1].source
            run.predict(left, anew, job)
            if run.failed:
                summary["failed"] = format_slices(sorted(run.failed))
                if not past_failed or not run.stored:
                    raise _first_of(run.failed, len(run.failed) + len(run.stored))
        notes += (*run.notes, *precision_notes(params))
        notes += unlike_notes(ref, [run.looks[z] for z in sorted(run.looks)])
        if replaced := sorted({v.slice for v in run.stored if v.source == source} & before):
            notes += (
                f"Slices {format_slices(replaced)} are predicted anew. Link again, where they were"
                " linked.",
            )
    failed = {z: str(run.failed[z]) for z in sorted(run.failed)}
    if failed:
        notes += (
            f"Slices {format_slices(sorted(failed))} could not be predicted: mend what is said of"
            " each and run this again, which computes only them.",
        )
    counts = project.ledger.counts(source)
    count = sum(counts.get(z, 0) for z in slices)
    waiting = run.estimate is not None and params.estimate
    stored = {v.slice for v in run.stored if v.source == source}
    there = [z for z in missing if z not in failed and (not waiting or z in stored)]
    return PredictResult(
        ref.name,
        source,
        tuple(slices),
        tuple(there),
        count,
        notes,
        failed,
        run.estimate if waiting else None,
    )


#: What changes nothing of the predictions.
_WHERE = {*SpreadParams.model_fields, "first", "estimate"} - {"version"}


def _first_of(failed: dict[int, FossilError], tried: int) -> FossilError:
    """Return what is raised where slices failed: the first error, and what the others were."""
    first = failed[min(failed)]
    if len(failed) == 1:
        return first
    how_many = "None" if len(failed) == tried else f"{tried - len(failed)}"
    return FossilError(
        f"{how_many} of {tried} slices could be predicted. The first that failed: {first.message}",
        expected=first.expected,
        found=first.found,
        advice=first.advice,
    )


@dataclass(frozen=True)
class _Predicted:
    """What is known of a slice once it is predicted.

    Attributes
    ----------
    photograph
        What was read; None where nothing is noted of the photographs.
    placed
        Where it lay then.
    look
        How it looks to the model; None where nobody asked.
    notes
        What the model had to assume.
    memory_bytes
        Memory of the process.
    """

    instances: list[Instance]
    photograph: Known | None
    placed: Placement
    look: Look | None
    notes: tuple[str, ...]
    memory_bytes: int


def _predictor(
    project: Project | Path, params: PredictParams, cancel: Cancel
) -> Callable[[Visit], _Predicted]:
    """Return what predicts a slice, in any thread; the network computes one at a time.

    It changes nothing of the project.
    """
    if isinstance(project, Path):
        project = Project.open(project, read_only=True)
    ref = find_model(project, params.model)
    segmenter = load_segmenter(ref, params)
    # As they were fitted: to what the model itself draws.
    calibration = ref.calibration if params.calibrated else None
    refine = _refining(project, ref, segmenter, params, cancel) if params.refine else None
    process = psutil.Process()

    def predict(visit: Visit) -> _Predicted:
        z = visit.slice
        image, photograph, placed = _read(project, segmenter, z)
        instances = segmenter.predict(
            image,
            slice_index=z,
            pixel_size_um=project.geometry.pixel_size_um,
            tiles=params.tiles,
            max_detections=params.max_detections,
            score_floor=params.score_floor,
            prior=visit.prior(project, params),
            views=params.views,
            views_find=params.views_find,
            cancel=cancel,
        )
        if calibration is not None:
            instances = calibration.applied(instances)
        if refine is not None:
            instances = refine(z, instances)
        seen_as = (
            look(segmenter, image, project.geometry.pixel_size_um) if visit.looked_at else None
        )
        memory = process.memory_info().rss
        return _Predicted(instances, photograph, placed, seen_as, segmenter.notes, memory)

    return predict


def _read(project: Project, segmenter: Segmenter, z: int) -> tuple[Image, Known | None, Placement]:
    """Read what a model sees of a slice, what photograph that is and where it lies.

    It may be replaced now, or moved in the window.
    """
    for _ in range(_ATTEMPTS):
        placed = project.ledger.alignment().at(z)
        image = seen(project, segmenter.preprocessing.window, z)
        photograph = project.contents.known.get(z)
        same = photograph is None or project.photos.stamp(z) == photograph.stamp
        if same and project.ledger.alignment().at(z) == placed:
            return image, photograph, placed
    raise FossilError(
        f"The photograph of slice {z} changes, or is moved, while it is read",
        advice="Wait until whatever writes it is done, and run this again.",
    )


class _Run:
    """Predicts slices, and stores each when it is there.

    Attributes
    ----------
    failed
        Slices that could not be predicted, and why.
    looks
        How slices looked to the model, by slice.
    stored
        Slices that were predicted.
    notes
        What the model had to assume.
    estimate
        What the slices that are left take, once the first ones are there and where it was asked.
    """

    def __init__(self, project: Project, ref: ModelRef, params: PredictParams) -> None:
        self.failed: dict[int, FossilError] = {}
        self.looks: dict[int, Look] = {}
        self.notes: dict[str, None] = {}
        self.estimate: Estimate | None = None
        self._project, self._ref, self._params = project, ref, params
        self._anew: set[int] = set()
        self.stored: list[Visit] = []

    def predict(self, left: list[Visit], anew: set[int], job: Job) -> None:
        """Predict slices, those that fail once more at the end."""
        self._anew = anew
        clock = job.clock(len(left), "Predicting slices")
        clock.tick(0)
        if self._ref.looks:
            looked_at = {v.slice for v in left[:_LOOKED_AT]}
            left = [replace(v, looked_at=v.slice in looked_at) for v in left]
        todo, in_a_row = left, 0
        for attempt in range(_ATTEMPTS):
            with closing(self._outcomes(todo, job)) as outcomes:
                for outcome in outcomes:
                    self._take(outcome, clock)
                    in_a_row = in_a_row + 1 if outcome.item.slice in self.failed else 0
                    if attempt == 0 and in_a_row == _LOST:
                        raise _first_of(self.failed, len(self.failed) + len(self.stored))
            todo = [v for v in left if v.slice in self.failed]
            if not todo or self._params.neighbour_weight:
                return

    def _outcomes(self, left: list[Visit], job: Job) -> Generator[Outcome[Visit, _Predicted]]:
        how = Spread(workers=self._params.workers, scheduler=self._params.scheduler)
        path = self._project.path
        # Which model is in use may change meanwhile.
        params = self._params.model_copy(update={"model": self._ref.address})
        if params.neighbour_weight:
            # Each needs what is stored of the one before.
            with Project.open(path, read_only=True) as read:
                predict = _predictor(read, params, job.cancelled)
                for visit in left:
                    job.check("The prediction")
                    yield Outcome(visit, predict(visit))
            return
        waiting = self._waiting(left, job)
        if how.workers or how.scheduler:
            yield from spread(
                _predictor, (path.resolve(), params, never), waiting, how=how, job=job
            )
            return
        with Project.open(path, read_only=True) as read:
            args = (read, params, job.cancelled)
            yield from spread(_predictor, args, waiting, how=how, job=job)

    def _waiting(self, left: list[Visit], job: Job) -> Iterator[Visit]:
        """Yield the slices nearest to the one that the user looks at, as long as it is the same."""
        left, given = list(left), 0
        while left and not (self._params.estimate and given == _PROBED):
            wish = job.focus()
            near = self._params.first if wish is None else wish
            k = bisect_left(left, near, key=lambda v: v.slice)
            if k:
                beyond = k == len(left) or near - left[k - 1].slice <= left[k].slice - near
                k -= beyond
            visit = left.pop(k)
            if self._is_open(visit):
                given += 1
                yield visit
            else:
                self.failed.pop(visit.slice, None)

    def _is_open(self, visit: Visit) -> bool:
        """Return False for a slice that another run has done meanwhile."""
        done = self._project.ledger.is_done(visit.source, visit.slice)
        return visit.slice in self._anew or not done

    def _take(self, outcome: Outcome[Visit, _Predicted], clock: Clock) -> None:
        """Store a slice, or why there is none, and report it."""
        visit, ledger, said = outcome.item, self._project.ledger, ""
        finished = None
        if isinstance(outcome.error, CancelledError):
            raise outcome.error
        if outcome.error is not None:
            with ledger.transaction():
                if self._is_open(visit):
                    self.failed[visit.slice] = outcome.error
                    ledger.note_failed(visit.source, visit.slice, str(outcome.error))
        else:
            self._store(visit, outcome.result())
            self.failed.pop(visit.slice, None)
            finished = (visit.source, visit.slice)
            if len(self.stored) == _PROBED and (self._params.estimate or clock.total > _MANY):
                self.estimate = self._estimated(outcome.result().memory_bytes, clock)
                said = str(self.estimate)
        rate = clock.unit_s
        values = {"slices a minute": 60 / rate} if rate else {}
        if self.failed:
            values["failed"] = len(self.failed)
        done = len(self.stored) + len(self.failed)
        # No figure is named as another argument is.
        clock.tick(done, finished=finished, said=said, **values)  # type: ignore[arg-type]

    def _store(self, visit: Visit, found: _Predicted) -> None:
        ledger, z, photograph = self._project.ledger, visit.slice, found.photograph
        with ledger.transaction():
            # A person may have judged what another run has stored: it stays.
            if self._is_open(visit):
                if photograph is not None:
                    self._project.contents.seen(z, photograph.stamp, photograph.content)
                ledger.store(visit.source, z, found.instances, placed=found.placed)
                if photograph is not None:
                    # Not what somebody may have put in its place since it was read.
                    ledger.contents.set_made_from(visit.source, {z: photograph.content})
        self.stored.append(visit)
        self.notes |= dict.fromkeys(found.notes)
        if found.look is not None:
            self.looks[visit.slice] = found.look

    def _estimated(self, memory: int, clock: Clock) -> Estimate:
        left = clock.total - len(self.stored) - len(self.failed)
        size = sum(self._project.ledger.bytes_of(v.source, [v.slice]) for v in self.stored)
        seconds = (clock.elapsed_s / _PROBED) * left
        processes = max(1, self._params.workers)
        return Estimate(left, seconds, memory * processes, size * left // _PROBED)


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
    for visit in planned:
        if visit.near and visit.slice in stale:
            # A whole chain is forgotten: what cannot be read is not worth losing it for.
            project.contents.read(visit.slice)
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
    project: Project, ref: ModelRef, segmenter: Segmenter, params: PredictParams, cancel: Cancel
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
            cancel=cancel,
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
