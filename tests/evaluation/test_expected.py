"""Expected F-scores against what is known of made-up slices, and their intervals."""

from dataclasses import replace

import numpy as np
import pytest

from napari_fossiledit.evaluation import expected
from napari_fossiledit.evaluation.expected import FEWEST, Known, from_reefs, from_traced

SLOPES = np.array([-0.8, 2.0])


def slices_of(rng, reefs, each, spread=0.5, noise=0.2, base=1.0):
    """Make slices whose logit of F is a line, with an error for each reef and for each slice."""
    x = rng.normal(size=(reefs * each, 2)) * (1.0, 0.5)
    numbers = np.repeat(np.arange(reefs), each)
    errors = rng.normal(0, spread, reefs)[numbers] + rng.normal(0, noise, len(x))
    return Known(x, 1 / (1 + np.exp(-(base + x @ SLOPES + errors))), numbers, numbers)


def test_what_follows_a_line_is_expected_on_it():
    known = slices_of(np.random.default_rng(0), 40, 5, spread=0, noise=0, base=0.2)
    found = from_reefs(known, known.predictors[:7])
    # But for the pull of the ridge, and for F nearer to 0 or 1 than is told apart.
    np.testing.assert_allclose(found.f_scores, known.f_scores[:7], atol=0.03)
    assert (found.lows <= found.f_scores).all()
    assert (found.f_scores <= found.highs).all()
    assert found.stack[0] == pytest.approx(found.f_scores.mean(), abs=1e-6)


def test_intervals_from_reefs_cover_slices_of_new_reefs():
    rng, hits, means = np.random.default_rng(1), [], []
    for _ in range(60):
        known, new = slices_of(rng, 30, 3), slices_of(rng, 4, 3)
        for reef in range(4):
            inside = new.reefs == reef
            found, truth = from_reefs(known, new.predictors[inside]), new.f_scores[inside]
            hits += [*((found.lows <= truth) & (truth <= found.highs))]
            means.append(found.stack[1] <= truth.mean() <= found.stack[2])
    assert 0.87 < np.mean(hits) < 0.97
    assert 0.87 < np.mean(means) < 0.98


def test_what_is_farther_than_anything_known_may_be_as_bad_as_can_be():
    known = slices_of(np.random.default_rng(5), 30, 3)
    near = known.predictors.mean(axis=0)
    far, doubtful = near.copy(), near.copy()
    far[0], doubtful[1] = known.predictors[:, 0].max() + 0.1, known.predictors[:, 1].min() - 0.1
    found = from_reefs(known, np.array([near, far, doubtful]))
    assert found.beyond.tolist() == [False, True, True]
    assert found.lows[0] > 0
    assert found.lows[1:].tolist() == [0, 0]
    alone = from_reefs(known, near[None])
    assert alone.stack[1] > found.stack[1] > 0


def test_few_reefs_tell_nothing_of_a_new_one():
    known = slices_of(np.random.default_rng(2), 8, 50)
    found = from_reefs(known, known.predictors[:3])
    # 90 % of 9 ranks is the ninth, which is the new reef's own.
    assert found.lows.tolist() == [0, 0, 0]
    assert found.highs.tolist() == [1, 1, 1]


def test_intervals_from_traced_slices_cover_the_others():
    rng, hits = np.random.default_rng(3), []
    known = slices_of(rng, 30, 3)
    for _ in range(150):
        # Another rock: worse by much than its scores and distances tell.
        rock = slices_of(rng, 1, FEWEST + 10, spread=0, noise=0.4, base=-0.5)
        traced, f_scores = rock.predictors[:FEWEST], rock.f_scores[:FEWEST]
        found = from_traced(known, rock.predictors[FEWEST:], traced, f_scores)
        truth = rock.f_scores[FEWEST:]
        hits += [*((found.lows <= truth) & (truth <= found.highs))]
    assert 0.87 < np.mean(hits) < 0.96


def test_a_predictor_that_is_not_known_is_left_out():
    known = slices_of(np.random.default_rng(4), 30, 3)
    new = known.predictors[:6].copy()
    new[:, 0] = np.nan
    found = from_reefs(known, new)
    other = known.predictors.copy()
    other[:, 0] = other[::-1, 0] + 7
    again = from_reefs(replace(known, predictors=other), new)
    np.testing.assert_array_equal(found.f_scores, again.f_scores)
    np.testing.assert_array_equal(found.lows, again.lows)
    traced = from_traced(known, new, known.predictors[:9], known.f_scores[:9])
    assert not np.isnan(traced.lows).any()


def test_the_table_that_comes_with_the_package():
    reference = expected.reference()
    assert len(np.unique(reference.known.stacks)) >= 30
    good, bad = expected.predictors_of(0.03, [0.9, 0.95, 0.02]), expected.predictors_of(0.5, [0.2])
    assert good[1] == pytest.approx(0.925)
    found = from_reefs(reference.known, np.array([good, bad]))
    assert found.f_scores[0] > 0.75
    assert found.f_scores[1] < 0.5
    assert expected.predictors_of(0.0, []) == (pytest.approx(np.log(1e-3)), 0.1)


def test_an_interval_that_reaches_what_is_not_told_apart_from_nothing_begins_there():
    known = slices_of(np.random.default_rng(7), 30, 3)
    alike = np.tile(known.predictors.mean(axis=0), (FEWEST, 1))
    for truth in (0.0, 1.0):
        found = from_traced(known, alike[:2], alike, np.full(FEWEST, truth))
        assert (found.lows <= truth).all()
        assert (truth <= found.highs).all()
        assert (found.highs - found.lows < 0.1).all()
        bad = replace(known, f_scores=np.full(len(known.f_scores), truth))
        there = from_reefs(bad, alike[:1])
        assert there.lows[0] <= truth <= there.highs[0]


def test_the_mean_of_a_rock_lies_in_its_interval():
    rng, hits = np.random.default_rng(8), []
    known = slices_of(rng, 30, 3)
    for _ in range(300):
        # Of slices that all look alike nothing but their mean is known.
        x = np.tile(known.predictors.mean(axis=0), (FEWEST + 500, 1))
        truth = 1 / (1 + np.exp(-rng.normal(0.3, 0.4, len(x))))
        found = from_traced(known, x[FEWEST:], x[:FEWEST], truth[:FEWEST])
        hits.append(found.stack[1] <= truth[FEWEST:].mean() <= found.stack[2])
    assert np.mean(hits) > 0.875
