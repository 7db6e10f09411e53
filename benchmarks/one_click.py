"""One-click masks and two-click splits against true masks.

    python benchmarks/one_click.py --work FOLDER [--seeds 2,9] [--every 1] [--json figures.json]
    python benchmarks/one_click.py --project chloro.fossil --model chloro --slices 1,3,5,7,9

Of each true body of the judged class its own box, that box with each side moved at random (normal,
4 % of the box), and a click in its middle (the place deepest inside) are given to `propose`, with
the model's predictions and without. Beside it stands the model's own mask, that of the best IoU
with the truth, and the ellipse in the box. Intervals: 95 %, bootstrap over the truths.

Pairs of true masks that touch are united and split by two clicks, each at random in the inner part
of its fossil (at least 60 % as deep as the deepest place).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from masks import JUDGING
from numpy.typing import NDArray
from paper_bench import Bench
from scipy import ndimage

from napari_fossiledit.geometry import Box, format_slices, parse_slices
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.propose import propose, propose_at
from napari_fossiledit.masks.rle import intersections, iou_matrix, overlap, union
from napari_fossiledit.masks.split import by_clicks
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.review.shapes import SAME_BOX, box_iou
from napari_fossiledit.workflows.segment import predict

LEAST_AREA = 20
FOUND = 0.5
"""IoU from which on the model has found a fossil."""

Slice = tuple[NDArray[Any], list[Instance], list[Instance], list[Mask]]


def slices(project: Project, model: str, chosen: str) -> Iterator[Slice]:
    """Yield photograph, true and predicted bodies, and true masks of all classes, of each slice."""
    name = project.settings.classes[0]
    asked = format_slices(parse_slices(chosen, project.shape[0]))
    source = predict.run(project.path, PredictParams(model=model, slices=asked)).source
    for z in parse_slices(chosen, project.shape[0]):
        truths, found = (
            project.ledger.instances(s, slices=[z], class_name=name, **options)
            for s, options in ((ANNOTATIONS, {}), (source, {"with_probability": True}))
        )
        every = [
            i.mask
            for i in project.ledger.instances(ANNOTATIONS, slices=[z], part=Part.BODY)
            if not i.unsure
        ]
        bodies = [i for i in truths if i.part is Part.BODY and not i.unsure]
        bodies = [i for i in bodies if i.mask.area >= LEAST_AREA]
        yield project.contents.read(z), bodies, found, every


def deepest(mask: Mask, random: np.random.Generator | None = None) -> tuple[int, int]:
    """Return the place deepest inside a mask (y, x), or one at random in its inner part."""
    depth = ndimage.distance_transform_edt(np.pad(mask.crop(), 1))[1:-1, 1:-1]
    inner = np.argwhere(depth >= (0.6 if random else 1.0) * depth.max())
    y, x = inner[random.integers(len(inner)) if random else 0]
    return int(y) + mask.box[0], int(x) + mask.box[1]


def moved(box: Box, shape: tuple[int, int], random: np.random.Generator) -> Box:
    """Return a box as a hand draws it."""
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    off = np.rint(random.normal(0, 0.04, 4) * sides).astype(int)
    low = np.maximum(np.array(box[:2]) + off[:2], 0)
    high = np.minimum(np.maximum(np.array(box[2:]) + off[2:], low + 3), shape)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def ellipse(box: Box, shape: tuple[int, int]) -> Mask:
    """Return the ellipse in a box."""
    rows, columns = (
        (np.arange(box[k + 2] - box[k]) + 0.5) / (box[k + 2] - box[k]) * 2 - 1 for k in (0, 1)
    )
    return Mask.from_crop(np.hypot(rows[:, None], columns) <= 1, box[:2], shape)


def iou(one: Mask, other: Mask) -> float:
    """Return the overlap of two masks."""
    return float(iou_matrix([one], [other])[0, 0])


def boxes(cases: list[Slice], every: int) -> dict[str, list[float]]:
    """Return the IoU of each truth, by how it was drawn, and the seconds it took."""
    random = np.random.default_rng(0)
    rows: dict[str, list[float]] = {}
    for image, truths, found, _ in cases:
        shape = (image.shape[0], image.shape[1])
        sides = [max(t.mask.box[2] - t.mask.box[0], t.mask.box[3] - t.mask.box[1]) for t in truths]
        for truth in truths[::every]:
            true = truth.mask
            own = iou_matrix([true], [i.mask for i in found])[0].max(initial=0)
            rows.setdefault("the model's own mask", []).append(float(own))
            rows.setdefault("ellipse in the box", []).append(iou(ellipse(true.box, shape), true))
            y, x = deepest(true)
            below = [i for i in found if i.mask.crop((y, x, y + 1, x + 1)).any()]
            clicked = max(below, key=lambda i: i.score) if below else None
            hand = moved(true.box, shape, random)
            for name, draw in (
                ("box", partial(propose, image, true.box)),
                ("box and model", partial(propose, image, true.box, best(true.box, found))),
                ("box drawn by hand", partial(propose, image, hand)),
                ("box drawn by hand and model", partial(propose, image, hand, best(hand, found))),
                ("click", alone := partial(propose_at, image, (y, x), float(np.median(sides)))),
                (
                    "click and model",
                    partial(propose, image, clicked.mask.box, clicked) if clicked else alone,
                ),
            ):
                began = time.perf_counter()
                drawn = draw()
                rows.setdefault("seconds", []).append(time.perf_counter() - began)
                rows.setdefault(name, []).append(iou(drawn, true))
    return rows


def best(box: Box, found: list[Instance]) -> Instance | None:
    """Return the prediction that the workflow takes for what a box is drawn around."""
    hit = max(found, key=lambda i: box_iou(i.mask.box, box), default=None)
    return hit if hit is not None and box_iou(hit.mask.box, box) >= SAME_BOX else None


def pairs(cases: list[Slice], every: int) -> dict[str, list[float]]:
    """Return the IoU of both halves of each pair that touches, and the seconds it took."""
    random = np.random.default_rng(0)
    rows: dict[str, list[float]] = {"halves": [], "seconds": []}
    touching = [
        (image, one, other)
        for image, *_, truths in cases
        for one, other in combinations(truths, 2)
        if _touch(one, other)
    ]
    for image, one, other in touching[::every]:
        whole, clicks = union([one, other], one.shape), [deepest(m, random) for m in (one, other)]
        began = time.perf_counter()
        halves = by_clicks(whole, image, *clicks)
        rows["seconds"].append(time.perf_counter() - began)
        rows["halves"] += [iou(half, true) for half, true in zip(halves, (one, other), strict=True)]
    return rows


def _touch(one: Mask, other: Mask) -> bool:
    """Return whether masks hang together without lying on each other for the most part."""
    if min(one.area, other.area) < 100 or not overlap(one.box, other.box):
        return False
    if intersections([one], [other])[0, 0] > 0.3 * min(one.area, other.area):
        return False
    return int(ndimage.label((one | other).crop())[1]) == 1


def interval(values: NDArray[np.float64], of: Callable[..., Any] = np.mean) -> tuple[float, float]:
    """Return the 95 % interval of a mean over the truths."""
    random = np.random.default_rng(0)
    means = [of(values[random.integers(len(values), size=len(values))]) for _ in range(1000)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def table(rows: dict[str, list[float]]) -> None:
    """Print one line for each way of drawing."""
    own = np.array(rows["the model's own mask"])
    found = own >= FOUND
    print(f"{len(own)} truths, {found.sum()} of them found by the model")
    print("| drawn from | IoU | over the model's own mask | IoU, found | over it, found |")
    print("|---|---|---|---|---|")
    for name, values in rows.items():
        if name == "seconds":
            continue
        cells = []
        for chosen in (np.ones(len(own), bool), found):
            value = np.array(values)[chosen]
            gain = value - own[chosen]
            low, high = interval(gain)
            cells += [f"{value.mean():.3f}", f"{gain.mean():+.3f} ({low:+.3f} to {high:+.3f})"]
        print(f"| {name} | {' | '.join(cells)} |")
    seconds = np.array(rows["seconds"]) * 1000
    print(
        f"median {np.median(seconds):.0f} ms, 95th percentile {np.percentile(seconds, 95):.0f} ms"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, default=Path("one_click"))
    parser.add_argument("--seeds", default="2,9")
    parser.add_argument("--project", type=Path)
    parser.add_argument("--model", default="reef-lite")
    parser.add_argument("--slices", default=JUDGING)
    parser.add_argument("--every", type=int, default=1, help="judge each n-th truth and pair")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    seeds = [int(s) for s in given.seeds.split(",")]
    projects = (
        [Project.open(given.project)]
        if given.project
        else [Bench(given.work, seed, print).project for seed in seeds]
    )
    cases = [c for p in projects for c in slices(p, given.model, given.slices)]
    rows, halves = boxes(cases, given.every), pairs(cases, given.every)
    table(rows)
    if halves["halves"]:
        low, high = interval(np.array(halves["halves"]))
        print(
            f"{len(halves['seconds'])} touching pairs: IoU of the halves"
            f" {np.mean(halves['halves']):.3f} ({low:.3f} to {high:.3f}),"
            f" median {np.median(halves['seconds']) * 1000:.0f} ms"
        )
    if given.json:
        given.json.write_text(json.dumps({"boxes": rows, "pairs": halves}))


if __name__ == "__main__":
    main()
