"""Proposal network and region heads of torchvision, taught to leave ignored areas alone."""

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

from napari_fossiledit.models.network.ignore import mostly_ignored
from napari_fossiledit.models.network.prior import Prior

Target = dict[str, Tensor]
Sizes = list[tuple[int, int]]


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
        logits = objectness.detach().reshape(len(proposals), -1)
        levels = torch.cat([logits.new_full((n,), i) for i, n in enumerate(counts)])
        ranked = zip(proposals, logits, self._get_top_n_idx(logits, counts), sizes, strict=True)
        kept = [self._kept(b[top], v[top], levels[top], size) for b, v, top, size in ranked]
        return [boxes for boxes, _ in kept], [values for _, values in kept]

    def _kept(
        self, boxes: Tensor, logits: Tensor, levels: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Drop what is empty or overlaps a better proposal of the same level."""
        boxes = clip_boxes_to_image(boxes, size)
        large = remove_small_boxes(boxes, self.min_size)
        boxes, logits, levels = boxes[large], logits[large], levels[large]
        best = batched_nms(boxes, logits, levels, self.nms_thresh)[: self.post_nms_top_n()]
        return boxes[best], logits[best]

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Label anchors 1 (an instance), 0 (none) or -1 (not sampled), with their boxes."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, target in zip(labels, anchors, targets, strict=True):
            label[mostly_ignored(anchor, target.get("ignore")) & (label == 0)] = -1
        return labels, boxes

    def compute_loss(
        self, objectness: Tensor, offsets: Tensor, labels: list[Tensor], wanted: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Compute the losses of objectness and boxes; 0 where every anchor is ignored."""
        if not any(bool((label >= 0).any()) for label in labels):
            return objectness.sum() * 0, offsets.sum() * 0
        found = super().compute_loss(objectness, offsets, labels, wanted)
        return cast("tuple[Tensor, Tensor]", found)


_CHUNK = 1 << 14


def raised(boxes: Tensor, size: tuple[int, int], prior: Prior) -> Tensor:
    """Compute what a prior adds to the logits of boxes (n, 4) in an image of `size` (y, x)."""
    near, scores = boxes.new_tensor(prior.boxes), boxes.new_tensor(prior.scores)
    parts = clip_boxes_to_image(boxes, size).split(_CHUNK)
    best = [(box_iou(part, near) * scores).amax(dim=1) for part in parts]
    return torch.cat(best) * prior.weight


_LEAST_SIDE = 1e-2
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

    def positive(self) -> list[Tensor]:
        return [torch.where(label > 0)[0] for label in self.labels]


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
        classified, boxed = _box_losses(logits, deltas, samples)
        return {
            "loss_classifier": classified,
            "loss_box_reg": boxed,
            "loss_mask": self._mask_loss(drawing or features, samples, sizes, targets),
        }

    def detect(
        self,
        features: dict[str, Tensor],
        proposals: Tensor,
        size: tuple[int, int],
        limits: Limits,
        drawing: dict[str, Tensor] | None = None,
    ) -> Target:
        """Find instances in one image of `size` (y, x).

        Parameters
        ----------
        drawing
            Levels that masks are drawn from; None: `features`.

        Returns
        -------
        dict with boxes (n, 4), scores (n,) falling, labels (n,) from 1 and masks (n, M, M):
        probabilities inside the boxes
        """
        pooled = self.box_head(self.box_roi_pool(features, [proposals], [size]))
        logits, deltas = self.box_predictor(pooled)
        boxes = self.box_coder.decode(deltas, [proposals])[:, 1:]
        found = self._best(boxes, self._wanted(logits.softmax(-1)[:, 1:]), size, limits)
        masks = self._mask_logits(drawing or features, [found["boxes"]], [size]).sigmoid()
        rows = torch.arange(len(masks), device=masks.device)
        return {**found, "masks": masks[rows, found["labels"]]}

    def _wanted(self, scores: Tensor) -> Tensor:
        """Scores (n, classes) with 0 for the classes that are left out."""
        if not self.left_out:
            return scores
        return scores.index_fill(1, torch.tensor(self.left_out, device=scores.device), 0.0)

    def _best(self, boxes: Tensor, scores: Tensor, size: tuple[int, int], limits: Limits) -> Target:
        """Keep the best boxes (n, classes, 4) that do not overlap others of their class."""
        boxes = clip_boxes_to_image(boxes.reshape(-1, 4), size)
        labels = torch.arange(1, scores.shape[1] + 1, device=scores.device).expand_as(scores)
        flat, labels = scores.reshape(-1), labels.reshape(-1)
        sides = boxes[:, 2:] - boxes[:, :2]
        kept = torch.where((flat > limits.floor) & (sides > self.least_side).all(1))[0]
        best = batched_nms(boxes[kept], flat[kept], labels[kept], self.nms_thresh)
        kept = kept[best[: limits.count]]
        return {"boxes": boxes[kept], "scores": flat[kept], "labels": labels[kept]}

    def _mask_logits(
        self, features: dict[str, Tensor], boxes: list[Tensor], sizes: Sizes
    ) -> Tensor:
        pooled = self.mask_roi_pool(features, boxes, sizes)
        count = len(pooled) if torch.is_grad_enabled() else _MASKS_AT_ONCE
        parts = [self.mask_predictor(self.mask_head(p)) for p in pooled.split(max(count, 1))]
        return torch.cat(parts)

    def _sample(self, proposals: list[Tensor], targets: list[Target]) -> _Samples:
        """Choose regions to learn from, instances themselves included."""
        truth = [t["boxes"] for t in targets]
        regions = self.add_gt_proposals(proposals, truth)
        matched, labels = self.assign_targets_to_proposals(
            regions, truth, [t["labels"] for t in targets]
        )
        for label, region, target in zip(labels, regions, targets, strict=True):
            label[mostly_ignored(region, target.get("ignore")) & (label == 0)] = -1
        chosen = self.subsample(labels)
        regions, matched, labels = (
            [values[index] for values, index in zip(group, chosen, strict=True)]
            for group in (regions, matched, labels)
        )
        boxes = [_matched_boxes(t, m) for t, m in zip(truth, matched, strict=True)]
        return _Samples(regions, matched, labels, list(self.box_coder.encode(boxes, regions)))

    def _mask_loss(
        self, features: dict[str, Tensor], samples: _Samples, sizes: Sizes, targets: list[Target]
    ) -> Tensor:
        kept = samples.positive()
        boxes = [r[k] for r, k in zip(samples.regions, kept, strict=True)]
        logits = self._mask_logits(features, boxes, sizes)
        if not len(logits):
            return logits.sum() * 0
        matched = [m[k] for m, k in zip(samples.matched, kept, strict=True)]
        labels = torch.cat([v[k] for v, k in zip(samples.labels, kept, strict=True)])
        truth, weight = _mask_targets(targets, boxes, matched, logits.shape[-1])
        chosen = logits[torch.arange(len(labels), device=labels.device), labels]
        loss = F.binary_cross_entropy_with_logits(chosen, truth, weight, reduction="sum")
        return loss / weight.sum().clamp(min=1)


def _box_losses(logits: Tensor, deltas: Tensor, samples: _Samples) -> tuple[Tensor, Tensor]:
    """Losses of classification and boxes; 0 where no region was sampled."""
    if not len(logits):
        return logits.sum() * 0, deltas.sum() * 0
    found = fastrcnn_loss(logits, deltas, samples.labels, samples.offsets)
    return cast("tuple[Tensor, Tensor]", found)


def _matched_boxes(boxes: Tensor, matched: Tensor) -> Tensor:
    return boxes[matched] if len(boxes) else boxes.new_zeros(len(matched), 4)


def _mask_targets(
    targets: list[Target], boxes: list[Tensor], matched: list[Tensor], edge: int
) -> tuple[Tensor, Tensor]:
    """Truth and weight (n, edge, edge) of the mask branch inside the boxes."""
    truth, weight = [], []
    for target, box, index in zip(targets, boxes, matched, strict=True):
        truth.append(project_masks_on_boxes(target["masks"], box, index, edge))
        weight.append(_counted(target.get("ignore"), box, edge))
    return torch.cat(truth), torch.cat(weight)


def _counted(ignore: Tensor | None, boxes: Tensor, edge: int) -> Tensor:
    """1 where a mask pixel counts and 0 in the ignored area."""
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
        """Objectness and box offsets of each anchor on each level."""
        hidden = [self.conv(level) for level in levels]
        return [self.cls_logits(h) for h in hidden], [self.bbox_pred(h) for h in hidden]
