"""One way from a slice to the network's input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.inference.preprocessing import (
    Preprocessing,
    Resize,
    as_rgb,
    resized,
    value_range,
)


def test_grey_becomes_three_equal_channels():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    rgb = as_rgb(grey, 0.0, 255.0)
    assert rgb.shape == (16, 16, 3)
    assert all(np.array_equal(rgb[..., c], grey) for c in range(3))


def test_16_bit_is_stretched_over_its_used_range():
    random = np.random.default_rng(0)
    deep = random.integers(1000, 5000, (90, 90), dtype=np.uint16)
    deep[0, 0] = 65535
    low, high = value_range([deep])
    assert 1000 <= low < 1100
    assert 4900 < high < 5000
    shown = as_rgb(deep, low, high)
    wanted = np.rint(((deep.astype(float) - low) / (high - low) * 255).clip(0, 255))
    np.testing.assert_array_equal(shown[..., 0], wanted)


def test_8_bit_and_flat_slices_have_a_range():
    assert value_range([np.full((9, 9), 7, dtype=np.uint8)]) == (0.0, 255.0)
    low, high = value_range([np.full((9, 9), 700, dtype=np.uint16)])
    assert low < high


@pytest.mark.parametrize("shape", [(4, 4, 4), (4, 4, 1), (4,)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(FossilError, match=r"expected \(y, x\) or \(y, x, 3\)"):
        as_rgb(np.zeros(shape, dtype=np.uint8), 0, 255)


def test_other_types_are_refused():
    with pytest.raises(FossilError, match="found float64"):
        as_rgb(np.zeros((4, 4)), 0, 255)


def test_normalising_orders_scales_and_pads():
    settings = Preprocessing(bgr=True, mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0))
    rgb = np.dstack([np.full((40, 33), v, dtype=np.uint8) for v in (30, 20, 10)])
    found = settings.normalise(rgb)
    assert found.shape == (1, 3, 64, 64)
    assert found[0, :, 39, 32].tolist() == [9.0, 9.0, 6.75]
    assert not found[0, :, 40:].any()
    assert not found[0, :, :, 33:].any()


def test_fossils_keep_their_size_whatever_the_pixel_size():
    settings = Preprocessing(scale=0.5, pixel_size_um=10.0)
    image = np.zeros((100, 60, 3), dtype=np.uint8)
    assert settings.prepare(image).shape == (50, 30, 3)
    assert settings.prepare(image, pixel_size_um=20.0).shape == (100, 60, 3)
    assert Preprocessing(scale=0.5).working_scale((100, 60), 20.0) == 0.5


@pytest.mark.parametrize(
    ("shape", "scale"), [((800, 1000), 1.0), ((400, 500), 2.0), ((1000, 2666), 0.5)]
)
def test_short_edge_with_a_limit_for_the_long_one(shape, scale):
    settings = Preprocessing(resize=Resize.SHORT_EDGE)
    assert settings.working_scale(shape) == scale


def test_resizing_is_antialiased():
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    small = resized(stripes, (16, 16))
    assert np.abs(small[:, 2:-2].astype(int) - 127).max() < 40
    whole = np.asarray(Image.fromarray(stripes))
    np.testing.assert_array_equal(resized(stripes, (64, 64)), whole)


def test_settings_come_back_from_json():
    settings = Preprocessing(scale=0.37, low=3.5, high=900.25, tile=512)
    assert Preprocessing.model_validate_json(settings.model_dump_json()) == settings
    assert torch.is_tensor(settings.normalise(np.zeros((32, 32, 3), dtype=np.uint8)))


@pytest.mark.parametrize("pixel_size", [7270.0, 0.727])
def test_a_pixel_size_in_another_unit_is_refused(pixel_size):
    settings = Preprocessing(scale=0.4, pixel_size_um=72.7)
    with pytest.raises(FossilError, match=r"expected 18\.1.* to 290\.8 um .* found"):
        settings.prepare(np.zeros((40, 60), dtype=np.uint8), pixel_size)
