"""Areas that nobody traced completely: neither right nor wrong for a network in training."""

from __future__ import annotations

import torch
from torch import Tensor

MOSTLY = 0.5


def ignored_share(boxes: Tensor, ignore: Tensor) -> Tensor:
    """Share of each box that lies in the ignored area.

    Parameters
    ----------
    boxes
        (N, 4) as x0, y0, x1, y1 in pixels; only their part inside the image counts.
    ignore
        (H, W) bool.

    Returns
    -------
    (N,) float in 0..1, 0 for boxes without a pixel in the image
    """
    height, width = ignore.shape
    total = _sums(ignore)
    x0, x1 = (_index(v, width) for v in (boxes[:, 0].floor(), boxes[:, 2].ceil()))
    y0, y1 = (_index(v, height) for v in (boxes[:, 1].floor(), boxes[:, 3].ceil()))
    inside = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
    area = (y1 - y0) * (x1 - x0)
    return inside / area.clamp(min=1)


def mostly_ignored(boxes: Tensor, ignore: Tensor | None) -> Tensor:
    """Tell which boxes (N, 4) lie for more than half in the ignored area; (N,) bool."""
    if ignore is None or not bool(ignore.any()):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    return ignored_share(boxes, ignore) > MOSTLY


def _sums(ignore: Tensor) -> Tensor:
    """Add up all pixels above and left: (H + 1, W + 1)."""
    padded = torch.nn.functional.pad(ignore.to(torch.int64), (1, 0, 1, 0))
    return padded.cumsum(0).cumsum(1)


def _index(value: Tensor, end: int) -> Tensor:
    return value.clamp(0, end).to(torch.int64)
