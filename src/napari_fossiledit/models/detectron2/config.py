"""Read configurations of detectron2, check them, and convert them to our records and back.

Files hold what differs from ``_BASE_`` files or from the program's own defaults, or everything.
Keys are written flat here, as in ``MODEL.RESNETS.DEPTH``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained
from napari_fossiledit.models.detectron2.layers import Layers
from napari_fossiledit.models.detectron2.restricted_pickle import UNREADABLE, in_short, reason
from napari_fossiledit.models.inference.preprocessing import Preprocessing, Resize
from napari_fossiledit.models.network.spec import NetworkSpec
from napari_fossiledit.params.segment import Architecture

Config = dict[str, Any]

# A file that names itself as its base would be read for ever.
_MOST_BASES = 8
_BROKEN: tuple[type[Exception], ...] = (yaml.YAMLError, *UNREADABLE)
# detectron2 writes all its settings in 10 kB and 400 values, five deep.
_MOST_BYTES, _MOST_VALUES, _DEEPEST, _MOST_CHARACTERS = 2**20, 100_000, 32, 1000

DEFAULTS: Config = {
    "INPUT.FORMAT": "BGR",
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
    "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
    "MODEL.BACKBONE.FREEZE_AT": 2,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 64,
    "MODEL.RESNETS.STRIDE_IN_1X1": True,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 256,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.NMS_THRESH": 0.7,
    "MODEL.ROI_HEADS.NUM_CLASSES": 80,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 512,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.5,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 1024,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 256,
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIAlignV2",
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": 0,
    "TEST.DETECTIONS_PER_IMAGE": 100,
}
"""Of the model zoo's ``Base-RCNN-FPN.yaml`` and of detectron2 0.6 itself."""

X101: Config = {
    "MODEL.PIXEL_STD": [57.375, 57.12, 58.395],
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.RESNETS.NUM_GROUPS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.DEPTH": 101,
}
"""Of the model zoo's ResNeXt-101, where it differs."""

REQUIRED: Config = {
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.MASK_ON": True,
    "MODEL.KEYPOINT_ON": False,
    "MODEL.LOAD_PROPOSALS": False,
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.OUT_CHANNELS": 256,
    "MODEL.FPN.NORM": "",
    "MODEL.FPN.FUSE_TYPE": "sum",
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.RESNETS.RES5_DILATION": 1,
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": [False, False, False, False],
    "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": 0,
    "MODEL.ANCHOR_GENERATOR.NAME": "DefaultAnchorGenerator",
    "MODEL.ANCHOR_GENERATOR.OFFSET": 0.0,
    "MODEL.RPN.HEAD_NAME": "StandardRPNHead",
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    "MODEL.RPN.BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
    "MODEL.RPN.CONV_DIMS": [-1],
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_CONV": 0,
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": False,
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_MASK_HEAD.NORM": "",
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": False,
}
"""Values of a Mask R-CNN on a feature pyramid; any other ones make another network."""

# Of releases after 0.6, which has no such keys: not to be written into a file.
_REQUIRED_LATER: Config = {"MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": False}

# Normalisations that predict in the same way.
_ALIKE = {"MODEL.RESNETS.NORM": ("BN", "SyncBN", "nnSyncBN", "naiveSyncBN")}


class _Loader(yaml.SafeLoader):
    """Makes plain values only; tuples, which old files name, become lists."""

    def get_single_node(self) -> yaml.nodes.Node | None:
        node = super().get_single_node()
        if node is not None:
            _expanded(node, {})
        return node


def _expanded(
    node: yaml.nodes.Node, counted: dict[int, tuple[int, int]], depth: int = 0
) -> tuple[int, int]:
    """Count values and levels of a node with all its aliases, and raise at too many.

    An alias costs a file three characters, and a node of aliases to nodes of aliases is huge.
    """
    if isinstance(node, yaml.nodes.ScalarNode) and len(node.value) > _MOST_CHARACTERS:
        raise ValueError(f"a value of more than {_MOST_CHARACTERS} characters")
    if id(node) not in counted and depth <= _DEEPEST:
        below = node.value if isinstance(node, yaml.nodes.SequenceNode) else []
        if isinstance(node, yaml.nodes.MappingNode):
            below = [part for pair in node.value for part in pair]
        parts = [_expanded(part, counted, depth + 1) for part in below]
        levels = 1 + max((levels for _, levels in parts), default=0)
        counted[id(node)] = 1 + sum(count for count, _ in parts), levels
    count, levels = counted.get(id(node), (0, 1))
    if count > _MOST_VALUES or depth + levels > _DEEPEST:
        raise ValueError(f"more than {_MOST_VALUES} values, or more than {_DEEPEST} deep")
    return count, levels


def _sequence(loader: yaml.Loader, node: yaml.nodes.SequenceNode) -> list[Any]:
    return list(loader.construct_sequence(node))


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _sequence)


def read_config(path: Path) -> tuple[Config, tuple[str, ...]]:
    """Read a configuration with its ``_BASE_`` files, flat, without defaults.

    Returns
    -------
    config
        What the files say.
    missing
        ``_BASE_`` files that are not there.

    Raises
    ------
    FossilError
        Where the file is missing or no configuration.
    """
    place, layers = path, list[Config]()
    missing: tuple[str, ...] = ()
    for _ in range(_MOST_BASES):
        values = _parsed(place)
        base = values.pop("_BASE_", None)
        layers.append(values)
        if base is None:
            break
        place = place.parent / str(base)
        with explained(place, "Reading"):
            if not place.is_file():
                missing = (str(base),)
                break
    # The nearest file's values count before those of its bases.
    return {key: value for layer in reversed(layers) for key, value in layer.items()}, missing


