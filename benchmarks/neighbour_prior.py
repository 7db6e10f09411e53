"""What detections of the adjacent slice change when they raise the rank of region proposals.

    python benchmarks/neighbour_prior.py [--json figures.json] [--work FOLDER]

The shipped `reef-lite` predicts two runs of nine slices of the sample reef (seed 1), none of which
it was trained on; the slices that the paper's protocol judges lie in their middle. Each weight of
the neighbour prior is tried in each direction, with the model's own proposal budget and with a
quarter of it, where the ranking must matter more. All figures are over the 18 slices:

- precision, recall, IoU, matched: the paper's protocol (threshold 0), and over all truths;
- F1: detections from score 0.5 up, matched one to one at IoU 0.5;
- covered: truths whose box a proposal meets with IoU 0.5 or more (what the ranking acts on);
- partner: of detections from score 0.5 up, those with one of IoU 0.5 or more in the next slice;
- flicker: of specimens that are there in two adjacent slices, those detected in one of them only.

The last line tells CPU seconds (of all threads) for a slice by itself and for a slice with a prior,
best of five. What was predicted is kept in the folder --work and not computed again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from paper_bench import CLASS, SHIPPED_SEED, Bench
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from napari_fossiledit.evaluation.compare import compare_results
from napari_fossiledit.evaluation.figures import detection
from napari_fossiledit.evaluation.judged import JudgedSlice
from napari_fossiledit.evaluation.protocol import ProtocolResult, protocol
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Instance
from napari_fossiledit.masks.rle import iou_matrix
from napari_fossiledit.models.files.registry import save_model
from napari_fossiledit.models.inference.preprocessing import Image
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.prior import Prior
from napari_fossiledit.params.segment import Device, Direction, PredictParams
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.segment import predict
from napari_fossiledit.workflows.shared.ground_truth import (
    GroundTruth,
    judged_slice,
    read_ground_truth,
)
from napari_fossiledit.workflows.shared.model_refs import find_model
from napari_fossiledit.workflows.shared.neighbours import visits

RUNS = (range(15, 24), range(45, 54))
SLICES = tuple(z for run in RUNS for z in run)
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
BUDGETS = ((600, 400), (100, 100))
"""Proposals kept before suppression per level, and after it per slice; the first is the model's."""

DETECTION_SCORE = SAME_IOU = 0.5
"""Score of a detection, and IoU of what is the same."""

MEANS = ("precision", "recall", "iou", "recall_all", "iou_all")

Budget = tuple[int, int]
Row = dict[str, Any]


class Trials:
    """The reef, and everything that is asked of it.

    Parameters
    ----------
    work
        Folder for the reef and what was predicted.
    """

    def __init__(self, work: Path) -> None:
        self.project: Project = Bench(work, SHIPPED_SEED, print).project
        self._truths = [read_ground_truth(self.project, z) for z in SLICES]

    def model(self, budget: Budget) -> str:
        """Name of the model with a proposal budget, made where it is missing."""
        name = f"reef-lite-{budget[1]}"
        if name not in self.project.models():
            shipped = find_model(None, "reef-lite").load(Device.CPU)
            spec = shipped.spec.model_copy(update={"proposals_predict": budget})
            network = MaskRcnn(spec)
            network.load_state_dict(shipped.weights())
            made = MaskRcnnSegmenter(network, shipped.preprocessing)
            save_model(made, self.project.model_folder(name))
        return name

    def figures(self, params: PredictParams) -> tuple[ProtocolResult, dict[str, float]]:
        """Predict with one setting; judge it by the protocol, and by the other figures."""
        done = predict.run(self.project.path, params)
        found = {z: self.project.instances(done.source, z) for z in SLICES}
        judged = [judged_slice(self.project, t, found[t.slice], CLASS) for t in self._truths]
        others = {
            "f1": detection(judged).f1 or 0.0,
            "covered": self._covered(params),
            "partner": partner(found),
            "flicker": flicker(judged),
        }
        return protocol(judged), others

    def cost(self, model: str, repeats: int = 5) -> tuple[float, float]:
        """CPU seconds for a slice by itself, and with what was found in the slice before."""
        segmenter = find_model(self.project, model).load(Device.CPU)
        images = [self.project.stack.read(z) for z in RUNS[0]]
        found = [
            [i for i in segmenter.predict(image) if i.score >= DETECTION_SCORE] for image in images
        ]
        priors = [Prior.of(instances, 2.0) for instances in found]
        plain = [_cpu_seconds(segmenter, images[1:], [None] * len(found)) for _ in range(repeats)]
        told = [_cpu_seconds(segmenter, images[1:], priors) for _ in range(repeats)]
        return min(plain), min(told)

    def _covered(self, params: PredictParams) -> float:
        """Share of the truths whose box a proposal meets."""
        ref = find_model(self.project, params.model)
        segmenter = ref.load(Device.CPU)
        last = visits(self.project, ref, params, SLICES)[-len(SLICES) :]
        told = {visit.slice: visit.prior(self.project, params) for visit in last}
        met = [self._met(segmenter, truth, told[truth.slice]) for truth in self._truths]
        return float(np.concatenate(met).mean())

    @torch.inference_mode()
    def _met(
        self, segmenter: MaskRcnnSegmenter, truth: GroundTruth, prior: Prior | None
    ) -> NDArray[np.bool_]:
        image = self.project.stack.read(truth.slice)
        rgb = segmenter.preprocessing.prepare(image, self.project.geometry.pixel_size_um)
        own, size = self.project.slice_shape, (rgb.shape[0], rgb.shape[1])
        here = prior and prior.scaled(own, size).inside((0, 0, *size))
        pixels = segmenter.preprocessing.normalise(rgb)
        network = segmenter.network
        images = ImageList(pixels, [size])
        proposals = network.rpn.propose(images, network.backbone(pixels), here)
        fossils = [i for i in truth.instances if i.class_name == CLASS and not i.unsure]
        boxes = Prior.of(fossils, 0.0).scaled(own, size).boxes
        overlap = box_iou(proposals, proposals.new_tensor(boxes)).amax(dim=0)
        met: NDArray[np.bool_] = (overlap >= SAME_IOU).numpy()
        return met


