"""Sections between traced slices: signed distances, aligned by centroid, and what is used.

    python benchmarks/interpolation.py [--seeds 31,32,33,34] [--slices 64] [--shared ../shared/data]

Every fourth slice of sample reefs is given, and every second of the chloroplasts; the archaeocyaths
of RLG136a, outlined by hand, with every second and every fourth. A section in between counts where
its specimen is in the given slices on either side. Intervals: 95 %, bootstrap over specimens.

The last table runs the workflow on a project with the given sections, without the numbers of
specimens, and with everything else that a reef holds drawn in all slices: how many of the true
sections came out with the IoU they should have, and how many pixels of other fossils they touch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from napari_fossiledit.masks import Instance, Mask, Origin
from napari_fossiledit.masks.interpolate import interpolate
from napari_fossiledit.masks.rle import intersections, iou_matrix, union
from napari_fossiledit.params.review import InterpolateParams
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.samples.reef import Reef
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.workflows.review import through_z

Labels = NDArray[np.integer]
Sections = Mapping[int, Mask]
Method = Callable[[Sections, int, int, int], Mask]
#: Empty pixels around a section.
_MARGIN = 8


def signed(mask: Mask, box: tuple[int, int, int, int]) -> NDArray[np.float64]:
    """Return the signed distance to an outline in a box, positive inside."""
    inside = mask.crop(box)
    out = ndimage.distance_transform_edt(~inside)
    return np.where(inside, ndimage.distance_transform_edt(inside) - 0.5, 0.5 - out)


def distances(known: Sections, a: int, b: int, z: int, *, centred: bool = False) -> Mask:
    """Blend signed distances, in place or with the centroids on a line."""
    part, shape = (z - a) / (b - a), known[a].shape
    boxes = np.array([known[a].box, known[b].box])
    low = np.maximum(boxes[:, :2].min(0) - _MARGIN, 0)
    high = np.minimum(boxes[:, 2:].max(0) + _MARGIN, shape)
    box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    fields = [signed(known[n], box) for n in (a, b)]
    if centred:
        middles = [np.argwhere(known[n].crop(box)).mean(0) for n in (a, b)]
        target = (1 - part) * middles[0] + part * middles[1]
        fields = [
            ndimage.shift(f, target - m, order=1, mode="nearest")
            for f, m in zip(fields, middles, strict=True)
        ]
    return Mask.from_crop((1 - part) * fields[0] + part * fields[1] > 0, box[:2], shape)


def used(known: Sections, a: int, b: int, z: int) -> Mask:
    """Interpolate as the program does, with the given sections beyond."""
    return interpolate({n: m for n, m in known.items() if 2 * a - b <= n <= 2 * b - a}, [z])[z]


METHODS: dict[str, Method] = {
    "signed distances": distances,
    "aligned by centroid": lambda *given: distances(*given, centred=True),
    "the two slices alone": lambda k, a, b, z: used({a: k[a], b: k[b]}, a, b, z),
    "used: with those beyond": used,
}


def specimens(labels: Labels) -> Iterator[dict[int, Mask]]:
    """Yield the sections of each specimen of a label volume (z, y, x)."""
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if box is not None:
            yield {
                z: Mask.from_crop(
                    labels[z][box[1:]] == number, (box[1].start, box[2].start), labels.shape[1:]
                )
                for z in range(box[0].start, box[0].stop)
                if (labels[z][box[1:]] == number).any()
            }


def table(title: str, volumes: list[Labels], step: int) -> None:
    """Print the figures of each method."""
    scores: dict[str, list[list[float]]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    for sections in (s for labels in volumes for s in specimens(labels)):
        known = {z: m for z, m in sections.items() if z % step == 0}
        asked = [(z - z % step, z) for z in sections if z % step]
        asked = [(a, z) for a, z in asked if a in known and a + step in known]
        for name, method in METHODS.items() if asked else ():
            start = time.perf_counter()
            made = [method(known, a, a + step, z) for a, z in asked]
            seconds[name] += time.perf_counter() - start
            truths = [sections[z] for _, z in asked]
            scores[name].append(
                [float(iou_matrix([m], [t])[0, 0]) for m, t in zip(made, truths, strict=True)]
            )
    random = np.random.default_rng(0)
    count = sum(map(len, scores["signed distances"]))
    print(f"\n{title}, slice 0 of every {step}: {count} sections, {len(scores[name])} specimens")
    print("| method | mean IoU | interval | 10th percentile | ms a section |")
    print("|---|---|---|---|---|")
    for name, per in scores.items():
        sums = np.array([(sum(s), len(s)) for s in per])
        drawn = sums[random.integers(len(sums), size=(2000, len(sums)))].sum(axis=1)
        low, high = np.percentile(drawn[:, 0] / drawn[:, 1], (2.5, 97.5))
        every = np.concatenate(per)
        print(
            f"| {name} | {every.mean():.4f} | {low:.4f} to {high:.4f} |"
            f" {np.percentile(every, 10):.3f} | {1000 * seconds[name] / count:.1f} |",
            flush=True,
        )


def workflow(title: str, labels: Labels, others: Labels | None, step: int) -> None:
    """Run the workflow on a project, beside fossils of another class."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rock.fossil"
        stack = BlankStack.of_shape(Path(folder) / "blank", labels.shape)
        params = NewParams(pixel_size=1, slice_spacing=1, classes=("fossil", "other"))
        truths: dict[int, list[Mask]] = defaultdict(list)
        with Project.create(path, stack, params) as project:
            put: dict[int, list[Instance]] = defaultdict(list)
            for z, mask in (pair for s in specimens(labels) for pair in s.items()):
                truths[z].append(mask)
                if z % step == 0:
                    put[z].append(Instance(z, "fossil", mask))
            for sections in specimens(others) if others is not None else ():
                for z, mask in sections.items():
                    put[z].append(Instance(z, "other", mask))
            for z, instances in put.items():
                project.ledger.edit(z, put=instances)
            before = {i.id: i for i in project.ledger.instances(ANNOTATIONS)}
        given = ",".join(str(z) for z in range(0, len(labels), step))
        start = time.perf_counter()
        result = through_z.interpolate(path, InterpolateParams(slices=given))
        took = time.perf_counter() - start
        with Project.open(path, read_only=True) as project:
            after = {i.id: i for i in project.ledger.instances(ANNOTATIONS)}
    changed = sum(after.get(id_) != i for id_, i in before.items())
    touched, right, made = 0, 0, 0
    for z in result.slices:
        new = [i.mask for i in after.values() if i.slice == z and i.origin is Origin.INTERPOLATED]
        old = [i.mask for i in before.values() if i.slice == z]
        touched += int(intersections([union(new, labels.shape[1:])], old).sum())
        right += int((iou_matrix(truths[z], new).max(axis=1) >= 0.5).sum())
        made += len(new)
    total = sum(len(truths[z]) for z in result.slices)
    print(
        f"| {title} | {total} | {made} | {right} | {result.alone} | {result.covered} | {changed} |"
        f" {touched} | {took:.2f} |",
        flush=True,
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="31,32,33,34")
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    args = parser.parse_args()
    reefs, others = [], []
    for seed in map(int, args.seeds.split(",")):
        reef = Reef(ReefParams(seed=seed, slices=args.slices))
        made = [(s.specimens, np.maximum(s.calcimicrobes, s.shells)) for s in reef.slices()]
        reefs.append(np.stack([cups for cups, _ in made]))
        # An outline of calcimicrobe is drawn beside a cup, not through it.
        others.append(np.stack([np.where(cups > 0, 0, rest) for cups, rest in made]))
    table(f"Sample reefs {args.seeds}", reefs, 4)
    real = {
        "Chloroplasts": ("chloroplast/labels_zyx.tif", (2,)),
        "RLG136a": ("rlg136a/rlg136a_outer_labels_zyx.tif", (2, 4)),
    }
    found = {n: v for n, v in real.items() if (args.shared / v[0]).exists()}
    for name, (file, steps) in found.items():
        for step in steps:
            table(name, [tifffile.imread(args.shared / file)], step)
    print("\n| project | true | made | found | alone | covered | others changed | pixels | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for seed, cups, rest in zip(args.seeds.split(","), reefs, others, strict=True):
        workflow(f"reef {seed}", cups, rest, 4)
    if "Chloroplasts" in found:
        workflow("chloroplasts", tifffile.imread(args.shared / real["Chloroplasts"][0]), None, 2)


if __name__ == "__main__":
    main()
