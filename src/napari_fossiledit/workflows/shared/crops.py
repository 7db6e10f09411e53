"""Square pieces of slices that serve as textures."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import Region
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.perturb.scene import Image
from napari_fossiledit.perturb.texture import SMALLEST_CROP
from napari_fossiledit.project import ANNOTATIONS, Project

PITTED = "pitted"
_FORM = "SLICE:x0:x1,y0:y1, e.g. 3:10:74,20:84"
_TEXT = re.compile(r"\s*(\d{1,9}):(.+)")
# Each fossil that is looked at costs the decoding of a slice.
_TRIED = 6
# Pores are smoothed away before light skeleton is told from dark mud: halfway between these
# percentiles of the brightness.
_PORES, _RANGE = 2.0, (1, 90)


def read_crop(project: Project, text: str) -> Image:
    """Read the pixels (y, x[, 3]) that ``"SLICE:x0:x1,y0:y1"`` names.

    Raises
    ------
    FossilError
        Where the text cannot be read, or the crop lies outside the stack.
    """
    parts = _TEXT.fullmatch(text)
    if parts is None:
        raise FossilError("The crop cannot be read", expected=_FORM, found=repr(text))
    z, region = int(parts[1]), Region.parse(parts[2])
    height, width = project.slice_shape
    columns, rows = max(region.x0 or 0, region.x1 or 0), max(region.y0 or 0, region.y1 or 0)
    if z >= project.shape[0] or columns > width or rows > height:
        raise FossilError(
            f"The crop {text} lies outside the stack",
            expected=f"slice 0 to {project.shape[0] - 1}, x up to {width}, y up to {height}",
            found=text,
        )
    return project.stack.read(z)[region.slices(project.slice_shape)]


def default_crop(project: Project, class_name: str) -> str:
    """Return the name of a square of pitted texture in the largest pitted fossils traced.

    Of the largest square in each of them, the one with the most contrast is taken, unless it is
    less than half as large as another.

    Raises
    ------
    FossilError
        Where no traced fossil is known to be pitted, or none shows enough of it.
    """
    bodies = project.ledger.instances(ANNOTATIONS, class_name=class_name, part=Part.BODY)
    pitted = [i for i in bodies if i.texture == PITTED and not i.unsure]
    largest = sorted(pitted, key=lambda i: -i.mask.area)[:_TRIED]
    squares = [_square(project.stack.read(i.slice), i) for i in largest]
    needed = max([SMALLEST_CROP, *(s.edge / 2 for s in squares)])
    usable = [s for s in squares if s.edge >= needed]
    if usable:
        return str(max(usable, key=lambda s: s.contrast))
    textures = ", ".join(sorted({i.texture or "unknown" for i in bodies}))
    raise FossilError(
        f"{project.path} has no pitted {class_name} to copy a texture from",
        expected=f"a traced {class_name} of the texture {PITTED!r}",
        found=f"textures {textures}" if textures else "no traced instance",
        advice=f"Name a square crop as the texture: {_FORM}.",
    )


class _Square(NamedTuple):
    """A square of a slice, and how far its brightness is spread, without the extremes."""

    z: int
    x: int
    y: int
    edge: int
    contrast: float

    def __str__(self) -> str:
        return f"{self.z}:{self.x}:{self.x + self.edge},{self.y}:{self.y + self.edge}"


def _square(image: Image, body: Instance) -> _Square:
    """Return the largest square of skeleton, without mud in cracks or cavity."""
    y0, x0, y1, x1 = body.mask.box
    inside, piece = body.mask.crop(), image[y0:y1, x0:x1]
    light = piece if piece.ndim == 2 else piece.mean(axis=2, dtype=np.float32)
    smooth = ndimage.gaussian_filter(light, _PORES, output=np.float32)
    dark, bright = np.percentile(smooth[inside], _RANGE)
    edge, x, y = largest_square(inside & (smooth > (dark + bright) / 2))
    square = light[y : y + edge, x : x + edge]
    contrast = float(np.ptp(np.percentile(square, (10, 90)))) if edge > 0 else 0.0
    return _Square(body.slice, x + x0, y + y0, edge, contrast)


def largest_square(free: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Return edge, column and row of the largest square of odd edge in a mask (y, x).

    The edge is -1 where there is none.
    """
    depth = ndimage.distance_transform_cdt(np.pad(free, 1), metric="chessboard")[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    reach = int(depth[row, column]) - 1
    return 2 * reach + 1, int(column) - reach, int(row) - reach
