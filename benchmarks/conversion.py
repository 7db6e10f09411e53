"""What converting a stack costs: against slice by slice through zarr, and against its limit.

    python benchmarks/conversion.py speed PHOTOGRAPH [SLICES]
    python benchmarks/conversion.py codecs PHOTOGRAPH ...
    python benchmarks/conversion.py plot PHOTOGRAPH SLICES PLOT.png

``speed``: so many links to one photograph become a stack, which is converted in turn by a plain
loop (each slice read, each level written through zarr, zstd level 3: how it was done before), and
by `convert` in threads and in two processes. The limit is what decoding, the area means of the
levels and compressing their chunks take on all cores, with nothing written. Peak memory is that of
a process of its own.

``codecs``: one slice of each photograph in chunks of 512 pixels.

``plot``: slices a second and memory over the slices of one conversion in threads.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import psutil
import zarr

from napari_fossiledit.exchange.stack_convert import pyramid_shapes
from napari_fossiledit.params.stack import ConvertParams, NewParams
from napari_fossiledit.progress import Job, Progress
from napari_fossiledit.stacks import open_stack
from napari_fossiledit.stacks.pixels import area_mean
from napari_fossiledit.workflows.stack import convert, new

CHUNK, REPEATS = 512, 3


def made(photograph: Path, folder: Path, slices: int) -> Path:
    """Make a project of links to one photograph."""
    (folder / "photos").mkdir(parents=True)
    for z in range(slices):
        (folder / f"photos/{z:03d}{photograph.suffix}").symlink_to(photograph.resolve())
    params = NewParams(pixel_size=10, slice_spacing=50)
    new.run(folder / "p.fossil", folder / "photos", params)
    return folder / "p.fossil"


def serial(photos: Path, out: Path) -> None:
    """Convert slice by slice, each level written through zarr in one shard a slice."""
    stack = open_stack(photos)
    group = zarr.create_group(str(out), zarr_format=3)
    arrays = []
    for level, shape in enumerate(pyramid_shapes(stack.shape)):
        chunks = (1, *(min(CHUNK, n) for n in shape[1:3]), *shape[3:])
        shards = (1, *(-(-n // c) * c for n, c in zip(shape[1:], chunks[1:], strict=True)))
        codec = zarr.codecs.ZstdCodec(level=3)
        options: Any = {"shape": shape, "dtype": stack.dtype, "chunks": chunks, "shards": shards}
        arrays.append(group.create_array(str(level), compressors=codec, **options))
    for z in range(len(stack)):
        pixels = stack.read(z)
        for level, array in enumerate(arrays):
            pixels = area_mean(pixels, 2) if level else pixels
            array[z] = pixels


def ours(project: Path, workers: int) -> None:
    """Convert as the command does."""
    convert.run(project, ConvertParams(workers=workers))


def limit(photos: Path) -> None:
    """Decode, reduce and compress on all cores, and write nothing."""
    stack = open_stack(photos)
    codec = numcodecs.Zstd(level=1)

    def one(z: int) -> int:
        pixels, size = stack._decode(z), 0
        for level in range(len(pyramid_shapes(stack.shape))):
            pixels = area_mean(pixels, 2) if level else pixels
            for y in range(0, pixels.shape[0], CHUNK):
                for x in range(0, pixels.shape[1], CHUNK):
                    chunk = np.ascontiguousarray(pixels[y : y + CHUNK, x : x + CHUNK])
                    size += len(codec.encode(chunk))
        return size

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sum(pool.map(one, range(len(stack))))


def measured(*args: str) -> tuple[float, float]:
    """Run a part of this script by itself; return seconds and peak GB of it and its children."""
    start, peak = time.perf_counter(), 0
    process = psutil.Process(subprocess.Popen([sys.executable, __file__, *args]).pid)
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        try:
            family = [process, *process.children(recursive=True)]
            peak = max(peak, sum(p.memory_info().rss for p in family))
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.05)
    if process.wait():
        sys.exit(f"{args[0]} failed")
    return time.perf_counter() - start, peak / 1e9


def speed(photograph: Path, slices: int) -> None:
    """Print the table of conversions."""
    print(f"{slices} slices, load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    print("| how | s | s a slice | x serial | share of the limit | peak GB |")
    print("|---|---|---|---|---|---|")
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(REPEATS):
        for how in ("serial", "limit", "threads", "processes"):
            with tempfile.TemporaryDirectory() as place:
                project = made(photograph, Path(place) / "s", slices)
                args = {
                    "serial": ("serial", str(project.parent / "photos"), f"{place}/out.zarr"),
                    "limit": ("limit", str(project.parent / "photos")),
                    "threads": ("ours", str(project), "0"),
                    "processes": ("ours", str(project), "2"),
                }
                found.setdefault(how, []).append(measured(*args[how]))
                shutil.rmtree(project.parent)
    times = {how: float(np.median([s for s, _ in runs])) for how, runs in found.items()}
    for how, seconds in times.items():
        peak = max(gb for _, gb in found[how])
        gain, share = times["serial"] / seconds, times["limit"] / seconds
        row = f"{seconds:.1f} | {seconds / slices:.3f} | {gain:.2f} | {share:.0%} | {peak:.2f}"
        print(f"| {how} | {row} |")


def plot(photograph: Path, slices: int, out: Path) -> None:
    """Convert in this process, and draw slices a second and memory over the slices."""
    # Not where another benchmark takes a function of this file, from a place of its own.
    from over_slices import drawn

    at, memory, process = [], [], psutil.Process()

    def note(progress: Progress) -> None:
        if progress.done > len(at) and progress.total == slices:
            at.append(time.perf_counter())
            memory.append(process.memory_info().rss / 2**20)

    with tempfile.TemporaryDirectory() as place:
        convert.run(made(photograph, Path(place) / "s", slices), job=Job(note))
    elapsed = np.asarray(at) - at[0]
    drawn(out, elapsed, np.asarray(memory))
    fit, part = np.corrcoef(np.arange(len(at)), elapsed)[0, 1] ** 2, slices // 10
    print(f"{len(at)} slices, load {os.getloadavg()[0]:.1f}; R2 of time against slices {fit:.4f}")
    print(f"resident MiB at slice {part}, {slices}: {memory[part - 1]:.0f}, {memory[-1]:.0f}")


def codecs(photographs: list[Path]) -> None:
    """Print the table of codecs."""
    chosen = {
        "zstd 3": numcodecs.Zstd(level=3),
        "zstd 1": numcodecs.Zstd(level=1),
        "zstd -5": numcodecs.Zstd(level=-5),
        "lz4": numcodecs.LZ4(),
        "blosc lz4 5, shuffled": numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE),
        "blosc zstd 3, shuffled": numcodecs.Blosc("zstd", 3, numcodecs.Blosc.SHUFFLE),
    }
    print("| photograph | codec | share of the pixels' size | encode ms | decode ms |")
    print("|---|---|---|---|---|")
    for photograph in photographs:
        pixels = open_stack(photograph).read(0)
        parts = [
            np.ascontiguousarray(pixels[y : y + CHUNK, x : x + CHUNK])
            for y in range(0, pixels.shape[0], CHUNK)
            for x in range(0, pixels.shape[1], CHUNK)
        ]
        for name, codec in chosen.items():
            coded = [codec.encode(part) for part in parts]
            encode, decode = fastest(codec.encode, parts), fastest(codec.decode, coded)
            share = sum(map(len, coded)) / pixels.nbytes
            row = f"{name} | {share:.0%} | {encode:.0f} | {decode:.0f}"
            print(f"| {photograph.name}, {pixels.dtype} | {row} |")


def fastest(work: Callable[[Any], Any], parts: list[Any]) -> float:
    """Return the least ms of some times that all parts are worked on."""
    each = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for part in parts:
            work(part)
        each.append(1000 * (time.perf_counter() - start))
    return min(each)


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    if command == "speed":
        speed(Path(rest[0]), int(rest[1]) if len(rest) > 1 else 40)
    elif command == "codecs":
        codecs([Path(each) for each in rest])
    elif command == "plot":
        plot(Path(rest[0]), int(rest[1]), Path(rest[2]))
    elif command == "serial":
        serial(Path(rest[0]), Path(rest[1]))
    elif command == "limit":
        limit(Path(rest[0]))
    else:
        ours(Path(rest[0]), int(rest[1]))
