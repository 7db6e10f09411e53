"""What of a stack a model is shown as black and white."""

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.inference.preprocessing import Preprocessing, value_range
from napari_fossiledit.models.inference.values import EIGHT_BIT, Values, shown_to

GREY = np.random.default_rng(0).integers(20, 241, (60, 60)).astype(np.uint8)
DEEP = GREY.astype(np.uint16)


def shown(learned, pixels):
    return shown_to(learned, Values.of([pixels]), "the stack")


def test_what_fits_is_shown_as_it_is():
    assert shown(EIGHT_BIT, GREY) is None
    assert shown(value_range([DEEP * 100]), DEEP * 110) is None


@pytest.mark.parametrize("factor", [257, 256, 200])
def test_a_bright_stack_of_16_bit_is_shown_whole_to_a_model_of_8_bit(factor):
    found = shown(EIGHT_BIT, DEEP * factor)
    assert (found.low, found.high) == (0, 65535)
    assert "from 0 to 65535 are shown to the model as 0 to 255" in found.note


def test_8_bit_saved_as_16_is_shown_as_it_was():
    dark = np.minimum(GREY, 60)
    found = shown(EIGHT_BIT, dark.astype(np.uint16) * 257)
    prepared = Preprocessing(shown=(found.low, found.high)).prepare(dark.astype(np.uint16) * 257)
    assert (prepared[..., 0] == dark).all()
    found = shown(EIGHT_BIT, dark.astype(np.uint16))
    assert (found.low, found.high) == EIGHT_BIT
    assert "it is taken for 8 bit" in found.note


def test_values_of_fewer_bits_are_shown_by_the_range_that_is_used():
    found = shown(EIGHT_BIT, DEEP * 16)
    assert (found.low, found.high) == (320, 3840)
    assert "its values from 320 to 3840, nearly all that occur" in found.note


@pytest.mark.parametrize(
    ("pixels", "span"),
    [
        (GREY, EIGHT_BIT),
        (DEEP, EIGHT_BIT),
        (DEEP * 257, (0, 65535)),
        (np.full_like(DEEP, 700), (0, 65535)),
        (np.array([0, 4095] * 900, np.uint16), (0, 4095)),
    ],
)
def test_black_and_white_of_a_stack(pixels, span):
    assert Values.of([pixels]).span == span


def test_a_model_of_16_bit_sees_8_bit_as_it_learned():
    low, high = value_range([DEEP * 257])
    there = Preprocessing(low=low, high=high).prepare(DEEP * 257)
    found = shown((low, high), GREY)
    here = Preprocessing(low=low, high=high, shown=(found.low, found.high)).prepare(GREY)
    assert (here == there).all()
    assert "with values from 5140 to 61680" in found.note
    assert shown((low, high), DEEP * 16).high == 3840


@pytest.mark.parametrize(
    ("learned", "dtype"), [(EIGHT_BIT, np.uint16), ((900.0, 9000.0), np.uint8)]
)
def test_slices_without_black_and_white_are_refused(learned, dtype):
    with pytest.raises(FossilError, match="black and white cannot be known") as caught:
        shown(learned, np.full((9, 9), 200, dtype))
    assert "nearly everywhere the value 200" in str(caught.value)


def test_what_is_shown_is_no_part_of_the_model(blank_segmenter):
    model = blank_segmenter()
    other = model.showing(300.0, 4000.0)
    assert other.preprocessing.shown == (300.0, 4000.0)
    assert other.edited({}).preprocessing.shown == (300.0, 4000.0)
    assert other.model_hash == model.model_hash
    assert "shown" not in other.preprocessing.model_dump()
