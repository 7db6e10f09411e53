"""The rock face on a slice, and the mud between its fossils: its colour and patches of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import disk

from napari_fossiledit.errors import FossilError
from napari_fossiledit.perturb.scene import Colour, Floats, Image, SliceScene, Where
from napari_fossiledit.perturb.texture import Patches, cut_patches
from napari_fossiledit.stacks.pixels import area_mean

ROCK_CLASS = "rock_face"
"""Class of an annotation that outlines the rock face; where there is one, nothing is guessed."""

#: Longest edge, in pixels, of the small picture in which the rock is searched.
_SEARCH_EDGE = 400
#: A rock below this share of the slice is taken for a failed guess: then all is rock.
_LEAST_ROCK = 0.02
#: Spread of redness (of 1) below which the picture is taken to show rock alone.
_LEAST_CONTRAST = 0.06
#: Share of the brightest grey below which a pixel is black.
_BLACK = 0.12

#: About how many pixels of the rock face the colour is measured on, for speed.
_MOST_PIXELS = 200_000
_LEAST_PIXELS = 16
_HISTOGRAM_BINS = 128
#: Half width, as a share of the range from black to white, of the brightnesses that count as mud.
_MUD_RANGE = 0.03

#: Edges of the patches to copy, tried from the largest on.
_PATCH_EDGES = (48, 32, 24, 16, 12, 8)
#: Patches that are kept at most, and the number of different places they must come from.
_MOST_PATCHES, _LEAST_PLACES = 1024, 24
#: Corners that are tried, drawn at random: a slice of 15 Mpx has millions of them.
_TRIED_CORNERS = 40_000
#: Share of a patch that must be mud.
_LEAST_MUD = 0.98


# ------------------------------------------------------------------------- rock


def rock_face(scene: SliceScene) -> Where:
    """Guess where a photograph shows rock rather than what the rock lies on.

    Colour: rock is redder than the ground; what is bright belongs to it too, unless the ground is
    bright. Grey: rock is all that is not as black as the edge of the slice. What is enclosed by
    rock belongs to it. Where rock and ground look alike, the whole slice is rock. Flanks of the
    block count as rock; an annotated rock face is better.

    Returns
    -------
    bool array (y, x)
    """
    factor = max(1, -(-max(scene.shape) // _SEARCH_EDGE))
    black, white = scene.span
    small = (area_mean(scene.image, factor) - np.float32(black)) / np.float32(white - black)
    face = _largest_piece(_not_black(small) if small.ndim == 2 else _reddish(small))
    if not face.mean() > _LEAST_ROCK:
        return np.ones(scene.shape, dtype=np.bool_)
    return face.repeat(factor, 0).repeat(factor, 1)[: scene.shape[0], : scene.shape[1]]


def _reddish(small: Floats) -> Where:
    """Pixels (y, x) of a colour picture that look like rock by themselves."""
    redness = ndimage.gaussian_filter(small[..., 0] - small[..., 2], 1)
    low, high = np.percentile(redness, (2, 98))
    if high - low < _LEAST_CONTRAST:
        return np.ones(redness.shape, dtype=np.bool_)
    light = small.mean(axis=2)
    level = threshold_otsu(light)
    # White fossils at the rim of the rock are not red; on a bright ground they cannot be separated.
    white = (light > level) & (np.median(_border(light)) < level)
    return np.asarray((redness > threshold_otsu(redness)) | white, dtype=np.bool_)


def _not_black(small: Floats) -> Where:
    """Pixels (y, x) of a grey picture that are not black; all where its border is not black."""
    light = ndimage.gaussian_filter(small, 1)
    black = _BLACK * np.percentile(light, 98)
    return np.asarray((light >= black) | (np.median(_border(light)) >= black))


def _border(light: Floats) -> Floats:
    return np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]])


def _largest_piece(rocky: Where) -> Where:
    """Largest connected piece, gaps closed and holes filled."""
    reach = max(1, max(rocky.shape) // 40)
    # Padded, because the closing takes what is beyond the picture for ground and erodes its edge.
    padded = np.pad(rocky, reach)
    closed = ndimage.binary_closing(padded, disk(reach))[reach:-reach, reach:-reach]
    pieces, count = ndimage.label(closed)
    if count == 0:
        return np.asarray(closed, dtype=np.bool_)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    filled = ndimage.binary_fill_holes(pieces == sizes.argmax())
    return np.asarray(filled, dtype=np.bool_)


def rock_of(scene: SliceScene) -> Where:
    """Return the rock face (y, x) as annotated, else as `rock_face` guesses it."""
    annotated = [i for i in scene.instances if i.class_name == ROCK_CLASS]
    return scene.covered(annotated) if annotated else rock_face(scene)


def _bare_rock(scene: SliceScene) -> Where:
    fossils = [i for i in scene.instances if i.class_name != ROCK_CLASS]
    covered = scene.covered(fossils)
    return np.logical_and(rock_of(scene), ~covered)


# ----------------------------------------------------------------------- colour


def pick_colour(image: Image, x: float, y: float, radius: int = 2) -> Colour:
    """Return the median colour around a pixel, as an eyedropper takes it.

    Parameters
    ----------
    x, y
        Column and row of the pixel.
    radius
        Half edge of the square that is looked at, in pixels.

    Returns
    -------
    red, green and blue in the slice's own values (all equal on a grey slice)

    Raises
    ------
    FossilError
        Where the pixel lies outside the slice.
    """
    height, width = image.shape[:2]
    if not (np.isfinite([x, y]).all() and 0 <= round(x) < width and 0 <= round(y) < height):
        raise FossilError(
            "The colour cannot be picked outside the slice",
            expected=f"x 0 to {width - 1}, y 0 to {height - 1}",
            found=f"x {x:g}, y {y:g}",
        )
    row, column = round(y), round(x)
    patch = image[
        max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1
    ]
    return _median(patch.reshape(-1, *image.shape[2:]))


def measure_mud(scene: SliceScene) -> Colour:
    """Measure the colour of the mud: the commonest one of the rock face outside of instances.

    The mode of the brightness is taken for mud; the colour is the median of the pixels that have
    nearly that brightness, so that neither shells nor cracks nor unknown fossils shift it. An
    annotated rock face bounds the search.

    Returns
    -------
    red, green and blue in the slice's own values (all equal on a grey slice)

    Raises
    ------
    FossilError
        Where instances leave nothing of the rock face.
    """
    pixels = scene.image[_bare_rock(scene)]
    if len(pixels) < _LEAST_PIXELS:
        raise FossilError(
            "There is no mud to measure: instances cover the rock face",
            expected=f"{_LEAST_PIXELS} pixels of mud",
            found=len(pixels),
            advice="Pick the mud colour by hand.",
        )
    pixels = pixels[:: max(1, len(pixels) // _MOST_PIXELS)]
    light = np.asarray(pixels.reshape(len(pixels), -1).mean(axis=1, dtype=np.float32))
    return _median(pixels[_near_mode(light, scene.span)])


def _near_mode(values: NDArray[np.float32], span: tuple[float, float]) -> NDArray[np.bool_]:
    """Return which values lie near the commonest one between black and white."""
    counts, edges = np.histogram(values, bins=_HISTOGRAM_BINS, range=span)
    # Smoothed, so that no single bin decides.
    smooth = np.convolve(counts, np.hanning(9)[1:-1], mode="same")
    mode = edges[smooth.argmax()] + (edges[1] - edges[0]) / 2
    return np.asarray(np.abs(values - mode) <= _MUD_RANGE * (span[1] - span[0]))


def _median(pixels: NDArray[np.integer]) -> Colour:
    """Median of each channel of pixels (n,) or (n, 3)."""
    flat = pixels.reshape(len(pixels), -1)
    red, green, blue = np.broadcast_to(np.median(flat, axis=0), 3)
    return (float(red), float(green), float(blue))


# ---------------------------------------------------------------------- patches


def mud_patches(scene: SliceScene, rng: np.random.Generator) -> Patches:
    """Cut squares out of a slice that show nothing but mud, as large as enough places have.

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
    # Mud is bare rock of about the commonest brightness.
    bare, image = _bare_rock(scene), scene.image
    light = image if image.ndim == 2 else image.mean(axis=2, dtype=np.float32)
    smooth: Floats = ndimage.gaussian_filter(light, 1.5, output=np.float32)
    muddy = np.zeros_like(bare)
    muddy[bare] = _near_mode(smooth[bare], scene.span)
    corners = np.argwhere(muddy)
    corners = corners[rng.permutation(len(corners))[:_TRIED_CORNERS]]
    for edge in _PATCH_EDGES:
        pure = corners[_mud_share(muddy, corners, edge) >= _LEAST_MUD]
        places = len(np.unique(pure // edge, axis=0))
        if places >= (_LEAST_PLACES if edge > _PATCH_EDGES[-1] else 1):
            patches = cut_patches(scene.image, pure[:_MOST_PATCHES], edge)
            means = patches.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
            levelled = patches + (np.median(means, axis=0, keepdims=True) - means)
            top = np.iinfo(patches.dtype).max
            return np.asarray(np.clip(np.rint(levelled), 0, top), dtype=patches.dtype)
    raise FossilError(
        f"There is no piece of mud to copy on {scene.name}",
        expected=f"{_PATCH_EDGES[-1]} x {_PATCH_EDGES[-1]} pixels of mud between the instances",
        advice="Name a crop of mud: real-mud SLICE:x0:x1,y0:y1.",
    )


def _mud_share(muddy: Where, corners: NDArray[np.intp], edge: int) -> NDArray[np.float64]:
    """Share of mud in squares by their first pixels; 0 for those that stick out of the slice."""
    # A summed-area table gives every square in four look-ups.
    sums: NDArray[np.int32] = np.zeros((muddy.shape[0] + 1, muddy.shape[1] + 1), dtype=np.int32)
    np.cumsum(muddy, axis=0, dtype=np.int32, out=sums[1:, 1:])
    np.cumsum(sums, axis=1, out=sums)
    fits: Where = np.all(corners + edge <= muddy.shape, axis=1)
    y, x = np.where(fits[:, None], corners, 0).T
    y1, x1 = np.minimum(y + edge, muddy.shape[0]), np.minimum(x + edge, muddy.shape[1])
    inside = sums[y1, x1] - sums[y, x1] - sums[y1, x] + sums[y, x]
    return np.where(fits, inside / edge**2, 0.0)
