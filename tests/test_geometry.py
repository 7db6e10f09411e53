"""Slices, regions and voxel sizes: what users type and what it means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import (
    Region,
    StackGeometry,
    VoxelSize,
    ZDirection,
    check_positions,
    format_slices,
    parse_slices,
)


@given(st.sets(st.integers(0, 99), min_size=1))
def test_slices_survive_being_written_and_read(chosen):
    assert parse_slices(format_slices(sorted(chosen)), 100) == sorted(chosen)


def test_slices_are_short_when_written():
    assert format_slices([4, 0, 2, 5, 6]) == "0,2,4-6"
    assert parse_slices(" all ", 3) == [0, 1, 2]


def test_slices_can_keep_their_order():
    assert parse_slices("3,1,0-0,2", 4, as_given=True) == [3, 1, 0, 2]
    assert parse_slices("3,1,3", 4) == [1, 3]
    with pytest.raises(FossilError, match="Slice 3 is named twice"):
        parse_slices("3,1,2-3", 4, as_given=True)


@pytest.mark.parametrize("text", ["", "a", "3-", "-1", "9-4", "10", "0,1,12", "1.5"])
def test_impossible_slices_are_refused(text):
    with pytest.raises(FossilError, match="expected"):
        parse_slices(text, 10)


def test_a_region_leaves_sides_open_and_is_clipped():
    image = np.zeros((40, 50))
    assert image[Region.parse(":16").slices((40, 50))].shape == (40, 16)
    assert image[Region.parse("30:,5:99").slices((40, 50))].shape == (35, 20)
    assert Region.parse(str(Region(3, 9, None, 7))) == Region(3, 9, None, 7)


@pytest.mark.parametrize("text", ["", "5", "9:3", "a:b", "1:2,3:4,5:6", "-4:9", "4:4", "1:9,7"])
def test_impossible_regions_are_refused(text):
    with pytest.raises(FossilError, match="region"):
        Region.parse(text)


def test_voxels_have_a_volume_and_a_hand():
    geometry = StackGeometry(72.7, 500.0)
    assert geometry.voxel_size.zyx == (500.0, 72.7, 72.7)
    assert geometry.voxel_size.volume_um3 == pytest.approx(500 * 72.7**2)
    assert geometry.handedness == 1
    assert StackGeometry(1, 1, ZDirection.OUT_OF).handedness == -1


def test_slices_have_positions_and_stand_for_half_the_way_to_their_neighbours():
    even = StackGeometry(10.0, 40.0)
    assert [even.z_um(-0.5), even.z_um(2), even.thickness_um(7)] == [-20, 80, 40]
    uneven = StackGeometry(10.0, 50.0, z_positions_um=(0.0, 40.0, 60.0, 150.0))
    assert [uneven.z_um(z) for z in (-1, 0.25, 2, 3.5)] == [-40, 10, 60, 195]
    assert [uneven.thickness_um(z) for z in range(4)] == [40, 30, 55, 90]


@pytest.mark.parametrize(
    ("positions", "found"),
    [
        ([0.0, 1.0], "expected 3, one a slice; found 2"),
        ([0.0, float("nan"), 2.0], "found nan after 0 at slice 1"),
        ([5.0, 7.0, 7.0], "found 7 after 7 at slice 2"),
        ([float("inf"), 7.0, 8.0], "found inf at slice 0"),
    ],
)
def test_impossible_positions_are_refused(positions, found):
    with pytest.raises(FossilError, match=f"in p.csv cannot be used.*{found}"):
        check_positions(positions, 3, "p.csv")
    assert check_positions([5.0, 7.0, 8.5], 3, "p.csv") == (0.0, 2.0, 3.5)


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_voxels_are_refused(size):
    with pytest.raises(FossilError, match="voxel size along y"):
        VoxelSize(1.0, size, 1.0)
