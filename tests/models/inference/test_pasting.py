"""Masks in boxes against torchvision's full-image pasting."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import paste_masks_in_image

from napari_fossiledit.masks.probability import values
from napari_fossiledit.models.inference.assembly import Detection, Placing, instances_of
from napari_fossiledit.models.inference.pasting import Crop, paste, shared_box

SHAPE = (61, 47)
coordinate = st.floats(-12, 70, width=32)


@settings(deadline=None, max_examples=60)
@given(coordinate, coordinate, st.floats(0.1, 60), st.floats(0.1, 60), st.integers(0, 9))
def test_pastes_the_pixels_that_torchvision_pastes(x, y, width, height, seed):
    mask = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    box = torch.tensor([x, y, x + width, y + height]).clamp(min=0)
    box = torch.minimum(box, torch.tensor([47.0, 61.0, 47.0, 61.0]))
    wanted = paste_masks_in_image(mask, box[None], SHAPE)[0, 0].numpy() > 0.5
    crop = paste(mask[0, 0], box, SHAPE)
    np.testing.assert_array_equal(crop.to_mask(SHAPE).to_array(), wanted)
    np.testing.assert_array_equal(crop.within((0, 0, *SHAPE)), wanted)


def test_work_is_that_of_the_box():
    shape = (40_000, 50_000)
    crop = paste(torch.ones(28, 28), torch.tensor([3e4, 2e4, 3e4 + 9, 2e4 + 9]), shape)
    assert crop.pixels.size < 200
    assert crop.to_mask(shape).area == crop.pixels.sum()


def test_crops_know_what_they_do_not_reach():
    crop = Crop(np.ones((2, 3), dtype=bool), (4, 5))
    assert crop.box == (4, 5, 6, 8)
    assert not crop.within((0, 0, 4, 5)).any()
    assert crop.within((5, 6, 9, 9)).sum() == 2
    assert shared_box((0, 0, 4, 4), (4, 0, 8, 8)) is None


@settings(deadline=None, max_examples=60)
@given(coordinate, coordinate, st.floats(0.5, 60), st.floats(0.5, 60), st.booleans())
def test_probabilities_in_8_bits_are_pasted_alike(x, y, width, height, exact):
    """The same pixels but for those whose probability is one half to 8 bits."""
    at = (torch.arange(28) + 0.5) / 14 - 1
    mask = torch.sigmoid(6 * (0.7 - torch.hypot(at[:, None], at)))
    box = torch.tensor([x, y, x + width, y + height])
    place = Placing(SHAPE, SHAPE, exact)
    found = Detection((0, 0, *SHAPE), box, mask, 0.9, 1)
    for instance in instances_of([found], place, ["a"], 0):
        assert instance.probability is not None
        (piece,) = instance.probability.pieces
        assert (piece.grid.dtype, piece.grid.shape) == (np.uint8, (28, 28))
        again = instance.probability.cut(0.5, SHAPE).to_array()
        differs = again != instance.mask.to_array()
        pixels, (top, left) = values(piece, SHAPE)
        whole = np.zeros(SHAPE, np.float32)
        whole[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        assert np.all(np.abs(whole[differs] - 0.5) <= 0.6 / 255)
        assert differs.sum() <= 2 + 0.05 * instance.mask.area


def test_fragments_of_tiles_keep_the_probabilities_of_each():
    """A disc that no tile sees completely, found in both."""
    shape = (100, 190)
    tiles = [(0, 0, 100, 110), (0, 80, 100, 190)]
    boxes = [torch.tensor([55.0, 10, 110, 90]), torch.tensor([80.0, 10, 135, 90])]
    found = [
        Detection(tile, box, torch.full((28, 28), 0.9), score, 1)
        for tile, box, score in zip(tiles, boxes, (0.6, 0.9), strict=True)
    ]
    (one,) = instances_of(found, Placing(shape, shape), ["a"], 0)
    assert one.probability is not None
    assert [p.box for p in one.probability.pieces] == [(80, 10, 135, 90), (55, 10, 110, 90)]
    np.testing.assert_array_equal(one.probability.cut(0.5, shape).to_array(), one.mask.to_array())
    assert one.mask.box[1] < 60
    assert one.mask.box[3] > 130
