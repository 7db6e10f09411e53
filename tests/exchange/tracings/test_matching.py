"""Which image is which slice, and which cavity lies in which body."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.tracing_file import NameIndex, Target, by_order, nested
from napari_fossiledit.masks import Instance, Mask, Part

SHAPE = (30, 30)


def square(start: int, end: int, **more: object) -> Instance:
    array = np.zeros(SHAPE, dtype=bool)
    array[start:end, start:end] = True
    return Instance(0, "archaeocyathid", Mask.from_array(array), **more)


def found(index: NameIndex, name: str) -> int | None:
    """Return the slice of a name alone in its file."""
    return index.match([name]).slices.get(0)


def test_an_exact_name_goes_before_a_similar_one() -> None:
    index = NameIndex(["a.png", "A.png", "b.tif"])
    assert [found(index, n) for n in ("A.png", "a.png", "x/B.jpg", "c.png")] == [1, 0, 2, None]


def test_names_that_fit_several_slices_fit_none() -> None:
    index = NameIndex(["a.png", "a.tif", "stack.tif#0", "stack.tif#1"])
    assert [found(index, n) for n in ("a", "A.jpg", "stack.tif", "stack.tif#1")] == [
        None,
        None,
        None,
        3,
    ]


def test_names_in_another_form_are_the_same() -> None:
    composed, parts = (unicodedata.normalize(form, "Höhe 1.png") for form in ("NFC", "NFD"))
    for name, other in ((composed, parts), (parts, composed)):
        assert found(NameIndex([name, "x.png"]), other) == 0
        assert found(NameIndex([name, "x.png"]), "photos/" + quote(other)) == 0
    assert found(NameIndex(["50%.png", "a%20b.png"]), "a b.png") == 1


@pytest.mark.parametrize(
    "name",
    [
        "images\\cb0618f6-s1.png",
        "/data/local-files/?d=rock/s1.png",
        "/data/local-files/?d=s1.png",
        "task_3/S1.JPG",
        "s1_png.rf.6b1f0a0c.jpg",
        "rock-s1.png",
    ],
)
def test_names_that_tools_change(name: str) -> None:
    assert found(NameIndex(["s0.png", "s1.png", "s11.png", "1.png"]), name) == 1


def test_the_longest_end_of_a_name_decides() -> None:
    index = NameIndex(["1.png", "b-1.png", "c-1.png", "c-1.tif"])
    assert found(index, "x-b-1.png") == 1
    assert found(index, "x-1.png") == 0
    assert found(index, "xb-1.png") == 0
    assert found(index, "x-c-1.png") is None
    assert found(index, "x1.png") is None


def test_matching_all_images() -> None:
    index = NameIndex(["0.png", "1.png", "2.png", "3.png"])
    names = ["0.png", "old-0.png", "a-1.png", "a/2.png", "b/2.png", "3.png", "3.png", None]
    slices, clashes, by_end = index.match(names)
    # Two names that fit slice 2 equally well mean none, the very same name twice is one image.
    assert slices == {0: 0, 2: 1, 5: 3, 6: 3}
    assert clashes == {1: 0, 3: 2, 4: 2}
    assert by_end == [2]


def test_order() -> None:
    target = Target(("a", "b", "c"), SHAPE, (0, 2))
    assert by_order(3, target, "f") == [0, 1, 2]
    assert by_order(2, target, "f") == [0, 2]
    with pytest.raises(FossilError, match=r"images of f .*expected 3 or 2 images.*found 1"):
        by_order(1, target, "f")


def test_a_cavity_lies_in_the_smallest_body_around_it() -> None:
    bodies = [square(0, 30, id=1), square(5, 20, id=2), square(21, 30, id=3)]
    (found,) = nested([square(8, 12, part=Part.CAVITY)], bodies)
    assert found.parent == 2


def test_the_specimen_decides_before_the_place() -> None:
    bodies = [square(5, 20, id=1, specimen=1), square(0, 4, id=2, specimen=2)]
    (found,) = nested([square(6, 9, part=Part.CAVITY, specimen=2)], bodies)
    assert found.parent == 2


def test_a_cavity_without_a_body_stays_alone() -> None:
    cavity = square(0, 10, part=Part.CAVITY)
    assert nested([cavity], [square(8, 20, id=1)]) == [cavity]
    assert nested([cavity], []) == [cavity]
    told = square(0, 10, part=Part.CAVITY, parent=9)
    assert nested([told], [square(0, 20, id=1)]) == [told]
