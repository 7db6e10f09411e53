"""The three ways COCO writes a mask."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
from pycocotools import mask as coco

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.tracing_file import size_text
from napari_fossiledit.masks import Mask
from napari_fossiledit.masks.rle import run_lengths


def read_segmentation(code: Any, shape: tuple[int, int]) -> tuple[Mask, list[str]]:
    """Decode a mask: compressed or uncompressed run lengths, or polygons.

    Parameters
    ----------
    code
        The value of ``segmentation``.
    shape
        Rows and columns (y, x) of the slice.

    Returns
    -------
    mask, notes
        What of a polygon lies outside the slice is cut off. Notes tell of polygons that were
        left out of an otherwise good mask.

    Raises
    ------
    FossilError
        Where nothing is left, or the code is broken or of another size.
    """
    notes: list[str] = []
    if isinstance(code, dict):
        mask = _from_runs(code, shape)
    elif isinstance(code, list):
        mask, notes = _from_polygons(code, shape)
    else:
        raise FossilError(
            "The segmentation cannot be read",
            expected="polygons or run lengths",
            found=type(code).__name__,
        )
    if mask.area == 0:
        raise FossilError("The mask has no pixel in the slice")
    return mask, notes


def _from_runs(code: dict[str, Any], shape: tuple[int, int]) -> Mask:
    size, counts = code.get("size"), code.get("counts")
    if size != list(shape):
        raise FossilError(
            "The run-length code is of another size",
            expected=size_text(shape),
            found=size_text(tuple(size)) if _is_pair(size) else repr(size)[:60],
        )
    if isinstance(counts, str):
        return Mask.from_counts(run_lengths(counts.encode(errors="surrogatepass")).tolist(), shape)
    if isinstance(counts, list) and all(type(c) is int for c in counts):
        return Mask.from_counts(counts, shape)
    raise FossilError(
        "The run-length code cannot be read",
        expected="counts as text or as whole numbers",
        found=type(counts).__name__,
    )


def _is_pair(size: Any) -> TypeGuard[list[Any]]:
    return isinstance(size, list) and len(size) == 2


def _from_polygons(code: list[Any], shape: tuple[int, int]) -> tuple[Mask, list[str]]:
    """Rasterise polygons as COCO means them.

    Pixel 0 reaches from 0 to 1, and several polygons are several parts of one instance.
    """
    parts = [code] if code and not isinstance(code[0], list) else code
    reasons = [_fault(part, shape) for part in parts]
    good = [p for p, reason in zip(parts, reasons, strict=True) if not reason]
    notes = [f"polygon {n} {r}" for n, r in enumerate(reasons, 1) if r]
    if not good:
        raise FossilError("; ".join(notes) or "There is no polygon", expected="a closed outline")
    merged = coco.merge(coco.frPyObjects(good, *shape))
    return Mask(shape, merged["counts"]), notes


def _fault(part: Any, shape: tuple[int, int]) -> str:
    """Tell what is wrong with one polygon, or nothing."""
    if not isinstance(part, list) or not all(type(v) in (int, float) for v in part):
        return "is no list of numbers"
    if len(part) % 2 or len(part) < 6:
        return f"has {len(part) / 2:g} points, expected three or more"
    reach = 2 * max(shape)
    if not all(-reach <= v <= 2 * reach for v in part):
        return "reaches far beyond the slice"
    return "" if np.ptp(part[::2]) and np.ptp(part[1::2]) else "encloses nothing"
