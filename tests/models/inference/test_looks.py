"""How slices look to a model, and when they look unlike what it learned from."""

import numpy as np
import pytest
from skimage.data import astronaut
from skimage.filters import gaussian

from napari_fossiledit.models.files.places import SHIPPED
from napari_fossiledit.models.files.registry import read_record
from napari_fossiledit.models.inference.looks import UNLIKE, look_of, unlikeness


def test_a_look_holds_brightness_colours_and_texture():
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 200
    rgb = np.stack([checks + 30, checks, checks], axis=2).astype(np.uint8)
    look = look_of(rgb)
    assert look[:6] == pytest.approx((110, 100, 20, 0, -10, 0), abs=1e-3)
    # Neighbours differ by 200; blocks of 4 and of 16 pixels are all alike.
    assert look[6:] == pytest.approx((np.log(201), 0, 0), abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (17, 3)])
def test_slices_smaller_than_a_block_have_a_look(shape):
    assert np.isfinite(look_of(np.full((*shape, 3), 90, np.uint8))).all()


def test_what_lies_between_learned_slices_is_not_unlike_them():
    rgb = astronaut()
    dark, light = look_of(rgb // 2), look_of(rgb)
    assert unlikeness(look_of((rgb * 0.75).astype(np.uint8)), [dark, light]) < 0.5
    assert unlikeness(look_of(rgb[:, :256]), [light]) < UNLIKE


def test_another_texture_and_another_colour_are_unlike():
    rgb = astronaut()
    soft = (gaussian(rgb, 8, channel_axis=2) * 255).astype(np.uint8)
    learned = [look_of(rgb)]
    assert unlikeness(look_of(soft), learned) > UNLIKE
    assert unlikeness(look_of(rgb[..., ::-1]), learned) > UNLIKE


def test_the_shipped_model_tells_how_its_slices_looked():
    training = read_record(SHIPPED / "reef-lite").training
    assert [len(look) for look in training["looks"]] == [9] * len(training["slices"])
