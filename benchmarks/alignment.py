"""How well slices are laid over each other, and what that does to fossils that lean.

    python benchmarks/alignment.py jitter [--seeds 11,12,13,14,15,16]
    python benchmarks/alignment.py jumps [--seeds ...]
    python benchmarks/alignment.py lean [--seeds ...]
    python benchmarks/alignment.py peer [--seeds ...]
    python benchmarks/alignment.py real FOLDER_OF_CHLOROPLASTS
    python benchmarks/alignment.py cost

Sample reefs of 640 x 480 pixels, 500 um apart at 72.7 um a pixel; settings were chosen on seeds
0, 1, 2 and 5. Distances are means over a grid of 81 points of a slice, in pixels.

- `jitter`: 31 slices, each shifted by 2 px and turned by 1 degree (standard deviations). Error of
  the motion between neighbours, and how far slices lie from each other after `neighbours` and one
  rigid motion for all; the same were the motions exact, and were the slices put down right.
- `jumps`: the camera is moved before slices 9 and 20 for good, and slice 14 alone; else 0.3 px and
  0.03 degrees of play.
- `lean`: 64 slices that were put down exactly, of a reef in which everything leans by 15 degrees to
  one side. Drift: how far slices were moved; lean: mean over the specimens of 8 slices and more of
  how far their axis stands from the vertical, before and after.
- `peer`: the same pairs by SimpleITK (`pip install SimpleITK`): a turn and a shift from the middle
  of the slices on, grey, at an eighth to the whole of their size, one thread.
- `real`: serial EM sections, moved before section 4 and 7.
- `cost`: a pair of slices of 4752 x 3168 pixels in colour.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
from scipy.ndimage import center_of_mass

from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.placement import Alignment, Placement, from_points, placed
from napari_fossiledit.samples.reef import Reef
from napari_fossiledit.stacks import open_stack
from napari_fossiledit.stacks.registration import (
    Reduced,
    find_jumps,
    follow_neighbours,
    register,
)

WIDE, SHAPE = 640, (480, 640)
JUMPS = {9: Placement(7.3, -4.6, 0.8), 20: Placement(-3.2, 2.1, -0.3)}
ALONE = {14: Placement(-9.0, 6.5, 0.0)}
_LEAN, _LONG = 15.0, 8
_PX_A_SLICE = math.tan(math.radians(_LEAN)) * 500 / 72.7


def grid(shape: tuple[int, int]) -> np.ndarray:
    """Return 81 points (y, x) of a slice."""
    y, x = (np.linspace(0, n - 1, 9) for n in shape)
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


def apart(a: Placement, b: Placement, shape: tuple[int, int]) -> float:
    """Return the mean distance of points that two motions move."""
    points = grid(shape)
    return float(np.linalg.norm(a.points(points, shape) - b.points(points, shape), axis=1).mean())


def motions_of(slices: Sequence[Reduced]) -> dict[int, Placement | None]:
    """Return what lays each slice over the one before."""
    return {z: register(slices[z - 1], slices[z]) for z in range(1, len(slices))}


def jittered(seed: int) -> tuple[list[np.ndarray], list[Placement]]:
    """Return slices each of which was put down anew, and what each was moved by."""
    reef = Reef(ReefParams(slices=31, size=WIDE, seed=seed, misalignment_px=2, misalignment_deg=1))
    true = [Placement(s.dy, s.dx, s.angle_deg) for s in map(reef.shift, range(31))]
    return [reef.slice(z).rgb for z in range(31)], true


def after_one_motion(
    alignment: Alignment, true: Sequence[Placement], shape: tuple[int, int]
) -> np.ndarray:
    """Return how far each slice lies from where it should, after one rigid motion for all.

    `true` is what each was moved by before it was photographed.
    """
    points, count = grid(shape), len(true)
    there = [alignment.at(z).after(true[z]).points(points, shape) for z in range(count)]
    common = from_points(np.concatenate([points] * count), np.concatenate(there), shape)
    back = [common.inverse.points(places, shape) - points for places in there]
    return np.array([np.linalg.norm(away, axis=1).mean() for away in back])


def between(slices: Sequence[Reduced], low: int, high: int) -> Placement | None:
    """Return what lays one slice over another."""
    return register(slices[low], slices[high])


def jitter(seeds: Sequence[int]) -> None:
    """Print errors of neighbours and of whole stacks whose slices were put down anew each time."""
    print("seed  pair median, p95  not found  stack mean, max  by exact motions  slices lay right")
    pairs, everywhere = [], []
    for seed in seeds:
        pictures, true = jittered(seed)
        motions = motions_of([Reduced.of(picture) for picture in pictures])
        exact = {z: true[z - 1].after(true[z].inverse) for z in motions}
        errors = [apart(m, exact[z], SHAPE) for z, m in motions.items() if m is not None]
        still = {z: m and m.after(exact[z].inverse) for z, m in motions.items()}
        away = [
            followed(motions, true), followed(exact, true), followed(still, [Placement()] * 31)
        ]  # fmt: skip
        pairs += errors
        everywhere.append(away)
        columns = (f"{a.mean():10.2f}  {a.max():4.2f}" for a in away)
        print(f"{seed:4}  {np.median(errors):11.2f}  {np.percentile(errors, 95):3.2f}  "
              f"{len(motions) - len(errors):9}", *columns, flush=True)  # fmt: skip
    columns = (f"{a.mean():10.2f}  {a.max():4.2f}" for a in np.swapaxes(everywhere, 0, 1))
    print(f" all  {np.median(pairs):11.2f}  {np.percentile(pairs, 95):3.2f}           ", *columns)


def followed(motions: Mapping[int, Placement | None], true: Sequence[Placement]) -> np.ndarray:
    """Return how far each slice lies from where it should after `neighbours`."""
    found = find_jumps(motions, lambda low, high: None, SHAPE)
    return after_one_motion(follow_neighbours(motions, found, SHAPE).alignment, true, SHAPE)


def peer(seeds: Sequence[int]) -> None:
    """Print errors and seconds of neighbours by this program and by SimpleITK."""
    try:
        import SimpleITK
    except ImportError:
        print("SimpleITK is not installed: nothing is compared.")
        return
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    ways: dict[str, Callable[[np.ndarray, np.ndarray], Placement | None]] = {
        "here": lambda fixed, moving: register(Reduced.of(fixed), Reduced.of(moving)),
        "SimpleITK, correlation": partial(by_simpleitk, SimpleITK, "correlation"),
        "SimpleITK, Mattes": partial(by_simpleitk, SimpleITK, "mattes"),
    }
    errors, seconds = defaultdict(list), defaultdict(list)
    for seed in seeds:
        pictures, true = jittered(seed)
        for z in range(1, 31):
            for way, laid in ways.items():
                start = time.perf_counter()
                motion = laid(pictures[z - 1], pictures[z])
                seconds[way].append(time.perf_counter() - start)
                exact = true[z - 1].after(true[z].inverse)
                errors[way].append(apart(motion or Placement(), exact, SHAPE))
    print(f"{'':24}median   p95   most  above 2 px  s a pair")
    for way, each in errors.items():
        far = f"{sum(e > 2 for e in each):4} of {len(each)}"
        print(f"{way:24}{np.median(each):6.2f}  {np.percentile(each, 95):4.2f}  {max(each):5.2f}  "
              f"{far}  {np.median(seconds[way]):8.2f}")  # fmt: skip


def by_simpleitk(sitk: ModuleType, metric: str, fixed: np.ndarray, moving: np.ndarray) -> Placement:
    """Return the motion that lays one slice over another by SimpleITK."""
    images = [sitk.GetImageFromArray(each.mean(axis=2, dtype=np.float32))
              for each in (fixed, moving)]  # fmt: skip
    way = sitk.ImageRegistrationMethod()
    if metric == "mattes":
        way.SetMetricAsMattesMutualInformation(50)
    else:
        way.SetMetricAsCorrelation()
    way.SetInterpolator(sitk.sitkLinear)
    way.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 200)
    way.SetOptimizerScalesFromPhysicalShift()
    way.SetShrinkFactorsPerLevel([8, 4, 2, 1])
    way.SetSmoothingSigmasPerLevel([4, 2, 1, 0])
    start = sitk.CenteredTransformInitializer(
        *images, sitk.Euler2DTransform(), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    way.SetInitialTransform(start)
    found = way.Execute(*images)
    # It tells where a place of the fixed slice lies in the moving one, as (x, y).
    there = grid(SHAPE)
    here = [found.TransformPoint((x, y))[::-1] for y, x in there]
    return from_points(here, there.tolist(), SHAPE)


def jumps(seeds: Sequence[int]) -> None:
    """Print which jumps were found, and how well they were measured."""
    print("seed  jumps  alone  error of each jump  error of the slice alone")
    for seed in seeds:
        reef = Reef(ReefParams(slices=31, size=WIDE, seed=seed, misalignment_px=0.3,
                               misalignment_deg=0.03))  # fmt: skip
        moved, slices = Placement(), []
        for z in range(31):
            moved = moved.after(JUMPS.get(z, Placement()))
            here = ALONE.get(z, Placement()).after(moved)
            slices.append(Reduced.of(placed(reef.slice(z).rgb, here, SHAPE)))
        found = find_jumps(motions_of(slices), partial(between, slices), SHAPE)
        errors = [f"{apart(found.jumps[z].inverse, own_step(z), SHAPE):.2f}"
                  for z in JUMPS if z in found.jumps]  # fmt: skip
        alone = [f"{apart(found.alone[z].inverse, p, SHAPE):.2f}"
                 for z, p in ALONE.items() if z in found.alone]  # fmt: skip
        print(f"{seed:4}  {[*found.jumps]}  {[*found.alone]}  {errors}  {alone}", flush=True)


def own_step(z: int) -> Placement:
    """Return a planted jump as it is seen from the slice before, which was moved already."""
    before = Placement()
    for n in sorted(JUMPS):
        if n < z:
            before = before.after(JUMPS[n])
    return before.after(JUMPS[z]).after(before.inverse)


def lean(seeds: Sequence[int]) -> None:
    """Print what an alignment does to a reef that leans, of which every slice lies right."""
    print("seed  how         jumps  drift mean  drift max  lean before  lean after")
    for seed in seeds:
        more = math.ceil(63 * _PX_A_SLICE) + 2
        reef = Reef(ReefParams(slices=64, size=(WIDE + more + 3) // 4 * 4, seed=seed))
        slices, centres = [], defaultdict(dict)
        for z in range(64):
            one, out = reef.slice(z), Placement(0, -z * _PX_A_SLICE)
            size = one.specimens.shape
            rows, columns = slice(0, SHAPE[0]), slice(0, SHAPE[1])
            slices.append(Reduced.of(placed(one.rgb, out, size)[rows, columns]))
            labels = one.specimens
            ids = [int(i) for i in np.unique(labels) if i]
            for i, (y, x) in zip(ids, center_of_mass(labels > 0, labels, ids), strict=True):
                if y < SHAPE[0] and 0 <= x - z * _PX_A_SLICE < SHAPE[1]:
                    centres[i][z] = (y, x - z * _PX_A_SLICE)
        long = {i: c for i, c in centres.items() if len(c) >= _LONG}
        before = np.mean([leaning(c, Alignment()) for c in long.values()])
        motions = motions_of(slices)
        found = find_jumps(motions, partial(between, slices), SHAPE)
        each, places = Placement(), {}
        for z, motion in motions.items():
            each = each.after(motion or Placement())
            places[z] = each
        for name, alignment in (
            ("jumps", found.alignment),
            ("neighbours", follow_neighbours(motions, found, SHAPE).alignment),
            ("each alone", Alignment.of(places)),
        ):
            drift = [apart(alignment.at(z), Placement(), SHAPE) for z in range(64)]
            after = np.mean([leaning(c, alignment) for c in long.values()])
            print(f"{seed:4}  {name:10}  {len(found.jumps):5}  {np.mean(drift):10.2f}  "
                  f"{max(drift):9.2f}  {before:11.2f}  {after:10.2f}", flush=True)  # fmt: skip


def leaning(centres: dict[int, tuple[float, float]], alignment: Alignment) -> float:
    """Return the angle between the axis of a specimen and the vertical, in degrees."""
    z = np.array(list(centres))
    at = np.array([alignment.at(n).points(np.array([p]), SHAPE)[0] for n, p in centres.items()])
    slope = np.polyfit(z * 500.0, at * 72.7, 1)[0]
    return math.degrees(math.atan(float(np.hypot(*slope))))


def real(folder: Path) -> None:
    """Print which planted jumps of real sections were found."""
    with_images = next(p for p in (folder / "images", folder) if p.is_dir())
    stack = open_stack(with_images)
    whole = (stack.shape[1], stack.shape[2])
    planted = {4: Placement(12.4, -8.7, 1.5), 7: Placement(-6.1, 15.2, -0.7)}
    for name, jumps_at in (("as they are", {}), ("moved", planted)):
        moved, slices = Placement(), []
        for z in range(stack.shape[0]):
            moved = jumps_at.get(z, Placement()).after(moved)
            slices.append(Reduced.of(placed(stack.read(z), moved, whole)))
        motions = motions_of(slices)
        found = find_jumps(motions, partial(between, slices), whole)
        steps = [apart(m, Placement(), whole) for m in motions.values() if m is not None]
        errors = {z: round(apart(found.jumps[z].inverse, p, whole), 2)
                  for z, p in jumps_at.items() if z in found.jumps}  # fmt: skip
        print(f"{name}: jumps {[*found.jumps]}, alone {[*found.alone]}, errors {errors}, motions "
              f"{np.round(steps, 1).tolist()}")  # fmt: skip


def cost() -> None:
    """Print time and memory of a pair of large slices, and of placing one."""
    reef = Reef(ReefParams(slices=2, size=1188, seed=11))
    large = [np.repeat(np.repeat(reef.slice(z).rgb, 4, 0), 4, 1)[:3168] for z in (0, 1)]
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    slices = [Reduced.of(image) for image in large]
    reduced = (time.perf_counter() - start) / 2
    start = time.perf_counter()
    register(*slices)
    pair = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024
    print(f"{large[0].shape}: reduce {reduced:.2f} s, register {pair:.2f} s, +{peak:.0f} MiB")
    for what, motion in (("whole pixels", Placement(3, -2)), ("a turn", Placement(3.2, -1, 0.5))):
        start = time.perf_counter()
        placed(large[0], motion, large[0].shape[:2])
        print(f"place by {what}: {time.perf_counter() - start:.2f} s")


def main() -> None:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["jitter", "jumps", "lean", "peer", "real", "cost"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seeds", default="11,12,13,14,15,16")
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    if given.what == "real":
        real(given.folder)
    elif given.what == "cost":
        cost()
    else:
        {"jitter": jitter, "jumps": jumps, "lean": lean, "peer": peer}[given.what](seeds)


if __name__ == "__main__":
    main()
