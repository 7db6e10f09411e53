"""Closed surfaces in a lattice of nodes, some of them inside: dual marching cubes.

Marching cubes puts a vertex on each edge of the lattice that crosses the surface. Its dual (Nielson
2004, Proceedings of IEEE Visualization, 489-496) puts one into each sheet of the surface in a cell,
in the middle of the crossings of that sheet, and a quadrilateral around each crossing: sheets are
those of marching cubes, slivers are gone, and all of it is a few operations on whole arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

#: Cells around an edge, by their offsets along the two other axes, one after the other.
_AROUND = ((0, 0), (1, 0), (1, 1), (0, 1))


@dataclass(frozen=True)
class Crossings:
    """The edges of a lattice that cross the surface, and the cells around them.

    Attributes
    ----------
    low, high
        Flat indices of the nodes at the ends of each edge.
    axis
        0, 1, 2 for x, y, z.
    quads
        Array (n, 4) of the vertices around each, counter-clockwise from outside in (x, y, z).
        Cells beyond the first and the last layer have the vertex `count`.
    count, first_layer, last_layer
        Number of vertices, and of those in the cells of the first and the last layer. Vertices are
        numbered layer by layer.
    doubled
        Whether edges of the surface may have more than two faces (see `parted`).
    """

    low: Ints
    high: Ints
    axis: Bytes
    quads: Ints
    count: int
    first_layer: int
    last_layer: int
    doubled: bool


@cache
def _tables() -> tuple[Bytes, Bytes, Bytes]:
    """Return the sheet of each edge, the number of sheets, and doubtful sides, of all 256 cells.

    Corner x + 2 y + 4 z of a cell is a bit of its number. Edge 4 axis + 2 d2 + d1 runs along
    `axis` at the offsets d1 and d2 along the other two. Where a side has two inside corners that
    lie across, they are kept apart. A side is doubtful where both pairs of its crossings belong
    to one sheet.
    """
    ends = {}
    for axis, d2, d1 in product(range(3), (0, 1), (0, 1)):
        others = [1 << a for a in range(3) if a != axis]
        corner = d1 * others[0] + d2 * others[1]
        ends[4 * axis + 2 * d2 + d1] = (corner, corner | 1 << axis)
    sheets, counts, doubtful = (np.zeros(s, np.uint8) for s in ((256, 12), 256, 256))
    for case in range(256):
        crossing = [e for e, (a, b) in ends.items() if (case >> a ^ case >> b) & 1]
        pairs, crossed_twice = [], []
        for axis, side in product(range(3), (0, 1)):
            on = [e for e in crossing if all((c >> axis & 1) == side for c in ends[e])]
            # With four crossings, those that share an inside corner belong together.
            inside = [next(c for c in ends[e] if case >> c & 1) if len(on) == 4 else 0 for e in on]
            joined = [
                (on[i], on[j]) for i in range(len(on)) for j in range(i) if inside[i] == inside[j]
            ]
            pairs += joined
            if len(on) == 4:
                crossed_twice.append((joined[0][0], joined[1][0]))
        index = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        links = coo_array((np.ones(index.shape[1]), (index[0], index[1])), shape=(12, 12))
        _, labels = connected_components(links, directed=False)
        names = np.unique(labels[crossing])
        sheets[case, crossing] = np.searchsorted(names, labels[crossing])
        counts[case] = names.size
        doubtful[case] = any(labels[a] == labels[b] for a, b in crossed_twice)
    return sheets, counts, doubtful


def crossings(inside: Bytes) -> Crossings:
    """Find the surface around the inside nodes of a lattice.

    Parameters
    ----------
    inside
        Array (z, y, x) of 0 and 1, 0 on its border along y and x.
    """
    sheets, counts, doubtful = _tables()
    flat = inside.ravel()
    strides = (1, inside.shape[2], inside.shape[1] * inside.shape[2])
    layer, size = strides[2], flat.size
    row = flat.copy()
    row[:-1] |= flat[1:] << 1
    square = row.copy()
    square[: -strides[1]] |= row[strides[1] :] << 2
    # A layer without cells before the first and behind the last.
    cases = np.zeros(size + layer, dtype=np.uint8)
    cases[layer:size] = square[:-layer] | (square[layer:] << 4)
    cells = np.flatnonzero(cases + np.uint8(1) > 1)
    found = cases[cells]
    numbers = np.cumsum(counts[found], dtype=np.int64)
    count = int(numbers[-1]) if cells.size else 0
    number = np.empty(cases.size, dtype=np.int32)
    number[:layer] = number[-layer:] = count
    number[cells] = numbers - counts[found]
    lows, highs, quads = [], [], []
    for axis, stride in enumerate(strides):
        low = np.flatnonzero(flat[stride:] != flat[:-stride])
        first, second = (s for s in strides if s != stride)
        around = np.empty((low.size, 4), dtype=np.int64)
        for k, (d1, d2) in enumerate(_AROUND):
            cell = low + (layer - d1 * first - d2 * second)
            around[:, k] = number[cell] + sheets[cases[cell], 4 * axis + 2 * d2 + d1]
        turned = flat[low] == (axis == 1)
        # The first stays the first: a neighbour on the other side divides its own like this one.
        around[turned] = around[turned][:, [0, 3, 2, 1]]
        lows.append(low)
        highs.append(low + stride)
        quads.append(around)
    ends = [int(counts[cases[a : a + layer]].sum()) for a in (layer, max(layer, size - layer))]
    return Crossings(
        np.concatenate(lows),
        np.concatenate(highs),
        np.repeat(np.arange(3, dtype=np.uint8), [low.size for low in lows]),
        np.concatenate(quads),
        count,
        ends[0],
        ends[1],
        bool(doubtful[found].any()),
    )


def shares(quads: Ints, count: int) -> csr_array:
    """Return the matrix (vertices, quads) that sums values of quadrilaterals at their vertices."""
    starts = np.arange(0, quads.size + 1, 4)
    ones = np.ones(quads.size, dtype=np.float32)
    return csr_array((ones, quads.ravel(), starts), shape=(len(quads), count)).T


def parted(points: NDArray[np.float64], faces: Ints) -> tuple[NDArray[np.float64], Ints]:
    """Part sheets that touch along an edge, so that each edge joins two faces.

    Two faces of an edge with four get an edge of their own, over a new point in its middle.
    """
    while True:
        sides = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
        keys = np.sort(sides, axis=1) @ np.array([len(points), 1])
        order = np.argsort(keys, kind="stable")
        _, first, size = np.unique(keys[order], return_index=True, return_counts=True)
        crowded = np.flatnonzero(size > 2)
        if not crowded.size:
            return points, faces
        touched: set[int] = set()
        new_points: list[NDArray[np.float64]] = []
        new_faces: list[tuple[int, int, int]] = []
        for n in crowded.tolist():
            members = order[first[n] : first[n] + size[n]]
            forth = members[sides[members, 0] < sides[members, 1]]
            back = members[sides[members, 0] > sides[members, 1]]
            pair = (int(forth[0]), int(back[0]))
            if touched & {s // 3 for s in pair}:
                continue
            touched |= {s // 3 for s in pair}
            middle = len(points) + len(new_points)
            new_points.append(points[sides[pair[0]]].mean(axis=0))
            for side in pair:
                a, b = sides[side]
                c = faces[side // 3, (side + 2) % 3]
                new_faces += [(a, middle, c), (middle, b, c)]
        keep = np.delete(faces, sorted(touched), axis=0)
        points = np.concatenate([points, new_points])
        faces = np.concatenate([keep, np.array(new_faces, dtype=np.int64)])
