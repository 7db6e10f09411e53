"""Propose the outline of a fossil from a box around it, or a click on it.

A minimum cut on the image inside the box, as GrabCut's: each pixel leans to the inside by where it
lies in the box, by what a model drew there, and by its colours and those around it (Fisher's linear
discriminant between what is inside and outside so far); the cut runs where neighbours differ most.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from skimage.transform import resize

from napari_fossiledit.geometry import Box
from napari_fossiledit.masks.instance import Instance
from napari_fossiledit.masks.probability import values
from napari_fossiledit.masks.rle import BoolArray, Mask
from napari_fossiledit.masks.split import gradient

FloatArray = NDArray[np.float32]

MARGIN, _LEAST_MARGIN = 0.15, 8
"""What is looked at around a box: a share of its longer side, and so many pixels."""
_MOST_PIXELS = 10_000
"""In a window: larger ones are looked at in fewer, larger pixels, which keeps it below 0.1 s."""
_FULL, _STEEP, _SURE = 0.96, 10.0, (-3.5, 2.5)
"""How far out the ellipse in a box is half inside, how fast that changes (logit), and its bounds.
Fitted to the sample reef's true masks."""
_OF_BOX, _OF_MODEL = 0.6, 0.7
"""Weights of box and model where both are there."""
_MODEL_SURE = 5.3
"""Logits of the model's probabilities are cut here."""
_COLOUR_SURE, _ROUNDS = 2.5, 2
"""Logits of the colours are cut here; how often inside and outside are told anew."""
_SCALES = (1.0, 2.5, 5.0)
"""Deviations in pixels that colours are averaged over."""
_RIDGE = 0.01
"""Added to the covariance of colours from -1 to 1: the noise of a camera."""
_OUTSIDE = -6.0
_NEIGHBOURS = 4.0
"""Weight of neighbours beside the logits. 7 misses more, 2 is rougher."""
_SIZES = (0.5, 0.7, 1.0, 1.4)
"""Boxes around a click, of the side of a middling fossil."""
_WHOLE = 100
"""Capacities are whole numbers of these."""


def propose(image: NDArray[np.generic], box: Box, believed: Instance | None = None) -> Mask:
    """Draw what a box holds.

    Parameters
    ----------
    image
        The slice (y, x) or (y, x, 3), of any brightness.
    box
        y0, x0, y1, x1 in pixels of the slice, half open, about the fossil's own.
    believed
        An instance that lies there, such as a prediction; None: nothing is known but the box.

    Returns
    -------
    One piece without holes inside the box; empty where the box has nothing that differs.
    """
    shape = (image.shape[0], image.shape[1])
    margin = round(MARGIN * max(box[2] - box[0], box[3] - box[1])) + _LEAST_MARGIN
    y0, x0, y1, x1 = window = (
        max(box[0] - margin, 0),
        max(box[1] - margin, 0),
        min(box[2] + margin, shape[0]),
        min(box[3] + margin, shape[1]),
    )
    step = math.ceil(math.sqrt((y1 - y0) * (x1 - x0) / _MOST_PIXELS))
    seen = _shrunk(image[y0:y1, x0:x1], step)
    low, high = np.percentile(seen, (0.5, 99.5))
    seen = (seen - low) / max(high - low, 1e-6) * 2 - 1
    rows = y0 + (np.arange(seen.shape[0])[:, None] + 0.5) * step
    columns = x0 + (np.arange(seen.shape[1]) + 0.5) * step
    inside = (box[0] < rows) & (rows < box[2]) & (box[1] < columns) & (columns < box[3])
    far = np.hypot(
        (rows - (box[0] + box[2]) / 2) / (box[2] - box[0]) * 2,
        (columns - (box[1] + box[3]) / 2) / (box[3] - box[1]) * 2,
    )
    lean = np.where(inside, np.clip(_STEEP * (_FULL - far), *_SURE), _OUTSIDE)
    if believed is not None:
        drawn = _logit(_shrunk(_probability(believed, window, shape), step)[..., 0])
        lean = np.where(inside, _OF_BOX * lean + _OF_MODEL * drawn, _OUTSIDE)
    looks = _looks(seen)
    leaning = lean
    for _ in range(_ROUNDS):
        colour = np.clip(_discriminant(looks, leaning), -_COLOUR_SURE, _COLOUR_SURE)
        leaning = np.where(inside, lean + colour, _OUTSIDE)
    cut = _cut(leaning, seen)
    if step > 1:
        size = (y1 - y0, x1 - x0)
        wide = (cut.shape[0] * step, cut.shape[1] * step)
        cut = resize(cut.astype(np.float32), wide, order=1, mode="edge")[: size[0], : size[1]] > 0.5
        top, left, foot, right = (v - o for v, o in zip(box, (y0, x0) * 2, strict=True))
        cut[:top], cut[foot:], cut[:, :left], cut[:, right:] = False, False, False, False
    return Mask.from_crop(_one_piece(cut), (y0, x0), shape)


def propose_at(image: NDArray[np.generic], point: tuple[int, int], side: float) -> Mask:
    """Draw the fossil that a pixel lies in, where only the size of others is known.

    Of the outlines in boxes of several sizes around it, the one along which the image changes most.

    Parameters
    ----------
    point
        y, x of the pixel.
    side
        Of the box of a middling fossil, in pixels.
    """
    y, x = point
    best, steepest = Mask.empty((image.shape[0], image.shape[1])), 0.0
    for size in _SIZES:
        half = max(round(side * size / 2), 1)
        mask = propose(image, (y - half, x - half, y + half + 1, x + half + 1))
        if not mask.crop((y, x, y + 1, x + 1)).any():
            continue
        y0, x0, y1, x1 = mask.box
        inside = np.pad(mask.crop(), 1)
        outline = (inside ^ ndimage.binary_erosion(inside))[1:-1, 1:-1]
        steep = float(gradient(image[y0:y1, x0:x1], 1.0)[outline].mean())
        if steep > steepest:
            best, steepest = mask, steep
    return best


