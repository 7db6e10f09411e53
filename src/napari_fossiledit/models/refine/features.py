"""What a refiner looks at in each pixel around an instance.

The colour of the pixel and of its surroundings at three scales, how rough they are, and all that
relative to what is surely inside and surely outside the instance's own mask: an instance lends its
colours to its own border, so that a few traced slices are enough to learn from. One more number is
the linear discriminant (Fisher) between the inside and the outside of that very instance.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

SCALES = (3, 7, 15)
"""Edges of the squares that surroundings are averaged over, in pixels of the refiner."""
REACH = SCALES[-1] // 2
"""Pixels beyond a window that its surroundings reach to."""
_SURE = 1e-3
"""Probabilities are cut here before their logit is taken."""
_INSIDE, _OUTSIDE = 4, 8
"""Powers of the probabilities that weigh what is inside and outside: a few false pixels inside a
mask are no rarity, false ones far from it are."""
_LEAST_SPREAD = 0.05
"""Added to deviations (of brightness from -1 to 1), about the noise of a camera."""
_RIDGE = 0.01
"""Added to the covariance of the discriminant: its square root is an even smaller noise."""
_MOST = 5.0
"""Discriminants are cut here."""
COUNT = 54
"""Numbers of each pixel."""


def pixel_features(
    surroundings: NDArray[np.uint8],
    probability: NDArray[np.float32],
    chosen: NDArray[np.bool_],
) -> Tensor:
    """Compute the features of pixels of a window around an instance.

    Parameters
    ----------
    surroundings
        (y + 2 REACH, x + 2 REACH, 3) RGB of the window and of what lies around it.
    probability
        (y, x) of the window: that a pixel is of the instance, as the model drew it.
    chosen
        (y, x) of which pixels; inside and outside are told by all.

    Returns
    -------
    (chosen pixels, COUNT) float32
    """
    rgb = torch.from_numpy(surroundings).permute(2, 0, 1).float().div_(127.5).sub_(1)
    grey = rgb.mean(0, keepdim=True)
    means = _means(torch.cat([rgb, grey * grey]))
    rough = [(m[3:] - m[:3].mean(0, keepdim=True) ** 2).clamp_(min=0).sqrt_() for m in means]
    window = np.s_[:, REACH:-REACH, REACH:-REACH]
    steep = _mean(_gradient(grey), SCALES[0])[window]
    looks = torch.cat([rgb[window], *(m[:3] for m in means), *rough, steep]).flatten(1)

    inside = torch.from_numpy(probability).flatten()
    within, within_spread, covariance = _moments(looks, inside.clamp(min=1e-4) ** _INSIDE)
    around, around_spread, other = _moments(looks, (1 - inside).clamp(min=1e-4) ** _OUTSIDE)
    both = covariance + other + _RIDGE * torch.eye(len(looks))
    axis = torch.linalg.solve(both, within - around)
    told = (axis.T @ (looks - (within + around) / 2) / 4).clamp_(-_MOST, _MOST)
    at = torch.from_numpy(np.flatnonzero(chosen))
    rest = [
        told,
        _mean(told.view(1, *probability.shape), 5).flatten(1),
        torch.logit(inside, _SURE)[None] / 3,
        _depth(probability > 0.5),
    ]
    looks = looks[:, at]
    features = [
        looks,
        (looks - within) / (within_spread + _LEAST_SPREAD),
        (looks - around) / (around_spread + _LEAST_SPREAD),
        torch.cat(rest)[:, at],
    ]
    return torch.cat(features).T


def _means(maps: Tensor) -> list[Tensor]:
    """Average (C, y + 2 REACH, x + 2 REACH) over squares of each scale, at (y, x)."""
    # A summed-area table, in float64: sums are small differences of large ones.
    table = F.pad(maps.double().cumsum(1).cumsum(2), (1, 0, 1, 0))
    rows, columns = (length + 1 - 2 * REACH for length in maps.shape[1:])
    means = []
    for edge in SCALES:
        low = REACH - edge // 2
        high = low + edge
        down = table[:, high : high + rows - 1] - table[:, low : low + rows - 1]
        square = down[:, :, high : high + columns - 1] - down[:, :, low : low + columns - 1]
        means.append((square / edge**2).float())
    return means


def _mean(maps: Tensor, edge: int) -> Tensor:
    """Average (C, y, x) over squares; beyond the border the last pixels are repeated."""
    half = edge // 2
    padded = F.pad(maps[None], (half,) * 4, mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(padded, (edge, 1), 1), (1, edge), 1)[0]


def _gradient(grey: Tensor) -> Tensor:
    """Return the steepness of (1, y, x), 0 in the outermost rows and columns."""
    steep = torch.zeros_like(grey)
    down = grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]
    right = grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]
    steep[:, 1:-1, 1:-1] = torch.hypot(down, right) / 2
    return steep


def _moments(looks: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return weighted mean (C, 1), deviation (C, 1) and covariance (C, C) of (C, pixels)."""
    weight = weight / weight.sum()
    mean = (looks @ weight)[:, None]
    off = looks - mean
    covariance = (off * weight) @ off.T
    return mean, covariance.diagonal().clamp(min=0).sqrt()[:, None], covariance


def _depth(mask: NDArray[np.bool_]) -> Tensor:
    """Return how deep inside a mask pixels lie, in pixels and for its size, and the size."""
    area = max(int(mask.sum()), 1)
    depth = np.full(mask.shape, -16.0, dtype=np.float32)
    if mask.any():
        inside = ndimage.distance_transform_edt(mask)
        depth = (inside - ndimage.distance_transform_edt(~mask)).astype(np.float32)
    flat = torch.from_numpy(depth).flatten()
    size = torch.full_like(flat, (float(np.log(area)) - 6) / 2)
    return torch.stack([(flat / 8).clamp(-2, 2), (flat * 4 / area**0.5).clamp(-2, 2), size])
