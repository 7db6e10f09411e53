"""Label images from instances and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.labels import masks_of_labels, paint_labels

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


def test_the_higher_score_lies_on_top() -> None:
    labels = paint_labels([box(0, 0, 6, 6, 0.9), box(3, 3, 9, 9, 0.4)], [1, 2], SHAPE)
    assert labels[4, 4] == 1
    assert labels[8, 8] == 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_equal_scores_the_smaller_lies_on_top(order: tuple[int, int]) -> None:
    items = [box(0, 0, 9, 9), box(2, 2, 4, 4)]
    labels = paint_labels([items[i] for i in order], [i + 1 for i in order], SHAPE)
    assert labels[3, 3] == 2
    assert labels[8, 8] == 1
