"""Star-shaped bodies, random fields and volumes against independent calculations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import BSpline
from skimage.draw import polygon2mask

from napari_fossiledit.samples.fields import Lattice, spline_weights
from napari_fossiledit.samples.scene import (
    Cup,
    Look,
    Profile,
    ReefRock,
    ReefScene,
    Shell,
    StarBody,
    Wobble,
    looked_up,
)
from napari_fossiledit.samples.volumes import volumes

EVEN = Wobble(*(np.zeros(0) for _ in range(4)))
LOBED = Wobble(*(np.array(v) for v in ((3.0, 7.0), (0.1, 0.04), (0.3, 1.0), (1e-4, -2e-4))))
ROCK = ReefRock((5000.0, 5000.0), (1e5, 1e5), 4.0, EVEN)
LOOK = Look(1.0, 0.0, 20, 400.0, True, "mud", 0.0, 0.0)


def body(radius: float = 1000.0, lean: float = 0.0, **changes) -> StarBody:
    """Make an ellipsoid-like body from z = 1000 to 5000 at (5000, 5000)."""
    knots = np.linspace(1000.0, 5000.0, 4)
    line = np.stack([5000 + lean * (knots - 3000), np.full(4, 5000.0)], axis=1)
    profile = Profile(1000.0, 5000.0, radius, tip=0.5, crown=0.5, taper=1.0)
    return StarBody(knots, line, **({"profile": profile, "wobble": EVEN} | changes))


def volume(*bodies: StarBody, rock: ReefRock = ROCK, depth: float = 6000.0) -> tuple[float, float]:
    scene = ReefScene((depth, 1e4, 1e4), rock, (Cup(1, "pitted", bodies, LOOK),), (), (), ())
    (record,) = volumes(scene)
    return record.volume_um3, record.cavity_um3


def test_an_even_body_is_an_ellipsoid() -> None:
    assert volume(body())[0] == pytest.approx(4 / 3 * np.pi * 1000 * 1000 * 2000, rel=1e-6)


def test_half_a_body_beyond_the_stack_does_not_count() -> None:
    assert volume(body(), depth=3000.0)[0] == pytest.approx(volume(body())[0] / 2, rel=1e-6)


def test_the_rock_edge_cuts_a_body() -> None:
    # A rock so wide that its edge is straight where it passes through the middle of the body.
    rock = ReefRock((-95_000.0, 5000.0), (1e5, 1e7), 2.0, EVEN)
    assert volume(body(), rock=rock)[0] == pytest.approx(volume(body())[0] / 2, rel=0.01)


def test_a_leaning_tube_is_cut_as_an_ellipse_of_the_right_area() -> None:
    ratio = volume(body(lean=0.75))[0] / volume(body())[0]
    assert ratio == pytest.approx(np.hypot(1, 0.75), rel=1e-6)


def test_two_balls_share_their_lens_only_once() -> None:
    profile = Profile(4000.0, 6000.0, 1000.0, tip=0.5, crown=0.5, taper=1.0)
    knots = np.linspace(4000.0, 6000.0, 4)
    balls = [StarBody(knots, np.tile((x, 5000.0), (4, 1)), profile, EVEN) for x in (4500.0, 5500.0)]
    lens = np.pi * (4 * 1000 + 1000) * (2 * 1000 - 1000) ** 2 / 12
    expected = 2 * 4 / 3 * np.pi * 1000**3 - lens
    assert volume(*balls, depth=1e4)[0] == pytest.approx(expected, rel=0.005)


def test_a_cavity_of_constant_share_has_the_square_of_it_in_volume() -> None:
    late = Profile(-3e5, 5000.0, 1000.0, tip=1e-3, crown=1e-3, taper=1.0)
    whole, cavity = volume(body(profile=late, cavity=0.4))
    assert cavity / whole == pytest.approx(0.16, rel=1e-4)


@pytest.mark.parametrize("changes", [{}, {"bend": 4e-4, "aspect": 1.8, "angle": 0.7}])
def test_the_outline_drawn_as_a_polygon_has_the_area_of_the_formula(changes: dict) -> None:
    made = body(wobble=LOBED, **changes)
    theta = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    exact = (made.radius(theta, 2500.0) ** 2).mean() * np.pi
    drawn = polygon2mask((1000, 1000), made.outline(2500.0, 2000) / 10).sum() * 100
    assert drawn == pytest.approx(exact, rel=0.005)


def test_polar_coordinates_undo_placing() -> None:
    made = body(wobble=LOBED, bend=4e-4, aspect=1.8, angle=0.7, lean=0.4)
    theta, distance = np.linspace(-3, 3, 50), np.linspace(10, 900, 50)
    points = made.place(theta, distance, 2200.0)
    back = made.polar(points[:, 0], points[:, 1], 2200.0)
    np.testing.assert_allclose(back, (distance, theta), rtol=1e-9)


def test_looked_up_radii_are_those_of_the_formula() -> None:
    made, theta = body(wobble=LOBED, aspect=2.5), np.linspace(-np.pi, np.pi, 5001)
    np.testing.assert_allclose(
        looked_up(made.radius, theta, 2500.0), made.radius(theta, 2500.0), rtol=1e-3
    )


def test_a_closed_shell_is_a_tube() -> None:
    shell = Shell(1, body(), thickness=100.0, side=0.0, spread=1e6, brightness=1.0)
    (record,) = volumes(ReefScene((6000.0, 1e4, 1e4), ROCK, (), (), (shell,), ()))
    # Area of a ring is circumference times thickness; the mean radius of a section is pi/4.
    assert record.volume_um3 == pytest.approx(2 * np.pi * 1000 * np.pi / 4 * 4000 * 100, rel=0.01)


def test_spline_weights_are_those_of_a_cubic_b_spline() -> None:
    place = np.array([0.0, 0.3, 1.9, 4.5])
    ours = spline_weights(place, 9)
    nodes = [BSpline.basis_element(np.arange(5.0), extrapolate=False) for _ in range(9)]
    theirs = np.array([[np.nan_to_num(n(x - k + 3)) for k, n in enumerate(nodes)] for x in place])
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_field_is_normal_smooth_and_the_same_whenever_it_is_asked() -> None:
    field = Lattice.of((3, 1), 200.0, 500.0, (300, 400), 50.0)
    first, near, far = field.at(1000.0), field.at(1010.0), field.at(9000.0)
    assert abs(first.mean()) < 0.15
    assert first.std() == pytest.approx(1, abs=0.1)
    assert np.corrcoef(first.ravel(), near.ravel())[0, 1] > 0.99
    assert abs(np.corrcoef(first.ravel(), far.ravel())[0, 1]) < 0.1
    np.testing.assert_array_equal(first, field.at(1000.0))
