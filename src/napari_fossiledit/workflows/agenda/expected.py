"""How well a model can be expected to do on slices that nobody traced, and which model to take."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.expected import (
    FEWEST,
    LEVEL,
    PREDICTORS,
    Expected,
    from_reefs,
    from_traced,
    predictors_of,
    reference,
    relative,
)
from napari_fossiledit.evaluation.numbers import Floats, bootstrap
from napari_fossiledit.evaluation.relation import PixelCounts, Quality
from napari_fossiledit.files import write_json
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.params.agenda import ExpectParams
from napari_fossiledit.params.segment import IMAGENET
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.project.project import SETTINGS_FILE
from napari_fossiledit.selection import distances
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.agenda import plots
from napari_fossiledit.workflows.agenda.distance import open_both, predicted, unlike
from napari_fossiledit.workflows.agenda.features import Eye, look_at
from napari_fossiledit.workflows.shared.folds import trained_on
from napari_fossiledit.workflows.shared.ground_truth import judged_slice, read_ground_truth
from napari_fossiledit.workflows.shared.model_refs import ModelRef

SAMPLE = 10
"""Slices on which several candidates are compared: each of them predicts each."""

FEWEST_PAIRS = 4
"""Slices from which on the difference of two models gets an interval; of fewer it is too narrow."""

_FROM_REEFS = "sample reefs, not this rock"


@dataclass(frozen=True)
class Candidate(Summary):
    """What a model can be expected to do on a stack.

    Attributes
    ----------
    model
        Name of the model or edit, and of its project where that is a third one.
    o_dist, mean_distance
        O_dist and mean distance of the slices from those that it learned from; None: not known.
    relative_distance
        The mean distance, by all components, as share of the length of the mean feature vector of
        the latter, which can be compared between models.
    expected, low, high
        F-score to be expected, mean over the slices, and its 90 % interval.
    f_score
        Mean F-score of the slices that are traced and that it did not learn from; None: no slice.
    slices, distances
        The slices, and the relative distance of each.
    predictors
        (m, k) what was expected by, see `evaluation.expected.PREDICTORS`.
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
    predictors: Floats
    rows: tuple[dict[str, Any], ...]
    calibrated_on: str
    notes: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """Return the figures of the whole stack as JSON-able values."""
        shown = ("model", "o_dist", "mean_distance", "relative_distance", "expected", "low", "high")
        return {k: getattr(self, k) for k in (*shown, "f_score", "calibrated_on")}


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
        File with all figures, beside it the plots; None in a read-only project.
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
        compared = {"choice": self.choice, "candidates": [c.summary() for c in self.candidates]}
        return {
            **self.candidates[0].summary(),
            "worst": rows[:5],
            "best": rows[: -5 - 1 : -1],
            **({} if self.choice is None else compared),
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
            place, model = _home(opened, (home, other), name)
            chosen = params.model_copy(update={"model": model})
            one = _candidate(place, other, chosen, slices, job)
            third = place is not home and place is not other
            found.append(replace(one, model=f"{one.model} of {place.path.name}") if third else one)
        ranked, choice = _ranked(found)
        notes = tuple(dict.fromkeys(note for c in ranked for note in c.notes))
        report = None if home.read_only else home.reports / "expected.json"
        result = ExpectResult(tuple(ranked), choice, report, notes)
        if report is not None:
            write_json(report, result.full())
            own = other is home
            traced, wanted = (other.ledger.traced(), other.ledger.to_trace()) if own else ((), ())
            along_z = plots.AlongZ(tuple(result.rows()), tuple(traced), tuple(wanted))
            plots.write(report.with_suffix(".png"), along_z)
            if len(ranked) > 1:
                models = plots.Violins(tuple(vars(each) for each in ranked))
                plots.write(report.with_name(f"{report.stem}-models.png"), models)
            with home.ledger.recorded("expect", params.model_dump(mode="json")) as summary:
                summary.update(result.summary())
        return result


def _home(opened: ExitStack, known: Sequence[Project], text: str) -> tuple[Project, str]:
    """Return the project of a model, of which `known` are open, and the name of the model there.

    What a model learned from is in its own project; one of another project is named by its folder.
    """
    folder = Path(text)
    place = folder.parent.parent
    if folder.parent.name not in ("models", "edits") or not (place / SETTINGS_FILE).is_file():
        return known[0], text
    same = [project for project in known if project.path.resolve() == place.resolve()]
    return same[0] if same else opened.enter_context(Project.open(place)), folder.name


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
    notes = [*eye.notes, *unlike(home, other, params.other)]
    learned = sorted(trained_on(home, eye.ref))
    if other is home and (own := sorted(set(slices) & set(learned))):
        notes.append(f"{eye.name} learned from slices {format_slices(own)}: they are left out.")
        slices = [z for z in slices if z not in learned]
    seen = look_at(other, eye, slices, job)
    if not seen.slices:
        raise FossilError(
            f"No slice is left whose quality could be expected of {eye.name}",
            expected="slices that are not blank and that the model did not learn from",
            found=f"{format_slices(slices)}, all blank" if slices else "none",
        )
    notes += seen.notes
    known = reference().learned.get(eye.ref.model_hash)
    if learned:
        known = look_at(home, Eye.of(home, home, params), learned, job).features.astype(np.float64)
    measured, far = None, np.full(len(seen.slices), np.nan)
    if known is None:
        notes.append(
            f"It is not known what {eye.name} learned from: what is expected of it goes by its "
            "scores alone."
        )
    else:
        measured = distances(known, seen.features, params.components)
        notes += measured.notes
        # The table of sample reefs knows all components: with fewer all slices would seem nearer.
        far = relative(cdist(seen.features, known).mean(axis=1), known)
    columns, quality, more = _predictions(home, other, eye.ref, seen.slices, far, params, job)
    notes += more
    f_scores = dict(zip(quality.slices, quality.f_scores, strict=True))
    places = [n for n, z in enumerate(seen.slices) if z in f_scores]
    expected, calibrated_on = _expected(columns, places, np.array(quality.f_scores))
    if expected.beyond.any():
        far_off = format_slices([z for n, z in enumerate(seen.slices) if expected.beyond[n]])
        notes.append(
            f"Slices {far_off} are farther from what {eye.name} learned from than any sample reef, "
            "or get lower scores: how bad it is there is not known, their intervals begin at 0."
        )
    rows = tuple(
        {
            "slice": z,
            "f_score": f_scores.get(z),
            "expected": float(expected.f_scores[n]),
            "low": float(expected.lows[n]),
            "high": float(expected.highs[n]),
            "distance": None if measured is None else float(measured.scaled[n]),
        }
        for n, z in enumerate(seen.slices)
    )
    return Candidate(
        eye.name,
        None if measured is None else measured.overall,
        None if measured is None else float(measured.means.mean()),
        None if measured is None else float(far.mean()),
        *expected.stack,
        float(np.mean(quality.f_scores)) if quality.f_scores else None,
        seen.slices,
        () if measured is None else tuple(far.tolist()),
        columns,
        rows,
        calibrated_on,
        tuple(notes),
    )


def _predictions(
    home: Project,
    other: Project,
    ref: ModelRef,
    slices: Sequence[int],
    far: Floats,
    params: ExpectParams,
    job: Job,
) -> tuple[Floats, Quality, tuple[str, ...]]:
    """Return the predictors of slices at relative distances, F-scores of traced ones, and notes."""
    read, class_name, notes = predicted(home, other, ref, slices, params, job)
    columns = np.empty((len(slices), len(PREDICTORS)))
    traced, counts = other.ledger.traced(), PixelCounts()
    for n, z in enumerate(job.tracked(slices, len(slices), "Looking at predictions of slice")):
        found = read(z)
        columns[n] = predictors_of(float(far[n]), [i.score for i in found])
        if z in traced:
            counts.add(judged_slice(other, read_ground_truth(other, z), found, class_name))
    return columns, counts.quality(), notes


def _expected(columns: Floats, traced: list[int], f_scores: Floats) -> tuple[Expected, str]:
    """Expect F-scores by what is known best, and say by what."""
    known = reference().known
    count = len(traced)
    if count < FEWEST:
        said = _FROM_REEFS + (f" ({count} of {FEWEST} traced slices)" if count else "")
        return from_reefs(known, columns), said
    found = from_traced(known, columns, columns[traced], f_scores)
    return found, f"{count} traced slices of this rock"


def _ranked(found: Sequence[Candidate]) -> tuple[list[Candidate], str | None]:
    """Return the models, the one to take first, and which that is and how sure, in words."""
    f_scores = [
        {row["slice"]: row["f_score"] for row in c.rows if row["f_score"] is not None}
        for c in found
    ]
    # Slices that one of them learned from would speak for it.
    common = sorted(set.intersection(*(set(each) for each in f_scores)))
    merits = [
        float(np.mean([each[z] for z in common])) if common else c.expected
        for c, each in zip(found, f_scores, strict=True)
    ]
    order = sorted(range(len(found)), key=lambda n: -merits[n])
    ranked = [found[n] for n in order]
    if len(order) < 2:
        return ranked, None
    best, second = order[:2]
    first, last = found[best], found[second]
    figures = f"F {merits[best]:.2f}, of {last.model} {merits[second]:.2f}"
    if not common:
        said = f"{figures} can be expected"
        if first.low > last.high:
            return ranked, f"Take {first.model}: {said}, and the intervals do not touch."
        return ranked, (
            f"Take {first.model}, but that is not sure: {said}, and the intervals overlap. Trace "
            "one slice to decide."
        )
    many = "1 traced slice" if len(common) == 1 else f"{len(common)} traced slices"
    gain = [f_scores[best][z] - f_scores[second][z] for z in common]
    ends = bootstrap(gain, seed=0, level=LEVEL) if len(gain) >= FEWEST_PAIRS else None
    if ends is None:
        sure = "so few slices may mislead"
    elif ends[0] > 0:
        sure = f"the difference is {ends[0]:.2f} to {ends[1]:.2f} (90 % interval)"
    else:
        sure = f"the difference may be chance ({ends[0]:+.2f} to {ends[1]:+.2f}, 90 % interval)"
    return ranked, f"Take {first.model}: on {many} it has {figures}; {sure}."
