"""How much of the error of predicted masks goes with the first places of the review queue.

    python benchmarks/review_queue.py [--work FOLDER] [--seeds 37,38,41,42,43,44] [--fit 31,...,36]
    python benchmarks/review_queue.py --project chloro.fossil --slices 1,3,5,7,9

The shipped `reef-lite` is asked on sample reefs that it was not trained on (32 slices of 640 x
480); predictions of score 0.5 or more are taken over. The places of the queue are then corrected
with the truth, one after the other: a mask becomes the section that it matches best (by IoU), goes
where it matches none, and fossils that were missed and lie mostly under a mask of the place are
drawn. After each share of the places the table tells what is gone of the absolute volume error: of
the sections (the differences of area, of all masks and missed fossils), and of the specimens (masks
that match none are specimens of their own). Beside it: random order, the order of the scores (masks
with the lowest and left-out predictions with the highest first), and an oracle that knows what each
place mends.

With --project, the traced slices of a project are the truth and the predictions of its model are
asked, on slices that it did not learn.

With --fit the weights of `selection.places` are fitted to other reefs and printed.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment, nnls

from napari_fossiledit.geometry import parse_slices
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.masks.rle import intersections, iou_matrix
from napari_fossiledit.params.sample import DemoParams
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.progress import QUIET
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.selection import Neighbours, Place, find_places, places
from napari_fossiledit.workflows.sample import demo
from napari_fossiledit.workflows.segment import predict

MODEL, SCORE = "reef-lite", 0.5
SHARES = (0.05, 0.1, 0.2, 0.4)

Error = tuple[int, str, int]


@dataclass
class Reef:
    """Places of a reef and the errors that correcting each of them mends.

    Attributes
    ----------
    sign
        Predicted area less the true one, of each mask and of each fossil that was missed.
    specimen
        Whose specimen it is; one of its own where there is none.
    mends
        Errors that each place mends.
    scores
        The lowest confidence at each place, that a mask taken over is right or one left out wrong.
    """

    places: list[Place]
    sign: dict[Error, float]
    specimen: dict[Error, object]
    mends: list[set[Error]]
    scores: list[float]

    def gone(self, order: Sequence[int], share: float) -> tuple[float, float]:
        """Return the share of the error of sections and of specimens that is gone."""
        done = set().union(*(self.mends[n] for n in order[: round(share * len(order))]))
        total = sum(map(abs, self.sign.values()))
        before, after = defaultdict[object, float](float), defaultdict[object, float](float)
        for error, sign in self.sign.items():
            before[self.specimen[error]] += sign
            after[self.specimen[error]] += 0 if error in done else sign
        left = sum(map(abs, after.values())) / sum(map(abs, before.values()))
        return sum(abs(self.sign[e]) for e in done) / total, 1 - left

    def orders(self) -> dict[str, list[list[int]]]:
        """Return the orders that are compared; several of the random one."""
        every = range(len(self.places))
        rng = np.random.default_rng(0)
        value = [sum(abs(self.sign[e]) for e in mended) for mended in self.mends]
        by: dict[str, Callable[[int], float]] = {
            "queue": lambda n: -self.places[n].pixels,
            "score": lambda n: self.scores[n],
            "oracle": lambda n: -value[n],
        }
        random = [[int(n) for n in rng.permutation(len(self.places))] for _ in range(20)]
        return {name: [sorted(every, key=key)] for name, key in by.items()} | {"random": random}


def predicted_reef(work: Path, seed: int) -> Path:
    """Make a sample reef and its predictions where they are missing, and return the project."""
    folder = work / f"s{seed}"
    project = folder / "reef.fossil"
    params = DemoParams(out=folder, slices=32, size=640, seed=seed)
    demo._sample(folder / "sample", project, params, QUIET)
    demo._project(project, folder / "sample", QUIET)
    predict.run(project, PredictParams(model=MODEL))
    return project


def of_project(project: Path, judged: str = "all") -> Reef:
    """Return the places of a project that is traced and predicted throughout."""
    reef = Reef([], {}, {}, [], [])
    with Project.open(project, read_only=True) as opened:
        (source,) = (s.name for s in opened.ledger.predictions())
        name = opened.settings.classes[0]

        def bodies(source: str, z: int) -> list[Instance]:
            return opened.ledger.instances(source, slices=[z], part=Part.BODY, class_name=name)

        slices = range(opened.shape[0])
        taken = {z: [i for i in bodies(source, z) if i.score >= SCORE] for z in slices}
        for z in parse_slices(judged, opened.shape[0]):
            found = [i for i in bodies(source, z) if i.score < SCORE]
            near = Neighbours(taken.get(z - 1), taken.get(z + 1))
            scores = {i.id or 0: i.score for i in taken[z]}
            here = find_places(z, taken[z], near, scores=scores, predictions=found)
            _mend(reef, z, taken, found, bodies(ANNOTATIONS, z), here)
    return reef


def _mend(
    reef: Reef,
    z: int,
    taken: dict[int, list[Instance]],
    found: list[Instance],
    truth: list[Instance],
    here: list[Place],
) -> None:
    own = taken[z]
    overlaps = iou_matrix([i.mask for i in own], [t.mask for t in truth])
    pairs = {int(n): int(m) for n, m in zip(*linear_sum_assignment(-overlaps), strict=True)}
    pairs = {n: m for n, m in pairs.items() if overlaps[n, m] > 0.1}
    for n, item in enumerate(own):
        matched = truth[pairs[n]] if n in pairs else None
        error = (z, "mask", item.id or 0)
        reef.sign[error] = item.mask.area - (matched.mask.area if matched else 0)
        reef.specimen[error] = matched.specimen if matched else error
    missed = [m for m in range(len(truth)) if m not in pairs.values()]
    for m in missed:
        reef.sign[z, "missed", m] = -truth[m].mask.area
        reef.specimen[z, "missed", m] = truth[m].specimen
    below = taken.get(z - 1, [])
    masks = {i.id: i for i in (*own, *found, *below)}
    for place in here:
        looked = [masks[i] for i in (*place.ids, *place.predictions, *place.missing)]
        mended: set[Error] = {(z, "mask", i) for i in place.ids}
        shared = intersections([truth[m].mask for m in missed], [i.mask for i in looked])
        for m, row in zip(missed, shared, strict=True):
            if row.max(initial=0) > truth[m].mask.area / 2:
                mended.add((z, "missed", m))
        reef.places.append(place)
        reef.mends.append(mended)
        certain = (i.score if i.score >= SCORE else 1 - i.score for i in looked)
        reef.scores.append(min(certain, default=1.0))


def fit(reefs: Sequence[Reef]) -> None:
    """Print weights of a least-squares fit without negative ones."""
    kinds = [*places.WEIGHTS]
    rows, errors = [], []
    for reef in reefs:
        for place, mended in zip(reef.places, reef.mends, strict=True):
            rows.append([dict(place.against).get(k, 0.0) / places.WEIGHTS[k] for k in kinds])
            errors.append(sum(abs(reef.sign[e]) for e in mended))
    weights, _ = nnls(np.array(rows), np.array(errors, dtype=float))
    print(
        "fitted weights:", {str(k): round(float(w), 2) for k, w in zip(kinds, weights, strict=True)}
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("review-queue"))
    parser.add_argument("--seeds", default="37,38,41,42,43,44")
    parser.add_argument("--fit", default="")
    parser.add_argument("--project", type=Path)
    parser.add_argument("--slices", default="all")
    args = parser.parse_args()
    if args.fit:
        fit([of_project(predicted_reef(args.work, int(s))) for s in args.fit.split(",")])
    if args.project:
        reefs = [of_project(args.project, args.slices)]
    else:
        reefs = [of_project(predicted_reef(args.work, int(s))) for s in args.seeds.split(",")]
    print("places a reef:", ", ".join(str(len(r.places)) for r in reefs))
    print(
        "| order | share of places | error of sections gone | 95 % | error of volumes gone | 95 % |"
    )
    print("|---|---|---|---|---|---|")
    rng = np.random.default_rng(1)
    for name in ("queue", "score", "random", "oracle"):
        for share in SHARES:
            each = np.array(
                [np.mean([r.gone(o, share) for o in r.orders()[name]], axis=0) for r in reefs]
            )
            draws = each[rng.integers(0, len(each), (2000, len(each)))].mean(axis=1)
            low, high = np.percentile(draws, (2.5, 97.5), axis=0)
            cells = [
                f"{m:.3f} | {a:.3f} to {b:.3f}"
                for m, a, b in zip(each.mean(0), low, high, strict=True)
            ]
            print(f"| {name} | {share:.0%} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main()
