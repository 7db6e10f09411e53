"""Find out where a model is wrong: show it perturbed slices and compare what it finds.

Original slices are predicted once and stored as ever; perturbed ones are not, since nobody will
ask for them again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.evaluation import Change, JudgedSlice, changes, judge
from napari_fossiledit.evaluation.changes import Kind
from napari_fossiledit.evaluation.compare import compare
from napari_fossiledit.evaluation.hallucinated import Hallucinated, added, hallucinated
from napari_fossiledit.evaluation.weakness import evidence, findings
from napari_fossiledit.files import inside, write_json
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.masks import Instance
from napari_fossiledit.params.perturb import Preset
from napari_fossiledit.params.probe import ALL, ProbeParams, chosen_presets
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.probe.report import draw, page
from napari_fossiledit.workflows.probe.result import ProbeResult, Tried
from napari_fossiledit.workflows.segment.predict import predict_missing
from napari_fossiledit.workflows.shared.model_refs import ModelRef, find_model
from napari_fossiledit.workflows.shared.perturbed_slices import (
    Prepared,
    check_readable,
    class_of,
    prepared,
)
from napari_fossiledit.workflows.shared.report_folder import OVERLAYS, PAGE, drafted
from napari_fossiledit.workflows.shared.truth import Truth, ground_of, read_truth

if TYPE_CHECKING:
    from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter

FIGURES = "probe.json"
_MOST_SLICES = 4


def run(
    project_path: Path,
    params: ProbeParams,
    *,
    job: Job = QUIET,
) -> ProbeResult:
    """Run perturbations over slices, and write a report with the largest weakness in words.

    Raises
    ------
    FossilError
        Where there is no such model or slice, one is not traced or shows no fossil, or a
        perturbation that was asked for by name does not suit it.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        params = params.model_copy(update={"class_name": class_of(project, params)})
        presets = chosen_presets(params)
        check_readable(project, params)
        truths = _truths(project, params)
        ref = find_model(project, params.model)
        recorded = project.ledger.recorded("probe", params.model_dump(mode="json"))
        with recorded as summary, _report_folder(project, ref.name) as (draft, folder):
            work = _Work(project, params, ref, draft, job)
            result = work.result(truths, presets, folder / PAGE)
            _write(result, project, params, draft)
            summary.update(result.summary())
    return result


def _write(result: ProbeResult, project: Project, params: ProbeParams, draft: Path) -> None:
    write_json(draft / FIGURES, {**result.figures(), "params": params.model_dump(mode="json")})
    page(result, project, params, draft).write(draft / PAGE)


def _truths(project: Project, params: ProbeParams) -> list[Truth]:
    """Read what is known of the slices to probe, without the ground that everything lies in."""
    truths = [read_truth(project, z) for z in _chosen(project, params)]
    ours = (i for t in truths for i in t.instances if i.class_name == params.class_name)
    if all(i.unsure for i in ours):
        where = format_slices([t.slice for t in truths])
        classes = sorted({i.class_name for t in truths for i in t.instances})
        raise FossilError(
            f"No {params.class_name} is traced on slices {where}",
            expected="slices that show what the model is to find",
            found=", ".join(classes) or "nothing",
            advice="Choose other slices, or name the class.",
        )
    ground = ground_of(truths) - {params.class_name}
    return [
        replace(t, instances=tuple(i for i in t.instances if i.class_name not in ground))
        for t in truths
    ]


