"""The viewer in 3D: it never shows a whole stack at full resolution."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import napari
from napari.layers import Image, Layer

from napari_fossiledit.geometry import VoxelSize, ZDirection
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.stacks.reduce import Reduced, reduced
from napari_fossiledit.widgets.canvas.layers import ROLE, Role
from napari_fossiledit.widgets.canvas.readers import AXES
from napari_fossiledit.widgets.common.compat import camera_of

SOLID = (Role.REDUCED, Role.SPECIMENS)
FLAT = tuple(role for role in Role if role not in SOLID)
#: Most voxels along an axis of the photographs in 3D; finer needs longer to read than to look at.
LONGEST = 320


class ViewLayers:
    """Hides layers of slices in 3D, and removes layers of volumes in 2D.

    Layers of slices also return no volume (see `FlatArray`). Layers of volumes cannot merely be
    hidden: a surface reaches half a step beyond the first slice, and would shift the steps of the
    slice slider.

    Parameters
    ----------
    soon
        Calls a function once the window has answered.
    """

    def __init__(
        self, viewer: napari.Viewer, soon: Callable[[Callable[[], object]], object]
    ) -> None:
        self._dims, self._layers, self._soon = viewer.dims, viewer.layers, soon
        self._hidden: list[str] = []
        self._aside: list[Layer] = []
        viewer.dims.events.ndisplay.connect(self._on_ndisplay)
        viewer.layers.events.inserted.connect(self._on_inserted)

    def add_solid(self, layer: Layer) -> None:
        """Show a layer of a volume in 3D, in place of the one of its role."""
        self.drop_solid(Role(layer.metadata[ROLE]))
        self._aside.append(layer)
        if self._dims.ndisplay == 3:
            self._bring_back()

    def drop_solid(self, *roles: Role) -> None:
        """Remove the layers of these roles, shown or not."""
        self._aside = [lay for lay in self._aside if lay.metadata.get(ROLE) not in roles]
        for layer in [lay for lay in self._layers if lay.metadata.get(ROLE) in roles]:
            self._layers.remove(layer)

    def _on_ndisplay(self, _: Any) -> None:
        if self._dims.ndisplay == 3:
            shown = [lay for lay in self._layers if lay.visible and lay.metadata.get(ROLE) in FLAT]
            self._hidden = [layer.name for layer in shown]
            for layer in shown:
                layer.visible = False
            self._bring_back()
            return
        self._aside += [lay for lay in self._layers if lay.metadata.get(ROLE) in SOLID]
        for layer in self._aside:
            if layer in self._layers:
                self._layers.remove(layer)
        hidden, self._hidden = self._hidden, []
        # The photographs at once, what lies over them one after the other: each is painted anew.
        for layer in [lay for lay in self._layers if lay.name in hidden]:
            if layer.metadata[ROLE] == Role.IMAGE:
                layer.visible = True
            else:
                self._soon(partial(self._show_flat, layer))

    def _show_flat(self, layer: Layer) -> None:
        if self._dims.ndisplay == 2:
            layer.visible = True
        else:
            # Turned to 3D again in the meantime.
            self._hidden.append(layer.name)

    def _bring_back(self) -> None:
        selected = set(self._layers.selection)
        while self._aside:
            self._layers.append(self._aside.pop(0))
        self._layers.selection = selected

    def _on_inserted(self, event: Any) -> None:
        """Hide a layer of slices that is added while the viewer shows 3D."""
        layer = event.value
        if self._dims.ndisplay == 3 and layer.metadata.get(ROLE) in FLAT and layer.visible:
            layer.visible = False
            self._hidden.append(layer.name)


def reduce_photographs(path: Path, *, job: Job = QUIET) -> Reduced:
    """Return a small copy of a project's photographs; for a thread, it opens the project itself."""
    with Project.open(path, read_only=True) as project:
        return reduced(project.stack, longest=LONGEST, job=job)


def reduced_layer(copy: Reduced, voxel_size: VoxelSize, z: int) -> Image:
    """Return the layer of a reduced copy, cut at slice `z`.

    The rock is opaque: of a whole volume nothing but its hull would be seen. With Shift the plane
    can be dragged through the rock.
    """
    steps = [size * f for size, f in zip(voxel_size.zyx, copy.factors, strict=True)]
    offsets = [s * (f - 1) / 2 for s, f in zip(voxel_size.zyx, copy.factors, strict=True)]
    return Image(
        copy.array,
        name="Photographs in 3D (reduced)",
        rgb=copy.array.ndim == 4,
        scale=steps,
        translate=offsets,
        units=("um", "um", "um"),
        axis_labels=AXES,
        depiction="plane",
        plane=plane_at(z, copy),
        metadata={ROLE: Role.REDUCED, "factors": copy.factors},
    )


def plane_at(z: int, copy: Reduced) -> dict[str, Any]:
    """Return the plane of slice `z` of the stack in a reduced copy."""
    middle = [n // 2 for n in copy.array.shape[1:3]]
    return {"position": (z // copy.factors[0], *middle), "normal": (1, 0, 0), "thickness": 1}


def move_plane(layer: Image, z: int) -> None:
    """Move the plane of the reduced photographs to slice `z` of the stack."""
    depth = layer.metadata["factors"][0]
    layer.plane.position = (z // depth, *layer.plane.position[1:])


def face_camera(viewer: napari.Viewer, direction: ZDirection) -> None:
    """Turn the z axis so that the rock is seen as the camera saw it, and not mirrored.

    Photographs have x to the right and y down; slices that go into the rock then go away from the
    observer. napari's own default lets z come towards the observer, which mirrors such a stack.
    """
    depth = "away" if direction is ZDirection.INTO else "towards"
    camera_of(viewer).orientation = (depth, "down", "right")
