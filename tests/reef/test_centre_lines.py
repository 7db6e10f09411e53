"""The graph of a specimen and its centre lines, against shapes made by formula."""

import math

import numpy as np
import pytest

from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.masks import Mask
from napari_fossiledit.reef import Section, centre_lines, graph


def sections(volume):
    return [Section(z, Mask.from_array(s)) for z, s in enumerate(volume) if s.any()]


def test_a_graph_has_a_node_for_each_piece_and_goes_on_over_a_missing_slice():
    volume = np.zeros((7, 20, 40), dtype=bool)
    volume[1, 5:15, 5:35] = True
    volume[2:, 5:15, 5:15] = True
    # The other branch is missing in slice 3, and what begins in slice 6 goes on nothing.
    volume[[2, 4, 5], 5:15, 25:35] = True
    volume[6, 16:18, 25:35] = True
    pieces, edges = graph(sections(volume))
    places = [(p.slice, p.body.box[1]) for p in pieces]
    named = {(places[a], places[b]) for a, b in edges}
    left = {((z, 5), (z + 1, 5)) for z in range(1, 6)}
    assert named == left | {((1, 5), (2, 25)), ((2, 25), (4, 25)), ((4, 25), (5, 25))}
    assert [p.body.area for p in pieces][:3] == [300, 100, 100]
    assert not len(graph(sections(volume[3:4]))[1])


def tubes(step, *ends, margin=12):
    """Round-ended tubes (start, end, radius), (z, y, x) in pixels; and where the origin lies."""
    corners = np.array([p for start, end, _ in ends for p in (start, end)])
    low = corners.min(axis=0) - margin + (0.3, 0.2, -0.2)
    shape = np.ceil((corners.max(axis=0) + margin - low) / (step, 1, 1)).astype(int)
    place = np.moveaxis(np.indices(shape), 0, -1) * (step, 1, 1) + low
    inside = np.zeros(shape, dtype=bool)
    for start, end, radius in ends:
        way = np.subtract(end, start)
        along = np.clip((place - start) @ way / (way @ way), 0, 1)
        inside |= np.linalg.norm(place - start - along[..., None] * way, axis=-1) <= radius
    return inside, -low


def direction(lean, around=0.0):
    a, b = math.radians(lean), math.radians(around)
    return np.array([math.cos(a), math.sin(a) * math.sin(b), math.sin(a) * math.cos(b)])


@pytest.mark.parametrize(("step", "lean"), [(1, 0), (3, 20), (7, 10)])
def test_branches_of_a_y_part_where_their_axes_meet(step, lean):
    ways = [direction(lean + d) for d in (180, -30, 30)]
    volume, origin = tubes(step, *((np.zeros(3), 70 * way, 8.0) for way in ways))
    lines = centre_lines(sections(volume), StackGeometry(10.0, 10.0 * step))
    (point,) = lines.branch_points
    assert point.point == pytest.approx(10 * origin, abs=10 * step)
    assert point.angles_deg == pytest.approx([60], abs=5)
    assert [b.radius_um for b in lines.branches] == pytest.approx([80] * 3, rel=0.03)
    assert [b.length_um for b in lines.branches] == pytest.approx([780] * 3, rel=0.05)
    stem = lines.branches[point.stem]
    assert stem.direction == pytest.approx(-ways[0], abs=0.05)


def test_a_branch_that_grows_the_other_way_is_found_alike():
    up, _ = tubes(2, *((np.zeros(3), 60 * direction(d), 8.0) for d in (180, -30, 30)))
    one, other = (centre_lines(sections(v), StackGeometry(1, 2)) for v in (up, up[::-1]))
    assert len(other.branch_points) == 1
    assert other.branch_points[0].angles_deg == pytest.approx(one.branch_points[0].angles_deg)
    assert other.length_um == pytest.approx(one.length_um)


def test_a_v_has_a_branch_point_and_no_stem():
    volume, _ = tubes(2, *((np.zeros(3), 60 * direction(d), 8.0) for d in (-30, 30)))
    lines = centre_lines(sections(volume), StackGeometry(1.0, 2.0))
    (point,) = lines.branch_points
    assert (point.stem, point.branches) == (None, (0, 1))
    assert point.angles_deg == pytest.approx([60], abs=5)
    assert [b.length_um for b in lines.branches] == pytest.approx([68, 68], rel=0.1)


def test_unevenness_makes_no_branch():
    volume, _ = tubes(2, ((0, 0, 0), (80, 0, 0), 9.0))
    volume[20, 1:3, 1:3] = True  # A speck beside it.
    volume[25, :, 12] = False  # A crack in one slice,
    volume[28:30, 12, :] = False  # and another one in two.
    volume[volume.any(axis=(1, 2)).nonzero()[0][-1] + 1, 10:12, 10:12] = True
    lines = centre_lines(sections(volume), StackGeometry(1.0, 2.0))
    assert not lines.branch_points
    (branch,) = lines.branches
    assert branch.radius_um == pytest.approx(9, rel=0.03)
    assert branch.length_um == pytest.approx(98, rel=0.05)


def test_a_bridge_between_two_ends_is_no_stem():
    volume = np.zeros((12, 20, 50), dtype=bool)
    volume[:10, 5:15, 5:15] = volume[:10, 5:15, 30:40] = True
    volume[10, 9:11, 12:34] = True
    lines = centre_lines(sections(volume), StackGeometry(1.0, 2.0))
    assert (len(lines.branches), lines.branch_points) == (2, ())


def test_a_specimen_in_one_slice_or_of_one_voxel_has_a_line_of_one_point():
    volume = np.zeros((3, 9, 9), dtype=bool)
    volume[1, 4, 4] = True
    (branch,) = centre_lines(sections(volume), StackGeometry(10.0, 50.0)).branches
    assert branch.points.tolist() == [[50, 40, 40]]
    assert branch.length_um == 50


@pytest.mark.parametrize("half", [0, 2, 4])
def test_two_tubes_that_cross_share_a_stem_that_is_not_lost(half):
    # The axes of either pair meet beyond the middle, as seen from the pair itself.
    ways = [direction(d) for d in (-25, 25, 155, 205)]
    middles = [np.array([-half * math.copysign(1, w[0]), 0, 0]) for w in ways]
    volume, _ = tubes(1, *((m, m + 50 * w, 8.0) for m, w in zip(middles, ways, strict=True)))
    lines = centre_lines(sections(volume), StackGeometry(1.0, 1.0))
    assert len(lines.branch_points) == 2
    assert all(len(b.points) for b in lines.branches)
