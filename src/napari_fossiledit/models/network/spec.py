"""The choices a network is built from: the record from which the very same one is built again."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from napari_fossiledit.params.segment import Architecture, FirstLayer

LEFT_OUT = "-"
"""Name of a class that the network computes but that is never detected."""


class NetworkSpec(BaseModel):
    """All choices of a Mask R-CNN that its weights depend on.

    Two-stage detector with a mask branch after He et al. 2017 (Mask R-CNN) on a feature pyramid
    after Lin et al. 2017. The fields are stored in ``model.json``; a checkpoint of another program
    needs other values, never other code.

    Attributes
    ----------
    classes
        In the order of the network's outputs, without the background; several may be `LEFT_OUT`.
    anchor_sizes
        Edge of the square anchor of each pyramid level in network pixels, finest first.
    exact_anchors
        Boxes to detectron2's conventions: anchors are neither rounded nor stretched as
        torchvision's are, no box is left out for being small, masks are pasted at fractions of a
        pixel.
    aligned_roi
        RoIAlign shifted by half a pixel (detectron2); torchvision's is not.
    roi_samples
        Sampling points per RoIAlign bin and axis; 0: as many as the region has pixels.
    stride_in_1x1
        ResNet blocks stride in their first 1 x 1 convolution (the original MSRA models) instead
        of their 3 x 3 one.
    frozen_stages
        First stages of the backbone that training leaves alone (the stem counts as one).
    proposals_train, proposals_predict
        Proposals kept before and after their suppression, per level and image.
    mask_levels
        Pyramid levels that masks are drawn from otherwise than instances are found from: an edit of
        the masks alone adds a convolution there (`MaskRcnn.mask_outputs`).
    proposal_convolutions, box_convolutions
        3 x 3 convolutions before the outputs of the proposal network, and before the layers of the
        box head: of these there is one where it has convolutions, and there are two elsewhere.
    inputs
        Channels of an image: 3, or those of a window of slices.
    first_layer
        How the first convolution began. A symmetric one treats the slices before and after alike,
        and keeps to that when it learns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Architecture
    classes: tuple[str, ...] = Field(min_length=1)
    channels: int = 256
    box_width: int = 1024
    mask_channels: int = 256
    light_proposals: bool = False
    anchor_sizes: tuple[int, ...] = (32, 64, 128, 256, 512)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    exact_anchors: bool = False
    aligned_roi: bool = False
    roi_samples: int = 2
    stride_in_1x1: bool = False
    frozen_stages: int = 2
    proposals_train: tuple[int, int] = (2000, 2000)
    proposals_predict: tuple[int, int] = (1000, 1000)
    proposal_overlap: float = 0.7
    detection_overlap: float = 0.5
    proposal_samples: int = 256
    roi_batch: int = 512
    mask_levels: tuple[int, ...] = ()
    proposal_convolutions: int = 1
    box_convolutions: int = 0
    inputs: int = Field(3, ge=1)
    first_layer: FirstLayer = FirstLayer.PRETRAINED

    def hashed_json(self) -> str:
        """Return all choices as the JSON that the hash of a model is taken of."""
        # A field that came later is left out where it says what always held, so that older models
        # keep their hash, under which their predictions are stored.
        later = {"mask_levels", "proposal_convolutions", "box_convolutions"}
        later |= {"inputs", "first_layer"}
        fields = type(self).model_fields
        return self.model_dump_json(
            exclude={name for name in later if getattr(self, name) == fields[name].default}
        )


def default_spec(architecture: Architecture | str, classes: tuple[str, ...]) -> NetworkSpec:
    """Return the usual network of an architecture; `lite` is cut to what two CPU cores train."""
    kind = Architecture(architecture)
    if kind is not Architecture.LITE:
        return NetworkSpec(architecture=kind, classes=classes)
    return NetworkSpec(
        architecture=kind,
        classes=classes,
        channels=128,
        box_width=384,
        mask_channels=128,
        light_proposals=True,
        anchor_sizes=(16, 32, 64, 128, 256),
        aligned_roi=True,
        proposals_train=(600, 300),
        proposals_predict=(600, 400),
        roi_batch=64,
    )
