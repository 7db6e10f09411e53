"""Tiles: full cover, and detections merged without seams or doubles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_fossiledit.models.inference.assembly import (
    TileMask,
    inner_sides,
    merge,
    tile_boxes,
    touches_border,
)
from napari_fossiledit.models.inference.pasting import Crop

SHAPE = (100, 190)
TILES = tile_boxes(SHAPE, 100, 20)


def _disc(centre, radius, shape=SHAPE):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def _seen(mask, tile, score=0.9, label=1, shape=SHAPE):
    """What a perfect detector in `tile` finds of a mask of the whole slice."""
    y0, x0, y1, x1 = tile
    crop = Crop(mask[y0:y1, x0:x1].copy(), (y0, x0))
    return TileMask(tile, crop, score, label, touches_border(crop, tile, shape))


def _united(found, groups, shape=SHAPE):
    return [
        np.any([found[k].crop.within((0, 0, *shape)) for k in group], axis=0) for group in groups
    ]


@given(st.integers(1, 400), st.integers(1, 400), st.integers(32, 128), st.integers(0, 40))
def test_tiles_cover_every_pixel_with_the_overlap_asked_for(height, width, tile, overlap):
    boxes = tile_boxes((height, width), tile, overlap)
    seen = np.zeros((height, width), dtype=int)
    for y0, x0, y1, x1 in boxes:
        assert 0 <= y0 < y1 <= height
        assert 0 <= x0 < x1 <= width
        assert (y1 - y0, x1 - x0) == (min(tile, height), min(tile, width))
        seen[y0:y1, x0:x1] += 1
    assert seen.min() >= 1
    starts = sorted({box[1] for box in boxes})
    assert all(a + tile - b >= min(overlap, tile // 2) for a, b in pairwise(starts))


def test_inner_sides():
    assert len(TILES) == 3
    assert inner_sides(TILES[0], SHAPE) == (False, False, False, True)
    assert inner_sides(TILES[-1], SHAPE) == (False, True, False, False)


def test_object_in_the_overlap_is_kept_once_and_by_its_best_score():
    tiles = [(0, 0, 100, 110), (0, 80, 100, 190)]
    disc = _disc((50, 95), 9)
    found = [_seen(disc, tiles[0], 0.7), _seen(disc, tiles[1], 0.8)]
    assert merge(found) == [[1]]


def test_whole_one_beats_a_better_scored_fragment():
    tiles = [(0, 0, 100, 110), (0, 80, 100, 190)]
    disc = _disc((50, 105), 12)
    found = [_seen(disc, tiles[0], 0.99), _seen(disc, tiles[1], 0.4)]
    assert [f.cut for f in found] == [True, False]
    assert merge(found) == [[1]]


def test_fragment_with_a_poor_mask_gives_way_to_the_whole_one_around_it():
    tiles = [(0, 0, 100, 110), (0, 80, 100, 190)]
    found = [_seen(_disc((50, 108), 4), tiles[0], 0.99), _seen(_disc((50, 105), 15), tiles[1], 0.4)]
    assert merge(found) == [[1]]


def test_object_larger_than_the_overlap_is_stitched_without_a_seam():
    tiles = [(0, 0, 100, 110), (0, 80, 100, 190)]
    disc = _disc((50, 95), 40)
    found = [_seen(disc, tiles[0], 0.6), _seen(disc, tiles[1], 0.9)]
    groups = merge(found)
    assert groups == [[1, 0]]
    np.testing.assert_array_equal(_united(found, groups)[0], disc)


def test_object_over_the_corner_of_four_tiles_is_one():
    shape = (160, 160)
    tiles = tile_boxes(shape, 100, 40)
    assert len(tiles) == 4
    disc = _disc((80, 80), 60, shape)
    found = [_seen(disc, tile, shape=shape) for tile in tiles]
    groups = merge(found)
    assert len(groups) == 1
    np.testing.assert_array_equal(_united(found, groups, shape)[0], disc)


@pytest.mark.parametrize("label", [1, 2])
def test_neighbours_and_other_classes_stay_apart(label):
    tiles = [(0, 0, 100, 110), (0, 80, 100, 190)]
    if label == 1:
        masks = (_disc((30, 95), 8), _disc((70, 95), 8))
    else:
        masks = (_disc((50, 95), 8), _disc((50, 95), 8))
    found = [_seen(masks[0], tiles[0]), _seen(masks[1], tiles[1], label=label)]
    assert sorted(merge(found)) == [[0], [1]]


def test_random_discs_through_tiles_come_back_as_they_were():
    random = np.random.default_rng(0)
    shape = (300, 420)
    tiles = tile_boxes(shape, 128, 40)
    grid = [(y, x) for y in range(30, 300, 60) for x in range(30, 420, 60)]
    discs = [_disc(random.uniform(-4, 4, 2) + c, random.uniform(5, 25), shape) for c in grid]
    found = [
        _seen(disc, tile, random.uniform(0.5, 1), shape=shape)
        for tile in tiles
        for disc in discs
        if disc[tile[0] : tile[2], tile[1] : tile[3]].sum() > 30
    ]
    order = random.permutation(len(found))
    found = [found[i] for i in order]
    merged = _united(found, merge(found), shape)
    assert len(merged) == len(discs)
    for disc in discs:
        assert any(np.array_equal(disc, m) for m in merged)
