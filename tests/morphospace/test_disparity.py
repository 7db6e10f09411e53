"""Disparity is that of known shapes, at equal numbers of specimens."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fossiledit.morphospace.disparity import CELLS, Space, compare, curve, rarefied, windows


def groups(count: int) -> list[str]:
    return [str(n) for n in range(count)]


def test_the_sum_of_variances_is_that_of_the_points() -> None:
    points = np.random.default_rng(0).normal(size=(50, 4)) * [1, 2, 3, 4]
    space = Space(points)
    rows = np.arange(30)
    expected = np.trace(np.cov(points[:30], rowvar=False))
    assert space.sum_of_variances(rows) == pytest.approx(expected, abs=1e-9)
    assert np.isnan(space.sum_of_variances(rows[:1]))


def test_the_hull_of_a_box_is_its_volume() -> None:
    corners = np.array([[x, y, z] for x in (0, 2) for y in (0, 3) for z in (0, 5)], float)
    space = Space(corners)
    assert space.hull_volume(np.arange(8)) == pytest.approx(30)
    # Four corners of a side are flat, three are too few.
    assert space.hull_volume(np.arange(4)) == 0
    assert np.isnan(space.hull_volume(np.arange(3)))


def test_a_quarter_of_the_map_is_occupied() -> None:
    centres = (np.arange(CELLS) + 0.5) / CELLS
    points = np.array([[x, y] for x in centres for y in centres])
    rows = np.flatnonzero((points < 0.5).all(axis=1))
    assert Space(points, points).occupied(rows) == pytest.approx(0.25)


def test_rarefaction_is_not_biased_by_the_number_of_specimens() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 5))
    space = Space(points)
    rows = np.arange(400)
    few = rarefied(space.sum_of_variances, rows, groups(400), 8, draws=2000)
    assert few.value == pytest.approx(space.sum_of_variances(rows), rel=0.05)
    assert few.interval[0] < few.value < few.interval[1]
    # Of two groups of the same form, the hull of the larger one is larger before rarefaction only.
    whole = [space.hull_volume(rows[:40]), space.hull_volume(rows[40:])]
    assert whole[1] > 1.5 * whole[0]
    found, size, _ = compare(space, {"few": rows[:40], "many": rows[40:]}, groups(400), draws=300)
    assert size == 40
    at_equal = [group.figures["hull_volume"] for group in found]
    low, high = at_equal[1].interval
    assert low < at_equal[0].value < high


def test_a_specimen_counts_once_however_many_sections_it_has() -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(10, 3))
    many = np.concatenate([points, np.repeat(points[:1], 90, axis=0)])
    of = [*groups(10), *["0"] * 90]
    found = rarefied(Space(many).sum_of_variances, np.arange(100), of, 10, draws=20)
    assert found.value == pytest.approx(Space(points).sum_of_variances(np.arange(10)))


def test_a_group_of_few_specimens_is_left_out() -> None:
    points = np.random.default_rng(0).normal(size=(23, 3))
    members = {"A": np.arange(20), "B": np.arange(20, 23)}
    found, size, left_out = compare(Space(points), members, groups(23), draws=10)
    assert ([g.name for g in found], size, left_out) == (["A"], 20, ("B",))
    assert compare(Space(points), {"B": members["B"]}, groups(23))[:2] == ((), 0)


def test_the_hull_grows_with_the_specimens_that_are_drawn() -> None:
    points = np.random.default_rng(0).normal(size=(60, 3))
    line = curve(Space(points).hull_volume, np.arange(60), groups(60))
    assert line[60].value == pytest.approx(Space(points).hull_volume(np.arange(60)))
    assert min(line) == 8
    values = [figure.value for figure in line.values()]
    assert values == sorted(values)


def test_windows_overlap_by_half_and_reach_the_last_slice() -> None:
    found = windows([0, 1, 2, 3, 4, 5, None, 9], 4)
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "2": [0, 1, 2, 3],
        "4": [2, 3, 4, 5],
        "6": [4, 5],
        "8": [7],
    }
    assert windows([None, None], 4) == {}


def test_forms_that_are_all_the_same_have_no_disparity() -> None:
    space = Space(np.ones((9, 4)))
    assert space.hull_share == 0
    found, _, _ = compare(space, {"A": np.arange(9)}, groups(9), draws=10)
    assert {f.value for f in found[0].figures.values()} == {0}
