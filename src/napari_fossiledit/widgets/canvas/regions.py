"""Shapes drawn on a slice: regions for a perturbation as text, the traced area as a mask."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Shapes
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import Box
from napari_fossiledit.masks import Mask
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.layers import Role, find, placed, remove
from napari_fossiledit.widgets.common.compat import camera_of
from napari_fossiledit.widgets.common.session import Session

TOOLS = {"Box": "add_rectangle", "Polygon": "add_polygon", "Ellipse": "add_ellipse"}
FILL = "fill"
"""Feature of a shape that holds its fill."""

# Name and colour of the layers by role.
_LOOKS = {
    Role.REGIONS: ("Regions", "orange"),
    Role.OUTLINE: ("Missed fossil", "cyan"),
    Role.AREA: ("Traced area", "yellow"),
}
# napari can also draw lines and paths, which cover nothing.
_CLOSED = ("rectangle", "polygon", "ellipse")
# In pixels of the screen: how wide a frame is, and how far from what it is around.
_FRAME, _CLEAR = 3.0, 8.0
# Corners of the polygon that stands for a turned ellipse.
_CORNERS = 32


@dataclass(frozen=True)
class DrawnRegion:
    """One shape of the layer.

    Attributes
    ----------
    index
        Its index in the layer.
    region, fill
        What it covers and what it is filled with, as a perturbation reads them.
    """

    index: int
    region: str
    fill: str

    @property
    def words(self) -> str:
        """The shape in words."""
        kind, _, rest = self.region.partition(" ")
        if kind == "polygon":
            return f"polygon of {len(rest.split())} corners"
        (x0, x1), (y0, y1) = (map(float, part.split(":")) for part in rest.split(","))
        return f"{kind} of {x1 - x0:.0f} x {y1 - y0:.0f} pixels"


def draw(session: Session, role: Role, tool: str, fill: str = "") -> Shapes:
    """Activate a tool that draws on the slice; return the layer that takes the shapes.

    Parameters
    ----------
    role
        ``Role.REGIONS`` for regions to perturb, ``Role.OUTLINE`` for one missed fossil,
        ``Role.AREA`` for the traced area.
    tool
        One of `TOOLS`.
    fill
        What the next shapes are filled with.
    """
    layer = _layer(session, role, *_LOOKS[role])
    layer.feature_defaults = {FILL: [fill]}
    session.viewer.layers.selection = {layer}
    layer.mode = TOOLS[tool]
    return layer


def _layer(session: Session, role: Role, name: str, colour: str) -> Shapes:
    layer = find(session.viewer, role)
    if not isinstance(layer, Shapes):
        layer = Shapes(
            ndim=3,
            name=name,
            face_color="transparent",
            edge_color=colour,
            edge_width=2,
            **placed(session.current, role),
        )
        layer.features = {FILL: np.array([], dtype=object)}
        session.viewer.add_layer(layer)
    return layer


def show_outline(session: Session, z: int, mask: Mask) -> None:
    """Outline a mask on slice `z`, in place of what was outlined before, and all others as well."""
    show_outlines(session, [(z, mask)])


def show_outlines(
    session: Session, masks: Sequence[tuple[int, Mask]], frame: Box | None = None
) -> None:
    """Outline masks (slice, mask), in place of what was outlined before, and all others as well.

    Parameters
    ----------
    frame
        Box (y0, x0, y1, x1) around which a frame is drawn on the first of these slices.
    """
    from skimage.measure import approximate_polygon, find_contours

    viewer, colours = session.viewer, colours_of(session)
    if not colours.outlined:
        # Fills hide the rock that misled the model.
        colours.toggle()
    remove(viewer, Role.OUTLINE)
    layer = _layer(session, Role.OUTLINE, "Picked", "cyan")
    paths = []
    for z, mask in masks:
        y0, x0, _, _ = mask.box
        for contour in find_contours(np.pad(mask.crop(), 1).astype(np.float32), 0.5):
            # Thousands of corners would take seconds to draw.
            corners = approximate_polygon(contour, 0.7) + np.array([y0 - 1, x0 - 1])
            paths.append(np.column_stack([np.full(len(corners), z), corners]))
    # A path encloses no region: it is never taken for a drawn one.
    layer.add(paths, shape_type="path", edge_color="cyan", edge_width=2)
    if frame is not None:
        # As wide on the screen whatever the zoom, and clear of the masks.
        pixel = 1 / (camera_of(viewer).zoom * layer.scale[-1])
        y0, x0, y1, x1 = (
            e + side * _CLEAR * pixel for e, side in zip(frame, (-1, -1, 1, 1), strict=True)
        )
        corners = [
            (masks[0][0], y, x) for y, x in ((y0, x0), (y0, x1), (y1, x1), (y1, x0), (y0, x0))
        ]
        layer.add([corners], shape_type="path", edge_color="white", edge_width=_FRAME * pixel)
    layer.editable = False
    image = find(viewer, Role.IMAGE)
    if image is not None:
        viewer.layers.selection = {image}


def draw_area(session: Session) -> Shapes:
    """Activate the tool that draws the traced area of a slice; return its layer.

    Raises
    ------
    FossilError
        Where the project is read-only: the area could not be stored.
    """
    session.current.require_writable()
    return draw(session, Role.AREA, "Box")


def _closed_shapes(layer: Shapes, z: int) -> Iterator[tuple[int, NDArray[Any], str]]:
    """Yield index, corners (n, 2) as (y, x) and kind of each closed shape on slice `z`."""
    for index, (corners, kind) in enumerate(zip(layer.data, layer.shape_type, strict=True)):
        if kind in _CLOSED and np.all(np.round(corners[:, 0]) == z):
            yield index, corners[:, 1:], kind


def drawn_regions(session: Session, z: int, role: Role = Role.REGIONS) -> list[DrawnRegion]:
    """Return what is drawn on slice `z`, in the order in which it was drawn."""
    layer = find(session.viewer, role)
    if not isinstance(layer, Shapes):
        return []
    # A layer that the user made or pasted into may lack the feature.
    fills = layer.features[FILL].tolist() if FILL in layer.features else [""] * layer.nshapes
    return [
        DrawnRegion(index, region_of(corners, kind), str(fills[index] or ""))
        for index, corners, kind in _closed_shapes(layer, z)
    ]


def drawn_area(session: Session, z: int) -> Mask:
    """Return what is drawn on slice `z` as the traced area: the union of its shapes.

    Raises
    ------
    FossilError
        Where nothing is drawn there.
    """
    layer = find(session.viewer, Role.AREA)
    shapes = list(_closed_shapes(layer, z)) if isinstance(layer, Shapes) else []
    area = np.zeros(session.current.slice_shape, dtype=np.bool_)
    if shapes:
        # napari rasterises all shapes of a layer: this one has only those of the slice.
        flat = Shapes([corners for _, corners, _ in shapes], shape_type=[k for *_, k in shapes])
        area |= np.asarray(flat.to_masks(area.shape), dtype=np.bool_).any(axis=0)
    if not area.any():
        raise FossilError(
            f"No area is drawn on slice {z}",
            expected="a rectangle or polygon",
            advice='Press "Draw area" and draw around the part that is completely annotated.',
        )
    return Mask.from_array(area)


def set_fill(session: Session, index: int, fill: str) -> None:
    """Fill a drawn region with something else."""
    layer = find(session.viewer, Role.REGIONS)
    if isinstance(layer, Shapes):
        features = layer.features.copy()
        features.loc[index, FILL] = fill
        layer.features = features


def erase(session: Session, role: Role, indices: Sequence[int]) -> None:
    """Remove shapes by their indices."""
    layer = find(session.viewer, role)
    if isinstance(layer, Shapes) and indices:
        layer.selected_data = set(indices)
        layer.remove_selected()


def region_of(corners: NDArray[Any], kind: str) -> str:
    """Return a shape as the text of a region.

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
    # The corners of a box along the axes: of each side, y or x stays the same.
    sides = np.abs(np.diff(corners, axis=0))
    upright = len(corners) == 4 and bool(np.all(sides.min(axis=1) < 1e-6))
    (y0, x0), (y1, x1) = corners.min(axis=0), corners.max(axis=0)
    if kind == "rectangle" and upright:
        return f"box {math.ceil(x0)}:{math.floor(x1) + 1},{math.ceil(y0)}:{math.floor(y1) + 1}"
    if kind == "ellipse" and upright:
        # The half-open box of the region's pixels, whose centres are half a pixel inside.
        return f"ellipse {x0 + 0.5:.5g}:{x1 + 0.5:.5g},{y0 + 0.5:.5g}:{y1 + 0.5:.5g}"
    points = corners
    if kind == "ellipse":
        middle = corners.mean(axis=0)
        first, second = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
        angle = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)[:, np.newaxis]
        points = np.asarray(middle + np.cos(angle) * first + np.sin(angle) * second)
    return "polygon " + " ".join(f"{x:.5g},{y:.5g}" for y, x in points)
