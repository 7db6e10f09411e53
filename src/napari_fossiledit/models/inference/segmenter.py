"""The implementation of `Segmenter` behind every model there is: one Mask R-CNN, one slice."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

from napari_fossiledit.geometry import Box
from napari_fossiledit.masks import Instance
from napari_fossiledit.models.inference.assembly import (
    Detection,
    Placing,
    instances_of,
    located,
    tile_boxes,
)
from napari_fossiledit.models.inference.preprocessing import Image, Preprocessing, Resize, Rgb
from napari_fossiledit.models.inference.protocol import Captured
from napari_fossiledit.models.network.backbones import LEVELS
from napari_fossiledit.models.network.heads import Limits
from napari_fossiledit.models.network.mask_rcnn import (
    MASK_OUTPUTS,
    MaskRcnn,
    Network,
    record_activations,
)
from napari_fossiledit.models.network.prior import Prior
from napari_fossiledit.models.network.spec import NetworkSpec
from napari_fossiledit.params.editing import Scope
from napari_fossiledit.progress import Cancel, check, never

_SLACK = 1.25
"""A slice longer than a tile by no more than this factor enters whole: in tiles most of it would be
computed twice."""


class MaskRcnnSegmenter:
    """A trained network with its preprocessing: a `Segmenter`, whose docstrings hold here too.

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
    def spec(self) -> NetworkSpec:
        """See `Segmenter.spec`."""
        return self.network.spec

    @property
    def classes(self) -> tuple[str, ...]:
        """See `Segmenter.classes`."""
        return self.spec.classes

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Segmenter.notes`."""
        return self.network.notes

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """See `Segmenter.scopes`."""
        return tuple(Scope) if self.network.draws_apart else (Scope.ALL,)

    def weights(self) -> dict[str, Tensor]:
        """See `Segmenter.weights`."""
        return dict(self.network.state_dict())

    def to(self, device: torch.device | str) -> MaskRcnnSegmenter:
        """See `Segmenter.to`; on the same device both share their network."""
        # A network that moves to another device changes in place, and this one must not.
        stays = torch.device(device) == self.device
        network = self.network if stays else copy.deepcopy(self.network)
        return MaskRcnnSegmenter(network, self.preprocessing, device)

    def showing(self, low: float, high: float) -> MaskRcnnSegmenter:
        """See `Segmenter.showing`; both share their network."""
        shown = self.preprocessing.model_copy(update={"shown": (low, high)})
        return MaskRcnnSegmenter(self.network, shown, self.device)

    @cached_property
    def model_hash(self) -> str:
        """Hex digest of network, weights and preprocessing."""
        digest = hashlib.sha256(self.spec.hashed_json().encode())
        digest.update(self.preprocessing.model_dump_json().encode())
        for name, tensor in sorted(self.weights().items()):
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
        """See `Segmenter.predict`."""
        rgb = self.preprocessing.prepare(image, pixel_size_um)
        limits = Limits(score_floor, max_detections)
        own = (image.shape[0], image.shape[1])
        near = prior and prior.scaled(own, (rgb.shape[0], rgb.shape[1]))
        detections = self._search(rgb, self._tiles(rgb, tiles), limits, cancel, near)
        return self._instances(detections, rgb, own, slice_index)

    def predict_prepared(self, rgb: Rgb, limits: Limits | None = None) -> list[Instance]:
        """Find instances in an image that is at working scale already, masks at that scale."""
        detections = self._search(rgb, self._tiles(rgb, False), limits or Limits(), never)
        return self._instances(detections, rgb, (rgb.shape[0], rgb.shape[1]), 0)

    def layers(self, scope: Scope = Scope.ALL) -> dict[str, nn.Conv2d]:
        """See `Segmenter.layers`."""
        outputs = self.network.outputs
        if scope is Scope.ALL:
            return outputs
        added = self.network.mask_outputs if isinstance(self.network, MaskRcnn) else nn.ModuleDict()
        summed: dict[str, nn.Conv2d] = {}
        for n, layer in enumerate(outputs.values()):
            whole = layer
            if str(n) in added:
                # One convolution with the sum of both weights gives the sum of both outputs.
                whole = copy.deepcopy(layer)
                with torch.no_grad():
                    whole.weight += cast("nn.Conv2d", added[str(n)]).weight
            summed[f"{MASK_OUTPUTS}{n}"] = whole
        return summed

    def capture(
        self, image: Image, *, pixel_size_um: float | None = None, scope: Scope = Scope.ALL
    ) -> list[Captured]:
        """See `Segmenter.capture`."""
        rgb = self.preprocessing.prepare(image, pixel_size_um)
        pixels = self.preprocessing.normalise(rgb).to(self.device)
        with torch.no_grad(), record_activations(list(self.layers().values())) as recorded:
            maps = self.network.maps(pixels)
        # In which order layers run is up to the library; finer maps are larger.
        levels = sorted(recorded, key=lambda pair: -pair[0].shape[-1])
        captured = []
        for name, (key, value) in zip(LEVELS, levels, strict=True):
            stride = pixels.shape[-1] // key.shape[-1]
            rows, columns = (
                min(n, -(-size // stride))
                for n, size in zip(key.shape[-2:], rgb.shape[:2], strict=True)
            )
            drawn = value if scope is Scope.ALL else maps.drawing[name]
            captured.append(Captured(key, drawn, stride, (rows, columns)))
        return captured

    def edited(self, deltas: Mapping[str, Tensor], strength: float = 1.0) -> MaskRcnnSegmenter:
        """See `Segmenter.edited`."""
        network = self.network.sharing()
        for name in deltas:
            if name.startswith(MASK_OUTPUTS):
                network.add_mask_output(int(name.removeprefix(MASK_OUTPUTS)))
        layers = network.editable
        for name, delta in deltas.items():
            layer = layers[name]
            old = layer.weight.detach()
            changed = old + strength * delta.to(old.device)
            # A new parameter: the old one is shared with the model that is not edited.
            layer.weight = torch.nn.Parameter(changed, requires_grad=False)
        return MaskRcnnSegmenter(network, self.preprocessing, self.device)

    def _instances(
        self, detections: list[Detection], rgb: Rgb, own: tuple[int, int], slice_index: int
    ) -> list[Instance]:
        place = Placing((rgb.shape[0], rgb.shape[1]), own, self.spec.exact_anchors)
        return instances_of(detections, place, self.classes, slice_index)

    def _tiles(self, rgb: Rgb, always: bool) -> list[Box]:
        """Return one box for a slice that fits the network, else overlapping tiles."""
        height, width = rgb.shape[:2]
        settings = self.preprocessing
        whole = settings.resize is Resize.SHORT_EDGE or max(height, width) <= settings.tile * _SLACK
        if whole and not always:
            return [(0, 0, height, width)]
        return tile_boxes((height, width), settings.tile, settings.overlap)

    @torch.inference_mode()
    def _search(
        self,
        rgb: Rgb,
        tiles: list[Box],
        limits: Limits,
        cancel: Cancel,
        near: Prior | None = None,
    ) -> list[Detection]:
        """Run the network on one tile after the other."""
        detections: list[Detection] = []
        for tile in tiles:
            check(cancel, "The prediction")
            part = rgb[tile[0] : tile[2], tile[1] : tile[3]]
            pixels = self.preprocessing.normalise(part).to(self.device)
            prior = near and near.inside(tile)
            output = self.network.detect(pixels, (part.shape[0], part.shape[1]), limits, prior)
            detections += located({n: value.cpu() for n, value in output.items()}, tile)
        return detections