def _parsed(path: Path) -> Config:
    """Read one file, flat."""
    with explained(path, "Reading"), path.open("rb") as stream:
        data = stream.read(_MOST_BYTES + 1)
    try:
        if len(data) > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES} bytes")
        content = yaml.load(data, _Loader)
        values = _flat(content) if isinstance(content, dict) else {}
    except _BROKEN as error:
        raise FossilError(
            f"{path} cannot be read",
            expected="a detectron2 configuration (YAML)",
            found=reason(error),
        ) from error
    if isinstance(content, dict) and ({"MODEL", "_BASE_"} & set(content)):
        return values
    raise FossilError(
        f"{path} is no detectron2 configuration",
        expected="a section MODEL",
        found=in_short(", ".join(map(str, content)) if values else type(content).__name__),
    )


def _flat(values: Mapping[str, Any], before: str = "") -> Config:
    out: Config = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            out.update(_flat(value, f"{before}{key}."))
        else:
            out[f"{before}{key}"] = value
    return out


def nested(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat keys in sections, as files have them."""
    out: dict[str, Any] = {}
    for key, value in config.items():
        *sections, name = key.split(".")
        place = out
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return out


def check_config(config: Config, where: str) -> None:
    """Raise `FossilError` where a configuration asks for another network than Mask R-CNN FPN."""
    required = {**REQUIRED, **_REQUIRED_LATER}
    wrong = {
        key: config[key]
        for key, value in required.items()
        if key in config
        and not _same(config[key], value)
        and config[key] not in _ALIKE.get(key, ())
    }
    if wrong:
        raise FossilError(
            f"{where} describes a network that cannot be run here",
            expected=", ".join(f"{k} = {required[k]!r}" for k in wrong),
            found=", ".join(f"{k} = {in_short(repr(v))}" for k, v in wrong.items()),
            advice="A Mask R-CNN with feature pyramid (R50-FPN, R101-FPN or X101-FPN) can.",
        )


def _same(value: Any, required: Any) -> bool:
    if not isinstance(required, list) or not isinstance(value, (list, tuple)):
        return bool(value == required)
    # detectron2 accepts a list in a list of one for the list itself.
    one, other = (
        list(v[0]) if len(v) == 1 and isinstance(v[0], (list, tuple)) else list(v)
        for v in (value, required)
    )
    return one == other


# ------------------------------------------------------------------ our records

_LEVELS = 5
"""Of the pyramid that anchors lie on: strides 4 to 64."""
_DEPTHS = {Architecture.R50: 50, Architecture.R101: 101, Architecture.X101: 101}
_ALIGNED = {"ROIAlignV2": True, "ROIAlign": False}


def check_agreement(config: Config, layers: Layers, where: str, weights: str) -> None:
    """Raise `FossilError` where a configuration describes another network than the weights are."""
    wide = layers.architecture is Architecture.X101
    actual = {
        "MODEL.RESNETS.DEPTH": _DEPTHS[layers.architecture],
        "MODEL.RESNETS.NUM_GROUPS": 32 if wide else 1,
        "MODEL.RESNETS.WIDTH_PER_GROUP": 8 if wide else 64,
        "MODEL.ROI_HEADS.NUM_CLASSES": layers.classes,
        "MODEL.ROI_BOX_HEAD.FC_DIM": layers.box_width,
        "MODEL.ROI_MASK_HEAD.CONV_DIM": layers.mask_channels,
    }
    wrong = [key for key, value in actual.items() if config[key] != value]
    if wrong:
        raise FossilError(
            f"{where} does not belong to {weights}",
            expected=", ".join(f"{key} = {actual[key]}" for key in wrong) + " as the weights are",
            found=", ".join(f"{key} = {in_short(config[key])}" for key in wrong),
            advice="Choose the configuration the model was trained with.",
        )


def spec_of(config: Config, layers: Layers, classes: tuple[str, ...], where: str) -> NetworkSpec:
    """Return our network for weights and their configuration.

    Raises
    ------
    FossilError
        Where a value is missing, of the wrong kind, or asks for what cannot be run here.
    """
    with _explained(where):
        sizes = config["MODEL.ANCHOR_GENERATOR.SIZES"]
        if len(sizes) != _LEVELS or any(len(s) != 1 for s in sizes):
            raise ValueError(
                f"ANCHOR_GENERATOR.SIZES is {sizes}, not one for each of {_LEVELS} levels"
            )
        ratios = config["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"]
        first = tuple(float(r) for r in ratios[0])
        if any(tuple(r) != first for r in ratios) or len(first) != layers.ratios:
            raise ValueError(
                f"ANCHOR_GENERATOR.ASPECT_RATIOS is {ratios}, not"
                f" {layers.ratios} that hold for all levels"
            )
        return NetworkSpec(
            architecture=layers.architecture,
            classes=classes,
            box_width=layers.box_width,
            mask_channels=layers.mask_channels,
            anchor_sizes=tuple(int(s[0]) for s in sizes),
            anchor_ratios=first,
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


def _proposals(config: Config, when: str) -> tuple[int, int]:
    before, after = (int(config[f"MODEL.RPN.{k}_NMS_TOPK_{when}"]) for k in ("PRE", "POST"))
    return before, after


def preprocessing_of(config: Config, where: str) -> Preprocessing:
    """Return what images a model of detectron2 expects.

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
    """Return the score and the number of detections at which detectron2 cuts.

    Raises
    ------
    FossilError
        Where a value is of the wrong kind.
    """
    with _explained(where):
        score = float(config["MODEL.ROI_HEADS.SCORE_THRESH_TEST"])
        return score, int(config["TEST.DETECTIONS_PER_IMAGE"])


def config_of(spec: NetworkSpec, preprocessing: Preprocessing) -> Config:
    """Return the configuration of a network and its input; the inverse of the two above."""
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
