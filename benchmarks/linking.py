"""How well sections are linked to specimens, beside joining whatever overlaps.

    python benchmarks/linking.py true [--work FOLDER] [--seeds 37,38,41,42,43,44]
    python benchmarks/linking.py predicted [--work FOLDER] [--seeds ...] [--score 0.5]
    python benchmarks/linking.py real FOLDER_OF_RLG136A FOLDER_OF_CHLOROPLASTS
    python benchmarks/linking.py cost

Sample reefs have 32 slices of 640 x 480, 500 um apart at 72.7 um a pixel; settings were chosen on
seeds 31 to 36, the figures are of other ones. `true`: all connected sections of all
archaeocyathids, their ids taken away. `predicted`: masks of the shipped `reef-lite`, which was not
trained on these reefs.

- Rand: the adapted Rand score (1 - error) of instances, weighted by their pixels and not weighted;
- links: precision and recall of "these two overlapping sections of neighbouring slices are of one
  specimen";
- splits, merges: F1 of "this section goes on in several of its specimen" and "in this one several
  of its specimen end";
- volume: median over the true specimens of the error of the volume of the specimen that holds most
  of it, and the share of specimens within 2 %;
- VI: variation of information over the pixels of the truth that some mask covers, in bits.

`all at once` is an integer program over all links of a reef, with the same thresholds.
Plain overlap joins each section with all of the slice before that it shares a pixel with, or the
share of the smaller one that `link` asks for.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from review_queue import predicted_reef
from scipy.cluster.hierarchy import DisjointSet
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array, eye_array, hstack, vstack
from scipy.stats import entropy
from skimage.metrics import adapted_rand_error

from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.labels import paint_masks, paint_order
from napari_fossiledit.masks.rle import intersections, iou_matrix
from napari_fossiledit.params.annotations import ImportParams
from napari_fossiledit.params.reconstruct import Branches
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.reef.link import LinkKind, divided_identities, link, merged_identities
from napari_fossiledit.workflows.annotate.files import import_annotations
from napari_fossiledit.workflows.stack import new

CLASS = "archaeocyathid"

Slices = Sequence[Sequence[Instance]]
Linker = Callable[[Slices], Mapping[int, int]]
"""Gives the specimen by instance id."""


def ours(slices: Slices, **settings: float) -> dict[int, int]:
    """Specimen by instance id, from `link`."""
    return {i: s for i, s in link(slices, **settings).specimens.items() if s is not None}


def plain(slices: Slices, least: float = 0.0) -> dict[int, int]:
    """Specimen by instance id: all that overlap are one."""
    groups = DisjointSet(i.id for items in slices for i in items)
    for before, after in pairwise(slices):
        areas = np.minimum.outer([i.mask.area for i in before], [i.mask.area for i in after])
        shared = intersections([i.mask for i in before], [i.mask for i in after])
        for n, m in zip(*np.nonzero((shared > 0) & (shared >= least * areas)), strict=True):
            groups.merge(before[n].id, after[m].id)
    return {id_: n for n, group in enumerate(groups.subsets(), 1) for id_ in group}


def solved(slices: Slices, branch: float = 0.4, gap: float = 0.1) -> dict[int, int]:
    """Specimen by instance id: all links of the reef chosen at once, by an integer program.

    A link is worth the mean of share and IoU less `gap` for each slice that it jumps; a section
    that goes on in more than one, or continues more than one, costs `branch`.
    """
    there = [items for items in slices if items]
    index = {i.id: n for n, i in enumerate(i for items in there for i in items)}
    edges, worth = [], []
    for jump in range(4):
        for before, after in zip(there, there[jump + 1 :], strict=False):
            shared = intersections([i.mask for i in before], [i.mask for i in after])
            areas = [np.array([i.mask.area for i in side]) for side in (before, after)]
            share = shared / np.minimum.outer(*areas)
            iou = shared / (np.add.outer(*areas) - shared)
            for n, m in np.argwhere((share >= 0.35) & (iou >= (0.4 if jump else 0))):
                edges.append((index[before[n].id], index[after[m].id]))
                worth.append((share[n, m] + iou[n, m]) / 2 - gap * jump)
    nodes, links = len(index), len(edges)
    ones, columns = np.ones(links), np.arange(links)
    sides = [coo_array((ones, (side, columns)), (nodes, links)) for side in np.transpose(edges)]
    found = milp(
        np.r_[-np.array(worth), np.full(2 * nodes, branch)],
        integrality=1,
        bounds=Bounds(0, np.r_[ones, np.full(2 * nodes, 4)]),
        constraints=LinearConstraint(
            hstack([vstack(sides), -eye_array(2 * nodes)]).tocsr(), ub=np.ones(2 * nodes)
        ),
    )
    groups = DisjointSet(range(nodes))
    for (n, m), taken in zip(edges, found.x, strict=False):
        if taken > 0.5:
            groups.merge(n, m)
    for items in there:
        twins = iou_matrix([i.mask for i in items], [i.mask for i in items]) >= 0.5
        for n, m in np.argwhere(twins):
            groups.merge(index[items[n].id], index[items[m].id])
    return {id_: groups[n] + 1 for id_, n in index.items()}


LINKERS: Mapping[str, Linker] = {
    "link": ours,
    "all at once (milp)": solved,
    "plain overlap, a pixel": plain,
    "plain overlap, 0.35": partial(plain, least=0.35),
}


def bodies(project: Project, source: str, score: float = 0.0, name: str = CLASS) -> Slices:
    """Read the bodies of a source, slice by slice."""
    read = partial(project.instances, source, class_name=name, min_score=score)
    return [[i for i in read(z) if i.part is Part.BODY] for z in range(project.shape[0])]


def identities(project: Project) -> dict[int, int]:
    """Return the true specimen of each annotation."""
    return {i.id: i.specimen for i in project.ledger.numbered(ANNOTATIONS)}


def table(truth: Sequence[int], found: Sequence[int], weight: Sequence[int]) -> csr_array:
    """Contingency table, its labels numbered anew."""
    codes = [np.unique(labels, return_inverse=True)[1] for labels in (truth, found)]
    return csr_array(coo_array((np.asarray(weight, float), tuple(codes))))


def rand(counts: csr_array) -> float:
    """Adapted Rand score of a table."""
    return 1 - float(adapted_rand_error(table=counts)[0])


Neighbours = Sequence[tuple[int, int]]


def touching(slices: Slices) -> Neighbours:
    """Ids of overlapping sections of neighbouring slices."""
    pairs = []
    for before, after in pairwise(slices):
        shared = intersections([i.mask for i in before], [i.mask for i in after])
        pairs += [(before[n].id, after[m].id) for n, m in zip(*np.nonzero(shared), strict=True)]
    return pairs


def several(pairs: Neighbours, labels: Mapping[int, int], side: int) -> set[int]:
    """Sections that go on in several of their specimen (side 0), or in which several end (1)."""
    number = Counter(pair[side] for pair in pairs if labels[pair[0]] == labels[pair[1]])
    return {id_ for id_, n in number.items() if n > 1}


def f1(truth: set, found: set) -> float:
    """F1 of a set; 1 where both are empty."""
    return 2 * len(truth & found) / max(len(truth) + len(found), 1) if truth or found else 1.0


def volumes(
    truth: Sequence[int], found: Sequence[int], weight: Sequence[int], extra: Mapping[int, int] = {}
) -> list[float]:
    """Relative error of the volume of each true specimen; `extra`: found pixels outside of all."""
    true, every = Counter[int](), Counter[int](extra)
    shared: dict[int, Counter[int]] = defaultdict(Counter)
    for t, f, w in zip(truth, found, weight, strict=True):
        true[t] += w
        if f:
            every[f] += w
            shared[t][f] += w
    best = {t: max(shared[t], key=shared[t].__getitem__, default=0) for t in true}
    return [abs(every[best[t]] - true[t]) / true[t] for t in true]


def judge_true(slices: Slices, truth: Mapping[int, int], linker: Linker) -> list[float]:
    """Figures of a linking of true sections."""
    found = linker(slices)
    items = [i for bodies in slices for i in bodies]
    labels = [truth[i.id] for i in items], [found[i.id] for i in items]
    areas = [i.mask.area for i in items]
    pairs = touching(slices)
    same = {p for p in pairs if truth[p[0]] == truth[p[1]]}
    joined = {p for p in pairs if found[p[0]] == found[p[1]]}
    errors = volumes(*labels, areas)
    return [
        rand(table(*labels, areas)),
        rand(table(*labels, np.ones(len(areas)))),
        len(same & joined) / len(joined),
        len(same & joined) / len(same),
        f1(several(pairs, truth, 0), several(pairs, found, 0)),
        f1(several(pairs, truth, 1), several(pairs, found, 1)),
        float(np.median(errors)),
        float(np.mean(np.array(errors) <= 0.02)),
        len(set(labels[1])) / len(set(labels[0])),
    ]


def judge_predicted(
    slices: Slices, truth: Slices, known: Mapping[int, int], linker: Linker
) -> list[float]:
    """Figures of a linking of predicted masks: by pixels."""
    found = linker(slices)
    shape = next(i.mask.shape for items in truth for i in items)
    cells, extra = Counter[tuple[int, int]](), Counter[int]()
    for items, true in zip(slices, truth, strict=True):
        order = paint_order(items)
        painted = paint_masks([i.mask for i in order], [found[i.id] for i in order], shape)
        drawn = paint_masks([i.mask for i in true], [known[i.id] for i in true], shape)
        both = drawn.astype(np.int64) << 32 | painted
        for value, number in zip(*np.unique(both[both > 0], return_counts=True), strict=True):
            t, f = int(value) >> 32, int(value) & 0xFFFFFFFF
            if t:
                cells[t, f] += int(number)
            else:
                extra[f] += int(number)
    labels, pixels = list(zip(*cells, strict=True)), np.array(list(cells.values()))
    errors = volumes(*labels, pixels, extra)
    covered = np.array(labels[1]) > 0
    counts = table(*np.array(labels)[:, covered], pixels[covered])
    whole = entropy(counts.data, base=2)
    split, merge = (whole - entropy(counts.sum(axis=axis), base=2) for axis in (1, 0))
    return [
        float(split + merge),
        float(split),
        float(merge),
        rand(counts),
        float(np.median(errors)),
        float(np.mean(np.array(errors) <= 0.1)),
        len({found[i.id] for items in slices for i in items}) / len(set(known.values())),
    ]


HEADS = {
    "true": "Rand, px|Rand|links P|links R|splits F1|merges F1|volume|within 2 %|specimens",
    "predicted": "VI|false splits|false merges|Rand, px|volume|within 10 %|specimens",
}


def sample(what: str, work: Path, seeds: Sequence[int], score: float) -> Iterator[str]:
    """Yield the rows of a table: means over the reefs."""
    figures: dict[str, list[list[float]]] = defaultdict(list)
    for seed in seeds:
        with Project.open(predicted_reef(work, seed), read_only=True) as project:
            truth, known = bodies(project, ANNOTATIONS), identities(project)
            (source,) = project.ledger.predictions()
            slices = bodies(project, source.name, score)
        for name, linker in LINKERS.items():
            if what == "true":
                row = judge_true(truth, known, linker)
            else:
                row = judge_predicted(slices, truth, known, linker)
            figures[name].append(row)
    yield f"| | {HEADS[what].replace('|', ' | ')} |"
    yield "|---" * (HEADS[what].count("|") + 2) + "|"
    for name, rows in figures.items():
        yield f"| {name} | {' | '.join(f'{v:.4f}' for v in np.mean(rows, axis=0))} |"


def real(rlg136a: Path, chloroplasts: Path) -> Iterator[str]:
    """Yield what becomes of the specimens that people told apart, their numbers forgotten."""
    for file, name in (
        (rlg136a / "rlg136a_all_outers.mat", CLASS),
        (chloroplasts / "labels_zyx.tif", "chloroplast"),
    ):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "a.fossil"
            stack = file if file.suffix == ".mat" else chloroplasts / "images"
            new.run(path, stack, NewParams(pixel_size=72.7, slice_spacing=500))
            import_annotations(path, ImportParams(file=file, class_name=name))
            with Project.open(path) as project:
                told = identities(project)
                slices = bodies(project, ANNOTATIONS, name=name)
        for branches in Branches:
            found = link(slices, branches=branches)
            doubts = [
                f"{told[d.before]} goes on in {told[d.after]} in slice {d.slice} ({d.kind})"
                for d in found.doubts
                if d.kind is not LinkKind.RIVAL
            ]
            yield (
                f"{file.name}, {branches}: {found.count} of {len(set(told.values()))} specimens; "
                f"joined {list(merged_identities(found, told).values())}, divided "
                f"{divided_identities(found, told)}; doubtful: {'; '.join(doubts)}"
            )


def many(slices: int, at_once: int = 130, tall: int = 200) -> Iterator[list[Instance]]:
    """Yield discs (800 x 1200) that wander and last `tall` slices: 2 000 specimens in 3 000."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.linspace(60, 740, 10), np.linspace(50, 1150, 13)), -1)
    places = grid.reshape(-1, 2)[:at_once]
    y, x = np.ogrid[-28:29, -28:29]
    disc = y**2 + x**2 <= 26**2
    ids = count(1)
    for z in range(slices):
        places = places + rng.normal(0, 0.7, places.shape)
        alive = (z + np.arange(at_once)) % (tall + 5) < tall
        corners = (places[alive] - 28).astype(int).tolist()
        masks = (Mask.from_crop(disc, (row, column), (800, 1200)) for row, column in corners)
        yield [Instance(z, CLASS, mask, id=next(ids)) for mask in masks]


def cost() -> Iterator[str]:
    """Yield seconds of CPU and memory for stacks of several heights, streamed."""
    yield "| slices | sections | specimens | s | us a section | peak MB |"
    yield "|---|---|---|---|---|---|"
    for slices in (750, 1500, 3000):
        began = time.process_time()
        sections = sum(map(len, many(slices)))
        made = time.process_time()
        result = link(many(slices))
        seconds = time.process_time() - made - (made - began)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        yield (
            f"| {slices} | {sections} | {result.count} | {seconds:.1f} "
            f"| {seconds / sections * 1e6:.0f} | {peak:.0f} |"
        )


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("true", "predicted", "real", "cost"))
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--work", type=Path, default=Path("linking-work"))
    parser.add_argument("--seeds", default="37,38,41,42,43,44")
    parser.add_argument("--score", type=float, default=0.5)
    args = parser.parse_args()
    if args.what == "real":
        lines = real(*args.folders)
    elif args.what == "cost":
        lines = cost()
    else:
        seeds = [int(seed) for seed in args.seeds.split(",")]
        lines = sample(args.what, args.work, seeds, args.score)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
