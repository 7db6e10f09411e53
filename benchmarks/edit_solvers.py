"""The direct solver against the paper's Adam: deviation, drift, seconds and memory.

    python benchmarks/edit_solvers.py [--json figures.json] [--picture docs/images/edit-solvers.png]

First one level (stride 16, P4) of the shipped `lite` model on slice 24 of a sample reef whose
background is filled with mud: Adam with 20 000 steps, and the direct solver with the pull chosen by
bisection so that its weights drift as far as Adam's; on one thread, a map this small gains nothing
from two. Then all four levels of an `r101` with random
weights at 800 x 1213 pixels, in a process of its own: seconds, memory, and Adam's 20 000 steps
extrapolated from 50. Figures of one run; the machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from paper_bench import Bench
from torch import Tensor

from napari_fossiledit.editing.adam import descend
from napari_fossiledit.editing.direct import Factor, LeastDeviations, loss, ridge
from napari_fossiledit.editing.examples import Example, Pair, examples_of, residual_alone
from napari_fossiledit.editing.solve import solve
from napari_fossiledit.editing.system import accumulate
from napari_fossiledit.models.inference.preprocessing import Preprocessing, Resize
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import default_spec
from napari_fossiledit.params.editing import Pull, SolveParams, Solver
from napari_fossiledit.params.perturb import PerturbParams
from napari_fossiledit.workflows.shared.perturbed_slices import prepared

SEED, SLICE, STRIDE = 1, 24, 16
SIZE = (800, 1213)
SAMPLED = 50
WEAKEST, STRONGEST = -5.0, 3.0
"""Bounds of the bisected pull, as powers of ten."""

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Run:
    """What one solver came to on one level; the curve is the loss over seconds."""

    solver: str
    deviation: float
    drift: float
    seconds: float
    search_seconds: float = 0.0
    pull: float = 0.0
    steps: int = 0
    curve: Curve = field(default_factory=list, repr=False)


# ------------------------------------------------------------------ one level


class Level:
    """One captured level, and solvers of it."""

    def __init__(self, example: Example, layer: torch.nn.Conv2d) -> None:
        self.example, self.alone = example, residual_alone(example)
        self.weight, self.bias = layer.weight.detach(), layer.bias
        self.unedited = loss([example], None)

    def drift(self, delta: Tensor) -> float:
        """Tell |dW| / |W|."""
        return float(delta.norm() / self.weight.norm())

    def adam(self, steps: int) -> Run:
        """Descend as the paper does."""
        began = time.perf_counter()
        bias = None if self.bias is None else self.bias.detach()
        found = descend([self.example], self.weight, bias, SolveParams(adam_steps=steps))
        seconds = time.perf_counter() - began
        delta = found.weight - self.weight
        curve = [(seconds * (step + 1) / steps, value) for step, value in found.curve]
        return Run(
            f"adam, {steps} steps",
            loss([self.example], delta),
            self.drift(delta),
            seconds,
            steps=steps,
            curve=curve,
        )

    def direct(self, pull: float) -> Run:
        """Sum, factorise, and iterate by the solver's defaults."""
        began = time.perf_counter()
        system = accumulate([self.alone], self.weight.shape[1], self.weight.shape[0], 4096)
        eye = torch.eye(len(system.gram), dtype=torch.float64)
        factor = Factor.of(system.gram, eye, pull)
        solver = LeastDeviations([self.alone], factor, ridge(system, factor))
        ready = time.perf_counter() - began
        solver.run(SolveParams().iterations)
        seconds = time.perf_counter() - began
        count = len(solver.curve) - 1
        each = (seconds - ready) / count
        curve = [(0.0, self.unedited), *((ready + n * each, v) for n, v in solver.curve)]
        deviation, drift = loss([self.alone], solver.best), self.drift(solver.best)
        return Run("direct", deviation, drift, seconds, pull=pull, steps=count, curve=curve)


def bisected(solver: Callable[[float], Run], far: Callable[[Run], bool]) -> Run:
    """Find the strongest pull at which a run goes `far` enough, to 1 % of it."""
    low, high, spent = WEAKEST, STRONGEST, 0.0
    best = solver(10**low)
    spent += best.seconds
    while far(best) and high - low > math.log10(1.01):
        middle = (low + high) / 2
        run = solver(10**middle)
        spent += run.seconds
        low, high = (middle, high) if far(run) else (low, middle)
        best = run if far(run) else best
    return replace(best, search_seconds=spent)


