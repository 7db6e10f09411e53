"""How well a model can be expected to do on slices that nobody traced, and which model to take."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.expected import (
    FEWEST,
    Expected,
    Floats,
    certainty,
    from_reefs,
    from_traced,
    reference,
)
from napari_fossiledit.evaluation.relation import PixelCounts
from napari_fossiledit.files import write_json
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.params.agenda import ExpectParams
from napari_fossiledit.params.segment import IMAGENET
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.selection import distances
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.agenda.distance import open_both, predicted
from napari_fossiledit.workflows.agenda.features import Eye, look_at
from napari_fossiledit.workflows.shared.folds import trained_on
from napari_fossiledit.workflows.shared.ground_truth import judged_slice, read_ground_truth
from napari_fossiledit.workflows.shared.sources import known_class

SAMPLE = 10
"""Slices on which several candidates are compared: each of them predicts each."""

_FROM_REEFS = "sample reefs, not this rock"


@dataclass(frozen=True)
class Candidate(Summary):
    """What a model can be expected to do on a stack.

    Attributes
    ----------
    model
        Name of the model or edit.
    o_dist, mean_distance
        O_dist and mean distance of the slices from those that it learned from; None: not known.
    relative_distance
        The mean distance as share of the length of the mean feature vector of the latter, which
        can be compared between models.
    expected, low, high
        F-score to be expected, mean over the slices, and its 90 % interval.
    f_score
        Mean F-score of the slices that are traced and that it did not learn from; None: no slice.
    slices, distances
        The slices, and the relative distance of each.
    rows
        For each slice as `ExpectResult.rows`.
    calibrated_on
        What the interval was learned from, in words.
    notes
        What was assumed or left out, in sentences.
    """

    model: str
    o_dist: float | None
    mean_distance: float | None
    relative_distance: float | None
    expected: float
    low: float
    high: float
    f_score: float | None
    slices: tuple[int, ...]
    distances: tuple[float, ...]
    rows: tuple[dict[str, Any], ...]
    calibrated_on: str
    notes: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """Return the figures of the whole stack as JSON-able values."""
        left_out = ("rows", "notes", "distances", "slices")
        return {k: v for k, v in super().summary().items() if k not in left_out}


@dataclass(frozen=True)
class ExpectResult(Summary):
    """What can be expected of a model on each slice.

    Attributes
    ----------
    candidates
        The models that were compared, the one to take first; at least one.
    choice
        Which to take and how sure that is, in words; None where there was no choice.
    report
        File with all figures; None in a read-only project.
    notes
        What was assumed or left out, in sentences.
    """

    candidates: tuple[Candidate, ...]
    choice: str | None
    report: Path | None
    notes: tuple[str, ...]

    @property
    def model(self) -> str:
        """Name of the model that slices are listed for."""
        return self.candidates[0].model

    @property
    def calibrated_on(self) -> str:
        """What its intervals were learned from, in words."""
        return self.candidates[0].calibrated_on

    def rows(self) -> list[dict[str, Any]]:
        """Return F-score (None: not traced), expected, low, high and scaled distance by slice."""
        return [dict(row) for row in self.candidates[0].rows]

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values; of the slices the worst and the best."""
        rows = sorted(self.rows(), key=lambda row: float(row["expected"]))
        return {
            **self.candidates[0].summary(),
            "worst": rows[:5],
            "best": rows[: -5 - 1 : -1],
            "choice": self.choice,
            "candidates": [c.summary() for c in self.candidates],
            "report": None if self.report is None else str(self.report),
            "notes": list(self.notes),
        }

    def full(self) -> dict[str, Any]:
        """Return the result as JSON-able values with every slice of every model."""
        candidates = [
            {**c.summary(), "rows": list(c.rows), "notes": list(c.notes)} for c in self.candidates
        ]
        return {"choice": self.choice, "candidates": candidates, "notes": list(self.notes)}


def run(project_path: Path, params: ExpectParams, *, job: Job = QUIET) -> ExpectResult:
    """Expect the F-score of slices that are not traced, and compare models by it.

    Slices that have no prediction yet are predicted.

    Raises
    ------
    FossilError
        Where there is no such model or slice, or all slices are blank or were learned from.
    """
    names = list(dict.fromkeys(n.strip() for n in params.candidates.split(",") if n.strip()))
    with ExitStack() as opened:
        home, other = open_both(opened, project_path, params.other)
        depth = other.shape[0]
        if params.slices.strip():
            slices = parse_slices(params.slices, depth)
        elif len(names) > 1 and depth > SAMPLE:
            slices = np.linspace(0, depth - 1, SAMPLE).round().astype(int).tolist()
            slices = sorted({*slices, *list(other.ledger.traced())[:SAMPLE]})
        else:
            slices = list(range(depth))
        found = []
        for name in names or [params.model]:
            chosen = params.model_copy(update={"model": name})
            found.append(_candidate(home, other, chosen, slices, job))
        found.sort(key=_merit, reverse=True)
        notes = tuple(dict.fromkeys(note for c in found for note in c.notes))
        report = None if home.read_only else home.reports / f"expected-{found[0].model}.json"
        result = ExpectResult(tuple(found), _choice(found), report, notes)
        if report is not None:
            write_json(report, result.full())
            with home.ledger.recorded("expect", params.model_dump(mode="json")) as summary:
                summary.update(result.summary())
        return result


