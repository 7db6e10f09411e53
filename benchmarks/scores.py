"""How far scores are probabilities, as a model gives them and calibrated.

    python benchmarks/scores.py [--work FOLDER]

The shipped `reef-lite` predicts slices of sample reefs that it was not trained on (seed 1 is the
one that it was trained on), calibrations are fitted to some of them and judged on others. Beside
the calibration itself stands Platt's scaling: the same regression with the score alone. Intervals
are those of a bootstrap over slices. A last table draws the same detections again with a refiner,
fitted on six other traced slices of each reef. Predictions and refiners are kept in the projects.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from paper_bench import CLASS, TRAINING, Bench

from napari_fossiledit.evaluation.calibration import (
    compare_scores,
    features,
    fit,
    right_ones,
)
from napari_fossiledit.evaluation.figures import average_precision
from napari_fossiledit.evaluation.judged import JudgedSlice
from napari_fossiledit.evaluation.numbers import Floats
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.models.refine.files import RECORD
from napari_fossiledit.params.segment import PredictParams, RefineParams
from napari_fossiledit.workflows.segment import predict, refine
from napari_fossiledit.workflows.shared.ground_truth import judged_slice, read_ground_truth
from napari_fossiledit.workflows.shared.model_refs import find_model

MODEL = "reef-lite"
SLICES = (3, 7, 11, 19, 23, 27, 35, 39, 43, 51, 55, 59)
RESAMPLES = 200


@dataclass(frozen=True)
class Judged:
    """A slice with the features of its predictions."""

    judged: JudgedSlice
    values: Floats


def judged_slices(bench: Bench, slices: Sequence[int], *, refined: bool = False) -> list[Judged]:
    """Predict slices of a reef, all of which is traced."""
    path = bench.project.path
    if refined and not (find_model(bench.project, MODEL).refiner_folder / RECORD).exists():
        refine.run(path, RefineParams(model=MODEL, slices=format_slices(list(TRAINING))))
    named = PredictParams(model=MODEL, slices=format_slices(list(slices)), refine=refined)
    source = predict.run(path, named).source
    made = []
    for z in slices:
        found = bench.project.ledger.instances(source, slices=[z], with_probability=True)
        judged = judged_slice(bench.project, read_ground_truth(bench.project, z), found, CLASS)
        made.append(Judged(judged, features(judged.predictions)))
    return made


def told(fitted: Iterable[Judged], judged: Iterable[Judged], alone: bool) -> list[Floats]:
    """Return probabilities of the predictions of some slices, fitted to others.

    Parameters
    ----------
    alone
        By the score alone.
    """
    keep = np.array([1, 0, 0]) if alone else np.ones(3)
    fitted = list(fitted)
    right = np.concatenate([right_ones(s.judged) for s in fitted])
    regression = fit(np.concatenate([s.values for s in fitted]) * keep, right)
    return [regression.probability(s.values * keep) for s in judged]


def row(name: str, slices: Sequence[Judged], scores: Sequence[Floats]) -> str:
    """Return the figures of probabilities as a row of a table."""
    judged = [s.judged for s in slices]
    figures = compare_scores(judged, scores)
    random = np.random.default_rng(0)
    draws = random.integers(len(slices), size=(RESAMPLES, len(slices)))
    drawn = [compare_scores([judged[i] for i in d], [scores[i] for i in d]) for d in draws]
    ap = average_precision([rescored(j, s) for j, s in zip(judged, scores, strict=True)])

    def cell(before: float, after: float, gains: list[float]) -> str:
        low, high = np.percentile(gains, [2.5, 97.5])
        return f"{before:.3f} -> {after:.3f} ({low:+.3f} to {high:+.3f})"

    def gains(name: str) -> list[float]:
        pairs = [(getattr(f.after, name), getattr(f.before, name)) for f in drawn]
        return [a - b for a, b in pairs if a is not None and b is not None]

    cells = [
        cell(getattr(figures.before, name), getattr(figures.after, name), gains(name))
        for name in ("precision", "error", "log_loss")
    ]
    return f"| {name} | {cells[0]} | {ap.ap50:.3f} | {' | '.join(cells[1:])} |"


def precision_at(recall: float, slices: Sequence[Judged], scores: Sequence[Floats]) -> float:
    """Return the share of right detections among the best scored ones that have this recall."""
    order = np.argsort(-np.concatenate(scores), kind="stable")
    right = np.cumsum(np.concatenate([right_ones(s.judged) for s in slices])[order])
    truths = sum(len(s.judged.truths) for s in slices)
    needed = int(np.searchsorted(right / truths, recall))
    return float(right[needed] / (needed + 1))


def own_scores(slices: Iterable[Judged]) -> list[Floats]:
    """Return the scores that the model gave."""
    return [np.array([p.score for p in s.judged.predictions]) for s in slices]


def rescored(judged: JudgedSlice, scores: Floats) -> JudgedSlice:
    """Return a slice with other scores of its predictions, the highest first."""
    order = np.argsort(-scores, kind="stable")
    found = tuple(replace(judged.predictions[n], score=float(scores[n])) for n in order)
    return replace(judged, predictions=found)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("build/scores"))
    work = parser.parse_args().work
    reefs = {
        seed: judged_slices(Bench(work, seed, print), SLICES) for seed in (1, 2, 9, 21, 22, 23)
    }
    learned = judged_slices(Bench(work, 1, print), TRAINING)
    new = {seed: slices for seed, slices in reefs.items() if seed != 1}
    # What is fitted, what is judged.
    others = [([s for t in (21, 22, 23) if t != k for s in new[t]], new[k]) for k in (21, 22, 23)]
    halves = [(s[n::2], s[1 - n :: 2]) for s in new.values() for n in (0, 1)]
    plans = {
        "seed 2 fits 9 and 9 fits 2": [(new[2], new[9]), (new[9], new[2])],
        "two of seeds 21 to 23 fit the third": others,
        "half of the slices of a reef fits the other half": halves,
        "the six slices that the model learned from fit others of that reef": [(learned, reefs[1])],
    }
    print("| fitted and judged on | precision at the recall of 0.5 | AP50 | error | log loss |")
    print("|---|---|---|---|---|")
    for name, pairs in plans.items():
        slices = [s for _, judged in pairs for s in judged]
        print(row(f"{name}: as they are", slices, own_scores(slices)))
        for kind, alone in (("Platt", True), ("calibrated", False)):
            scores = [p for fitted, judged in pairs for p in told(fitted, judged, alone)]
            print(row(f"{name}: {kind}", slices, scores), flush=True)
    print("\n| reefs | recall | as they are | calibrated | refined | refined, calibrated |")
    print("|---|---|---|---|---|---|")
    for seeds in ((2, 9), (21, 22, 23)):
        slices = [s for k in seeds for s in new[k]]
        drawn = [
            s for k in seeds for s in judged_slices(Bench(work, k, print), SLICES, refined=True)
        ]
        own = own_scores(slices)
        calibrated = [
            p
            for k in seeds
            for p in told([s for t in seeds if t != k for s in new[t]], new[k], alone=False)
        ]
        right = np.concatenate([right_ones(s.judged) for s in slices])
        found = int((right & (np.concatenate(own) >= 0.5)).sum())
        recall = found / sum(len(s.judged.truths) for s in slices)
        pairs = [(s, p) for s in (slices, drawn) for p in (own, calibrated)]
        cells = " | ".join(f"{precision_at(recall, s, p):.3f}" for s, p in pairs)
        print(f"| {', '.join(map(str, seeds))} | {recall:.3f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
