"""Where photographs lie in the common frame of a stack: small motions within the plane.

A photograph is shifted and turned; sizes stay. Positions are (y, x) in pixels from the centre of
the first pixel. Everything that knows slices, pixels or masks, sees them in the common frame, which
has the size of the photographs; what moves out of it is cut off, and what moves in is black.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError

Matrix = NDArray[np.float64]
#: A turn that moves no pixel of a large slice by a hundredth of a pixel, in degrees.
_NO_TURN = 1e-5


@dataclass(frozen=True)
class Placement:
    """A shift, after a turn about the middle of the slice.

    Attributes
    ----------
    dy, dx
        Shift down and to the right in pixels.
    degrees
        Turn from the x axis towards the y axis: clockwise as seen on the screen.
    """

    dy: float = 0.0
    dx: float = 0.0
    degrees: float = 0.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in (self.dy, self.dx, self.degrees)):
            raise FossilError(
                "A photograph cannot be placed so",
                expected="numbers of pixels and degrees",
                found=f"{self.dy:g}, {self.dx:g} px, {self.degrees:g} degrees",
            )

    def __str__(self) -> str:
        return f"{self.dy:+.2f} px down, {self.dx:+.2f} px right, {self.degrees:+.3f} degrees"

    @property
    def matrix(self) -> Matrix:
        """The turn, for columns (y, x)."""
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        return np.array([[cos, sin], [-sin, cos]])

    @property
    def shift(self) -> Matrix:
        """The shift (y, x)."""
        return np.array([self.dy, self.dx])

    @property
    def is_none(self) -> bool:
        """True where nothing moves."""
        return self == Placement()

    @property
    def whole(self) -> tuple[int, int] | None:
        """The shift where it is one of whole pixels without a turn: values stay as they are."""
        if abs(self.degrees) > _NO_TURN or self.dy % 1 or self.dx % 1:
            return None
        return int(self.dy), int(self.dx)

    @property
    def inverse(self) -> Placement:
        """The motion that brings everything back."""
        back = -self.matrix.T @ self.shift
        return Placement(float(back[0]), float(back[1]), -self.degrees)

    def after(self, first: Placement) -> Placement:
        """Return the motion that does `first` and then this one."""
        moved = self.matrix @ first.shift + self.shift
        return Placement(float(moved[0]), float(moved[1]), self.degrees + first.degrees)

    def points(self, points: Matrix, shape: tuple[int, int]) -> Matrix:
        """Return where points (n, 2) of a slice of `shape` come to lie."""
        middle = (np.array(shape) - 1) / 2
        moved: Matrix = (points - middle) @ self.matrix.T + middle + self.shift
        return moved

    def text(self) -> str:
        """Return the placement as it is kept beside what was made in it; empty where it is none."""
        return "" if self.is_none else json.dumps([self.dy, self.dx, self.degrees])

    @staticmethod
    @lru_cache(maxsize=4096)
    def parse(text: str) -> Placement:
        """Return the placement of a text.

        Raises
        ------
        ValueError, TypeError, FossilError
            Where it is none.
        """
        return Placement(*map(float, json.loads(text))) if text else Placement()


@dataclass(frozen=True)
class Alignment:
    """Placements of the photographs of a stack.

    Attributes
    ----------
    entries
        First slice and placement, by rising slices: each holds up to the next one, so that a jump
        is one entry. Slices before the first entry lie as they are.
    """

    entries: tuple[tuple[int, Placement], ...] = ()

    @classmethod
    def of(cls, placements: Mapping[int, Placement]) -> Self:
        """Return the alignment of placements by their first slices; what repeats is left out."""
        entries: list[tuple[int, Placement]] = []
        for z, placement in sorted(placements.items()):
            if placement != (entries[-1][1] if entries else Placement()):
                entries.append((z, placement))
        return cls(tuple(entries))

    def at(self, z: int) -> Placement:
        """Return where slice `z` lies."""
        before = bisect_right(self.entries, z, key=lambda entry: entry[0])
        return self.entries[before - 1][1] if before else Placement()

    def moved(self, z: int, motion: Placement, *, alone: bool = False) -> Alignment:
        """Return the alignment after slice `z` and all that follow are moved; or it alone."""
        kept = {n: p for n, p in self.entries if n < z}
        rest = {n: p for n, p in self.entries if n > z}
        if alone:
            return Alignment.of(kept | {z + 1: self.at(z + 1), z: motion.after(self.at(z))} | rest)
        return Alignment.of(
            kept | {n: motion.after(p) for n, p in ({z: self.at(z)} | rest).items()}
        )

    def within(self, first: int, last: int, found: Alignment) -> Alignment:
        """Return the alignment after slices `first` to `last` are laid anew, as `found` lays them.

        `found` tells how they lie to each other. The first stays where it is, and what follows the
        last one follows it.
        """
        base = self.at(first).after(found.at(first).inverse)
        laid = {z: base.after(found.at(z)) for z in range(first + 1, last + 1)}
        laid[first] = self.at(first)
        rest = {last + 1: self.at(last + 1)} | {z: p for z, p in self.entries if z > last}
        lay = self.at(last)
        if laid[last] != lay:
            motion = laid[last].after(lay.inverse)
            # Rounded, what lies as the last one would lie beside it.
            rest = {z: laid[last] if p == lay else motion.after(p) for z, p in rest.items()}
        return Alignment.of({z: p for z, p in self.entries if z < first} | laid | rest)

    def text(self) -> str:
        """Return the alignment as the project keeps it."""
        return json.dumps([[z, p.dy, p.dx, p.degrees] for z, p in self.entries])

    @staticmethod
    @lru_cache(maxsize=64)
    def parse(text: str) -> Alignment:
        """Return the alignment of a text.

        Raises
        ------
        FossilError
            Where it is none.
        """
        try:
            return Alignment.of({int(z): Placement(*map(float, p)) for z, *p in json.loads(text)})
        except (ValueError, TypeError) as error:
            raise FossilError(
                "The alignment of the slices is damaged",
                expected="slices with two shifts and a turn",
                found=text[:60],
                advice="'fossiledit stack align --how none' forgets it.",
            ) from error


def from_points(here: Iterable[tuple[float, float]], there: Iterable[tuple[float, float]],
                shape: tuple[int, int]) -> Placement:  # fmt: skip
    """Return the motion that brings points `here` (y, x) to lie `there`, in least squares.

    One pair gives a shift, two or more also the turn (Kabsch 1976, Acta Cryst. A32, 922).

    Raises
    ------
    FossilError
        Where there are no pairs, or all points lie at one place.
    """
    a, b = (np.array(list(points), float).reshape(-1, 2) for points in (here, there))
    if not len(a) or len(a) != len(b):
        raise FossilError(
            "Points cannot be laid over each other",
            expected="as many points in one slice as in the other, at least one",
            found=f"{len(a)} and {len(b)}",
        )
    degrees = 0.0
    if len(a) > 1:
        from_a, from_b = a - a.mean(axis=0), b - b.mean(axis=0)
        if min(np.abs(from_a).max(), np.abs(from_b).max()) < 1:
            raise FossilError(
                "Points cannot be laid over each other",
                expected="points at some distance from each other",
                found="all at one place",
            )
        cross = from_a[:, 1] @ from_b[:, 0] - from_a[:, 0] @ from_b[:, 1]
        degrees = math.degrees(math.atan2(cross, (from_a * from_b).sum()))
    turned = Placement(0, 0, degrees).points(a, shape)
    dy, dx = (b - turned).mean(axis=0)
    return Placement(float(dy), float(dx), degrees)


def placed(
    image: NDArray[Any],
    placement: Placement,
    whole: tuple[int, int],
    part: tuple[slice, slice] | None = None,
    *,
    factor: float | Matrix = 1,
    origin: tuple[int, int] = (0, 0),
) -> NDArray[Any]:
    """Return an image as it lies in the common frame, in between by straight lines.

    Parameters
    ----------
    image
        (y, x) or (y, x, colours); of a level of a pyramid, or a part of it that begins at `origin`.
    whole
        Height and width of the photograph at full size, in which `placement` is told.
    part
        Rows and columns of the level that are wanted; None: all of the image.
    factor
        How many pixels of the photograph a pixel of the level spans, down and across.
    """
    from scipy.ndimage import affine_transform

    rows, columns = part or (slice(0, image.shape[0]), slice(0, image.shape[1]))
    start = np.array([rows.start, columns.start], float)
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    back, offset = _back(placement, whole, factor)
    offset = offset + back @ start - np.array(origin)
    if np.allclose(back, np.eye(2), atol=1e-12) and np.allclose(offset, np.rint(offset)):
        return _shifted(image, np.rint(offset).astype(int), shape)
    if not image.size:
        # A part that lies beyond the edge of the photograph.
        return np.zeros((*shape, *image.shape[2:]), image.dtype)
    planes = image.reshape(*image.shape[:2], -1)
    out = np.empty((*shape, planes.shape[2]), image.dtype)
    for n in range(planes.shape[2]):
        affine_transform(planes[..., n], back, offset, shape, out[..., n], order=1)
    return out.reshape(*shape, *image.shape[2:])


def source_part(
    placement: Placement, whole: tuple[int, int], part: tuple[slice, slice],
    factor: float | Matrix, shape: tuple[int, int],
) -> tuple[slice, slice]:  # fmt: skip
    """Return the rows and columns of a level of `shape` that `placed` needs for a part."""
    back, offset = _back(placement, whole, factor)
    rows, columns = part
    edges = np.array([[rows.start, columns.start], [rows.stop - 1, columns.stop - 1]], float)
    corners = np.array([[y, x] for y in edges[:, 0] for x in edges[:, 1]])
    found = corners @ back.T + offset
    low, high = np.floor(found.min(axis=0)) - 1, np.ceil(found.max(axis=0)) + 2
    (y0, x0), (y1, x1) = (np.clip(edge, 0, shape).astype(int) for edge in (low, high))
    return slice(int(y0), int(y1)), slice(int(x0), int(x1))


def _back(
    placement: Placement, whole: tuple[int, int], factor: float | Matrix
) -> tuple[Matrix, Matrix]:
    """Return matrix and offset from places of a level in the common frame to places of the image.

    The middle of pixel i of a level lies at (i + 1/2) factor - 1/2 of the photograph.
    """
    middle = (np.array(whole) - 1) / 2
    back = placement.matrix.T
    offset = middle - back @ (middle + placement.shift)
    spans = np.broadcast_to(np.asarray(factor, float), 2)
    half = (spans - 1) / 2
    level: Matrix = (back @ half + offset - half) / spans
    return back * spans / spans[:, None], level


def _shifted(image: NDArray[Any], offset: NDArray[np.int_], shape: tuple[int, int]) -> NDArray[Any]:
    out = np.zeros((*shape, *image.shape[2:]), image.dtype)
    low = np.maximum(0, -offset)
    high = np.minimum(shape, np.array(image.shape[:2]) - offset)
    if (high > low).all():
        (y0, x0), (y1, x1) = low, high
        dy, dx = offset
        out[y0:y1, x0:x1] = image[y0 + dy : y1 + dy, x0 + dx : x1 + dx]
    return out
