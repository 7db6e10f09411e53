"""Measurements of specimens and of a reef, against shapes made by formula."""

import math

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import StackGeometry, ZDirection
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.params.reconstruct import OrientParams
from napari_fossiledit.reef import (
    Block,
    build_surface,
    centre_lines,
    measure,
    sections_of,
    without_cracks,
)
from napari_fossiledit.reef.orientation import (
    azimuth_and_inclination,
    circular_mean,
    field_frame,
)
from napari_fossiledit.reef.stereology import Cubes, contacts, planes
from napari_fossiledit.reef.volume_error import SegmentationError, volume_interval_um3
from tests.reef.test_centre_lines import direction, sections, tubes

PIXEL = 10.0


def row_of(body, step, cavity=None, block=None):
    found = [Instance(z, "a", Mask.from_array(s)) for z, s in enumerate(body) if s.any()]
    for z, s in enumerate([] if cavity is None else cavity):
        found += [Instance(z, "a", Mask.from_array(s), part=Part.CAVITY)] if s.any() else []
    geometry = StackGeometry(PIXEL, PIXEL * step)
    surface = build_surface(sections_of(found), geometry)
    return measure(1, found, geometry, surface, block)


def test_a_horizontal_block_keeps_the_directions_of_the_photographs():
    frame = field_frame(
        OrientParams(block_strike=0, block_dip=0, bedding_strike=7, bedding_dip=0), ZDirection.INTO
    )
    assert frame == pytest.approx(field_frame(None, ZDirection.INTO), abs=1e-12)
    out_of = field_frame(None, ZDirection.OUT_OF)
    assert (out_of @ [1, 0, 0]).tolist() == [1, 0, 0]


def test_the_face_and_the_bedding_are_turned_into_the_field():
    """A face that dips 90 degrees to the east shows north at its side and up at its back."""
    upright = OrientParams(block_strike=0, block_dip=90, bedding_strike=0, bedding_dip=0)
    frame = field_frame(upright, ZDirection.INTO)
    azimuth, inclination = azimuth_and_inclination(
        np.array([[0, -1, 0], [0, 0, 1], [1, 0, 0]]) @ frame.T, upward=False
    )
    # The top of the photographs is the strike, their right is down the dip, z goes to the west.
    assert azimuth[[0, 2]] == pytest.approx([0, 270])
    assert inclination == pytest.approx([0, -90, 0], abs=1e-9)
    # What stands across the bedding is vertical once the bedding lies flat.
    tilted = OrientParams(
        block_strike=40, block_dip=30, bedding_strike=40, bedding_dip=30, strike_heading=200
    )
    assert field_frame(tilted, ZDirection.INTO) @ [-1, 0, 0] == pytest.approx([1, 0, 0])
    assert np.linalg.det(field_frame(tilted, ZDirection.INTO)[:, [2, 1, 0]]) == pytest.approx(
        np.linalg.det(field_frame(None, ZDirection.INTO)[:, [2, 1, 0]])
    )


@pytest.mark.parametrize("value", [math.nan, -1, 361, math.inf])
def test_angles_that_are_none_are_refused(value):
    with pytest.raises(ValueError, match="block_strike"):
        OrientParams(block_strike=value, block_dip=0, bedding_strike=0, bedding_dip=0)


def test_mean_headings_go_around_north():
    mean, variance = circular_mean(np.array([350.0, 10.0]))
    assert min(mean, 360 - mean) < 1e-9
    assert variance == pytest.approx(1 - math.cos(math.radians(10)))


@pytest.mark.parametrize(("step", "lean"), [(1, 0), (2, 40), (5, 25)])
def test_a_hollow_tube_has_its_wall_length_direction_and_hull(step, lean):
    way = direction(lean, 90)
    outer, _ = tubes(step, (np.zeros(3), 90 * way, 13.0), margin=16)
    inner, _ = tubes(step, (np.zeros(3), 90 * way, 8.0), margin=16)
    row = row_of(outer, step, inner)
    assert row.wall_thickness_mean_um == pytest.approx(50, rel=0.06)
    assert row.wall_thickness_median_um == pytest.approx(50, rel=0.06)
    assert row.radius_um == pytest.approx(130, rel=0.03)
    assert row.length_um == pytest.approx(1160, rel=0.04)
    assert row.lean_deg == pytest.approx(lean, abs=1.5)
    assert row.inclination_deg == pytest.approx(90 - lean, abs=1.5)
    if lean:
        # It leans towards the foot of the photographs as z grows: upwards, towards their top.
        assert min(row.azimuth_deg, 360 - row.azimuth_deg) < 3
    solid = math.pi * 130**2 * 900 + 4 / 3 * math.pi * 130**3
    assert row.hull_volume_um3 == pytest.approx(solid, rel=0.04)
    # Of an upright tube all sections are off by the same pixels.
    assert row.volume_low_um3 * 0.998 < solid < row.volume_high_um3
    shadow = 260 * 900 * math.sin(math.radians(lean)) + math.pi * 130**2
    assert row.footprint_um2 == pytest.approx(shadow, rel=0.06)


