"""The Mask R-CNN segmenter: slices in, instances out."""

from __future__ import annotations

import hashlib
from functools import cached_property

import torch
from torch import nn

from napari_fossiledit.geometry import Box
from napari_fossiledit.masks import Instance
from napari_fossiledit.models.inference.assembly import Detection, Placing, instances_of, located
from napari_fossiledit.models.inference.preprocessing import Preprocessing, Resize, Rgb
from napari_fossiledit.models.inference.protocol import Image
from napari_fossiledit.models.inference.tiling import tile_boxes
from napari_fossiledit.models.network.heads import Limits, Target
from napari_fossiledit.models.network.mask_rcnn import Network
from napari_fossiledit.models.network.prior import Prior
from napari_fossiledit.progress import Cancel, check, never

_SLACK = 1.25


class MaskRcnnSegmenter:
    """A trained network with its preprocessing; never changed after it was made.

    Parameters
    ----------
    network
        Moved to `device` and set to evaluation.
    preprocessing
        The one the network was trained with.
    """

    def __init__(
        self,
        network: Network,
        preprocessing: Preprocessing,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.preprocessing = preprocessing

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the network's outputs."""
        return self.network.spec.classes

    @property
    def notes(self) -> tuple[str, ...]:
        """What is computed differently than by our own network, in sentences for the user."""
        return self.network.notes

    @property
    def outputs(self) -> list[nn.Conv2d]:
        """The four 3 x 3 output convolutions of the pyramid, finest first."""
        return list(self.network.outputs.values())

    @cached_property
    def model_hash(self) -> str:
        """Hex digest of network, weights and preprocessing."""
        digest = hashlib.sha256(self.network.spec.told().encode())
        digest.update(self.preprocessing.model_dump_json().encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def predict(
        self,
        image: Image,
        *,
        slice_index: int = 0,
        pixel_size_um: float | None = None,
        tiles: bool = False,
        max_detections: int = 100,
        score_floor: float = 0.0,
        prior: Prior | None = None,
        cancel: Cancel = never,
    ) -> list[Instance]:
        """Find instances in one slice; see `Segmenter.predict`."""
        rgb = self.preprocessing.prepare(image, pixel_size_um)
        limits = Limits(score_floor, max_detections)
        own = (image.shape[0], image.shape[1])
        near = prior and prior.scaled(own, (rgb.shape[0], rgb.shape[1]))
        found = self._search(rgb, self._tiles(rgb, tiles), limits, cancel, near)
        return self._instances(found, rgb, own, slice_index)

    def predict_prepared(self, rgb: Rgb, limits: Limits | None = None) -> list[Instance]:
        """Find instances in an image that is at working scale already, masks at that scale."""
        found = self._search(rgb, self._tiles(rgb, False), limits or Limits(), never)
        return self._instances(found, rgb, (rgb.shape[0], rgb.shape[1]), 0)

    def _instances(
        self, found: list[Detection], rgb: Rgb, own: tuple[int, int], slice_index: int
    ) -> list[Instance]:
        exact = self.network.spec.exact_anchors
        place = Placing((rgb.shape[0], rgb.shape[1]), own, exact)
        return instances_of(found, place, self.classes, slice_index)

    def _search(
        self,
        rgb: Rgb,
        boxes: list[Box],
        limits: Limits,
        cancel: Cancel,
        near: Prior | None = None,
    ) -> list[Detection]:
        found: list[Detection] = []
        for box in boxes:
            check(cancel, "The prediction")
            here = near and near.inside(box)
            found.extend(located(self._detect(rgb, box, limits, here), box))
        return found

    def _tiles(self, rgb: Rgb, wanted: bool) -> list[Box]:
        """One box for a slice that fits the network, else overlapping tiles."""
        height, width = rgb.shape[:2]
        settings = self.preprocessing
        whole = settings.resize is Resize.SHORT_EDGE or max(height, width) <= settings.tile * _SLACK
        if whole and not wanted:
            return [(0, 0, height, width)]
        return tile_boxes((height, width), settings.tile, settings.overlap)

    @torch.inference_mode()
    def _detect(self, rgb: Rgb, box: Box, limits: Limits, prior: Prior | None) -> Target:
        part = rgb[box[0] : box[2], box[1] : box[3]]
        image = self.preprocessing.normalise(part).to(self.device)
        found = self.network.detect(image, (part.shape[0], part.shape[1]), limits, prior)
        return {name: value.cpu() for name, value in found.items()}
