"""What a model gains by seeing the slices before and after, by how its first layer starts.

    python benchmarks/two_and_a_half_d.py [--reduced] [--json FILE] [--picture FILE]

Two grounds: real sections of chloroplasts, and a sample reef whose slices lie 140 um apart, so that
neighbours show nearly the same. Each way trains from the same start with the same crops for the
same number of steps, and is judged on slices it has never seen: IoU over all truths (score 0, a
missed truth counts 0), F1 of detections (score and IoU of 0.5) and AP at an IoU of 0.5. Differences
are to 2D with the same layers learning, `2D uniform`, and to the window that starts as pretrained,
seed by seed, with 95 % intervals of Student's t over the seeds of training: not over stacks. At
equal recall, 2D uniform has its masks cut where it has the recall of the other
(evaluation/frontier.py). On the same slices, before training and after, it is measured how much of
what a model looks at (input x gradient of the class scores, in the boxes of the truths) lies before
the slice, S-, and after it, S+: the asymmetry (S+ - S-) / (S+ + S-), 0 where both count alike.

What is in the folder --work is not computed again, and all ways of a seed come before the next
seed. --reduced takes two seeds and three ways.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from few_slices import Ground, chloroplast, read_project
from scipy import stats

from napari_fossiledit.evaluation.figures import average_precision, detection
from napari_fossiledit.evaluation.frontier import CUTS, at_equal_recall
from napari_fossiledit.evaluation.protocol import ProtocolResult, TruthScore, protocol
from napari_fossiledit.masks import cut_at
from napari_fossiledit.masks.probability import MASK_CUT
from napari_fossiledit.models.files.places import SHIPPED
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.training.initial import initial_network
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.params.segment import Device, TrainParams
from napari_fossiledit.project import ANNOTATIONS
from napari_fossiledit.saliency.asymmetry import asymmetry
from napari_fossiledit.workflows.sample import reef as sample
from napari_fossiledit.workflows.shared.model_refs import find_model
from napari_fossiledit.workflows.shared.seen import seen

FAIR, WINDOW, RANDOM = "2D uniform", "window pretrained", "window random"
WAYS: dict[str, dict[str, Any]] = {
    FAIR: {"start": "uniform"},
    WINDOW: {"input": "grey-window"},
    "window uniform": {"input": "grey-window", "start": "uniform"},
    "2D pretrained": {},
    "window pretrained, z-flip": {"input": "grey-window", "z_flip": True},
    "window symmetric": {"input": "grey-window", "start": "symmetric"},
    RANDOM: {"input": "grey-window", "start": "random"},
    "colour window pretrained": {"input": "rgb-window"},
    "colour window uniform-z": {"input": "rgb-window", "start": "uniform-z"},
}
"""Changes to the defaults of training; `2D pretrained` is the default, whose first layers rest.

