"""Motions of photographs within their plane, of pixels and of masks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Mask
from napari_fossiledit.masks.placed import moved, moved_probability
from napari_fossiledit.masks.probability import Piece, ProbabilityMask
from napari_fossiledit.placement import Alignment, Placement, from_points, placed, source_part
from napari_fossiledit.samples.reef import Shift
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.stacks.pixels import area_mean
from napari_fossiledit.stacks.placed import PlacedStack

SHAPE = (120, 160)
TURNED = Placement(3.3, -7.1, 2.0)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 4)
    return (noise * 800 + 128).clip(0, 255).astype(np.uint8)


def inner(image: np.ndarray) -> np.ndarray:
    return image[20:-20, 20:-20].astype(int)


def test_pixels_and_masks_move_as_those_of_the_sample_reef_do(image: np.ndarray) -> None:
    shift = Shift(TURNED.dy, TURNED.dx, TURNED.degrees)
    np.testing.assert_array_equal(inner(placed(image, TURNED, SHAPE)), inner(shift.move(image, 1)))
    mask = np.zeros(SHAPE, bool)
    mask[30:70, 50:110] = True
    mask[40:50, 60:70] = False
    expected = shift.move(mask.astype(np.uint8), 0) > 0
    np.testing.assert_array_equal(moved(Mask.from_array(mask), TURNED).to_array(), expected)


def test_motions_follow_each_other_and_come_back() -> None:
    other, points = Placement(-2, 5, -1.5), np.random.default_rng(1).random((5, 2)) * 100
    both = other.after(TURNED).points(points, SHAPE)
    np.testing.assert_allclose(both, other.points(TURNED.points(points, SHAPE), SHAPE))
    back = TURNED.inverse.points(TURNED.points(points, SHAPE), SHAPE)
    np.testing.assert_allclose(back, points)
    found = from_points(points, TURNED.points(points, SHAPE), SHAPE)
    np.testing.assert_allclose([found.dy, found.dx, found.degrees], [3.3, -7.1, 2.0])
    assert Placement.parse(TURNED.text()) == TURNED
    assert Placement.parse(Placement().text()) == Placement()


def test_whole_pixels_move_without_a_trace(image: np.ndarray) -> None:
    away, colours = Placement(5, -4), np.stack([image, image // 2, image // 3], axis=2)
    there = placed(colours, away, SHAPE)
    np.testing.assert_array_equal(there[5:, :-4], colours[:-5, 4:])
    assert not there[:5].any()
    assert not there[:, -4:].any()
    mask = Mask.from_array(image > 140)
    inside = placed(image > 140, away, SHAPE)
    assert moved(mask, away) == Mask.from_array(inside)
    assert not moved(mask, Placement(500, 0)).area
    assert not moved(mask, Placement(500, 0, 1)).area


@pytest.mark.parametrize("motion", [TURNED, Placement(5, -4), Placement(500, 0, 1)])
def test_probabilities_move_as_masks_do(motion: Placement) -> None:
    grid = np.random.default_rng(2).integers(0, 255, (28, 28), dtype=np.uint8)
    told = ProbabilityMask(
        (Piece((-3.5, 20.25, 40, 80), grid), Piece((30, 60, 58, 88), grid, True))
    )
    there = moved_probability(told, motion, SHAPE)
    for at in (0.3, 0.5, 0.7):
        assert there.cut(at, SHAPE) == moved(told.cut(at, SHAPE), motion)


def test_a_part_of_a_level_is_that_of_the_whole(image: np.ndarray) -> None:
    whole, part = placed(image, TURNED, SHAPE), (slice(40, 90), slice(30, 120))
    near = source_part(TURNED, SHAPE, part, 1, SHAPE)
    origin = (near[0].start, near[1].start)
    found = placed(image[near], TURNED, SHAPE, part, origin=origin)
    np.testing.assert_array_equal(found, whole[part])
    far = placed(image[:0, :3], Placement(500.5, 0), SHAPE, part)
    assert (far.shape, far.any()) == ((50, 90), False)
    half = placed(area_mean(image, 2), TURNED, SHAPE, factor=2)
    assert abs(inner(half) - inner(area_mean(whole, 2))).mean() < 1.5


@pytest.mark.parametrize("factors", [(2, 2), (4, 4), (3, 3), (1.5, 1.5), (1, 3)])
def test_levels_of_any_size_lie_where_the_photographs_do(
    factors: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dask.array as da

    size, motion = (757, 1001), Placement(30.5, -21, 1.5)

    def spots(scale: tuple[float, float], *there: tuple[float, float]) -> np.ndarray:
        """Return a level of a photograph with round spots at places of it."""
        y, x = (
            np.arange(math.ceil(n / f)) * f + (f - 1) / 2 for n, f in zip(size, scale, strict=True)
        )
        each = [np.exp(-((y[:, None] - a) ** 2 + (x - b) ** 2) / 300) for a, b in there]
        return np.rint(200 * sum(each)).astype(np.uint8)[None]

    here = np.array([[90.0, 120], [650, 900]])
    raw = BlankStack.of_shape(Path("p"), (1, *size))
    mixed = np.zeros((2, 9, 9), np.uint8)
    levels = [da.from_array(level) for level in (spots(factors, *here), mixed)]
    monkeypatch.setattr(raw, "levels", lambda: levels)
    (level,) = PlacedStack(raw, lambda: Alignment.of({0: motion})).levels()
    true = spots(factors, *motion.points(here, size)).astype(int)
    assert abs(np.asarray(level) - true).max() < 8


def test_an_alignment_holds_up_to_its_next_entry() -> None:
    jump, more = Placement(2, 3), Placement(1, 0, 0.5)
    alignment = Alignment().moved(4, jump)
    assert [alignment.at(z) for z in (0, 3, 4, 9)] == [Placement()] * 2 + [jump] * 2
    after = alignment.moved(7, more)
    assert (after.at(6), after.at(7)) == (jump, more.after(jump))
    assert [a.at(5) for a in (alignment.moved(4, more), alignment.moved(5, more, alone=True))] == [
        more.after(jump)
    ] * 2
    assert alignment.moved(5, more, alone=True).at(6) == jump
    assert alignment.moved(4, jump.inverse) == Alignment()
    assert Alignment.parse(after.text()) == after


def test_a_part_is_laid_anew_and_nothing_else_moves_to_its_neighbours() -> None:
    before = Alignment().moved(3, Placement(0.1, 0.3, 1.3))
    found = Alignment().moved(2, TURNED).moved(4, Placement(0.7, 0.1, 0.2))
    laid = before.within(2, 9, found)
    assert laid.at(2) == Placement()
    # No entry after the part: rounding is no motion.
    assert [z for z, _ in laid.entries] == [4]
    assert laid.at(4).degrees == pytest.approx(0.2)
    assert before.within(2, 9, before) == before


def test_what_is_no_motion_is_refused() -> None:
    with pytest.raises(FossilError, match=r"cannot be placed so.*found nan, 0 px"):
        Placement(float("nan"), 0)
    with pytest.raises(FossilError, match="alignment of the slices is damaged"):
        Alignment.parse('[[1, 2, "x", 0]]')
    with pytest.raises(FossilError, match="all at one place"):
        from_points([(5, 5), (5, 5)], [(6, 6), (6, 6)], SHAPE)
    with pytest.raises(FossilError, match="found 1 and 0"):
        from_points([(5, 5)], [], SHAPE)
