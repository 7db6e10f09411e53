"""Label images from instances and back."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.labels import masks_of_labels, paint_box, paint_masks, paint_order
from napari_fossiledit.masks.rle import measure

SHAPE = (12, 10)


def box(y0: int, x0: int, y1: int, x1: int, score: float = 1.0) -> Instance:
    array = np.zeros(SHAPE, dtype=bool)
    array[y0:y1, x0:x1] = True
    return Instance(0, "archaeocyathid", Mask.from_array(array), score=score)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.uint32, SHAPE, elements=st.sampled_from([0, 1, 7, 2**31, 2**32 - 1])))
def test_every_value_becomes_its_mask(labels: np.ndarray) -> None:
    masks = masks_of_labels(labels)
    assert set(masks) == set(np.unique(labels).tolist()) - {0}
    for value, mask in masks.items():
        assert (mask.to_array() == (labels == value)).all()


def painted(items: list[Instance]) -> np.ndarray:
    """Paint instances with 1, 2, ... in the order in which they are given."""
    value = {id(item): n for n, item in enumerate(items, 1)}
    order = paint_order(items)
    return paint_masks([i.mask for i in order], [value[id(i)] for i in order], SHAPE)


def test_the_higher_score_lies_on_top() -> None:
    labels = painted([box(0, 0, 6, 6, 0.9), box(3, 3, 9, 9, 0.4)])
    assert labels[4, 4] == 1
    assert labels[8, 8] == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_equal_scores_the_smaller_lies_on_top(order: tuple[int, int]) -> None:
    items = [box(0, 0, 9, 9), box(2, 2, 4, 4)]
    labels = painted([items[i] for i in order])
    assert labels[3, 3] == order.index(1) + 1
    assert labels[8, 8] == order.index(0) + 1


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(bool, (4, *SHAPE)), st.tuples(*[st.integers(0, n) for n in 2 * SHAPE]))
def test_masks_are_painted_over_each_other_and_in_any_box(masks: np.ndarray, corners) -> None:
    expected = np.zeros(SHAPE, np.uint32)
    for value, mask in enumerate(masks, 5):
        expected[mask] = value
    codes = [Mask.from_array(mask) for mask in masks]
    np.testing.assert_array_equal(paint_masks(codes, range(5, 9), SHAPE), expected)
    (y0, y1), (x0, x1) = sorted(corners[::2]), sorted(corners[1::2])
    part = paint_box(codes, range(5, 9), (y0, x0, y1, x1))
    np.testing.assert_array_equal(part, expected[y0:y1, x0:x1])


def test_a_code_that_does_not_fit_its_slice_is_not_painted() -> None:
    wrong = Mask((SHAPE[0] + 1, SHAPE[1]), box(0, 0, 2, 2).mask.counts)
    for use in (lambda masks: paint_masks(masks, [1, 2], SHAPE), measure):
        with pytest.raises(FossilError, match=r"run-length code is broken[\s\S]+\(13, 10\)"):
            use([box(0, 0, 2, 2).mask, wrong])
    # 2**64 pixels more than there are would add up to the same.
    long = Mask(SHAPE, run_code([*[2**58] * 64, SHAPE[0] * SHAPE[1]]))
    with pytest.raises(FossilError, match="run-length code is broken"):
        measure([long])


def run_code(runs: list[int]) -> bytes:
    """Return the code of run lengths, as COCO writes it."""
    code = bytearray()
    for n, run in enumerate(runs):
        value = run - runs[n - 2] if n > 2 else run
        more = True
        while more:
            digit, value = value & 0x1F, value >> 5
            more = value != (-1 if digit & 0x10 else 0)
            code.append(48 + digit + 0x20 * more)
    return bytes(code)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(bool, (3, *SHAPE)), st.integers(1, 4))
def test_many_masks_are_measured_and_painted_coarser_at_once(masks: np.ndarray, step: int) -> None:
    masks[1] = False
    codes = [Mask.from_array(mask) for mask in masks]
    alone = [Mask(code.shape, code.counts) for code in codes]
    measure(codes)
    assert [(m.area, m.box) for m in codes] == [(m.area, m.box) for m in alone]
    whole = paint_masks(codes, [7, 8, 9], SHAPE)
    coarse = paint_masks(codes, [7, 8, 9], SHAPE, step=step)
    np.testing.assert_array_equal(coarse, whole[::step, ::step])


def test_memory_does_not_grow_with_the_masks_that_are_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("napari_fossiledit.masks.rle._TOGETHER", 10)
    grid = Mask.from_array(np.indices((120, 120)).sum(axis=0) % 7 == 0)
    peaks = []
    for count in (10, 95):
        many = [Mask(grid.shape, grid.counts) for _ in range(count)]
        tracemalloc.start()
        measure(many)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert {(m.area, m.box) for m in many} == {(grid.area, grid.box)}
    assert peaks[1] < 1.5 * peaks[0]


def test_a_slice_of_many_pixels_is_painted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [box(0, 0, *SHAPE).mask, box(1, 1, 4, 4).mask]
    at_once = paint_masks(whole, [1, 2], SHAPE)
    monkeypatch.setattr("napari_fossiledit.masks.labels._AT_ONCE", 3)
    np.testing.assert_array_equal(paint_masks(whole, [1, 2], SHAPE), at_once)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(bool, (2, *SHAPE)))
def test_a_mask_without_another(masks: np.ndarray) -> None:
    left, right = (Mask.from_array(mask) for mask in masks)
    np.testing.assert_array_equal((left - right).to_array(), masks[0] & ~masks[1])
