"""Probabilities of masks: where a cut ends, what is kept, and what is refused."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fossiledit.masks.probability import Piece, ProbabilityMask, values

SHAPE = (61, 47)
coordinate = st.floats(-20, 70, width=32)


def dome(size: int = 28) -> np.ndarray:
    """Probability that falls from the middle of the box to its border."""
    at = (np.arange(size) + 0.5) / size * 2 - 1
    return np.rint(255 * np.clip(1.2 - np.hypot(at[:, None], at), 0, 1)).astype(np.uint8)


@settings(deadline=None, max_examples=60)
@given(coordinate, coordinate, st.floats(0, 60), st.floats(0, 60), st.booleans(), st.integers(0, 9))
def test_a_higher_cut_is_a_part_of_a_lower_one(x, y, width, height, exact, seed):
    grid = np.random.default_rng(seed).integers(0, 256, (28, 28), dtype=np.uint8)
    one = ProbabilityMask((Piece((x, y, x + width, y + height), grid, exact),))
    masks = [one.cut(at, SHAPE).to_array() for at in (0.1, 0.5, 0.9)]
    assert not (masks[1] & ~masks[0]).any()
    assert not (masks[2] & ~masks[1]).any()
    pixels, (top, left) = values(one.pieces[0], SHAPE)
    assert 0 <= top <= top + pixels.shape[0] <= SHAPE[0]
    assert 0 <= left <= left + pixels.shape[1] <= SHAPE[1]


@pytest.mark.parametrize("exact", [True, False])
def test_a_cut_ends_where_the_probability_does(exact):
    """A dome of radius 1.2 in a box of 40 pixels: at p its radius is 20 (1.2 - p)."""
    one = ProbabilityMask((Piece((3, 5, 43, 45), dome(), exact),))
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    away = np.hypot(y + 0.5 - 25, x + 0.5 - 23)
    for at in (0.3, 0.5, 0.8):
        found = one.cut(at, SHAPE).to_array()
        wanted = away < 20 * (1.2 - at)
        assert found[away < 20 * (1.2 - at) - 1.2].all()
        assert not found[away > 20 * (1.2 - at) + 1.2].any()
        assert abs(int(found.sum()) - int(wanted.sum())) < 0.1 * wanted.sum()


def test_a_grid_of_the_pixels_themselves_stays_as_it_is():
    grid = np.random.default_rng(0).integers(0, 256, (12, 31), dtype=np.uint8)
    one = ProbabilityMask((Piece((7, 9, 38, 21), grid, True),))
    for at in (0.2, 0.5, 0.6):
        wanted = np.zeros(SHAPE, dtype=bool)
        wanted[9:21, 7:38] = grid >= at * 255
        np.testing.assert_array_equal(one.cut(at, SHAPE).to_array(), wanted)


def test_pieces_are_united_at_every_cut():
    parts = [Piece((2, 2, 22, 30), dome()), Piece((16, 2, 40, 30), dome())]
    both = ProbabilityMask(tuple(parts))
    for at in (0.3, 0.5, 0.8):
        alone = [ProbabilityMask((p,)).cut(at, SHAPE).to_array() for p in parts]
        np.testing.assert_array_equal(both.cut(at, SHAPE).to_array(), alone[0] | alone[1])


def test_what_is_kept_comes_back():
    grid = np.random.default_rng(1).integers(0, 256, (28, 28), dtype=np.uint8)
    pieces = (Piece((1.25, -2.5, 9.75, 3.0), grid), Piece((0, 0, 9, 3), dome(5)[:3], True))
    again = ProbabilityMask.from_bytes(ProbabilityMask(pieces).to_bytes())
    assert [(p.box, p.exact) for p in again.pieces] == [(p.box, p.exact) for p in pieces]
    for old, new in zip(pieces, again.pieces, strict=True):
        np.testing.assert_array_equal(old.grid, new.grid)


def _packed(*values: object, grid: bytes = b"") -> bytes:
    return b"\1" + zlib.compress(struct.pack("<4fHHB", *values) + grid)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        "text",
        7,
        b"\2" + zlib.compress(b""),
        b"\1" + zlib.compress(b""),
        b"\1junk",
        ProbabilityMask((Piece((0, 0, 9, 9), dome()),)).to_bytes()[:-1],
        ProbabilityMask((Piece((0, 0, 9, 9), dome()),)).to_bytes() + b"more",
        _packed(0, 0, 9, 9, 2, 2, 0, grid=b"abc"),
        _packed(0, 0, 9, 9, 0, 2, 0),
        _packed(0, 0, float("nan"), 9, 1, 1, 0, grid=b"a"),
        _packed(0, 0, 9, 9, 1, 1, 0, grid=b"abc"),
        _packed(0, 0, 9e9, 9, 1, 1, 0, grid=b"a"),
        b"\1" + zlib.compress(bytes(65_000_000)),
    ],
)  # fmt: skip
def test_anything_else_is_refused(data):
    with pytest.raises(ValueError, match="mask probabilities"):
        ProbabilityMask.from_bytes(data)


def test_what_is_too_large_is_kept_coarser_and_can_be_read(monkeypatch):
    disc = np.hypot(*np.mgrid[-30:31, -23:24]) < 20
    piece = Piece((0.0, 0.0, 47.0, 61.0), disc.astype(np.uint8) * 255, exact=True)
    whole = ProbabilityMask((piece, piece))
    monkeypatch.setattr("napari_fossiledit.masks.probability._MOST_BYTES", 2000)
    again = ProbabilityMask.from_bytes(whole.to_bytes())
    assert [p.grid.shape for p in again.pieces] == [(31, 24)] * 2
    assert again.pieces[0].box == piece.box
    found = again.cut(0.5, SHAPE).to_array()
    assert (found & disc).sum() / (found | disc).sum() > 0.9


def test_a_box_far_larger_than_the_slice_costs_the_slice():
    for exact in (True, False):
        pixels, origin = values(Piece((-9e8, -8e8, 9e8, 8e8), dome(), exact), SHAPE)
        assert (pixels.shape, origin) == (SHAPE, (0, 0))
        assert np.ptp(pixels) < 1e-3
