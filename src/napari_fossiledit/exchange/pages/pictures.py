"""Pictures for reports: outlines over a slice, and specimens in 3D."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_fossiledit.files import write_whole
from napari_fossiledit.masks import Mask

if TYPE_CHECKING:
    from napari_fossiledit.reef.surface import Surface

Picture = NDArray[np.uint8]

PREDICTED = (255, 214, 0)
TRUE = (0, 200, 255)


def as_rgb(image: NDArray[np.integer[Any]]) -> Picture:
    """Return a slice (y, x) or (y, x, 3) of any integer type as 8-bit RGB (y, x, 3)."""
    top = 255 if image.dtype == np.uint8 else max(int(image.max()), 1)
    shown = (image.astype(np.float32) * (255 / top)).astype(np.uint8)
    return np.repeat(shown[..., None], 3, axis=2) if image.ndim == 2 else shown


def outline(
    picture: Picture, masks: Sequence[Mask], colour: tuple[int, int, int], width: int = 1
) -> Picture:
    """Draw the inner outlines of masks into a copy of a picture (y, x, 3)."""
    drawn = picture.copy()
    for mask in masks:
        y0, x0, y1, x1 = mask.box
        body = np.pad(mask.crop(), 1)
        inner = ndimage.binary_erosion(body, iterations=width)
        drawn[y0:y1, x0:x1][(body & ~inner)[1:-1, 1:-1]] = colour
    return drawn


def beside(*pictures: Picture, gap: int = 8) -> Picture:
    """Set pictures of equal height side by side on white."""
    height = pictures[0].shape[0]
    space = np.full((height, gap, 3), 255, dtype=np.uint8)
    row = [part for picture in pictures for part in (picture, space)]
    return np.concatenate(row[:-1], axis=1)


def fitted(picture: Picture, longest: int) -> Picture:
    """Shrink a picture (y, x, 3) so that its longest edge has at most `longest` pixels."""
    from PIL import Image

    shown = Image.fromarray(picture)
    shown.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return np.asarray(shown)


def encode_png(picture: Picture) -> bytes:
    """Return a picture (y, x, 3) as the content of a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def write_png(path: Path, picture: Picture) -> None:
    """Write a picture (y, x, 3) as PNG in one step."""
    write_whole(path, encode_png(picture))


def specimen_colours(count: int) -> list[tuple[float, float, float]]:
    """Return well separated colours (red, green, blue in 0 to 1), the same for the same count."""
    golden = 0.618034
    return [colorsys.hsv_to_rgb(i * golden % 1, 0.55, 0.95) for i in range(count)]


def draw_specimens(surfaces: Sequence[Surface], path: Path, title: str) -> None:
    """Draw closed surfaces (vertices (z, y, x) in um) in 3D, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    figure = Figure(figsize=(9, 8))
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot(projection="3d", title=title)
    largest = max((float(np.ptp(s.vertices, axis=0).max()) for s in surfaces), default=0)
    unit, name = (1000, "mm") if largest > 1000 else (1, "um")
    for surface, colour in zip(surfaces, specimen_colours(len(surfaces)), strict=True):
        corners = surface.vertices[:, [2, 1, 0]] / unit
        shape = Poly3DCollection(corners[surface.faces], shade=True, facecolors=[colour])
        axes.add_collection3d(shape)
    _frame(axes, surfaces, unit, name)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    write_whole(path, buffer.getvalue())


def _frame(axes: Any, surfaces: Sequence[Surface], unit: int, name: str) -> None:
    """Set equal scales in units of so many um; z runs downwards, into the rock."""
    axes.set(xlabel=f"x ({name})", ylabel=f"y ({name})", zlabel=f"z ({name})")
    if not surfaces:
        return
    points = np.concatenate([s.vertices for s in surfaces]) / unit
    low, high = points.min(axis=0), points.max(axis=0)
    # Two axes are turned round, not one: that would show every fossil mirrored.
    axes.set(xlim=(low[2], high[2]), ylim=(high[1], low[1]), zlim=(high[0], low[0]))
    size = np.maximum((high - low)[[2, 1, 0]], 1e-6)
    axes.set_box_aspect(size)
    # As many ticks as there is room for.
    for letter, share in zip("xyz", size / size.max(), strict=True):
        axes.locator_params(axis=letter, nbins=max(1, round(6 * share)))
