"""F-scores at the best threshold, and how they go with distance."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from napari_fossiledit.evaluation import judge
from napari_fossiledit.evaluation.relation import PixelCounts, relation, spearman
from napari_fossiledit.masks import Instance, Mask


def square(y, x, edge, score=1.0):
    array = np.zeros((20, 20), dtype=bool)
    array[y : y + edge, x : x + edge] = True
    return Instance(0, "cup", Mask.from_array(array), score)


def test_one_threshold_is_chosen_over_all_slices():
    counts = PixelCounts()
    truth = [square(0, 0, 4)]
    # Right at 0.6 and wrong at 0.3; on the second slice right at 0.5 alone.
    found = {0: [square(0, 0, 4, 0.6), square(10, 10, 4, 0.3)], 1: [square(0, 0, 4, 0.5)], 2: []}
    for z, predicted in found.items():
        counts.add(judge(z, (20, 20), truth, predicted, class_name="cup"))
    quality = counts.quality()
    assert 0.3 < quality.threshold <= 0.5
    assert quality.slices == (0, 1, 2)
    assert quality.f_scores == (1, 1, 0)
    # 32 pixels predicted and right, 48 true.
    assert quality.overall == pytest.approx(2 * 1 * (32 / 48) / (1 + 32 / 48))


def test_a_slice_without_anything_has_no_f_score():
    counts = PixelCounts()
    counts.add(judge(0, (20, 20), [], [], class_name="cup"))
    assert counts.quality().slices == ()
    assert counts.quality().overall is None


def test_rank_correlation_is_that_of_scipy_with_ties():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 6, (3, 30)), rng.normal(size=(3, 30))
    expected = [spearmanr(a, b).statistic for a, b in zip(left, right, strict=True)]
    np.testing.assert_allclose(spearman(left, right), expected)
    assert np.isnan(spearman(np.ones(5), np.arange(5.0)))


@pytest.mark.parametrize(
    ("slope", "said"), [(-0.5, "falls with"), (0.5, "rises with"), (0, "Not decided")]
)
def test_the_verdict_in_words(slope, said):
    scaled = np.linspace(0, 1, 40)
    scores = 0.7 + slope * scaled + np.random.default_rng(0).normal(0, 0.1, 40)
    found = relation(scaled, scores)
    assert said in found.verdict
    low, high = found.spearman.interval
    assert low <= found.spearman.mean <= high
    near, far, nearest, farthest = found.parts
    assert near.f_score == pytest.approx(scores[:20].mean())
    assert far.distance == pytest.approx(scaled[20:].mean())
    assert nearest.deviation == pytest.approx(scaled[:13].std())
    assert farthest.f_score == pytest.approx(scores[-13:].mean())


def test_many_slices_without_a_trend_are_flat():
    scores = np.random.default_rng(1).normal(0.7, 0.1, 400)
    assert "Flat" in relation(np.linspace(0, 1, 400), scores).verdict


def test_too_few_and_equal_slices_have_no_verdict():
    assert "5 slices are too few" in relation(np.arange(5.0), np.arange(5.0)).verdict
    assert "same distance or F-score" in relation(np.zeros(8), np.arange(8.0)).verdict
