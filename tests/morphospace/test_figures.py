"""Figures against scikit-learn, or against code that counts by hand."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from sklearn import metrics

from napari_fossiledit.errors import FossilError
from napari_fossiledit.morphospace.figures import (
    clustering_accuracy,
    corrected_interval,
    mutual_information,
    naming,
    open_set,
    over_pairs,
    recall_at,
)

RNG = np.random.default_rng(3)
TRUTH = list(RNG.choice(["cup", "shell", "tube"], 60, p=[0.6, 0.3, 0.1]))
GIVEN = [t if RNG.random() < 0.7 else "shell" for t in TRUTH]


def test_naming_is_that_of_scikit_learn() -> None:
    found = naming(TRUTH, GIVEN)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(TRUTH, GIVEN), abs=1e-9)
    f1 = metrics.f1_score(TRUTH, GIVEN, average="macro")
    assert found.macro_f1 == pytest.approx(f1, abs=1e-9)
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(TRUTH, GIVEN))


def test_a_class_that_was_never_given_counts_as_zero() -> None:
    assert naming(["a", "a", "b"], ["a", "a", "a"]).macro_f1 == pytest.approx(0.4)


@pytest.mark.parametrize("clusters", [2, 3, 4])
def test_clusters_are_assigned_as_is_best(clusters: int) -> None:
    found = RNG.integers(clusters, size=len(TRUTH))
    names = sorted(set(TRUTH))
    # All ways to give each class a cluster of its own, none of some where clusters are few.
    slots = [*range(clusters), *([-1] * len(names))]
    best = max(
        sum(c == given[names.index(t)] for t, c in zip(TRUTH, found, strict=True))
        for given in set(permutations(slots, len(names)))
    )
    assert clustering_accuracy(TRUTH, found) == pytest.approx(best / len(TRUTH), abs=1e-9)
    nmi = metrics.normalized_mutual_info_score(TRUTH, found)
    assert mutual_information(TRUTH, found) == pytest.approx(nmi, abs=1e-9)


def unit(n: int, d: int = 4) -> np.ndarray:
    points = RNG.standard_normal((n, d))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_recall_is_counted_by_hand() -> None:
    points = unit(len(TRUTH))
    for k in (1, 3):
        hits = []
        for i, name in enumerate(TRUTH):
            others = [j for j in range(len(TRUTH)) if j != i]
            near = sorted(others, key=lambda j: -float(points[i] @ points[j]))[:k]
            hits.append(any(TRUTH[j] == name for j in near))
        assert recall_at(points, TRUTH, [k])[k] == pytest.approx(np.mean(hits), abs=1e-9)


def test_recall_asks_only_what_may_be_compared() -> None:
    points = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]], float)
    other = np.array([[n // 2 != m // 2 for m in range(4)] for n in range(4)])
    # Each is nearest to its own pair, which it may not find: 0 finds 3, 1 finds 3, 3 finds 0.
    assert recall_at(points, ["a", "b", "c", "a"], [1], comparable=other)[1] == 1.0
    with pytest.raises(FossilError, match="at least two items of one name"):
        recall_at(points, ["a", "b", "c", "d"])


def test_the_unknown_are_told_apart_as_by_scikit_learn() -> None:
    known, unknown = RNG.normal(1, 1, 40), RNG.normal(0, 1, 25)
    found = open_set(known, unknown)
    truth, scores = np.r_[np.ones(40), np.zeros(25)], np.r_[known, unknown]
    assert found.auroc == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-9)
    # 38 of 40 known pass the third lowest known score.
    threshold = np.sort(known)[2]
    assert found.fpr95 == pytest.approx(np.mean(unknown >= threshold), abs=1e-9)
    assert open_set(known + 100, unknown).fpr95 == 0


def test_overlapping_folds_widen_the_interval() -> None:
    values = RNG.normal(0.1, 0.05, 25)
    found = corrected_interval(values, 1 / 5)
    # Student's t of 24 degrees of freedom at 97.5 %, from tables: 2.0639.
    reach = 2.0639 * np.sqrt(values.var(ddof=1) * (1 / 25 + 1 / 4))
    assert found.high - found.mean == pytest.approx(reach, rel=1e-4)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)


def test_the_interval_over_pairs_holds_the_truth_where_pairs_share_classes() -> None:
    pairs = [*combinations("abcdefghijklmnop", 2)]
    rng = np.random.default_rng(0)
    held = []
    for seed in range(40):
        of = dict(zip("abcdefghijklmnop", rng.standard_normal(16), strict=True))
        values = np.array([of[a] + of[b] for a, b in pairs])
        found = over_pairs(values, pairs, seed)
        assert found.mean == pytest.approx(values.mean())
        held.append(found.low < 0 < found.high)
    # As if all 120 pairs were independent it would hold in a half.
    assert np.mean(held) > 0.8