def one_level(work: Path, steps: Sequence[int]) -> tuple[Level, list[tuple[Run, list[Run]]]]:
    """Run Adam for several numbers of steps, and the direct solver to match each."""
    level = captured(work)
    torch.set_num_threads(1)
    level.direct(1.0)
    found = []
    for count in steps:
        adam = level.adam(count)
        found.append((adam, [same_drift(level, adam), same_deviation(level, adam)]))
    return level, found


def same_drift(level: Level, adam: Run) -> Run:
    """Choose the pull so that the weights drift as far as Adam's."""
    run = bisected(level.direct, lambda run: run.drift >= adam.drift)
    return replace(run, solver=f"direct, {reached(run, adam)}")


def same_deviation(level: Level, adam: Run) -> Run:
    """Choose the strongest pull that leaves no more deviation than Adam."""
    run = bisected(level.direct, lambda run: run.deviation <= adam.deviation)
    return replace(run, solver="direct, adam's deviation")


def reached(run: Run, adam: Run) -> str:
    """Name a run that was to drift as far as Adam: where every position is fitted none does."""
    return "adam's drift" if run.drift >= adam.drift else "never adam's drift: weakest pull"


def captured(work: Path) -> Level:
    """Capture the level of the sample reef's slice."""
    bench = Bench(work, SEED, print)
    made = prepared(bench.project, SLICE, PerturbParams())
    pair = Pair(made.image, made.perturbed)
    examples = examples_of(bench.model, pair, bench.project.geometry.pixel_size_um)
    extent = bench.model.preprocessing.normalise(bench.model.preprocessing.prepare(made.image))
    for example, layer in zip(examples, bench.model.layers().values(), strict=True):
        if extent.shape[-1] // example.key.shape[-1] == STRIDE:
            return Level(example, layer)
    raise LookupError(f"no level of stride {STRIDE}")


# ------------------------------------------------------------------ all levels of r101


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Measure how far the memory of this process rises above what it is now, in bytes."""
    process, stop, found = psutil.Process(), threading.Event(), [0]
    base = process.memory_info().rss

    def watch() -> None:
        while not stop.wait(0.01):
            found[0] = max(found[0], process.memory_info().rss - base)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def large_model() -> Segmenter:
    """Make an r101 whose random residual branches are damped, as trained ones are."""
    torch.manual_seed(0)
    network = MaskRcnn(default_spec("r101", ("archaeocyathid",)))
    for name, module in network.backbone.named_modules():
        if name.endswith("bn3"):
            module.weight.fill_(0.2)
    return MaskRcnnSegmenter(network, Preprocessing(resize=Resize.SHORT_EDGE))


def large_pair(seed: int, *, weighted: bool) -> Pair:
    """Make a slice of noise of several scales, with everything but discs filled."""
    rng = np.random.default_rng(seed)
    image = np.zeros((*SIZE, 3))
    for size in (4, 16, 64):
        rough = rng.random((3, -(-SIZE[0] // size), -(-SIZE[1] // size)))
        image += np.kron(rough, np.ones((size, size))).transpose(1, 2, 0)[: SIZE[0], : SIZE[1]]
    original = (image * 85).astype(np.uint8)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    discs = np.hypot(y % 200 - 100, x % 200 - 100) < 60
    mud = np.array((120, 70, 50), np.uint8)
    weight = np.where(discs, np.float32(SolveParams().fossil_weight), np.float32(1))
    return Pair(original, np.where(discs[..., None], original, mud), weight if weighted else None)


def measured(name: str) -> dict[str, float]:
    """Solve in this process; seconds and extra memory."""
    segmenter, other = large_model(), large_pair(1, weighted=False)
    pair = large_pair(0, weighted=name in ("output", "ridge"))
    params = {
        "weights": SolveParams(pull_to=Pull.WEIGHTS),
        "output": SolveParams(),
        "ridge": SolveParams(solver=Solver.RIDGE),
        "adam": SolveParams(solver=Solver.ADAM, adam_steps=SAMPLED),
    }[name]
    preserve = [other.original] if name in ("output", "ridge") else []
    with peak_memory() as memory:
        found = solve(segmenter, [pair], params, preserve=preserve)
    return {
        "seconds": found.seconds,
        "memory_gb": memory[0] / 2**30,
        "steps": sum(curve[-1][0] for curve in found.curves.values()),
        "deviation": sum(found.after.values()) / sum(found.before.values()),
    }


def apart(name: str) -> dict[str, float]:
    """Measure in a process of its own, so that no memory of another run is used again."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measured, name).result()


