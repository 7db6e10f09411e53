"""Items are named by those that have a name, and strange ones are unknown."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.morphospace.classify import fit
from napari_fossiledit.params.morphospace import Method
from tests.morphospace.clouds import clouds, unit


def alone(names: list[str]) -> list[str]:
    return [str(n) for n in range(len(names))]


@pytest.mark.parametrize("method", Method)
def test_a_near_item_is_named_and_one_of_a_new_kind_is_unknown(method: Method) -> None:
    vectors, names = clouds([30, 30, 30, 30])
    known = [n for n, name in enumerate(names) if name != "D"]
    classifier = fit(vectors[known], [names[n] for n in known], alone(known), method=method)
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
        classifier = fit(vectors, names, alone(names), refused=refused)
        share = np.mean([n is None for n in classifier.held_out.names])
        assert share == pytest.approx(refused, abs=0.006)


@pytest.mark.parametrize("method", Method)
def test_confidence_is_as_often_right_as_it_says(method: Method) -> None:
    vectors, names = clouds([400, 400, 400], dimensions=6, spread=0.5)
    classifier = fit(vectors[::2], names[::2], alone(names[::2]), method=method, neighbours=9)
    answers = classifier.predict(vectors[1::2])
    right = np.array([a == t for a, t in zip(answers.best, names[1::2], strict=True)])
    assert right.mean() < 0.97
    assert answers.confidence.mean() == pytest.approx(right.mean(), abs=0.05)


def test_neighbours_are_those_of_scikit_learn() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    vectors, names = clouds([40, 40], spread=0.5)
    new, _ = clouds([40, 40], spread=0.5, seed=1)
    own = fit(vectors, names, alone(names), neighbours=7).predict(new).best
    theirs = KNeighborsClassifier(7, metric="cosine").fit(vectors, names)
    assert list(own) == list(theirs.predict(new))


def test_sections_of_one_specimen_never_vouch_for_one_another() -> None:
    # Pairs that are the same but for their name: only its own twin speaks for an item.
    rng = np.random.default_rng(0)
    vectors = np.repeat(unit(rng.normal(size=(60, 64))), 2, axis=0)
    names = [name for pair in rng.choice(["A", "B"], 60) for name in (pair, pair)]
    groups = [str(n // 2) for n in range(120)]

    def right(of: list[str]) -> float:
        held_out = fit(vectors, names, of, neighbours=1).held_out
        return float(np.mean([a == t for a, t in zip(held_out.best, names, strict=True)]))

    assert right(alone(names)) > 0.7
    assert right(groups) < 0.65


def test_a_class_of_one_item_is_still_given_and_its_own_item_is_unknown() -> None:
    vectors, names = clouds([20, 20, 1])
    classifier = fit(vectors, names, alone(names), method=Method.CENTROIDS)
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
    classifier = fit(vectors, names, alone(names))
    assert "confidence is rough, and none is unknown" in " ".join(classifier.notes)
    assert "Asked 1 neighbours instead of 5" in " ".join(classifier.notes)
    assert classifier.predict(clouds([0, 0, 1])[0]).names != (None,)
    assert classifier.held_out.names == (None, None)


@pytest.mark.parametrize("method", Method)
def test_the_same_vector_many_times_is_known(method: Method) -> None:
    vectors = np.repeat(np.eye(2, 3, dtype=np.float32), 10, axis=0)
    names = ["A"] * 10 + ["B"] * 10
    classifier = fit(vectors, names, alone(names), method=method)
    assert classifier.predict(vectors).names == tuple(names)
