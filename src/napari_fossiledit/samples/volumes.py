"""Exact volumes of what a sample reef holds, from the formulas and not from voxels.

A section's area is the integral of r dr dtheta. It is taken in rings of equal area (r^2 even) and
even angles, so that a whole section gives exactly half the integral of r^2; where the rock's edge
cuts a section, or a neighbouring branch takes part of it, each ring cell counts or not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from napari_fossiledit.samples.bodies import TAU, Floats, StarBody
from napari_fossiledit.samples.scene import Cup, Rock, Scene, Shell

Bodies = tuple[StarBody, ...]

_ANGLES = 128
_RINGS = 24
_DEPTHS = 32
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
        How the figures were obtained.
    """

    specimen: int
    category: str
    texture: str | None
    volume_um3: float | None
    cavity_um3: float | None
    method: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def volumes(scene: Scene) -> list[Volume]:
    """Volumes of every specimen, in the order of their ids.

    Calcimicrobe is cut out of a random field and has no volume in closed form: its entry is None.
    """
    cups = [_cup_volume(cup, scene) for cup in scene.cups]
    microbes = [
        Volume(m.id, "calcimicrobe", None, None, None, "none: the edge is a random field")
        for m in scene.microbes
    ]
    shells = [_shell_volume(shell, scene) for shell in scene.shells]
    return sorted(cups + microbes + shells, key=lambda record: record.specimen)


def _depths(body: StarBody, scene: Scene) -> tuple[Floats, Floats]:
    """Gauss-Legendre depths and weights over the part of a body that the stack holds."""
    low, high = max(body.profile.z0, 0.0), min(body.profile.z1, scene.extent[0])
    nodes, weights = np.polynomial.legendre.leggauss(_DEPTHS)
    half = max(high - low, 0.0) / 2
    return (low + high) / 2 + half * nodes, half * weights


def _cup_volume(cup: Cup, scene: Scene) -> Volume:
    sums = np.sum([_body_volume(i, cup, scene) for i in range(len(cup.bodies))], axis=0)
    return Volume(cup.id, "archaeocyathid", cup.texture, float(sums[0]), float(sums[1]), _METHOD)


def _body_volume(index: int, cup: Cup, scene: Scene) -> Floats:
    """Tell what one branch adds to the volume and to the cavity of its cup."""
    body = cup.bodies[index]
    others = cup.bodies[:index] + cup.bodies[index + 1 :]
    total = np.zeros(2)
    for z, weight in zip(*_depths(body, scene), strict=True):
        rivals = tuple(other for other in others if other.spans(float(z)))
        total += weight * _areas(body, rivals, scene.rock, float(z))
    return total


def _areas(body: StarBody, rivals: Bodies, rock: Rock, z: float) -> Floats:
    """Area of a branch and of its cavity at `z`, as far as they are its own and in the rock."""
    radius, inner = body.radius(_angles(), z), float(body.cavity_share(z))
    rim = body.place(_angles(), radius, z)
    near = tuple(rival for rival in rivals if _may_meet(rim, rival, z))
    edge = None if (rock.share(rim[:, 0], rim[:, 1], z) < 1).all() else rock
    if edge is None and not near:
        return _area(radius) * np.array([1.0, inner**2])
    return np.array([_own_area(body, near, edge, z, radius, share) for share in (1.0, inner)])


def _may_meet(rim: Floats, rival: StarBody, z: float) -> bool:
    """Whether the boxes of two sections overlap."""
    other = rival.outline(z, _ANGLES)
    return bool((rim.min(0) < other.max(0)).all() and (other.min(0) < rim.max(0)).all())


def _area(radius: Floats) -> float:
    """Area within a star-shaped outline at `_angles`."""
    return float((radius**2).sum() * TAU / _ANGLES / 2)


def _own_area(
    body: StarBody, rivals: Bodies, rock: Rock | None, z: float, radius: Floats, scale: float
) -> float:
    """Area of the points that lie in the rock and nearer this branch's middle than a rival's."""
    if scale == 0:
        return 0.0
    shares = scale * np.sqrt((np.arange(_RINGS) + 0.5) / _RINGS)[:, None]
    points = body.place(_angles(), shares * radius, z)
    x, y = points[..., 0], points[..., 1]
    counts = np.ones(x.shape, bool) if rock is None else rock.share(x, y, z) < 1
    for rival in rivals:
        counts &= shares <= rival.share(x, y, z)
    return _area(radius * scale * np.sqrt(counts.mean(0)))


def _shell_volume(shell: Shell, scene: Scene) -> Volume:
    z, weights = _depths(shell.body, scene)
    areas = np.array([_shell_area(shell, scene, float(depth)) for depth in z])
    total = float((weights * areas).sum())
    return Volume(shell.id, "shell", None, total, None, _METHOD_SHELL)


def _shell_area(shell: Shell, scene: Scene, z: float) -> float:
    """Area of the band between r - h and r + h, of which the part in the rock counts."""
    radius, half = shell.body.radius(_angles(), z), shell.half_width(_angles())
    inner, outer = np.clip(radius - half, 0, None), np.where(radius > 0, radius + half, 0)
    middle = shell.body.place(_angles(), radius, z)
    counts = scene.rock.share(middle[:, 0], middle[:, 1], z) < 1
    return float((counts * (outer**2 - inner**2)).sum() * TAU / _ANGLES / 2)


def _angles() -> Floats:
    return (np.arange(_ANGLES) + 0.5) * (TAU / _ANGLES)
