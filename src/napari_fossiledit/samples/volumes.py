"""Exact volumes of what a sample reef holds, from the formulas and not from voxels.

A section's area is the integral of r dr dtheta. It is taken in rings of equal area (r^2 even) and
even angles, so that a whole section gives exactly half the integral of r^2; where the rock's edge
cuts a section, or a neighbouring branch takes part of it, each ring cell counts or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from napari_fossiledit.samples.scene import TAU, Cup, Floats, ReefRock, ReefScene, Shell, StarBody

#: Angles and rings of a section, and depths of a body, at which the integrals are taken.
_ANGLES, _RINGS, _DEPTHS = 128, 24, 32
_THETA = (np.arange(_ANGLES) + 0.5) * (TAU / _ANGLES)
_METHOD = "section areas integrated over z, within the rock and the stack"
_METHOD_SHELL = "band areas integrated over z, within the rock and the stack"


@dataclass(frozen=True)
class Volume:
    """The volume of one specimen inside the stack and the rock.

    Attributes
    ----------
    specimen
        Its id.
    category, texture
        Class, and texture where it has one.
    volume_um3
        Everything within the outer wall, the cavity included; None where no formula gives it.
    cavity_um3
        The central cavity alone.
    method
        Method by which the figures were obtained.
    """

    specimen: int
    category: str
    texture: str | None
    volume_um3: float | None
    cavity_um3: float | None
    method: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


def volumes(scene: ReefScene) -> list[Volume]:
    """Compute the volume of every specimen, in the order of their ids.

    Calcimicrobe is cut out of a random field and has no volume in closed form: its entry is None.
    """
    cups = [_cup_volume(cup, scene) for cup in scene.cups]
    microbes = [
        Volume(m.id, "calcimicrobe", None, None, None, "none: the edge is a random field")
        for m in scene.microbes
    ]
    shells = [_shell_volume(shell, scene) for shell in scene.shells]
    return sorted(cups + microbes + shells, key=lambda record: record.specimen)


def _depths(body: StarBody, scene: ReefScene) -> tuple[Floats, Floats]:
    """Gauss-Legendre depths and weights over the part of a body that the stack holds."""
    low, high = max(body.profile.z0, 0.0), min(body.profile.z1, scene.extent[0])
    nodes, weights = np.polynomial.legendre.leggauss(_DEPTHS)
    half = max(high - low, 0.0) / 2
    return (low + high) / 2 + half * nodes, half * weights


def _cup_volume(cup: Cup, scene: ReefScene) -> Volume:
    """Add up what the branches of a cup give to its volume and to its cavity."""
    parts = []
    for index, body in enumerate(cup.bodies):
        others = cup.bodies[:index] + cup.bodies[index + 1 :]
        total = np.zeros(2)
        for z, weight in zip(*_depths(body, scene), strict=True):
            rivals = tuple(other for other in others if other.spans(float(z)))
            total += weight * _areas(body, rivals, scene.rock, float(z))
        parts.append(total)
    whole, cavity = np.sum(parts, axis=0)
    return Volume(cup.id, "archaeocyathid", cup.texture, float(whole), float(cavity), _METHOD)


def _areas(body: StarBody, rivals: Sequence[StarBody], rock: ReefRock, z: float) -> Floats:
    """Area of a branch and of its cavity at `z`, as far as they are its own and in the rock."""
    radius, inner = body.radius(_THETA, z), float(body.cavity_share(z))
    rim = body.place(_THETA, radius, z)
    near = []
    for rival in rivals:
        # Only a rival whose box overlaps can take a part of the section.
        other = rival.outline(z, _ANGLES)
        if (rim.min(0) < other.max(0)).all() and (other.min(0) < rim.max(0)).all():
            near.append(rival)
    edge = None if (rock.share(rim[:, 0], rim[:, 1], z) < 1).all() else rock
    if edge is None and not near:
        return _area(radius) * np.array([1.0, inner**2])
    return np.array([_own_area(body, near, edge, z, radius, share) for share in (1.0, inner)])


def _area(radius: Floats) -> float:
    """Area within a star-shaped outline that is given at `_THETA`."""
    return float((radius**2).sum() * TAU / _ANGLES / 2)


def _own_area(
    body: StarBody,
    rivals: Sequence[StarBody],
    rock: ReefRock | None,
    z: float,
    radius: Floats,
    scale: float,
) -> float:
    """Area of the points that lie in the rock and nearer this branch's middle than a rival's."""
    # A body without a cavity.
    if scale == 0:
        return 0.0
    shares = scale * np.sqrt((np.arange(_RINGS) + 0.5) / _RINGS)[:, None]
    points = body.place(_THETA, shares * radius, z)
    x, y = points[..., 0], points[..., 1]
    counts = np.ones(x.shape, bool) if rock is None else rock.share(x, y, z) < 1
    for rival in rivals:
        counts &= shares <= rival.share(x, y, z)
    return _area(radius * scale * np.sqrt(counts.mean(0)))


def _shell_volume(shell: Shell, scene: ReefScene) -> Volume:
    """Integrate the band between r - h and r + h, of which the part in the rock counts."""
    half = shell.half_width(_THETA)
    depths, weights = _depths(shell.body, scene)
    areas = []
    for z in depths.tolist():
        radius = shell.body.radius(_THETA, z)
        inner, outer = np.clip(radius - half, 0, None), np.where(radius > 0, radius + half, 0)
        middle = shell.body.place(_THETA, radius, z)
        counts = scene.rock.share(middle[:, 0], middle[:, 1], z) < 1
        areas.append(float((counts * (outer**2 - inner**2)).sum() * TAU / _ANGLES / 2))
    total = float((weights * np.array(areas)).sum())
    return Volume(shell.id, "shell", None, total, None, _METHOD_SHELL)
