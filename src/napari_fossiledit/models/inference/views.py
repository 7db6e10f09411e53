"""A slice turned and mirrored, so that masks can be drawn from several views of it.

A network that learned from few slices draws a fossil a little differently when it is turned. What
the views agree on is the fossil, and what they do not is chance: the mean of what all draw is
closer to the truth. (The mean of their feature maps is not: strided convolutions do not line up
after a turn.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

from napari_fossiledit.models.inference.preprocessing import Rgb
from napari_fossiledit.models.network.heads import Limits, Target
from napari_fossiledit.models.network.prior import Prior

SAME_IOU = 0.5
"""IoU from which boxes that views found are of one object; what suppresses a box within a view."""
_LEAST_PART = 1e-6
"""A mask's probability is taken no nearer to 0 or 1, so that no view can outvote all others."""

_PIXELS_AT_ONCE = 1 << 20
"""Pixels of views that enter the network together: small slices; more of them were no faster."""


class View(NamedTuple):
    """A slice whose rows and columns may be exchanged, and which is mirrored after that.

    Attributes
    ----------
    transposed
        Rows become columns.
    down, across
        Mirrored from top to foot, from left to right.
    """

    transposed: bool = False
    down: bool = False
    across: bool = False

    @property
    def inverse(self) -> View:
        """The view of a view that shows the slice itself."""
        # Mirrored before the exchange is mirrored the other way after it.
        return View(True, self.across, self.down) if self.transposed else self

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width (y, x) of the view of a slice of `size`."""
        return size[::-1] if self.transposed else size

    def image(self, rgb: Rgb) -> Rgb:
        """Return the view of a slice (y, x, C)."""
        turned = rgb.swapaxes(0, 1) if self.transposed else rgb
        return turned[:: -1 if self.down else 1, :: -1 if self.across else 1]

    def masks(self, masks: Tensor) -> Tensor:
        """Return masks (n, M, M) as the view shows them."""
        turned = masks.mT if self.transposed else masks
        return turned.flip([axis for axis, on in ((1, self.down), (2, self.across)) if on])

    def boxes(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Return boxes (n, 4) x0, y0, x1, y1 of a slice of `size` (y, x) as the view shows them."""
        turned = boxes[:, [1, 0, 3, 2]] if self.transposed else boxes
        height, width = self.size(size)
        x0, y0, x1, y1 = turned.unbind(1)
        if self.across:
            x0, x1 = width - x1, width - x0
        if self.down:
            y0, y1 = height - y1, height - y0
        return torch.stack([x0, y0, x1, y1], dim=1)

    def prior(self, prior: Prior | None, size: tuple[int, int]) -> Prior | None:
        """Return a prior for a slice of `size` (y, x) as one for the view."""
        if prior is None:
            return None
        return replace(prior, boxes=self.boxes(torch.from_numpy(prior.boxes), size).numpy())


_MIRRORED = (View(), View(down=True, across=True), View(down=True), View(across=True))
VIEWS = (*_MIRRORED, *(view._replace(transposed=True) for view in _MIRRORED))
"""All turns and mirrors: the first 2 are the slice and its turn by 180 degrees, 4 of one shape."""


def batches(views: Sequence[View], size: tuple[int, int]) -> list[list[View]]:
    """Divide views of a slice of `size` (y, x) into those that the network takes at once."""
    most = max(_PIXELS_AT_ONCE // (size[0] * size[1]), 1)
    # Two shapes, where the slice is not square and some views are upright and some lie.
    shapes = dict.fromkeys(view.size(size) for view in views)
    alike = [[view for view in views if view.size(size) == shape] for shape in shapes]
    return [group[k : k + most] for group in alike for k in range(0, len(group), most)]


def mean_of(masks: Sequence[Tensor]) -> Tensor:
    """Return the probabilities (n, M, M) whose logits are the mean of those of all views."""
    if len(masks) == 1:
        return masks[0]
    return torch.stack([m.logit(_LEAST_PART) for m in masks]).mean(dim=0).sigmoid()


def united(found: Sequence[Target], limits: Limits) -> Target:
    """Unite the boxes that several views found, all at their place in the slice.

    Boxes of one object give one: their mean, weighted by score. Its score is the mean of the best
    one of each view, 0 for a view without, so that what few views find becomes less certain.
    """
    if len(found) == 1:
        return found[0]
    boxes, scores, labels = (
        torch.cat([f[name] for f in found]).cpu() for name in ("boxes", "scores", "labels")
    )
    view_of = torch.repeat_interleave(torch.tensor([len(f["scores"]) for f in found]))
    alike = (box_iou(boxes, boxes) >= SAME_IOU) & (labels[:, None] == labels)
    free = torch.ones(len(scores), dtype=torch.bool)
    made: list[tuple[Tensor, Tensor, Tensor]] = []
    for k in scores.argsort(descending=True, stable=True):
        if not free[k]:
            continue
        # A box without an area is not even like itself.
        members = alike[k] & free
        members[k] = True
        free &= ~members
        best = scores.new_zeros(len(found))
        best.scatter_reduce_(0, view_of[members], scores[members], "amax")
        weight = scores[members, None]
        made.append(((boxes[members] * weight).sum(0) / weight.sum(), best.mean(), labels[k]))
    if not made:
        return found[0]
    together = [torch.stack(values) for values in zip(*made, strict=True)]
    order = together[1].argsort(descending=True, stable=True)
    order = order[together[1][order] > limits.floor][: limits.count]
    device = found[0]["boxes"].device
    names = ("boxes", "scores", "labels")
    return {n: v[order].to(device) for n, v in zip(names, together, strict=True)}
