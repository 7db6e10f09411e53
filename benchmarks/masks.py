"""How much better masks become without a new label: cuts, views and a refiner.

    python benchmarks/masks.py [--work FOLDER] [--seeds 2,9,21,22,23] [--json figures.json]
    python benchmarks/masks.py --project chloro.fossil --model chloro --tuning 0,2,4,6,8
        --judging 1,3,5,7,9
    python benchmarks/masks.py --project lab.fossil --model lab --tuning 0 --tuning-region :1600
        --judging 0 --judging-region 1600:
    python benchmarks/masks.py ... --picture masks.png [--part x0:x1,y0:y1]

Without --project the shipped `reef-lite` is judged on sample reefs that it was not trained on. Each
variant is a choice of options of `predict`, its masks cut at several probabilities. All figures are
those of the paper's protocol (threshold 0), pooled over the judging slices of all projects. The cut
of a variant is the one of the highest precision on the tuning slices among those that lose no
recall over all truths there; differences are to the unedited model at 0.5, with 95 % intervals of a
bootstrap over the truths, and the gain at equal recall is to the unedited model at any cut.

The refiner is fitted on six traced slices of each reef, of another project on its tuning slices.
Predictions and refiners are kept in the projects and not computed again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from paper_bench import TRAINING, Bench
from skimage.io import imsave
from skimage.segmentation import find_boundaries

from napari_fossiledit.evaluation.compare import compare_results
from napari_fossiledit.evaluation.frontier import CUTS as FRONTIER
from napari_fossiledit.evaluation.frontier import at_equal_recall
from napari_fossiledit.evaluation.numbers import Spread
from napari_fossiledit.evaluation.protocol import ProtocolResult, protocol
from napari_fossiledit.geometry import Region, format_slices, parse_slices
from napari_fossiledit.models.refine.files import RECORD
from napari_fossiledit.params.segment import PredictParams, RefineParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.segment import predict, refine
from napari_fossiledit.workflows.shared.ground_truth import (
    GroundTruth,
    judged_slice,
    read_ground_truth,
)
from napari_fossiledit.workflows.shared.model_refs import find_model

SEEDS = (2, 9, 21, 22, 23)
TUNING, JUDGING = "7,23,39,55", "3,11,19,27,35,43,51,59"
CUTS = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8)

PLAIN = "unedited"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    PLAIN: {},
    "views 2": {"views": 2},
    "views 4": {"views": 4},
    "views 8": {"views": 8},
    "views 8, all find": {"views": 8, "views_find": True},
    "refiner": {"refine": True},
    "views 8, refiner": {"views": 8, "refine": True},
}
"""Options of `predict` by the name of the variant."""

PICTURED = {
    PLAIN: (255, 90, 60),
    "views 8": (255, 220, 40),
    "views 8, refiner": (60, 230, 255),
}
"""Colour of the outlines of each variant in a picture."""
PICTURE_WIDTH = 480
"""Pixels of one panel, about."""

MEASURES = ("precision", "recall", "iou", "recall_all", "iou_all")
HEADS = ("P", "R", "IoU", "R all", "IoU all")

Results = Mapping[float, ProtocolResult]
"""By cut."""


@dataclass(frozen=True)
class Case:
    """A project, the model that is judged there, and its truths."""

    project: Project
    model: str
    tuning: tuple[GroundTruth, ...]
    judging: tuple[GroundTruth, ...]
    fitting: RefineParams

    def predicted(self, options: Mapping[str, Any]) -> tuple[str, float | None]:
        """Name of the predictions in the ledger, and the seconds a slice took, where any did."""
        folder = find_model(self.project, self.model).refiner_folder
        if options.get("refine") and not (folder / RECORD).exists():
            refine.run(self.project.path, self.fitting)
        slices = {t.slice for t in (*self.tuning, *self.judging)}
        params = PredictParams(model=self.model, slices=format_slices(sorted(slices)), **options)
        began = time.monotonic()
        done = predict.run(self.project.path, params)
        seconds = time.monotonic() - began
        return done.source, seconds / len(done.predicted) if done.predicted else None


def reef(work: Path, seed: int) -> Case:
    """Make a sample reef where it is missing."""
    project = Bench(work, seed, print).project
    fitting = RefineParams(model="reef-lite", slices=format_slices(TRAINING))
    tuning, judging = (truths(project, text, "") for text in (TUNING, JUDGING))
    return Case(project, "reef-lite", tuning, judging, fitting)


def truths(project: Project, slices: str, region: str) -> tuple[GroundTruth, ...]:
    """Read what was traced on some slices, or a region of them."""
    part = Region.parse(region) if region else None
    return tuple(
        read_ground_truth(project, z, part) for z in parse_slices(slices, project.shape[0])
    )


def judged(cases: Sequence[tuple[Case, str]], cut: float, *, tuning: bool) -> ProtocolResult:
    """Judge the predictions of all cases, their masks cut at a probability."""
    return protocol(
        judged_slice(
            case.project,
            truth,
            case.project.instances(source, truth.slice, mask_cut=cut),
            case.project.settings.classes[0],
        )
        for case, source in cases
        for truth in (case.tuning if tuning else case.judging)
    )


def tuned(plain: ProtocolResult, tuning: Results) -> float:
    """Cut of the highest precision that loses no recall; else that of the highest recall."""
    kept = [c for c, r in tuning.items() if r.recall_all.mean >= plain.recall_all.mean]
    if kept:
        return max(kept, key=lambda cut: tuning[cut].precision.mean)
    return max(tuning, key=lambda cut: tuning[cut].recall_all.mean)


def run(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Print both tables; return one record for each variant."""
    rows = []
    plain: dict[str, Results] = {}
    print(f"| variant | cut | {' | '.join(HEADS)} | matched | predictions / truth | spurious |")
    print("|---" * 10 + "|")
    for name, options in VARIANTS.items():
        found = [(case, *case.predicted(options)) for case in cases]
        sources = [(case, source) for case, source, _ in found]
        cuts = sorted({*CUTS, *FRONTIER}) if name == PLAIN else CUTS
        results = {c: judged(sources, c, tuning=False) for c in cuts}
        tuning = {c: judged(sources, c, tuning=True) for c in CUTS}
        plain = plain or {"tuning": tuning, "judging": results}
        for cut in CUTS:
            print(line(name, cut, results[cut]), flush=True)
        best = tuned(plain["tuning"][0.5], tuning)
        deltas = compare_results(plain["judging"][0.5], results[best]).deltas
        equal = at_equal_recall(
            {(cut, 0.0): plain["judging"][cut] for cut in FRONTIER}, results[best]
        )
        seconds = [s for _, _, s in found if s]
        rows.append(
            {
                "variant": name,
                "cut": best,
                "figures": {c: r.summary() for c, r in results.items()},
                "deltas": {m: deltas[m].summary() for m in MEASURES},
                "at_equal_recall": equal.summary(),
                "seconds": sum(seconds) / len(seconds) if seconds else None,
                "line": difference(name, best, [deltas[m] for m in MEASURES], equal.gains),
            }
        )
    print(f"\n| variant | tuned cut | {' | '.join(HEADS)} | P, IoU all at equal recall |")
    print("|---" * 8 + "|")
    for row in rows:
        print(row.pop("line"))
    return rows