def _shrunk(crop: NDArray[np.generic], step: int) -> FloatArray:
    """Return the means (y, x, c) of squares of a crop; those at its far sides may be cut."""
    channels = np.atleast_3d(crop).astype(np.float32)
    far = [(0, -n % step) for n in channels.shape[:2]]
    padded = np.pad(channels, (*far, (0, 0)), mode="edge")
    height, width = (n // step for n in padded.shape[:2])
    squares = padded.reshape(height, step, width, step, -1)
    return np.asarray(squares.mean((1, 3)), dtype=np.float32)


def _probability(instance: Instance, window: Box, shape: tuple[int, int]) -> FloatArray:
    """Return how probable it is that pixels of a window are of an instance."""
    if instance.probability is None:
        # Its outline may be a pixel or two off.
        drawn = instance.mask.crop(window).astype(np.float32)
        return np.asarray(ndimage.gaussian_filter(drawn, 2), dtype=np.float32)
    y0, x0, y1, x1 = window
    pasted = np.zeros((y1 - y0, x1 - x0), dtype=np.float32)
    for piece in instance.probability.pieces:
        found, (top, left) = values(piece, shape)
        foot, right = top + found.shape[0], left + found.shape[1]
        both = (max(top, y0), max(left, x0), min(foot, y1), min(right, x1))
        if both[0] < both[2] and both[1] < both[3]:
            place = _part(pasted, (y0, x0), both)
            np.maximum(place, _part(found, (top, left), both), out=place)
    return pasted


def _part(pixels: FloatArray, origin: tuple[int, int], box: Box) -> FloatArray:
    """Return the part inside a box of pixels that begin at `origin` (y, x)."""
    y, x = origin
    return pixels[box[0] - y : box[2] - y, box[1] - x : box[3] - x]


def _logit(probability: FloatArray) -> FloatArray:
    sure = 1 / (1 + math.exp(_MODEL_SURE))
    p = np.clip(probability, sure, 1 - sure)
    return np.asarray(np.log(p / (1 - p)), dtype=np.float32)


def _looks(image: FloatArray) -> FloatArray:
    """Return of each pixel (y, x) its colours, and at each scale their mean and the roughness."""
    grey = image.mean(2)
    looks = [image]
    for scale in _SCALES:
        mean = ndimage.gaussian_filter(image, (scale, scale, 0))
        rough = ndimage.gaussian_filter(grey * grey, scale) - mean.mean(2) ** 2
        looks += [mean, np.sqrt(np.clip(rough, 0, None))[..., None]]
    return np.concatenate(looks, axis=2)


def _discriminant(looks: FloatArray, leaning: FloatArray) -> FloatArray:
    """Return Fisher's linear discriminant between what leans inside and what leans outside."""
    every = looks.reshape(-1, looks.shape[2])
    inside = 1 / (1 + np.exp(-leaning.ravel()))
    means, spread = [], np.diag(np.full(every.shape[1], _RIDGE))
    # Powers, as a few false pixels inside are no rarity, and false ones far from it are.
    for share, power in ((inside, 4), (1 - inside, 8)):
        weight = np.clip(share, 1e-4, 1) ** power
        weight /= weight.sum()
        means.append(weight @ every)
        off = every - means[-1]
        spread += (off * weight[:, None]).T @ off
    axis = np.linalg.solve(spread, means[0] - means[1]) / 2
    told = (every - (means[0] + means[1]) / 2) @ axis
    return np.asarray(told.reshape(leaning.shape), dtype=np.float32)


def _cut(leaning: FloatArray, image: FloatArray) -> BoolArray:
    """Return the inside of the minimum cut of the graph of pixels and their eight neighbours."""
    height, width = leaning.shape
    number = np.arange(height * width).reshape(height, width)
    starts, ends, weights = [], [], []
    flat = image.reshape(-1, image.shape[2])
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        start = number[: height - dy, max(-dx, 0) : width - max(dx, 0)].ravel()
        starts.append(start)
        ends.append(start + dy * width + dx)
        weights.append(np.full(len(start), _NEIGHBOURS / math.hypot(dy, dx)))
    one, other = np.concatenate(starts), np.concatenate(ends)
    differs = ((flat[one] - flat[other]) ** 2).sum(1)
    weight = np.concatenate(weights) * np.exp(-differs / (2 * differs.mean() + 1e-9))
    source, sink = number.size, number.size + 1
    within = number[leaning > 0]
    without = number[leaning < 0]
    capacity = np.concatenate([weight, weight, leaning[leaning > 0], -leaning[leaning < 0]])
    graph = coo_array(
        (
            np.rint(capacity * _WHOLE).astype(np.int32),
            (
                np.concatenate([one, other, np.full(len(within), source), without]),
                np.concatenate([other, one, within, np.full(len(without), sink)]),
            ),
        ),
        shape=(number.size + 2, number.size + 2),
    ).tocsr()
    rest = graph - maximum_flow(graph, source, sink).flow
    rest.data[rest.data < 0] = 0
    rest.eliminate_zeros()
    reached = np.zeros(number.size + 2, dtype=np.bool_)
    reached[breadth_first_order(rest, source, return_predecessors=False)] = True
    return reached[: number.size].reshape(height, width)


def _one_piece(inside: BoolArray) -> BoolArray:
    numbers, count = ndimage.label(ndimage.binary_fill_holes(inside))
    if not count:
        return inside
    return np.asarray(numbers == np.bincount(numbers.ravel())[1:].argmax() + 1)
