"""What a prediction of thousands of slices costs beside the network.

    python benchmarks/prediction.py stack [SLICES] [PLOT.png]
    python benchmarks/prediction.py share PROJECT MODEL

``stack``: `predict` over 3000 photographs of 640 x 480 pixels, in which the network is replaced by
20 random masks a slice and 30 ms of waiting. Loading, pasting, the masks and the ledger are the
real ones.

``share``: three slices of a project, one after the other, are predicted as the command does it;
give a copy, which keeps them. The network is what is computed between an image and its 28 x 28
masks; the rest is the whole run less that and less loading the model.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from napari_fossiledit.models.inference.assembly import located
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.params.segment import Device, PredictParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.progress import Job, Progress
from napari_fossiledit.project import Project
from napari_fossiledit.project.contents import Contents
from napari_fossiledit.workflows.segment import predict
from napari_fossiledit.workflows.stack import new

HEIGHT, WIDTH, FOUND, PHOTOGRAPHS, WAIT_S = 480, 640, 20, 10, 0.03
SECONDS: dict[str, list[float]] = defaultdict(list)


def timed(owner: Any, name: str) -> None:
    """Note how long each call of a function takes."""
    function: Callable[..., Any] = getattr(owner, name)

    def call(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            SECONDS[name].append(time.perf_counter() - start)

    setattr(owner, name, call)


def drawn_by_chance(_: Any, rgb: Any, tiles: Any, *__: Any) -> Any:
    """Stand in for the network: wait, and find discs of 16 to 32 pixels of the slice."""
    time.sleep(WAIT_S)
    rng = np.random.default_rng(int(rgb[0, 0, 0]))
    height, width = rgb.shape[:2]
    edge = rng.uniform(16, 32, FOUND) * height / HEIGHT
    x, y = rng.uniform(0, width - edge), rng.uniform(0, height - edge)
    grid = np.linspace(-1, 1, 28)
    disc = 1 / (1 + np.exp(8 * (np.hypot(grid, grid[:, None]) - 0.8)))
    masks = np.clip(disc + rng.normal(0, 0.05, (FOUND, 28, 28)), 0, 1)
    boxes = np.stack([x, y, x + edge, y + edge], axis=1)
    output = {
        "boxes": torch.tensor(boxes, dtype=torch.float32),
        "scores": torch.linspace(0.9, 0.1, FOUND),
        "labels": torch.ones(FOUND, dtype=torch.int64),
        "masks": torch.tensor(masks, dtype=torch.float32),
    }
    return located(output, (0, 0, height, width))


def stack(slices: int, plot: Path | None) -> None:
    """Predict many slices; print what memory, time and ledger do meanwhile."""
    home = Path(tempfile.mkdtemp(prefix="fossiledit-prediction-"))
    (home / "photos").mkdir()
    rng = np.random.default_rng(0)
    for n in range(PHOTOGRAPHS):
        coarse = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((WIDTH, HEIGHT)).save(home / f"{n}.jpg")
    for z in range(slices):
        (home / f"photos/{z:05d}.jpg").symlink_to(home / f"{z % PHOTOGRAPHS}.jpg")
    path = home / "p.fossil"
    new.run(path, home / "photos", NewParams(pixel_size=72.7, slice_spacing=500))
    network: Any = MaskRcnnSegmenter
    network._search = drawn_by_chance
    timed(predict._Run, "_store")
    process, at, memory = psutil.Process(), [], []

    def note(progress: Progress) -> None:
        if progress.finished:
            at.append(time.perf_counter())
            memory.append(process.memory_info().rss / 2**20)

    params = PredictParams(model="reef-lite", device=Device.CPU)
    found = predict.run(path, params, job=Job(note))
    elapsed = np.asarray(at) - at[0]
    fit = np.corrcoef(np.arange(slices), elapsed)[0, 1] ** 2
    store = np.asarray(SECONDS["_store"]) * 1e3
    part = slices // 10
    early, late = memory[part - 1], memory[-1]
    size = sum(f.stat().st_size for f in path.glob("ledger.sqlite*")) / 1e6
    area = FOUND * slices
    print(f"{slices} slices, {found.instances} of {area} instances, load {os.getloadavg()[0]:.1f}")
    print(
        f"resident MiB at slice {part}, {slices}: {early:.0f}, {late:.0f} ({late / early - 1:+.1%})"
    )
    print(f"most: {max(memory):.0f}; R2 of time against slices {fit:.4f}")
    print(f"ms a slice: {elapsed[-1] / (slices - 1) * 1e3:.1f}; first and last tenth:", end=" ")
    print(*(f"{np.diff(elapsed)[which].mean() * 1e3:.1f}" for which in np.s_[:part, -part:]))
    tenths = [f"{np.median(store[which]):.2f}" for which in np.s_[:part, -part:]]
    print("ms of storing while others compute:", *np.percentile(store, (50, 95)).round(2), end="; ")
    print("medians of first and last tenth", *tenths)
    print("ms of storing alone:", *np.percentile(alone(path, found.source), (50, 95)).round(2))
    print(f"ledger: {size:.1f} MB, {size / slices * 1e3:.1f} kB a slice")
    if plot:
        drawn(plot, elapsed, np.asarray(memory))
    shutil.rmtree(home)


def alone(path: Path, source: str) -> list[float]:
    """Store slices that are there once more under another name, and return milliseconds."""
    took = []
    with Project.open(path) as project:
        for z in range(0, project.shape[0], max(1, project.shape[0] // 300)):
            found = project.ledger.instances(source, slices=[z], with_probability=True)
            start = time.perf_counter()
            project.ledger.store("model:again:0123456789ab", z, found)
            took.append((time.perf_counter() - start) * 1e3)
    return took


def drawn(plot: Path, elapsed: Any, memory: Any) -> None:
    """Draw slices a second and memory over the slices."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    window = max(1, len(elapsed) // 60)
    z = np.arange(window, len(elapsed), window)
    figure, (rate, held) = plt.subplots(1, 2, figsize=(7, 2.4), layout="constrained")
    rate.plot(z, window / (elapsed[z] - elapsed[z - window]), color="black", linewidth=1)
    rate.set(xlabel="slices done", ylabel="slices a second", ylim=(0, None))
    held.plot(memory, color="black", linewidth=1)
    held.set(xlabel="slices done", ylabel="resident memory, MiB", ylim=(0, None))
    for axes in (rate, held):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(plot, dpi=90)


