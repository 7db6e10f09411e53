"""A detectron2 configuration: what it says of the network, what it must say, its defaults.

Files hold what differs from ``_BASE_`` files or from the program's own defaults, or everything.
Keys are written flat here, as in ``MODEL.RESNETS.DEPTH``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained
from napari_fossiledit.models.detectron2.unreadable import UNREADABLE, in_short, reason

Config = dict[str, Any]

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
"""What a Mask R-CNN on a feature pyramid says; anything else computes something else."""

# As above, of releases after 0.6, which knows no such keys and would refuse them in a file.
_REQUIRED_LATER: Config = {"MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": False}

# Normalisations that predict in the same way.
_ALIKE = {"MODEL.RESNETS.NORM": ("BN", "SyncBN", "nnSyncBN", "naiveSyncBN")}


class _Loader(yaml.SafeLoader):
    """Makes plain values only; tuples, which old files name, become lists."""

    def get_single_node(self) -> yaml.nodes.Node | None:
        node = super().get_single_node()
        if node is not None:
            _written_out(node, {})
        return node


def _written_out(
    node: yaml.nodes.Node, known: dict[int, tuple[int, int]], depth: int = 0
) -> tuple[int, int]:
    """Count values and levels of a node with all its aliases, and raise at too many.

    An alias costs a file three characters, and a node of aliases to nodes of aliases is huge.
    """
    if isinstance(node, yaml.nodes.ScalarNode) and len(node.value) > _MOST_CHARACTERS:
        raise ValueError(f"a value of more than {_MOST_CHARACTERS} characters")
    if id(node) not in known and depth <= _DEEPEST:
        parts = [_written_out(part, known, depth + 1) for part in _parts(node)]
        levels = 1 + max((below for _, below in parts), default=0)
        known[id(node)] = 1 + sum(count for count, _ in parts), levels
    count, levels = known.get(id(node), (0, 1))
    if count > _MOST_VALUES or depth + levels > _DEEPEST:
        raise ValueError(f"more than {_MOST_VALUES} values, or more than {_DEEPEST} deep")
    return count, levels


def _parts(node: yaml.nodes.Node) -> list[yaml.nodes.Node]:
    if isinstance(node, yaml.nodes.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.nodes.SequenceNode) else []


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
    place, layers = path, []
    for _ in range(_MOST_BASES):
        values = _parsed(place)
        base = values.pop("_BASE_", None)
        layers.append(values)
        if base is None:
            break
        place = place.parent / str(base)
        with explained(place, "Reading"):
            if not place.is_file():
                return _merged(layers), (str(base),)
    return _merged(layers), ()


def _merged(layers: list[Config]) -> Config:
    """Put the nearest file's values over those of its bases."""
    return {key: value for layer in reversed(layers) for key, value in layer.items()}


def _parsed(path: Path) -> Config:
    """Read one file, flat."""
    with explained(path, "Reading"), path.open("rb") as stream:
        data = stream.read(_MOST_BYTES + 1)
    try:
        if len(data) > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES} bytes")
        found = yaml.load(data, _Loader)
        values = _flat(found) if isinstance(found, dict) else {}
    except _BROKEN as error:
        raise FossilError(
            f"{path} cannot be read",
            expected="a detectron2 configuration (YAML)",
            found=reason(error),
        ) from error
    if isinstance(found, dict) and ({"MODEL", "_BASE_"} & set(found)):
        return values
    raise FossilError(
        f"{path} is no detectron2 configuration",
        expected="a section MODEL",
        found=in_short(", ".join(map(str, found)) if values else type(found).__name__),
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
    """Turn flat keys into sections, as files have them."""
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
    wanted = {**REQUIRED, **_REQUIRED_LATER}
    said = {key: config[key] for key in wanted if key in config}
    wrong = {k: v for k, v in said.items() if not _same(v, wanted[k]) and not _alike(k, v)}
    if wrong:
        raise FossilError(
            f"{where} describes a network that cannot be run here",
            expected=", ".join(f"{k} = {wanted[k]!r}" for k in wrong),
            found=", ".join(f"{k} = {in_short(repr(v))}" for k, v in wrong.items()),
            advice="A Mask R-CNN with feature pyramid (R50-FPN, R101-FPN or X101-FPN) can.",
        )


def _alike(key: str, found: Any) -> bool:
    return found in _ALIKE.get(key, ())


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, list) and isinstance(found, (list, tuple)):
        return _shortened(list(found)) == _shortened(wanted)
    return bool(found == wanted)


def _shortened(values: list[Any]) -> list[Any]:
    """Take a list in a list of one for the list itself: detectron2 accepts both."""
    return list(values[0]) if len(values) == 1 and isinstance(values[0], (list, tuple)) else values