@pytest.mark.parametrize("pixels", [[(1, 4, 4)], [(1, 4, 4), (2, 4, 4)], [(1, 2, 2), (3, 6, 6)]])
def test_a_few_voxels_are_measured(pixels):
    body = np.zeros((5, 9, 9), dtype=bool)
    body[tuple(np.array(pixels).T)] = True
    row = row_of(body, 7, block=Block(body.shape))
    assert row.volume_um3 == len(pixels) * 7000
    assert 0 <= row.volume_low_um3 < row.volume_um3 < row.volume_high_um3
    assert row.hull_volume_um3 > 0
    assert row.branches == 1


def test_the_shadow_falls_on_the_bedding():
    """A standing tube whose bedding stands throws the shadow of its side."""
    body, _ = tubes(3, (np.zeros(3), np.array([80.0, 0, 0]), 10.0))
    bedding = OrientParams(block_strike=0, block_dip=0, bedding_strike=30, bedding_dip=90)
    row = row_of(body, 3, block=Block((99, 99, 99), bedding))
    assert row.footprint_um2 == pytest.approx(200 * 800 + math.pi * 100**2, rel=0.06)
    assert row.inclination_deg == pytest.approx(0, abs=1)
    assert row.height_um == pytest.approx(200, rel=0.05)


def test_uneven_slices_are_slabs_of_their_own_thickness():
    """A box in three slices, 50 to 1050 um deep, has its middle and its shadow there."""
    geometry = StackGeometry(PIXEL, 275.0, ZDirection.OUT_OF, (0.0, 100.0, 200.0, 1000.0, 1100.0))
    body = np.zeros((30, 30), dtype=bool)
    body[10:20, 10:20] = True
    found = [Instance(z, "a", Mask.from_array(body)) for z in (1, 2, 3)]
    upright = OrientParams(block_strike=0, block_dip=90, bedding_strike=0, bedding_dip=0)
    surface = build_surface(sections_of(found), geometry)
    row = measure(1, found, geometry, surface, Block((5, 30, 30), upright))
    assert row.centroid_um == pytest.approx((-550, 145, 145))
    assert row.footprint_um2 == pytest.approx(100 * 1000, rel=0.02)


def test_what_lies_in_the_slices_has_no_centre_line():
    body, _ = tubes(2, (np.zeros(3), np.array([0, 0, 80.0]), 10.0))
    row = row_of(body, 2)
    assert row.lies_in_slices
    assert row.radius_um is row.branches is None
    assert row.elongation > 3
    assert row.azimuth_deg % 180 == pytest.approx(90, abs=1)


def test_sides_that_cut_a_specimen_are_named():
    body = np.ones((4, 20, 30), dtype=bool)
    body[:, -5:] = False
    every = {"first slice", "last slice", "top", "left", "right"}
    assert set(row_of(body, 2, block=Block(body.shape)).cut_by.split(", ")) == every
    within = Block((9, 25, 40), None, frozenset(range(4)))
    assert "last slice" in row_of(body, 2, block=within).cut_by
    assert row_of(np.pad(body, 1), 2, block=Block((6, 22, 32))).cut_by == ""


def test_intervals_hold_the_volume_of_spheres_cut_anywhere():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        radius, shift = rng.uniform(2, 6), rng.uniform(0, 1)
        z = np.arange(-8, 8) + shift
        areas = np.rint(400 * math.pi * np.clip(radius**2 - z**2, 0, None)).astype(int)
        there = areas[areas > 0]
        low, high = volume_interval_um3(there, np.full(len(there), 20.0), 1.0, (False, False))
        held.append(low <= 4 / 3 * math.pi * (20 * radius) ** 3 <= high)
    assert 0.9 <= np.mean(held) <= 1


