"""Which image is which slice, and which cavity lies in which body."""

from __future__ import annotations

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


def test_an_exact_name_goes_before_a_similar_one() -> None:
    index = NameIndex(["a.png", "A.png", "b.tif"])
    assert [index.find(n) for n in ("A.png", "a.png", "x/B.jpg", "c.png")] == [1, 0, 2, None]


def test_names_that_fit_several_slices_fit_none() -> None:
    index = NameIndex(["a.png", "a.tif", "stack.tif#0", "stack.tif#1"])
    assert [index.find(n) for n in ("a", "A.jpg", "stack.tif", "stack.tif#1")] == [
        None,
        None,
        None,
        3,
    ]


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
