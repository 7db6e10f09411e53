"""Growing a reef from a seed: shapes at random, places by rejection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.samples.scene import (
    TAU,
    Clot,
    Crust,
    Cup,
    Filling,
    Floats,
    Look,
    Microbe,
    Profile,
    ReefRock,
    ReefScene,
    Shell,
    Spar,
    StarBody,
    Wobble,
)

#: Random places that are tried for one cup or shell before it is left out.
_TRIES = 40
#: Eight slices of the default spacing: less of a body would hardly be followed through z.
_WINDOW_UM = 4200.0
#: Thickest shell.
_SHELL_MAX_UM = 300.0
_UM3_PER_CM3 = 1e12
#: Orders of the harmonics that make an outline uneven.
_LOBES = (2, 3, 4, 5, 7, 9, 13, 19, 26)
#: Depths, and points of an outline, at which two bodies are tested for contact.
_CHECK_STEP_UM = 500.0
_CHECK_POINTS = 48


def plant(params: ReefParams) -> ReefScene:
    """Grow the whole reef that `params` describe; the same for the same parameters.

    Cups keep `cup_gap_um` from each other; a cup for which no place is found is left out.
    """
    # The order of the draws is part of the result: another one gives another reef from the same
    # seed, and figures in this repository are measured on the frozen one (docs/sample-reef.md).
    rng = np.random.default_rng((params.seed, 1))
    extent = params.extent_zyx_um
    _, height, width = extent
    rock = ReefRock(
        (0.52 * width, 0.53 * height),
        (0.425 * width, 0.385 * height),
        5.0,
        _wobble(rng, 0.045, (1, 2, 3, 4, 5, 7, 11, 17, 29), twist_um=60000.0),
    )
    ids = count(1)
    cups = _cups(rng, params, rock, ids)
    return ReefScene(
        extent,
        rock,
        cups,
        (*_clots(rng, params, rock, ids), *_crusts(rng, params, cups, ids)),
        _shells(rng, params, rock, cups, ids),
        tuple(
            Spar(_blob(rng, rock, extent[0], rng.uniform(700, 2800), 0.15), rng.beta(1, 2))
            for _ in range(_number(params.spar_per_cm3, extent))
        ),
    )


def _number(density: float, extent: tuple[float, float, float]) -> int:
    """Count of things that a density per cubic centimetre gives the stack."""
    return round(density * float(np.prod(extent)) / _UM3_PER_CM3)


def _wobble(
    rng: np.random.Generator, height: float, orders: tuple[int, ...], twist_um: float = 9000.0
) -> Wobble:
    """Harmonics whose heights fall with their order."""
    m = np.asarray(orders, np.float64)
    amplitudes = height * rng.uniform(0.3, 1, len(m)) * (m[0] / m) ** 0.9
    twists = rng.uniform(-TAU, TAU, len(m)) / twist_um
    return Wobble(m, amplitudes, rng.uniform(0, TAU, len(m)), twists)


def _place(rng: np.random.Generator, rock: ReefRock, depth: float, length: float) -> Floats:
    """Draw an (x, y, z) in the rock from which enough of `length` is in the stack to be seen."""
    first = min(_WINDOW_UM - length / 2, depth / 2)
    z = rng.uniform(first, depth - first)
    theta = rng.uniform(0, TAU)
    distance = 0.97 * np.sqrt(rng.uniform()) * float(rock.radius(np.array(theta), z))
    x, y = rock.middle
    return np.array([x + distance * np.cos(theta), y + distance * np.sin(theta), z])


# ------------------------------------------------------------------------ cups


def _cups(
    rng: np.random.Generator, params: ReefParams, rock: ReefRock, ids: Iterator[int]
) -> tuple[Cup, ...]:
    """Big cups first, each in a place that is free."""
    number = _number(params.cups_per_cm3, params.extent_zyx_um)
    low, high = params.cup_diameter_min_um / 2, params.cup_diameter_max_um / 2
    radii = np.sort(low + (high - low) * rng.uniform(size=number) ** 1.5)[::-1]
    taken: list[_Footprint] = []
    grown = [_free_place(rng, params, rock, float(radius), taken) for radius in radii]
    placed = [bodies for bodies in grown if bodies]
    # Drawn as an exact share, so that a small reef has both textures, too.
    muddy = rng.permutation(len(placed)) < params.mud_filled_share * len(placed)
    return tuple(
        Cup(next(ids), "mud_filled" if mud else "pitted", bodies, _look(rng, params, bodies[0]))
        for bodies, mud in zip(placed, muddy, strict=True)
    )


def _free_place(
    rng: np.random.Generator,
    params: ReefParams,
    rock: ReefRock,
    radius: float,
    taken: list[_Footprint],
) -> tuple[StarBody, ...]:
    """Grow a cup anew until it touches none that is there; empty where no try succeeds."""
    grow = _lying if rng.uniform() < params.lying_share else _upright
    branches = rng.uniform() < params.branching_share and grow is _upright
    for _ in range(_TRIES):
        trunk = grow(rng, rock, params.extent_zyx_um[0], radius)
        prints = [_Footprint.of(trunk)]
        if _crowded(prints, taken, params.cup_gap_um):
            continue
        # Branches are drawn only where their trunk has found a place.
        if branches:
            prints += [_Footprint.of(branch) for branch in _branches(rng, trunk)]
        if not _crowded(prints[1:], taken, params.cup_gap_um):
            taken.extend(prints)
            return tuple(p.body for p in prints)
    return ()


def _upright(rng: np.random.Generator, rock: ReefRock, depth: float, radius: float) -> StarBody:
    """Grow a cup along z, more or less aslant."""
    length = max(6000.0, radius * rng.uniform(3.2, 6.5))
    x, y, z = _place(rng, rock, depth, length)
    profile = Profile(
        z - length / 2,
        z + length / 2,
        radius,
        tip=rng.uniform(0.25, 0.45),
        crown=rng.uniform(0.2, 0.35),
        taper=rng.uniform(0.45, 0.9),
        down=bool(rng.uniform() < 0.5),
    )
    knots = np.linspace(profile.z0, profile.z1, 5)
    # Slim cups lean less, so that their sections in neighbouring slices always overlap well.
    lean = min(np.tan(rng.uniform(0, 0.7)), radius / 2200)
    towards = rng.uniform(0, TAU)
    sway = rng.normal((x, y), 0.12 * radius, (5, 2))
    line = np.outer(knots - z, lean * np.array([np.cos(towards), np.sin(towards)]))
    return StarBody(
        knots,
        line + sway,
        profile,
        _wobble(rng, 0.07, _LOBES),
        aspect=rng.uniform(1, 1.3),
        angle=rng.uniform(0, TAU),
        cavity=rng.uniform(0.25, 0.5),
    )


def _lying(rng: np.random.Generator, rock: ReefRock, depth: float, radius: float) -> StarBody:
    """Grow a cup cut lengthwise: long, often bent to a crescent."""
    radius *= 0.62
    length = max(5600.0, radius * rng.uniform(2.4, 3.6))
    x, y, z = _place(rng, rock, depth, length)
    profile = Profile(z - length / 2, z + length / 2, radius, tip=0.4, crown=0.4, taper=0.9)
    aspect = rng.uniform(1.7, 3.0)
    knots = np.linspace(profile.z0, profile.z1, 4)
    return StarBody(
        knots,
        rng.normal((x, y), 0.15 * radius, (4, 2)),
        profile,
        _wobble(rng, 0.1, _LOBES),
        aspect=aspect,
        angle=rng.uniform(0, TAU),
        bend=rng.choice([-1, 1]) * rng.uniform(0.1, 0.75) / (radius * aspect),
        cavity=rng.uniform(0.2, 0.4),
    )


def _branches(rng: np.random.Generator, trunk: StarBody) -> Iterator[StarBody]:
    """Grow one to three slimmer cups that start inside a cup and leave it at different sides."""
    number = int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))
    first = rng.uniform(0, TAU)
    sides = first + TAU / number * np.arange(number) + rng.normal(0, 0.3, number)
    stem = trunk.profile
    for side in sides.tolist():
        radius = stem.radius * rng.uniform(0.45, 0.7)
        start, end = rng.uniform((0.1, 0.9), (0.3, 1.25))
        away = (1.15 * (stem.radius + radius)) * np.array([0.25, 0.4, 0.7, 0.95, 1.15])
        at = stem.z0 + np.linspace(start, end, 5) * (stem.z1 - stem.z0)
        if stem.down:
            at, away = stem.z0 + stem.z1 - at[::-1], away[::-1]
        towards = np.array([np.cos(side), np.sin(side)])
        yield replace(
            trunk,
            knots_z=at,
            knots_xy=trunk.centre(at) + np.outer(away, towards),
            profile=replace(stem, z0=at[0], z1=at[-1], radius=radius, tip=0.3, crown=0.2),
            wobble=_wobble(rng, 0.07, _LOBES),
            cavity=rng.uniform(0.25, 0.45),
        )


def _look(rng: np.random.Generator, params: ReefParams, body: StarBody) -> Look:
    cell = rng.uniform(380, 560)
    filling: Filling = rng.choice(["mud", "spar", "skeleton"], p=[0.2, 0.1, 0.7])
    return Look(
        brightness=rng.uniform(0.8, 1.03),
        warmth=rng.beta(1, 4),
        septa=max(8, round(TAU * body.profile.radius * 0.75 / cell)),
        cell_um=cell,
        radial=bool(rng.uniform() < (0.7 if body.aspect < 1.5 else 0.1)),
        filling=filling,
        mud=float(params.mud_in_pitted * rng.gamma(1.0)),
        phase=rng.uniform(0, TAU),
    )


# -------------------------------------------------------------- calcimicrobe


def _blob(
    rng: np.random.Generator, rock: ReefRock, depth: float, radius: float, height: float
) -> StarBody:
    """Grow a roundish lump of no particular shape."""
    length = radius * rng.uniform(2.4, 4.0)
    x, y, z = _place(rng, rock, depth, length)
    profile = Profile(z - length / 2, z + length / 2, radius, tip=0.5, crown=0.5, taper=0.95)
    knots = np.linspace(profile.z0, profile.z1, 4)
    return StarBody(
        knots,
        rng.normal((x, y), 0.2 * radius, (4, 2)),
        profile,
        _wobble(rng, height, _LOBES),
        aspect=rng.uniform(1, 2.2),
        angle=rng.uniform(0, TAU),
    )


def _similarity(rng: np.random.Generator, params: ReefParams) -> float:
    """Likeness of one patch: spread around the parameter, 0 and 1 kept exactly."""
    mean = params.calcimicrobe_similarity
    return float(np.clip(mean + 0.5 * mean * (1 - mean) * rng.normal() * 2, 0, 1))


def _clots(
    rng: np.random.Generator, params: ReefParams, rock: ReefRock, ids: Iterator[int]
) -> Iterator[Microbe]:
    low, high = params.cup_diameter_min_um / 2, params.cup_diameter_max_um / 2
    for _ in range(_number(params.clots_per_cm3, params.extent_zyx_um)):
        radius = rng.uniform(low, 0.85 * high)
        body = _blob(rng, rock, params.extent_zyx_um[0], radius, 0.1)
        yield Clot(next(ids), body, _similarity(rng, params), _look(rng, params, body))


def _crusts(
    rng: np.random.Generator, params: ReefParams, cups: tuple[Cup, ...], ids: Iterator[int]
) -> Iterator[Microbe]:
    for cup in cups:
        if rng.uniform() >= params.crust_share:
            continue
        host = cup.bodies[0]
        length = host.profile.z1 - host.profile.z0
        middle = host.profile.z0 + length * rng.uniform(0.3, 0.7)
        half = length * rng.uniform(0.3, 0.6)
        yield Crust(
            next(ids),
            host,
            middle - half,
            middle + half,
            thickness=rng.uniform(700, 2000),
            side=rng.uniform(0, TAU),
            turn=rng.normal(0, 0.5) / length,
            spread=rng.uniform(0.8, 2.6),
            similarity=_similarity(rng, params),
            look=_look(rng, params, host),
        )


# ------------------------------------------------------------ shells and spar


def _shells(
    rng: np.random.Generator,
    params: ReefParams,
    rock: ReefRock,
    cups: tuple[Cup, ...],
    ids: Iterator[int],
) -> tuple[Shell, ...]:
    """Shells in nests, as currents leave them, each clear of cups and of other shells."""
    taken = [_Footprint.of(body) for cup in cups for body in cup.bodies]
    shells: list[Shell] = []
    for _ in range(_number(params.shells_per_cm3, params.extent_zyx_um)):
        near = shells[-1].body if shells and rng.uniform() < 0.65 else None
        body = _shell_body(rng, params, rock, near, taken)
        if body is None:
            continue
        closed = rng.uniform() < 0.3
        shell = Shell(
            next(ids),
            body,
            thickness=rng.uniform(170, _SHELL_MAX_UM),
            side=rng.choice([0.5, 1.5]) * np.pi + rng.normal(0, 0.3),
            spread=20.0 if closed else rng.uniform(1.0, 1.7),
            brightness=rng.uniform(0.7, 1.1),
        )
        shells.append(shell)
    return tuple(shells)


def _shell_body(
    rng: np.random.Generator,
    params: ReefParams,
    rock: ReefRock,
    near: StarBody | None,
    taken: list[_Footprint],
) -> StarBody | None:
    """Find a place for a shell; None where no try succeeds."""
    for _ in range(_TRIES):
        body = _blob(rng, rock, params.extent_zyx_um[0], rng.uniform(450, 1500), 0.02)
        if near is not None:
            body = _moved(body, near, rng.normal(0, 2600, 2))
        mark = _Footprint.of(body)
        if not _crowded([mark], taken, _SHELL_MAX_UM):
            taken.append(mark)
            return body
    return None


def _moved(body: StarBody, near: StarBody, offset: Floats) -> StarBody:
    """Put a body beside another one, at its depth."""
    shift_z = near.knots_z.mean() - body.knots_z.mean()
    shift = near.knots_xy.mean(0) + offset - body.knots_xy.mean(0)
    profile = body.profile
    return replace(
        body,
        knots_z=body.knots_z + shift_z,
        knots_xy=body.knots_xy + shift,
        profile=replace(profile, z0=profile.z0 + shift_z, z1=profile.z1 + shift_z),
    )


# ---------------------------------------------------------------- contact


@dataclass(frozen=True)
class _Footprint:
    """The reach of a body on a common grid of depths, to test it for contact with others.

    Attributes
    ----------
    first
        Number of the first depth.
    centres
        (z, 2) centres at each depth.
    reach, core
        (z,) farthest and nearest distance of the outline from the centre.
    low, high
        Corners (x, y) of the box around all outlines.
    """

    body: StarBody
    first: int
    centres: Floats
    reach: Floats
    core: Floats
    low: tuple[float, float]
    high: tuple[float, float]

    @classmethod
    def of(cls, body: StarBody) -> _Footprint:
        """Sample a body."""
        first = int(np.ceil(body.profile.z0 / _CHECK_STEP_UM))
        last = int(np.floor(body.profile.z1 / _CHECK_STEP_UM))
        z = np.arange(first, last + 1) * _CHECK_STEP_UM
        outlines = body.outline(z, _CHECK_POINTS)
        centres = body.centre(z)
        away = np.linalg.norm(outlines - centres[:, None], axis=-1)
        (x0, y0), (x1, y1) = outlines.min((0, 1)), outlines.max((0, 1))
        return cls(body, first, centres, away.max(1), away.min(1), (x0, y0), (x1, y1))

    def apart(self, other: _Footprint, gap: float) -> bool:
        """Return whether the boxes alone show that the two are more than `gap` um apart."""
        return any(
            self.low[i] > other.high[i] + gap or other.low[i] > self.high[i] + gap for i in (0, 1)
        )

    def meets(self, other: _Footprint, gap: float) -> bool:
        """Return whether the two come closer than `gap` um at any common depth."""
        low = max(self.first, other.first)
        high = max(low, min(self.first + len(self.reach), other.first + len(other.reach)))
        if low == high or self.apart(other, gap):
            return False
        mine, theirs = (slice(low - p.first, high - p.first) for p in (self, other))
        away = np.linalg.norm(self.centres[mine] - other.centres[theirs], axis=-1)
        near = np.flatnonzero(away < self.reach[mine] + other.reach[theirs] + gap)
        if (away < self.core[mine] + other.core[theirs]).any():
            return True
        if not len(near):
            return False
        z = (low + near) * _CHECK_STEP_UM
        for one, two in ((self.body, other.body), (other.body, self.body)):
            points = one.outline(z, _CHECK_POINTS, gap)
            if (two.share(points[..., 0], points[..., 1], z[:, None]) < 1).any():
                return True
        return False


def _crowded(prints: Sequence[_Footprint], taken: Sequence[_Footprint], gap: float) -> bool:
    """Return whether any of the bodies would touch one that is taken."""
    return any(a.meets(b, gap) for a in prints for b in taken)
