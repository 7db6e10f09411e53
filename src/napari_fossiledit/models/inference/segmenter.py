"""The implementation of `Segmenter` behind every model there is: one Mask R-CNN."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, islice
from threading import Lock
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from napari_fossiledit.errors import FossilError
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
from napari_fossiledit.models.inference.protocol import Captured, Held
from napari_fossiledit.models.inference.views import VIEWS, View, batches, mean_of, united
from napari_fossiledit.models.network.backbones import LEVELS
from napari_fossiledit.models.network.heads import Limits, Target
from napari_fossiledit.models.network.mask_rcnn import (
    MASK_OUTPUTS,
    Maps,
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

    Attributes
    ----------
    further
        What computes all views but the first: the same network, perhaps less precisely.
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
        self.further = self.network
        self._turn = Lock()

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
        views: int = 1,
        views_find: bool = False,
        cancel: Cancel = never,
    ) -> list[Instance]:
        """See `Segmenter.predict`."""
        rgb = self.preprocessing.prepare(image, pixel_size_um)
        limits = Limits(score_floor, max_detections)
        own = (image.shape[0], image.shape[1])
        near = prior and prior.scaled(own, (rgb.shape[0], rgb.shape[1]))
        look = _Look(limits, VIEWS[:views], views_find, cancel)
        # One slice at a time takes all cores and little memory; others are read meanwhile.
        with self._turn:
            detections = self._search(rgb, self._tiles(rgb, tiles), look, near)
        return self._instances(detections, rgb, own, slice_index)

    def predict_prepared(self, rgb: Rgb, limits: Limits | None = None) -> list[Instance]:
        """Find instances in an image that is at working scale already, masks at that scale."""
        detections = self._search(rgb, self._tiles(rgb, False), _Look(limits or Limits()))
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

    def held(
        self,
        image: Image,
        instances: Sequence[Instance],
        *,
        pixel_size_um: float | None = None,
        tile: int = 0,
    ) -> list[Held]:
        """See `Segmenter.held`."""
        rgb = self.preprocessing.prepare(image, pixel_size_um)
        y, x = (w / o for w, o in zip(rgb.shape[:2], image.shape[:2], strict=True))
        boxes = torch.tensor([_box(i) for i in instances], dtype=torch.float32).reshape(-1, 4)
        boxes *= torch.tensor([x, y, x, y])
        labels = torch.tensor([self._label(i) for i in instances], dtype=torch.int64)
        size = (rgb.shape[0], rgb.shape[1])
        tiles = tile_boxes(size, tile, tile // 4) if tile else self._tiles(rgb, False)
        corners = torch.tensor([[t[1], t[0], t[3], t[2]] for t in tiles])
        inside = torch.minimum(boxes[:, None, 2:], corners[:, 2:])
        inside = (inside - torch.maximum(boxes[:, None, :2], corners[:, :2])).clamp(min=0)
        best = inside.prod(-1).argmax(1)
        made = []
        for n, (part, corner) in enumerate(zip(tiles, corners, strict=True)):
            which = torch.where(best == n)[0]
            if not len(which):
                continue
            pixels = self.preprocessing.normalise(rgb[part[0] : part[2], part[1] : part[3]])
            size = (part[2] - part[0], part[3] - part[1])
            here = clip_boxes_to_image(boxes[which] - corner[:2].repeat(2), size).to(self.device)
            numbers = labels[which].to(self.device)
            logits = partial(self._logits, here, numbers, size)
            made.append(Held(pixels.to(self.device), part, numbers, logits))
        return made

    def _logits(
        self, boxes: Tensor, labels: Tensor, size: tuple[int, int], pixels: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.network.logits(self.network.maps(pixels), boxes, labels, size)

    def _label(self, instance: Instance) -> int:
        if instance.class_name not in self.classes:
            raise FossilError(
                f"The model does not know the class {instance.class_name}",
                expected=", ".join(self.classes),
                found=instance.class_name,
            )
        return self.classes.index(instance.class_name) + 1

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
        self, rgb: Rgb, tiles: list[Box], look: _Look, near: Prior | None = None
    ) -> list[Detection]:
        """Run the network on one tile after the other."""
        detections: list[Detection] = []
        for tile in tiles:
            part = rgb[tile[0] : tile[2], tile[1] : tile[3]]
            output = self._detect(part, look, near and near.inside(tile))
            detections += located({n: value.cpu() for n, value in output.items()}, tile)
        return detections

    def _detect(self, part: Rgb, look: _Look, prior: Prior | None) -> Target:
        """Find instances in one tile (y, x, C), and draw their masks from all views."""
        size = (part.shape[0], part.shape[1])
        seen = self._seen(part, look)
        # The views that find are needed once more to draw what all of them found.
        finding = list(islice(seen, None if look.views_find else 1))
        found = []
        for view, network, image, maps in finding:
            limits, near = look.limits, view.prior(prior, size)
            there = network.find(image, maps, view.size(size), limits, near)
            boxes = view.inverse.boxes(there["boxes"], view.size(size))
            found.append({**there, "boxes": boxes})
        output = united(found, look.limits)
        boxes, labels = output["boxes"], output["labels"]
        masks = []
        for view, network, _, maps in chain(finding, seen if len(boxes) else ()):
            drawn = network.draw(maps, view.boxes(boxes, size), labels, view.size(size))
            masks.append(view.inverse.masks(drawn))
        return {**output, "masks": mean_of(masks)}

    def _seen(self, part: Rgb, look: _Look) -> Iterator[tuple[View, Network, Tensor, Maps]]:
        """Yield each view of a tile with its network, as an image (1, 3, H, W) and its maps."""
        first, *others = look.views
        # The first one is never in a batch: what it finds does not depend on how many there are.
        for group in ([first], *batches(others, (part.shape[0], part.shape[1]))):
            check(look.cancel, "The prediction")
            images = [self.preprocessing.normalise(view.image(part)) for view in group]
            batch = (images[0] if len(images) == 1 else torch.cat(images)).to(self.device)
            network = self.network if group[0] is first else self.further
            maps = network.maps(batch)
            for k, view in enumerate(group):
                yield view, network, batch[k : k + 1], maps.one(k)


def _box(instance: Instance) -> tuple[float, float, float, float]:
    """Return the box x0, y0, x1, y1 that an instance was predicted in, or the one of its mask."""
    if instance.probability is not None and len(instance.probability.pieces) == 1:
        return instance.probability.pieces[0].box
    y0, x0, y1, x1 = instance.mask.box
    return x0, y0, x1, y1


@dataclass(frozen=True)
class _Look:
    """How a slice is looked at.

    Attributes
    ----------
    views
        Masks are the mean of these; the first one is the slice itself.
    views_find
        All of them find instances, not only the first.
    """

    limits: Limits
    views: tuple[View, ...] = VIEWS[:1]
    views_find: bool = False
    cancel: Cancel = never
