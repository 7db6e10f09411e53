"""Parts of items: no group is divided, and copies of a picture are found."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from napari_fossiledit.errors import FossilError
from napari_fossiledit.morphospace.embedding import Item
from napari_fossiledit.morphospace.splits import (
    folds,
    joined,
    near_duplicates,
    picture_hash,
    require_classes,
    without_pairs,
)

RNG = np.random.default_rng(5)
ITEMS = [Item(f"{n}", f"specimen {n // 3}", "abc"[n % 9 // 3]) for n in range(54)]


def picture() -> np.ndarray:
    field = gaussian_filter(RNG.standard_normal((200, 200, 3)), (9, 9, 0))
    return np.uint8(np.interp(field, (field.min(), field.max()), (0, 255)))


def saved(image: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image).resize((100, 100)).save(stream, "JPEG", quality=60)
    return np.asarray(Image.open(stream))


def test_no_group_is_divided_and_all_are_tested() -> None:
    tested: list[int] = []
    for train, test in folds(ITEMS, 3, seed=1):
        assert not {ITEMS[i].group for i in train} & {ITEMS[i].group for i in test}
        assert {ITEMS[i].name for i in test} == {"a", "b", "c"}
        tested += test.tolist()
    assert sorted(tested) == list(range(54))


def test_each_pair_of_classes_is_left_out_once() -> None:
    pairs = dict(without_pairs(ITEMS))
    assert set(pairs) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert {ITEMS[i].name for i in pairs["a", "b"].train} == {"c"}
    assert {ITEMS[i].name for i in pairs["a", "b"].test} == {"a", "b"}


def test_one_class_is_refused() -> None:
    with pytest.raises(FossilError, match=r"at least two classes.*found all of 'a'"):
        require_classes([Item("1", "1", "a"), Item("2", "2", "a"), Item("3", "3")], "Training")


def test_copies_of_a_picture_are_found_and_others_are_not() -> None:
    pictures = [picture() for _ in range(20)]
    pictures += [saved(pictures[4]), np.uint8(pictures[7] * 0.9), pictures[9]]
    groups = [str(n) for n in range(22)] + ["9"]
    items = [
        Item("", group, picture=picture_hash(p)) for group, p in zip(groups, pictures, strict=True)
    ]
    assert near_duplicates(items) == [(4, 20), (7, 21)]
    # One of which no picture is known is like no other.
    unknown = replace(items[4], picture="")
    assert near_duplicates([*items[:4], unknown, *items[5:]]) == [(7, 21)]


def test_groups_that_share_a_picture_become_one() -> None:
    items = tuple(Item("", group) for group in "abcda")
    assert [i.group for i in joined(items, [(4, 1), (1, 3)])] == ["a", "a", "c", "a", "a"]
    assert joined(items, []) == items
