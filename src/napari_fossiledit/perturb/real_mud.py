"""Patches of real mud from between the fossils of a slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_fossiledit.errors import FossilError
from napari_fossiledit.perturb.mud import bare_rock, near_mode
from napari_fossiledit.perturb.quilt import Patches, cut_patches
from napari_fossiledit.perturb.scene import Floats, Scene, Where

_EDGES = (48, 32, 24, 16, 12, 8)
_BANK, _PLACES = 1024, 24
_TRIES = 40_000
_PURE = 0.98


def mud_patches(scene: Scene, rng: np.random.Generator) -> Patches:
    """Squares of a slice that show nothing but mud, as large as there are in enough places.

    All are brought to the same mean, because light that changes over the slice would else show as
    blotches.

    Returns
    -------
    array (n, edge, edge[, 3]) of the slice's dtype

    Raises
    ------
    FossilError
        Where the slice shows no piece of mud of 8 x 8 pixels.
    """
    muddy = _muddy(scene)
    corners = np.argwhere(muddy)
    corners = corners[rng.permutation(len(corners))[:_TRIES]]
    for edge in _EDGES:
        pure = corners[_share(muddy, corners, edge) >= _PURE]
        places = len(np.unique(pure // edge, axis=0))
        if places >= (_PLACES if edge > _EDGES[-1] else 1):
            return _levelled(cut_patches(scene.image, pure[:_BANK], edge))
    raise FossilError(
        f"There is no piece of mud to copy on {scene.name}",
        expected=f"{_EDGES[-1]} x {_EDGES[-1]} pixels of mud between the instances",
        advice="Name a crop of mud: real-mud SLICE:x0:x1,y0:y1.",
    )


def _levelled(patches: Patches) -> Patches:
    """Shift each patch to the median of the patches' means, channel by channel."""
    means = patches.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    levelled = patches + (np.median(means, axis=0, keepdims=True) - means)
    top = np.iinfo(patches.dtype).max
    return np.asarray(np.clip(np.rint(levelled), 0, top), dtype=patches.dtype)


def _muddy(scene: Scene) -> Where:
    """Bare rock of about the commonest brightness."""
    bare = bare_rock(scene)
    image = scene.image
    light = image if image.ndim == 2 else image.mean(axis=2, dtype=np.float32)
    smooth: Floats = ndimage.gaussian_filter(light, 1.5, output=np.float32)
    muddy = np.zeros_like(bare)
    muddy[bare] = near_mode(smooth[bare], np.iinfo(image.dtype).max)
    return muddy


def _share(muddy: Where, corners: NDArray[np.intp], edge: int) -> NDArray[np.float64]:
    """Share of mud in squares by their first pixels; 0 for those that stick out of the slice."""
    sums: NDArray[np.int32] = np.zeros((muddy.shape[0] + 1, muddy.shape[1] + 1), dtype=np.int32)
    np.cumsum(muddy, axis=0, dtype=np.int32, out=sums[1:, 1:])
    np.cumsum(sums, axis=1, out=sums)
    fits: Where = np.all(corners + edge <= muddy.shape, axis=1)
    y, x = np.where(fits[:, None], corners, 0).T
    y1, x1 = np.minimum(y + edge, muddy.shape[0]), np.minimum(x + edge, muddy.shape[1])
    inside = sums[y1, x1] - sums[y, x1] - sums[y1, x] + sums[y, x]
    return np.where(fits, inside / edge**2, 0.0)
