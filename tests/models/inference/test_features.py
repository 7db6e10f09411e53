"""Feature vectors of slices."""

import numpy as np
import pytest
import torch

from napari_fossiledit.errors import CancelledError
from napari_fossiledit.models.inference.features import ImageNetFeatures, PyramidFeatures
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter


def photograph(height, width):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_features_are_the_deviations_of_all_levels_without_padding(blank_segmenter):
    model, image = blank_segmenter(), photograph(90, 70)
    found = PyramidFeatures(model).features(image)
    assert found.shape == (4 * 32,)
    with torch.no_grad():
        maps = model.network.maps(model.preprocessing.normalise(image)).finding
    # 90 rows and 70 columns are 23 x 18 positions of stride 4, and 3 x 3 of stride 32.
    np.testing.assert_allclose(found[:32], maps["0"][0, :, :23, :18].numpy().std((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found[-32:], maps["3"][0, :, :3, :3].numpy().std((1, 2)), rtol=1e-4)


def test_a_large_slice_is_seen_in_parts(blank_segmenter):
    model = MaskRcnnSegmenter(blank_segmenter().network, Preprocessing(tile=64))
    image = photograph(128, 64)
    maps = [model.capture(part)[0].value[0].flatten(1) for part in (image[:64], image[64:])]
    whole = PyramidFeatures(model).features(image)
    np.testing.assert_allclose(whole[:32], torch.cat(maps, 1).numpy().std(1), rtol=1e-4)
    with pytest.raises(CancelledError, match="features"):
        PyramidFeatures(model).features(image, cancel=lambda: True)


def test_imagenet_features_of_grey_and_colour_of_8_and_16_bit():
    extractor = ImageNetFeatures()
    grey = photograph(60, 80)[..., 0]
    found = extractor.features(grey)
    assert found.shape == (24 + 40 + 112 + 320,)
    np.testing.assert_allclose(extractor.features(np.stack([grey] * 3, axis=2)), found, atol=1e-6)
    # The used range of 16 bit is stretched: nearly the same picture.
    sixteen = extractor.features(grey.astype(np.uint16) * 100)
    assert np.linalg.norm(sixteen - found) < 0.1 * np.linalg.norm(found)
