"""A stack as an OME-Zarr 0.5 pyramid, written slice by slice; a stopped conversion goes on.

Level k of the pyramid has the area mean of 2^k x 2^k pixels; z is never reduced. Chunks are
(1, 512, 512, 3); all chunks of a slice share one file (a zarr shard; more where a slice is very
large), so that 3 000 slices do not become 200 000 files.
"""

from __future__ import annotations

import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, read_json, write_json
from napari_fossiledit.geometry import StackGeometry, format_slices, parse_slices
from napari_fossiledit.progress import QUIET, Job, time_words
from napari_fossiledit.stacks import SectionStack, StackRecord, open_stack
from napari_fossiledit.stacks.ome_zarr import ATTRIBUTE, MISSING
from napari_fossiledit.stacks.pixels import Pixels, area_mean, content_hash
from napari_fossiledit.stacks.section import require_memory

if TYPE_CHECKING:
    import zarr

_CHUNK = 512
#: Level of zstd: docs/benchmarks/whole-stack.md has the sizes and times of others.
_LEVEL = 1
# Two slices at once: their pixels, and the file that is decoded or the shard that is put together.
_SLICES_HELD = 4
#: Most bytes of pixels in one file: a shard is put together in memory.
_SHARD_BYTES = 64 * 2**20
_PROGRESS = "conversion.json"
# Compressed slices differ in size; what is left of the disk should also do for a project.
_MARGIN = 1.1
#: Slices that are converted for the estimate, and how many of them only start the workers.
_PROBES, _WARMING = 6, 2
#: So many slices one after another that cannot be read are a disk that is gone, not bad files.
_LOST = 20


@dataclass(frozen=True)
class Copied:
    """What became of a slice.

    Attributes
    ----------
    stamp
        Size and time of its files, see `SectionStack.stamp`.
    content
        Hash of its pixels; empty where they could not be read.
    error
        Why they could not be read.
    """

    stamp: str
    content: str
    error: FossilError | None = None


Handle: TypeAlias = Callable[[int], Copied]
"""Does something with a slice."""

Spreader: TypeAlias = Callable[
    [Callable[..., Handle], tuple[Any, ...], list[int]], Iterator[tuple[int, Copied]]
]
"""Makes what handles slices, and yields each slice with what became of it, in any order."""


def one_by_one(
    make: Callable[..., Handle], args: tuple[Any, ...], items: list[int]
) -> Iterator[tuple[int, Copied]]:
    """Handle one slice after the other, in this thread."""
    handle = make(*args)
    return ((z, handle(z)) for z in items)


@dataclass(frozen=True)
class ConversionPlan:
    """Levels, time and space of what is left of a conversion.

    Attributes
    ----------
    shapes
        Shape (z, y, x[, 3]) of each level, finest first.
    remaining
        Slices that are still to be copied.
    needed_bytes, seconds
        Estimates for these, by converting a few of them into a folder that is removed; NaN seconds
        where none of them can be read.
    free_bytes
        What the disk has left.
    """

    shapes: tuple[tuple[int, ...], ...]
    remaining: tuple[int, ...]
    needed_bytes: int
    seconds: float
    free_bytes: int

    def __str__(self) -> str:
        took = "an unknown time" if math.isnan(self.seconds) else time_words(self.seconds)
        count = len(self.remaining)
        return (
            f"{count} slice{'s' * (count != 1)} to copy: about {took} and"
            f" {self.needed_bytes / 1e9:.1f} GB, of {self.free_bytes / 1e9:.1f} GB that are free."
        )

    def require_space(self, folder: Path) -> None:
        """Check that the conversion fits on the disk.

        Raises
        ------
        FossilError
            Where it does not, with both figures.
        """
        if self.needed_bytes > self.free_bytes:
            raise FossilError(
                f"The disk is too small to convert the stack to {folder}",
                expected=f"about {self.needed_bytes / 1e9:.1f} GB",
                found=f"{self.free_bytes / 1e9:.1f} GB free",
                advice="Free some space, or keep working with the original files.",
            )


