"""A gain at equal recall, on truths whose figures are known at every cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.frontier import at_equal_recall
from napari_fossiledit.evaluation.protocol import ProtocolResult, TruthScore

CUTS = (0.3, 0.5, 0.7, 0.9)


def unedited(cut: float, *, count: int = 60, seed: int = 0, extra: float = 0.0) -> ProtocolResult:
    """Truths whose recall falls and whose precision rises evenly with the cut."""
    rng = np.random.default_rng(seed)
    shift = rng.normal(0, 0.02, count)
    return ProtocolResult(
        tuple(
            TruthScore(
                0,
                i,
                "",
                100,
                recall=1.0 - 0.5 * cut + s,
                precision=0.6 + 0.3 * cut + s + extra,
                iou=0.7 + s,
                score=0.9,
            )
            for i, s in enumerate(shift)
        ),
        predictions=2 * count,
        spurious=3,
    )


def curve(**changes):
    return {(cut, 0.0): unedited(cut, **changes) for cut in CUTS}


def test_a_moved_cut_gains_nothing():
    found = at_equal_recall(curve(), unedited(0.62))
    assert found.cut == pytest.approx(0.62, abs=1e-6)
    assert found.gains["precision"].mean == pytest.approx(0, abs=1e-9)
    assert found.within
    assert not found.better
    assert found.words.startswith("No better than a moved mask cut")


def test_a_gain_is_what_no_cut_gives():
    found = at_equal_recall(curve(), unedited(0.62, extra=0.05))
    low, high = found.gains["precision"].interval
    assert found.gains["precision"].mean == pytest.approx(0.05, abs=1e-9)
    # The shifts are the same before and after, so that they cancel truth by truth.
    assert low == pytest.approx(0.05, abs=1e-6)
    assert high == pytest.approx(0.05, abs=1e-6)
    assert found.better
    assert found.words.startswith("At equal recall better: precision +0.050")


def test_higher_precision_for_less_recall_is_worse_than_a_cut():
    # What the plain figures would show as a gain of 0.03.
    after = unedited(0.9, extra=-0.09)
    plain = after.precision.mean - unedited(0.5).precision.mean
    found = at_equal_recall(curve(), after)
    assert plain == pytest.approx(0.03, abs=1e-9)
    assert found.gains["precision"].mean == pytest.approx(-0.09, abs=1e-9)
    assert found.words.startswith("Worse than a moved mask cut")


def test_the_interval_is_that_of_a_plain_loop():
    rng = np.random.default_rng(1)
    after = unedited(0.6)
    after = replace(
        after,
        truths=tuple(
            replace(t, precision=t.precision + rng.normal(0, 0.05), recall=t.recall + e)
            for t, e in zip(after.truths, rng.normal(0, 0.05, 60), strict=True)
        ),
    )
    found = at_equal_recall(curve(), after)
    tables = [
        (np.array([t.recall for t in r.truths]), np.array([t.precision for t in r.truths]))
        for r in (*(unedited(c) for c in CUTS), after)
    ]
    gains = []
    for draw in np.random.default_rng(0).integers(60, size=(1000, 60)):
        *cuts, (recall, precision) = [(r[draw].mean(), p[draw].mean()) for r, p in tables]
        recalls, precisions = zip(*cuts[::-1], strict=True)
        gains.append(precision - np.interp(recall, recalls, precisions))
    assert found.gains["precision"].interval == pytest.approx(np.percentile(gains, [2.5, 97.5]))
    assert found.gains["precision"].std == pytest.approx(np.std(gains))


@pytest.mark.parametrize(("cut", "at"), [(0.1, 0.3), (0.99, 0.9)])
def test_a_recall_that_no_cut_reaches_is_said(cut, at):
    found = at_equal_recall(curve(), unedited(cut))
    assert not found.within
    assert found.cut == pytest.approx(at)
    assert "the nearest recall it reaches" in found.words


def test_masks_that_are_drawn_too_wide_are_held_against_the_best_cut():
    def with_iou(result, iou):
        return replace(result, truths=tuple(replace(t, iou=iou) for t in result.truths))

    ious = dict(zip(CUTS, (0.5, 0.8, 0.75, 0.6), strict=True))
    before = {(c, 0.0): with_iou(unedited(c), iou) for c, iou in ious.items()}
    # Its recall is that of the widest cut, whose masks are even worse.
    found = at_equal_recall(before, with_iou(unedited(0.1), 0.7))
    assert found.gains["iou_all"].mean == pytest.approx(0.2)
    assert found.iou_gain.mean == pytest.approx(-0.1)
    assert found.iou_gain.interval == pytest.approx((-0.1, -0.1))
    assert found.summary()["iou_all_over_best_cut"]["mean"] == pytest.approx(-0.1)


def test_the_best_score_threshold_is_the_rival():
    # From a score of 0.5 the unedited model has no worse recall and a better precision.
    rivals = {**curve(), **{(c, 0.5): unedited(c, extra=0.04) for c in CUTS}}
    found = at_equal_recall(rivals, unedited(0.6, extra=0.05))
    assert found.score == 0.5
    assert found.gains["precision"].mean == pytest.approx(0.01, abs=1e-9)


def test_doubles_and_spurious_finds_stand_beside():
    after = replace(unedited(0.5), predictions=240, spurious=9)
    found = at_equal_recall(curve(), after)
    assert found.predictions == (2.0, 4.0)
    assert found.spurious == (3, 9)
    assert found.summary()["predictions_per_truth"] == [2.0, 4.0]


def test_missed_truths_count():
    after = unedited(0.5)
    missed = tuple(TruthScore(0, t.id, "", 100) if t.id < 6 else t for t in after.truths)
    found = at_equal_recall(curve(), replace(after, truths=missed))
    # A tenth of all is lost, so that the recall over all is that of a higher cut.
    assert found.cut > 0.6
    assert found.gains["matched"].mean == -6


def test_no_truth_gives_no_figure():
    found = at_equal_recall({(0.5, 0.0): ProtocolResult(())}, ProtocolResult(()))
    assert found.gains["precision"].mean is None
    assert "nothing to compare" in found.words


def test_other_truths_are_refused():
    with pytest.raises(FossilError, match=r"not judged on the same instances at the cut 0\.3"):
        at_equal_recall(curve(count=59), unedited(0.5))
    with pytest.raises(FossilError, match="at no cut"):
        at_equal_recall({}, unedited(0.5))
