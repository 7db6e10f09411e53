"""Outlines clicked through a stack by hand, in MATLAB files.

The layout is that of the archaeocyath tracings of Manzuk et al. (2022): a cell per individual,
in it a cell per slice, in it K x 3 numbers [x, y, button] or nothing.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from skimage.draw import polygon

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.tracing_file import ProblemList, Target, TracedSlice
from napari_fossiledit.files import explained
from napari_fossiledit.masks import Instance, Mask, Origin, Part

Contour = NDArray[np.float64]

#: Keys x and X with which the tracing tool marks a click as an outlier.
_OUTLIERS = (120.0, 88.0)
#: MATLAB's first pixel has its centre at 1, ours at 0.
_MATLAB_ORIGIN = 1.0
#: A centre that lies exactly on a contour is inside at one of two opposite edges only; skimage
#: counts it at both, which would make contours of whole numbers too large.
_NUDGE = 1e-6
#: The largest such files are read in seconds.
_READING_S = 120
#: Kept free around all contours, so that no fossil touches the border of a blank stack.
_MARGIN = 5
#: A contour is drawn in an array as large as its box: one click far away would take all memory.
_LARGEST = 100_000
_EXPECTED = "a cell per individual of a cell per slice of K x 3 numbers"
_BROKEN = (
    MatReadError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    NotImplementedError,
    OverflowError,
    EOFError,
    UnboundLocalError,  # scipy's own, for kinds of variables that there are not
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Outlines:
    """All contours of a file.

    Attributes
    ----------
    variable
        Name of the variable they are in.
    contours
        For each individual its contours by slice (from 0): points (K, 2) as (x, y) in pixels,
        pixel centres at whole numbers from 0.
    """

    variable: str
    contours: tuple[dict[int, Contour], ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent (z, y, x) of all contours with a margin: the least stack that holds them."""
        drawn = [(z, c) for one in self.contours for z, c in one.items()]
        x, y = np.ceil(np.max([c.max(axis=0) for _, c in drawn], axis=0)).astype(int) + _MARGIN + 1
        return (max(z for z, _ in drawn) + 1, int(y), int(x))

    @property
    def is_cavity(self) -> bool:
        """True where the variable is named after inner walls."""
        return _names_cavities(self.variable)


def _names_cavities(name: str) -> bool:
    return any(word in name.lower() for word in ("inner", "cavit"))


def read_outlines(path: Path) -> Outlines:
    """Read a file of outlines without clicks marked as outliers and without empty contours.

    Raises
    ------
    FossilError
        Where the file cannot be read or holds no outlines.
    """
    try:
        with explained(path, "Reading"):
            path.open("rb").close()
            _require_survivable(path)
            content = loadmat(path)
    except _BROKEN as error:
        raise FossilError(
            f"{path} cannot be read", expected="a MATLAB file (version 5)", found=str(error)
        ) from error
    for name, value in content.items():
        individuals = None if name.startswith("__") else _individuals(value)
        if individuals:
            return Outlines(name, individuals)
    names = [n for n in content if not n.startswith("__")]
    raise FossilError(
        f"{path} holds no outlines", expected=_EXPECTED, found=", ".join(names) or "nothing"
    )


def _require_survivable(path: Path) -> None:
    """Raise where reading a file ends the process: scipy reads damaged ones past their end."""
    code = "import sys; from scipy.io import loadmat; loadmat(sys.argv[1])"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, path],
            capture_output=True,
            timeout=_READING_S,
            check=False,
        )
        # An exception of Python, which ends with 1, is raised again here.
        survived = done.returncode in (0, 1)
    except subprocess.TimeoutExpired:
        survived = False
    if not survived:
        raise FossilError(
            f"{path} cannot be read", expected="a MATLAB file (version 5)", found="damaged data"
        )


