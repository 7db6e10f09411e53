"""How distances in feature space go with the quality of a model, on slices changed on purpose.

    python benchmarks/agenda.py --distances [--seeds 61,62,...] [--each 15] [--json FILE]

P are the six slices of the sample reef that the shipped `reef-lite` learned from. S are slices of
reefs of other seeds, each changed by a random amount of one of five kinds: washed out, blurred, hue
turned, noise, gamma. For each S: its distance from P and the F-score of its pixels. Photographs
that show no rock (scikit-image's own) are set beside slices of unchanged and changed reefs.
The last figures are the time and memory of distances of 3 000 slices whose features are at hand.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from skimage.color import gray2rgb

from napari_fossiledit.evaluation import JudgedSlice, judge
from napari_fossiledit.evaluation.relation import PixelCounts, relation
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.models.inference.features import Extractor, ImageNetFeatures, PyramidFeatures
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.params.segment import Device
from napari_fossiledit.perturb.fills import Blur, Hue
from napari_fossiledit.samples.reef import Reef
from napari_fossiledit.selection.distances import distances, shares
from napari_fossiledit.workflows.shared.model_refs import find_model

CLASS = "archaeocyathid"
LEARNED, LEARNED_SEED = (4, 14, 24, 34, 44, 54), 1
REEF = {"slices": 64, "size": 640}
PHOTOGRAPHS = ("astronaut", "camera", "cat", "coffee", "coins", "moon", "page", "rocket", "text")
"""Those that come in scikit-image's package."""

Rgb = np.ndarray[Any, np.dtype[np.uint8]]


def _whole(fill: Blur | Hue, rgb: Rgb) -> Rgb:
    changed = rgb.copy()
    fill.paint(changed, np.ones(rgb.shape[:2], dtype=bool), None, np.random.default_rng(0))
    return changed


def _rounded(values: np.ndarray[Any, Any]) -> Rgb:
    return np.rint(values.clip(0, 255)).astype(np.uint8)


def _noisy(rgb: Rgb, amount: float) -> Rgb:
    noise = np.random.default_rng(0).normal(0, 60 * amount, rgb.shape)
    return _rounded(rgb + noise)


SHIFTS: dict[str, Callable[[Rgb, float], Rgb]] = {
    "washed out": lambda rgb, a: _rounded(rgb + 0.85 * a * (200.0 - rgb)),
    "blurred": lambda rgb, a: _whole(Blur(max(5 * a, 0.05)), rgb),
    "hue turned": lambda rgb, a: _whole(Hue(150 * a), rgb),
    "noise": _noisy,
    "gamma": lambda rgb, a: _rounded(255 * (rgb / 255.0) ** (4**a)),
}
"""Changes of a slice by an amount of 0 (none) to 1."""


def slices_of(seed: int, chosen: Sequence[int]) -> list[tuple[Rgb, list[Instance]]]:
    """Make slices of a reef with their archaeocyathids."""
    reef, made = Reef(ReefParams(seed=seed, **REEF)), []
    for z in chosen:
        cut = reef.slice(z)
        ids = np.unique(cut.specimens)[1:]
        truths = [Instance(z, CLASS, Mask.from_array(cut.specimens == i)) for i in ids]
        made.append((cut.rgb, truths))
    return made


def judged(model: Segmenter, number: int, rgb: Rgb, truths: list[Instance]) -> JudgedSlice:
    """Predict one picture."""
    found = model.predict(rgb, slice_index=number, pixel_size_um=ReefParams().pixel_size_um)
    return judge(number, rgb.shape[:2], truths, found, class_name=CLASS)


