"""Mask R-CNN put together from torchvision's parts after a `NetworkSpec`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead

from napari_fossiledit.models.network.backbones import (
    LEVELS,
    Backbone,
    build_backbone,
    lay_out,
    pyramid_outputs,
)
from napari_fossiledit.models.network.heads import (
    EVEN_EMPTY,
    NOT_EMPTY,
    LightProposalHead,
    Limits,
    ProposalNetwork,
    RegionHeads,
    Target,
)
from napari_fossiledit.models.network.pooling import PyramidRoIAlign
from napari_fossiledit.models.network.prior import Prior
from napari_fossiledit.models.network.quick import quicken
from napari_fossiledit.models.network.spec import LEFT_OUT, NetworkSpec

STRIDE = 32
"""Of the coarsest convolution: edges of images are padded to multiples of it."""
MASK_OUTPUTS = "mask_outputs."
"""Before the level in the names of the layers that the masks alone see."""


@contextmanager
def record_activations(layers: Sequence[nn.Module]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect input and output of `layers`, in the order they run, inside a ``with`` block.

    The hooks are gone when the block is left, by an error too.
    """
    recorded: list[tuple[Tensor, Tensor]] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        recorded.append((inputs[0], output))

    with ExitStack() as hooks:
        for layer in layers:
            hooks.callback(layer.register_forward_hook(keep).remove)
        yield recorded


class Maps(NamedTuple):
    """Pyramid levels (N, C, H, W) by name.

    Attributes
    ----------
    finding
        What proposals, classes and boxes come from.
    drawing
        What masks come from; the same unless the masks alone were edited.
    """

    finding: dict[str, Tensor]
    drawing: dict[str, Tensor]

    def one(self, image: int) -> Maps:
        """Return the maps of one image of a batch, with a first axis of length 1."""
        return Maps(*({name: m[image : image + 1] for name, m in maps.items()} for maps in self))


