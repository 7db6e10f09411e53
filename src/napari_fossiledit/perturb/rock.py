"""Where the rock is in a photograph of a section."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import disk

from napari_fossiledit.perturb.scene import Floats, Image, Where
from napari_fossiledit.stacks.pixels import area_mean

_EDGE = 400
_LEAST_SHARE = 0.02
_LEAST_CONTRAST = 0.06
_BLACK = 0.12


def rock_face(image: Image) -> Where:
    """Guess where a photograph shows rock rather than what the rock lies on.

    Colour: rock is redder than the ground; what is bright belongs to it too, unless the ground is
    bright. Grey: rock is all that is not as black as the edge of the slice. What is enclosed by
    rock belongs to it. Where nothing tells rock from ground, the whole slice is rock. Flanks of the
    block count as rock; an annotated rock face is better.

    Parameters
    ----------
    image
        (y, x) or (y, x, 3), uint8 or uint16.

    Returns
    -------
    bool array (y, x)
    """
    factor = max(1, -(-max(image.shape[:2]) // _EDGE))
    small = np.float32(1 / np.iinfo(image.dtype).max) * area_mean(image, factor)
    face = _largest(_rocky(small))
    if not face.mean() > _LEAST_SHARE:
        return np.ones(image.shape[:2], dtype=np.bool_)
    return face.repeat(factor, 0).repeat(factor, 1)[: image.shape[0], : image.shape[1]]


def _rocky(small: Floats) -> Where:
    """Pixels that look like rock by themselves."""
    if small.ndim == 2:
        return _lit(small)
    redness = ndimage.gaussian_filter(small[..., 0] - small[..., 2], 1)
    low, high = np.percentile(redness, (2, 98))
    if high - low < _LEAST_CONTRAST:
        return np.ones(redness.shape, dtype=np.bool_)
    rocky = (redness > threshold_otsu(redness)) | _white(small.mean(axis=2))
    return np.asarray(rocky, dtype=np.bool_)


def _white(light: Floats) -> Where:
    """Bright pixels, which are fossils at the rim of the rock unless the ground is bright."""
    level = threshold_otsu(light)
    return np.asarray((light > level) & (np.median(_edge(light)) < level))


def _lit(small: Floats) -> Where:
    """Pixels that are not black, where the edge of the slice is."""
    light = ndimage.gaussian_filter(small, 1)
    black = _BLACK * np.percentile(light, 98)
    return np.asarray((light >= black) | (np.median(_edge(light)) >= black))


def _edge(light: Floats) -> Floats:
    """Pixels along the edge of a slice."""
    return np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]])


def _largest(rocky: Where) -> Where:
    """Largest connected piece, gaps closed and holes filled."""
    reach = max(1, max(rocky.shape) // 40)
    padded = np.pad(rocky, reach)
    closed = ndimage.binary_closing(padded, disk(reach))[reach:-reach, reach:-reach]
    pieces, count = ndimage.label(closed)
    if count == 0:
        return np.asarray(closed, dtype=np.bool_)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    filled = ndimage.binary_fill_holes(pieces == sizes.argmax())
    return np.asarray(filled, dtype=np.bool_)
