"""What is in the plots, and that they are drawn."""

import numpy as np
import pytest
from PIL import Image

from napari_fossiledit.params.agenda import DistanceParams, ExpectParams, SuggestParams
from napari_fossiledit.params.segment import Device
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.agenda import distance, expected, plots, suggest, thumbnails
from napari_fossiledit.workflows.agenda.plots import AlongZ, ByDistance, Violins


def rows(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {
            "slice": z,
            "distance": float(rng.random()),
            "expected": 0.7,
            "low": 0.5,
            "high": 0.9,
            "f_score": float(rng.random()) if z % 2 else None,
        }
        for z in range(count)
    ]


def test_the_moving_average_is_that_of_a_tenth_of_the_slices_by_distance():
    made = rows(90)
    plot = ByDistance.of(made)
    known = sorted((r["distance"], r["f_score"], r["slice"]) for r in made if r["slice"] % 2)
    assert plot.slices == tuple(z for _, _, z in known)
    # 45 slices: windows of 4.
    direct = [np.mean(known[n : n + 4], axis=0)[:2] for n in range(45 - 4 + 1)]
    np.testing.assert_allclose(np.transpose(plot.average), direct)
    assert plot.places[known[3][2]] == known[3][0]
    few = ByDistance.of(rows(10))
    np.testing.assert_array_equal(few.average[1], few.f_scores)


def test_slices_without_distance_or_f_score_are_not_in_the_plot_by_distance():
    unknown = {"slice": 1, "distance": None, "f_score": 0.5}
    plot = ByDistance.of([unknown, {"slice": 2, "distance": 0.5}])
    assert (plot.slices, plot.words) == ((), "No traced slice has a distance.")


def test_along_z_has_gaps_where_nothing_is_known_and_names_the_worst_slice():
    made = rows(6)
    made[2]["expected"], made[4]["distance"] = 0.3, None
    plot = AlongZ(tuple(made), traced=(1, 9), suggested=(2,))
    assert np.isnan(plot.column("distance")).tolist() == [False] * 4 + [True, False]
    assert plot.places == {z: z for z in (*range(6), 9)}
    assert plot.words == "6 slices; the lowest that is expected is F 0.30, on slice 2"


@pytest.mark.parametrize("ink", ["#000000", "#ffffff"])
def test_a_slice_is_found_where_it_is_drawn(ink):
    plot = AlongZ(tuple(rows(5)), suggested=(3,))
    drawing = plots.render(plot, (300, 190), ink, 2.0)
    assert drawing.picture.shape == (380, 600, 4)
    # The only suggestion is the only thing of its colour in the upper part of the axes.
    colour = [int(plots.SUGGESTED[n : n + 2], 16) for n in (1, 3, 5)]
    top = drawing.picture[: int(2 * drawing.rows[0]) + 40]
    found = np.nonzero((top[..., :3] == colour).all(-1) & (top[..., 3] == 255))[1]
    assert found.mean() / 2 == pytest.approx(drawing.columns[3], abs=0.5)
    # Nothing but what is drawn hides the window below.
    assert drawing.picture[0, 0, 3] == 0


def test_violins_are_drawn_also_without_distances_and_with_equal_ones():
    base = {"expected": 0.7, "low": 0.5, "high": 0.9, "f_score": None}
    models = [
        {"model": "a-name-that-is-much-too-long-for-it", "distances": (0.1, 0.4, 0.2), **base},
        {"model": "same", "distances": (0.3, 0.3), **base, "f_score": 0.6},
        {"model": "unknown", "distances": (), **base},
    ]
    plot = Violins(tuple(models))
    drawing = plots.render(plot, (300, 190), "#000000", 1.0)
    assert drawing.columns == {}
    assert "same: F 0.70 (0.50 to 0.90)" in plot.words


def test_pictures_lie_beside_the_figures(reef_project, blank_model):
    measured = distance.run(
        reef_project, DistanceParams(model=blank_model, known="0,1", device=Device.CPU)
    )
    awaited = expected.run(
        reef_project, ExpectParams(candidates=f"{blank_model},reef-lite", device=Device.CPU)
    )
    with Project.open(reef_project) as project:
        project.ledger.unset_traced(2)
    params = SuggestParams(model=blank_model, count=1, gain=True, device=Device.CPU)
    (pick,) = suggest.run(reef_project, params).picks
    assert pick.low <= pick.expected <= pick.high
    files = [
        reef_project / "reports" / "suggested.png",
        measured.report.with_suffix(".png"),
        awaited.report.with_suffix(".png"),
        awaited.report.with_name(f"{awaited.report.stem}-models.png"),
    ]
    for file in files:
        with Image.open(file) as picture:
            assert picture.size[0] > 600, file


def test_thumbnails_are_small_and_those_of_their_slices(reef_project):
    small = thumbnails.run(reef_project, [3, 0], 32)
    assert [*small] == [3, 0]
    assert max(small[3].shape[:2]) == 32
    assert (small[3] != small[0]).any()
