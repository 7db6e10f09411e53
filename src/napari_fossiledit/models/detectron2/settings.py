"""From detectron2's configuration to our records of a network and of its input, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.detectron2.config import DEFAULTS, REQUIRED, X101, Config
from napari_fossiledit.models.detectron2.layers import Layers
from napari_fossiledit.models.detectron2.unreadable import in_short
from napari_fossiledit.models.inference.preprocessing import Preprocessing, Resize
from napari_fossiledit.models.network.spec import NetworkSpec
from napari_fossiledit.params.segment import Architecture

_LEVELS = 5
_DEPTHS = {Architecture.R50: 50, Architecture.R101: 101, Architecture.X101: 101}
_ALIGNED = {"ROIAlignV2": True, "ROIAlign": False}


def check_agreement(config: Config, layers: Layers, where: str, weights: str) -> None:
    """Raise `FossilError` where a configuration describes another network than the weights are."""
    wide = layers.architecture is Architecture.X101
    found = {
        "MODEL.RESNETS.DEPTH": _DEPTHS[layers.architecture],
        "MODEL.RESNETS.NUM_GROUPS": 32 if wide else 1,
        "MODEL.RESNETS.WIDTH_PER_GROUP": 8 if wide else 64,
        "MODEL.ROI_HEADS.NUM_CLASSES": layers.classes,
        "MODEL.ROI_BOX_HEAD.FC_DIM": layers.box_width,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": layers.mask_channels,
    }
    wrong = [key for key, value in found.items() if config[key] != value]
    if wrong:
        raise FossilError(
            f"{where} does not belong to {weights}",
            expected=", ".join(f"{key} = {found[key]}" for key in wrong) + " as the weights are",
            found=", ".join(f"{key} = {in_short(config[key])}" for key in wrong),
            advice="Choose the configuration the model was trained with.",
        )


def spec_of(config: Config, layers: Layers, classes: tuple[str, ...], where: str) -> NetworkSpec:
    """Tell our network for weights and their configuration.

    Raises
    ------
    FossilError
        Where a value is missing, of the wrong kind, or asks for what cannot be run here.
    """
    with _explained(where):
        return NetworkSpec(
            architecture=layers.architecture,
            classes=classes,
            box_width=layers.box_width,
            mask_channels=layers.mask_channels,
            anchor_sizes=_anchor_sizes(config["MODEL.ANCHOR_GENERATOR.SIZES"]),
            anchor_ratios=_anchor_ratios(config["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"], layers),
            exact_anchors=True,
            aligned_roi=_ALIGNED[_both(config, "POOLER_TYPE")],
            roi_samples=int(_both(config, "POOLER_SAMPLING_RATIO")),
            stride_in_1x1=bool(config["MODEL.RESNETS.STRIDE_IN_1X1"]),
            frozen_stages=int(config["MODEL.BACKBONE.FREEZE_AT"]),
            proposals_train=_proposals(config, "TRAIN"),
            proposals_predict=_proposals(config, "TEST"),
            proposal_overlap=float(config["MODEL.RPN.NMS_THRESH"]),
            detection_overlap=float(config["MODEL.ROI_HEADS.NMS_THRESH_TEST"]),
            proposal_samples=int(config["MODEL.RPN.BATCH_SIZE_PER_IMAGE"]),
            roi_batch=int(config["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"]),
        )


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn a value of the wrong kind into a `FossilError` that names the configuration."""
    try:
        yield
    except (LookupError, OverflowError, TypeError, ValueError) as error:
        raise FossilError(
            f"{where} holds a value that cannot be used",
            expected="the values of a Mask R-CNN with a feature pyramid",
            found=in_short(error),
        ) from error


def _both(config: Config, name: str) -> Any:
    """Return a value that is the same for boxes and masks."""
    box, mask = (config[f"MODEL.ROI_{head}_HEAD.{name}"] for head in ("BOX", "MASK"))
    if box != mask:
        raise ValueError(f"{name} is {box} for boxes and {mask} for masks")
    return box


def _anchor_sizes(sizes: Any) -> tuple[int, ...]:
    """One size for each level of the pyramid."""
    if len(sizes) != _LEVELS or any(len(s) != 1 for s in sizes):
        raise ValueError(f"ANCHOR_GENERATOR.SIZES is {sizes}, not one for each of {_LEVELS} levels")
    return tuple(int(s[0]) for s in sizes)


