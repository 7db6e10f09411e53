"""Items that are most alike, like no other, or of one specimen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.morphospace.alike import across_slices, most_similar, outliers
from napari_fossiledit.morphospace.embedding import Embedding, Item
from tests.morphospace.clouds import clouds, embedded, unit


def test_the_most_similar_are_those_of_the_largest_product_and_of_another_specimen() -> None:
    vectors = unit(np.array([[1, 0], [0.99, 0.05], [0.9, 0.3], [0, 1]]))
    items = [Item(f"0/{n}", f"s{min(n, 1)}" if n < 2 else f"s{n}") for n in range(4)]
    items[1] = replace(items[1], group="s0")
    points = Embedding(vectors, tuple(items), "m", "h")
    assert [row for row, _ in most_similar(points, [0], 3)] == [2, 3]
    (row, similarity), *_ = most_similar(points, [0], 3, same_group=True)
    assert row == 1
    assert similarity == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-6)


def test_outliers_come_with_their_reasons() -> None:
    vectors, names = clouds([20, 20, 1], spread=0.05)
    names[0] = "B"
    far, named = outliers(embedded(vectors, names))
    assert far.row == 40
    assert "away, usual are 0.0" in far.reasons[0]
    assert (named.row, named.reasons[-1]) == (0, "It is named B, and most like it are A.")


def test_what_is_all_the_same_has_no_outliers() -> None:
    assert outliers(embedded(np.repeat(np.eye(1, 3, dtype=np.float32), 9, axis=0))) == []
    one = Embedding(clouds([4])[0], tuple(Item(f"1/{n}", "s") for n in range(4)), "m", "h")
    with pytest.raises(FossilError, match="at least two specimens or pictures; found one"):
        outliers(one)


def test_sections_of_a_specimen_are_each_others_nearest_in_the_next_slice() -> None:
    rng = np.random.default_rng(0)
    forms = rng.normal(size=(5, 16))
    vectors = unit(np.concatenate([forms, forms[::-1]]) + 0.05 * rng.normal(size=(10, 16)))
    items = tuple(
        Item(f"{z}/{z * 5 + n}", f"A {who}", slice=z, instance=z * 5 + n, specimen=who)
        for z in (0, 1)
        for n, who in enumerate((0, 1, 2, 3, None) if z == 0 else (9, 3, 2, 1, 0))
    )
    pairs = across_slices(Embedding(vectors, items, "m", "h"))
    assert {pair.rows for pair in pairs} == {(n, 9 - n) for n in range(5)}
    assert {pair.rows[0]: pair.linked for pair in pairs} == dict(enumerate([True] * 4 + [None]))
    assert [p.similarity for p in pairs] == sorted((p.similarity for p in pairs), reverse=True)
    assert across_slices(Embedding(vectors, items, "m", "h"), least=1) == []


def test_pictures_of_a_folder_have_no_slices() -> None:
    with pytest.raises(FossilError, match="at least two slices; found pictures of a folder"):
        across_slices(embedded(clouds([3, 3])[0]))
