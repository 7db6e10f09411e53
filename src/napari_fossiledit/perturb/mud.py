"""The colour of the mud: measured on a slice, or picked by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance
from napari_fossiledit.masks.rle import union
from napari_fossiledit.perturb.regions import ROCK_CLASS, Rock
from napari_fossiledit.perturb.scene import Colour, Image, Scene, Where

_MOST_PIXELS = 200_000
_LEVELS = 128
_NEAR = 0.03
_LEAST_PIXELS = 16


def pick_colour(image: Image, x: float, y: float, radius: int = 2) -> Colour:
    """Median colour around a pixel, as an eyedropper takes it.

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


def measure_mud(image: Image, instances: Sequence[Instance] = ()) -> Colour:
    """Colour of the mud on a slice: the commonest one of the rock face outside of instances.

    The brightness that most pixels have tells the mud; the colour is the median of the pixels that
    have nearly that brightness, so that neither shells nor cracks nor unknown fossils shift it.

    Parameters
    ----------
    image
        (y, x) or (y, x, 3), uint8 or uint16.
    instances
        All that is known not to be mud; an annotated rock face bounds the search.

    Returns
    -------
    red, green and blue in the slice's own values (all equal on a grey slice)

    Raises
    ------
    FossilError
        Where instances leave nothing of the rock face.
    """
    pixels = image[bare_rock(Scene(image, tuple(instances)))]
    if len(pixels) < _LEAST_PIXELS:
        raise FossilError(
            "There is no mud to measure: instances cover the rock face",
            expected=f"{_LEAST_PIXELS} pixels of mud",
            found=len(pixels),
            advice="Pick the mud colour by hand.",
        )
    pixels = pixels[:: max(1, len(pixels) // _MOST_PIXELS)]
    return _median(pixels[near_mode(brightness(pixels), np.iinfo(image.dtype).max)])


def bare_rock(scene: Scene) -> Where:
    """Rock face without instances, (y, x)."""
    fossils = [i.mask for i in scene.instances if i.class_name != ROCK_CLASS]
    covered = union(fossils, scene.shape).to_array()
    return np.logical_and(Rock().mask(scene), ~covered)


def brightness(pixels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Mean of the channels of pixels (n,) or (n, 3)."""
    flat = pixels.reshape(len(pixels), -1)
    return np.asarray(flat.mean(axis=1, dtype=np.float32))


def near_mode(values: NDArray[np.float32], top: float) -> NDArray[np.bool_]:
    """Which values lie near the commonest one."""
    counts, edges = np.histogram(values, bins=_LEVELS, range=(0, top))
    smooth = np.convolve(counts, np.hanning(9)[1:-1], mode="same")
    mode = edges[smooth.argmax()] + (edges[1] - edges[0]) / 2
    return np.asarray(np.abs(values - mode) <= _NEAR * top)


def _median(pixels: NDArray[np.integer]) -> Colour:
    """Median of each channel of pixels (n,) or (n, 3)."""
    flat = pixels.reshape(len(pixels), -1)
    red, green, blue = np.broadcast_to(np.median(flat, axis=0), 3)
    return (float(red), float(green), float(blue))