def _anchor_ratios(ratios: Any, layers: Layers) -> tuple[float, ...]:
    """Ratios that are the same on each level."""
    first = tuple(float(r) for r in ratios[0])
    if any(tuple(r) != first for r in ratios) or len(first) != layers.ratios:
        raise ValueError(
            f"ANCHOR_GENERATOR.ASPECT_RATIOS is {ratios}, not"
            f" {layers.ratios} that hold for all levels"
        )
    return first


def _proposals(config: Config, when: str) -> tuple[int, int]:
    before, after = (int(config[f"MODEL.RPN.{k}_NMS_TOPK_{when}"]) for k in ("PRE", "POST"))
    return before, after


def preprocessing_of(config: Config, where: str) -> Preprocessing:
    """Tell what images a model of detectron2 expects.

    Raises
    ------
    FossilError
        Where the colours are neither RGB nor BGR, or a value is of the wrong kind.
    """
    with _explained(where):
        return Preprocessing(
            bgr={"BGR": True, "RGB": False}[config["INPUT.FORMAT"]],
            mean=tuple(config["MODEL.PIXEL_MEAN"]),
            std=tuple(config["MODEL.PIXEL_STD"]),
            resize=Resize.SHORT_EDGE,
            short_edge=int(config["INPUT.MIN_SIZE_TEST"]),
            long_edge=int(config["INPUT.MAX_SIZE_TEST"]),
        )


def cut_of(config: Config, where: str) -> tuple[float, int]:
    """Tell the score and the number of detections at which detectron2 cuts.

    Raises
    ------
    FossilError
        Where a value is of the wrong kind.
    """
    with _explained(where):
        score = float(config["MODEL.ROI_HEADS.SCORE_THRESH_TEST"])
        return score, int(config["TEST.DETECTIONS_PER_IMAGE"])


def config_of(spec: NetworkSpec, preprocessing: Preprocessing) -> Config:
    """Write down a network and its input as detectron2 does; the inverse of the two above."""
    wide = spec.architecture is Architecture.X101
    pooler = "ROIAlignV2" if spec.aligned_roi else "ROIAlign"
    own = preprocessing.resize is Resize.SHORT_EDGE
    return {
        **REQUIRED,
        **DEFAULTS,
        **(X101 if wide else {}),
        "INPUT.FORMAT": "BGR" if preprocessing.bgr else "RGB",
        "INPUT.MIN_SIZE_TEST": preprocessing.short_edge if own else 0,
        "INPUT.MAX_SIZE_TEST": preprocessing.long_edge,
        "MODEL.PIXEL_MEAN": list(preprocessing.mean),
        "MODEL.PIXEL_STD": list(preprocessing.std),
        "MODEL.BACKBONE.FREEZE_AT": spec.frozen_stages,
        "MODEL.RESNETS.DEPTH": _DEPTHS[spec.architecture],
        "MODEL.RESNETS.STRIDE_IN_1X1": spec.stride_in_1x1,
        "MODEL.ANCHOR_GENERATOR.SIZES": [[s] for s in spec.anchor_sizes],
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [list(spec.anchor_ratios)],
        "MODEL.RPN.BATCH_SIZE_PER_IMAGE": spec.proposal_samples,
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN": spec.proposals_train[0],
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": spec.proposals_train[1],
        "MODEL.RPN.PRE_NMS_TOPK_TEST": spec.proposals_predict[0],
        "MODEL.RPN.POST_NMS_TOPK_TEST": spec.proposals_predict[1],
        "MODEL.RPN.NMS_THRESH": spec.proposal_overlap,
        "MODEL.ROI_HEADS.NUM_CLASSES": len(spec.classes),
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": spec.roi_batch,
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": spec.detection_overlap,
        "MODEL.ROI_BOX_HEAD.FC_DIM": spec.box_width,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": spec.mask_channels,
        **{f"MODEL.ROI_{h}_HEAD.POOLER_TYPE": pooler for h in ("BOX", "MASK")},
        **{f"MODEL.ROI_{h}_HEAD.POOLER_SAMPLING_RATIO": spec.roi_samples for h in ("BOX", "MASK")},
    }
