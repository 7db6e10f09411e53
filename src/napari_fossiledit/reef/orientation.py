"""Directions in the rock as it lay when it was mud: azimuth and inclination of what grew in it.

A strike is an azimuth, clockwise from north, and the plane dips to the right of it (right-hand
rule). The face that was ground is placed in the field by its strike and dip, and by where the
strike points in the photographs; then the rock is turned about the strike of the bedding until the
bedding lies flat (Manzuk et al. 2022).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.geometry import ZDirection
from napari_fossiledit.params.reconstruct import OrientParams

FloatArray = NDArray[np.float64]


def field_frame(orientation: OrientParams | None, direction: ZDirection) -> FloatArray:
    """Return the matrix (3, 3) that turns (z, y, x) of the stack to (up, north, east).

    Without an orientation up is out of the ground face, north the top of the photographs and east
    their right.
    """
    # Columns: z of the stack (into the rock where the slices count so), y and x.
    into = 1.0 if direction is ZDirection.INTO else -1.0
    if orientation is None:
        return np.array([[-into, 0, 0], [0, -1, 0], [0, 0, 1]], dtype=np.float64)
    normal, strike, dip = _plane(orientation.block_strike, orientation.block_dip)
    heading = math.radians(orientation.strike_heading)
    x = math.sin(heading) * strike + math.cos(heading) * dip
    y = -math.cos(heading) * strike + math.sin(heading) * dip
    field = np.stack([-into * normal, y, x], axis=1)
    # The bedding becomes flat: its normal goes up, its strike stays where it is.
    bed = np.stack(_plane(orientation.bedding_strike, orientation.bedding_dip))
    flat = np.stack(_plane(orientation.bedding_strike, 0.0))
    return np.asarray(flat.T @ bed @ field)


def _plane(strike: float, dip: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return normal, strike and dip of a plane as unit vectors (up, north, east)."""
    s, d = math.radians(strike), math.radians(dip)
    along = np.array([0.0, math.cos(s), math.sin(s)])
    right = np.array([0.0, -math.sin(s), math.cos(s)])
    up = np.array([1.0, 0.0, 0.0])
    return math.cos(d) * up + math.sin(d) * right, along, math.cos(d) * right - math.sin(d) * up


def azimuth_and_inclination(
    vectors: FloatArray, *, upward: bool = True
) -> tuple[FloatArray, FloatArray]:
    """Return degrees clockwise from north, and above the horizontal, of vectors (up, north, east).

    Parameters
    ----------
    upward
        A line has two directions: the one that points upwards is meant, of a level line that to
        the east.
    """
    vectors = np.atleast_2d(vectors)
    if upward:
        down = (vectors[:, 0] < 0) | ((vectors[:, 0] == 0) & (vectors[:, 2] < 0))
        vectors = np.where(down[:, None], -vectors, vectors)
    up, north, east = vectors.T
    inclination = np.degrees(np.arctan2(up, np.hypot(north, east)))
    return np.degrees(np.arctan2(east, north)) % 360, inclination


def circular_mean(degrees: FloatArray) -> tuple[float, float]:
    """Return mean azimuth and circular variance, from 0 (all alike) to 1 (all around)."""
    if not len(degrees):
        return math.nan, math.nan
    mean = np.exp(1j * np.radians(degrees)).mean()
    return float(np.degrees(np.angle(mean)) % 360), float(1 - abs(mean))