def _cpu_seconds(
    segmenter: Segmenter, images: Sequence[Image], priors: Sequence[Prior | None]
) -> float:
    """Seconds for a slice; of more priors than slices the last ones are not used."""
    began = time.process_time()
    for image, prior in zip(images, priors, strict=False):
        segmenter.predict(image, prior=prior)
    return (time.process_time() - began) / len(images)


def partner(found: Mapping[int, Sequence[Instance]]) -> float:
    """Share of the detections that one in the next slice overlaps."""
    shares: list[NDArray[np.bool_]] = []
    for z, after in pairwise(SLICES):
        if after == z + 1:
            here, there = (
                [i.mask for i in found[k] if i.score >= DETECTION_SCORE] for k in (z, after)
            )
            near = iou_matrix(here, there) >= SAME_IOU
            shares.append(np.asarray(near.any(axis=1)))
    return float(np.concatenate(shares).mean())


def flicker(judged: Sequence[JudgedSlice]) -> float:
    """Share of the specimens in two adjacent slices that are detected in one of them only."""
    seen = [_detected(s) for s in judged]
    changed = [
        one[specimen] != other[specimen]
        for (one, other), (z, after) in zip(pairwise(seen), pairwise(SLICES), strict=True)
        if after == z + 1
        for specimen in one.keys() & other.keys()
    ]
    return float(np.mean(changed))


def _detected(judged: JudgedSlice) -> dict[int | None, bool]:
    """Return for each specimen if it is detected."""
    overlap = judged.iou[: judged.above(DETECTION_SCORE)]
    best = overlap.max(axis=0) if len(overlap) else np.zeros(len(judged.truths))
    return {t.specimen: bool(v >= SAME_IOU) for t, v in zip(judged.truths, best, strict=True)}


def settings() -> list[tuple[float, Direction]]:
    """All weights, 0 first, and for each but 0 all directions."""
    tried = [(weight, direction) for direction in Direction for weight in WEIGHTS if weight]
    return [(0.0, Direction.BOTH), *tried]


def rows(trials: Trials, budget: Budget) -> list[Row]:
    """Try every setting with one budget."""
    found: list[Row] = []
    model = trials.model(budget)
    slices = format_slices(SLICES)
    plain: ProtocolResult | None = None
    for weight, direction in settings():
        params = PredictParams(
            model=model,
            slices=slices,
            neighbour_weight=weight,
            neighbour_direction=direction,
            device=Device.CPU,
        )
        result, others = trials.figures(params)
        plain = plain or result
        row = row_of(result, others, plain)
        found.append({"budget": budget[1], "weight": weight, "direction": str(direction), **row})
        print(line(found[-1]), flush=True)
    return found


def row_of(result: ProtocolResult, others: dict[str, float], plain: ProtocolResult) -> Row:
    """Figures of one setting, and the differences to weight 0 with their 95 % intervals."""
    deltas = compare_results(plain, result).deltas
    return {
        **{name: getattr(result, name).mean for name in MEANS},
        "matched": result.matched,
        "truths": len(result.truths),
        "predictions": result.predictions,
        **others,
        "deltas": {name: deltas[name].summary() for name in (*MEANS, "matched")},
    }


def line(row: Row) -> str:
    """Write one row of the table; a mark tells that the interval of a difference leaves 0 out."""
    weight = f"{row['weight']:g}" + (f" {row['direction']}" if row["weight"] else "")
    cells = [f"{row[name]:.3f}{mark(row['deltas'][name])}" for name in MEANS]
    counts = [f"{row['matched']} of {row['truths']}"]
    rest = [f"{row[name]:.3f}" for name in ("f1", "covered", "partner", "flicker")]
    return f"| {' | '.join([str(row['budget']), weight, *cells, *counts, *rest])} |"


def mark(delta: dict[str, Any]) -> str:
    """Tell by + or - that a difference is larger than the choice of truths explains."""
    low, high = delta["interval_95"] or (0.0, 0.0)
    return " +" if low > 0 else " -" if high < 0 else ""


HEAD = (
    "| proposals | weight | P | R | IoU | R all | IoU all | matched | F1 | covered | partner"
    " | flicker |\n" + "|---" * 12 + "|"
)


def main() -> None:
    """Try everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("benchmarks/.paper"))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    trials = Trials(arguments.work)
    print(HEAD)
    found = [row for budget in BUDGETS for row in rows(trials, budget)]
    plain, told = trials.cost(trials.model(BUDGETS[0]))
    print(f"\nCPU seconds a slice: {plain:.2f} by itself, {told:.2f} with a prior")
    if arguments.json:
        seconds = {"plain": plain, "with_prior": told}
        arguments.json.write_text(json.dumps({"rows": found, "cpu_seconds": seconds}, indent=1))


if __name__ == "__main__":
    main()
