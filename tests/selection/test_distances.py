"""Distances of images in a feature space, against an independent computation."""

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.selection.distances import distances, min_max, shares


def by_covariance(primary, secondary, count):
    """Equations 3 to 7 by the eigenvectors of A'A, each pair for itself."""
    both = np.concatenate([primary, secondary])
    centred = both - both.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    projected = centred @ vectors[:, np.argsort(values)[::-1][:count]]
    known, other = projected[: len(primary)], projected[len(primary) :]
    return np.array([[np.sqrt(((s - p) ** 2).sum()) for p in known] for s in other])


def images(seed, number, shift=0.0, width=60):
    return np.random.default_rng(seed).normal(shift, 1 + np.arange(width) / 20, (number, width))


def test_distances_are_those_of_the_equations():
    primary, secondary = images(0, 14), images(1, 31, 1.5)
    found = distances(primary, secondary)
    expected = by_covariance(primary, secondary, 25)
    assert found.components == 25
    np.testing.assert_allclose(found.pairs, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.sums, expected.sum(axis=1), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.means, found.sums / 14)
    assert found.overall == pytest.approx(expected.sum() / 31)
    assert (found.scaled.min(), found.scaled.max()) == (0, 1)
    assert found.notes == ()


def test_distances_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA
    from sklearn.metrics import pairwise_distances

    primary, secondary = images(0, 14), images(1, 31, 1.5)
    projected = PCA(25, svd_solver="full").fit_transform(np.concatenate([primary, secondary]))
    found = distances(primary, secondary)
    expected = pairwise_distances(projected[14:], projected[:14])
    np.testing.assert_allclose(found.pairs, expected, rtol=0, atol=1e-5)


def test_with_all_components_distances_are_those_of_the_features():
    primary, secondary = images(0, 3), images(1, 5)
    found = distances(primary.astype(np.float32), secondary.astype(np.float32))
    expected = np.linalg.norm(secondary[:, None] - primary[None], axis=2)
    np.testing.assert_allclose(found.pairs, expected, rtol=0, atol=1e-5)
    (note,) = found.notes
    assert "7 principal components in place of 25: 8 images" in note


def test_one_image_each():
    found = distances(images(0, 1), images(1, 1))
    assert found.components == 1
    assert found.pairs == pytest.approx(np.linalg.norm(images(0, 1) - images(1, 1)))
    assert found.scaled == 0
    assert "One image alone" in found.notes[1]


@pytest.mark.parametrize(
    ("primary", "secondary", "message"),
    [
        (images(0, 0), images(1, 4), "no images measured from"),
        (images(0, 4), images(1, 0), "no images that are measured"),
        (images(0, 4), images(1, 4, width=8), "different models"),
        (np.full((4, 9), 3.3), np.full((5, 9), 3.3), "same to the model.*blank"),
        (images(0, 4), np.full((2, 60), np.nan), "not numbers.*2 images"),
    ],
)
def test_what_has_no_distance_is_refused(primary, secondary, message):
    with pytest.raises(FossilError, match=f"(?s){message}"):
        distances(primary, secondary)


def test_scaling():
    assert min_max(np.array([4.0, 2.0, 3.0])).tolist() == [1, 0, 0.5]
    assert min_max(np.array([4.0, 4.0])).tolist() == [0, 0]
    assert sum(shares([0.3, 0.2, 0.5])) == pytest.approx(1)
    assert shares([2.0, 6.0]) == [0.25, 0.75]
