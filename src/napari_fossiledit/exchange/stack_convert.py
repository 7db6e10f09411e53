"""A stack as an OME-Zarr 0.5 pyramid, written slice by slice; a stopped conversion goes on.

Level k of the pyramid has the area mean of 2^k x 2^k pixels; z is never reduced. Chunks are
(1, 512, 512, 3); all chunks of a slice share one file (a zarr shard; more where a slice is very
large), so that 3 000 slices do not become 200 000 files.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, read_json, write_json
from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.stacks import SectionStack
from napari_fossiledit.stacks.ome_zarr import ATTRIBUTE
from napari_fossiledit.stacks.pixels import Pixels, area_mean
from napari_fossiledit.stacks.section import require_memory

if TYPE_CHECKING:
    import zarr

_CHUNK = 512
#: Bytes of a slice that are compressed to estimate what all will take.
_SAMPLE_BYTES = 64 * 2**20
# Measured on a PNG of 100 megapixels: the slice, and the file that is decoded.
_SLICES_HELD = 2
#: Most bytes of pixels in one file: a shard is put together in memory.
_SHARD_BYTES = 64 * 2**20
_PROGRESS = "conversion.json"
# Compressed slices differ in size; what is left of the disk should also do for a project.
_MARGIN = 1.1


@dataclass(frozen=True)
class ConversionPlan:
    """Levels, space and progress of a conversion.

    Attributes
    ----------
    shapes
        Shape (z, y, x[, 3]) of each level, finest first.
    needed_bytes
        Estimate of what is still to be written, by compressing the middle slice.
    free_bytes
        What the disk has left.
    done
        Slices that an earlier run has finished.
    """

    shapes: tuple[tuple[int, ...], ...]
    needed_bytes: int
    free_bytes: int
    done: int

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


def plan_conversion(stack: SectionStack, folder: Path) -> ConversionPlan:
    """Estimate the size of a conversion, without writing anything.

    Raises
    ------
    FossilError
        Where the middle slice cannot be read, memory does not suffice, or `folder` holds something
        else.
    """
    import zarr

    require_memory(_SLICES_HELD * stack.slice_bytes, f"converting {stack.path}")
    shapes = pyramid_shapes(stack.shape)
    done = _finished(stack, folder)
    with explained(folder, "Looking for space for"):
        nearest = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        free = shutil.disk_usage(nearest).free
    pixels = _sample(stack.read(len(stack) // 2))
    middle = zarr.create_array(
        zarr.storage.MemoryStore(), data=pixels[np.newaxis], chunks=_chunks((1, *pixels.shape))
    )
    stored = middle.nbytes_stored() * (math.prod(stack.shape[1:]) / pixels.size)
    # Levels below the finest one add at most a third: 1/4 + 1/16 + ...
    share = sum(math.prod(s) for s in shapes) / math.prod(shapes[0])
    needed = (len(stack) - done) * stored * share * _MARGIN
    return ConversionPlan(shapes, int(needed), free, done)


def _sample(pixels: Pixels) -> Pixels:
    """Return rows of chunks from all over a slice, few enough to compress them in memory."""
    step = -(-pixels.nbytes // _SAMPLE_BYTES)
    rows = range(0, pixels.shape[0], _CHUNK * step)
    return np.concatenate([pixels[y : y + _CHUNK] for y in rows])


def convert_stack(
    stack: SectionStack,
    folder: Path,
    geometry: StackGeometry,
    *,
    again: Collection[int] = (),
    read: Callable[[int], Pixels] | None = None,
    written: Callable[[int], None] = lambda z: None,
    job: Job = QUIET,
) -> Path:
    """Write a stack as OME-Zarr 0.5 into `folder`, going on where an earlier run stopped.

    Slices that a stack has more than when it was converted are added.

    Parameters
    ----------
    again
        Slices that are written anew where an earlier run has written them.
    read
        Reads a slice; None: as the stack does.
    written
        Called for each slice that was written, so that an interrupted run knows of it.

    Returns
    -------
    The folder, which `open_stack` opens with the names of the original slices.

    Raises
    ------
    FossilError
        Where a slice cannot be read, the disk is too small, or `folder` holds something else.
    CancelledError
        Where the user asked to stop; finished slices are kept.
    """
    with explained(folder, "Clearing"):
        # What zarr was writing when an earlier run was killed.
        for partial in folder.rglob("*.partial"):
            partial.unlink(missing_ok=True)
    plan = plan_conversion(stack, folder)
    remaining = [*sorted(z for z in again if z < plan.done), *range(plan.done, len(stack))]
    # A run may have been killed between its last slice and its end.
    if not remaining and not (folder / _PROGRESS).exists():
        return folder
    plan.require_space(folder)
    with explained(folder, "Writing"):
        group = _group(stack, folder, geometry, plan.shapes)
        arrays = []
        for level, shape in enumerate(plan.shapes):
            chunks = _chunks(shape)
            # A shard is one slice rounded up to whole chunks, or a band of a very large one.
            band = _SHARD_BYTES // (math.prod(shape[2:]) * stack.dtype.itemsize * chunks[1])
            rows = chunks[1] * min(-(-shape[1] // chunks[1]), max(1, band))
            across = (-(-n // c) * c for n, c in zip(shape[2:], chunks[2:], strict=True))
            shards = (1, rows, *across)
            there: Any = group.get(str(level))
            if there is not None and there.shape != shape:
                there.resize(shape)
            array = group.require_array(
                str(level),
                shape=shape,
                dtype=stack.dtype,
                chunks=chunks,
                shards=shards,
                dimension_names=[axis["name"] for axis in _axes(stack)],
            )
            arrays.append(array)
        steps = job.tracked(remaining, len(remaining), "Converting slices")
        for z in steps:
            pixels = (read or stack.read)(z)
            for level, array in enumerate(arrays):
                pixels = area_mean(pixels, 2) if level else pixels
                rows = (array.shards or array.chunks)[1]
                for y in range(0, array.shape[1], rows):
                    array[z, y : y + rows] = pixels[y : y + rows]
            # First: a slice that counts as done is not written again to tell what it is a copy of.
            written(z)
            if z >= plan.done:
                write_json(folder / _PROGRESS, {"done": z + 1})
        group.attrs[ATTRIBUTE] = _identity(stack) | {"complete": True}
        (folder / _PROGRESS).unlink(missing_ok=True)
    return folder


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


def _finished(stack: SectionStack, folder: Path) -> int:
    """Count the slices of a stack that are in a folder already, 0 where there is none, or empty."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return 0
    described = folder / "zarr.json"
    converted = read_json(described, "a zarr group") if described.is_file() else {}
    for key in ("attributes", ATTRIBUTE):
        converted = converted.get(key) if isinstance(converted, dict) else None
    converted = converted if isinstance(converted, dict) else {}
    if not _is_start(converted, _identity(stack)):
        raise FossilError(
            f"{folder} is in the way",
            expected="nothing, or the conversion of the same stack",
            found="another stack" if converted else "other files",
            advice="Remove it, or choose another folder.",
        )
    if converted.get("complete"):
        return len(converted["names"])
    progress = folder / _PROGRESS
    if not progress.is_file():
        return 0
    return int(read_json(progress, "the progress of a conversion")["done"])


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


def _group(
    stack: SectionStack,
    folder: Path,
    geometry: StackGeometry,
    shapes: tuple[tuple[int, ...], ...],
) -> zarr.Group:
    """Open the group, or make it together with its metadata, which say what stack it is of."""
    import zarr

    if (folder / "zarr.json").is_file():
        group = zarr.open_group(str(folder), mode="r+")
        before: Any = group.attrs[ATTRIBUTE]
        if before["names"] != list(stack.names):
            # How far it came is known before it says that it is not complete any more.
            if before.get("complete"):
                write_json(folder / _PROGRESS, {"done": len(before["names"])})
            group.attrs[ATTRIBUTE] = _identity(stack) | {"complete": False}
        return group
    image = {
        "name": stack.path.stem,
        "axes": _axes(stack),
        "datasets": [_dataset(level, geometry, stack.rgb) for level in range(len(shapes))],
        "type": "area mean",
    }
    attributes = {
        "ome": {"version": "0.5", "multiscales": [image]},
        ATTRIBUTE: _identity(stack) | {"complete": False},
    }
    return zarr.create_group(str(folder), attributes=attributes, zarr_format=3)


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
