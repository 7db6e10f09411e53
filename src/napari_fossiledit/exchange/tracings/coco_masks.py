"""Masks of COCO annotations: run lengths of several kinds, and polygons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from pycocotools import mask as coco

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.coco_writer import code_of
from napari_fossiledit.exchange.tracings.label_studio import decode_brush
from napari_fossiledit.exchange.tracings.tracing_file import nearest, size_text
from napari_fossiledit.masks import Mask
from napari_fossiledit.masks.rle import intersections, run_lengths, union

Box = tuple[int, int, int, int]

#: Share of a polygon within another one from which it is a hole of that: where both touch, their
#: pixels differ by rounding.
_WITHIN = 0.98
#: Share of another one from which a polygon within is that one again, drawn a second time: the
#: cavities of archaeocyathids, whose walls are thinnest, are smaller.
_THE_SAME = 0.95
#: Pixels by which an outline may reach out of a slice before it is told: tools round.
_ROUNDING = 1


class Decoded(NamedTuple):
    """What a ``segmentation`` says.

    Attributes
    ----------
    mask
        The mask, cut off at the borders of the slice; it may be empty.
    notes
        Polygons that were left out of an otherwise good mask.
    holes
        How many polygons were cut out of others.
    cut
        Whether it reaches out of the slice.
    complete
        False where one of the polygons in `notes` had an area.
    """

    mask: Mask
    notes: tuple[str, ...] = ()
    holes: int = 0
    cut: bool = False
    complete: bool = True


def read_segmentation(code: Any, shape: tuple[int, int], *, fill_holes: bool = False) -> Decoded:
    """Decode a mask.

    Parameters
    ----------
    code
        The value of ``segmentation``.
    shape
        Rows and columns (y, x) of the slice.
    fill_holes
        Add up all polygons, as pycocotools does. Else a polygon inside another one is a hole, and
        one inside that an island.

    Raises
    ------
    FossilError
        Where the code is broken or of another size.
    """
    if isinstance(code, dict):
        return Decoded(_from_runs(code, shape))
    if isinstance(code, list):
        return _from_polygons(code, shape, fill_holes)
    raise FossilError(
        "The segmentation cannot be read",
        expected="polygons or run lengths",
        found="nothing" if code is None else type(code).__name__,
    )


def _from_runs(code: dict[str, Any], shape: tuple[int, int]) -> Mask:
    size, counts = code.get("size"), code.get("counts")
    if size != list(shape):
        raise FossilError(
            "The run-length code is of another size",
            expected=size_text(shape),
            found=size_text(tuple(size))
            if isinstance(size, list) and len(size) == 2
            else repr(size)[:60],
        )
    if "rle" in code:
        return decode_brush(code["rle"], shape)
    if isinstance(counts, str):
        return Mask.from_counts(run_lengths(counts.encode(errors="surrogatepass")).tolist(), shape)
    if isinstance(counts, list) and all(type(c) is int for c in counts):
        return Mask.from_counts(counts, shape)
    raise FossilError(
        "The run-length code cannot be read",
        expected="counts as text or as whole numbers",
        found=type(counts).__name__,
    )


def _from_polygons(code: list[Any], shape: tuple[int, int], fill_holes: bool) -> Decoded:
    """Rasterise polygons as COCO means them: pixel 0 reaches from 0 to 1."""
    parts = polygons(code)
    faults = [_fault(part, shape) for part in parts]
    good = [part for part, (fault, _) in zip(parts, faults, strict=True) if not fault]
    notes = tuple(f"polygon {n} {fault}" for n, (fault, _) in enumerate(faults, 1) if fault)
    if not good:
        raise FossilError("; ".join(notes) or "There is no polygon", expected="a closed outline")
    masks = [Mask(shape, code["counts"]) for code in coco.frPyObjects(good, *shape)]
    mask, holes = (union(masks, shape), 0) if fill_holes else _with_holes(masks, shape)
    reach = [_reach(part) for part in good]
    cut = any(
        min(x0, y0) < -_ROUNDING or x1 > shape[1] + _ROUNDING or y1 > shape[0] + _ROUNDING
        for x0, y0, x1, y1 in reach
    )
    return Decoded(mask, notes, holes, cut, not any(area for _, area in faults))


def scaled(entry: dict[str, Any], size: tuple[int, int], shape: tuple[int, int]) -> dict[str, Any]:
    """Return an annotation of an image of `size` (y, x) for slices of `shape`.

    Polygons are scaled before they become pixels; run lengths get the nearest pixel. What is
    broken stays as it is, for the reader to tell.
    """

    def points(values: Any) -> Any:
        if not isinstance(values, list) or not all(type(v) in (int, float) for v in values):
            return values
        return [v * shape[1 - n % 2] / size[1 - n % 2] for n, v in enumerate(values)]

    code = entry.get("segmentation")
    if isinstance(code, list):
        code = [points(part) for part in polygons(code)]
    elif isinstance(code, dict):
        code = scaled_code(code, size, shape)
    return entry | {"segmentation": code, "bbox": points(entry.get("bbox"))}


def scaled_code(
    code: dict[str, Any], size: tuple[int, int], shape: tuple[int, int]
) -> dict[str, Any]:
    """Return run lengths of an image of `size` (y, x) for slices of `shape`."""
    try:
        mask = _from_runs(code, size)
    except FossilError:
        return code
    y0, x0, y1, x1 = mask.box
    rows, columns = (nearest(n, of) for n, of in zip(shape, size, strict=True))
    (rows, top), (columns, left) = (
        (at[(at >= low) & (at < high)] - low, int(np.searchsorted(at, low)))
        for at, low, high in ((rows, y0, y1), (columns, x0, x1))
    )
    return code_of(Mask.from_crop(mask.crop()[np.ix_(rows, columns)], (top, left), shape))


def polygons(code: list[Any]) -> list[Any]:
    """Return the polygons of a segmentation; some tools write the only one without a list."""
    return [code] if code and not isinstance(code[0], list) else code


def _with_holes(parts: Sequence[Mask], shape: tuple[int, int]) -> tuple[Mask, int]:
    """Add up polygons, less those that lie within an odd number of others.

    Polygons have no holes in COCO, so tools that know holes write their outline as one more
    polygon of the annotation.
    """
    areas = np.array([part.area for part in parts])
    shared = intersections(parts, parts)
    inside = (shared >= _WITHIN * areas[:, None]) & (areas[:, None] < _THE_SAME * areas)
    odd = inside.sum(axis=1) % 2 == 1
    mask = Mask.empty(shape)
    # The outermost first: an island lies in a hole.
    for n in np.argsort(-areas, kind="stable").tolist():
        mask = mask - parts[n] if odd[n] else mask | parts[n]
    return mask, int(np.count_nonzero(odd & (areas > 0)))


def _fault(part: Any, shape: tuple[int, int]) -> tuple[str, bool]:
    """Return what is wrong with one polygon, empty where nothing is, and whether it has an area."""
    if not isinstance(part, list) or not all(type(v) in (int, float) for v in part):
        return "is no list of numbers", True
    if len(part) % 2 or len(part) < 6:
        return f"has {len(part) / 2:g} points, expected three or more", len(part) >= 6
    # pycocotools holds points along each edge, five a pixel: an edge to far away takes all memory.
    reach = 2 * max(shape)
    if not all(-reach <= v <= 2 * reach for v in part):
        return "reaches far beyond the slice", True
    if min(part) >= 0 and max(part) <= 1:
        return (
            "lies within the first pixel: is it in shares of the slice instead of pixels?",
            True,
        )
    return "" if np.ptp(part[::2]) and np.ptp(part[1::2]) else "encloses nothing", False


def _reach(part: Sequence[float]) -> tuple[float, float, float, float]:
    return min(part[::2]), min(part[1::2]), max(part[::2]), max(part[1::2])


def place_of(entry: dict[str, Any], shape: tuple[int, int]) -> Box | None:
    """Return the box (y0, x0, y1, x1) in which an annotation that cannot be read lies.

    Taken from its field ``bbox``, else from its polygons; None where neither tells. The box of
    what lies outside the slice is empty.
    """
    limit = 2 * max(shape)
    box = entry.get("bbox")
    if _are_numbers(box, limit) and len(box) == 4 and min(box[2:]) > 0:
        reach = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    else:
        code = entry.get("segmentation")
        parts = polygons(code) if isinstance(code, list) else []
        if not parts or not all(_are_numbers(p, limit) and len(p) >= 2 for p in parts):
            return None
        each = [_reach(part) for part in parts]
        reach = (
            min(r[0] for r in each),
            min(r[1] for r in each),
            max(r[2] for r in each),
            max(r[3] for r in each),
        )
        if reach[:2] == reach[2:]:
            # Of a lone point nobody knows how the outline went on.
            return None
    (x0, x1), (y0, y1) = (
        (min(max(int(np.floor(low)), 0), size), min(max(int(np.ceil(high)), 0), size))
        for low, high, size in ((reach[0], reach[2], shape[1]), (reach[1], reach[3], shape[0]))
    )
    return y0, x0, y1, x1


def _are_numbers(values: Any, limit: float) -> TypeGuard[list[float]]:
    """Return whether a list holds numbers near the slice; comparing leaves NaN out."""
    return isinstance(values, list) and all(
        type(v) in (int, float) and -limit <= v <= 2 * limit for v in values
    )
