"""A smooth scalar field whose zero level is the surface of a specimen.

In each slice the field is the signed distance to the outline in pixels, positive inside; between
two slices it runs straight, which interpolates the shape (Raya and Udupa 1990, IEEE Transactions
on Medical Imaging 9, 32-42). Three things are done for sections of ground rock:

* A part that ends (it overlaps nothing in the next slice) ends half a step beyond its last
  section, and so does a hole or cavity; far outlines elsewhere in the slice do not draw it in.
* Distances are cut off at one slice step, so that surfaces flatter than 45 degrees become
  terraces half-way between slices instead of long ramps, which would eat thin slanting walls.
* A Gaussian of one pixel takes the staircase of the pixels off the outline. It never turns a
  pixel: inside stays inside.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]

SMOOTHING_SIGMA = 1.0
"""Standard deviation in pixels of the Gaussian along the outline."""

LEAST_DISTANCE = 0.1
"""Least distance in pixels that is left of a pixel's own side."""


def signed_distance(mask: BoolArray) -> FloatArray:
    """Compute the distance in pixels to the outline of a mask (y, x), positive inside.

    The outline runs half-way between the centres of inside and outside pixels. Minus infinity
    everywhere where the mask is empty, infinity where it is full.
    """
    if mask.all() or not mask.any():
        return np.where(mask, np.inf, -np.inf).astype(np.float32)
    inside = ndimage.distance_transform_edt(mask)
    outside = ndimage.distance_transform_edt(~mask)
    distance: FloatArray = np.where(mask, inside - 0.5, 0.5 - outside).astype(np.float32)
    return distance


def specimen_field(distances: Sequence[FloatArray], limit: float) -> FloatArray:
    """Compute the field of a specimen on the nodes of the slices.

    Parameters
    ----------
    distances
        Signed distances (y, x) of consecutive slices in pixels, with room around the outline.
    limit
        Where distances are cut off: one slice step in pixels.

    Returns
    -------
    array (z + 2, y, x) of float32
        Negative on its whole border: one empty slice was added at either end.
    """
    empty = np.full_like(distances[0], -limit)
    field = np.stack([empty, *(np.clip(d, -limit, limit) for d in distances), empty])
    before = empty
    for k in range(len(field)):
        own = field[k].copy()
        after = field[k + 1] if k + 1 < len(field) else empty
        values = _capped(own, before, after)
        smooth = ndimage.gaussian_filter(values, SMOOTHING_SIGMA, mode="nearest")
        # Inside stays inside, however thin it is.
        outside = np.minimum(smooth, -LEAST_DISTANCE)
        field[k] = np.where(values > 0, np.maximum(smooth, LEAST_DISTANCE), outside)
        before = own
    return field


def _capped(own: FloatArray, before: FloatArray, after: FloatArray) -> FloatArray:
    """Draw the values of a slice near to 0 where a part of a neighbour ends in it."""
    result = own.copy()
    for other in (before, after):
        solid = _ending(other > 0, own > 0)
        result[solid] = np.maximum(result[solid], -other[solid])
        hole = _ending(other <= 0, own <= 0)
        result[hole] = np.minimum(result[hole], -other[hole])
    return result


def _ending(mask: BoolArray, neighbour: BoolArray) -> BoolArray:
    """Components of a mask that overlap nothing of the same mask in the neighbouring slice."""
    components, count = ndimage.label(mask)
    going_on = np.zeros(count + 1, dtype=np.bool_)
    going_on[components[neighbour]] = True
    going_on[0] = True
    ending: BoolArray = ~going_on[components]
    return ending
