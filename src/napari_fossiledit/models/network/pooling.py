"""RoIAlign on a feature pyramid; without gradients on a CPU by matrix products.

Averages of bilinear samples on a grid are separable: a region is pooled by one small matrix for
its rows and one for its columns. torchvision's kernel visits every sample of every channel on a
single core, which took a sixth of a prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from napari_fossiledit.models.network.backbones import LEVELS


class PyramidRoIAlign(nn.Module):
    """RoIAlign on the pyramid level that suits the size of a region.

    Level after Lin et al. 2017, equation 1: a region of 224 pixels is pooled at stride 16. Unlike
    torchvision's it can shift regions by half a pixel (`aligned`), as detectron2 does, which also
    rounds the level in its own way.
    """

    def __init__(self, edge: int, samples: int, *, aligned: bool) -> None:
        super().__init__()
        self.edge, self.samples, self.aligned = edge, samples, aligned

    def forward(
        self, features: dict[str, Tensor], boxes: list[Tensor], sizes: list[tuple[int, int]]
    ) -> Tensor:
        """Pool boxes (n, 4) of each image: (sum of n, C, edge, edge)."""
        image = torch.cat([b.new_full((len(b), 1), float(i)) for i, b in enumerate(boxes)])
        regions = torch.cat([image, torch.cat(boxes)], dim=1)
        edge = ((regions[:, 3] - regions[:, 1]) * (regions[:, 4] - regions[:, 2])).sqrt()
        relative = edge / 224
        # The small number keeps exact powers of two on their level; each library has its own.
        steps = torch.log2(relative + 1e-8) if self.aligned else torch.log2(relative) + 1e-6
        chosen = torch.floor(4 + steps).clamp(2, 5).to(torch.int64) - 2
        first = features[LEVELS[0]]
        quick = first.device.type == "cpu" and len(first) == 1 and not torch.is_grad_enabled()
        pool = pool_by_axes if quick else cast("Callable[..., Tensor]", roi_align)
        order, parts = [], []
        for index, name in enumerate(LEVELS):
            order.append(torch.where(chosen == index)[0])
            options = (self.edge, 1 / (4 << index), self.samples, self.aligned)
            parts.append(pool(features[name], regions[order[-1]], *options))
        pooled = torch.cat(parts).to(first.dtype)
        return pooled[torch.cat(order).argsort()]


def pool_by_axes(
    feature: Tensor, regions: Tensor, edge: int, scale: float, samples: int, aligned: bool
) -> Tensor:
    """Compute what torchvision's ``roi_align`` does (its arguments in its order) for one image.

    Parameters
    ----------
    feature
        (1, C, Y, X).
    regions
        (n, 5): 0 and x0, y0, x1, y1 in pixels of the network's input.

    Returns
    -------
    (n, C, edge, edge), channels last in memory
    """
    corners = regions[:, 1:] * scale - (0.5 if aligned else 0.0)
    options = (edge, samples, aligned)
    columns, rows = (
        axis_weights(corners[:, k], corners[:, k + 2], feature.shape[3 - k], *options)
        for k in (0, 1)
    )
    pixels = feature[0].permute(1, 2, 0).contiguous()
    pooled = pixels.new_empty(len(regions), edge, edge, feature.shape[1])
    spans = zip(_spans(rows), _spans(columns), strict=True)
    for k, ((top, bottom), (left, right)) in enumerate(spans):
        strips = rows[k, :, top:bottom] @ pixels[top:bottom, left:right].flatten(1)
        lines = strips.view(edge, right - left, -1)
        torch.matmul(columns[k, :, left:right], lines, out=pooled[k])
    return pooled.permute(0, 3, 1, 2)


def axis_weights(
    start: Tensor, end: Tensor, length: int, edge: int, samples: int, aligned: bool
) -> Tensor:
    """Compute what each of `length` pixels of an axis counts in each of `edge` bins of intervals.

    The positions are computed in torchvision's order of operations, in float32: at 300 pixels
    another order moves them by 3e-5.

    Parameters
    ----------
    start, end
        (n,) ends of the intervals in pixels.
    samples
        In each bin; 0: one a pixel.

    Returns
    -------
    (n, edge, length)
    """
    size = end - start if aligned else (end - start).clamp(min=1)
    step = (size / edge)[:, None, None]
    count = torch.full_like(step, samples) if samples else step.ceil().clamp(min=0)
    grid = torch.arange(int(count.max()) if len(count) else 0)
    bins = torch.arange(edge)[:, None]
    places = start[:, None, None] + bins * step + (grid + 0.5) * step / count.clamp(min=1)
    inside = (grid < count) & (places >= -1) & (places <= length)
    share = inside / count.clamp(min=1)
    places = places.clamp(0, length - 1)
    low = places.long()
    part = places - low
    weights = start.new_zeros(len(start), edge, length)
    weights.scatter_add_(2, low, (1 - part) * share)
    return weights.scatter_add_(2, (low + 1).clamp(max=length - 1), part * share)


def _spans(weights: Tensor) -> list[tuple[int, int]]:
    """Return first pixel and end of what each interval touches."""
    touched = (weights != 0).any(1).int()
    first = touched.argmax(1)
    end = touched.shape[1] - touched.flip(1).argmax(1)
    return list(zip(first.tolist(), end.tolist(), strict=True))
