"""Measurements of a reef as a whole: planes, cubes, classes through z, and who touches whom.

After Manzuk et al. (2022, Geobiology): headings and nearest neighbours of branches where a
horizontal plane is passed through the reef, and the surface in cubes at random places.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.masks import Mask
from napari_fossiledit.masks.rle import intersections
from napari_fossiledit.reef.centre_lines import CentreLines
from napari_fossiledit.reef.orientation import azimuth_and_inclination, circular_mean
from napari_fossiledit.reef.surface import Surface

FloatArray = NDArray[np.float64]
K = TypeVar("K", bound=Hashable)

CUBE_SHARE = 0.25
"""Edge of the cubes where nobody has named one, as a share of the shortest edge of their space."""

PLANE_COLUMNS = {
    "height_um": float,
    "branches": int,
    "heading_mean_deg": float,
    "heading_variance": float,
    "inclination_mean_deg": float,
    "nearest_neighbour_mean_um": float,
    "nearest_neighbour_median_um": float,
}


# ---------------------------------------------------------------- horizontal planes


def planes(
    lines: Sequence[CentreLines], frame: FloatArray, step_um: float
) -> list[dict[str, float | int | None]]:
    """Pass horizontal planes through the branches of a reef.

    Parameters
    ----------
    lines
        Of each specimen.
    frame
        Matrix that turns (z, y, x) to (up, north, east), see `field_frame`.
    step_um
        Distance of the planes.

    Returns
    -------
    list of dict
        `PLANE_COLUMNS` of each plane that crosses a branch: its height, how many cross it, mean and
        circular variance of their headings, their mean inclination, and how far the nearest
        neighbour of a branch is in the plane; None where a branch is alone.
    """
    crossings: dict[int, list[FloatArray]] = {}
    for branch in (b for one in lines for b in one.branches):
        places = branch.points @ frame.T
        for before, after in pairwise(places):
            low, high = sorted((before[0] / step_um, after[0] / step_um))
            for plane in range(math.ceil(low), math.floor(high) + 1):
                # A place on a plane belongs to the stretch above it alone.
                if plane == high and high > low:
                    continue
                share = (plane * step_um - before[0]) / (after[0] - before[0] or 1.0)
                place = before + share * (after - before)
                crossings.setdefault(plane, []).append(np.concatenate([place, after - before]))
    found: list[dict[str, float | int | None]] = []
    for plane, rows in sorted(crossings.items()):
        places, ways = np.hsplit(np.array(rows), 2)
        azimuths, inclinations = azimuth_and_inclination(ways)
        mean, variance = circular_mean(azimuths)
        near = None
        if len(rows) > 1:
            near = KDTree(places[:, 1:]).query(places[:, 1:], k=2)[0][:, 1]
        spacing = (None, None) if near is None else (float(near.mean()), float(np.median(near)))
        values = plane * step_um, len(rows), mean, variance, float(inclinations.mean()), *spacing
        found.append(dict(zip(PLANE_COLUMNS, values, strict=True)))
    return found


# ---------------------------------------------------------------- cubes


@dataclass
class Cubes:
    """Cubes at random places, and the surface of all specimens in each.

    Attributes
    ----------
    edge_um
        Edge of a cube.
    low_um
        (n, 3) lowest corner of each, (z, y, x) in the frame of the stack.
    surface_um2
        (n,) surface in each; a triangle counts where its middle lies.
    """

    edge_um: float
    low_um: FloatArray
    surface_um2: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.surface_um2 = np.zeros(len(self.low_um))

    @classmethod
    def at_random(
        cls, low: FloatArray, high: FloatArray, edge_um: float, count: int, seed: int
    ) -> Cubes:
        """Place cubes evenly at random between two corners (z, y, x) in um.

        Raises
        ------
        FossilError
            Where a cube of that edge does not fit in.
        """
        edge = edge_um or CUBE_SHARE * float((high - low).min())
        if (high - low < edge).any():
            raise FossilError(
                f"Cubes of {edge:g} um do not fit around the specimens",
                expected=f"at most {float((high - low).min()):g} um",
                found=f"{edge:g} um",
            )
        rng = np.random.default_rng(seed)
        return cls(edge, low + rng.random((count, 3)) * (high - low - edge))

    def add(self, surface: Surface) -> None:
        """Add the surface of a specimen (in the frame of the stack) to the cubes that it is in."""
        low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
        near = ((self.low_um < high) & (self.low_um + self.edge_um > low)).all(axis=1)
        if not near.any():
            return
        corners = surface.vertices[surface.faces]
        middles = corners.mean(axis=1)
        sides = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        areas = np.linalg.norm(sides, axis=1) / 2
        for n in np.flatnonzero(near):
            away = middles - self.low_um[n]
            self.surface_um2[n] += areas[((away >= 0) & (away < self.edge_um)).all(axis=1)].sum()

    def summary(self) -> dict[str, Any]:
        """Return quartiles of surface divided by the volume of a cube."""
        shares = self.surface_um2 / self.edge_um**3
        quartiles = np.quantile(shares, [0.25, 0.5, 0.75]).tolist() if len(shares) else [None] * 3
        names = (
            f"surface_per_volume_{q}_per_um" for q in ("lower_quartile", "median", "upper_quartile")
        )
        head = {"cubes": len(shares), "edge_um": self.edge_um}
        return head | dict(zip(names, quartiles, strict=True))


# ---------------------------------------------------------------- touching


def contacts(
    slices: Iterable[tuple[int, Sequence[tuple[K, Mask]]]], geometry: StackGeometry
) -> dict[tuple[K, K], float]:
    """Compute the area that each two specimens share, in um2.

    Two bodies share the faces of voxels between them. Faces of voxels make terraces of a slanting
    surface: what is counted across x, y and z is taken as the three shadows of one plane.

    Parameters
    ----------
    slices
        Index and bodies of each slice, in stack order; those of one specimen under one key.

    Returns
    -------
    dict by pair; each pair once, in the order in which it was met.
    """
    shadows: dict[tuple[K, K], FloatArray] = {}
    last: tuple[int, list[K], list[Mask]] = (-2, [], [])

    def add(one: K, other: K, axis: int, area: float) -> None:
        if area:
            pair = (other, one) if (other, one) in shadows else (one, other)
            shadows.setdefault(pair, np.zeros(3))[axis] += area

    for z, bodies in slices:
        keys, masks = [k for k, _ in bodies], [m for _, m in bodies]
        side = geometry.pixel_size_um * geometry.thickness_um(z)
        for a, b in _neighbours(masks):
            if keys[a] != keys[b]:
                for axis, count in enumerate(_faces(masks[a], masks[b]), 1):
                    add(keys[a], keys[b], axis, count * side)
        if last[0] == z - 1:
            shared = intersections(last[2], masks)
            for a, b in np.argwhere(shared).tolist():
                if last[1][a] != keys[b]:
                    add(last[1][a], keys[b], 0, float(shared[a, b]) * geometry.pixel_size_um**2)
        last = (z, keys, masks)
    return {pair: float(np.linalg.norm(parts)) for pair, parts in shadows.items()}


def _neighbours(masks: Sequence[Mask]) -> list[tuple[int, int]]:
    """Pairs whose boxes touch or overlap."""
    if len(masks) < 2:
        return []
    boxes = np.array([m.box for m in masks])
    low, high = boxes[:, :2], boxes[:, 2:]
    near = (low[:, None] <= high[None]).all(axis=2)
    return [(a, b) for a, b in np.argwhere(np.triu(near & near.T, 1)).tolist()]


def _faces(one: Mask, other: Mask) -> tuple[int, int]:
    """Pairs of pixels, below one another and side by side, of which each mask has one."""
    (y0, x0), (y1, x1) = (
        pick(np.array([one.box[k : k + 2], other.box[k : k + 2]]), axis=0) + margin
        for k, pick, margin in ((0, np.max, -1), (2, np.min, 1))
    )
    box = max(int(y0), 0), max(int(x0), 0), int(y1), min(int(x1), one.shape[1])
    a, b = one.crop(box), other.crop(box)
    b &= ~a
    rows = (a[:-1] & b[1:]).sum() + (b[:-1] & a[1:]).sum()
    columns = (a[:, :-1] & b[:, 1:]).sum() + (b[:, :-1] & a[:, 1:]).sum()
    return int(rows), int(columns)
