"""Centre lines of a specimen: its branches, where they part, how thick and how steep they are.

A branch is a chain of pieces between ends and branch points of the graph of a specimen (see
`sections.graph`). Its line runs through the centroids of the pieces, smoothed by straight lines
fitted over a stretch of its own radius. A tube that leans is cut as an ellipse, longer by 1 / cos
of the lean: its radius is that of a circle of the area of the piece times that cosine.

Where branches part, their sections hang together long after their axes have met, so that the point
where two pieces are seen first lies too high, and the centroid of the common piece says nothing.
A branch point is therefore where straight lines through the parts beyond meet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.masks.rle import intersections
from napari_fossiledit.reef.sections import Piece, Section, graph

FloatArray = NDArray[np.float64]

LEAST_SLICES = 2
"""A branch is in so many slices, and at least as long as its own radius; else it is unevenness."""

STRETCH = 4.0
"""Radii over which the direction of a branch is fitted at a branch point."""

SMOOTHED = 1.0
"""Radii to either side over which a centre line is smoothed."""

#: Flattest lean that a radius is corrected for, as a cosine: beyond it a body lies in the slices,
#: and the lean of its line is chance.
_LEAST_COSINE = 0.25
#: Smallest angle of two branches whose axes still meet in a place, in degrees.
_PARALLEL = 8.0
#: Share of the usual area below which the last section of a branch shows that it ends round.
_ROUNDED = 0.7


@dataclass(frozen=True)
class Branch:
    """A stretch of a specimen between branch points and ends.

    Attributes
    ----------
    slices
        (n,) slice of each point; the branch points at its ends, which lie between slices, have
        that of their neighbour.
    points
        (n, 3) centre line, (z, y, x) in um in the frame of the stack.
    radii_um
        (n,) radius corrected for the lean; not a number at a branch point.
    directions
        (n, 3) unit vectors along the line, z >= 0.
    length_um
        Along the line, with half a slice step at an end that is free.
    radius_um
        The usual one: median of the sections that cut the whole tube.
    ends
        Index of the branch point at either end; None where the end is free.
    """

    slices: NDArray[np.int64]
    points: FloatArray
    radii_um: FloatArray
    directions: FloatArray
    length_um: float
    radius_um: float
    ends: tuple[int | None, int | None]

    @property
    def direction(self) -> FloatArray:
        """Unit vector from the first to the last point, z >= 0; one of its directions if short."""
        way: FloatArray = self.points[-1] - self.points[0]
        size = float(np.linalg.norm(way))
        return np.asarray(way / size if size else self.directions[0])


@dataclass(frozen=True)
class BranchPoint:
    """Where a specimen branches.

    Attributes
    ----------
    slice
        The last slice in which the branches hang together.
    point
        Where their axes meet, (z, y, x) in um in the frame of the stack.
    stem
        Index of the branch they part from; None where it is shorter than it is thick.
    branches
        Indices of those that part.
    angles_deg
        Angle between each two of those that part, in the order of `itertools.combinations`; not a
        number where one of them is in a single slice.
    """

    slice: int
    point: FloatArray
    stem: int | None
    branches: tuple[int, ...]
    angles_deg: tuple[float, ...]


@dataclass(frozen=True)
class CentreLines:
    """Branches and branch points of a specimen."""

    branches: tuple[Branch, ...]
    branch_points: tuple[BranchPoint, ...]

    @property
    def length_um(self) -> float:
        """Length of all branches."""
        return sum(b.length_um for b in self.branches)

    @property
    def radius_um(self) -> float:
        """Mean of the usual radii of the branches, weighted by their lengths."""
        lengths = [b.length_um for b in self.branches]
        return float(np.average([b.radius_um for b in self.branches], weights=lengths))


@dataclass
class _Node:
    """A piece: slice, centroid (z, y, x) in um, area in um2, and what goes on to either side."""

    slice: int
    centre: FloatArray
    area: float
    below: list[int]
    above: list[int]


@dataclass
class _Star:
    """A piece in which several end: below it (side 0) or above it (side 1)."""

    hub: int
    side: int
    stem: int
    arms: list[int]


def centre_lines(sections: Sequence[Section], geometry: StackGeometry) -> CentreLines:
    """Compute the branches of a specimen and where they part.

    Parameters
    ----------
    sections
        Its sections in stack order, at least one.
    """
    pieces, edges = graph(sections)
    nodes = {n: _node(piece, geometry) for n, piece in enumerate(pieces)}
    for a, b in _one_to_many(edges, pieces):
        nodes[a].above.append(b)
        nodes[b].below.append(a)
    while _thinned(nodes, geometry):
        pass
    return _built(nodes, geometry)


def _node(piece: Piece, geometry: StackGeometry) -> _Node:
    pixel = geometry.pixel_size_um
    rows, columns = np.nonzero(piece.inside)
    y0, x0, _, _ = piece.body.box
    y, x = (float(rows.mean()) + y0) * pixel, (float(columns.mean()) + x0) * pixel
    centre = np.array([geometry.z_um(piece.slice), y, x])
    return _Node(piece.slice, centre, len(rows) * pixel**2, [], [])


def _one_to_many(edges: NDArray[np.int64], pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    """Leave out edges until each joins one piece to one or to several, never several to several.

    Two branches that touch each other for a slice are then two branches.
    """
    out, into = (np.bincount(side, minlength=len(pieces)) for side in edges.T)
    doubtful = [(a, b) for a, b in edges.tolist() if out[a] > 1 and into[b] > 1]
    shared = {e: int(intersections(*([pieces[n].body] for n in e))[0, 0]) for e in doubtful}
    left = set(map(tuple, edges.tolist()))
    for a, b in sorted(doubtful, key=lambda e: shared[e]):
        if out[a] > 1 and into[b] > 1:
            left.discard((a, b))
            out[a] -= 1
            into[b] -= 1
    return sorted(left)


def _chains(nodes: dict[int, _Node]) -> list[list[int]]:
    """Return the unbranched stretches, each from its lowest piece to its highest."""
    chains = []
    for n, node in nodes.items():
        if len(node.below) == 1 and len(nodes[node.below[0]].above) == 1:
            continue
        chain = [n]
        while len(above := nodes[chain[-1]].above) == 1 and len(nodes[above[0]].below) == 1:
            chain.append(above[0])
        chains.append(chain)
    return chains


def _stars(nodes: dict[int, _Node], chains: Sequence[Sequence[int]]) -> list[_Star]:
    starts, ends = ({c[k]: n for n, c in enumerate(chains)} for k in (0, -1))
    stars = []
    for n, node in nodes.items():
        if len(node.above) > 1:
            stars.append(_Star(n, 1, ends[n], [starts[a] for a in node.above]))
        if len(node.below) > 1:
            stars.append(_Star(n, 0, starts[n], [ends[b] for b in node.below]))
    return stars


def _thinned(nodes: dict[int, _Node], geometry: StackGeometry) -> bool:
    """Take out what is no branch, at each branch point the shortest; return whether anything was.

    What is too short and ends freely goes; what is too short and meets its neighbour again, as
    beside a crack, becomes one with it.
    """
    chains = _chains(nodes)

    def size(chain: Sequence[int]) -> tuple[float, float]:
        centres = np.array([nodes[n].centre for n in chain])
        halves = sum(geometry.thickness_um(nodes[chain[k]].slice) / 2 for k in (0, -1))
        length = float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum()) + halves
        return length, math.sqrt(float(np.median([nodes[n].area for n in chain])) / math.pi)

    sizes = [size(chain) for chain in chains]

    def is_short(n: int) -> bool:
        slices = nodes[chains[n][-1]].slice - nodes[chains[n][0]].slice + 1
        return slices < LEAST_SLICES or sizes[n][0] < sizes[n][1]

    gone = set()
    for star in _stars(nodes, chains):
        if any(n in gone for n in (star.stem, *star.arms)):
            continue
        hub = nodes[star.hub]
        beside = hub.above if star.side else hub.below
        ends = not (hub.below if star.side else hub.above)
        if ends and hub.area < min(nodes[n].area for n in beside):
            # A bridge between two ends, and not where they have grown together.
            gone.add(star.stem)
            continue
        by_length = sorted(star.arms, key=lambda n: sizes[n][0])
        for n in filter(is_short, by_length):
            far = nodes[chains[n][-1 if star.side else 0]]
            beyond = far.above if star.side else far.below
            if not beyond:
                gone.add(n)
                break
            twins = [t for t in star.arms if t != n and _far(nodes, chains[t], star) == beyond]
            if twins:
                _absorb(nodes, chains[n], chains[twins[0]])
                gone.add(n)
                break
    alone = [n for n, c in enumerate(chains) if not nodes[c[0]].below and not nodes[c[-1]].above]
    if len(alone) < len(chains):
        gone |= {n for n in alone if is_short(n)}
    elif alone:
        longest = max(alone, key=lambda n: sizes[n][0])
        gone |= {n for n in alone if is_short(n) and n != longest}
    for n in gone:
        _remove(nodes, chains[n])
    return bool(gone)


def _far(nodes: dict[int, _Node], chain: Sequence[int], star: _Star) -> list[int]:
    return nodes[chain[-1]].above if star.side else nodes[chain[0]].below


def _absorb(nodes: dict[int, _Node], chain: Sequence[int], into: Sequence[int]) -> None:
    """Add the pieces of a chain to those of another one in the same slices."""
    by_slice = {nodes[n].slice: nodes[n] for n in into}
    for n in chain:
        piece, other = nodes[n], by_slice.get(nodes[n].slice)
        if other is not None:
            total = other.area + piece.area
            other.centre = (other.area * other.centre + piece.area * piece.centre) / total
            other.area = total


def _remove(nodes: dict[int, _Node], chain: Sequence[int]) -> None:
    for n in chain:
        node = nodes.pop(n)
        for b in node.below:
            if b in nodes:
                nodes[b].above.remove(n)
        for a in node.above:
            if a in nodes:
                nodes[a].below.remove(n)


def _built(nodes: dict[int, _Node], geometry: StackGeometry) -> CentreLines:
    chains = _chains(nodes)
    stars = _stars(nodes, chains)
    raw = [np.array([nodes[n].centre for n in chain]) for chain in chains]
    areas = [np.array([nodes[n].area for n in chain]) for chain in chains]
    kept = [np.ones(len(chain), dtype=np.bool_) for chain in chains]
    ends: list[list[int | None]] = [[None, None] for _ in chains]
    for number, star in enumerate(stars):
        ends[star.stem][star.side] = number
        for n in star.arms:
            ends[n][1 - star.side] = number
    whole = [
        _whole(points, area, (e[0] is None, e[1] is None))
        for points, area, e in zip(raw, areas, ends, strict=True)
    ]
    points = []
    for star in stars:
        up = 1 if star.side else -1
        lines = [_line(raw[n][whole[n]][::up], areas[n]) for n in star.arms]
        angles = tuple(_angle(a, b) for a, b in combinations(lines, 2))
        point = _meeting(lines, angles, raw[star.stem][::up])
        # The common sections above where the axes meet belong to no branch.
        common = up * (raw[star.stem][:, 0] - point[0]) > 0
        common[0 if star.side else -1] = False
        # A short stem between two branch points may be common to both: then it stays as it is.
        if (left := kept[star.stem] & ~common).any():
            kept[star.stem] = left
        arms = tuple(star.arms)
        points.append(BranchPoint(nodes[star.hub].slice, point, star.stem, arms, angles))
    branches = []
    for n, chain in enumerate(chains):
        slices = np.array([nodes[k].slice for k in chain])[kept[n]]
        joints = [None if e is None else points[e].point for e in ends[n]]
        k, end = kept[n], (ends[n][0], ends[n][1])
        branches.append(_branch(slices, raw[n][k], areas[n][k], whole[n][k], joints, end, geometry))
    return _without_stumps(branches, points)


def _without_stumps(branches: list[Branch], points: list[BranchPoint]) -> CentreLines:
    """Leave out stems that end freely before they are as long as thick, and count anew."""
    stumps = {
        p.stem
        for p in points
        if p.stem is not None
        and None in branches[p.stem].ends
        and branches[p.stem].length_um < 2 * branches[p.stem].radius_um
    }
    left = [n for n in range(len(branches)) if n not in stumps]
    new = {n: k for k, n in enumerate(left)}
    renumbered = (
        replace(
            p,
            stem=None if p.stem is None else new.get(p.stem),
            branches=tuple(new[n] for n in p.branches),
        )
        for p in points
    )
    return CentreLines(tuple(branches[n] for n in left), tuple(renumbered))


def _whole(points: FloatArray, areas: FloatArray, free: tuple[bool, bool]) -> NDArray[np.bool_]:
    """Return which pieces cut the whole tube, and not its round or slanting end.

    The middle of those at an end says nothing of the axis. All count where else too few would.
    """
    count = len(points)
    direction = _fitted(points[count // 4 : max(count - count // 4, count // 4 + 2)])[1]
    cosine = max(abs(direction[0]), _LEAST_COSINE)
    radius = math.sqrt(float(np.median(areas)) * cosine / math.pi)
    reach = radius * (1 + math.sqrt(1 - cosine**2))
    z = points[:, 0]
    whole = np.ones(count, dtype=np.bool_)
    if free[0]:
        whole &= z > z[0] + reach
    if free[1]:
        whole &= z < z[-1] - reach
    return whole if whole.sum() >= LEAST_SLICES else np.ones(count, dtype=np.bool_)


def _fitted(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit a straight line: its middle, and a unit vector from the first point to the last."""
    middle = points.mean(axis=0)
    if len(points) < LEAST_SLICES:
        return middle, np.array([1.0, 0.0, 0.0])
    direction = np.linalg.svd(points - middle, full_matrices=False)[2][0]
    return middle, direction * (1 if direction @ (points[-1] - points[0]) >= 0 else -1)


