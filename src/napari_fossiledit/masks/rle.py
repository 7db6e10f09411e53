"""One binary mask of a slice as COCO's compressed run-length code.

Holes survive, a mask of a 15 Mpx slice takes a few hundred bytes, and set operations run on the
runs (pycocotools) without ever painting a whole slice. Runs are decoded here and not by
pycocotools, which leaves out every check and reads beyond the end of a broken code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from napari_fossiledit.errors import FossilError

BoolArray = NDArray[np.bool_]
Runs = NDArray[np.int64]

#: The code's alphabet (maskApi.c): characters from "0" on carry five bits, a bit that says that
#: another digit follows, and in the last digit the sign.
_FIRST, _MORE, _SIGN, _BITS = 48, 0x20, 0x10, 5
#: 2**60 pixels in one run: more than any slice has, and still an int64.
_MOST_DIGITS = 12
#: Masks that are decoded at once: a thousand of 300 bytes take 20 MB, as fast as more of them.
_TOGETHER = 1000


@dataclass(frozen=True)
class Mask:
    """A binary mask of a whole slice.

    Attributes
    ----------
    shape
        Height and width (y, x) of the slice in pixels.
    counts
        COCO compressed run lengths, column by column.
    """

    shape: tuple[int, int]
    counts: bytes

    @classmethod
    def from_array(cls, array: BoolArray) -> Mask:
        """Encode a boolean array (y, x)."""
        code = coco.encode(np.asfortranarray(array, dtype=np.uint8))
        return cls((array.shape[0], array.shape[1]), code["counts"])

    @classmethod
    def from_crop(cls, crop: BoolArray, origin: tuple[int, int], shape: tuple[int, int]) -> Mask:
        """Encode a crop (y, x) that lies at `origin` (y, x) of a slice of `shape`.

        The part of the crop outside the slice is dropped. Work and memory are those of the crop.
        """
        y0, x0 = max(origin[0], 0), max(origin[1], 0)
        foot, end = (max(s - o, 0) for s, o in zip(shape, origin, strict=True))
        crop = crop[y0 - origin[0] : foot, x0 - origin[1] : end]
        padded = np.zeros((crop.shape[0] + 2, crop.shape[1]), dtype=np.int8)
        padded[1:-1] = crop
        change = np.diff(padded, axis=0).T
        # Column-major index in the slice of the first and of the one-past-last pixel of each run.
        starts, ends = (
            (columns + x0) * shape[0] + rows + y0
            for columns, rows in (np.nonzero(change == step) for step in (1, -1))
        )
        # Runs that end at the foot of a column go on at the head of the next one.
        joined = np.flatnonzero(ends[:-1] == starts[1:])
        edges = np.stack([np.delete(starts, joined + 1), np.delete(ends, joined)], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=shape[0] * shape[1])
        used = counts[:-1] if counts[-1] == 0 else counts
        return cls.from_counts([int(c) for c in used], shape)

    @classmethod
    def from_counts(cls, counts: Sequence[int], shape: tuple[int, int]) -> Mask:
        """Encode uncompressed column-major run lengths, background first.

        Raises
        ------
        FossilError
            Where the runs are negative or do not add up to the slice.
        """
        if min(counts, default=0) < 0 or sum(counts) != shape[0] * shape[1]:
            raise FossilError(
                "A run-length code does not fit its slice",
                expected=f"{shape[0] * shape[1]} pixels ({shape[0]} x {shape[1]})",
                found=f"{sum(counts)} pixels in {len(counts)} runs",
            )
        code = coco.frPyObjects({"size": list(shape), "counts": list(counts)}, *shape)
        return cls(shape, code["counts"])

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> Mask:
        """Make a mask without a pixel."""
        return cls.from_counts([shape[0] * shape[1]], shape)

    @property
    def coco(self) -> dict[str, Any]:
        """The mask as pycocotools takes it."""
        return {"size": list(self.shape), "counts": self.counts}

    @cached_property
    def area(self) -> int:
        """Number of pixels."""
        return int(coco.area(self.coco))

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """Bounding box (y0, x0, y1, x1) in pixels, half open; all 0 where the mask is empty."""
        x, y, width, height = (int(v) for v in coco.toBbox(self.coco))
        return (y, x, y + height, x + width)

    def to_array(self) -> BoolArray:
        """Decode to a boolean array (y, x) of the whole slice."""
        return np.asarray(coco.decode(self.coco), dtype=np.bool_)

    def crop(self, box: tuple[int, int, int, int] | None = None) -> BoolArray:
        """Decode the part inside `box` (y0, x0, y1, x1), by default the mask's own box.

        Work and memory are those of the box: decoding its columns as a whole takes four times as
        long for an instance of a large slice, and each stroke does it for all it touches.
        """
        y0, x0, y1, x1 = self.box if box is None else box
        part: BoolArray = stacked([self], (y0, x0, min(y1, self.shape[0]), x1)).view(np.bool_)[0]
        return part

    def runs(self) -> Runs:
        """Decode to run lengths column by column, background first.

        Raises
        ------
        FossilError
            Where the code does not fit the slice. pycocotools, which does all the rest, would read
            or write beyond the slice.
        """
        runs, _ = _fitting([self])
        return runs

    def __or__(self, other: Mask) -> Mask:
        return union([self, other], self.shape)

    def __and__(self, other: Mask) -> Mask:
        merged = coco.merge([self.coco, other.coco], intersect=True)
        return Mask(self.shape, merged["counts"])

    def __sub__(self, other: Mask) -> Mask:
        runs = run_lengths(other.counts).tolist()
        rest = runs[1:] if runs[0] == 0 else [0, *runs]
        return self & Mask.from_counts(rest, self.shape)


def run_lengths(counts: bytes) -> Runs:
    """Decode a compressed run-length code to its run lengths, background first.

    Each number is written in digits of five bits, lowest first, as ASCII from ``"0"`` on; from the
    fourth number on it is the difference to the last but one (pycocotools, ``maskApi.c``).

    Raises
    ------
    FossilError
        Where the text is no such code. pycocotools itself would read beyond its end.
    """
    return _decoded([counts])[0]


def _decoded(codes: Sequence[bytes]) -> tuple[Runs, Runs]:
    """Decode several codes at once: their run lengths, and how many each has."""
    digits = np.frombuffer(b"".join(codes), dtype=np.uint8).astype(np.int64) - _FIRST
    if digits.size == 0 or digits.min() < 0 or digits.max() > 2 * _MORE - 1:
        raise _broken("a character that is no digit" if digits.size else "nothing")
    last = np.flatnonzero((digits & _MORE) == 0)
    # Numbers that have ended before the end of each code.
    ended = np.searchsorted(last, np.cumsum([len(code) for code in codes]))
    counts = np.diff(ended, prepend=0)
    if counts.min() == 0 or not np.array_equal(
        last[ended - 1] + 1, np.cumsum([len(code) for code in codes])
    ):
        raise _broken("a code that breaks off")
    first = np.concatenate(([0], last[:-1] + 1))
    if int((last - first).max()) >= _MOST_DIGITS:
        raise _broken("a number that is too long")
    place = np.arange(digits.size) - np.repeat(first, last - first + 1)
    values = np.add.reduceat((digits & (_MORE - 1)) << (_BITS * place), first)
    # Two's complement where the sign bit is set.
    negative = (digits[last] & _SIGN) != 0
    values = np.where(negative, values - (1 << (_BITS * (last - first + 1))), values)
    runs = values.copy()
    code = np.repeat(np.arange(len(codes)), counts)
    position = np.arange(values.size) - np.repeat(ended - counts, counts)
    for odd in (1, 0):
        chosen = np.flatnonzero((position % 2 == odd) & (position > 0))
        sums = np.concatenate(([0], np.cumsum(values[chosen])))
        of = code[chosen]
        before = np.concatenate(([0], np.cumsum(np.bincount(of, minlength=len(codes)))))
        runs[chosen] = sums[1:] - sums[before[of]]
    return runs, counts


def _fitting(masks: Sequence[Mask]) -> tuple[Runs, Runs]:
    """Decode masks as `_decoded` does, or raise where one does not fit its slice."""
    runs, counts = _decoded([mask.counts for mask in masks])
    sizes = np.array([mask.shape[0] * mask.shape[1] for mask in masks])
    # The longest run as well: enough long ones add up to anything, in 64 bits.
    whole = np.add.reduceat(runs, np.cumsum(counts) - counts)
    wrong = np.flatnonzero(whole != sizes)
    if wrong.size or runs.min() < 0 or runs.max() > sizes.max():
        n = int(wrong[0]) if wrong.size else 0
        raise _broken(f"{int(whole[n])} pixels for a slice of {masks[n].shape}")
    return runs, counts


@dataclass(frozen=True)
class Pieces:
    """The pixels of masks of slices of one shape as vertical pieces of one pixel's width.

    Attributes
    ----------
    mask
        Which mask each belongs to, ascending.
    column, low, high
        Where it lies: in this column, from row `low` to before row `high`.
    """

    mask: Runs
    column: Runs
    low: Runs
    high: Runs

    @classmethod
    def of(cls, masks: Sequence[Mask]) -> Pieces:
        """Decode masks, all at once: one by one takes ten times as long.

        Raises
        ------
        FossilError
            Where a code is none, or does not fit its slice.
        """
        height, width = masks[0].shape
        runs, counts = _fitting(masks)
        edges = np.cumsum(runs)
        position = np.arange(runs.size) - np.repeat(np.cumsum(counts) - counts, counts)
        covered = np.flatnonzero((position % 2 == 1) & (runs > 0))
        starts, ends = edges[covered] - runs[covered], edges[covered]
        # A run that goes on in the next column is a piece in each. Columns of all masks are counted
        # on.
        first = starts // height
        pieces = (ends - 1) // height - first + 1
        run = np.repeat(np.arange(starts.size), pieces)
        columns = first[run] + np.arange(run.size) - (np.cumsum(pieces) - pieces)[run]
        low, high = (np.clip(rows[run] - columns * height, 0, height) for rows in (starts, ends))
        return cls(columns // width, columns % width, low, high)


def measure(masks: Sequence[Mask]) -> None:
    """Check the codes of masks, and compute their areas and boxes, at once.

    Raises
    ------
    FossilError
        Where a code is none, or does not fit its slice.
    """
    of_shape: dict[tuple[int, int], list[Mask]] = {}
    for mask in masks:
        if "area" not in vars(mask):
            of_shape.setdefault(mask.shape, []).append(mask)
    parts = (m[n : n + _TOGETHER] for m in of_shape.values() for n in range(0, len(m), _TOGETHER))
    for new in parts:
        pieces = Pieces.of(new)
        areas = np.zeros(len(new), np.int64)
        boxes = np.zeros((len(new), 4), np.int64)
        which, first = np.unique(pieces.mask, return_index=True)
        if which.size:
            lowest = (np.minimum.reduceat(v, first) for v in (pieces.low, pieces.column))
            highest = (np.maximum.reduceat(v, first) for v in (pieces.high, pieces.column + 1))
            areas[which] = np.add.reduceat(pieces.high - pieces.low, first)
            boxes[which] = np.stack([*lowest, *highest], axis=1)
        for mask, area, box in zip(new, areas.tolist(), boxes.tolist(), strict=True):
            # Where a cached property keeps its value.
            vars(mask).update(area=area, box=tuple(box))


def stacked(masks: Sequence[Mask], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Decode the part of masks of slices of one shape inside `box` (y0, x0, y1, x1).

    Work and memory are those of the box: decoding its columns as a whole takes four times as
    long for an instance of a large slice, and each stroke does it for all it touches.

    Returns
    -------
    array (n, y, x) of 0 and 1; 0 where the box lies outside the slice
    """
    y0, x0, y1, x1 = box
    pieces = Pieces.of(masks)
    low, high = (
        np.clip(rows, max(y0, 0), min(y1, masks[0].shape[0])) - y0
        for rows in (pieces.low, pieces.high)
    )
    x = pieces.column
    there = (x >= x0) & (x < x1) & (low < high)
    steps = np.zeros((len(masks), max(x1 - x0, 0), max(y1 - y0, 0) + 1), dtype=np.int8)
    place = (pieces.mask * steps.shape[1] + x - x0)[there] * steps.shape[2]
    flat = steps.reshape(-1)
    flat[place + low[there]] = 1
    flat[place + high[there]] -= 1
    # In one go: each column ends with 0.
    inside = np.cumsum(flat, dtype=np.int8).reshape(steps.shape).view(np.uint8)
    return np.ascontiguousarray(inside[:, :, :-1].swapaxes(1, 2))


