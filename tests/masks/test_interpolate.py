"""Sections between slices: analytic shapes, and what cannot be interpolated."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Mask
from napari_fossiledit.masks.interpolate import interpolate
from napari_fossiledit.masks.rle import iou_matrix

SHAPE = (160, 200)


def ellipse(y: float, x: float, ry: float, rx: float, turn: float = 0.0) -> Mask:
    dy, dx = (a - b for a, b in zip(np.mgrid[: SHAPE[0], : SHAPE[1]], (y, x), strict=True))
    cos, sin = math.cos(turn), math.sin(turn)
    return Mask.from_array(
        ((dy * cos + dx * sin) / ry) ** 2 + ((dx * cos - dy * sin) / rx) ** 2 <= 1
    )


def iou(one: Mask, other: Mask) -> float:
    return float(iou_matrix([one], [other])[0, 0])


def test_a_slanting_cylinder_keeps_its_section() -> None:
    made = interpolate({0: ellipse(40, 30, 15, 15), 4: ellipse(100, 150, 15, 15)}, [1, 2, 3])
    for z, mask in made.items():
        # The sections that are given do not overlap.
        assert iou(mask, ellipse(40 + 15 * z, 30 + 30 * z, 15, 15)) > 0.97


def test_the_area_of_a_cone_is_between_and_unlike_sizes_end_as_they_should() -> None:
    made = interpolate({0: ellipse(80, 60, 4, 4), 2: ellipse(80, 60, 40, 40)}, [1])[1]
    assert made.area == pytest.approx((16 + 1600) / 2 * math.pi, rel=0.02)
    assert iou(made, ellipse(80, 60, math.sqrt(808), math.sqrt(808))) > 0.97


def test_place_and_area_follow_the_sections_beyond() -> None:
    # A ball: radius^2 = 40^2 - (10 z)^2, whose area is a parabola in z.
    ball = {z: ellipse(80.3, 100.4, *[math.sqrt(1600 - 100 * z * z)] * 2) for z in (-3, -1, 1, 3)}
    straight = interpolate({z: ball[z] for z in (-1, 1)}, [0])[0]
    curved = interpolate(ball, [0])[0]
    assert straight.area == pytest.approx(1500 * math.pi, rel=0.01)
    # Half of the way from the straight line to the truth.
    assert curved.area == pytest.approx(1550 * math.pi, rel=0.01)


def test_a_stretched_section_turns_into_another() -> None:
    made = interpolate({0: ellipse(80, 100, 10, 40), 2: ellipse(80, 100, 40, 10)}, [1])[1]
    y0, x0, y1, x1 = made.box
    assert y1 - y0 == pytest.approx(x1 - x0, abs=3)


def test_a_branch_parts() -> None:
    one = ellipse(80, 100, 20, 50)
    two = ellipse(80, 60, 15, 15) | ellipse(80, 140, 15, 15)
    made = interpolate({0: one, 4: two}, [1, 3])
    assert [made[1].to_array()[80, x] for x in (60, 100, 140)] == [True, True, True]
    assert [made[3].to_array()[80, x] for x in (60, 100, 140)] == [True, False, True]


def test_a_section_at_the_edge_stays_in_its_slice() -> None:
    edge = interpolate({0: ellipse(2, 2, 10, 10), 2: ellipse(2, 2, 14, 14)}, [1])[1]
    assert iou(edge, ellipse(2, 2, 12.1, 12.1)) > 0.85


def test_single_pixels_and_lines_are_sections() -> None:
    point = Mask.from_crop(np.ones((1, 1), dtype=np.bool_), (5, 5), SHAPE)
    line = Mask.from_crop(np.ones((1, 30), dtype=np.bool_), (9, 5), SHAPE)
    assert 10 <= interpolate({0: point, 2: line}, [1])[1].area <= 20


@pytest.mark.parametrize("z", [-1, 0, 4, 5])
def test_only_slices_between_are_interpolated(z: int) -> None:
    with pytest.raises(FossilError, match=f"Slice {z} cannot be interpolated"):
        interpolate({0: ellipse(80, 60, 9, 9), 4: ellipse(80, 60, 9, 9)}, [z])


def test_an_empty_section_is_refused() -> None:
    with pytest.raises(FossilError, match="none in 4"):
        interpolate({0: ellipse(80, 60, 9, 9), 4: Mask.empty(SHAPE)}, [2])


def test_long_sections_across_each_other_are_looked_at_within_the_slice() -> None:
    shape = (1500, 1500)
    lying = Mask.from_crop(np.ones((4, 1400), dtype=np.bool_), (750, 50), shape)
    standing = Mask.from_crop(np.ones((1400, 4), dtype=np.bool_), (50, 750), shape)
    tracemalloc.start()
    between = interpolate({0: lying, 2: standing}, [1])[1]
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.5 * lying.area <= between.area <= 1.5 * lying.area
    assert used < 300e6
