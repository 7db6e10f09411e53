"""Strokes over labels against the same rules on whole boolean arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.masks.labels import paint_box, paint_masks, paint_order
from napari_fossiledit.masks.strokes import Stroke

SHAPE = (23, 31)
NEW = 2**31 - 1


def area(y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    array = np.zeros(SHAPE, bool)
    array[y0:y1, x0:x1] = True
    return array


def instance(id_: int, array: np.ndarray, parent: int | None = None) -> Instance:
    part = Part.BODY if parent is None else Part.CAVITY
    mask = Mask.from_array(array)
    return Instance(4, "a", mask, id=id_, part=part, parent=parent, origin=Origin.IMPORTED)


def shown(instances: list[Instance]) -> np.ndarray:
    order = paint_order(instances)
    return paint_masks([i.mask for i in order], [i.id or 0 for i in order], SHAPE)


def stroke(instances: list[Instance], pixels: np.ndarray, value: int) -> Stroke:
    """Paint as a brush does: only a box around the pixels is compared."""
    rows, columns = np.nonzero(pixels)
    box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    order = paint_order(instances)
    before = paint_box([i.mask for i in order], [i.id or 0 for i in order], box)
    after = before.copy()
    after[pixels[box[0] : box[2], box[1] : box[3]]] = value
    return Stroke.between(4, before, after, box[:2], SHAPE)


def paint(instances: list[Instance], pixels: np.ndarray, value: int) -> dict[int, Instance]:
    put, gone = stroke(instances, pixels, value).applied(instances, "b")
    return {i.id or 0: i for i in [*instances, *put] if i.id not in gone}


def reference(instances: list[Instance], pixels: np.ndarray, value: int) -> dict[int, np.ndarray]:
    """Apply the rules to one pixel after the other."""
    arrays = {i.id or 0: i.mask.to_array() for i in instances}
    parents = {i.id: i.parent for i in instances}
    top = shown(instances)
    for y, x in np.argwhere(pixels):
        if top[y, x] == value:
            continue
        if value == 0:
            arrays[int(top[y, x])][y, x] = False
            continue
        arrays.setdefault(value, np.zeros(SHAPE, bool))
        for id_, array in arrays.items():
            array[y, x] = id_ in (value, parents.get(value))
    return {id_: array for id_, array in arrays.items() if array.any()}


@pytest.mark.parametrize("seed", range(40))
def test_random_strokes_equal_the_rules_on_whole_arrays(seed):
    random = np.random.default_rng(seed)

    def some(most: int) -> np.ndarray:
        (y, x), (height, width) = random.integers(0, (20, 28)), random.integers(1, most, 2)
        return area(y, x, y + height, x + width)

    instances = [instance(n, some(14)) for n in range(1, 6)]
    for id_, body in ((8, 1), (9, 1), (10, 2)):
        inside = instances[body - 1].mask.to_array() & some(20)
        if inside.any():
            instances.append(instance(id_, inside, parent=body))
    for _ in range(12):
        ids = [i.id or 0 for i in instances]
        value = int(random.choice([0, NEW, 77, *ids]))
        pixels = some(9) | some(5)
        expected = reference(instances, pixels, value)
        after = paint(instances, pixels, value)
        assert after.keys() == expected.keys()
        for id_, array in expected.items():
            np.testing.assert_array_equal(after[id_].mask.to_array(), array)
        assert {i.parent for i in after.values()} - {None} <= after.keys()
        changed = pixels & (shown(instances) != value)
        instances = list(after.values())
        if value:
            np.testing.assert_array_equal(shown(instances)[changed], value)


def test_only_what_changed_is_put_and_is_then_somebodys_work():
    old = [instance(1, area(0, 0, 5, 5)), instance(2, area(10, 10, 15, 15))]
    put, gone = stroke(old, area(3, 3, 7, 7), 1).applied(old, "b")
    assert ([i.id for i in put], gone) == ([1], [])
    assert put[0] == replace(old[0], mask=put[0].mask, origin=Origin.HUMAN)


def test_a_cavity_does_not_take_from_its_body_but_a_neighbour_does():
    body, cavity = instance(1, area(2, 2, 12, 12)), instance(2, area(5, 5, 8, 8), parent=1)
    after = paint([body, cavity], area(5, 5, 10, 10), 2)
    assert (after[1].mask.area, after[2].mask.area) == (100, 25)
    after = paint([body, cavity], area(5, 5, 10, 10), 1)
    assert after.keys() == {1}
    after = paint([body, cavity, instance(3, area(0, 20, 2, 22))], area(5, 5, 7, 8), 3)
    assert (after[1].mask.area, after[2].mask.area, after[3].mask.area) == (94, 3, 10)


def test_a_reviewed_mask_changes_only_where_it_is_painted_itself():
    locked = replace(instance(1, area(0, 0, 6, 6)), reviewed=True)
    other = instance(2, area(0, 10, 6, 16))
    both, brush = [locked, other], area(2, 4, 5, 12)
    erased = paint(both, brush, 0)
    assert erased[1] == locked
    assert erased[2].mask.area == other.mask.area - 6
    changed = paint(both, brush, 2)
    assert changed[1] == locked
    assert changed[2].mask == other.mask | Mask.from_array(area(2, 6, 5, 10))
    assert paint(both, area(1, 1, 3, 3), NEW) == {1: locked, 2: other}
    own = paint(both, brush, 1)
    assert own[1].reviewed
    assert own[1].mask == locked.mask | Mask.from_array(brush)


def test_what_lies_below_an_erased_instance_is_seen_and_stays_whole():
    below, above = instance(1, area(2, 2, 20, 20)), instance(2, area(5, 5, 8, 8))
    after = paint([below, above], area(5, 5, 8, 8), 0)
    assert after == {1: below}
    np.testing.assert_array_equal(shown(list(after.values())) == 1, area(2, 2, 20, 20))


def test_a_cavity_outlives_its_body():
    old = [instance(1, area(2, 2, 6, 6)), instance(2, area(10, 10, 12, 12), parent=1)]
    after = paint(old, area(2, 2, 6, 6), 0)
    assert after == {2: replace(old[1], parent=None)}


def test_a_value_of_no_instance_becomes_one():
    new = paint([instance(1, area(0, 0, 4, 4))], area(2, 2, 6, 6), NEW)[NEW]
    assert (new.class_name, new.origin, new.score, new.slice) == ("b", Origin.HUMAN, 1.0, 4)
    assert new.mask.area == 16


def test_a_stroke_that_changes_nothing_has_no_part():
    old = [instance(1, area(0, 0, 4, 4))]
    assert stroke(old, area(1, 1, 3, 3), 1).parts == ()


def test_other_ids_can_be_put_into_a_stroke():
    made = stroke([instance(1, area(0, 0, 4, 4))], area(2, 2, 6, 6), NEW).renamed({NEW: 12, 1: 3})
    assert {(p.before, p.after) for p in made.parts} == {(0, 12), (3, 12)}
