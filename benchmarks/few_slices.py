"""How well a model draws what it was never shown, by how many slices were traced for it.

    python benchmarks/few_slices.py [--reduced] [--recipes before now] [--json FILE]

Three grounds: sample reefs of three seeds that no shipped weights know, real sections of
chloroplasts, and the real Labrador slice, of which a part is traced (its columns below 1600) and
another judged (those from 1600 on). Each recipe trains with the same crops for the same number of
steps, which cost the same, and is judged on slices it has never seen: IoU over all truths (score 0,
a missed truth counts 0) and F1 of detections (score and IoU of 0.5). Differences are to the first
recipe over the same truths, with 95 % intervals of a paired bootstrap; their mean over the grounds
takes the three as independent. Models that are in the folder --work are not trained again.
--reduced trains the first two recipes for 150 steps on two slices, of one reef.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from paper_bench import JUDGING, TRAINING, Bench, Found, pooled

from napari_fossiledit.evaluation.compare import compare_results
from napari_fossiledit.evaluation.figures import detection
from napari_fossiledit.evaluation.judged import JudgedSlice
from napari_fossiledit.evaluation.numbers import Spread
from napari_fossiledit.evaluation.protocol import ProtocolResult, protocol
from napari_fossiledit.geometry import Region
from napari_fossiledit.params.annotations import ImportParams
from napari_fossiledit.params.segment import Device, TrainParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.annotate import files as annotations
from napari_fossiledit.workflows.segment import train
from napari_fossiledit.workflows.shared.ground_truth import (
    find_instances,
    judged_slice,
    read_ground_truth,
)
from napari_fossiledit.workflows.shared.model_refs import find_model
from napari_fossiledit.workflows.stack import new

SEEDS = (21, 22, 23)
RECIPES: dict[str, dict[str, Any]] = {
    "before": {"init": "imagenet", "hold_back": 0},
    "now": {},
    "all learned": {"init": "imagenet"},
    "from reef-lite": {"hold_back": 0},
}
"""Changes to the defaults of training. `before` starts from ImageNet and holds a quarter of a slice
back to choose a checkpoint; the last two change one of these each."""


@dataclass(frozen=True)
class Ground:
    """One project: what may be learned of it by the number of traced slices, and what judges."""

    name: str
    project: Project
    class_name: str
    traced: Mapping[int, str]
    judged: Sequence[int]
    part: str = ""
    parts: Mapping[int, str] = field(default_factory=dict)

    def train(self, name: str, count: int, **changes: Any) -> str:
        """Train with so many traced slices where the model is missing; return its name."""
        if name not in self.project.models():
            values = {"slices": self.traced[count], "region": self.parts.get(count, "")}
            fixed = {"max_minutes": 1e6, "crop": 320, "device": Device.CPU}
            params = TrainParams(
                name=name, classes=(self.class_name,), **{**values, **fixed, **changes}
            )
            train.run(self.project.path, params)
        return name

    def find(self, model: str) -> Found:
        """Predict the slices that judge."""
        segmenter = find_model(self.project, model).load(Device.CPU)
        return [find_instances(segmenter, self.project, z) for z in self.judged]

    def judge(self, found: Found) -> list[JudgedSlice]:
        """Judge predictions of the slices that judge."""
        region = Region.parse(self.part) if self.part else None
        truths = [read_ground_truth(self.project, z, region) for z in self.judged]
        return [
            judged_slice(self.project, t, f, self.class_name)
            for t, f in zip(truths, found, strict=True)
        ]


def reef(work: Path, seed: int) -> Ground:
    """Make a sample reef, and take some of the six slices of the shipped weights."""
    chosen = {1: (24,), 2: (14, 44), 4: (4, 24, 34, 54), 6: TRAINING}
    traced = {count: ",".join(map(str, slices)) for count, slices in chosen.items()}
    return Ground("reef", Bench(work, seed, print).project, "archaeocyathid", traced, JUDGING)


def chloroplast(work: Path, data: Path) -> Ground:
    """Every second section may be traced, the others judge."""
    traced = {1: "4", 2: "2,6", 4: "0,2,6,8", 5: "0,2,4,6,8"}
    name, folder = "chloroplast", data / "chloroplast"
    project = read_project(work / "chloroplast.fossil", folder / "images", folder / "labels", name)
    return Ground(name, project, name, traced, (1, 3, 5, 7, 9))


def labrador(work: Path, data: Path) -> Ground:
    """Read one slice: 2 or 6 sure archaeocyaths to learn from, 17 others to judge."""
    left = data / "labrador" / "labrador_left.jpg"
    project = read_project(work / "labrador.fossil", left, left.with_suffix(".coco.json"))
    parts = {1: ":1330", 2: ":1600"}
    slices = dict.fromkeys(parts, "0")
    return Ground("Labrador", project, "archaeocyathid", slices, (0,), "1600:", parts)


def read_project(path: Path, images: Path, tracings: Path, class_name: str = "") -> Project:
    """Read a project, made where it is missing, whose slices were all traced."""
    if not (path / "project.json").exists():
        # No figure here is a length.
        new.run(path, images, NewParams(pixel_size=72.7, slice_spacing=500.0))
        annotations.import_annotations(path, ImportParams(file=tracings, class_name=class_name))
    return Project.open(path)


def mean_of(deltas: Sequence[Spread]) -> str:
    """Write the mean of differences of independent grounds with its 95 % interval."""
    mean = sum(d.mean for d in deltas) / len(deltas)
    error = math.sqrt(sum(d.std**2 for d in deltas)) / len(deltas)
    return f"{mean:+.3f} ({mean - 1.96 * error:+.3f} to {mean + 1.96 * error:+.3f})"


class Curves:
    """All figures as they come, printed one row each."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.first: dict[tuple[str, int], ProtocolResult] = {}
        self.deltas: dict[tuple[str, int], list[Spread]] = {}

    def add(self, recipe: str, name: str, count: int, judged: Sequence[list[JudgedSlice]]) -> None:
        """Take the judged slices of one ground, a list for each of its projects."""
        result = pooled([protocol(slices) for slices in judged])
        base = self.first.setdefault((name, count), result)
        delta = compare_results(base, result).deltas["iou_all"]
        if base is not result:
            self.deltas.setdefault((recipe, count), []).append(delta)
        f1 = detection([s for slices in judged for s in slices]).f1
        low, high = delta.interval or (0.0, 0.0)
        told = f"{delta.mean:+.3f} ({low:+.3f} to {high:+.3f})" if base is not result else ""
        means = f"{result.iou_all.mean:.3f} | {result.recall_all.mean:.3f} | {f1 or 0:.3f}"
        matched = f"{result.matched} of {len(result.truths)}"
        print(f"| {name} | {count} | {recipe} | {means} | {matched} | {told} |", flush=True)
        figures = {"iou_all": result.iou_all.mean, "f1": f1, "difference": delta.summary()}
        self.rows.append({"ground": name, "traced": count, "recipe": recipe, **figures})

    def draw(self, path: Path) -> None:
        """Draw IoU over all truths by the number of traced slices, a panel for each ground."""
        names = list(dict.fromkeys(row["ground"] for row in self.rows))
        figure, panels = plt.subplots(1, len(names), sharey=True, figsize=(3 * len(names), 3))
        for panel, name in zip(panels, names, strict=True):
            for recipe in dict.fromkeys(row["recipe"] for row in self.rows):
                rows = [r for r in self.rows if (r["ground"], r["recipe"]) == (name, recipe)]
                points = [(r["traced"], r["iou_all"]) for r in rows]
                panel.plot(*zip(*points, strict=True), marker="o", label=recipe)
            panel.set(title=name, xlabel="traced slices", xticks=[r["traced"] for r in rows])
        panels[0].set(ylabel="IoU, all", ylim=(0, 1))
        panels[-1].legend()
        figure.tight_layout()
        figure.savefig(path, dpi=110)


