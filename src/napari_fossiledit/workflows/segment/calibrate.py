"""Make the scores of a model probabilities, on traced slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_fossiledit.evaluation.calibration import (
    Calibration,
    Regression,
    ScoreFigures,
    compare_scores,
    features,
    fit,
    held_out,
    right_ones,
)
from napari_fossiledit.evaluation.judged import judge
from napari_fossiledit.evaluation.numbers import percent
from napari_fossiledit.exchange.pages.charts import line_chart
from napari_fossiledit.exchange.pages.html_page import ReportTable, Value, write_html
from napari_fossiledit.files import write_json
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Instance
from napari_fossiledit.params.segment import CalibrateParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.shared.folds import folds_of, trained_on, what_to_fit
from napari_fossiledit.workflows.shared.ground_truth import (
    GroundTruth,
    find_instances,
)
from napari_fossiledit.workflows.shared.stale import stale_notes

LEAST = 8
"""Right and false detections, each, below which nothing could be told from chance."""


@dataclass(frozen=True)
class CalibrateResult:
    """A calibration.

    Attributes
    ----------
    model, calibration
        Name of the model, and what is applied to its scores.
    figures
        By class, what it does to detections that it was not fitted to.
    file, report
        Where it was written, and the page of its figures.
    """

    model: str
    calibration: Calibration
    figures: dict[str, ScoreFigures]
    file: Path
    report: Path
    notes: tuple[str, ...] = ()

    @property
    def off(self) -> dict[str, str]:
        """By class whose scores stay as they are, why."""
        return self.calibration.off

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {
            "model": self.model,
            "slices": format_slices(self.calibration.slices),
            "calibrated": list(self.calibration.classes),
            "off": self.off,
            "figures": {name: figures.summary() for name, figures in self.figures.items()},
            "file": str(self.file),
            "report": str(self.report),
            "notes": list(self.notes),
        }


def run(project_path: Path, params: CalibrateParams, *, job: Job = QUIET) -> CalibrateResult:
    """Fit and judge a calibration of a model, and write it where `predict` finds it.

    It is judged out of fold: slices are divided into folds (detections from left to right where
    there is one slice only), and the scores of each are compared with probabilities that were
    fitted to the others. Where their log loss shows no gain whose 95 % interval over detections
    lies above 0, the scores of that class stay as they are.

    Raises
    ------
    FossilError
        Where no slice is traced, one that was named is not, or there is no such model.
    """
    with Project.open(project_path) as project:
        ref, truths = what_to_fit(project, params, unseen=True)
        slices, learned = [t.slice for t in truths], trained_on(project, ref)
        full = params.model_copy(update={"model": ref.name, "slices": format_slices(slices)})
        with project.ledger.recorded("calibrate", full.model_dump(mode="json")) as summary:
            job.report(0, 0, "Loading the model")
            model = ref.load(params.device)
            tracked = job.tracked(truths, len(truths), "Predicting slice")
            found = [find_instances(model, project, t.slice, job.cancelled) for t in tracked]
            fitted, figures, off = {}, {}, {}
            for name in model.classes:
                ours = [[i for i in some if i.class_name == name] for some in found]
                why, regression, judged = _calibrated(project, truths, ours, name)
                if judged is not None:
                    figures[name] = judged
                if regression is None:
                    off[name] = why
                else:
                    fitted[name] = regression
            calibration = Calibration(
                model_hash=ref.model_hash, classes=fitted, off=off, slices=tuple(slices)
            )
            write_json(ref.calibration_path, calibration.model_dump(mode="json"))
            notes = tuple(f"{name}: {_words(f)}" for name, f in figures.items())
            notes += tuple(f"{name}: scores stay as they are, {why}." for name, why in off.items())
            if seen := sorted(learned & set(slices)):
                notes += (
                    f"The model learned from slices {format_slices(seen)} too, and finds more there"
                    " than elsewhere: on other slices the probabilities may be too high. A traced"
                    " slice that it did not learn from tells better.",
                )
            notes += stale_notes(project, {ANNOTATIONS: slices})
            report = project.reports / f"calibrate-{ref.name}.html"
            result = CalibrateResult(
                ref.name, calibration, figures, ref.calibration_path, report, notes
            )
            _write_report(result, project.path.name)
            summary.update(result.summary())
    return result


def _calibrated(
    project: Project,
    truths: Sequence[GroundTruth],
    found: Sequence[Sequence[Instance]],
    name: str,
) -> tuple[str, Regression | None, ScoreFigures | None]:
    """Fit and judge one class: why it stays off or nothing, the regression, the figures."""
    slices, rows, counting = [], [], []
    for truth, some in zip(truths, found, strict=True):
        # Their place in the list: what does not count is left out, the rest is cut.
        numbered = [replace(i, id=n) for n, i in enumerate(some)]
        judged = judge(
            truth.slice,
            project.slice_shape,
            truth.instances,
            numbered,
            class_name=name,
            area=truth.area,
            max_detections=len(some),
        )
        kept = [int(p.id) for p in judged.predictions if p.id is not None]
        slices.append(judged)
        rows.append(features(some)[kept])
        counting.append([some[n] for n in kept])
    right = np.concatenate([right_ones(s) for s in slices])
    hits, misses = int(right.sum()), int((~right).sum())
    if min(hits, misses) < LEAST:
        counts = f"{hits} right and {misses} false detections were found on the traced slices"
        return f"{counts}, {LEAST} of each are needed", None, None
    values = np.concatenate(rows)
    folds = folds_of(counting, [np.ones(len(some), dtype=np.bool_) for some in counting])
    told = held_out(values, right, np.concatenate(folds))
    ends = np.cumsum([len(r) for r in rows])[:-1]
    figures = compare_scores(slices, np.split(told, ends))
    if figures.gain.interval is None or figures.gain.interval[0] <= 0:
        return "on detections that it had not seen it showed no certain gain", None, figures
    return "", fit(values, right), figures


def _words(figures: ScoreFigures) -> str:
    before, after = figures.before, figures.after
    return (
        f"on detections that it had not seen, calibration error {percent(before.error)} ->"
        f" {percent(after.error)}, log loss {before.log_loss:.3f} -> {after.log_loss:.3f},"
        f" precision at a recall of {percent(figures.recall)}: {percent(before.precision)} ->"
        f" {percent(after.precision)}."
    )


def _write_report(result: CalibrateResult, project: str) -> None:
    classes = []
    for name, figures in result.figures.items():
        kinds = {"as the model gives them": figures.before, "as probabilities": figures.after}
        rows: list[list[Value]] = [
            [kind, r.error, r.log_loss, r.precision, r.score] for kind, r in kinds.items()
        ]
        curves: dict[str, list[tuple[float, float]]] = {"ideal": [(0.0, 0.0), (1.0, 1.0)]}
        curves |= {kind: [(mean, share) for mean, share, _ in r.bins] for kind, r in kinds.items()}
        counts: list[list[Value]] = [
            [kind, mean, share, count] for kind, r in kinds.items() for mean, share, count in r.bins
        ]
        gain = [figures.gain.mean, *(figures.gain.interval or (None, None))]
        classes.append(
            {
                "name": name,
                "off": result.off.get(name, ""),
                "figures": figures,
                "gain": ReportTable(("Log loss falls by", "from", "to"), [gain]),
                "table": ReportTable(
                    ("Scores", "Calibration error", "Log loss", "Precision", "From score"), rows
                ),
                "bins": ReportTable(("Scores", "Mean score", "Share right", "Detections"), counts),
                "diagram": line_chart(curves, "mean score", "share of detections that are right"),
            }
        )
    write_html(
        result.report,
        "calibrate.html",
        project=project,
        model=result.model,
        slices=format_slices(result.calibration.slices),
        classes=classes,
        notes=result.notes,
    )
