"""What a model looks at, as a layer over each slice that it saw."""

from __future__ import annotations

import matplotlib
import numpy as np
from napari.layers import Image
from napari.utils.colormaps import Colormap

from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.flat import FlatArray
from napari_fossiledit.widgets.canvas.layers import Role, find, in_3d, placed, remove
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.workflows.saliency.look import SaliencyResult


def show_saliency(session: Session, result: SaliencyResult) -> None:
    """Show a layer over each slice of the window, below the outlines of masks.

    What counts most is brightest, on one scale for all slices, and what counts nothing is clear.
    Where a window was mirrored at an end of the stack, what it saw twice is added up.
    """
    remove(session.viewer, Role.SALIENCY)
    colours = colours_of(session)
    if not colours.outlined:
        # Fills hide what lies below them.
        colours.toggle()
    project, layers = session.current, session.viewer.layers
    depth, *pixel = project.geometry.voxel_size.zyx
    by_slice = {z: np.zeros_like(result.maps[0]) for z in sorted(set(result.near))}
    for z, values in zip(result.near, result.maps, strict=True):
        by_slice[z] += values
    # The map has the network's pixels.
    steps = np.divide(project.slice_shape, result.maps.shape[1:])
    photographs, selected = find(session.viewer, Role.IMAGE), set(layers.selection)
    for z, values in by_slice.items():
        layer = Image(
            FlatArray(values[np.newaxis], in_3d(session.viewer)),
            name=f"Looked at on slice {z}",
            colormap=_glow(),
            contrast_limits=(0, result.strongest),
            **placed(project, Role.SALIENCY),
        )
        layer.scale = (depth, *(np.multiply(pixel, steps)))
        layer.translate = (z * depth, *(np.multiply(pixel, steps - 1) / 2))
        layers.insert(0 if photographs is None else layers.index(photographs) + 1, layer)
    # napari selects what is new: the tool that is in use would be put away.
    layers.selection = selected


def _glow() -> Colormap:
    """Return colours that are clear where a map is 0."""
    share = np.linspace(0, 1, 256)
    colours = matplotlib.colormaps["inferno"](share)
    colours[:, 3] = share**0.5
    return Colormap(colours, name="looked at")
