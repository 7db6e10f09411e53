"""The perturbed slice as a layer, over the photograph or beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray

from napari_fossiledit.widgets.canvas.flat import FlatArray
from napari_fossiledit.widgets.canvas.layers import Role, find, in_3d, placed, remove
from napari_fossiledit.widgets.common.session import Session

# Between the photograph and the slice beside it, as share of the width.
_GAP = 0.04


def show_perturbed(
    session: Session, z: int, image: NDArray[Any], *, beside: bool, opacity: float
) -> Image:
    """Show a perturbed slice; looks that the user gave the layer before are kept.

    Parameters
    ----------
    image
        Slice (y, x) or (y, x, 3), data type of the stack.
    beside
        To the right of the photograph instead of over it.
    """
    layers, layer = session.viewer.layers, find(session.viewer, Role.PERTURBED)
    data = FlatArray(image[np.newaxis], in_3d(session.viewer))
    if isinstance(layer, Image):
        layer.data = data
    else:
        options = placed(session.current, Role.PERTURBED)
        layer = Image(data, name="Perturbed", rgb=image.ndim == 3, **options)
        photographs = find(session.viewer, Role.IMAGE)
        if isinstance(photographs, Image):
            layer.contrast_limits = photographs.contrast_limits
        # Right above the photographs, below everything that is drawn over them.
        selected = set(layers.selection)
        layers.insert(0 if photographs is None else layers.index(photographs) + 1, layer)
        # napari selects what is new: the tool that draws regions would be put away.
        layers.selection = selected
    layer.opacity = opacity
    layer.translate = _place(session, z, beside=beside)
    return layer


def move_perturbed(session: Session, z: int, *, beside: bool) -> None:
    """Put the perturbed slice over the photograph, or beside it."""
    layer = find(session.viewer, Role.PERTURBED)
    if layer is not None:
        layer.translate = _place(session, z, beside=beside)


def hide_perturbed(session: Session) -> None:
    """Remove the layer of the perturbed slice."""
    remove(session.viewer, Role.PERTURBED)


def _place(session: Session, z: int, *, beside: bool) -> tuple[float, float, float]:
    depth, _, x_um = session.current.geometry.voxel_size.zyx
    width = session.current.slice_shape[1]
    return (z * depth, 0.0, round(width * (1 + _GAP)) * x_um if beside else 0.0)
