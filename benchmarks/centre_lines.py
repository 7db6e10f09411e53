"""How far branch points, angles and radii of a Y are from the truth.

    python benchmarks/centre_lines.py

A stem and two branches of a radius of 12 pixels, in slices 1, 3 and 7 pixels apart, leaning as a
whole by up to 40 degrees; the branches are 40 or 60 degrees apart, or one of them goes on as the
stem and the other leaves it by 45 degrees, thinner. Leans are given of that branch which leans most
from the normal of the slices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.masks import Mask
from napari_fossiledit.reef import Section
from napari_fossiledit.reef.centre_lines import CentreLines, centre_lines

FloatArray = NDArray[np.float64]
RADIUS, LENGTH = 12.0, 110.0
SHAPES = {"40 apart": (-20, 20, 1.0), "60 apart": (-30, 30, 1.0), "side branch": (0, 45, 0.7)}


LEANS = ((0, 0), (20, 0), (20, 30), (40, 90), (35, 20))


def tubes(
    ends: Sequence[tuple[FloatArray, FloatArray, float]], step: float
) -> tuple[list[Section], FloatArray]:
    """Sections of round-ended tubes (start, end, radius) in pixels, and where their origin lies."""
    corners = np.array([p for start, end, _ in ends for p in (start, end)])
    most = max(r for *_, r in ends) + 3
    low = corners.min(axis=0) - most + np.array([0.31, 0.17, -0.23])
    size = np.ceil((corners.max(axis=0) + most - low) / (step, 1, 1)).astype(int) + 1
    axes = [low[n] + np.arange(size[n]) * (step, 1, 1)[n] for n in range(3)]
    y, x = np.meshgrid(axes[1], axes[2], indexing="ij")
    found = []
    for n, z in enumerate(axes[0]):
        place = np.stack([np.full_like(y, z), y, x], axis=-1)
        inside = np.zeros(y.shape, dtype=np.bool_)
        for start, end, radius in ends:
            way = end - start
            along = np.clip((place - start) @ way / (way @ way), 0, 1)
            inside |= np.linalg.norm(place - start - along[..., None] * way, axis=-1) <= radius
        if inside.any():
            found.append(Section(n, Mask.from_array(inside)))
    return found, -low


def turned(lean: float, around: float) -> FloatArray:
    """Rotation of (z, y, x): about the axis of the slices, then towards x."""
    a, b = math.radians(around), math.radians(lean)
    about = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    over = np.array([[math.cos(b), 0, -math.sin(b)], [0, 1, 0], [math.sin(b), 0, math.cos(b)]])
    return np.asarray(over @ about)


def y_shape(
    shape: str, step: float, lean: float, around: float
) -> tuple[CentreLines, FloatArray, float]:
    """Centre lines of a Y, where its branches truly meet, and the lean of the flatter one."""
    one, other, thinner = SHAPES[shape]
    turn = turned(lean, around)
    middle = np.zeros(3)
    ways = [turn @ (math.cos(math.radians(d)), 0, math.sin(math.radians(d))) for d in (one, other)]
    ends = [(turn @ (-LENGTH, 0, 0), middle, RADIUS), (middle, ways[0] * LENGTH, RADIUS)]
    sections, origin = tubes([*ends, (middle, ways[1] * LENGTH, RADIUS * thinner)], step)
    flattest = math.degrees(math.acos(min(abs(way[0]) for way in ways)))
    return centre_lines(sections, StackGeometry(1.0, step)), origin, flattest


def main() -> None:
    """Print a row for each shape, spacing and lean."""
    print("| shape | step | lean | branch points | off by | steps | angle off by | radius off by |")
    print("|---|---|---|---|---|---|---|---|")
    worst = {60: np.zeros(3), 70: np.zeros(3), 90: np.zeros(3)}
    for shape in SHAPES:
        for step in (1.0, 3.0, 7.0):
            for lean, around in LEANS:
                lines, meeting, flattest = y_shape(shape, step, lean, around)
                angle = SHAPES[shape][1] - SHAPES[shape][0]
                count = len(lines.branch_points)
                off = wrong = bad = math.nan
                if count == 1:
                    point = lines.branch_points[0]
                    off = float(np.linalg.norm(point.point - meeting))
                    wrong = point.angles_deg[0] - angle
                    stem, arms = point.stem or 0, list(point.branches)
                    truth = [RADIUS, RADIUS, RADIUS * SHAPES[shape][2]]
                    # Which arm is which: the thinner one comes last.
                    arms.sort(key=lambda n: -lines.branches[n].radius_um)
                    found = [lines.branches[n].radius_um for n in (stem, *arms)]
                    bad = max((f / t - 1 for f, t in zip(found, truth, strict=True)), key=abs)
                    limit = next(k for k in worst if flattest <= k + 1e-6)
                    worst[limit] = np.maximum(worst[limit], np.abs([off / step, wrong, bad]))
                print(
                    f"| {shape} | {step:.0f} : 1 | {flattest:.0f} | {count} | {off:.1f} px "
                    f"| {off / step:.2f} | {wrong:+.1f} deg | {bad:+.1%} |"
                )
    for limit, (steps, degrees, share) in worst.items():
        print(f"Worst up to {limit}: {steps:.2f} steps, {degrees:.1f} degrees, {share:.1%}")


if __name__ == "__main__":
    main()