def test_intervals_widen_with_the_step_with_uneven_steps_and_with_poor_masks():
    areas, sides = [300, 800, 1000, 1000, 800, 300], (False, False)

    def width(steps, chosen=areas, **options):
        low, high = volume_interval_um3(chosen, steps, 1.0, sides, **options)
        return high - low

    fine = width(np.full(11, 1.0), np.interp(np.arange(11) / 2, range(6), areas))
    assert width(np.full(6, 2.0)) > 2 * fine
    assert width(np.array([1, 1, 1, 3, 3, 3.0])) > 2 * width(np.full(6, 2.0))
    poor = SegmentationError.of([110, 130, 120, 100], [100, 100, 100, 100])
    low, high = volume_interval_um3(areas, np.full(6, 2.0), 1.0, sides, poor)
    assert low < 8400 / 1.13 < high < 8400 * 1.5
    assert width(np.full(6, 2.0), segmentation=poor) > 5 * width(np.full(6, 2.0))


def test_a_single_section_says_little_and_nothing_where_it_is_cut():
    low, high = volume_interval_um3([100], [2.0], 1.0, (False, True))
    assert low < 100
    assert high > 500
    assert volume_interval_um3([100], [2.0], 1.0, (True, True)) is None
    assert SegmentationError.of([1.0], [1.0]) is None


def test_touching_bodies_share_the_area_between_them():
    """Two halves of a block, divided by a slanting plane, and a third body on top of both."""
    z, y, x = np.indices((12, 40, 60))
    left = x + 0.5 * y + z < 40
    slices = [
        (k, [("left", Mask.from_array(left[k])), ("right", Mask.from_array(~left[k]))])
        for k in range(12)
    ]
    slices.append((12, [("roof", Mask.from_array(np.ones((40, 60), dtype=bool)))]))
    slices.append((14, [("afar", Mask.from_array(np.ones((40, 60), dtype=bool)))]))
    shared = contacts(slices, StackGeometry(1.0, 1.0))
    assert set(shared) == {("left", "right"), ("left", "roof"), ("right", "roof")}
    assert shared["left", "right"] == pytest.approx(12 * 40 * math.sqrt(1 + 0.25 + 1), rel=0.06)
    assert shared["left", "roof"] + shared["right", "roof"] == 40 * 60


def test_planes_meet_branches_and_their_neighbours():
    geometry = StackGeometry(1.0, 2.0)
    lines = []
    for place, lean in ((0, 0.0), (60, 0.0), (100, 30.0)):
        body, _ = tubes(2, (np.zeros(3), 60 * direction(lean, 90), 6.0))
        body = np.pad(body, ((0, 0), (0, 0), (place, 0)))
        lines.append(centre_lines(sections(body), geometry))
    found = planes(lines, field_frame(None, ZDirection.INTO), 2.0)
    middle = [p for p in found if p["branches"] == 3]
    assert len(middle) > 20
    assert middle[0]["nearest_neighbour_mean_um"] == pytest.approx((60 + 60 + 40) / 3, rel=0.1)
    assert middle[0]["inclination_mean_deg"] == pytest.approx(80, abs=2)
    assert found[0]["branches"] < 3


def test_cubes_hold_the_surface_that_is_in_them():
    body = np.zeros((30, 60, 60), dtype=bool)
    body[:, :30] = True
    surface = build_surface(sections(np.pad(body, 2)), StackGeometry(1.0, 2.0))
    low, high = np.array([20.0, 12, 12]), np.array([40.0, 52, 52])
    cubes = Cubes.at_random(low, high, 15.0, 400, 0)
    cubes.add(surface)
    # A wall goes through the cubes that reach it, and fills the share of them that it does.
    assert cubes.summary()["surface_per_volume_upper_quartile_per_um"] == pytest.approx(
        1 / 15, rel=0.1
    )
    assert cubes.surface_um2.mean() / 15**2 == pytest.approx(15 / 25, rel=0.15)
    with pytest.raises(FossilError, match="do not fit around"):
        Cubes.at_random(low, high, 25.0, 1, 0)


def test_cracks_are_closed_up_to_their_width():
    body = np.zeros((1, 30, 30), dtype=bool)
    body[0, 5:25, 5:25] = True
    cracked = body.copy()
    cracked[0, :, 14:17] = False
    assert without_cracks(sections(cracked), 4)[0].body.area == pytest.approx(400, abs=8)
    assert without_cracks(sections(cracked), 2)[0].body.area == 340