def looked(eye: Extractor, pictures: Sequence[Rgb]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the features of pictures, one a row."""
    return np.stack([eye.features(p, pixel_size_um=ReefParams().pixel_size_um) for p in pictures])


def shifted(seeds: Sequence[int], each: int) -> list[tuple[str, float, Rgb, list[Instance]]]:
    """Make slices of reefs, each changed by a random amount of a kind, the kinds in turn."""
    rng, made = np.random.default_rng(0), []
    for seed in seeds:
        chosen = np.linspace(2, REEF["slices"] - 3, each).round().astype(int).tolist()
        for rgb, truths in slices_of(seed, chosen):
            kind = [*SHIFTS][len(made) % len(SHIFTS)]
            amount = float(rng.uniform())
            made.append((kind, amount, SHIFTS[kind](rgb, amount), truths))
    return made


def relations(
    model: Segmenter, eyes: dict[str, Extractor], seeds: Sequence[int], each: int
) -> dict[str, Any]:
    """Relate distance and quality over all kinds of change, and for each kind."""
    known = [rgb for rgb, _ in slices_of(LEARNED_SEED, LEARNED)]
    made = shifted(seeds, each)
    counts, amounts = PixelCounts(), np.array([m[1] for m in made])
    for number, (_, _, rgb, truths) in enumerate(made):
        counts.add(judged(model, number, rgb, truths))
    quality = counts.quality()
    order, scores = np.array(quality.slices), np.array(quality.f_scores)
    kinds = np.array([m[0] for m in made])
    figures: dict[str, Any] = {"slices": len(scores), "f_score": quality.overall}
    print(f"{len(scores)} slices, F over all {quality.overall:.3f} at score {quality.threshold}")
    for name, eye in eyes.items():
        found = distances(looked(eye, known), looked(eye, [m[2] for m in made]))
        for kind in ("all", *SHIFTS):
            of_kind = np.ones(len(order), bool) if kind == "all" else kinds[order] == kind
            told = relation(found.scaled[order[of_kind]], scores[of_kind])
            by_amount = relation(amounts[order[of_kind]], scores[of_kind])
            figures[f"{name}, {kind}"] = told.summary()
            near, far = (p.f_score for p in told.parts[:2])
            low, high = told.spearman.interval
            print(
                f"| {name} | {kind} | {told.slices} | {told.spearman.mean:+.2f} ({low:+.2f} to "
                f"{high:+.2f}) | {by_amount.spearman.mean:+.2f} | {near:.2f} | {far:.2f} |"
            )
    return figures


def strangers(eyes: dict[str, Extractor], seeds: Sequence[int]) -> dict[str, Any]:
    """Compare O_dist of reef slices, changed reef slices and photographs of other things."""
    known = [rgb for rgb, _ in slices_of(LEARNED_SEED, LEARNED)]
    clean = [rgb for seed in seeds[:2] for rgb, _ in slices_of(seed, (10, 25, 40, 55))]
    photographs = [np.asarray(getattr(skimage.data, name)()) for name in PHOTOGRAPHS]
    photographs = [gray2rgb(p) if p.ndim == 2 else p for p in photographs]
    sets = {"other reefs": clean}
    sets |= {kind: [shift(rgb, 1.0) for rgb in clean] for kind, shift in SHIFTS.items()}
    sets["no rock"] = photographs
    print("| O_dist, share of the row |", " | ".join(sets), "|")
    figures = {}
    for name, eye in eyes.items():
        primary = looked(eye, known)
        row = shares([distances(primary, looked(eye, s)).overall for s in sets.values()])
        figures[name] = dict(zip(sets, row, strict=True))
        print(f"| {name} |", " | ".join(f"{share:.3f}" for share in row), "|")
    return figures


def cost(count: int = 3000, known: int = 10, width: int = 512) -> dict[str, float]:
    """Measure distances of many slices whose features are at hand."""
    rng = np.random.default_rng(0)
    primary, secondary = (rng.normal(size=(n, width)).astype("f4") for n in (known, count))
    start = time.perf_counter()
    distances(primary, secondary)
    seconds = time.perf_counter() - start
    tracemalloc.start()
    distances(primary, secondary)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    print(f"{count} slices of {width} features: {seconds:.2f} s, {peak:.0f} MB of arrays at most")
    return {"seconds": seconds, "megabytes": peak}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--distances", action="store_true", required=True)
    parser.add_argument("--seeds", default="61,62,63,64,65,66")
    parser.add_argument("--each", type=int, default=15)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in chosen.seeds.split(",")]
    model = find_model(None, "reef-lite").load(Device.CPU)
    eyes: dict[str, Extractor] = {
        "reef-lite": PyramidFeatures(model),
        "ImageNet": ImageNetFeatures(),
    }
    figures = {
        "cost": cost(),
        "strangers": strangers(eyes, seeds),
        "relation": relations(model, eyes, seeds, chosen.each),
    }
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
