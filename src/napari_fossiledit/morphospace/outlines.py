"""Numbers for the outline of a specimen that do not change with its size, place or direction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HARMONICS = 8
LENGTH = 2 * HARMONICS + 1


def outline_numbers(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return what the outline of a silhouette (y, x) is like: (17,).

    The logarithm of minor over major axis of the silhouette, and the two semi-axes of the ellipse
    that each harmonic of the outline describes (Kuhl and Giardina 1982, Elliptic Fourier features
    of a closed contour), over the major one of the first. Those axes stay the same where a specimen
    is turned, mirrored, moved or scaled, or its outline begins elsewhere: the usual normalised
    coefficients change their sign where the first ellipse is nearly a circle.

    Holes count as inside; of several pieces the largest counts. All zeros where there are fewer
    than three pixels across.
    """
    from pyefd import elliptic_fourier_descriptors
    from scipy import ndimage
    from skimage import measure

    filled = np.pad(ndimage.binary_fill_holes(inside), 1)
    pieces, count = ndimage.label(filled)
    if not count:
        return np.zeros(LENGTH, np.float32)
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    (piece,) = measure.regionprops(largest.astype(np.uint8))
    if piece.axis_minor_length < 3:
        return np.zeros(LENGTH, np.float32)
    contour = max(measure.find_contours(largest.astype(np.float32), 0.5), key=len)
    harmonics = elliptic_fourier_descriptors(contour, order=HARMONICS).reshape(-1, 2, 2)
    axes = np.linalg.svd(harmonics, compute_uv=False)
    stretch = np.log(piece.axis_minor_length / piece.axis_major_length)
    return np.asarray([stretch, *(axes / axes[0, 0]).ravel()], np.float32)


def silhouette(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where a picture (y, x, 3) differs from its rim: a specimen on a plain ground.

    Gaps in a wall of up to a fortieth of the picture are closed.
    """
    from scipy import ndimage

    grey = picture.mean(axis=2)
    rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    spread = max(10.0, 3 * float(np.median(np.abs(rim - np.median(rim)))))
    differs = np.abs(grey - np.median(rim)) > spread
    reach = max(1, round(len(grey) / 80))
    grown = ndimage.maximum_filter(np.pad(differs, reach), 2 * reach + 1)
    closed = ndimage.minimum_filter(ndimage.binary_fill_holes(grown), 2 * reach + 1)
    return np.asarray(closed[reach:-reach, reach:-reach], bool)
