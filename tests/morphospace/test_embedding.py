"""Embeddings are read back as they were, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Mask
from napari_fossiledit.morphospace.embedding import Embedding, Item, content_of

ITEMS = (
    Item("Zellia/Z 1.jpg", "Zellia/Z 1.jpg", "Zellia"),
    Item("3/17", "specimen 4", None, slice=3, instance=17, specimen=4, content="c0ffee"),
)
POINTS = Embedding(
    np.array([[0.6, 0.8], [1, 0]], np.float32), ITEMS, "reef", "abcdef" * 8, ("Assumed.",), "class"
)
LOOKS = np.array([[0, 0.5, 3], [1, 2, 8]], np.float16)


def test_a_saved_embedding_is_the_same(tmp_path: Path) -> None:
    POINTS.save(tmp_path / "points.npz")
    found = Embedding.load(tmp_path / "points.npz", POINTS.model_hash)
    np.testing.assert_array_equal(found.vectors, POINTS.vectors)
    assert replace(found, vectors=POINTS.vectors) == POINTS
    learned = replace(POINTS, learned={"share": 0.8}, looks=LOOKS)
    learned.save(tmp_path / "points.npz")
    again = Embedding.load(tmp_path / "points.npz").of([1])
    assert (again.learned, again.items) == ({"share": 0.8}, ITEMS[1:])
    np.testing.assert_array_equal(again.looks, LOOKS[1:])
    assert found.summary() == {
        "items": 2,
        "named": 1,
        "groups": 2,
        "dimensions": 2,
        "model": "reef",
        "model_hash": "abcdef" * 8,
        "notes": ["Assumed."],
    }


def test_an_embedding_of_another_model_is_refused(tmp_path: Path) -> None:
    POINTS.save(tmp_path / "points.npz")
    with pytest.raises(FossilError, match=r"points\.npz was made by another model.*reef \(abcdef"):
        Embedding.load(tmp_path / "points.npz", "012345" * 8)


@pytest.mark.parametrize("damage", [lambda b: b[:500], lambda _: b"not one", lambda _: b""])
def test_a_damaged_file_is_refused(tmp_path: Path, damage) -> None:
    path = tmp_path / "points.npz"
    POINTS.save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FossilError, match=r"points\.npz cannot be read; expected an embedding"):
        Embedding.load(path)


@pytest.mark.parametrize("vectors", [[[2.0, 0], [1, 0]], [[float("nan"), 0], [1, 0]]])
def test_vectors_of_another_length_are_refused(vectors: list[list[float]]) -> None:
    with pytest.raises(FossilError, match="expected length 1"):
        Embedding(np.array(vectors, np.float32), ITEMS, "m", "h")


def test_a_row_too_few_is_refused() -> None:
    with pytest.raises(FossilError, match=r"expected \(2, d\) values"):
        Embedding(np.array([[1.0, 0]], np.float32), ITEMS, "m", "h")


def test_the_content_of_a_mask_tells_its_pixels_and_its_shape() -> None:
    pixels = np.zeros((4, 6), bool)
    pixels[1:3, 2:5] = True
    same, other, turned = (Mask.from_array(a) for a in (pixels, ~pixels, pixels.reshape(6, 4)))
    assert content_of(same) == content_of(Mask.from_array(pixels.copy()))
    assert len({content_of(same), content_of(other), content_of(turned)}) == 3
