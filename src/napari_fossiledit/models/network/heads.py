"""Proposal network and region heads of torchvision that leave ignored areas out of the losses.

An ignored area was not traced completely: what lies there is neither right nor wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import (
    RoIHeads,
    fastrcnn_loss,
    project_masks_on_boxes,
)
from torchvision.models.detection.rpn import (
    RegionProposalNetwork,
    concat_box_prediction_layers,
)
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, remove_small_boxes

from napari_fossiledit.models.network.prior import Prior

Target = dict[str, Tensor]
Sizes = list[tuple[int, int]]

_IGNORED_SHARE = 0.5
"""Share of a box in the ignored area above which the box counts neither for nor against."""


def ignored_share(boxes: Tensor, ignore: Tensor) -> Tensor:
    """Compute the share of each box that lies in the ignored area.

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
    # Sums of all pixels above and left: four of them give the sum over any box.
    total = F.pad(ignore.to(torch.int64), (1, 0, 1, 0)).cumsum(0).cumsum(1)
    low, high = boxes[:, :2].floor(), boxes[:, 2:].ceil()
    (x0, y0), (x1, y1) = (
        [
            corner[:, axis].clamp(0, end).to(torch.int64)
            for axis, end in enumerate(reversed(ignore.shape))
        ]
        for corner in (low, high)
    )
    inside = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
    area = (y1 - y0) * (x1 - x0)
    return inside / area.clamp(min=1)


def mostly_ignored(boxes: Tensor, ignore: Tensor | None) -> Tensor:
    """Return which boxes (N, 4) lie for more than half in the ignored area: (N,) bool."""
    if ignore is None or not bool(ignore.any()):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    return ignored_share(boxes, ignore) > _IGNORED_SHARE


