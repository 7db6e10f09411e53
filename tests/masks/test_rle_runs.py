"""Compressed run lengths against pycocotools, and everything that is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks.rle import run_lengths

ARRAYS = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 23), st.integers(1, 19)), elements=st.sampled_from([0, 1])
)


def plain_runs(array: np.ndarray) -> list[int]:
    """Run lengths by walking over the pixels column by column."""
    runs, value = [0], 0
    for pixel in array.ravel(order="F"):
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


@settings(max_examples=60, deadline=None)
@given(ARRAYS)
def test_runs_are_those_of_pycocotools(array: np.ndarray) -> None:
    code = coco.encode(np.asfortranarray(array))["counts"]
    assert run_lengths(code).tolist() == plain_runs(array)


def test_long_runs_of_a_large_slice() -> None:
    array = np.zeros((3173, 801), dtype=np.uint8, order="F")
    array[3000:, 799] = 1
    assert run_lengths(coco.encode(array)["counts"]).tolist() == plain_runs(array)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (b"", "nothing"),
        (b"\x00\x01", "no digit"),
        (b"\xff", "no digit"),
        (b"5P", "breaks off"),
        (b"o" * 40 + b"0", "too long"),
    ],
)
def test_what_is_no_code_is_refused(code: bytes, found: str) -> None:
    with pytest.raises(FossilError, match=found):
        run_lengths(code)