def _line(points: FloatArray, areas: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """Fit a straight line to the first stretch of a branch; None where it is in one slice."""
    if len(points) < LEAST_SLICES:
        return None
    reach = STRETCH * math.sqrt(float(np.median(areas)) / math.pi)
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    return _fitted(points[: max(int((way <= reach).sum()), LEAST_SLICES + 1)])


def _angle(
    one: tuple[FloatArray, FloatArray] | None, other: tuple[FloatArray, FloatArray] | None
) -> float:
    if one is None or other is None:
        return math.nan
    return math.degrees(math.acos(float(np.clip(one[1] @ other[1], -1, 1))))


def _meeting(
    arms: Sequence[tuple[FloatArray, FloatArray] | None],
    angles: Sequence[float],
    stem: FloatArray,
) -> FloatArray:
    """Return where the axes of branches meet, which lies along the stem (from afar to the hub)."""
    afar: FloatArray = stem[0]
    hub: FloatArray = stem[-1]
    if not any(angle > _PARALLEL for angle in angles):
        return hub
    lines = [arm for arm in arms if arm is not None]
    # The point nearest to all lines.
    across = [np.eye(3) - np.outer(way, way) for _, way in lines]
    sides = [m @ middle for m, (middle, _) in zip(across, lines, strict=True)]
    point: FloatArray = np.linalg.solve(np.sum(across, axis=0), np.sum(sides, axis=0))
    if min(afar[0], hub[0]) <= point[0] <= max(afar[0], hub[0]):
        return point
    return afar if abs(point[0] - afar[0]) < abs(point[0] - hub[0]) else hub


def _branch(
    slices: NDArray[np.int64],
    points: FloatArray,
    areas: FloatArray,
    whole: NDArray[np.bool_],
    joints: Sequence[FloatArray | None],
    ends: tuple[int | None, int | None],
    geometry: StackGeometry,
) -> Branch:
    steps = [geometry.thickness_um(int(slices[k])) for k in (0, -1)]
    if not whole.any():
        whole = np.ones(len(points), dtype=np.bool_)
    radius = math.sqrt(float(np.median(areas[whole])) / math.pi)
    smooth, slopes = _smoothed(points[whole], max(SMOOTHED * radius, 1.5 * max(steps)))
    # Beyond, the line goes straight on.
    near = np.abs(points[:, None, 0] - smooth[None, :, 0]).argmin(axis=1)
    directions = np.insert(slopes[near], 0, 1.0, axis=1)
    line = smooth[near] + (points[:, :1] - smooth[near, :1]) * directions
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    cosines = np.maximum(directions[:, 0], _LEAST_COSINE)
    radii = np.sqrt(areas * cosines / math.pi)
    usual = float(np.median(radii[whole]))
    beyond = 0.0
    for k, joint, step in zip((0, -1), joints, steps, strict=True):
        if joint is None:
            beyond += step / 2 / cosines[k]
            # The side of a round end that leans reaches higher than its axis.
            rounded = areas[k] < _ROUNDED * np.median(areas[whole])
            beyond -= usual * (1 / cosines[k] - 1) if rounded else 0.0
    for k, joint in zip((0, -1), joints, strict=True):
        if joint is not None:
            at = 0 if k == 0 else len(line)
            slices, radii = np.insert(slices, at, slices[k]), np.insert(radii, at, math.nan)
            directions = np.insert(directions, at, directions[k], axis=0)
            line, whole = np.insert(line, at, joint, axis=0), np.insert(whole, at, False)
    length = float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()) + beyond
    return Branch(slices, line, radii, directions, max(length, min(steps) / 2), usual, ends)


def _smoothed(points: FloatArray, reach: float) -> tuple[FloatArray, FloatArray]:
    """Fit a straight line around each point; return its place there, and its slopes (n, 2)."""
    if len(points) == 1:
        return points, np.zeros((1, 2))
    z = points[:, 0]
    away = z[None, :] - z[:, None]
    weights = np.clip(1 - (np.abs(away) / (reach * 1.001)) ** 3, 0, None) ** 3
    # At least the neighbours count, whatever is missing between them.
    near = np.abs(np.arange(len(z))[:, None] - np.arange(len(z))) <= 1
    weights = np.maximum(weights, 0.01 * near)
    weights /= weights.sum(axis=1, keepdims=True)
    mean_z = (weights * away).sum(axis=1, keepdims=True)
    mean = weights @ points[:, 1:]
    centred = weights * (away - mean_z)
    slopes = (centred @ points[:, 1:]) / (centred * (away - mean_z)).sum(axis=1, keepdims=True)
    return np.concatenate([points[:, :1], mean - slopes * mean_z], axis=1), slopes
