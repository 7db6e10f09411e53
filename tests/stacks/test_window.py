"""Slices that are seen together, and what lies beyond the ends of the stack."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.segment import InputMode
from napari_fossiledit.stacks import open_stack
from napari_fossiledit.stacks.window import ALONE, Window

GREY = InputMode.GREY_WINDOW


def _number(z):
    return np.full((2, 3), z, dtype=np.uint8)


@pytest.mark.parametrize(
    ("z", "seen"), [(0, [2, 1, 0, 1, 2]), (1, [1, 0, 1, 2, 3]), (5, [3, 4, 5, 4, 3])]
)
def test_the_ends_are_mirrored_and_the_slice_is_in_the_middle(z, seen):
    window = Window(GREY, 2)
    planes = window.read(_number, z, 6)
    assert planes.shape == (2, 3, 5)
    assert planes[0, 0].tolist() == seen
    assert (window.centre(planes) == z).all()
    assert planes[0, 0, window.mirrored].tolist() == seen[::-1]


def test_colours_stay_together_when_the_slices_are_turned_round():
    window = Window(InputMode.RGB_WINDOW, 1)
    planes = window.read(
        lambda z: np.arange(3, dtype=np.uint16) + 10 * np.ones((1, 1, 3), np.uint16) * z, 1, 3
    )
    assert planes[0, 0].tolist() == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert planes[0, 0, window.mirrored].tolist() == [20, 21, 22, 10, 11, 12, 0, 1, 2]
    assert window.centre(planes)[0, 0].tolist() == [10, 11, 12]


def test_colours_become_grey_and_grey_becomes_colours():
    colour = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [7, 7, 7]]], dtype=np.uint8)
    grey = Window(GREY, 1).read(lambda z: colour, 1, 3)
    # Luma of ITU-R BT.601, as Pillow has it.
    assert grey[0, :, 1].tolist() == [76, 150, 29, 7]
    assert Window(GREY, 1).notes(coloured=True)[0].endswith("the model sees them in grey.")
    assert not Window(GREY, 1).notes(coloured=False)
    assert not ALONE.notes(coloured=True)
    threefold = Window(InputMode.RGB_WINDOW, 1).read(_number, 1, 3)
    assert threefold[0, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_short_stack_is_refused_and_a_slice_alone_needs_no_other():
    with pytest.raises(FossilError, match=r"too short .* 5 slices at once"):
        Window(GREY, 2).read(_number, 0, 4)
    assert (ALONE.read(_number, 0, 1) == _number(0)).all()
    assert Window.of(InputMode.RGB, 3) == ALONE


def test_a_walk_through_the_stack_reads_each_slice_once(tmp_path, monkeypatch):
    from PIL import Image

    for z in range(7):
        Image.fromarray(_number(z)).save(tmp_path / f"{z}.png")
    stack, decoded = open_stack(tmp_path), []
    decode = stack._decode
    monkeypatch.setattr(stack, "_decode", lambda z: (decoded.append(z), decode(z))[1])
    for z in range(7):
        Window(GREY, 2).read(stack.read, z, 7)
    assert decoded == [2, 1, 0, 3, 4, 5, 6]
