"""How often intervals of volumes hold the truth: the sample reef, true masks, volumes by formula.

    python benchmarks/volumes.py SEED ... [--tune]

Every slice, every second and every fourth are measured, beginning with each slice in turn; besides,
slices chosen at random, about every second, so that steps are uneven. A specimen that the first or
the last slice cuts is held against its volume within the stack. With ``--tune`` intervals of other
smoothness and other rules for few sections are compared: on seeds that are not reported.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.reef import volume_error
from napari_fossiledit.samples.planting import plant
from napari_fossiledit.samples.scene import Cup, ReefScene
from napari_fossiledit.samples.volumes import volumes

#: Depths at which areas are taken beyond the stack and at its sides, as shares of a step.
_FINE = 0.25
_SIDE = 2.0


@dataclass(frozen=True)
class Truth:
    """A specimen: pixels in each slice, its volume in the stack, and what lies at the sides.

    Volumes are in pixels times slice steps.
    """

    areas: NDArray[np.int64]
    volume: float
    depths: NDArray[np.float64]
    at_sides: NDArray[np.int64]

    def within(self, low: float, high: float, count: int) -> float:
        """Volume between two depths in steps, near the sides of a stack of `count` slices."""

        def part(a: float, b: float) -> float:
            return float(self.at_sides[(self.depths > a) & (self.depths < b)].sum()) * _FINE

        return self.volume + part(low, 0) - part(0, low) + part(count, high) - part(high, count)


def truths(seed: int) -> tuple[list[Truth], ReefParams]:
    """All archaeocyathids of a sample reef of the default size."""
    params = ReefParams(seed=seed)
    scene = plant(params)
    voxel = params.pixel_size_um**2 * params.slice_spacing_um
    known = {v.specimen: v.volume_um3 or 0.0 for v in volumes(scene)}
    slices = np.arange(params.slices) + 0.5
    side = np.arange(-_SIDE, _SIDE, _FINE) + _FINE / 2
    fine = np.concatenate([side, params.slices + side])
    found = []
    for cup in scene.cups:
        areas = np.array([pixels(cup, scene, params, z) for z in slices])
        beside = np.array([pixels(cup, scene, params, z) for z in fine])
        found.append(Truth(areas, known[cup.id] / voxel, fine, beside))
    return [truth for truth in found if truth.areas.any()], params


def pixels(cup: Cup, scene: ReefScene, params: ReefParams, depth: float) -> int:
    """Pixels of a specimen at a depth in slice steps."""
    z, pixel = depth * params.slice_spacing_um, params.pixel_size_um
    bodies = [body for body in cup.bodies if body.spans(z)]
    if not bodies:
        return 0
    rim = np.concatenate([body.outline(z, 96) for body in bodies]) / pixel
    low = np.maximum(np.floor(rim.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(rim.max(axis=0)).astype(int) + 2, params.shape_zyx[:0:-1])
    if (high <= low).any():
        return 0
    x = (np.arange(low[0], high[0])[None] + 0.5) * pixel
    y = (np.arange(low[1], high[1])[:, None] + 0.5) * pixel
    inside = np.any([body.share(x, y, z) < 1 for body in bodies], axis=0)
    return int((inside & (scene.rock.share(x, y, z) < 1)).sum()) if inside.any() else 0


@dataclass(frozen=True)
class Case:
    """One specimen as one choice of slices shows it: areas, thickness of each, cut sides, truth."""

    areas: NDArray[np.int64]
    steps: NDArray[np.float64]
    cut: tuple[bool, bool]
    truth: float

    @property
    def error(self) -> float:
        """Error of the volume, as a share of the truth."""
        return float(self.areas @ self.steps) / self.truth - 1

    def interval(self) -> tuple[float, float]:
        """Return the interval, in pixels times slice steps; all of them where there is none."""
        found = volume_error.volume_interval_um3(self.areas.tolist(), self.steps, 1.0, self.cut)
        return found or (0.0, np.inf)


def case(truth: Truth, slices: NDArray[np.int64], count: int) -> Case | None:
    """Return what a choice of slices shows of a specimen; None where that is nothing."""
    areas = truth.areas[slices]
    there = np.flatnonzero(areas)
    if not len(there):
        return None
    middles = slices + 0.5
    between = (middles[1:] + middles[:-1]) / 2
    low, high = 1.5 * middles[0] - middles[1] / 2, 1.5 * middles[-1] - middles[-2] / 2
    steps = np.diff(np.concatenate([[low], between, [high]]))
    part = slice(there[0], there[-1] + 1)
    cut = (bool(there[0] == 0), bool(there[-1] == len(slices) - 1))
    inside = truth.within(float(low), float(high), count)
    return Case(areas[part], steps[part], cut, inside) if inside > 0 else None


def cases(found: list[list[Truth]], count: int) -> Iterator[tuple[str, list[Case]]]:
    """Yield the cases of each spacing."""
    for step in (1, 2, 4):
        choices = [np.arange(start, count, step) for start in range(step)]
        seen = [case(t, c, count) for reef in found for t in reef for c in choices]
        yield f"x{step}", [c for c in seen if c]
    rng = np.random.default_rng(0)
    # No two more than four steps apart, for `_SIDE`.
    uneven = [np.cumsum(rng.choice([1, 2, 3], p=[0.4, 0.3, 0.3], size=count)) - 1 for _ in range(4)]
    choices = [c[c < count] for c in uneven]
    seen = [case(t, c, count) for reef in found for t in reef for c in choices]
    yield "uneven", [c for c in seen if c]


def table(found: list[list[Truth]], count: int) -> Iterator[str]:
    """Rows of the table."""
    for name, seen in cases(found, count):
        limits = np.array([c.interval() for c in seen])
        truth = np.array([c.truth for c in seen])
        held = (limits[:, 0] <= truth) & (truth <= limits[:, 1])
        errors = np.abs([c.error for c in seen])
        widths = (limits[:, 1] - limits[:, 0]) / 2 / truth
        numbers = np.array([len(c.areas) for c in seen])
        few = held[numbers <= 3]
        cut = np.array([any(c.cut) for c in seen])
        yield (
            f"| {name} | {len(seen)} | {np.median(numbers):.0f} | {held.mean():.1%} "
            f"| {held[~cut].mean():.1%} | {held[cut].mean():.1%} "
            f"| {f'{few.mean():.1%} of {few.size}' if few.size else '-'} "
            f"| +-{np.median(widths):.1%} | {errors.mean():.2%} | {np.quantile(errors, 0.95):.2%} |"
        )


def main() -> None:
    """Print the tables."""
    seeds = [int(word) for word in sys.argv[1:] if word.isdigit()]
    started = time.perf_counter()
    made = [truths(seed) for seed in seeds]
    found, count = [reef for reef, _ in made], made[0][1].slices
    print(f"Seeds {seeds}, {sum(map(len, found))} specimens, {time.perf_counter() - started:.0f} s")
    head = "spacing | cases | sections | held | complete | cut | of 1 to 3 sections | half width"
    rules = [(1 / 240, 8)]
    if "--tune" in sys.argv:
        rules = [(a, few) for a in (1 / 240, 1 / 120, 1 / 12) for few in (0, 7, 8, 9, 99)]
    for volume_error.ALPHA, volume_error.FEW in rules:
        print(f"\n| {head} | mean error | 95 % of errors below |\n|{'---|' * 10}")
        print(f"alpha 1/{1 / volume_error.ALPHA:.0f}, few below {volume_error.FEW}")
        print("\n".join(table(found, count)), flush=True)


if __name__ == "__main__":
    main()
