"""Keys and values are what goes into and comes out of the pyramid's output convolutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn, record_activations
from napari_fossiledit.models.network.spec import default_spec


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    spec = default_spec("lite", ("a",)).model_copy(update={"channels": 16, "box_width": 8})
    return MaskRcnnSegmenter(MaskRcnn(spec), Preprocessing(scale=0.5))


def test_value_is_the_convolution_of_its_key(model):
    image = np.random.default_rng(0).integers(0, 255, (200, 130), dtype=np.uint8)
    levels = model.capture(image)
    assert [level.stride for level in levels] == [4, 8, 16, 32]
    for level, layer in zip(levels, model.layers().values(), strict=True):
        assert level.key.shape == (1, 16, 128 // level.stride, 96 // level.stride)
        with torch.no_grad():
            torch.testing.assert_close(layer(level.key), level.value)
        assert not level.value.requires_grad


def test_hooks_are_gone_after_an_error(model):
    layers = list(model.layers().values())
    with record_activations(layers):
        assert all(layer._forward_hooks for layer in layers)
    with pytest.raises(RuntimeError), record_activations(layers):
        model.network.backbone(torch.zeros(1, 5, 32, 32))
    assert not any(layer._forward_hooks for layer in layers)


def test_instances_that_a_person_drew_are_held_as_well(model):
    image = np.random.default_rng(0).integers(0, 255, (200, 130), dtype=np.uint8)
    drawn = np.zeros(image.shape, np.bool_)
    drawn[20:101, 30:91] = True
    # Boxes of masks are whole numbers, those of predictions are not.
    (tile,) = model.held(image, [Instance(0, "a", Mask.from_array(drawn))])
    assert tile.logits(tile.pixels)[0].shape == (1, 2)