def all_levels(steps: int) -> dict[str, dict[str, float]]:
    """Measure the direct solvers, and Adam's first steps, extrapolated."""
    found = {name: apart(name) for name in ("weights", "output", "ridge", "adam")}
    found["adam"]["seconds"] *= steps / SAMPLED
    for figures in found.values():
        figures["times_faster"] = found["adam"]["seconds"] / figures["seconds"]
    return found


# ------------------------------------------------------------------ telling


def level_rows(level: Level, pairs: Sequence[tuple[Run, list[Run]]]) -> Iterator[str]:
    """Tell the runs of one level as a table."""
    shape = tuple(level.example.key.shape[-2:])
    yield f"P4 (stride {STRIDE}) of reef-lite, slice {SLICE}: {shape[0]} x {shape[1]} positions"
    yield f"mean deviation unedited: {level.unedited:.4f}"
    yield "| solver | pull | mean deviation | drift | steps | seconds | faster | with the search |"
    yield "|---|---|---|---|---|---|---|---|"
    for adam, runs in pairs:
        yield row(adam, adam)
        yield from (row(run, adam) for run in runs)


def row(run: Run, adam: Run) -> str:
    """Tell one run."""
    cells = f"| {run.solver} | {run.pull:.2g} | {run.deviation:.4f} | {run.drift:.3f} "
    cells += f"| {run.steps} | {run.seconds:.2f} | {adam.seconds / run.seconds:.0f} "
    if not run.search_seconds:
        return cells + "| |"
    return cells + f"| {run.search_seconds:.1f} s, {adam.seconds / run.search_seconds:.0f} |"


def large_rows(found: dict[str, dict[str, float]], steps: int) -> Iterator[str]:
    """Tell the runs of all levels as a table."""
    yield f"\nall levels of r101, {SIZE[0]} x {SIZE[1]}, all cores"
    yield "| solver | seconds | extra GB | steps | deviation left | faster |"
    yield "|---|---|---|---|---|---|"
    names = {
        "weights": "direct, all positions alike, held to the weights",
        "output": "direct, fossils count more, held to the output of a preserved slice",
        "ridge": "ridge, fossils count more, held to the output of a preserved slice",
        "adam": f"adam, {steps} steps from {SAMPLED}",
    }
    for name, told in names.items():
        r = found[name]
        yield (
            f"| {told} | {r['seconds']:.1f} | {r['memory_gb']:.2f} | {r['steps']:.0f} "
            f"| {r['deviation']:.1%} | {r['times_faster']:.0f} |"
        )


def draw(level: Level, adam: Run, runs: Sequence[Run], path: Path) -> None:
    """Draw the deviation over seconds; the direct solver begins when its factor is ready."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="seconds", ylabel="mean absolute deviation")
    axes.axhline(level.unedited, color="#6f655f", lw=1, ls="--", label="unedited")
    for run, colour in zip((adam, *runs), ("#8c4a35", "#1f6f8b", "#c98a2b"), strict=True):
        seconds, values = zip(*run.curve[1:], strict=True)
        what = f"{run.solver.split(',')[0]}, {run.steps} steps, drift {run.drift:.2f}"
        label = f"{what}, pull {run.pull:.2g}" if run.pull else what
        marker = "o" if len(values) < 50 else ""
        axes.plot(seconds, values, color=colour, marker=marker, ms=3, label=label)
    axes.set(xscale="log", yscale="log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#ddd5cf", lw=0.6)
    axes.legend(frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", default="2000,20000", help="steps of adam, the last ones count")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/.paper"))
    parser.add_argument("--parts", default="level,r101", help="what to measure")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--picture", type=Path, help="file for the loss curves")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    options = parsed(arguments)
    steps = [int(part) for part in options.steps.split(",")]
    figures: dict[str, Any] = {"cpus": os.cpu_count()}
    if "level" in options.parts:
        level, pairs = one_level(options.work, steps)
        print(*level_rows(level, pairs), sep="\n", flush=True)
        told = [{"adam": plain(a), "direct": [plain(d) for d in runs]} for a, runs in pairs]
        figures["level"] = {"unedited": level.unedited, "runs": told}
        if options.picture:
            draw(level, *pairs[-1], options.picture)
    if "r101" in options.parts:
        figures["r101"] = all_levels(steps[-1])
        print(*large_rows(figures["r101"], steps[-1]), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def plain(run: Run) -> dict[str, Any]:
    """Tell a run without its curve."""
    return {name: value for name, value in asdict(run).items() if name != "curve"}


if __name__ == "__main__":
    main()
