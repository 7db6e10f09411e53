"""How much a model gains from slices that each rule suggests to trace.

    python benchmarks/suggestions.py --kept FILE [--tuning] [--counts 1,3,7] [--rules ...]

Each pair is a sample reef of its own seed whose look changes through z, as that of a real stack
does: photographs of a few days (light, focus, colour), beds of other rock. The middle slice is
traced. Each rule chooses 1, 3 or 7 slices more, `reef-lite` is trained further on them and the
traced one, always with the same random choices, and judged on all slices that it did not learn: F
of pixels at the score threshold, and beside it also at the mask cut, that are best over them.
`--tuning` runs the pairs on which the default rule was chosen; the others only judge. Each
training is added to the file as it ends; what the file has is not trained again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from agenda import CLASS, SHIFTS, Rgb
from numpy.typing import NDArray

from napari_fossiledit.evaluation.numbers import bootstrap
from napari_fossiledit.evaluation.relation import THRESHOLDS
from napari_fossiledit.masks import Instance, Mask, cut_at
from napari_fossiledit.models.files.places import SHIPPED
from napari_fossiledit.models.inference.fast_kernels import fast
from napari_fossiledit.models.inference.features import PyramidFeatures
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.training.sampling import TrainingSlice
from napari_fossiledit.models.training.train import train
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.params.segment import Device, TrainParams
from napari_fossiledit.samples.reef import Reef
from napari_fossiledit.selection import agenda, distances
from napari_fossiledit.workflows.shared.model_refs import find_model

DEPTH, WIDTH = 30, 320
SHARES = (0.6, 0.25, 0.15)
"""Of the slices that have each of the three looks of a stack."""
OTHER_ROCK = "other rock"
KINDS = ("washed out", "blurred", "hue turned", "gamma", OTHER_ROCK)
LAYOUTS = ("beds", "scattered", "drift")
STEPS, CROP, RATE = 25, 160, 3e-4
FLOOR = 0.1
"""Score from which on predictions are looked at."""
CUTS = (0.4, 0.5, 0.6)
"""Mask cuts that are tried."""

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """A reef and how it looks.

    Attributes
    ----------
    layout
        beds: each look has one run of slices; scattered: many runs of 1 to 3; drift: one look that
        comes slowly from the first slice to the last.
    kind
        Of the look that a quarter of the slices has; the rarest look is of the next kind.
    """

    layout: str
    kind: str
    seed: int

    @property
    def name(self) -> str:
        """Which pair it is, in words."""
        return f"{self.layout}, {self.kind}, {self.seed}"

    @cached_property
    def looks(self) -> list[tuple[str, float]]:
        """Kind and amount of the look of each slice."""
        rng = np.random.default_rng(self.seed)
        if self.layout == "drift":
            return [(self.kind, z / (DEPTH - 1)) for z in range(DEPTH)]
        own = KINDS.index(self.kind)
        kinds = [KINDS[(own + n) % len(KINDS)] for n in (2, 0, 1)]
        amounts = (0.2, *rng.uniform(0.6, 1, 2))
        runs: list[list[int]] = []
        for look, share in enumerate(SHARES):
            left = round(share * DEPTH)
            while left:
                length = left if self.layout == "beds" else min(left, int(rng.integers(1, 4)))
                runs.append([look] * length)
                left -= length
        order = [look for run in rng.permutation(len(runs)) for look in runs[run]]
        # The commonest look is nearly none, and never other rock.
        kinds[0] = "gamma" if kinds[0] == OTHER_ROCK else kinds[0]
        return [(kinds[look], amounts[look]) for look in order[:DEPTH]]

    @cached_property
    def slices(self) -> list[tuple[Rgb, list[Instance]]]:
        """Pictures and archaeocyathids of all slices."""
        plain = Reef(ReefParams(seed=self.seed, slices=DEPTH, size=WIDTH))
        muddy = Reef(
            ReefParams(
                seed=self.seed + 5000,
                slices=DEPTH,
                size=WIDTH,
                mud_filled_share=0.9,
                mud_filled_contrast=0.3,
                clots_per_cm3=2.5,
            )
        )
        made = []
        for z, (kind, amount) in enumerate(self.looks):
            # Where rock drifts into another one, slices of both take turns more and more.
            other = kind == OTHER_ROCK and amount > np.random.default_rng((self.seed, z)).random()
            cut = (muddy if other else plain).slice(z)
            rgb = cut.rgb if kind == OTHER_ROCK else SHIFTS[kind](cut.rgb, amount)
            ids = np.unique(cut.specimens)[1:]
            made.append(
                (rgb, [Instance(z, CLASS, Mask.from_array(cut.specimens == i)) for i in ids])
            )
        return made


_ALL = [Pair(LAYOUTS[(n % 5 + n // 5) % 3], KINDS[n % 5], 401 + n) for n in range(16) if n != 5]
# The sixth was begun before the choice, and not ended: it is in neither.
TUNING = [Pair("beds", "washed out", 301), Pair("scattered", "blurred", 302), *_ALL[:5]]
JUDGING = _ALL[5:]


@dataclass(frozen=True)
class Traced:
    """Slices of a pair to learn from."""

    pair: Pair
    slices: tuple[int, ...]
    validation: tuple[int, ...] = ()
    pixel_size_um: float | None = ReefParams().pixel_size_um

    def read(self, z: int) -> TrainingSlice:
        """Read a slice with its instances."""
        return TrainingSlice(*self.pair.slices[z])


def further(pair: Pair, slices: Sequence[int]) -> Segmenter:
    """Train `reef-lite` further; what is drawn at random is the same for the same number."""
    params = TrainParams(
        init=str(SHIPPED / "reef-lite"),
        classes=(CLASS,),
        scale=0.6,
        crop=CROP,
        batch=1,
        max_steps=STEPS,
        max_minutes=1e5,
        learning_rate=RATE,
        hold_back=10**6,
        device=Device.CPU,
    )
    with tempfile.TemporaryDirectory() as folder:
        return fast(train(Traced(pair, tuple(slices)), params, folder=Path(folder)).segmenter)


def counted(model: Segmenter, rgb: Rgb, truths: Sequence[Instance]) -> Counts:
    """Count pixels predicted, true and both at each mask cut and score: (cuts, thresholds, 3)."""
    true = np.zeros(rgb.shape[:2], dtype=bool)
    for truth in truths:
        true |= truth.mask.to_array()
    found = model.predict(
        rgb, pixel_size_um=ReefParams().pixel_size_um, score_floor=FLOOR, max_detections=40
    )
    table = []
    for cut in CUTS:
        score = np.zeros(rgb.shape[:2])
        for instance in cut_at(found, cut, "the model"):
            y0, x0, y1, x1 = instance.mask.box
            part = score[y0:y1, x0:x1]
            np.maximum(part, instance.mask.crop() * instance.score, out=part)
        of = [score >= t for t in THRESHOLDS if t >= FLOOR]
        table.append([[p.sum(), true.sum(), (p & true).sum()] for p in of])
    return np.array(table)


def best_f(counts: Counts, cuts: Sequence[int]) -> float:
    """Return F over slices at the threshold, and the one of the cuts, that are best over them."""
    predicted, true, shared = np.moveaxis(counts[:, list(cuts)].sum(axis=0), -1, 0)
    return float((2 * shared / np.maximum(predicted + true, 1)).max())


class Chooser:
    """Chooses slices of a pair by each rule; the model before is looked with once."""

    def __init__(self, pair: Pair, model: Segmenter) -> None:
        self.pair, self.known = pair, [DEPTH // 2]
        self.slices = [z for z in range(DEPTH) if z not in self.known]
        eye, pixel = PyramidFeatures(model), ReefParams().pixel_size_um
        self.features = np.stack([eye.features(p, pixel_size_um=pixel) for p, _ in pair.slices])
        self.before = np.stack([counted(model, *s) for s in pair.slices])

    def choose(self, rule: str, count: int) -> list[int]:
        """Return the slices that a rule suggests."""
        rng = np.random.default_rng((self.pair.seed, 0))
        found = distances(self.features[self.known], self.features[self.slices])
        there = (found.primary, self.known)
        typical = partial(agenda.typical, self.slices, found.secondary, count, DEPTH, *there)
        rules: dict[str, Callable[[], list[agenda.Pick]]] = {
            "distance": lambda: agenda.by_distance(self.slices, found.scaled, count, rng),
            "farthest": lambda: agenda.farthest_first(
                self.slices,
                found.scaled,
                found.secondary,
                found.primary,
                count,
                known_slices=self.known,
                depth=DEPTH,
            ),
            "middles": typical,
            "typical": lambda: typical(self._areas()),
            "even": lambda: agenda.evenly_spaced(self.slices, count, DEPTH, self.known),
            "foreground": lambda: agenda.by_chance(self.slices, count, rng, self._areas()),
            "random": lambda: agenda.by_chance(self.slices, count, rng),
        }
        return [p.slice for p in rules[rule]()]

    def _areas(self) -> NDArray[np.float64]:
        # Scores summed over steps of the threshold: a pixel counts by its score.
        return self.before[self.slices, CUTS.index(0.5), :, 0].sum(axis=-1).astype(np.float64)


def run(pair: Pair, learned: Sequence[int]) -> dict[str, Any]:
    """Train on slices and judge all others."""
    model = further(pair, learned)
    rest = [z for z in range(DEPTH) if z not in learned]
    return {"counts": {z: counted(model, *pair.slices[z]).tolist() for z in rest}}


def planned(kept: Path) -> tuple[dict[Any, Any], list[dict[str, Any]]]:
    """Read trainings by pair and slices, and what each rule chose."""
    lines = kept.read_text().splitlines() if kept.exists() else []
    read = [json.loads(line) for line in lines]
    runs = {(d["pair"], tuple(d["learned"])): d["counts"] for d in read if "counts" in d}
    plans = {json.dumps(d): d for d in read if "rule" in d}
    return runs, [*plans.values()]


def report(kept: Path, pairs: Sequence[Pair]) -> None:
    """Print mean F of each rule, and by how much it is above that of even spacing and of chance.

    The figures: F over the slices that the model did not learn; the same at the best mask cut, too;
    F over the slices that no rule has chosen, which are the same for all rules.
    """
    runs, plans = planned(kept)
    names = {pair.name for pair in pairs}
    chosen: dict[tuple[int, str], set[str]] = {}
    for plan in plans:
        chosen.setdefault((plan["count"], plan["pair"]), set()).update(map(str, plan["learned"]))
    found: dict[tuple[int, str], dict[str, tuple[float, ...]]] = {}
    for plan in plans:
        count, rule, pair, learned = (plan[k] for k in ("count", "rule", "pair", "learned"))
        table = runs.get((pair, tuple(learned)))
        if table is None or pair not in names:
            continue
        rest = np.array([*table.values()])
        left = np.array([c for z, c in table.items() if z not in chosen[count, pair]])
        usual, cuts = [CUTS.index(0.5)], range(len(CUTS))
        figures = (best_f(rest, usual), best_f(rest, cuts), best_f(left, usual))
        found.setdefault((count, rule), {})[pair] = figures
    for (count, rule), of in sorted(found.items()):
        cells = [f"{count}", rule, f"{len(of)}"]
        cells += [f"{f:.3f}" for f in np.mean([*of.values()], axis=0)]
        for rival in ("even", "random"):
            other = found.get((count, rival), {})
            gains = np.array([np.subtract(of[p], other[p]) for p in of if p in other])
            for k in range(3 if rule != rival and len(gains) > 1 else 0):
                low, high = bootstrap(gains[:, k].tolist(), seed=0) or (np.nan, np.nan)
                cells.append(f"{gains[:, k].mean():+.3f} ({low:+.3f} to {high:+.3f})")
        print("|", " | ".join(cells), "|")


def main() -> None:
    """Train what is missing and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--tuning", action="store_true")
    parser.add_argument("--counts", default="3,7,1")
    parser.add_argument("--rules", default="typical,even,random,foreground")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    base = find_model(None, "reef-lite").load(Device.CPU)
    pairs = TUNING if chosen.tuning else JUDGING
    done = set(planned(chosen.kept)[0])
    with chosen.kept.open("a") as stream:

        def keep(rule: str, count: int, found: Callable[[], dict[str, Any]], about: Any) -> None:
            if (about["pair"], tuple(about["learned"])) not in done:
                stream.write(json.dumps({**about, **found()}) + "\n")
                done.add((about["pair"], tuple(about["learned"])))
            stream.write(json.dumps({**about, "rule": rule, "count": count}) + "\n")
            stream.flush()
            print(rule, count, about, flush=True)

        for count in map(int, chosen.counts.split(",") if chosen.counts else ()):
            for pair in pairs:
                chooser = Chooser(pair, base)
                before = partial(dict, counts=dict(enumerate(chooser.before.tolist())))
                keep("none", 0, before, {"pair": pair.name, "learned": []})
                for rule in chosen.rules.split(","):
                    learned = sorted([*chooser.known, *chooser.choose(rule, count)])
                    about = {"pair": pair.name, "learned": learned}
                    keep(rule, count, partial(run, pair, learned), about)
    report(chosen.kept, pairs)


if __name__ == "__main__":
    main()
