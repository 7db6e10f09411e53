"""Regions drawn on the slice, as text that a perturbation reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Shapes
from numpy.typing import NDArray

from napari_fossiledit.widgets.canvas.layers import Role, find, placed
from napari_fossiledit.widgets.common.session import Session

TOOLS = {"Box": "add_rectangle", "Polygon": "add_polygon", "Ellipse": "add_ellipse"}
FILL = "fill"
_NAME = "Regions"
_DRAWN = ("rectangle", "polygon", "ellipse")
_CORNERS = 32


@dataclass(frozen=True)
class DrawnRegion:
    """One shape of the layer.

    Attributes
    ----------
    index
        Its place in the layer.
    region, fill
        What it covers and what it is filled with, in the words of a perturbation.
    """

    index: int
    region: str
    fill: str


def draw(session: Session, role: Role, tool: str, fill: str = "") -> Shapes:
    """Ready a tool that draws on the slice; return the layer that takes the shapes.

    Parameters
    ----------
    role
        ``Role.REGIONS`` for regions to perturb, ``Role.OUTLINE`` for one missed fossil.
    tool
        One of `TOOLS`.
    fill
        What the next shapes are filled with.
    """
    layer = _layer(session, role)
    layer.feature_defaults = {FILL: [fill]}
    session.viewer.layers.selection = {layer}
    layer.mode = TOOLS[tool]
    return layer


def _layer(session: Session, role: Role) -> Shapes:
    found = find(session.viewer, role)
    if isinstance(found, Shapes):
        return found
    layer = Shapes(
        ndim=3,
        name=_NAME if role is Role.REGIONS else "Missed fossil",
        face_color="transparent",
        edge_color="orange" if role is Role.REGIONS else "cyan",
        edge_width=2,
        **placed(session.current, role),
    )
    layer.features = {FILL: np.array([], dtype=object)}
    session.viewer.add_layer(layer)
    return layer


def drawn_regions(session: Session, z: int, role: Role = Role.REGIONS) -> list[DrawnRegion]:
    """Tell what is drawn on slice `z`, in the order it was drawn."""
    layer = find(session.viewer, role)
    if not isinstance(layer, Shapes):
        return []
    fills = layer.features[FILL].tolist() if FILL in layer.features else [""] * layer.nshapes
    shapes = zip(layer.data, layer.shape_type, fills, strict=True)
    return [
        DrawnRegion(index, region_of(corners[:, 1:], kind), str(fill or ""))
        for index, (corners, kind, fill) in enumerate(shapes)
        if kind in _DRAWN and np.all(np.round(corners[:, 0]) == z)
    ]


def set_fill(session: Session, index: int, fill: str) -> None:
    """Fill a drawn region with something else."""
    layer = find(session.viewer, Role.REGIONS)
    if isinstance(layer, Shapes):
        features = layer.features.copy()
        features.loc[index, FILL] = fill
        layer.features = features


def erase(session: Session, role: Role, indices: Sequence[int]) -> None:
    """Take shapes away."""
    layer = find(session.viewer, role)
    if isinstance(layer, Shapes) and indices:
        layer.selected_data = set(indices)
        layer.remove_selected()


def region_of(corners: NDArray[Any], kind: str) -> str:
    """Write a shape as the region of a perturbation.

    Parameters
    ----------
    corners
        Array (n, 2) of (y, x) in pixels of the slice, pixel centres at whole numbers.
    kind
        ``"rectangle"``, ``"ellipse"`` (four corners of its box) or ``"polygon"``.

    Examples
    --------
    >>> region_of(np.array([[2, 10], [2, 20], [8, 20], [8, 10]]), "rectangle")
    'box 10:21,2:9'
    """
    upright = _is_upright(corners)
    (y0, x0), (y1, x1) = corners.min(axis=0), corners.max(axis=0)
    if kind == "rectangle" and upright:
        return f"box {math.ceil(x0)}:{math.floor(x1) + 1},{math.ceil(y0)}:{math.floor(y1) + 1}"
    if kind == "ellipse" and upright:
        # The half-open box of the region's pixels, whose centres are half a pixel inside.
        return f"ellipse {x0 + 0.5:.5g}:{x1 + 0.5:.5g},{y0 + 0.5:.5g}:{y1 + 0.5:.5g}"
    points = _round(corners) if kind == "ellipse" else corners
    return "polygon " + " ".join(f"{x:.5g},{y:.5g}" for y, x in points)


def _is_upright(corners: NDArray[Any]) -> bool:
    """Whether four corners are those of a box along the axes."""
    sides = np.abs(np.diff(corners, axis=0))
    return len(corners) == 4 and bool(np.all(sides.min(axis=1) < 1e-6))


def _round(corners: NDArray[Any]) -> NDArray[np.float64]:
    """Corners of a polygon along the ellipse inside a turned box."""
    middle = corners.mean(axis=0)
    first, second = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    angle = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)[:, np.newaxis]
    return np.asarray(middle + np.cos(angle) * first + np.sin(angle) * second)