def _broken(found: str) -> FossilError:
    return FossilError(
        "A run-length code is broken", expected="COCO compressed run lengths", found=found
    )


def overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    """Return whether two boxes (y0, x0, y1, x1), half open, share a pixel."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def union(masks: Iterable[Mask], shape: tuple[int, int]) -> Mask:
    """Union of any number of masks of one slice of `shape` (y, x); empty where there is none."""
    codes = [m.coco for m in masks]
    return Mask(shape, coco.merge(codes)["counts"]) if codes else Mask.empty(shape)


def intersections(left: Sequence[Mask], right: Sequence[Mask]) -> NDArray[np.int64]:
    """Pixels shared by each pair of masks.

    Returns
    -------
    array (len(left), len(right)) of int64
    """
    if not left or not right:
        return np.zeros((len(left), len(right)), dtype=np.int64)
    # With iscrowd, pycocotools divides by the area of the left mask instead of the union.
    share = coco.iou([m.coco for m in left], [m.coco for m in right], [1] * len(right))
    areas = np.array([m.area for m in left], dtype=np.float64)
    return np.rint(np.asarray(share) * areas[:, None]).astype(np.int64)


def iou_matrix(left: Sequence[Mask], right: Sequence[Mask]) -> NDArray[np.float64]:
    """Intersection over union of each pair, array (len(left), len(right)); 0 for empty masks."""
    shared = intersections(left, right)
    a = np.array([m.area for m in left], dtype=np.int64).reshape(-1, 1)
    b = np.array([m.area for m in right], dtype=np.int64).reshape(1, -1)
    total = a + b - shared
    overlap = np.zeros(shared.shape, dtype=np.float64)
    np.divide(shared, total, out=overlap, where=total > 0)
    return overlap
