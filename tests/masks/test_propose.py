"""Outlines are proposed where the image changes, whatever its size, depth and brightness."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.propose import propose, propose_at
from napari_fossiledit.masks.rle import iou_matrix

SHAPE = (120, 160)
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]
#: Neither an ellipse nor a box.
FOSSIL = (np.hypot(ROWS - 60, COLUMNS - 70) < 25) & (ROWS + COLUMNS > 112)


def photograph() -> np.ndarray:
    random = np.random.default_rng(0)
    clean = np.where(FOSSIL[..., None], [200, 205, 190], [90, 50, 40])
    return (clean + random.normal(0, 12, (*SHAPE, 3))).clip(0, 255).astype(np.uint8)


def overlap(found: Mask, truth: np.ndarray = FOSSIL) -> float:
    return float(iou_matrix([found], [Mask.from_array(truth)])[0, 0])


def box_of(truth: np.ndarray) -> tuple[int, int, int, int]:
    return Mask.from_array(truth).box


@pytest.mark.parametrize(
    "image",
    [
        photograph(),
        photograph().mean(2).astype(np.uint16) * 11 + 300,
        255 - photograph(),
    ],
    ids=["colour", "grey of 16 bit", "inverted"],
)
def test_a_box_gives_the_outline(image: np.ndarray) -> None:
    box = box_of(FOSSIL)
    found = propose(image, box)
    assert overlap(found) > 0.95
    assert found.box[0] >= box[0]
    assert found.box[3] <= box[3]


def test_a_large_fossil_is_drawn_as_well_as_a_small_one() -> None:
    large = np.kron(photograph(), np.ones((6, 6, 1), np.uint8))
    truth = np.kron(FOSSIL, np.ones((6, 6), bool))
    assert overlap(propose(large, box_of(truth)), truth) > 0.95


def test_a_fossil_at_the_border_of_the_slice_is_drawn() -> None:
    cut = photograph()[:, 70:]
    truth = FOSSIL[:, 70:]
    assert overlap(propose(cut, box_of(truth)), truth) > 0.93


def test_what_a_model_drew_decides_where_the_image_does_not() -> None:
    image = np.full(SHAPE, 100, dtype=np.uint8)
    box = box_of(FOSSIL)
    half = FOSSIL & (ROWS < 65)
    believed = Instance(0, "cup", Mask.from_array(half))
    alone, told = propose(image, box), propose(image, box, believed)
    assert overlap(told, half) > overlap(alone, half) + 0.1


def test_a_click_finds_the_size() -> None:
    # The box of a fossil two thirds as large, and of one half as large again.
    for side in (35, 75):
        assert overlap(propose_at(photograph(), (60, 72), side)) > 0.85


def test_a_click_into_nothing_gives_nothing() -> None:
    assert propose_at(np.full(SHAPE, 100, dtype=np.uint8), (60, 70), 30).area == 0
