"""Positions of the voxels of a stack in the rock: sizes in um, slice positions, handedness.

Axis order is (z, y, x) everywhere: z counts slices, y points down and x right in a photograph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from napari_fossiledit.errors import FossilError

#: Half-open rectangle of a slice in pixels: y0, x0, y1, x1.
Box = tuple[int, int, int, int]


class ZDirection(StrEnum):
    """Direction in which the slice number counts.

    ``INTO``: each slice is ground deeper into the rock, away from the camera, as in grinding.
    With x right and y down, (x, y, z) is then a right-handed frame and meshes need no mirroring.
    ``OUT_OF``: the first slice is the deepest; meshes are built with z reversed,
    because a mirrored fossil is a wrong fossil.
    """

    INTO = "into"
    OUT_OF = "out_of"


@dataclass(frozen=True)
class VoxelSize:
    """Edge lengths of a voxel in um, in axis order (z, y, x)."""

    z: float
    y: float
    x: float

    def __post_init__(self) -> None:
        for axis, value in zip("zyx", self.zyx, strict=True):
            if not (math.isfinite(value) and value > 0):
                raise FossilError(
                    f"The voxel size along {axis} cannot be used",
                    expected="a positive number of um",
                    found=value,
                )

    @property
    def zyx(self) -> tuple[float, float, float]:
        """The three sizes in um."""
        return (self.z, self.y, self.x)

    @property
    def volume_um3(self) -> float:
        """Volume of one voxel in cubic um."""
        return self.z * self.y * self.x


_ONE_A_SLICE = "Write a line for each slice, also for those that nobody traced."

SMALLEST_UM, LARGEST_UM = 1e-4, 1e9
"""An atom and a kilometre: nothing is photographed in smaller or larger steps."""


@dataclass(frozen=True)
class StackGeometry:
    """Pixel size, slice spacing and direction of a stack.

    Attributes
    ----------
    pixel_size_um
        Edge of a (square) pixel in um.
    slice_spacing_um
        Distance between the centres of neighbouring slices in um; the mean of them where
        `z_positions_um` states each.
    z_direction
        See `ZDirection`.
    z_positions_um
        Distance of each slice from the first in um; None where all steps are `slice_spacing_um`.
    """

    pixel_size_um: float
    slice_spacing_um: float
    z_direction: ZDirection = ZDirection.INTO
    z_positions_um: tuple[float, ...] | None = None

    def z_um(self, z: float) -> float:
        """Return the distance of slice `z` from the first, straight between two slices.

        Beyond the first and the last slice their steps go on.
        """
        positions = self.z_positions_um
        if positions is None or len(positions) < 2:
            return z * self.slice_spacing_um
        low = min(max(math.floor(z), 0), len(positions) - 2)
        return positions[low] + (z - low) * (positions[low + 1] - positions[low])

    def thickness_um(self, z: int) -> float:
        """Return how much rock slice `z` stands for: half-way to either neighbour."""
        return self.z_um(z + 0.5) - self.z_um(z - 0.5)

    @property
    def voxel_size(self) -> VoxelSize:
        """Voxel size in um, checked to be positive and finite."""
        return VoxelSize(self.slice_spacing_um, self.pixel_size_um, self.pixel_size_um)

    @property
    def handedness(self) -> int:
        """+1 where z counts into the rock, -1 where a mesh must be mirrored along z."""
        return 1 if self.z_direction is ZDirection.INTO else -1


def check_positions(positions: Sequence[float], count: int, file: object) -> tuple[float, ...]:
    """Return positions of slices in um, counted from the first.

    Raises
    ------
    FossilError
        Where there is not one for each of `count` slices, or they are not numbers that increase.
    """
    what = f"The positions of slices in {file} cannot be used"
    if len(positions) != count:
        raise FossilError(
            what, expected=f"{count}, one a slice", found=len(positions), advice=_ONE_A_SLICE
        )
    for z, (before, here) in enumerate(pairwise((-math.inf, *positions))):
        if not (math.isfinite(here) and here > before):
            after = f" after {before:g}" if z else ""
            raise FossilError(
                what,
                expected="numbers of um that increase",
                found=f"{here:g}{after} at slice {z}",
                advice="State distances from the first slice in the order of the slices;"
                " whether they count into the rock is said when the project is made.",
            )
    return tuple(float(z - positions[0]) for z in positions)


def check_slice(z: int, count: int, stack: str = "the stack") -> int:
    """Return `z`, or raise `FossilError` where `stack`, of `count` slices, does not have it."""
    if not 0 <= z < count:
        raise FossilError(f"Slice {z} is not in {stack}", expected=f"0 to {count - 1}", found=z)
    return z


def parse_slices(text: str, count: int, *, as_given: bool = False) -> list[int]:
    """Turn ``"0,2,4-9"`` into slice indices; ``"all"`` means every slice.

    Parameters
    ----------
    count
        Number of slices in the stack; indices must be below it.
    as_given
        Keep the order of the text instead of sorting, and raise where it names a slice twice.

    Raises
    ------
    FossilError
        Where a part is no number or range, or lies outside the stack.
    """
    if text.strip().lower() == "all":
        return list(range(count))
    slices: list[int] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise FossilError(
                "Slices cannot be read", expected="slices such as 0,2,4-9", found=repr(part)
            )
        low, high = int(first), int(last or first)
        if high >= count or low > high:
            raise FossilError(
                f"Slices {part} are not in the stack", expected=f"0 to {count - 1}", found=part
            )
        slices += range(low, high + 1)
    if not slices:
        raise FossilError(
            "No slice was chosen", expected="slices such as 0,2,4-9", found=repr(text)
        )
    unique = sorted(set(slices))
    if as_given and len(unique) < len(slices):
        twice = next(z for z in unique if slices.count(z) > 1)
        raise FossilError(f"Slice {twice} is named twice", expected="each once", found=repr(text))
    return slices if as_given else unique


def format_slices(slices: Sequence[int]) -> str:
    """Turn slice indices into the shortest text that `parse_slices` reads back."""
    runs: list[list[int]] = []
    for z in sorted(set(slices)):
        if runs and z == runs[-1][-1] + 1:
            runs[-1].append(z)
        else:
            runs.append([z])
    return ",".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


@dataclass(frozen=True)
class Region:
    """A rectangle in a slice in pixels, half open: rows y0 to y1, columns x0 to x1.

    ``None`` leaves a side open.
    """

    x0: int | None = None
    x1: int | None = None
    y0: int | None = None
    y1: int | None = None

    @classmethod
    def parse(cls, text: str) -> Region:
        """Read ``"x0:x1,y0:y1"``, where each number and the second pair may be left out.

        Examples
        --------
        >>> Region.parse(":1600")
        Region(x0=None, x1=1600, y0=None, y1=None)
        """
        pairs = text.split(",")
        try:
            bounds = [int(b) if b.strip() else None for p in pairs for b in p.split(":", 1)]
            region = cls(*bounds)
        except (ValueError, TypeError) as error:
            raise FossilError(
                "The region cannot be read", expected="x0:x1,y0:y1, e.g. :1600", found=repr(text)
            ) from error
        if len(bounds) != 2 * len(pairs) or region.is_empty:
            raise FossilError(
                "The region is empty or incomplete", expected="x0:x1,y0:y1", found=text
            )
        return region

    @property
    def is_empty(self) -> bool:
        """True where the sides leave nothing between them or a side is negative."""
        return _crossed(self.x0, self.x1) or _crossed(self.y0, self.y1)

    def slices(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """Index of the rectangle in an array of `shape` (y, x), clipped to it."""
        rows = slice(*slice(self.y0, self.y1).indices(shape[0])[:2])
        columns = slice(*slice(self.x0, self.x1).indices(shape[1])[:2])
        return rows, columns

    def __str__(self) -> str:
        sides = ["" if v is None else str(v) for v in (self.x0, self.x1, self.y0, self.y1)]
        return f"{sides[0]}:{sides[1]},{sides[2]}:{sides[3]}"


def _crossed(low: int | None, high: int | None) -> bool:
    if (low is not None and low < 0) or (high is not None and high < 0):
        return True
    return low is not None and high is not None and low >= high
