"""What a prediction of thousands of slices costs beside the network.

    python benchmarks/prediction.py stack [SLICES] [PLOT.png]
    python benchmarks/prediction.py share PROJECT MODEL
    python benchmarks/prediction.py batches PROJECT MODEL [ROUNDS]
    python benchmarks/prediction.py still LABELS.tif TILE

``stack``: `predict` over 3000 photographs of 640 x 480 pixels, in which the network is replaced by
20 random masks a slice and 30 ms of waiting. Loading, pasting, the masks and the ledger are the
real ones.

``share``: three slices of a project, one after the other, are predicted as the command does it;
give a copy, which keeps them. The network is what is computed between an image and its 28 x 28
masks; the rest is the whole run less that and less loading the model.

``batches``: the four corners of the first slice, of 1024 x 1024 and of 640 x 480 pixels, enter the
network one by one, two and four at once, by turns, in one thread; what is found in each, and its
masks, are computed one by one. The seconds are those of the processor.

``still``: how many traced masks (z, y, x, ids through z) the slice before has nearly alike, and in
how many tiles all are.
"""

from __future__ import annotations

import itertools
import os
import re
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
import tifffile
import torch
from over_slices import drawn
from PIL import Image

from napari_fossiledit.models.inference.assembly import located
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.heads import Limits
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.params.segment import Device, PredictParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.progress import Job, Progress
from napari_fossiledit.project import Project
from napari_fossiledit.project.contents import Contents
from napari_fossiledit.workflows.segment import predict
from napari_fossiledit.workflows.segment.predict import load_segmenter
from napari_fossiledit.workflows.shared.model_refs import find_model
from napari_fossiledit.workflows.stack import new

HEIGHT, WIDTH, FOUND, PHOTOGRAPHS, WAIT_S = 480, 640, 20, 10, 0.03
ALIKE = 0.95
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


def share(project: Path, model: str) -> None:
    """Predict a slice, once others have brought all code into memory; print where time went."""
    parts = {
        "decode and hash": (Contents, "read"),
        "bring to working scale": (Preprocessing, "prepare"),
        "paste and encode masks": (MaskRcnnSegmenter, "_instances"),
        "store": (predict._Run, "_store"),
    }
    network = {name: (MaskRcnn, name) for name in ("maps", "find", "draw")}
    convolutions = {name: (torch.nn.functional, name) for name in ("conv2d", "conv_transpose2d")}
    for owner, name in [
        *parts.values(),
        *network.values(),
        *convolutions.values(),
        (predict, "load_segmenter"),
    ]:
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
            f"slice {z}, {found.instances} instances: {whole:.2f}; network {computed:.2f}", end=", "
        )
        print(f"its convolutions {sum(spent[name] for name in convolutions):.2f}", end="; ")
        print(f"the rest is {1 - computed / whole:.1%}:", end=" ")
        print(*(f"{what} {seconds:.3f}" for what, seconds in named.items()), sep=", ")
    print(f"peak: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def batches(path: Path, model: str, rounds: int) -> None:
    """Let several tiles at once enter the network; print seconds a tile, and memory."""
    with Project.open(path, read_only=True) as project:
        found = find_model(project, model)
        segmenter: Any = load_segmenter(found, PredictParams(model=model, device=Device.CPU))
        image = project.stack.read(0)
        rgb = segmenter.preprocessing.prepare(image, project.geometry.pixel_size_um)
    network, limits = segmenter.network, Limits()
    torch.set_num_threads(1)
    for size in ((1024, 1024), (480, 640)):
        ends = [(0, whole - edge) for whole, edge in zip(rgb.shape, size, strict=False)]
        tiles = [rgb[y : y + size[0], x : x + size[1]] for y, x in itertools.product(*ends)]
        inputs = torch.cat([segmenter.preprocessing.normalise(tile) for tile in tiles])
        inputs = inputs.contiguous(memory_format=torch.channels_last)

        def once(count: int, inputs: Any = inputs, size: tuple[int, int] = size) -> float:
            start = time.process_time()
            with torch.inference_mode():
                for batch in inputs.split(count):
                    maps = network.maps(batch)
                    for k in range(len(batch)):
                        one = maps.one(k)
                        there = network.find(batch[k : k + 1], one, size, limits)
                        network.draw(one, there["boxes"], there["labels"], size)
            return (time.process_time() - start) / len(inputs)

        counts = (1, 2, 4)
        times = np.array([[once(n) for n in counts] for _ in range(rounds + 1)][1:])
        held = []
        for n in counts:
            # Linux forgets the peak.
            Path("/proc/self/clear_refs").write_text("5")
            once(n)
            peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
            held.append(int(peak[1]) / 2**20 if peak else np.nan)
        print(f"{len(tiles)} tiles of {size}, load {os.getloadavg()[0]:.1f}: s a tile", end=" ")
        gains = np.median(times[:, :1] / times, axis=0)
        for n, took, gain, memory in zip(
            counts, np.median(times, axis=0), gains, held, strict=True
        ):
            print(f"{n} at once: {took:.3f} ({gain:.3f} x), {memory:.2f} GiB", end="; ")
        print()


def still(labels: Path, edge: int) -> None:
    """Compare each slice of traced masks with the one before."""
    volume = tifffile.imread(labels)
    ious, tiles = [], []
    for before, now in itertools.pairwise(volume):
        changed = np.zeros(now.shape, bool)
        for number in np.union1d(before, now)[1:]:
            there, here = before == number, now == number
            iou = (there & here).sum() / (there | here).sum()
            ious += [iou] if here.any() else []
            changed |= (there | here) & (iou < ALIKE)
        for y, x in itertools.product(*(range(0, n, edge) for n in now.shape)):
            tile = np.s_[y : y + edge, x : x + edge]
            tiles.append((now[tile].any(), not changed[tile].any()))
    alike, (held, kept) = np.mean(np.array(ious) >= ALIKE), np.array(tiles).T
    print(f"{len(volume)} slices, {len(ious)} masks: median IoU {np.median(ious):.3f}", end=", ")
    print(f"{ALIKE} and more {alike:.1%}; of {held.sum()} tiles with masks all are in", end=" ")
    print(f"{kept[held].mean():.1%}, of all {len(tiles)} tiles in {kept.mean():.1%}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["stack", *rest]:
            stack(int(rest[0]) if rest else 3000, Path(rest[1]) if rest[1:] else None)
        case ["batches", folder, name, *rest]:
            batches(Path(folder), name, int(rest[0]) if rest else 5)
        case ["still", labels, edge]:
            still(Path(labels), int(edge))
        case ["share", folder, name]:
            share(Path(folder), name)
        case _:
            sys.exit(__doc__)