def main() -> None:
    """Train, judge and print a row for each ground, number of traced slices and recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("benchmarks/.paper"))
    shared = Path(__file__).parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=shared, help="chloroplast/ and labrador/")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--steps", type=int, help="of a training: 250, or 150 of the reduced run")
    parser.add_argument("--batch", type=int, default=2, help="crops in a step")
    parser.add_argument("--reduced", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--picture", type=Path, help="also draw the curves into this file")
    given = parser.parse_args()
    recipes = given.recipes[:2] if given.reduced else given.recipes
    seeds, steps = (SEEDS[:1], 150) if given.reduced else (SEEDS, 250)
    steps = given.steps or steps
    reefs = [reef(given.work, seed) for seed in seeds]
    grounds = [[labrador(given.work, given.data)], [chloroplast(given.work, given.data)], reefs]
    curves = Curves()
    print("| ground | traced | recipe | IoU all | R all | F1 | matched | IoU all - first |")
    print("|" + "---|" * 8)
    for first, *others in grounds:
        for count in (2,) if given.reduced else first.traced:
            for recipe in recipes:
                name = f"{recipe.replace(' ', '-')}-{count}-{steps}-{given.batch}"
                changes = {"max_steps": steps, "batch": given.batch, **RECIPES[recipe]}
                each = [g.judge(g.find(g.train(name, count, **changes))) for g in (first, *others)]
                curves.add(recipe, first.name, count, each)
    for (recipe, count), deltas in curves.deltas.items():
        if len(deltas) == len(grounds):
            print(f"mean difference of {recipe} at {count} traced: {mean_of(deltas)}")
    if given.json:
        given.json.write_text(json.dumps(curves.rows, indent=1))
    if given.picture:
        curves.draw(given.picture)


if __name__ == "__main__":
    main()
