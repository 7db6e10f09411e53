"""Textures of a crop laid over a window of a slice."""

from __future__ import annotations

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.perturb.quilt import cut_patches, quilt
from napari_fossiledit.perturb.scene import Image

SMALLEST = 8
"""Least edge of a crop in pixels: below it there is no texture, only a colour."""

_PATCH_SHARE, _LEAST_PATCH, _MOST_PATCH = 0.4, 6, 64
_BANK = 1024


def check_crop(crop: Image) -> Image:
    """Refuse a crop that is too small or not square.

    Raises
    ------
    FossilError
        With the size that was expected.
    """
    height, width = crop.shape[:2]
    if height != width:
        raise FossilError(
            "The texture crop is not square", expected="equal sides", found=f"{width} x {height}"
        )
    if height < SMALLEST:
        raise FossilError(
            "The texture crop is too small",
            expected=f"{SMALLEST} x {SMALLEST} pixels or more",
            found=f"{width} x {height}",
        )
    return crop


def tile(crop: Image, shape: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> Image:
    """Lay a crop side by side, as the paper does (its section on perturbations).

    Parameters
    ----------
    crop
        Square (y, x[, 3]).
    shape
        Height and width (y, x) of the window to fill.
    origin
        Where the window lies in the slice (y, x): tiles are counted from the slice's corner, so
        that neighbouring windows fit.

    Returns
    -------
    array (*shape[, 3]) of the crop's dtype
    """
    check_crop(crop)
    rows, columns = (
        (np.arange(size) + start) % edge
        for size, start, edge in zip(shape, origin, crop.shape[:2], strict=True)
    )
    return np.asarray(crop[rows[:, None], columns])


def seamless(crop: Image, shape: tuple[int, int], seed: int | np.random.Generator) -> Image:
    """Stitch patches of a crop so that their seams do not show (see `quilt`).

    Parameters
    ----------
    crop, shape
        See `tile`.
    seed
        Chooses the patches.

    Returns
    -------
    array (*shape[, 3]) of the crop's dtype; every pixel is one of the crop
    """
    edge = check_crop(crop).shape[0]
    patch = int(np.clip(round(_PATCH_SHARE * edge), _LEAST_PATCH, _MOST_PATCH))
    rng = np.random.default_rng(seed)
    places = edge - patch + 1
    chosen = rng.permutation(places**2)[:_BANK]
    bank = cut_patches(crop, np.stack(np.divmod(chosen, places), axis=1), patch)
    return quilt(bank, shape, rng)
