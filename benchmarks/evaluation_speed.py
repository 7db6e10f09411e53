"""How long a slice of real size takes to judge, against a plain loop over whole images.

python benchmarks/evaluation_speed.py
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.evaluation import evaluate, judge
from napari_fossiledit.masks import Instance, Mask

SHAPE = (3173, 4809)
TRUTHS, PREDICTIONS = 74, 100
CLASS = "archaeocyathid"


def ring(rng: np.random.Generator, centre: NDArray[np.float64], radius: float) -> Mask:
    """Draw a wavy disc with a hole in the matrix, as a fossil's outline is."""
    size = int(2.6 * radius)
    y, x = np.mgrid[:size, :size] - size / 2
    wave = 1 + 0.1 * np.sin(rng.integers(3, 9) * np.arctan2(y, x) + rng.uniform(0, 6))
    distance = np.hypot(y, x) / wave
    crop = (distance < radius) & ~((distance > 0.5 * radius) & (distance < 0.55 * radius))
    y0, x0 = (centre - size / 2).astype(int).tolist()
    return Mask.from_crop(crop, (y0, x0), SHAPE)


def scene() -> tuple[list[Instance], list[Instance]]:
    """Make truths, and predictions beside them."""
    rng = np.random.default_rng(0)
    centres = rng.uniform((100, 100), (SHAPE[0] - 100, SHAPE[1] - 100), size=(TRUTHS, 2))
    radii = rng.uniform(40, 200, size=TRUTHS)
    truths = [Instance(0, CLASS, ring(rng, c, r)) for c, r in zip(centres, radii, strict=True)]
    chosen = rng.integers(TRUTHS, size=PREDICTIONS)
    predictions = [
        Instance(0, CLASS, ring(rng, centres[n] + rng.normal(0, 15, 2), radii[n]), score=s)
        for n, s in zip(chosen, rng.random(PREDICTIONS).tolist(), strict=True)
    ]
    return truths, predictions


def plain(truths: list[Instance], predictions: list[Instance]) -> float:
    """Seconds that comparing whole boolean images takes."""
    found = [t.mask.to_array() for t in truths]
    start = time.perf_counter()
    for prediction in predictions:
        p = prediction.mask.to_array()
        for g in found:
            _ = np.count_nonzero(p & g) / np.count_nonzero(p | g)
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    truths, predictions = scene()
    start = time.perf_counter()
    judged = judge(0, SHAPE, truths, predictions, class_name=CLASS)
    figures = evaluate([judged]).summary()
    whole = time.perf_counter() - start
    loop = plain(truths, predictions)
    print(f"{PREDICTIONS} predictions x {TRUTHS} truths at {SHAPE[1]} x {SHAPE[0]}")
    print("| way | seconds | ratio |\n|---|---|---|")
    print(f"| all figures, on run lengths | {whole:.2f} | 1 |")
    print(f"| IoU alone, plain loop over images | {loop:.1f} | {loop / whole:.0f} |")
    print(f"protocol: {figures['protocol']}")


if __name__ == "__main__":
    main()
