"""Textures of a crop laid over a window of a slice: tiled, or stitched along invisible seams.

Stitching is that of Efros and Freeman 2001 (Image quilting for texture synthesis and transfer),
section 2. Patches that do not touch each other are laid at once: those of one wave,
column + 2 x row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.perturb.scene import Floats, Image

SMALLEST_CROP = 8
"""Least edge of a crop in pixels: below it there is no texture, only a colour."""

#: Edge of a patch as a share of the crop's, and its bounds in pixels.
_PATCH_SHARE, _LEAST_PATCH, _MOST_PATCH = 0.4, 6, 64
#: Patches of a crop that are drawn to choose from.
_BANK = 1024
#: Neighbours overlap by one part in this many of a patch's edge.
_OVERLAP = 4
#: Patches of the bank that are compared at each place.
_CANDIDATES = 48

Patches = NDArray[Any]
Cuts = NDArray[np.intp]


def check_crop(crop: Image) -> Image:
    """Return the crop, or raise `FossilError` where it is too small or not square."""
    height, width = crop.shape[:2]
    if height != width:
        raise FossilError(
            "The texture crop is not square", expected="equal sides", found=f"{width} x {height}"
        )
    if height < SMALLEST_CROP:
        raise FossilError(
            "The texture crop is too small",
            expected=f"{SMALLEST_CROP} x {SMALLEST_CROP} pixels or more",
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


def cut_patches(image: Image, corners: NDArray[np.integer], edge: int) -> Patches:
    """Cut squares out of a slice (y, x[, 3]).

    Parameters
    ----------
    corners
        (n, 2) row and column of their first pixels.

    Returns
    -------
    array (n, edge, edge[, 3])
    """
    along = np.arange(edge)
    rows = corners[:, 0, None, None] + along[:, None]
    columns = corners[:, 1, None, None] + along
    return np.asarray(image[rows, columns])


def quilt(bank: Patches, shape: tuple[int, int], rng: np.random.Generator) -> Image:
    """Fill a window with patches that go on in each other.

    Each patch is the one of some random candidates that fits best to what lies there already
    (least sum of squares over the overlap, a quarter of the patch), cut where it differs least.

    Parameters
    ----------
    bank
        Patches to choose from, (n, edge, edge[, 3]).
    shape
        Height and width (y, x) of the window.

    Returns
    -------
    array (*shape[, 3]) of the bank's dtype; every pixel is one of the bank
    """
    edge = bank.shape[1]
    step = edge - _overlap_of(edge)
    grid = [max(1, -(-(size - edge) // step) + 1) for size in shape]
    canvas = np.zeros((*((n - 1) * step + edge for n in grid), *bank.shape[3:]), bank.dtype)
    # Patches with the same column + 2 x row: none of them touches another.
    for wave in range(grid[1] + 2 * (grid[0] - 1)):
        rows = np.arange(max(0, -(-(wave - grid[1] + 1) // 2)), min(grid[0], wave // 2 + 1))
        if len(rows):
            _lay_wave(canvas, bank, np.stack([rows, wave - 2 * rows], axis=1) * step, rng)
    return canvas[: shape[0], : shape[1]]


def _overlap_of(edge: int) -> int:
    return max(2, edge // _OVERLAP)


def _lay_wave(canvas: Image, bank: Patches, corners: Cuts, rng: np.random.Generator) -> None:
    """Choose, cut and lay the patches of one wave; none of them touches another."""
    edge = bank.shape[1]
    across = _overlap_of(edge)
    laid = cut_patches(canvas, corners, edge).astype(np.float32)
    chosen = bank[_best(laid, bank, corners, rng)]
    away = (chosen.astype(np.float32) - laid) ** 2
    away = away.reshape(*away.shape[:3], -1).sum(axis=3)
    left = _seam(away[:, :, :across])
    top = _seam(away[:, :across].swapaxes(1, 2))
    along = np.arange(edge)
    from_left = (along >= left[:, :, None]) | (corners[:, 1] == 0)[:, None, None]
    from_top = (along[:, None] >= top[:, None, :]) | (corners[:, 0] == 0)[:, None, None]
    for (y, x), patch, new in zip(corners, chosen, from_left & from_top, strict=True):
        canvas[y : y + edge, x : x + edge][new] = patch[new]


def _best(laid: Patches, bank: Patches, corners: Cuts, rng: np.random.Generator) -> Cuts:
    """Index of the candidate that fits each place best."""
    across = _overlap_of(bank.shape[1])
    picks = rng.integers(len(bank), size=(len(corners), min(_CANDIDATES, len(bank))))
    cost = np.zeros(picks.shape, dtype=np.float32)
    for row, (y, x) in enumerate(corners):
        if x:
            cost[row] += _misfit(bank[picks[row], :, :across], laid[row, :, :across])
        if y:
            cost[row] += _misfit(bank[picks[row], :across], laid[row, :across])
    return np.take_along_axis(picks, cost.argmin(axis=1)[:, None], axis=1)[:, 0]


def _misfit(candidates: Patches, laid: Patches) -> Floats:
    """Sum of squared differences of each candidate strip."""
    away = (candidates - laid).reshape(len(candidates), -1)
    return np.asarray(np.einsum("ij,ij->i", away, away))


def _seam(cost: Floats) -> Cuts:
    """Cheapest way down each strip (n, length, across): one column a row, moving by one at most."""
    number, length, across = cost.shape
    # A border of infinities keeps paths inside without a test at every step.
    total = np.full((number, length, across + 2), np.inf, dtype=np.float32)
    total[:, :, 1:-1] = cost
    for row in range(1, length):
        above = total[:, row - 1]
        total[:, row, 1:-1] += np.minimum(np.minimum(above[:, :-2], above[:, 2:]), above[:, 1:-1])
    path = np.empty((number, length), dtype=np.intp)
    path[:, -1] = total[:, -1].argmin(axis=1)
    every, reach = np.arange(number)[:, None], np.arange(-1, 2)
    for row in range(length - 2, -1, -1):
        below = path[:, row + 1]
        path[:, row] = below + total[every, row, below[:, None] + reach].argmin(axis=1) - 1
    return path - 1
