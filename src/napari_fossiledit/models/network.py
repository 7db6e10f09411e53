"""Mask R-CNN put together from torchvision's parts after a `NetworkSpec`."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead

from napari_fossiledit.models.backbones import build_backbone, lay_out
from napari_fossiledit.models.heads import (
    EVEN_EMPTY,
    NOT_EMPTY,
    LightProposalHead,
    Limits,
    ProposalNetwork,
    RegionHeads,
    Target,
)
from napari_fossiledit.models.pooling import PyramidRoIAlign
from napari_fossiledit.models.spec import NetworkSpec

STRIDE = 32


class MaskRcnn(nn.Module):
    """Mask R-CNN: images in, losses or detections out.

    Images are normalised (N, 3, H, W) with H and W multiples of 32, all of one true size
    (y, x) that may be smaller (padding lies at the foot and at the right).
    """

    def __init__(self, spec: NetworkSpec, *, pretrained: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = build_backbone(spec, pretrained=pretrained)
        lay_out(self.backbone)
        self.rpn = _proposal_network(spec)
        self.roi_heads = _region_heads(spec)
        _calm(self.roi_heads)

    def losses(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Compute all losses of a batch; the network must be in training mode."""
        sizes = [(images.shape[-2], images.shape[-1])] * len(images)
        features = self.backbone(images)
        proposals, losses = self.rpn(ImageList(images, sizes), features, targets)
        return {**losses, **self.roi_heads.losses(features, proposals, sizes, targets)}

    def detect(self, image: Tensor, size: tuple[int, int], limits: Limits) -> Target:
        """Find instances in one image (1, 3, H, W) whose true size is `size` (y, x).

        See `RegionHeads.detect`.
        """
        features = self.backbone(image)
        proposals, _ = self.rpn(ImageList(image, [size]), features)
        return self.roi_heads.detect(features, proposals[0], size, limits)


class ExactAnchors(AnchorGenerator):  # type: ignore[misc]  # torchvision is untyped
    """Anchors as detectron2 makes them: not rounded, and 64 pixels apart on the last level.

    torchvision divides the image by the size of the map, which gives 61 pixels where a map of 25
    rows was pooled to 13.
    """

    def generate_anchors(
        self,
        scales: list[int],
        aspect_ratios: list[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device = torch.device("cpu"),  # noqa: B008 - torchvision's own signature
    ) -> Tensor:
        """Anchors (n, 4) around the origin for all sizes and height to width ratios."""
        sizes = torch.as_tensor(scales, dtype=torch.float64, device="cpu")
        root = torch.as_tensor(aspect_ratios, dtype=torch.float64, device="cpu").sqrt()
        width, height = (sizes / root[:, None]).view(-1), (root[:, None] * sizes).view(-1)
        anchors = torch.stack([-width, -height, width, height], dim=1) / 2
        return anchors.to(device=device, dtype=dtype)

    def grid_anchors(
        self, grid_sizes: list[list[int]], strides: list[list[Tensor]]
    ) -> list[Tensor]:
        """Anchors (n, 4) of each level on the grid of its true stride."""
        true = [[torch.full_like(s, 4 << i) for s in pair] for i, pair in enumerate(strides)]
        return cast("list[Tensor]", super().grid_anchors(grid_sizes, true))


def _calm(heads: RegionHeads) -> None:
    """Let the heads begin near zero, as detectron2 does; torchvision's masks begin far off."""
    predictor = heads.box_predictor
    for layer, spread in (
        (predictor.cls_score, 0.01),
        (predictor.bbox_pred, 0.001),
        (heads.mask_predictor.mask_fcn_logits, 0.001),
    ):
        nn.init.normal_(layer.weight, std=spread)
        nn.init.zeros_(layer.bias)


def _proposal_network(spec: NetworkSpec) -> ProposalNetwork:
    kind = ExactAnchors if spec.exact_anchors else AnchorGenerator
    anchors = kind(tuple((s,) for s in spec.anchor_sizes), (spec.anchor_ratios,) * 5)
    head = LightProposalHead if spec.light_proposals else RPNHead
    before, after = (
        {"training": t, "testing": p}
        for t, p in zip(spec.proposals_train, spec.proposals_predict, strict=True)
    )
    network = ProposalNetwork(
        anchors,
        head(spec.channels, len(spec.anchor_ratios)),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=spec.proposal_samples,
        positive_fraction=0.5,
        pre_nms_top_n=before,
        post_nms_top_n=after,
        nms_thresh=spec.proposal_overlap,
    )
    if spec.exact_anchors:
        network.min_size = NOT_EMPTY
    return network


def _region_heads(spec: NetworkSpec) -> RegionHeads:
    outputs = len(spec.classes) + 1
    mask = spec.mask_channels
    heads = RegionHeads(
        box_roi_pool=PyramidRoIAlign(7, spec.roi_samples, aligned=spec.aligned_roi),
        box_head=TwoMLPHead(spec.channels * 49, spec.box_width),
        box_predictor=FastRCNNPredictor(spec.box_width, outputs),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=spec.roi_batch,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=0.05,
        nms_thresh=spec.detection_overlap,
        detections_per_img=100,
        mask_roi_pool=PyramidRoIAlign(14, spec.roi_samples, aligned=spec.aligned_roi),
        mask_head=MaskRCNNHeads(spec.channels, [mask] * 4, 1),
        mask_predictor=MaskRCNNPredictor(mask, mask, outputs),
    )
    if spec.exact_anchors:
        heads.least_side = EVEN_EMPTY
    return heads


def parameter_count(network: nn.Module) -> int:
    """Count the numbers in a network, buffers included."""
    return sum(t.numel() for t in cast("dict[str, Tensor]", network.state_dict()).values())