class Network(nn.Module):
    """A Mask R-CNN as a segmenter runs it, whatever library computes it.

    Its weights (``state_dict``) go by the names of `MaskRcnn`.

    Attributes
    ----------
    backbone
        Images (1, C, H, W) in, C usually 3, maps of the pyramid out.
    notes
        What is computed differently than by `MaskRcnn`, in sentences for the user.
    draws_apart
        Whether masks may be drawn from maps of their own, so that an edit can change them alone.
    """

    spec: NetworkSpec
    backbone: nn.Module
    notes: tuple[str, ...] = ()
    draws_apart = False

    def sharing(self) -> Self:
        """Return a copy whose layers may be exchanged; all weights are the very same tensors."""
        # deepcopy takes what its memo holds for copied already.
        shared: dict[int, Any] = {id(t): t for t in (*self.parameters(), *self.buffers())}
        return copy.deepcopy(self, memo=shared)

    @property
    def outputs(self) -> dict[str, nn.Conv2d]:
        """The four 3 x 3 output convolutions of the pyramid by name, finest first."""
        raise NotImplementedError

    @property
    def editable(self) -> dict[str, nn.Conv2d]:
        """All convolutions that an edit may add to, by name."""
        return self.outputs

    def maps(self, images: Tensor) -> Maps:
        """Run the backbone on images (N, C, H, W)."""
        levels = self.backbone(images)
        return Maps(levels, levels)

    def add_mask_output(self, level: int) -> None:
        """Let masks be drawn from a level of their own, at first the same as before."""
        raise NotImplementedError

    def find(
        self,
        image: Tensor,
        maps: Maps,
        size: tuple[int, int],
        limits: Limits,
        prior: Prior | None = None,
    ) -> Target:
        """Find instances in one image (1, C, H, W) with its maps, whose true size is `size` (y, x).

        See `RegionHeads.find`, and `ProposalNetwork.propose` for the prior.
        """
        raise NotImplementedError

    def draw(self, maps: Maps, boxes: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
        """Draw masks inside boxes of one image, whoever found them; see `RegionHeads.draw`."""
        raise NotImplementedError

    def logits(
        self, maps: Maps, boxes: Tensor, labels: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return logits of classes (n, K + 1) and of masks (n, M, M) of boxes of one image."""
        raise NotImplementedError


class MaskRcnn(Network):
    """Mask R-CNN of torchvision's parts; computes losses or detections of images.

    Images are normalised (N, C, H, W) with H and W multiples of 32, all of one true size
    (y, x) that may be smaller (padding lies at the foot and at the right).

    Attributes
    ----------
    mask_outputs
        By pyramid level ("0" the finest): 3 x 3 convolutions of the keys whose output is added to
        the map that masks are drawn from, and to no other. Usually there is none.
    """

    backbone: Backbone
    draws_apart = True

    def __init__(self, spec: NetworkSpec, *, pretrained: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = build_backbone(spec, pretrained=pretrained)
        lay_out(self.backbone)
        self.rpn = _proposal_network(spec)
        self.roi_heads = _region_heads(spec)
        quicken(self)
        self.mask_outputs = nn.ModuleDict()
        for level in spec.mask_levels:
            self.mask_outputs[str(level)] = _difference(spec.channels)
        # torchvision's heads begin far from zero; detectron2's, with which models are compared,
        # begin with these spreads.
        predictor = self.roi_heads.box_predictor
        for layer, spread in (
            (predictor.cls_score, 0.01),
            (predictor.bbox_pred, 0.001),
            (self.roi_heads.mask_predictor.mask_fcn_logits, 0.001),
        ):
            nn.init.normal_(layer.weight, std=spread)
            nn.init.zeros_(layer.bias)

    @property
    def outputs(self) -> dict[str, nn.Conv2d]:
        """The four 3 x 3 output convolutions of the pyramid by name, finest first."""
        names = {id(module): name for name, module in self.named_modules()}
        return {names[id(layer)]: layer for layer in pyramid_outputs(self.backbone)}

    @property
    def editable(self) -> dict[str, nn.Conv2d]:
        """All convolutions that an edit may add to, by name."""
        apart = {f"{MASK_OUTPUTS}{n}": layer for n, layer in self.mask_outputs.items()}
        return {**self.outputs, **cast("dict[str, nn.Conv2d]", apart)}

    def losses(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Compute all losses of a batch; the network must be in training mode."""
        sizes = [(images.shape[-2], images.shape[-1])] * len(images)
        maps = self.maps(images)
        proposals, losses = self.rpn(ImageList(images, sizes), maps.finding, targets)
        heads = self.roi_heads.losses(maps.finding, proposals, sizes, targets, maps.drawing)
        return {**losses, **heads}

    def find(
        self,
        image: Tensor,
        maps: Maps,
        size: tuple[int, int],
        limits: Limits,
        prior: Prior | None = None,
    ) -> Target:
        """See `Network.find`."""
        proposals = self.rpn.propose(ImageList(image, [size]), maps.finding, prior)
        return self.roi_heads.find(maps.finding, proposals, size, limits)

    def draw(self, maps: Maps, boxes: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
        """See `Network.draw`."""
        return self.roi_heads.draw(maps.drawing, boxes, labels, size)

    def logits(
        self, maps: Maps, boxes: Tensor, labels: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """See `Network.logits`."""
        return self.roi_heads.logits(maps.finding, maps.drawing, boxes, labels, size)

    def maps(self, images: Tensor) -> Maps:
        """Run the backbone and what an edit of the masks alone has added to it."""
        if not self.mask_outputs:
            return super().maps(images)
        with record_activations(pyramid_outputs(self.backbone)) as recorded:
            finding = self.backbone(images)
        # In which order the layers run is up to torchvision; finer maps are wider.
        keys = sorted((key for key, _ in recorded), key=lambda key: -key.shape[-1])
        drawing = dict(finding)
        for level, change in self.mask_outputs.items():
            name = LEVELS[int(level)]
            drawing[name] = finding[name] + change(keys[int(level)])
        return Maps(finding, drawing)

    def add_mask_output(self, level: int) -> None:
        """Let masks be drawn from a level of their own, at first the same as before."""
        if str(level) in self.mask_outputs:
            return
        levels = tuple(sorted((*self.spec.mask_levels, level)))
        self.spec = self.spec.model_copy(update={"mask_levels": levels})
        added = _difference(self.spec.channels)
        self.mask_outputs[str(level)] = added.to(next(self.parameters()).device)


def _difference(channels: int) -> nn.Conv2d:
    """Build a convolution that adds nothing yet to the output of a pyramid level."""
    made = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    nn.init.zeros_(made.weight)
    return made


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
        """Return anchors (n, 4) around the origin for all sizes and height to width ratios."""
        sizes = torch.as_tensor(scales, dtype=torch.float64, device="cpu")
        root = torch.as_tensor(aspect_ratios, dtype=torch.float64, device="cpu").sqrt()
        width, height = (sizes / root[:, None]).view(-1), (root[:, None] * sizes).view(-1)
        anchors = torch.stack([-width, -height, width, height], dim=1) / 2
        return anchors.to(device=device, dtype=dtype)

    def grid_anchors(
        self, grid_sizes: list[list[int]], strides: list[list[Tensor]]
    ) -> list[Tensor]:
        """Return anchors (n, 4) of each level on the grid of its true stride."""
        true = [[torch.full_like(s, 4 << i) for s in pair] for i, pair in enumerate(strides)]
        return cast("list[Tensor]", super().grid_anchors(grid_sizes, true))


def _proposal_network(spec: NetworkSpec) -> ProposalNetwork:
    kind = ExactAnchors if spec.exact_anchors else AnchorGenerator
    anchors = kind(tuple((s,) for s in spec.anchor_sizes), (spec.anchor_ratios,) * 5)
    head = (
        LightProposalHead
        if spec.light_proposals
        else partial(RPNHead, conv_depth=spec.proposal_convolutions)
    )
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
    # No argument of torchvision's class; it drops proposals below 1e-3 pixels.
    if spec.exact_anchors:
        network.min_size = NOT_EMPTY
    return network


def _box_head(spec: NetworkSpec) -> nn.Module:
    if not spec.box_convolutions:
        return cast("nn.Module", TwoMLPHead(spec.channels * 49, spec.box_width))
    widths = [spec.channels] * spec.box_convolutions
    return cast("nn.Module", FastRCNNConvFCHead((spec.channels, 7, 7), widths, [spec.box_width]))


def _region_heads(spec: NetworkSpec) -> RegionHeads:
    outputs = len(spec.classes) + 1
    mask = spec.mask_channels
    heads = RegionHeads(
        box_roi_pool=PyramidRoIAlign(7, spec.roi_samples, aligned=spec.aligned_roi),
        box_head=_box_head(spec),
        box_predictor=FastRCNNPredictor(spec.box_width, outputs),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=spec.roi_batch,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        # torchvision asks for both limits; `RegionHeads.find` takes them from `Limits` instead.
        score_thresh=0.05,
        nms_thresh=spec.detection_overlap,
        detections_per_img=100,
        mask_roi_pool=PyramidRoIAlign(14, spec.roi_samples, aligned=spec.aligned_roi),
        mask_head=MaskRCNNHeads(spec.channels, [mask] * 4, 1),
        mask_predictor=MaskRCNNPredictor(mask, mask, outputs),
    )
    if spec.exact_anchors:
        heads.least_side = EVEN_EMPTY
    heads.left_out = tuple(n for n, name in enumerate(spec.classes) if name == LEFT_OUT)
    return heads
