"""Items are laid out in a plane, and new ones are placed without moving the others."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from napari_fossiledit.errors import FossilError
from napari_fossiledit.morphospace.maps import Map, make_map
from napari_fossiledit.params.morphospace import Projection
from tests.morphospace.clouds import clouds, embedded


@pytest.mark.parametrize("method", [Projection.TSNE, Projection.PCA])
def test_new_items_are_placed_among_their_like_and_nothing_moves(
    method: Projection, tmp_path: Path
) -> None:
    vectors, names = clouds([40, 40])
    whole, part = embedded(vectors), embedded(vectors[:-3])
    first = make_map(part, method=method)
    assert np.array_equal(first.points, make_map(part, method=method).points)
    first.save(tmp_path / "map.npz")
    kept = Map.load(tmp_path / "map.npz")
    extended, new = kept.extended(whole)
    assert new == 3
    assert np.array_equal(extended.points[:-3], first.points)
    middle = {c: extended.points[[n == c for n in names]].mean(axis=0) for c in "AB"}
    for point in extended.points[-3:]:
        assert np.linalg.norm(point - middle["B"]) < np.linalg.norm(point - middle["A"])
    assert extended.extended(whole) == (extended, 0)


def test_a_picture_that_changed_is_placed_anew() -> None:
    points = embedded(clouds([10, 10])[0])
    made = make_map(points, method=Projection.PCA)
    vectors = points.vectors.copy()
    vectors[0] = vectors[-1]
    changed = replace(points, vectors=vectors)
    assert made.rows_of(changed)[0] is None
    extended, new = made.extended(changed)
    assert (new, len(extended.points)) == (1, 21)
    row = extended.rows_of(changed)[0]
    np.testing.assert_allclose(extended.points[row], made.points[-1], atol=1e-6)


def test_principal_components_are_those_of_scikit_learn() -> None:
    vectors, _ = clouds([30, 20, 10])
    own = make_map(embedded(vectors), method=Projection.PCA)
    pca = PCA(2)
    np.testing.assert_allclose(own.points, pca.fit_transform(vectors), atol=1e-5)
    share = f"{pca.explained_variance_ratio_.sum():.0%}"
    assert own.notes == (f"Two principal components show {share} of the variance.",)


def test_points_of_another_model_have_no_place() -> None:
    points = embedded(clouds([10, 10])[0])
    made = make_map(points, method=Projection.PCA)
    with pytest.raises(FossilError, match="made by another model"):
        made.extended(replace(points, model_hash="d" * 64))


@pytest.mark.parametrize(
    ("vectors", "method", "words"),
    [
        (clouds([3, 3])[0], Projection.TSNE, "expected 7 for tsne; found 6. Use --method pca."),
        (clouds([2])[0], Projection.PCA, "expected 3 for pca; found 2."),
        (np.repeat(np.eye(1, 4), 9, axis=0), Projection.TSNE, "9 times the same vector"),
    ],
)
def test_what_gives_no_map_is_refused(vectors: np.ndarray, method: Projection, words: str) -> None:
    with pytest.raises(FossilError) as raised:
        make_map(embedded(vectors.astype(np.float32)), method=method)
    assert words in str(raised.value)


def test_perplexity_fits_the_items_and_is_said() -> None:
    made = make_map(embedded(clouds([5, 5])[0]))
    assert made.notes == ("Perplexity is 3: there are 10 items.",)


@pytest.mark.skipif(find_spec("umap") is not None, reason="umap-learn is installed")
def test_umap_is_an_extra_and_is_named() -> None:
    with pytest.raises(FossilError, match=r"Install napari-fossiledit\[umap\]"):
        make_map(embedded(clouds([10, 10])[0]), method=Projection.UMAP)


def test_a_damaged_map_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.npz"
    make_map(embedded(clouds([10, 10])[0]), method=Projection.PCA).save(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(FossilError, match=r"map\.npz cannot be read; expected a map"):
        Map.load(path)