def share(project: Path, model: str) -> None:
    """Predict a slice, once others have brought all code into memory; print where time went."""
    parts = {
        "decode and hash": (Contents, "read"),
        "bring to working scale": (Preprocessing, "prepare"),
        "paste and encode masks": (MaskRcnnSegmenter, "_instances"),
        "store": (predict._Run, "_store"),
    }
    network = {name: (MaskRcnn, name) for name in ("maps", "find", "draw")}
    for owner, name in [*parts.values(), *network.values(), (predict, "load_segmenter")]:
        timed(owner, name)
    print(f"load {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} threads; seconds a slice")
    for z in range(3):
        SECONDS.clear()
        start = time.perf_counter()
        params = PredictParams(model=model, slices=str(z), again=True, device=Device.CPU)
        found = predict.run(project, params)
        spent = {name: sum(times) for name, times in SECONDS.items()}
        whole = time.perf_counter() - start - spent["load_segmenter"]
        computed = sum(spent[name] for name in network)
        named = {what: spent[name] for what, (_, name) in parts.items()}
        named["other"] = whole - computed - sum(named.values())
        print(
            f"slice {z}, {found.instances} instances: {whole:.2f}; network {computed:.2f}", end="; "
        )
        print(f"the rest is {1 - computed / whole:.1%}:", end=" ")
        print(*(f"{what} {seconds:.3f}" for what, seconds in named.items()), sep=", ")
    print(f"peak: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    if sys.argv[1] == "stack":
        count, *where = sys.argv[2:] or ["3000"]
        stack(int(count), Path(where[0]) if where else None)
    else:
        share(Path(sys.argv[2]), sys.argv[3])