def line(name: str, cut: float, result: ProtocolResult) -> str:
    """Write one row of the first table."""
    means = [f"{getattr(result, m).mean:.3f}" for m in MEASURES]
    truths = len(result.truths)
    rest = [f"{result.matched} of {truths}", f"{result.predictions / truths:.2f}", result.spurious]
    return f"| {' | '.join(map(str, (name, f'{cut:g}', *means, *rest)))} |"


def difference(name: str, cut: float, deltas: Iterable[Spread], gains: Mapping[str, Spread]) -> str:
    """Write one row of the second table."""
    equal = f"{signed(gains['precision'])}, {signed(gains['iou_all'])}"
    return f"| {' | '.join((name, f'{cut:g}', *map(signed, deltas), equal))} |"


def signed(delta: Spread) -> str:
    """Write a difference with its interval."""
    low, high = delta.interval or (0.0, 0.0)
    return f"{delta.mean or 0.0:+.3f} ({low:+.3f} to {high:+.3f})"


def picture(case: Case, part: Region, path: Path) -> None:
    """Draw part of the first judging slice: traced outlines white, those of variants in colour.

    Detections of scores from 0.5 on, masks cut at 0.5; the variants of `PICTURED` from left to
    right.
    """
    truth = case.judging[0]
    image = np.asarray(case.project.contents.read(truth.slice))
    rgb = image if image.ndim == 3 else np.stack([image] * 3, axis=-1)
    place = part.slices(case.project.slice_shape)
    zoom = max(round(PICTURE_WIDTH / rgb[place].shape[1]), 1)
    name = case.project.settings.classes[0]
    traced = [i for i in case.project.instances(ANNOTATIONS, truth.slice) if i.class_name == name]
    panels = []
    for variant, colour in PICTURED.items():
        source, _ = case.predicted(VARIANTS[variant])
        found = case.project.instances(source, truth.slice, min_score=0.5)
        panel = rgb[place].repeat(zoom, axis=0).repeat(zoom, axis=1).copy()
        for instances, drawn in ((traced, (255, 255, 255)), (found, colour)):
            for instance in instances:
                mask = instance.mask.to_array()[place].repeat(zoom, axis=0)
                panel[find_boundaries(mask.repeat(zoom, axis=1), mode="inner")] = drawn
        panels.append(panel)
    imsave(path, np.concatenate(panels, axis=1), check_contrast=False)


def main() -> None:
    """Read the command line, print the tables, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("benchmarks/.paper"))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--project", type=Path, help="judge another project than sample reefs")
    parser.add_argument("--model", help="its model")
    for name in ("tuning", "judging"):
        parser.add_argument(f"--{name}", help=f"its {name} slices")
        parser.add_argument(f"--{name}-region", default="", help=f"region of its {name} slices")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--picture", type=Path, help="draw one slice of the first project instead")
    parser.add_argument("--part", default=":", help="of the slice that is drawn")
    options = parser.parse_args()
    if options.project:
        project = Project.open(options.project)
        tuning = truths(project, options.tuning, options.tuning_region)
        judging = truths(project, options.judging, options.judging_region)
        fitting = RefineParams(
            model=options.model, slices=options.tuning, region=options.tuning_region
        )
        cases = [Case(project, options.model, tuning, judging, fitting)]
    else:
        cases = [reef(options.work, int(seed)) for seed in options.seeds.split(",")]
    if options.picture:
        picture(cases[0], Region.parse(options.part), options.picture)
        return
    rows = run(cases)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