class ProposalNetwork(RegionProposalNetwork):  # type: ignore[misc]  # torchvision is untyped
    """Region proposals; anchors mostly in a target's ``ignore`` area are no negatives.

    Proposals are ranked by their logits: as probabilities the best ones would all be 1.
    """

    def propose(
        self, images: ImageList, features: dict[str, Tensor], prior: Prior | None = None
    ) -> Tensor:
        """Find the proposals (n, 4) of a single image, best first.

        Parameters
        ----------
        features
            Pyramid levels (1, C, H, W) by name.
        prior
            In network pixels; raises the rank of proposals that overlap its boxes.
        """
        if prior is None:
            return cast("Tensor", self(images, features)[0][0])
        levels = list(features.values())
        objectness, offsets = self.head(levels)
        anchors = self.anchor_generator(images, levels)
        counts = [level[0].numel() for level in objectness]
        logits, deltas = concat_box_prediction_layers(objectness, offsets)
        boxes = self.box_coder.decode(deltas, anchors)[:, 0]
        logits = logits[:, 0] + raised(boxes, images.image_sizes[0], prior)
        kept, _ = self.filter_proposals(boxes[None], logits[None], images.image_sizes, counts)
        return kept[0]

    def filter_proposals(
        self, proposals: Tensor, objectness: Tensor, sizes: Sizes, counts: list[int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Keep the best proposals (n, 4) of each image and their logits (n,), best first."""
        scores = objectness.detach().reshape(len(proposals), -1)
        level_of = torch.cat([scores.new_full((n,), i) for i, n in enumerate(counts)])
        kept_boxes, kept_logits = [], []
        for image, top in enumerate(self._get_top_n_idx(scores, counts)):
            boxes = clip_boxes_to_image(proposals[image][top], sizes[image])
            large = remove_small_boxes(boxes, self.min_size)
            boxes, logits, levels = boxes[large], scores[image][top][large], level_of[top][large]
            # Proposals suppress each other within a level only.
            best = batched_nms(boxes, logits, levels, self.nms_thresh)[: self.post_nms_top_n()]
            kept_boxes.append(boxes[best])
            kept_logits.append(logits[best])
        return kept_boxes, kept_logits

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Label anchors 1 (an instance), 0 (none) or -1 (not sampled), with their boxes."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, target in zip(labels, anchors, targets, strict=True):
            label[mostly_ignored(anchor, target.get("ignore")) & (label == 0)] = -1
        return labels, boxes

    def compute_loss(
        self, objectness: Tensor, offsets: Tensor, labels: list[Tensor], targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Compute the losses of objectness and boxes; 0 where every anchor is ignored."""
        if not any(bool((label >= 0).any()) for label in labels):
            return objectness.sum() * 0, offsets.sum() * 0
        losses = super().compute_loss(objectness, offsets, labels, targets)
        return cast("tuple[Tensor, Tensor]", losses)


_CHUNK = 1 << 14
"""Boxes compared with those of the prior at once, which bounds the memory of the comparison."""


def raised(boxes: Tensor, size: tuple[int, int], prior: Prior) -> Tensor:
    """Compute what a prior adds to the logits of boxes (n, 4) in an image of `size` (y, x)."""
    near, scores = boxes.new_tensor(prior.boxes), boxes.new_tensor(prior.scores)
    parts = clip_boxes_to_image(boxes, size).split(_CHUNK)
    best = [(box_iou(part, near) * scores).amax(dim=1) for part in parts]
    return torch.cat(best) * prior.weight


_LEAST_SIDE = 1e-2
"""Of a detection in pixels, as torchvision has it."""
_MASKS_AT_ONCE = 32
"""More of them take memory, and no less time."""
EVEN_EMPTY = -1.0
"""`RegionHeads.least_side` that keeps boxes without an area, as detectron2 does."""
NOT_EMPTY = 1e-30
"""`ProposalNetwork.min_size` that drops proposals without an area only, as detectron2 does."""


@dataclass(frozen=True)
class Limits:
    """Least score and most detections of an image."""

    floor: float = 0.0
    count: int = 100


@dataclass(frozen=True)
class _Samples:
    """Sampled regions of a batch, a tensor per image."""

    regions: list[Tensor]
    matched: list[Tensor]
    labels: list[Tensor]
    offsets: list[Tensor]


class RegionHeads(RoIHeads):  # type: ignore[misc]  # torchvision is untyped
    """Box and mask branch; regions and mask pixels in a target's ``ignore`` area do not count.

    Attributes
    ----------
    least_side
        Boxes with a shorter side are no detections.
    left_out
        Numbers (from 0, without the background) of classes that are never detected; their share
        of the probability stays theirs.
    """

    least_side = _LEAST_SIDE
    left_out: tuple[int, ...] = ()

    def losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        sizes: Sizes,
        targets: list[Target],
        drawing: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the losses of classification, boxes and masks.

        Parameters
        ----------
        features
            Pyramid levels (N, C, H, W) by name.
        proposals
            (n, 4) boxes x0, y0, x1, y1 per image.
        targets
            Per image ``boxes`` (k, 4), ``labels`` (k,) from 1, ``masks`` (k, H, W) and, where an
            area does not count, ``ignore`` (H, W) bool.
        drawing
            Levels that masks are drawn from; None: `features`.
        """
        samples = self._sample(proposals, targets)
        pooled = self.box_head(self.box_roi_pool(features, samples.regions, sizes))
        logits, deltas = self.box_predictor(pooled)
        if len(logits):
            box_losses = fastrcnn_loss(logits, deltas, samples.labels, samples.offsets)
        else:
            box_losses = logits.sum() * 0, deltas.sum() * 0
        return {
            "loss_classifier": box_losses[0],
            "loss_box_reg": box_losses[1],
            "loss_mask": self._mask_loss(drawing or features, samples, sizes, targets),
        }

    def find(
        self,
        features: dict[str, Tensor],
        proposals: Tensor,
        size: tuple[int, int],
        limits: Limits,
    ) -> Target:
        """Find instances in one image of `size` (y, x).

        Returns
        -------
        dict with boxes (n, 4), scores (n,) falling and labels (n,) from 1
        """
        pooled = self.box_head(self.box_roi_pool(features, [proposals], [size]))
        logits, deltas = self.box_predictor(pooled)
        scores = logits.softmax(-1)[:, 1:]
        if self.left_out:
            gone = torch.tensor(self.left_out, device=scores.device)
            scores = scores.index_fill(1, gone, 0.0)
        # Each proposal is one candidate per class; they suppress each other within a class.
        labels = torch.arange(1, scores.shape[1] + 1, device=scores.device).expand_as(scores)
        boxes = self.box_coder.decode(deltas, [proposals])[:, 1:].reshape(-1, 4)
        boxes = clip_boxes_to_image(boxes, size)
        scores, labels = scores.reshape(-1), labels.reshape(-1)
        sides = boxes[:, 2:] - boxes[:, :2]
        kept = torch.where((scores > limits.floor) & (sides > self.least_side).all(1))[0]
        best = batched_nms(boxes[kept], scores[kept], labels[kept], self.nms_thresh)
        kept = kept[best[: limits.count]]
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}

    def draw(
        self, drawing: dict[str, Tensor], boxes: Tensor, labels: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Draw the masks of boxes (n, 4) of classes `labels` (n,) in one image of `size` (y, x).

        Returns
        -------
        (n, M, M) probabilities inside the boxes
        """
        masks = self._mask_logits(drawing, [boxes], [size]).sigmoid()
        return masks[torch.arange(len(masks), device=masks.device), labels]

    def logits(
        self,
        features: dict[str, Tensor],
        drawing: dict[str, Tensor],
        boxes: Tensor,
        labels: Tensor,
        size: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """Return logits of classes (n, K + 1) and of masks (n, M, M) of boxes (n, 4) of an image.

        The boxes are taken as they are: no proposals, no offsets, no suppression.
        """
        scores, _ = self.box_predictor(self.box_head(self.box_roi_pool(features, [boxes], [size])))
        masks = self._mask_logits(drawing, [boxes], [size])
        return scores, masks[torch.arange(len(masks), device=masks.device), labels]

    def _mask_logits(
        self, features: dict[str, Tensor], boxes: list[Tensor], sizes: Sizes
    ) -> Tensor:
        pooled = self.mask_roi_pool(features, boxes, sizes)
        count = len(pooled) if torch.is_grad_enabled() else _MASKS_AT_ONCE
        parts = [self.mask_predictor(self.mask_head(p)) for p in pooled.split(max(count, 1))]
        return torch.cat(parts)

    def _sample(self, proposals: list[Tensor], targets: list[Target]) -> _Samples:
        """Choose regions to learn from, instances themselves included."""
        true_boxes = [t["boxes"] for t in targets]
        regions = self.add_gt_proposals(proposals, true_boxes)
        matched, labels = self.assign_targets_to_proposals(
            regions, true_boxes, [t["labels"] for t in targets]
        )
        for label, region, target in zip(labels, regions, targets, strict=True):
            label[mostly_ignored(region, target.get("ignore")) & (label == 0)] = -1
        chosen = self.subsample(labels)
        regions, matched, labels = (
            [values[index] for values, index in zip(group, chosen, strict=True)]
            for group in (regions, matched, labels)
        )
        boxes = [
            b[m] if len(b) else b.new_zeros(len(m), 4)
            for b, m in zip(true_boxes, matched, strict=True)
        ]
        return _Samples(regions, matched, labels, list(self.box_coder.encode(boxes, regions)))

    def _mask_loss(
        self, features: dict[str, Tensor], samples: _Samples, sizes: Sizes, targets: list[Target]
    ) -> Tensor:
        """Compute the mean loss of the mask pixels of sampled instances outside ignored areas."""
        kept = [torch.where(label > 0)[0] for label in samples.labels]
        boxes = [r[k] for r, k in zip(samples.regions, kept, strict=True)]
        logits = self._mask_logits(features, boxes, sizes)
        if not len(logits):
            return logits.sum() * 0
        matched = [m[k] for m, k in zip(samples.matched, kept, strict=True)]
        labels = torch.cat([v[k] for v, k in zip(samples.labels, kept, strict=True)])
        edge = logits.shape[-1]
        true_masks, weights = [], []
        for target, box, index in zip(targets, boxes, matched, strict=True):
            true_masks.append(project_masks_on_boxes(target["masks"], box, index, edge))
            weights.append(_counted(target.get("ignore"), box, edge))
        weight = torch.cat(weights)
        chosen = logits[torch.arange(len(labels), device=labels.device), labels]
        loss = F.binary_cross_entropy_with_logits(
            chosen, torch.cat(true_masks), weight, reduction="sum"
        )
        return loss / weight.sum().clamp(min=1)


def _counted(ignore: Tensor | None, boxes: Tensor, edge: int) -> Tensor:
    """Return 1 where a mask pixel of a box counts and 0 in the ignored area: (n, edge, edge)."""
    if ignore is None or not bool(ignore.any()):
        return boxes.new_ones(len(boxes), edge, edge)
    first = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    inside: Tensor = project_masks_on_boxes(ignore[None].to(boxes), boxes, first, edge)
    return (inside < 0.5).to(boxes)


class LightProposalHead(nn.Module):
    """Proposal head with a depthwise and a pointwise convolution instead of a full 3 x 3 one.

    On two CPU cores the full one takes a quarter of a training step at stride 4.
    """

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.Conv2d(channels, channels, 1),
            nn.ReLU(inplace=True),
        )
        self.cls_logits = nn.Conv2d(channels, anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, anchors * 4, 1)
        for layer in (self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(cast("Tensor", layer.bias))

    def forward(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Compute objectness and box offsets of each anchor on each level."""
        hidden = [self.conv(level) for level in levels]
        return [self.cls_logits(h) for h in hidden], [self.bbox_pred(h) for h in hidden]
