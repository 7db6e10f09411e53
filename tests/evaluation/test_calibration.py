"""Scores become probabilities: against data that were drawn from known ones."""

import numpy as np
import pytest
from scipy.special import expit, logit

from napari_fossiledit.evaluation import judge
from napari_fossiledit.evaluation.calibration import (
    Calibration,
    Regression,
    compare_scores,
    features,
    fit,
    held_out,
    right_ones,
)
from napari_fossiledit.evaluation.figures import detection
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.probability import Piece, ProbabilityMask

SHAPE = (40, 400)
CLASS = "archaeocyathid"


def square(x, score, sureness=204, width=8, class_name=CLASS):
    pixels = np.zeros(SHAPE, dtype=bool)
    pixels[4:12, x : x + width] = True
    grid = np.full((8, width), sureness, np.uint8)
    piece = Piece((float(x), 4.0, float(x + width), 12.0), grid, exact=True)
    mask = Mask.from_array(pixels)
    return Instance(0, class_name, mask, score=score, probability=ProbabilityMask((piece,)))


def drawn(count=4000, seed=0):
    """Return features, and whether detections are right by a known regression."""
    random = np.random.default_rng(seed)
    values = np.column_stack(
        [random.normal(0, 2, count), random.uniform(0.5, 1, count), random.uniform(0, 1, count)]
    )
    chance = expit(0.5 * values[:, 0] + 4 * (values[:, 1] - 0.75) - 2 * values[:, 2])
    return values, random.random(count) < chance, chance


def test_features_are_score_sureness_and_overlap_with_a_better_one():
    found = [
        square(0, 0.9),
        square(4, 0.5, sureness=255),
        square(100, 0.5),
        square(101, 0.2, width=4),
    ]
    values = features(found)
    assert values[:, 0] == pytest.approx(logit([0.9, 0.5, 0.5, 0.2]), abs=1e-9)
    assert values[:, 1] == pytest.approx([0.8, 1, 0.8, 0.8])
    # Half of the second lies in the first, all of the fourth in the third.
    assert values[:, 2] == pytest.approx([0, 0.5 * 0.9, 0, 1 * 0.5])
    assert features([]).shape == (0, 3)


def test_a_fit_finds_the_regression_that_detections_were_drawn_from():
    values, right, chance = drawn()
    found = fit(values, right)
    assert found.score == pytest.approx(0.5, abs=0.06)
    assert found.sureness == pytest.approx(4, abs=0.6)
    assert found.double == pytest.approx(-2, abs=0.3)
    told = held_out(values, right, np.arange(len(values)) % 4)
    assert np.abs(told - chance).max() < 0.06


def test_scores_that_are_probabilities_stay_and_so_do_those_of_two_detections():
    random = np.random.default_rng(1)
    values = np.column_stack([random.normal(0, 2, 4000), np.full(4000, 0.8), np.zeros(4000)])
    chance = expit(values[:, 0])
    found = fit(values, random.random(4000) < chance)
    assert found.probability(values) == pytest.approx(chance, abs=0.03)
    few = fit(values[:2], np.array([True, False]))
    assert few.probability(values[:2]) == pytest.approx(chance[:2], abs=0.25)


def scene(count=20):
    """Return a slice in which each truth is found twice, doubles scoring above other truths."""
    truths = [square(x, 1.0) for x in range(0, 20 * count, 20)]
    scores = np.linspace(0.55, 0.95, count)
    found = [square(20 * n, s) for n, s in enumerate(scores)]
    doubles = [square(20 * n + 1, s - 0.02) for n, s in enumerate(scores)]
    return judge(0, SHAPE, truths, [*found, *doubles], class_name=CLASS)


def test_doubles_fall_behind_and_precision_at_the_same_recall_rises():
    judged = scene()
    right = right_ones(judged)
    assert right.sum() == 20
    values = features(judged.predictions)
    told = fit(values, right).probability(values)
    figures = compare_scores([judged], [told])
    assert (figures.right, figures.false, figures.recall) == (20, 20, 1.0)
    # The last truth is found at 0.55, after the doubles of all but itself.
    assert figures.before.precision == pytest.approx(20 / 39)
    assert figures.before.score == pytest.approx(0.55)
    assert figures.after.precision == 1
    assert figures.gain.interval[0] > 0
    assert detection([judged], score=0.55).precision == pytest.approx(20 / 39)


def test_figures_of_scores_that_are_known():
    judged = scene()
    scores = np.where(right_ones(judged), 0.95, 0.25)
    after = compare_scores([judged], [scores]).after
    assert after.bins == (
        (pytest.approx(0.25), 0.0, 20),
        (pytest.approx(0.95), 1.0, 20),
    )
    assert after.error == pytest.approx((0.25 + 0.05) / 2)
    assert after.log_loss == pytest.approx(-(np.log(0.75) + np.log(0.95)) / 2)


def test_a_class_without_regression_keeps_its_scores_and_all_are_sorted():
    regression = Regression(bias=-3, score=1, sureness=0, double=0)
    calibration = Calibration(
        model_hash="a", classes={CLASS: regression}, off={"other": "why"}, slices=(0,)
    )
    found = [square(0, 0.9), square(50, 0.8), square(100, 0.6, class_name="other")]
    applied = calibration.applied(found)
    assert [i.class_name for i in applied] == ["other", CLASS, CLASS]
    assert [i.score for i in applied] == pytest.approx(
        [0.6, expit(logit(0.9) - 3), expit(logit(0.8) - 3)]
    )
    assert {i.mask for i in applied} == {i.mask for i in found}
    assert calibration.applied([]) == []
    other = calibration.model_copy(update={"model_hash": "b"})
    same = calibration.model_copy(update={"off": {}, "slices": (1, 2)})
    assert (other.hash == calibration.hash, same.hash == calibration.hash) == (False, True)
