"""Weights that their makers publish, to start a training from: where, how large, whose terms.

Imports no torch. Addresses and terms are those of torchvision 0.29 (``MaskRCNN_ResNet50_FPN*_
Weights``) and of detectron2's ``MODEL_ZOO.md``. Each name carries the first digits of a checksum.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.segment import CocoWeights

RECORD_OF_FETCH = "fetched.json"

_TORCH = "https://download.pytorch.org/models/"
_ZOO = "https://dl.fbaipublicfiles.com/detectron2/COCO-InstanceSegmentation/"
_TORCH_TERMS = (
    "BSD-3-Clause (torchvision); its makers add that the terms of the training data, COCO, may"
    " bind as well"
)
_ZOO_TERMS = "CC BY-SA 3.0 (https://creativecommons.org/licenses/by-sa/3.0/)"


@dataclass(frozen=True)
class Published:
    """A published file.

    Attributes
    ----------
    size
        In bytes; that of R-101 and X-101 is known to the megabyte only.
    digest
        Method and first digits of the checksum.
    """

    url: str
    size: int
    digest: str
    licence: str


COCO = {
    CocoWeights.TORCHVISION_R50: Published(
        f"{_TORCH}maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        178_090_079,
        "sha256:bf2d0c1e",
        _TORCH_TERMS,
    ),
    CocoWeights.TORCHVISION_R50_V2: Published(
        f"{_TORCH}maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
        185_828_065,
        "sha256:73cbd019",
        _TORCH_TERMS,
    ),
    CocoWeights.DETECTRON2_R50: Published(
        f"{_ZOO}mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl",
        177_841_981,
        "md5:f10217",
        _ZOO_TERMS,
    ),
    CocoWeights.DETECTRON2_R101: Published(
        f"{_ZOO}mask_rcnn_R_101_FPN_3x/138205316/model_final_a3ec72.pkl",
        254_000_000,
        "md5:a3ec72",
        _ZOO_TERMS,
    ),
    CocoWeights.DETECTRON2_X101: Published(
        f"{_ZOO}mask_rcnn_X_101_32x8d_FPN_3x/139653917/model_final_2d9806.pkl",
        431_000_000,
        "md5:2d9806",
        _ZOO_TERMS,
    ),
}
"""Mask R-CNNs with a feature pyramid, trained on COCO."""


def place_of(name: CocoWeights) -> Path:
    """Return where published weights lie once fetched, in the user's cache folder."""
    folder = user_cache_path("fossiledit", appauthor=False) / "models" / name
    return folder / COCO[name].url.rpartition("/")[2]


def fetched(name: CocoWeights) -> Path:
    """Return the file of published weights.

    Raises
    ------
    FossilError
        Where they were not fetched, saying how.
    """
    file = place_of(name)
    if not file.is_file():
        raise FossilError(
            f"The weights {name} were not fetched yet",
            expected=file,
            advice=f"Run 'fossiledit models fetch {name}' (about {COCO[name].size // 10**6} MB),"
            f" or fetch {COCO[name].url} elsewhere and give its path (--init FILE).",
        )
    return file
