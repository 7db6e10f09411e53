"""Predictions painted when looked at equal predictions painted whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.labels import paint_order
from napari_fossiledit.masks.probability import Piece, ProbabilityMask
from napari_fossiledit.widgets.canvas.prediction_array import (
    PredictionArray,
    paint_cut,
    paint_slice,
    step_for,
)

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


def test_the_last_three_slices_are_painted_once_each():
    asked = []

    def read(z):
        asked.append(z)
        return []

    array = PredictionArray(read, SHAPE)
    for z in (0, 1, 0, 1, 2, 1, 0, 3, 2):
        array.painted(z)
    assert asked == [0, 1, 2, 3, 2]
    array.forget()
    array.painted(0)
    assert asked == [0, 1, 2, 3, 2, 0]


def test_a_slice_without_instances_is_empty():
    assert not PredictionArray(lambda _: [], SHAPE)[0].any()


def test_large_slices_are_painted_coarser():
    assert step_for((1000, 1500)) == 1
    assert step_for((3173, 4809)) == 2


def sure(z: int) -> list[Instance]:
    """Instances with probabilities that fall to the right, one of them in two pieces."""
    made = []
    for n, instance in enumerate(some(z)):
        y0, x0, y1, x1 = (float(v) for v in instance.mask.box)
        ramp = np.tile(np.linspace(255, 0, 28).astype(np.uint8), (28, 1))
        pieces = [Piece((x0, y0, x1 + 6, y1 + 4), ramp, exact=n % 2 == 0)]
        if n == 3:
            pieces.append(Piece((x0 + 4, y0, x1 + 12, y1 + 4), ramp))
        kept = ProbabilityMask(tuple(pieces))
        made.append(replace(instance, mask=kept.cut(0.5, SHAPE[1:]), probability=kept))
    return made


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("cut", [0.2, 0.5, 0.8])
def test_a_painting_at_a_cut_is_the_painting_of_masks_cut_there(step, cut):
    painted = paint_cut(sure(0), SHAPE[1:], step, cut).above(0.2)
    wanted = np.zeros(SHAPE[1:])
    for instance in paint_order(sure(0)):
        if instance.score >= 0.2:
            wanted[instance.probability.cut(cut, SHAPE[1:]).to_array()] = instance.id
    np.testing.assert_array_equal(painted, wanted[::step, ::step])


def test_another_cut_reads_probabilities_once_and_one_half_shows_the_stored_masks():
    asked = []

    def read(z):
        asked.append(array.mask_cut)
        return sure(z) if array.mask_cut != 0.5 else some(z)

    array = PredictionArray(read, SHAPE, 0.0)
    stored = array[1].copy()
    for cut in (0.3, 0.6, 0.7):
        array.mask_cut = cut
        np.testing.assert_array_equal(array[1], paint_cut(sure(1), SHAPE[1:], 1, cut).above(0.0))
    assert asked == [0.5, 0.3]
    array.forget()
    array.mask_cut = 0.5
    np.testing.assert_array_equal(array[1], stored)


def test_what_has_no_probabilities_keeps_its_mask():
    np.testing.assert_array_equal(
        paint_cut(some(0), SHAPE[1:], 2, 0.9).above(0.2),
        paint_slice(some(0), SHAPE[1:], 2).above(0.2),
    )
