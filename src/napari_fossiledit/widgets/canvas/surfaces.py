"""Specimens as one surface layer, coloured by specimen."""

from __future__ import annotations

import numpy as np
from napari.layers import Surface

from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.joined_mesh import Floats, JoinedMeshes
from napari_fossiledit.widgets.canvas.layers import ROLE, Role
from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.canvas.readers import AXES
from napari_fossiledit.widgets.common.session import Session


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
        self._colours = colours_of(session)
        self._colours.changed.connect(self._paint)
        self._colours.chosen_changed.connect(self._paint)

    def show(self, meshes: JoinedMeshes) -> Surface:
        """Show meshes in place of earlier ones; return their layer."""
        self.meshes = meshes
        voxel = self.session.current.geometry.voxel_size.zyx
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
        attach(self.session).layers.add_solid(layer)
        return layer

    def highlight(self, *specimens: int) -> None:
        """Show some specimens bright and all others pale; none: all in their own colours."""
        self._colours.choose((), specimens)

    def _paint(self) -> None:
        if self.layer is not None and self.meshes is not None:
            self.layer.vertex_colors = self._vertex_colours(self.meshes)

    def _vertex_colours(self, meshes: JoinedMeshes) -> Floats:
        return meshes.colours(self._colours.specimen, self._colours.chosen_specimens)
