"""Masks in boxes against torchvision's full-image pasting."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import paste_masks_in_image

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
