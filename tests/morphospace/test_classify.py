"""Items are named by those that have a name, and strange ones are unknown."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.morphospace.classify import fit
from napari_fossiledit.params.morphospace import ClassifyParams, Method
from tests.morphospace.clouds import clouds, unit


def alone(names: list[str]) -> list[str]:
    return [str(n) for n in range(len(names))]


@pytest.mark.parametrize("method", Method)
def test_a_near_item_is_named_and_one_of_a_new_kind_is_unknown(method: Method) -> None:
    vectors, names = clouds([30, 30, 30, 30])
    known = [n for n, name in enumerate(names) if name != "D"]
    classifier = fit(
        vectors[known], [names[n] for n in known], alone(known), ClassifyParams(method=method)
    )
    new, truth = clouds([20, 20, 20, 20], seed=1)
    answers = classifier.predict(new)
    right = [a == t for a, t in zip(answers.best, truth, strict=True)]
    assert all(right[:60])
    assert answers.names[60:] == (None,) * 20
    assert np.mean([n is None for n in answers.names[:60]]) < 0.2
    assert (answers.confidence[:60] > 0.9).all()


def test_five_of_a_hundred_known_items_are_refused_as_was_asked() -> None:
    vectors, names = clouds([100, 100], spread=0.3)
    for refused in (0.05, 0.2):
        classifier = fit(vectors, names, alone(names), ClassifyParams(refused=refused))
        share = np.mean([n is None for n in classifier.held_out.names])
        assert share == pytest.approx(refused, abs=0.006)


@pytest.mark.parametrize("method", Method)
def test_confidence_is_as_often_right_as_it_says(method: Method) -> None:
    vectors, names = clouds([400, 400, 400], dimensions=6, spread=0.5)
    classifier = fit(
        vectors[::2], names[::2], alone(names[::2]), ClassifyParams(method=method, neighbours=9)
    )
    answers = classifier.predict(vectors[1::2])
    right = np.array([a == t for a, t in zip(answers.best, names[1::2], strict=True)])
    assert right.mean() < 0.97
    assert answers.confidence.mean() == pytest.approx(right.mean(), abs=0.05)


def test_neighbours_are_those_of_scikit_learn() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    vectors, names = clouds([40, 40], spread=0.5)
    new, _ = clouds([40, 40], spread=0.5, seed=1)
    own = (
        fit(vectors, names, alone(names), ClassifyParams(method=Method.KNN, neighbours=7))
        .predict(new)
        .best
    )
    theirs = KNeighborsClassifier(7, metric="cosine").fit(vectors, names)
    assert list(own) == list(theirs.predict(new))


def test_sections_of_one_specimen_never_vouch_for_one_another() -> None:
    # Pairs that are the same but for their name: only its own twin speaks for an item.
    rng = np.random.default_rng(0)
    vectors = np.repeat(unit(rng.normal(size=(60, 64))), 2, axis=0)
    names = [name for pair in rng.choice(["A", "B"], 60) for name in (pair, pair)]
    groups = [str(n // 2) for n in range(120)]

    def right(of: list[str]) -> float:
        held_out = fit(vectors, names, of, ClassifyParams(method=Method.KNN, neighbours=1)).held_out
        return float(np.mean([a == t for a, t in zip(held_out.best, names, strict=True)]))

    assert right(alone(names)) > 0.7
    assert right(groups) < 0.65


def test_a_class_of_one_item_is_still_given_and_its_own_item_is_unknown() -> None:
    vectors, names = clouds([20, 20, 1])
    classifier = fit(vectors, names, alone(names), ClassifyParams(method=Method.CENTROIDS))
    assert "Of C there is one specimen" in " ".join(classifier.notes)
    assert classifier.held_out.names[-1] is None
    assert classifier.predict(vectors[-1:]).names == ("C",)


@pytest.mark.parametrize(("counts", "found"), [([5], "only 'A'"), ([], "no named item")])
def test_one_class_tells_nothing_apart(counts: list[int], found: str) -> None:
    vectors, names = clouds(counts) if counts else (np.zeros((0, 4), np.float32), [])
    with pytest.raises(FossilError, match=f"at least two classes; found {found}"):
        fit(vectors, names, alone(names))


def test_with_one_item_of_each_class_nothing_is_refused_and_it_is_said() -> None:
    vectors, names = clouds([1, 1])
    classifier = fit(vectors, names, alone(names), ClassifyParams(method=Method.KNN))
    assert "confidence is rough, and none is unknown" in " ".join(classifier.notes)
    assert "Asked 1 neighbours instead of 5" in " ".join(classifier.notes)
    assert classifier.predict(clouds([0, 0, 1])[0]).names != (None,)
    assert classifier.held_out.names == (None, None)


@pytest.mark.parametrize("method", Method)
def test_the_same_vector_many_times_is_known(method: Method) -> None:
    vectors = np.repeat(np.eye(2, 3, dtype=np.float32), 10, axis=0)
    names = ["A"] * 10 + ["B"] * 10
    classifier = fit(vectors, names, alone(names), ClassifyParams(method=method))
    assert classifier.predict(vectors).names == tuple(names)


def test_vectors_that_were_learned_are_learned_again_without_what_is_held_out() -> None:
    # Learned by heart: each item lies at its name, which tells nothing of an item never seen.
    looks, _ = clouds([60], dimensions=8, spread=1)
    names = [str(name) for name in np.random.default_rng(0).choice(["A", "B"], 60)]
    by_heart = np.array([[name == "A", name == "B"] for name in names], np.float32)

    def learn(rows: np.ndarray) -> np.ndarray:
        points = unit(np.random.default_rng(1).random((60, 2)).astype(np.float32))
        points[rows] = by_heart[rows]
        return points

    seen = fit(by_heart, names, alone(names), looks=looks).held_out
    unseen = fit(by_heart, names, alone(names), looks=looks, learn=learn).held_out
    for answers, least, most in ((seen, 1, 1), (unseen, 0.3, 0.7)):
        right = np.mean([a == t for a, t in zip(answers.best, names, strict=True)])
        assert least <= right <= most
    assert seen.confidence.min() > 0.95
    assert unseen.confidence.mean() < 0.7


def test_strangeness_is_the_distance_of_mahalanobis() -> None:
    from scipy.spatial.distance import mahalanobis

    looks, names = clouds([30, 30], dimensions=5, spread=0.4)
    known, rows = np.unique(names, return_inverse=True)
    means = np.stack([looks[rows == k].mean(axis=0) for k in range(len(known))])
    inside = looks - means[rows]
    spread = inside.T @ inside / len(looks)
    inverse = np.linalg.inv(0.7 * spread + 0.3 * np.trace(spread) / 5 * np.eye(5))
    asked = clouds([3, 3, 3], dimensions=5, seed=2)[0]
    expected = [min(mahalanobis(point, mean, inverse) for mean in means) for point in asked]
    classifier = fit(looks, names, alone(names))
    found = classifier.predict(asked).strangeness * classifier.threshold
    np.testing.assert_allclose(found, expected, rtol=1e-4)
