"""How long a stack of thousands of large slices takes to open and to step through, and its memory.

    python benchmarks/stack_open.py SLICE.jpg [--slices 3000] [--steps 30]

The stack is a folder of links to one image. Reading the same slices eagerly with Pillow in the
same run is the reference, so the ratio holds on any machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
from PIL import Image

from napari_fossiledit.stacks import SectionStack, open_stack

T = TypeVar("T")
_MB = 1e6


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """Run a call and give its result and the seconds it took."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def rss() -> float:
    """Resident memory of this process in MB."""
    return float(psutil.Process().memory_info().rss / _MB)


def links(image: Path, folder: Path, count: int) -> None:
    """Fill a folder with links to one image."""
    for z in range(count):
        (folder / f"slice_{z:04d}{image.suffix}").symlink_to(image.resolve())


def step_through(stack: SectionStack, slices: list[int]) -> float:
    """Seconds a slice, as napari's slider reads them."""
    lazy = stack.lazy()
    _, seconds = timed(lambda: [np.asarray(lazy[z]) for z in slices])
    return seconds / len(slices)


def eager(stack: SectionStack, slices: list[int]) -> float:
    """Seconds a slice with Pillow."""

    def read(z: int) -> int:
        with Image.open(stack.path / stack.names[z]) as image:
            return np.asarray(image).nbytes

    _, seconds = timed(lambda: [read(z) for z in slices])
    return seconds / len(slices)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--slices", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=30)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        links(chosen.image, Path(name), chosen.slices)
        measure(Path(name), chosen.steps)


def measure(folder: Path, steps: int) -> None:
    """Open the folder in both ways, step through it, and tell."""
    stack, checked = timed(lambda: open_stack(folder))
    stack, again = timed(lambda: open_stack(folder, expected=stack.record()))
    stack.lazy()  # imports dask
    _, built = timed(stack.lazy)
    slices = [int(z) for z in np.random.default_rng(0).permutation(len(stack))[:steps]]
    stack.read(slices[0])
    stack.close()
    before = rss()
    stepping = step_through(stack, slices)
    grown, slice_mb = rss() - before, stack.read(slices[0]).nbytes / _MB
    reference = eager(stack, slices)
    rows = [
        ("stack", f"{len(stack)} slices of {stack.record().format}"),
        ("open, checking every header", f"{checked:.2f} s"),
        ("open again by its record", f"{again * 1000:.1f} ms"),
        ("build the lazy array", f"{built * 1000:.0f} ms"),
        (f"read {len(slices)} random slices", f"{stepping:.3f} s each"),
        (
            "the same with Pillow",
            f"{reference:.3f} s each, {reference / stepping:.1f} times as long",
        ),
        ("memory grown by stepping", f"{grown:.0f} MB ({slice_mb:.0f} MB a slice)"),
        ("all slices at once would take", f"{len(stack) * slice_mb / 1000:.0f} GB"),
    ]
    for what, value in rows:
        print(f"{what:32} {value}")


if __name__ == "__main__":
    main()
