"""Which slices the rules choose, where that can be told by hand."""

from itertools import combinations

import numpy as np

from napari_fossiledit.selection.agenda import (
    by_chance,
    by_distance,
    evenly_spaced,
    farthest_first,
    typical,
)


def slices(picks):
    return [pick.slice for pick in picks]


def rng():
    return np.random.default_rng(0)


def test_distance_draws_from_the_far_part_alone():
    scaled = np.linspace(0, 1, 11)
    drawn = {z for seed in range(40) for z in slices(
        by_distance(range(100, 111), scaled, 2, np.random.default_rng(seed))
    )}  # fmt: skip
    assert drawn == {106, 107, 108, 109, 110}
    last = by_distance(range(11), scaled, 11, rng())
    assert sorted(slices(last)) == list(range(11))
    assert {p.slice: p.reason for p in last}[10].endswith("the farthest of all.")


def test_farthest_first_takes_no_two_that_look_alike():
    # Two far groups in opposite directions, the farthest group having two that are nearly equal.
    places = np.array([[0.1, 0], [10, 0], [10.1, 0], [-9, 0]])
    scaled = np.array([0, 0.95, 1, 0.9])
    picks = farthest_first([3, 4, 5, 6], scaled, places, np.zeros((1, 2)), 2, depth=10)
    assert slices(picks) == [5, 6]
    assert "farthest of all" in picks[0].reason


def test_farthest_first_looks_at_depth_where_features_do_not_decide():
    places, scaled = np.full((4, 1), 5.0), np.ones(4)
    picks = farthest_first(
        [1, 5, 8, 11], scaled, places, np.zeros((1, 1)), 2, known_slices=[0], depth=12
    )
    assert slices(picks) == [11, 5]


def test_typical_slices_are_the_middles_of_groups():
    places = np.array([[0.0], [1], [2], [50], [51], [52], [53]])
    # So deep a stack that depth hardly counts.
    picks = typical(range(7), places, 2, 10**6)
    assert slices(picks) == [3, 1] or slices(picks) == [4, 1]
    assert "4 of 7 slices" in picks[0].reason
    assert "3 of 7 slices" in picks[1].reason


def test_typical_slices_are_those_that_no_traced_one_stands_for():
    places = np.array([[0.0], [1], [2], [50], [51], [52], [53], [90]])
    picks = typical(range(8), places, 2, 10**6, np.array([[51.0]]), [4])
    assert slices(picks) == [1, 7]
    assert "3 of 8 slices" in picks[0].reason
    # The richest of a group, whatever lies with the traced slice.
    weights = np.array([5.0, 1, 1, 9, 9, 9, 9, 1])
    rich = typical(range(8), places, 2, 10**6, np.array([[51.0]]), [4], weights)
    assert slices(rich) == [0, 7]
    assert "most fossil area" in rich[0].reason
    # Slices that all look alike are told from each other by their depth.
    same = np.zeros((4, 1))
    assert slices(typical([1, 5, 8, 11], same, 2, 12, same[:1], [0])) == [8, 5]
    assert sorted(slices(typical([1, 5, 8, 11], same, 9, 12, same[:1], [0]))) == [1, 5, 8, 11]


def test_evenly_spaced_slices_fill_the_widest_gaps():
    assert slices(evenly_spaced(range(30), 3, 30)) == [4, 14, 24]
    # Slices that are not to be chosen are passed over.
    assert slices(evenly_spaced([0, 1, 2, 29], 3, 30)) == [2, 1, 29]
    traced = [10, 40]
    others = [z for z in range(60) if z not in traced]
    # Ends: 10.5 and 19.5 slices from what is traced; the gap between: 15 at most.
    assert slices(evenly_spaced(others, 1, 60, traced)) == [53]
    assert slices(evenly_spaced(others, 2, 60, traced)) == [25, 53]
    assert slices(evenly_spaced(others, 3, 60, traced)) == [3, 25, 53]
    assert sorted(slices(evenly_spaced(others, 100, 60, traced))) == others
    (pick,) = evenly_spaced(others, 1, 60, traced)
    assert "nearest traced slice is 13 away" in pick.reason


def test_evenly_spaced_slices_leave_no_wider_gap_than_any_others():
    def widest(chosen):
        return max(min(abs(z - k) for k in chosen) for z in range(14))

    for traced in ([], [3], [0, 13], [5, 6]):
        others = [z for z in range(14) if z not in traced]
        for count in (1, 2, 3):
            ours = widest([*traced, *slices(evenly_spaced(others, count, 14, traced))])
            best = min(widest([*traced, *some]) for some in combinations(others, count))
            # Rounding to whole slices may cost one.
            assert ours <= best + 1


def test_chance_is_weighted_by_what_there_is_to_see():
    weights = np.array([1.0, 0.0, 3.0])
    first = [
        slices(by_chance([5, 6, 7], 1, np.random.default_rng(seed), weights))[0]
        for seed in range(400)
    ]
    assert 6 not in first
    assert 0.68 < first.count(7) / 400 < 0.82
    assert sorted(slices(by_chance([5, 6, 7], 3, rng(), weights))) == [5, 6, 7]
    plain = by_chance([5, 6, 7], 2, rng())
    assert {p.reason for p in plain} == {"It was drawn at random."}
