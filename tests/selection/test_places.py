"""Places that are worth a look, on sections of which it is known what is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.selection import Doubt, Neighbours, Place, find_places
from napari_fossiledit.selection.places import WEIGHTS

SHAPE = (100, 120)


def square(y: int, x: int, size: int = 10) -> Mask:
    return Mask.from_crop(np.ones((size, size), dtype=bool), (y, x), SHAPE)


def body(id_: int, y: int, x: int, size: int = 10, z: int = 5, **more: object) -> Instance:
    return replace(Instance(z, "a", square(y, x, size), id=id_), **more)


def beside(*bodies: Instance) -> Neighbours:
    """The same sections below and above."""
    return Neighbours(bodies, bodies)


def found(own: list[Instance], near: Neighbours, **more: object) -> list[Place]:
    return find_places(5, own, near, **({"scores": {}} | more))


def test_what_a_model_was_sure_of_and_goes_on_is_only_unreviewed() -> None:
    one = body(1, 10, 10)
    (place,) = found([one], beside(one))
    assert (place.doubt, place.pixels, place.ids) == (Doubt.UNREVIEWED, 0, (1,))
    assert place.box == (10, 10, 20, 20)
    assert found([replace(one, reviewed=True)], beside(one)) == []


def test_each_doubt_counts_its_pixels() -> None:
    one = body(1, 10, 10)
    (place,) = found([one], beside(one), scores={1: 0.75})
    assert (place.doubt, place.pixels) == (Doubt.SCORE, pytest.approx(25 * WEIGHTS[Doubt.SCORE]))
    # Half as large below and above: IoU 1/2.
    (place,) = found([one], beside(replace(one, mask=square(10, 10) - square(15, 10))))
    assert (place.doubt, place.pixels) == (Doubt.JUMP, pytest.approx(50 * WEIGHTS[Doubt.JUMP]))
    (place,) = found([one], Neighbours([], [one]))
    assert (place.doubt, place.pixels) == (Doubt.ALONE, pytest.approx(50 * WEIGHTS[Doubt.ALONE]))
    # No slice below at all: nothing speaks against it.
    (place,) = found([one], Neighbours(None, [one]))
    assert place.pixels == 0


def test_masks_that_overlap_are_one_place() -> None:
    one, other, far = body(1, 10, 10), body(2, 10, 15), body(3, 60, 60)
    places = found([one, other, far], beside(one, other, far))
    assert [(p.doubt, p.ids) for p in places] == [
        (Doubt.OVERLAP, (1, 2)), (Doubt.UNREVIEWED, (3,)),
    ]  # fmt: skip
    assert places[0].pixels == pytest.approx(100 * WEIGHTS[Doubt.OVERLAP])
    assert places[0].box == (10, 10, 20, 25)


def test_fragments_and_gaps() -> None:
    large, small = body(1, 10, 10, 20), body(2, 60, 60, 2)
    others = [body(3, 40, 10, 20), body(4, 40, 60, 20)]
    places = found([large, small, *others], beside(large, *others))
    assert {p.ids: p.doubt for p in places}[2,] is Doubt.FRAGMENT
    below, above = body(7, 10, 80, z=4), body(8, 11, 80, z=6)
    near = Neighbours([large, below], [large, above])
    (gap, _) = found([large], near)
    assert (gap.doubt, gap.missing, gap.ids) == (Doubt.GAP, (7,), ())
    assert gap.pixels == pytest.approx(100 * WEIGHTS[Doubt.GAP])
    assert [p.doubt for p in found([large], near, denied={7})] == [Doubt.UNREVIEWED]
    # It goes on below already.
    there = body(2, 9, 80)
    assert all(p.doubt is not Doubt.GAP for p in found([large, there], near))


def test_predictions_beside_the_masks_may_be_missing() -> None:
    one = body(1, 10, 10)
    predicted = [
        body(11, 10, 10, score=0.9),
        body(12, 60, 60, score=0.4),
        body(13, 61, 60, score=0.3),
        body(14, 80, 10, score=0.01),
        body(15, 60, 60, 4, score=0.4, part=Part.CAVITY),
    ]
    place, _ = found([one], beside(one), predictions=predicted)
    assert (place.doubt, place.predictions) == (Doubt.LEFT_OUT, (12,))
    assert place.pixels == pytest.approx(100 * 0.4 * WEIGHTS[Doubt.LEFT_OUT])
    # One that continues a section is likelier.
    near = beside(one, body(2, 60, 60))
    assert found([one], near, predictions=predicted)[0].pixels > place.pixels
    denied = found([one], beside(one), predictions=predicted, denied={12})
    assert [p.doubt for p in denied] == [Doubt.UNREVIEWED]


def test_nothing_has_no_places() -> None:
    assert found([], Neighbours(None, None)) == []
    assert found([], Neighbours([], [])) == []
