"""Find out where a model is wrong: show it perturbed slices and compare what it finds.

Original slices are predicted once and stored as ever; perturbed ones are not, since nobody will
ask for them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.evaluation import Change, JudgedSlice, changes
from napari_fossiledit.evaluation.changes import Kind
from napari_fossiledit.evaluation.compare import compare
from napari_fossiledit.evaluation.hallucinated import Hallucinated, combined, hallucinated
from napari_fossiledit.evaluation.weakness import findings, gather_evidence
from napari_fossiledit.files import inside, write_json
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.masks import cut_at
from napari_fossiledit.params.perturb import Preset
from napari_fossiledit.params.probe import ALL, ProbeParams, chosen_presets
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.edit.slices import spread_over
from napari_fossiledit.workflows.probe.places import wrong_places
from napari_fossiledit.workflows.probe.report import draw_overlay, write_report
from napari_fossiledit.workflows.probe.result import ProbeResult, Tried
from napari_fossiledit.workflows.segment.predict import predict_missing
from napari_fossiledit.workflows.shared.folds import trained_on
from napari_fossiledit.workflows.shared.ground_truth import (
    GroundTruth,
    ground_of,
    judged_slice,
    read_ground_truth,
)
from napari_fossiledit.workflows.shared.model_refs import ModelRef, find_model
from napari_fossiledit.workflows.shared.perturbed_slices import (
    Prepared,
    check_readable,
    class_of,
    prepared,
)
from napari_fossiledit.workflows.shared.report_parts import OVERLAYS, REPORT, drafted
from napari_fossiledit.workflows.shared.seen import seen
from napari_fossiledit.workflows.shared.stale import stale_notes

FIGURES = "probe.json"

_MOST_SLICES = 4
"""Slices that are probed where none were named."""


def run(project_path: Path, params: ProbeParams, *, job: Job = QUIET) -> ProbeResult:
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
        ref = find_model(project, params.model)
        truths = _truths(project, params, ref)
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
        folder = inside(project.reports, f"probe-{ref.name}-{stamp}")
        recorded = project.ledger.recorded("probe", params.model_dump(mode="json"))
        with recorded as summary, drafted(folder) as draft:
            trials, skipped, judged = _probed(project, params, ref, truths, presets, draft, job)
            result = _concluded(params, ref.name, judged, trials, skipped, folder / REPORT)
            stale = stale_notes(project, {ANNOTATIONS: result.slices})
            about, _ = result.evidence.mistaken.main
            wrong = wrong_places(project, judged, about, params.detection_score)
            result = replace(result, notes=(*ref.notes, *stale), places=wrong)
            figures = {**result.figures(), "params": params.model_dump(mode="json")}
            write_json(draft / FIGURES, figures)
            write_report(result, project, params, draft)
            summary.update(result.summary())
    return result


def _truths(project: Project, params: ProbeParams, ref: ModelRef) -> list[GroundTruth]:
    """Read what is traced on the slices to probe, without the ground that everything lies in.

    Where no slice was named some traced ones are taken, spread over the stack: that only judge
    none, and of those that the model has not learned from, where there are any.
    """
    if params.slices.strip():
        slices = parse_slices(params.slices, project.shape[0])
    else:
        traced = sorted(project.ledger.traced())
        free = [z for z in traced if z not in project.settings.pinned_slices] or traced
        seen = trained_on(project, ref)
        new = [z for z in free if z not in seen] or free
        slices = list(spread_over(new, _MOST_SLICES))
    if not slices:
        raise FossilError(
            f"No slice of {project.path} is traced",
            expected="traced slices, to tell fossils from what is taken for them",
            advice="Import annotations, or trace a slice in the window.",
        )
    truths = [read_ground_truth(project, z) for z in slices]
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
    # Everything lies on the ground, such as the rock face: as a class it would explain every find.
    ground = ground_of(truths) - {params.class_name}
    return [
        replace(t, instances=tuple(i for i in t.instances if i.class_name not in ground))
        for t in truths
    ]


@dataclass
class _Trial:
    """One perturbation, gathered slice by slice; masks as run lengths only."""

    preset: Preset
    steps: str = ""
    shares: list[float] = field(default_factory=list)
    before: list[JudgedSlice] = field(default_factory=list)
    after: list[JudgedSlice] = field(default_factory=list)
    hidden: list[Hallucinated] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    overlays: list[str] = field(default_factory=list)

    def result(self, params: ProbeParams) -> Tried:
        """Put the slices together."""
        hides = self.preset is Preset.OCCLUDE_FOSSILS
        protocol, detected = (
            None
            if hides
            else compare(self.before, self.after, score_before=score, score_after=score)
            for score in (params.score, params.detection_score)
        )
        return Tried(
            preset=self.preset,
            steps=self.steps,
            slices=tuple(j.slice for j in self.after),
            share=sum(self.shares) / len(self.shares),
            protocol=protocol,
            detected=detected,
            hidden=combined(self.hidden) if hides else None,
            changes=tuple(self.changes),
            overlays=tuple(self.overlays),
        )


def _probed(
    project: Project,
    params: ProbeParams,
    ref: ModelRef,
    truths: Sequence[GroundTruth],
    presets: Sequence[Preset],
    draft: Path,
    job: Job,
) -> tuple[list[_Trial], list[str], list[JudgedSlice]]:
    """Predict every slice as it is and with every perturbation, one slice in memory at a time.

    Returns
    -------
    tuple
        What was tried, what does not suit a slice (in words), and the slices as they are.
    """
    usual = PredictParams(model=params.model, device=params.device)
    source = predict_missing(project, usual, [t.slice for t in truths], job=job).source
    job.report(0, 0, "Loading the model")
    segmenter = ref.load(params.device)
    originals = {
        t.slice: judged_slice(
            project,
            t,
            project.instances(source, t.slice, mask_cut=params.mask_cut),
            params.class_name,
        )
        for t in truths
    }
    trials = [_Trial(preset) for preset in presets]
    skipped: list[str] = []
    named = params.presets.strip().lower() not in ("", ALL)
    steps = [(truth, trial) for truth in truths for trial in trials]
    clock = job.clock(len(steps))
    for done, (truth, trial) in enumerate(steps):
        job.check("Probing")
        clock.tick(done, f"Probing slice {truth.slice}: {trial.preset}")
        update = {
            "preset": trial.preset,
            "steps": params.steps if trial.preset is Preset.CUSTOM else "",
        }
        try:
            made = prepared(
                project, truth.slice, params.model_copy(update=update), cancel=job.cancelled
            )
        except CancelledError:
            raise
        except FossilError as error:
            # Of all perturbations some never suit a slice; one that was named should.
            if named:
                raise
            skipped.append(f"Slice {truth.slice}, {trial.preset}: {error}")
            continue
        instances = segmenter.predict(
            seen(project, segmenter.preprocessing.window, truth.slice, made.perturbed),
            slice_index=truth.slice,
            pixel_size_um=project.geometry.pixel_size_um,
            cancel=job.cancelled,
        )
        instances = cut_at(instances, params.mask_cut, "this model")
        trial.steps = trial.steps or made.steps
        trial.shares.append(made.share)
        trial.before.append(originals[truth.slice])
        trial.after.append(judged_slice(project, truth, instances, params.class_name))
        _compare(truth, trial, made, params.detection_score, draft)
    clock.tick(len(steps), "Probed")
    return [t for t in trials if t.after], skipped, list(originals.values())


def _compare(truth: GroundTruth, trial: _Trial, made: Prepared, score: float, draft: Path) -> None:
    """Add what changed on the slice that was predicted last, and draw it."""
    before, after = trial.before[-1], trial.after[-1]
    if trial.preset is Preset.OCCLUDE_FOSSILS:
        trial.hidden.append(hallucinated(after, made.changed, score=score))
        all_changes = trial.hidden[-1].instances
    else:
        old, new = (j.predictions[: j.above(score)] for j in (before, after))
        all_changes = changes(old, new, truths=truth.instances)
    trial.changes += [c for c in all_changes if c.kind is not Kind.SAME]
    name = f"{OVERLAYS}/slice_{truth.slice:04d}_{trial.preset}.png"
    draw_overlay(made, all_changes, after.truth, draft / name)
    trial.overlays.append(name)


def _concluded(
    params: ProbeParams,
    model: str,
    judged: Sequence[JudgedSlice],
    trials: Sequence[_Trial],
    skipped: Sequence[str],
    report: Path,
) -> ProbeResult:
    """Weigh the evidence."""
    tried = tuple(t.result(params) for t in trials)
    compared = {t.preset: t.detected for t in tried if t.detected is not None}
    hidden = next((t.hidden for t in tried if t.hidden is not None), None)
    evidence = gather_evidence(
        params.class_name, judged, compared, hidden, score=params.detection_score
    )
    return ProbeResult(
        model=model,
        class_name=params.class_name,
        slices=tuple(j.slice for j in judged),
        evidence=evidence,
        findings=findings(evidence),
        tried=tried,
        skipped=tuple(skipped),
        report=report,
    )
