"""Predictions painted when looked at equal predictions painted whole."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.widgets.canvas.prediction_array import PredictionArray, paint_slice, step_for

SHAPE = (3, 37, 53)


def some(z: int) -> list[Instance]:
    rng = np.random.default_rng(z)
    made = []
    for n in range(12):
        mask = np.zeros(SHAPE[1:], bool)
        y, x = rng.integers(0, 30), rng.integers(0, 45)
        mask[y : y + rng.integers(1, 15), x : x + rng.integers(1, 15)] = True
        made.append(
            Instance(z, "a", Mask.from_array(mask), score=float(rng.random()), id=100 * z + n + 1)
        )
    return made


@pytest.mark.parametrize("score", [0.0, 0.31, 0.5, 0.99, 1.0])
def test_a_threshold_equals_painting_only_what_is_above_it(score):
    array = PredictionArray(some, SHAPE, score)
    expected = np.zeros(SHAPE[1:])
    for instance in sorted(some(1), key=lambda i: i.score):
        if instance.score >= score:
            expected[instance.mask.to_array()] = instance.id
    np.testing.assert_array_equal(array[1], expected)


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_a_coarser_painting_takes_every_nth_pixel(step):
    fine = paint_slice(some(0), SHAPE[1:]).above(0.2)
    coarse = paint_slice(some(0), SHAPE[1:], step).above(0.2)
    np.testing.assert_array_equal(coarse, fine[::step, ::step])


def test_indexing_reads_only_the_slices_asked_for():
    asked = []

    def read(z):
        asked.append(z)
        return some(z)

    array = PredictionArray(read, SHAPE)
    assert array.shape == SHAPE
    assert array.size == np.prod(SHAPE)
    assert asked == []
    assert array[2, 3:9, 4:8].shape == (6, 4)
    array.score = 0.9
    assert array[np.int64(2)].dtype == np.uint32
    assert asked == [2]
    array.forget()
    assert array[1:3].shape == (2, *SHAPE[1:])
    assert asked == [2, 1, 2]


def test_a_slice_without_instances_is_empty():
    assert not PredictionArray(lambda _: [], SHAPE)[0].any()


def test_large_slices_are_painted_coarser():
    assert step_for((1000, 1500)) == 1
    assert step_for((3173, 4809)) == 2