def _chosen(project: Project, params: ProbeParams) -> list[int]:
    """Slices asked for, else some traced ones spread over the stack."""
    if params.slices.strip():
        return parse_slices(params.slices, project.shape[0])
    traced = sorted(project.ledger.traced())
    if not traced:
        raise FossilError(
            f"No slice of {project.path} is traced",
            expected="traced slices, to tell fossils from what is taken for them",
            advice="Import annotations, or trace a slice in the window.",
        )
    count = min(_MOST_SLICES, len(traced))
    return [traced[len(traced) * (2 * i + 1) // (2 * count)] for i in range(count)]


@contextmanager
def _report_folder(project: Project, model: str) -> Iterator[tuple[Path, Path]]:
    """Yield a folder to write to and the place it is moved to once everything is there."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
    folder = inside(project.reports, f"probe-{model}-{stamp}")
    with drafted(folder) as draft:
        yield draft, folder


@dataclass
class _Trial:
    """What is gathered of one perturbation, slice by slice; masks as run lengths only."""

    preset: Preset
    steps: str = ""
    shares: list[float] = field(default_factory=list)
    before: list[JudgedSlice] = field(default_factory=list)
    after: list[JudgedSlice] = field(default_factory=list)
    hidden: list[Hallucinated] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    overlays: list[str] = field(default_factory=list)

    def done(self, params: ProbeParams) -> Tried:
        """Put the slices together."""
        told = (self.preset, self.steps, tuple(j.slice for j in self.after))
        share = sum(self.shares) / len(self.shares)
        last = (tuple(self.changes), tuple(self.overlays))
        if self.preset is Preset.OCCLUDE_FOSSILS:
            return Tried(*told, share, None, None, added(self.hidden), *last)
        paper, found = (
            compare(self.before, self.after, score_before=score, score_after=score)
            for score in (params.score, params.detection_score)
        )
        return Tried(*told, share, paper, found, None, *last)


class _Work:
    """A model under probe; one slice is in memory at a time."""

    def __init__(
        self,
        project: Project,
        params: ProbeParams,
        ref: ModelRef,
        draft: Path,
        job: Job,
    ) -> None:
        self._project, self._params, self._ref, self._draft = project, params, ref, draft
        self._job = job
        self._skipped: list[str] = []

    def result(
        self, truths: Sequence[Truth], presets: Sequence[Preset], report: Path
    ) -> ProbeResult:
        """Probe slice by slice, and draw the conclusions."""
        original = self._original([t.slice for t in truths])
        segmenter = self._ref.load(self._params.device)
        trials = [_Trial(preset) for preset in presets]
        steps = [(truth, trial) for truth in truths for trial in trials]
        stored = {t.slice: self._project.instances(original, t.slice) for t in truths}
        judged = {t.slice: self._judged(t, stored[t.slice]) for t in truths}
        clock = self._job.clock(len(steps))
        for done, (truth, trial) in enumerate(steps):
            self._job.check("Probing")
            clock.tick(done, f"Probing slice {truth.slice}: {trial.preset}")
            self._try(segmenter, truth, trial, judged[truth.slice])
        clock.tick(len(steps), "Probed")
        tried = tuple(t.done(self._params) for t in trials if t.after)
        return self._concluded(list(judged.values()), tried, report)

    def _concluded(
        self, judged: Sequence[JudgedSlice], tried: tuple[Tried, ...], report: Path
    ) -> ProbeResult:
        name, score = self._params.class_name, self._params.detection_score
        compared = {t.preset: t.found for t in tried if t.found is not None}
        hidden = next((t.hidden for t in tried if t.hidden is not None), None)
        known = evidence(name, judged, compared, hidden, score=score)
        slices, skipped = tuple(j.slice for j in judged), tuple(self._skipped)
        found = findings(known)
        return ProbeResult(self._ref.name, name, slices, known, found, tried, skipped, report)

    def _original(self, slices: Sequence[int]) -> str:
        """Predict the slices as they are where that was not done; name the predictions."""
        wanted = PredictParams(model=self._params.model, device=self._params.device)
        return predict_missing(self._project, wanted, slices, job=self._job).source

    def _judged(self, truth: Truth, found: Sequence[Instance]) -> JudgedSlice:
        shape, name = self._project.slice_shape, self._params.class_name
        return judge(truth.slice, shape, truth.instances, found, class_name=name, area=truth.area)

    def _try(
        self, segmenter: MaskRcnnSegmenter, truth: Truth, trial: _Trial, before: JudgedSlice
    ) -> None:
        """Perturb one slice, predict it and compare."""
        made = self._prepared(truth.slice, trial.preset)
        if made is None:
            return
        found = segmenter.predict(
            made.perturbed,
            slice_index=truth.slice,
            pixel_size_um=self._project.geometry.pixel_size_um,
            cancel=self._job.cancelled,
        )
        after = self._judged(truth, found)
        trial.steps = trial.steps or made.steps
        trial.shares.append(made.share)
        trial.before.append(before)
        trial.after.append(after)
        self._compare(truth, trial, made)

    def _compare(self, truth: Truth, trial: _Trial, made: Prepared) -> None:
        """Note what changed on the slice that was predicted last, and draw it."""
        score, after = self._params.detection_score, trial.after[-1]
        if trial.preset is Preset.OCCLUDE_FOSSILS:
            trial.hidden.append(hallucinated(after, made.changed, score=score))
            all_changes = trial.hidden[-1].instances
        else:
            old, new = (j.predictions[: j.above(score)] for j in (trial.before[-1], after))
            all_changes = changes(old, new, truths=truth.instances)
        trial.changes += [c for c in all_changes if c.kind is not Kind.SAME]
        name = f"{OVERLAYS}/slice_{truth.slice:04d}_{trial.preset}.png"
        draw(made, all_changes, after.truth, self._draft / name)
        trial.overlays.append(name)

    def _prepared(self, z: int, preset: Preset) -> Prepared | None:
        """Perturb a slice; None where the preset does not suit it and nobody named it."""
        steps = self._params.steps if preset is Preset.CUSTOM else ""
        params = self._params.model_copy(update={"preset": preset, "steps": steps})
        try:
            return prepared(self._project, z, params, cancel=self._job.cancelled)
        except CancelledError:
            raise
        except FossilError as error:
            if self._params.presets.strip().lower() not in ("", ALL):
                raise
            self._skipped.append(f"Slice {z}, {preset}: {error}")
            return None
