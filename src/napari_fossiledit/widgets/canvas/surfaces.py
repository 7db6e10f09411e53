"""Specimens as one surface layer: their colours, what is cut away, and a click on one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import IntEnum
from typing import Any

import numpy as np
from napari.layers import Layer, Surface
from napari.utils.geometry import find_nearest_triangle_intersection
from numpy.typing import NDArray

from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.joined_mesh import RGB, Floats, JoinedMeshes
from napari_fossiledit.widgets.canvas.layers import ROLE, Role, find
from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.canvas.readers import AXES
from napari_fossiledit.widgets.common.compat import camera_of, canvas_size
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.workflows.shared.specimens import SpecimenKey

# Share of the canvas that a specimen takes once it is looked at; what is taken for its size is at
# least this share of all specimens together.
_FITTING, _SURROUNDINGS = 0.5, 0.15


class Cut(IntEnum):
    """Which slices are cut away: none, those before the shown one, those after it.

    The value is the side of the shown slice that stays.
    """

    NOTHING = 0
    BEFORE = 1
    AFTER = -1


class ReefSurfaces:
    """The layer of the specimens in a viewer.

    One layer for all: thousands of layers would make the window unusable.

    Attributes
    ----------
    meshes, layer
        What is shown, None before anything was.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.meshes: JoinedMeshes | None = None
        self.layer: Surface | None = None
        self._cut = Cut.NOTHING
        self._colours = colours_of(session)
        self._of: Callable[[SpecimenKey], RGB] = self.own_colour
        self._colours.changed.connect(self._paint)
        self._colours.chosen_changed.connect(self._paint)
        session.slice_changed.connect(self._cut_away)
        session.viewer.mouse_drag_callbacks.append(self._on_press)

    @property
    def is_shown(self) -> bool:
        """True while specimens are to be seen in 3D."""
        viewer = self.session.viewer
        return self.layer in viewer.layers and viewer.dims.ndisplay == 3

    def show(self, meshes: JoinedMeshes) -> Surface:
        """Show meshes in place of earlier ones; return their layer."""
        project = self.session.current
        geometry, voxel = project.geometry, project.geometry.voxel_size.zyx
        if geometry.z_positions_um is not None:
            # The canvas has even steps: fossils fit their photographs.
            slices = np.arange(-1, project.shape[0] + 1)
            places = [geometry.z_um(z) for z in slices.tolist()]
            vertices = meshes.vertices.copy()
            vertices[:, 0] = np.interp(vertices[:, 0], places, slices * voxel[0])
            meshes = replace(meshes, vertices=vertices)
        self.meshes = meshes
        layer = Surface(
            # In voxels, scaled to um: the slice slider takes its step from every layer's scale.
            (meshes.vertices / np.asarray(voxel, dtype=np.float32), meshes.faces),
            scale=voxel,
            name="Specimens",
            vertex_colors=self._vertex_colours(meshes),
            shading="none",
            units=("um", "um", "um"),
            axis_labels=AXES,
            metadata={ROLE: Role.SPECIMENS},
        )
        self.layer = layer
        self._cut_away()
        attach(self.session).layers.add_solid(layer)
        return layer

    # ----------------------------------------------------------------- colours

    def own_colour(self, key: SpecimenKey) -> RGB:
        """Return the colour that a specimen also has in the slices."""
        return self._colours.specimen(key)

    def colour_by(self, of: Callable[[SpecimenKey], RGB]) -> None:
        """Colour the specimens by what `of` returns of each."""
        self._of = of
        self._paint()

    def highlight(self, *specimens: SpecimenKey) -> None:
        """Show some specimens bright and all others pale; none: all in their own colours."""
        self._colours.choose((), specimens)

    def _paint(self) -> None:
        if self.layer is not None and self.meshes is not None:
            self.layer.vertex_colors = self._vertex_colours(self.meshes)

    def _vertex_colours(self, meshes: JoinedMeshes) -> Floats:
        return meshes.colours(self._of, self._colours.chosen_specimens)

    # ----------------------------------------------------------------- looking

    def cut(self, cut: Cut) -> None:
        """Cut away what lies before or after the shown slice, whichever that is by then."""
        self._cut = cut
        self._cut_away()

    def _cut_away(self, _: int = 0) -> None:
        if self.layer is not None:
            # In um: vispy cuts in the scene, whatever the scale of the layer.
            depth = self.session.slice * self.layer.scale[0]
            plane = {"position": (depth, 0, 0), "normal": (int(self._cut), 0, 0)}
            self.layer.experimental_clipping_planes = [plane] if self._cut else []

    def look_at(self, key: SpecimenKey) -> None:
        """Turn the middle of the canvas to a specimen, as large as it fits, in 3D."""
        if self.meshes is None or key not in self.meshes.spans:
            return
        low, high = self.meshes.box(key)
        least = _SURROUNDINGS * float(np.linalg.norm(np.ptp(self.meshes.vertices, axis=0)))
        camera = camera_of(self.session.viewer)
        camera.center = tuple(((low + high) / 2).tolist())
        size = max(float(np.linalg.norm(high - low)), least, 1e-9)
        camera.zoom = _FITTING * min(canvas_size(self.session.viewer)) / size
        self._go_behind(key)

    def look_at_all(self) -> None:
        """Fit all specimens into the canvas, as they are turned."""
        self.session.viewer.reset_view(reset_camera_angle=False)
        self._go_behind()

    def _go_behind(self, *keys: SpecimenKey) -> None:
        """Of the slices of specimens, go to the one that is farthest from the eye; none: of all."""
        if self.meshes is None:
            return
        ends = [float(corner[0]) for corner in self.meshes.box(*keys)]
        first, last = np.divide(ends, self.session.current.geometry.slice_spacing_um)
        away = camera_of(self.session.viewer).view_direction[0] > 0
        self.session.go_to(math.floor(last) if away else math.ceil(first))

    # ---------------------------------------------------------------- clicking

    def _on_press(self, _: Any, event: Any) -> Iterator[None]:
        """Choose the specimen under a click in 3D, and go to a slice of it.

        That is the one where it was hit, unless the photograph would then lie before it.
        """
        dragged = False
        yield
        while event.type == "mouse_move":
            dragged = True
            yield
        if dragged or event.button != 1 or not self.is_shown:
            return
        hit = self.hit(np.asarray(event.position), np.asarray(event.view_direction))
        if hit is not None:
            self.highlight(hit[0])
            if self._cut or self._photograph() is None:
                self.session.go_to(hit[1])
            else:
                self._go_behind(hit[0])

    def hit(
        self, position: NDArray[np.float64], direction: NDArray[np.float64]
    ) -> tuple[SpecimenKey, int] | None:
        """Return the specimen that is seen along a ray, and the slice; None where there is none.

        Parameters
        ----------
        position, direction
            A place on the ray, in um, and where it goes, both (z, y, x).
        """
        layer, meshes = self.layer, self.meshes
        if layer is None or meshes is None:
            return None
        start, end = layer.get_ray_intersections(position, direction, [0, 1, 2])
        if start is None or end is None:
            return None
        way = (end - start) / np.linalg.norm(end - start)
        # Seen along the ray, only few faces lie about it: to look at all would take 0.15 s.
        across = np.linalg.svd(way[np.newaxis])[2][1:].astype(np.float32)
        sides = (layer.data[0] - start.astype(np.float32)) @ across.T > 0
        one, two, three = (sides[corner] for corner in meshes.faces.T)
        about = (one | two | three) & ~(one & two & three)
        faces, z = meshes.faces[about.all(axis=1)], self.session.slice
        corners = layer.data[0][faces]
        if self._cut:
            stays = (corners[:, :, 0].mean(axis=1) - z) * int(self._cut) >= 0
            faces, corners = faces[stays], corners[stays]
        index, place = find_nearest_triangle_intersection(start, way, corners)
        if index is None or place is None or self._is_hidden(place, way):
            return None
        vertex = int(faces[index][0])
        spans = meshes.spans.items()
        key = next(key for key, (first, last) in spans if first <= vertex < last)
        return key, round(float(place[0]))

    def _photograph(self) -> Layer | None:
        """Return the layer of the photographs in 3D, None where it is not to be seen."""
        layer = find(self.session.viewer, Role.REDUCED)
        return layer if layer is not None and layer.visible else None

    def _is_hidden(self, place: NDArray[np.float64], way: NDArray[np.float64]) -> bool:
        """Return whether the photograph of the shown slice is passed before a place; in voxels."""
        if self._photograph() is None or not way[0]:
            return False
        after = (self.session.slice - place[0]) / way[0]
        _, y, x = place + after * way
        height, width = self.session.current.slice_shape
        return bool(after < 0 and 0 <= y < height and 0 <= x < width)