def _candidate(
    home: Project, other: Project, params: ExpectParams, slices: Sequence[int], job: Job
) -> Candidate:
    eye = Eye.of(home, other, params)
    if eye.ref is None:
        raise FossilError(
            "No model is chosen whose quality could be expected",
            expected="a model or an edit",
            found=IMAGENET,
            advice="Name one, e.g. reef-lite.",
        )
    notes = [*eye.notes]
    learned = sorted(trained_on(home, eye.ref))
    if other is home and (own := sorted(set(slices) & set(learned))):
        notes.append(f"{eye.name} learned from slices {format_slices(own)}: they are left out.")
    seen = look_at(other, eye, [z for z in slices if other is not home or z not in learned], job)
    if not seen.slices:
        raise FossilError(
            f"No slice is left whose quality could be expected of {eye.name}",
            expected="slices that are not blank and that the model did not learn from",
            found=f"{format_slices(slices)}, all blank or learned from",
        )
    notes += seen.notes
    count = len(seen.slices)
    known = reference().learned.get(eye.ref.root.model_hash)
    if learned:
        known = look_at(home, Eye.of(home, home, params), learned, job).features.astype(np.float64)
    o_dist = relative = scaled = None
    if known is None:
        notes.append(
            f"It is not known what {eye.name} learned from: distance has no part in what is"
            " expected of it."
        )
    else:
        measured = distances(known, seen.features, params.components)
        notes += measured.notes
        o_dist, scaled = measured.overall, measured.scaled
        relative = measured.means / np.linalg.norm(known.mean(axis=0))
    source, more = predicted(home, other, eye.ref, seen.slices, params, job)
    notes += more
    class_name = known_class(other, params.class_name) or other.settings.classes[0]
    predictors = np.full((count, 3), np.nan)
    if relative is not None:
        predictors[:, 0] = np.log(relative.clip(1e-3))
    traced, counts = other.ledger.traced(), PixelCounts()
    for n, z in enumerate(job.tracked(seen.slices, count, "Looking at predictions of slice")):
        instances = source(z)
        predictors[n, 1:] = certainty([i.score for i in instances if i.class_name == class_name])
        if z in traced:
            counts.add(judged_slice(other, read_ground_truth(other, z), instances, class_name))
    quality = counts.quality()
    places = [seen.slices.index(z) for z in quality.slices]
    expected, calibrated_on = _expected(predictors, places, np.array(quality.f_scores))
    f_scores = dict(zip(quality.slices, quality.f_scores, strict=True))
    rows = tuple(
        {
            "slice": z,
            "f_score": f_scores.get(z),
            "expected": float(expected.f_scores[n]),
            "low": float(expected.lows[n]),
            "high": float(expected.highs[n]),
            "distance": None if scaled is None else float(scaled[n]),
        }
        for n, z in enumerate(seen.slices)
    )
    return Candidate(
        eye.name,
        o_dist,
        None if known is None else float(measured.means.mean()),
        None if relative is None else float(relative.mean()),
        *expected.stack,
        float(np.mean(quality.f_scores)) if quality.f_scores else None,
        seen.slices,
        () if relative is None else tuple(relative.tolist()),
        rows,
        calibrated_on,
        tuple(notes),
    )


def _expected(predictors: Floats, traced: list[int], f_scores: Floats) -> tuple[Expected, str]:
    """Expect F-scores by what is known best, and say by what."""
    known = reference().known
    count = len(traced)
    if count < FEWEST:
        said = _FROM_REEFS + (f" ({count} of {FEWEST} traced slices)" if count else "")
        return from_reefs(known, predictors), said
    found = from_traced(known, predictors, predictors[traced], f_scores)
    return found, f"{count} traced slices of this rock"


def _merit(candidate: Candidate) -> float:
    return candidate.expected if candidate.f_score is None else candidate.f_score


def _choice(ranked: Sequence[Candidate]) -> str | None:
    if len(ranked) < 2:
        return None
    first, second = ranked[:2]
    if first.f_score is not None and second.f_score is not None:
        return (
            f"Take {first.model}: on the traced slices its F-score is {first.f_score:.2f}, that of "
            f"{second.model} {second.f_score:.2f}."
        )
    said = f"F {first.expected:.2f} can be expected, of {second.model} {second.expected:.2f}"
    if first.low > second.high:
        return f"Take {first.model}: {said}, and the intervals do not touch."
    return (
        f"Take {first.model}, but that is not sure: {said}, and the intervals overlap. Trace one "
        "slice to decide."
    )
