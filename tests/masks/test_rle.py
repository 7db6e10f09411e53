"""Masks against plain arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Mask
from napari_fossiledit.masks.rle import intersections, iou_matrix, union

SHAPE = (17, 13)
ARRAYS = hnp.arrays(np.bool_, SHAPE)
QUICK = settings(max_examples=50, deadline=None)


def ring() -> np.ndarray:
    y, x = np.mgrid[:60, :80]
    distance = np.hypot(y - 30, x - 40)
    return (distance < 25) & (distance > 12)


@QUICK
@given(ARRAYS)
def test_an_array_comes_back(array: np.ndarray) -> None:
    mask = Mask.from_array(array)
    assert (mask.to_array() == array).all()
    assert mask.area == array.sum()


@QUICK
@given(
    hnp.arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20))),
    st.integers(-9, 20),
    st.integers(-9, 20),
)
def test_a_crop_lands_where_it_belongs(crop: np.ndarray, y: int, x: int) -> None:
    big = np.zeros((60, 60), dtype=bool)
    big[20 + y : 20 + y + crop.shape[0], 20 + x : 20 + x + crop.shape[1]] = crop
    expected = big[20 : 20 + SHAPE[0], 20 : 20 + SHAPE[1]]
    mask = Mask.from_crop(crop, (y, x), SHAPE)
    assert mask == Mask.from_array(expected)


@QUICK
@given(ARRAYS)
def test_box_and_crop_hold_every_pixel(array: np.ndarray) -> None:
    mask = Mask.from_array(array)
    y0, x0, y1, x1 = mask.box
    assert (mask.crop() == array[y0:y1, x0:x1]).all()
    assert mask.crop().sum() == array.sum()
    assert (mask.crop((2, 3, 11, 9)) == array[2:11, 3:9]).all()


@QUICK
@given(ARRAYS, ARRAYS)
def test_set_operations(left: np.ndarray, right: np.ndarray) -> None:
    a, b = Mask.from_array(left), Mask.from_array(right)
    assert ((a | b).to_array() == (left | right)).all()
    assert ((a & b).to_array() == (left & right)).all()
    assert ((a - b).to_array() == (left & ~right)).all()
    assert intersections([a], [b])[0, 0] == (left & right).sum()
    both = (left | right).sum()
    assert iou_matrix([a], [b])[0, 0] == pytest.approx((left & right).sum() / both if both else 0)


def test_holes_stay_holes() -> None:
    assert (Mask.from_array(ring()).to_array() == ring()).all()


def test_the_union_of_nothing_is_empty() -> None:
    assert union([], SHAPE).area == 0
    assert Mask.empty(SHAPE).box == (0, 0, 0, 0)
    assert intersections([], [Mask.empty(SHAPE)]).shape == (0, 1)


@pytest.mark.parametrize("counts", [[5], [-1, 222], [200, 22], []])
def test_runs_that_do_not_fit_are_refused(counts: list[int]) -> None:
    with pytest.raises(FossilError, match="221 pixels"):
        Mask.from_counts(counts, SHAPE)