def _individuals(value: Any) -> tuple[dict[int, Contour], ...] | None:
    """Return the contours of all individuals, None where the variable holds something else."""
    if not _is_cell(value) or not all(map(_is_cell, value.flat)):
        return None
    individuals = [
        {z: clicks for z, clicks in enumerate(cell.flat) if np.size(clicks)} for cell in value.flat
    ]
    for clicks in (c for one in individuals for c in one.values()):
        is_numbers = isinstance(clicks, np.ndarray) and clicks.dtype.kind in "fiu"
        if not (is_numbers and clicks.ndim == 2 and clicks.shape[1] in (2, 3)):
            return None
    contours = tuple(
        {z: points for z, clicks in one.items() if (points := _points(clicks)).size}
        for one in individuals
    )
    return contours if any(contours) else None


def _is_cell(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == object


def _points(clicks: NDArray[Any]) -> Contour:
    """Return the points (K, 2) of clicks that are no outliers, none where no area is left."""
    good = np.isfinite(clicks).all(axis=1) & (np.abs(clicks[:, :2]) < _LARGEST).all(axis=1)
    if clicks.shape[1] == 3:
        good &= ~np.isin(clicks[:, 2], _OUTLIERS)
    points = clicks[good, :2].astype(np.float64) - _MATLAB_ORIGIN
    return points if len(points) >= 3 else points[:0]


def rasterised(contour: Contour, shape: tuple[int, int]) -> Mask:
    """Return the mask of the pixels of a slice (y, x) whose centres lie within a contour.

    Counting centres keeps the area of a contour on average; what lies outside is cut off.
    """
    low = np.floor(contour.min(axis=0)).astype(int)
    high = np.ceil(contour.max(axis=0)).astype(int) + 1
    crop = np.zeros((high - low)[::-1], dtype=np.bool_)
    x, y = (contour - low + _NUDGE).T
    crop[polygon(y, x, crop.shape)] = True
    return Mask.from_crop(crop, (int(low[1]), int(low[0])), shape)


@dataclass
class OutlineFile(ProblemList):
    """A file of outlines as traced slices (see `TracingFile`); individuals become specimens."""

    target: Target = field(kw_only=True)
    class_name: str = field(kw_only=True)
    part: Part | None = field(kw_only=True, default=None)

    def __post_init__(self) -> None:
        """Read the file, which holds points only.

        Raises
        ------
        FossilError
            Where it is no file of outlines, or has more slices than the stack.
        """
        outlines = read_outlines(self.path)
        cavity = outlines.is_cavity or _names_cavities(self.path.name)
        self.part = self.part or (Part.CAVITY if cavity else Part.BODY)
        self._contours = outlines.contours
        last, count = max(z for one in self._contours for z in one), len(self.target.names)
        if last >= count:
            raise FossilError(
                f"{self.path} has outlines in slices that the stack does not have",
                expected=f"slices 0 to {count - 1}",
                found=f"slice {last}",
            )

    @property
    def count(self) -> int:
        """Number of chosen slices with outlines."""
        return len(self._slices())

    @property
    def identified(self) -> bool:
        """True: a file of outlines is ordered by individual."""
        return True

    def _slices(self) -> list[int]:
        chosen = self.target.slices
        drawn = {z for one in self._contours for z in one}
        return sorted(z for z in drawn if chosen is None or z in chosen)

    def traced_slices(self) -> Iterator[TracedSlice]:
        """Rasterise the slices in stack order, one at a time."""
        for z in self._slices():
            instances = [
                Instance(
                    slice=z,
                    class_name=self.class_name,
                    mask=rasterised(contours[z], self.target.shape),
                    part=self.part or Part.BODY,
                    origin=Origin.IMPORTED,
                    specimen=number,
                    id=-number,
                )
                for number, contours in enumerate(self._contours, 1)
                if z in contours
            ]
            drawn = [item for item in instances if item.mask.area]
            if drawn:
                yield TracedSlice(z, drawn)
            for item in instances:
                if not item.mask.area:
                    where = f"individual {item.specimen} in slice {z}"
                    self.leave_out(where, "its outline holds no pixel of the slice")