The last two start alike but for rounding: their difference tells what chance does."""

REDUCED = tuple(WAYS)[:3]
WHEN = ("before", "after")
TRACED = 2
STEPS, SEEDS = 60, (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Trial:
    """One training of a way with a seed."""

    ground: Ground
    way: str
    seed: int
    steps: int

    @property
    def name(self) -> str:
        """Name of the model."""
        return f"{self._slug}-{self.steps}-{self.seed}"

    @property
    def _slug(self) -> str:
        return self.way.replace(",", "").replace(" ", "-")

    @cached_property
    def figures(self) -> dict[str, Any]:
        """F1 and AP50 of detections, and the protocol by mask cut: for `FAIR` at all `CUTS`."""
        return self._kept(self.name, self._judged)

    @cached_property
    def cuts(self) -> dict[tuple[float, float], ProtocolResult]:
        """The protocol's results by mask cut and score, which is 0."""
        return {
            (float(cut), 0.0): ProtocolResult(
                tuple(TruthScore(**t) for t in kept["truths"]), kept["predictions"]
            )
            for cut, kept in self.figures["cuts"].items()
        }

    @property
    def result(self) -> ProtocolResult:
        """The protocol's result where masks end at one half."""
        return self.cuts[MASK_CUT, 0.0]

    def looks(self, trained: bool) -> dict[str, list[float]]:
        """Asymmetry and share of the slice itself, for each slice that judges."""
        if trained:
            return self._kept(f"{self.name}-after", lambda: self._looked(self._model))
        # Neither seed nor steps change a start that is not drawn by chance.
        start = self.name if self.way == RANDOM else self._slug
        return self._kept(f"{start}-before", lambda: self._looked(self._start))

    def _kept(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        file = self.ground.project.path.parent / f"{self.ground.name}-{name}.json"
        if not file.exists():
            file.write_text(json.dumps(make()))
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    def _judged(self) -> dict[str, Any]:
        # 0.6 and crops of 224 see three times the rock a second that the defaults see.
        fixed = {"scale": 0.6, "crop": 224, "batch": 1, "hold_back": 1_000_000}
        changes = {"max_steps": self.steps, "seed": self.seed, **fixed, **WAYS[self.way]}
        found = self.ground.find(self.ground.train(self.name, TRACED, **changes))
        cuts = {
            cut: protocol(self.ground.judge([cut_at(f, cut, self.name) for f in found]))
            for cut in (CUTS if self.way == FAIR else (MASK_CUT,))
        }
        slices = self.ground.judge(found)
        return {
            "f1": detection(slices).f1 or 0.0,
            "ap50": average_precision(slices).ap50,
            "cuts": {cut: asdict(result) for cut, result in cuts.items()},
        }

    @property
    def _model(self) -> Segmenter:
        return find_model(self.ground.project, self.name).load(Device.CPU)

    @property
    def _start(self) -> Segmenter:
        """What the training began with."""
        chosen = {"classes": (self.ground.class_name,), "seed": self.seed, **WAYS[self.way]}
        start = initial_network(TrainParams(init=str(SHIPPED / "reef-lite"), **chosen))
        return MaskRcnnSegmenter(start.network, self._model.preprocessing)

    def _looked(self, model: Segmenter) -> dict[str, Any]:
        project, window = self.ground.project, model.preprocessing.window
        slices = [
            (
                seen(project, window, z),
                project.instances(ANNOTATIONS, z, class_name=self.ground.class_name),
            )
            for z in self.ground.judged
        ]
        found = asymmetry(model, slices, pixel_size_um=project.geometry.pixel_size_um)
        return {"index": found.index.tolist(), "centre": found.centre.tolist()}


def reef(work: Path, _: Path) -> Ground:
    """Make a sample reef of thin steps."""
    folder = work / "thin-reef"
    if not (folder / "annotations.json").exists():
        sample.run(folder, ReefParams(seed=31, slices=48, size=512, slice_spacing_um=140))
    project = read_project(
        work / "thin-reef.fossil", folder / "images", folder / "annotations.json"
    )
    return Ground("reef", project, "archaeocyathid", {TRACED: "6,22"}, (14, 30, 38, 46))


GROUNDS = {
    "chloroplast": (chloroplast, tuple(WAYS)[:7]),
    "reef": (reef, (*tuple(WAYS)[:5], *tuple(WAYS)[7:])),
}
"""Each with the ways that fit it: chloroplasts have no colours."""


def over_seeds(values: Sequence[float]) -> str:
    """Write a mean with its 95 % interval over the seeds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:+.3f}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"


Figures = dict[str, dict[str, list[float]]]
"""By way and name, a figure for each seed."""


class Table:
    """The trials of one ground by way, the seeds in order."""

    def __init__(
        self, ground: Ground, ways: Sequence[str], seeds: Sequence[int], steps: int
    ) -> None:
        self.ground = ground
        self.trials = {way: [Trial(ground, way, s, steps) for s in seeds] for way in ways}

    @property
    def by_seed(self) -> list[tuple[Trial, ...]]:
        """All ways of one seed after the other."""
        return list(zip(*self.trials.values(), strict=True))

    def figures(self, way: str) -> dict[str, list[float]]:
        """All figures of a way, one for each seed."""
        trials = self.trials[way]
        found = {
            "IoU all": [t.result.iou_all.mean or 0.0 for t in trials],
            "R all": [t.result.recall_all.mean or 0.0 for t in trials],
            "F1": [t.figures["f1"] for t in trials],
            "AP50": [t.figures["ap50"] for t in trials],
        }
        if FAIR in self.trials:
            pairs = zip(self.trials[FAIR], trials, strict=True)
            equal = [at_equal_recall(fair.cuts, t.result).gain.mean or 0.0 for fair, t in pairs]
            found["at equal recall"] = equal
        if not way.startswith("2D"):
            for when, trained in (("before", False), ("after", True)):
                looks = [t.looks(trained) for t in trials]
                # Slices count alike; a sign that changes from slice to slice is an asymmetry, too.
                found[f"asymmetry {when}"] = [float(np.abs(x["index"]).mean()) for x in looks]
                found[f"signed {when}"] = [float(np.mean(x["index"])) for x in looks]
                found[f"centre {when}"] = [float(np.mean(x["centre"])) for x in looks]
        return found

    def show(self) -> Figures:
        """Print both tables, and return their figures by way."""
        every = {way: self.figures(way) for way in self.trials}
        means = ("IoU all", "R all", "F1", "AP50")
        firsts = [f for f in (FAIR, WINDOW) if f in every]

        def row(way: str, *cells: str) -> None:
            print(f"| {way} | " + " | ".join(cells) + " |", flush=True)

        def header(*cells: str) -> None:
            row(self.ground.name, *cells)
            print("|" + "---|" * (len(cells) + 1))

        def difference(way: str, first: str, name: str) -> str:
            if way == first:
                return ""
            both = zip(every[way][name], every[first][name], strict=True)
            return over_seeds([after - before for after, before in both])

        compared = [(name, first) for first in firsts for name in ("IoU all", "F1")]
        print(f"The tracing of the next slice fits with a mean IoU of {alike(self.ground):.3f}.\n")
        header(*means, *(f"{n} - {f}" for n, f in compared), f"IoU all - {FAIR}, at equal recall")
        for way, found in every.items():
            equal = over_seeds(found["at equal recall"]) if FAIR in every and way != FAIR else ""
            plain = (f"{np.mean(found[name]):.3f}" for name in means)
            row(way, *plain, *(difference(way, f, n) for n, f in compared), equal)
        looked = [f"{name} {when}" for name in ("asymmetry", "signed", "centre") for when in WHEN]
        print()
        header(*looked, f"asymmetry after - {WINDOW}")
        for way, found in every.items():
            if looked[0] in found:
                told = difference(way, WINDOW, "asymmetry after") if WINDOW in every else ""
                row(way, *(f"{np.mean(found[name]):.3f}" for name in looked), told)
        print()
        return every


def alike(ground: Ground) -> float:
    """Return how well the tracing of the next slice fits that of a slice: mean IoU over truths."""
    last = ground.project.shape[0] - 1
    nexts = [z + 1 if z < last else z - 1 for z in ground.judged]
    tracings = [
        ground.project.instances(ANNOTATIONS, z, class_name=ground.class_name) for z in nexts
    ]
    return protocol(ground.judge(tracings)).iou_all.mean or 0.0


def draw(tables: Sequence[Figures], names: Sequence[str], path: Path) -> None:
    """Draw a dot a seed: asymmetry before and after, and IoU, a row of panels for each ground."""
    figure, panels = plt.subplots(
        len(tables), 2, squeeze=False, sharex="col", figsize=(9, 2.8 * len(tables))
    )
    for (left, right), every, name in zip(panels, tables, names, strict=True):
        for n, (way, found) in enumerate(every.items()):
            right.plot(found["IoU all"], [n] * len(found["IoU all"]), "o", color="C0", alpha=0.6)
            right.plot(np.mean(found["IoU all"]), n, "|", color="black", markersize=14)
            for when, colour, off in (("before", "C7", -0.15), ("after", "C1", 0.15)):
                values = found.get(f"signed {when}", [])
                label = f"{when} training" if way == WINDOW else None
                places = [n + off] * len(values)
                left.plot(values, places, "o", color=colour, alpha=0.6, label=label)
        left.set(yticks=range(len(every)), yticklabels=list(every), title=name)
        right.set(yticks=range(len(every)), yticklabels=[])
        for panel in (left, right):
            panel.set_ylim(len(every) - 0.5, -0.5)
        left.axvline(0, color="black", linewidth=0.5)
    panels[0][0].legend(fontsize="small", loc="upper right")
    panels[-1][0].set_xlabel("asymmetry: -1 only before, +1 only after the slice")
    panels[-1][1].set_xlabel("IoU over all truths")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Train, judge and print two tables for each ground."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("benchmarks/.paper"))
    shared = Path(__file__).parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=shared, help="holds chloroplast/")
    parser.add_argument("--grounds", nargs="+", choices=GROUNDS, default=list(GROUNDS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--reduced", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--picture", type=Path, help="also draw the figures into this file")
    given = parser.parse_args()
    ways, seeds = (REDUCED, SEEDS[:2]) if given.reduced else (given.ways, given.seeds)
    tables = []
    for name in given.grounds:
        make, fitting = GROUNDS[name]
        chosen = [way for way in WAYS if way in fitting and way in ways]
        tables.append(Table(make(given.work, given.data), chosen, seeds, given.steps))
    for trials in zip(*(t.by_seed for t in tables), strict=True):
        for trial in (t for each in trials for t in each):
            print(f"{trial.ground.name}, {trial.name}: {trial.result.iou_all.mean:.3f}", flush=True)
    found = [table.show() for table in tables]
    if given.json:
        given.json.write_text(json.dumps(dict(zip(given.grounds, found, strict=True)), indent=1))
    if given.picture:
        draw(found, given.grounds, given.picture)


if __name__ == "__main__":
    main()