def plan_conversion(
    stack: SectionStack,
    folder: Path,
    *,
    again: Collection[int] = (),
    spread: Spreader = one_by_one,
) -> ConversionPlan:
    """Estimate time and size of a conversion, from a few slices that are converted beside it.

    Raises
    ------
    FossilError
        Where memory does not suffice, or `folder` holds something else.
    """
    require_memory(_SLICES_HELD * stack.slice_bytes, f"converting {stack.path}")
    shapes = pyramid_shapes(stack.shape)
    with explained(folder, "Looking for space for"):
        nearest = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        free = shutil.disk_usage(nearest).free
        # One name for all runs: what a killed one left is removed.
        place = nearest / f".{folder.name}.estimate"
        shutil.rmtree(place, ignore_errors=True)
    done = converted(stack, folder) - {*again}
    remaining = [z for z in range(len(stack)) if z not in done]
    count = min(_PROBES, -(-len(remaining) // 10))
    chosen = [remaining[(2 * i + 1) * len(remaining) // (2 * count)] for i in range(count)]
    size, seconds = _probe(stack, place, chosen, spread) if chosen else (0.0, 0.0)
    left = len(remaining)
    return ConversionPlan(
        shapes, tuple(remaining), int(left * size * _MARGIN), left * seconds, free
    )


def _probe(
    stack: SectionStack, place: Path, chosen: list[int], spread: Spreader
) -> tuple[float, float]:
    """Return bytes and seconds of a slice, by converting some into a folder that is removed."""
    try:
        with explained(place, "Estimating in"):
            _arrays(_group(stack, place, StackGeometry(1, 1)), stack)
            before = sum(p.stat().st_size for p in place.rglob("*") if p.is_file())
            times, failed = [time.perf_counter()], 0
            for _, copied in spread(copier, (stack.record(), place), chosen):
                times.append(time.perf_counter())
                failed += copied.error is not None
            whole = sum(p.stat().st_size for p in place.rglob("*") if p.is_file()) - before
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if failed == len(chosen):
        # As much as it takes without compression, with all levels: 1 + 1/4 + 1/16 + ...
        return stack.slice_bytes * 4 / 3, math.nan
    first = _WARMING if len(chosen) > _WARMING else 0
    seconds = (times[-1] - times[first]) / (len(chosen) - first)
    return whole / (len(chosen) - failed), seconds


def convert_stack(
    stack: SectionStack,
    folder: Path,
    geometry: StackGeometry,
    *,
    again: Collection[int] = (),
    plan: ConversionPlan | None = None,
    spread: Spreader = one_by_one,
    written: Callable[[int, Copied], None] = lambda z, copied: None,
    job: Job = QUIET,
) -> dict[int, FossilError]:
    """Write a stack as OME-Zarr 0.5 into `folder`, going on where an earlier run stopped.

    Slices that a stack has more than when it was converted are added, those that could not be read
    then are tried again.

    Parameters
    ----------
    again
        Slices that are written anew where an earlier run has written them.
    plan
        That of `plan_conversion`, where it was made already.
    written
        Called for each slice that was written, so that an interrupted run knows of it.

    Returns
    -------
    Slices that could not be read, and why. `open_stack` opens the folder with the names of the
    original slices; reading one of these raises an error.

    Raises
    ------
    FossilError
        Where no slice or many in a row cannot be read, the disk is too small, or `folder` holds
        something else.
    CancelledError
        Where the user asked to stop; finished slices are kept.
    """
    with explained(folder, "Clearing"):
        # What zarr was writing when an earlier run was killed.
        for unfinished in folder.rglob("*.partial"):
            unfinished.unlink(missing_ok=True)
    plan = plan or plan_conversion(stack, folder, again=again, spread=spread)
    # A run may have been killed between its last slice and its end.
    if not plan.remaining and not (folder / _PROGRESS).exists():
        return {}
    plan.require_space(folder)
    done = converted(stack, folder)
    failed: dict[int, FossilError] = {}
    in_a_row = 0
    with explained(folder, "Writing"):
        group = _group(stack, folder, geometry)
        _arrays(group, stack)
        copies = spread(copier, (stack.record(), folder), list(plan.remaining))
        for z, copied in job.tracked(copies, len(plan.remaining), "Converting slices"):
            if copied.error is not None:
                failed[z], in_a_row = copied.error, in_a_row + 1
                if in_a_row == _LOST:
                    raise copied.error
                continue
            in_a_row = 0
            # First: a slice that counts as done is not written again to tell what it is a copy of.
            written(z, copied)
            if z not in done:
                done.add(z)
                write_json(folder / _PROGRESS, {"slices": format_slices([*done])})
        if not done:
            raise next(iter(failed.values()))
        missing = {str(z): str(failed[z]) for z in sorted(failed.keys() - done)}
        group.attrs[ATTRIBUTE] = _identity(stack) | {"complete": True, MISSING: missing}
        (folder / _PROGRESS).unlink(missing_ok=True)
    return failed


def copier(record: StackRecord, folder: Path) -> Handle:
    """Return what copies a slice of a stack into a folder that is made ready for it.

    Several threads may call it, each with slices of its own.
    """
    import zarr

    stack = open_stack(record.path, expected=record)
    # Each slice is read once.
    stack.cache.budget_bytes = 0
    group = zarr.open_group(str(folder), mode="r+")
    described: Any = group.attrs["ome"]
    levels = described["multiscales"][0]["datasets"]
    arrays: list[Any] = [group[level["path"]] for level in levels]

    def copy(z: int) -> Copied:
        # Before the pixels: a photograph that is replaced meanwhile is another one next time.
        stamp = stack.stamp(z)
        try:
            pixels = stack.read(z)
        except FossilError as error:
            return Copied(stamp, "", error)
        content = content_hash(pixels)
        with explained(folder, "Writing"):
            for level, array in enumerate(arrays):
                pixels = area_mean(pixels, 2) if level else pixels
                rows = array.shards[1]
                for y in range(0, array.shape[1], rows):
                    key = array.metadata.encode_chunk_key((z, y // rows) + (0,) * (array.ndim - 2))
                    _write_shard(folder / array.path / key, pixels[y : y + rows], array)
        return Copied(stamp, content)

    return copy


def _write_shard(file: Path, pixels: Pixels, array: zarr.Array[Any]) -> None:
    """Write the chunks of a part of a slice and their index, whole or not at all.

    zarr's own writing first reads the shard that is replaced, which may be damaged, and takes 1.8
    times the processor time.
    """
    import google_crc32c
    from numcodecs.zstd import Zstd

    codec = Zstd(level=_LEVEL, checksum=True)
    _, height, width, *colours = array.chunks
    _, rows, columns, *_ = array.shards or array.chunks
    places = np.zeros((rows // height, columns // width, 2), "<u8")
    places[:] = np.iinfo(np.uint64).max
    partial = file.with_name(f"{file.name}.{uuid.uuid4().hex}.partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as stream:
            for row, column in np.ndindex(*places.shape[:2]):
                part = pixels[row * height :, column * width :][:height, :width]
                if not part.size:
                    continue
                chunk = np.zeros((height, width, *colours), pixels.dtype)
                chunk[: part.shape[0], : part.shape[1]] = part
                encoded = codec.encode(chunk)
                places[row, column] = stream.tell(), len(encoded)
                stream.write(encoded)
            index = places.tobytes()
            stream.write(index + google_crc32c.value(index).to_bytes(4, "little"))
            # What is noted as done outlives a power cut; no cost of it was seen in whole runs.
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def verifier(folder: Path) -> Handle:
    """Return what reads a slice of a copy at all resolutions, whose checksums are compared."""
    stack = open_stack(folder)
    stack.cache.budget_bytes = 0
    arrays = stack.levels()

    def check(z: int) -> Copied:
        try:
            for array in arrays[1:]:
                # In this thread: a worker of dask would hand it to the scheduler of all of them.
                array[z].compute(scheduler="synchronous")
            return Copied("", content_hash(stack.read(z)))
        except FossilError as error:
            return Copied("", "", error)

    return check


def pyramid_shapes(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the shapes (z, y, x[, 3]) of the levels; y and x are halved to fit into one chunk."""
    shapes = [shape]
    while max(shapes[-1][1:3]) > _CHUNK:
        z, y, x, *colours = shapes[-1]
        shapes.append((z, -(-y // 2), -(-x // 2), *colours))
    return tuple(shapes)


def _identity(stack: SectionStack) -> dict[str, Any]:
    """Return what identifies the stack of a conversion; its original path may change."""
    return {"names": list(stack.names), "shape": list(stack.shape), "dtype": stack.dtype.name}


def converted(stack: SectionStack, folder: Path) -> set[int]:
    """Return the slices of a stack that are in a folder already; none where there is no folder."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return set()
    described = folder / "zarr.json"
    written = read_json(described, "a zarr group") if described.is_file() else {}
    for key in ("attributes", ATTRIBUTE):
        written = written.get(key) if isinstance(written, dict) else None
    written = written if isinstance(written, dict) else {}
    if not _is_start(written, _identity(stack)):
        raise FossilError(
            f"{folder} is in the way",
            expected="nothing, or the conversion of the same stack",
            found="another stack" if written else "other files",
            advice="Remove it, or choose another folder.",
        )
    count = len(written["names"])
    if written.get("complete"):
        return {*range(count)} - {int(z) for z in written.get(MISSING, {})}
    progress = folder / _PROGRESS
    if not progress.is_file():
        return set()
    kept = read_json(progress, "the progress of a conversion")
    # Earlier versions counted slices, which they finished in order.
    return {*range(int(kept["done"]))} if "done" in kept else {*parse_slices(kept["slices"], count)}


def _is_start(converted: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    """Return whether the stack of a conversion is the first slices of another one, or all."""
    names, shape = converted.get("names"), converted.get("shape")
    return bool(
        isinstance(names, list)
        and isinstance(shape, list)
        and names == whole["names"][: len(names)]
        and shape[1:] == whole["shape"][1:]
        and converted.get("dtype") == whole["dtype"]
    )


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, *(min(_CHUNK, n) for n in shape[1:3]), *shape[3:])


def _group(stack: SectionStack, folder: Path, geometry: StackGeometry) -> zarr.Group:
    """Open the group, or make it together with its metadata, which say what stack it is of."""
    import zarr

    if (folder / "zarr.json").is_file():
        group = zarr.open_group(str(folder), mode="r+")
        before: Any = group.attrs[ATTRIBUTE]
        if before["names"] != list(stack.names):
            # How far it came is known before it says that it is not complete any more.
            if before.get("complete"):
                done = format_slices([*converted(stack, folder)])
                write_json(folder / _PROGRESS, {"slices": done})
            group.attrs[ATTRIBUTE] = _identity(stack) | {"complete": False}
        return group
    levels = range(len(pyramid_shapes(stack.shape)))
    image = {
        "name": stack.path.stem,
        "axes": _axes(stack),
        "datasets": [_dataset(level, geometry, stack.rgb) for level in levels],
        "type": "area mean",
    }
    attributes = {
        "ome": {"version": "0.5", "multiscales": [image]},
        ATTRIBUTE: _identity(stack) | {"complete": False},
    }
    return zarr.create_group(str(folder), attributes=attributes, zarr_format=3)


def _arrays(group: zarr.Group, stack: SectionStack) -> None:
    """Make the arrays of all levels, or let them grow to the slices that the stack has now."""
    from zarr.codecs import ZstdCodec

    for level, shape in enumerate(pyramid_shapes(stack.shape)):
        chunks = _chunks(shape)
        # A shard is one slice rounded up to whole chunks, or a band of a very large one.
        band = _SHARD_BYTES // (math.prod(shape[2:]) * stack.dtype.itemsize * chunks[1])
        rows = chunks[1] * min(-(-shape[1] // chunks[1]), max(1, band))
        across = (-(-n // c) * c for n, c in zip(shape[2:], chunks[2:], strict=True))
        there: Any = group.get(str(level))
        if there is not None and there.shape != shape:
            there.resize(shape)
        group.require_array(
            str(level),
            shape=shape,
            dtype=stack.dtype,
            chunks=chunks,
            shards=(1, rows, *across),
            # The index of a shard has a checksum of its own.
            compressors=ZstdCodec(level=_LEVEL, checksum=True),
            dimension_names=[axis["name"] for axis in _axes(stack)],
        )


def _axes(stack: SectionStack) -> list[dict[str, str]]:
    space = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    return [*space, {"name": "c", "type": "channel"}] if stack.rgb else space


def _dataset(level: int, geometry: StackGeometry, rgb: bool) -> dict[str, Any]:
    """Size and place of the voxels of a level in um; the centre of its first pixel moves."""
    z, y, x = geometry.voxel_size.zyx
    factor, colours = 2**level, [1.0] * rgb
    moved = (factor - 1) / 2
    return {
        "path": str(level),
        "coordinateTransformations": [
            {"type": "scale", "scale": [z, y * factor, x * factor, *colours]},
            {"type": "translation", "translation": [0.0, y * moved, x * moved, *([0.0] * rgb)]},
        ],
    }
