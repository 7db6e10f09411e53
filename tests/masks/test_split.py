"""Masks are split where a line or two clicks say, and no pixel is lost."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Mask
from napari_fossiledit.masks.split import by_clicks, by_line

SHAPE = (60, 80)


def mask_of(*boxes: tuple[int, int, int, int]) -> Mask:
    array = np.zeros(SHAPE, dtype=np.bool_)
    for y0, x0, y1, x1 in boxes:
        array[y0:y1, x0:x1] = True
    return Mask.from_array(array)


def joined(masks: list[Mask]) -> np.ndarray:
    total = sum(m.to_array().astype(int) for m in masks)
    assert total.max() == 1, "a pixel is in two parts"
    return total.astype(bool)


def test_the_pixels_below_the_line_go_to_the_larger_part() -> None:
    whole = mask_of((10, 10, 30, 50))
    large, small = by_line(whole, [(0, 20.5), (59, 20.5)])
    assert large == mask_of((10, 20, 30, 50))
    assert small == mask_of((10, 10, 30, 20))


def test_a_bent_line_parts_a_mask_in_three() -> None:
    whole = mask_of((10, 10, 30, 70))
    parts = by_line(whole, [(5, 20.5), (35, 20.5), (35, 50.5), (5, 50.5)])
    assert parts == [
        mask_of((10, 20, 30, 51)),
        mask_of((10, 51, 30, 70)),
        mask_of((10, 10, 30, 20)),
    ]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ([(0, 0), (0, 79)], "a line beside it"),
        ([(0, 20), (20, 20)], "one part"),
        # It cuts a corner of two pixels off.
        ([(9, 12), (12, 9)], "one part"),
    ],
)
def test_a_line_that_parts_nothing_is_refused(line: list[tuple[float, float]], found: str) -> None:
    with pytest.raises(FossilError, match=f"does not part the mask; .*found {found}"):
        by_line(mask_of((10, 10, 30, 50)), line)


def test_islands_beside_the_line_stay_with_the_nearest_part() -> None:
    island = (50, 12, 54, 16)
    whole = mask_of((10, 10, 30, 50), island)
    large, small = by_line(whole, [(0, 25), (40, 25)])
    assert (joined([large, small]) == whole.to_array()).all()
    assert small.to_array()[51, 13]
    assert not large.to_array()[51, 13]


def test_two_clicks_part_where_the_image_changes() -> None:
    whole = mask_of((10, 10, 40, 70))
    image = np.full((*SHAPE, 3), 60, dtype=np.uint8)
    image[:, 30:] = 180
    image = image + np.random.default_rng(0).integers(0, 20, image.shape, dtype=np.uint8)
    left, right = by_clicks(whole, image, (25, 15), (20, 60))
    assert (joined([left, right]) == whole.to_array()).all()
    assert left.box[:3] == (10, 10, 40)
    assert abs(left.area - 30 * 20) <= 30
    assert by_clicks(whole, image, (20, 60), (25, 15)) == [right, left]


def test_two_clicks_part_where_the_mask_is_narrow_if_the_image_says_nothing() -> None:
    whole = mask_of((10, 10, 40, 30), (23, 30, 26, 50), (10, 50, 40, 75))
    left, right = by_clicks(whole, np.zeros(SHAPE, dtype=np.uint16), (25, 20), (25, 60))
    assert left.to_array()[10:40, 10:30].all()
    assert right.to_array()[10:40, 50:75].all()
    assert (joined([left, right]) == whole.to_array()).all()


def test_a_large_mask_is_parted_as_its_small_copy() -> None:
    small = mask_of((10, 10, 40, 70))
    image = np.zeros(SHAPE, dtype=np.uint8)
    image[:, 30:] = 200
    of_small, _ = by_clicks(small, image, (25, 15), (20, 60))
    large = Mask.from_array(np.kron(small.to_array(), np.ones((12, 12), bool)))
    of_large, other = by_clicks(
        large, np.kron(image, np.ones((12, 12), np.uint8)), (300, 180), (240, 720)
    )
    expected = np.kron(of_small.to_array(), np.ones((12, 12), bool))
    shared = np.count_nonzero(expected & of_large.to_array())
    assert shared > 0.95 * max(of_large.area, np.count_nonzero(expected))
    assert of_large.area + other.area == large.area
    assert ndimage.label(of_large.to_array())[1] == 1


@pytest.mark.parametrize(
    ("second", "words"),
    [((50, 60), "A click lies outside the mask"), ((25.2, 15.7), "Both clicks lie in one place")],
)
def test_clicks_that_cannot_part_a_mask_are_refused(
    second: tuple[float, float], words: str
) -> None:
    with pytest.raises(FossilError, match=words):
        by_clicks(mask_of((10, 10, 40, 70)), np.zeros(SHAPE), (25, 15), second)
