"""Tidied masks are what brute force makes of them, and take nothing from others."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.tidy import fill_holes, grow, settled, smooth, without_islands

SHAPE = (40, 50)
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]


def disc(y: float, x: float, radius: float) -> np.ndarray:
    return np.hypot(ROWS - y, COLUMNS - x) <= radius


def mask(array: np.ndarray) -> Mask:
    return Mask.from_array(array)


@pytest.mark.parametrize("pixels", [1, 2.5, 4])
@pytest.mark.parametrize("centre", [(20, 25), (2, 3)])
def test_growing_and_shrinking_is_by_distance(pixels: float, centre: tuple[int, int]) -> None:
    inside = disc(*centre, 9)
    own, rest = np.argwhere(inside), np.argwhere(~inside)
    far = np.sqrt(((rest[:, None] - own) ** 2).sum(2))
    grown, shrunk = inside.copy(), inside.copy()
    grown[tuple(rest[far.min(1) <= pixels].T)] = True
    # Also at the border of the slice, which is no outline.
    shrunk[tuple(own[far.min(0) <= pixels].T)] = False
    assert (grow(mask(inside), pixels).to_array() == grown).all()
    assert (grow(mask(inside), -pixels).to_array() == shrunk).all()


@pytest.mark.parametrize("centre", [(20, 25), (1, 20)])
def test_smoothing_keeps_the_area_and_rounds_the_outline(centre: tuple[int, int]) -> None:
    rough = disc(*centre, 10) ^ (disc(*centre, 12) & (np.random.default_rng(0).random(SHAPE) > 0.8))
    even = smooth(mask(rough), 2)
    assert abs(even.area - np.count_nonzero(rough)) <= 0.01 * np.count_nonzero(rough)

    def outline(array: np.ndarray) -> int:
        return sum(int(np.abs(np.diff(array.astype(int), axis=a)).sum()) for a in (0, 1))

    assert outline(even.to_array()) < 0.5 * outline(rough)


def test_holes_are_filled_and_bays_are_not() -> None:
    bay = (slice(15, 17), slice(0, 30))
    ring = disc(20, 25, 12) & ~disc(22, 25, 3)
    ring[bay] = False
    filled = fill_holes(mask(ring)).to_array()
    expected = disc(20, 25, 12)
    expected[bay] = False
    assert (filled == expected).all()


def test_islands_go_by_size() -> None:
    large, middle, small = disc(15, 15, 9), disc(30, 40, 4), disc(5, 45, 1)
    every = mask(large | middle | small)
    assert without_islands(every) == mask(large)
    assert without_islands(every, int(middle.sum())) == mask(large | middle)
    assert without_islands(every, 10_000).area == 0


def test_what_a_mask_gains_is_cut_by_others_but_not_by_its_cavity() -> None:
    body = Instance(0, "cup", mask(disc(20, 15, 8)), id=1)
    cavity = Instance(0, "cup", mask(disc(20, 15, 3)), part=Part.CAVITY, id=2, parent=1)
    # It overlapped before, and keeps that.
    other = Instance(0, "cup", mask(disc(20, 28, 7)), id=3)
    every = [body, cavity, other]
    grown = settled(body, mask(disc(20, 15, 12)), every).to_array()
    expected = disc(20, 15, 12) & ~(disc(20, 28, 7) & ~disc(20, 15, 8))
    assert (grown == expected).all()
    within = disc(20, 15, 8) & ~disc(20, 28, 7)
    assert settled(cavity, mask(disc(20, 15, 11)), every) == mask(within)


def test_a_body_keeps_its_reviewed_cavity() -> None:
    body = Instance(0, "cup", mask(disc(20, 15, 8)), id=1)
    hollow = mask(disc(20, 15, 6))
    cavity = Instance(0, "cup", hollow, part=Part.CAVITY, id=2, parent=1, reviewed=True)
    assert settled(body, mask(disc(20, 15, 2)), [body, cavity]) == hollow
