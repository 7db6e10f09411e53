"""The seam between models and all that uses them: what an instance segmentation model offers.

Workflows, editing and benchmarks know this protocol, never the class behind it, so that another
kind of model (one that sees several slices, one that lets several views vote, one with a second
stage) takes part in everything by providing these members.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import Box
from napari_fossiledit.masks import Instance
from napari_fossiledit.models.inference.preprocessing import Image, Preprocessing
from napari_fossiledit.models.network.prior import Prior
from napari_fossiledit.models.network.spec import NetworkSpec
from napari_fossiledit.params.editing import Scope
from napari_fossiledit.progress import Cancel, never


@dataclass(frozen=True)
class Captured:
    """Input and output of one convolution of the pyramid for one slice.

    Attributes
    ----------
    key, value
        (1, C, y, x) float32 at the stride of the level, zero-padded area included.
    stride
        Network pixels per step of the map.
    inside
        Rows and columns (y, x) of the map that lie on the slice; the rest is padding.
    """

    key: Tensor
    value: Tensor
    stride: int
    inside: tuple[int, int]


@dataclass(frozen=True)
class Held:
    """A tile of a slice as the network sees it, with instances whose boxes stay where they are.

    What the network says of them can be differentiated down to the pixels: neither proposals nor
    suppression lie between.

    Attributes
    ----------
    pixels
        (1, C, Y, X) float32, normalised; padded with zeros at the foot and at the right.
    tile
        (y0, x0, y1, x1) at working scale.
    labels
        (n,) numbers of their classes, from 1.
    logits
        Takes pixels of that shape, and gives those of the classes (n, K + 1), the background first,
        and of the masks inside the boxes (n, M, M).
    """

    pixels: Tensor
    tile: Box
    labels: Tensor
    logits: Callable[[Tensor], tuple[Tensor, Tensor]]


@runtime_checkable
class Segmenter(Protocol):
    """An instance segmentation model; never changed after it was made.

    A class that derives from this one needs to provide only what has no default here: notes are
    for models that compute something differently, and all below them for models that can be edited.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the network's outputs."""

    @property
    def model_hash(self) -> str:
        """Hex digest of weights and preprocessing; predictions are stored under it."""

    @property
    def device(self) -> torch.device:
        """Device that it computes on."""

    def to(self, device: torch.device | str) -> Segmenter:
        """Return the same model on a device."""

    def showing(self, low: float, high: float) -> Segmenter:
        """Return the same model for a stack in which other values stand for black and white."""
        raise FossilError(
            "This model cannot be shown a stack of other values than it learned with",
            expected="slices like those that it was trained on",
        )

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
        """Find instances in one slice.

        Parameters
        ----------
        image
            Slice (y, x) grey or (y, x, 3) RGB, or (y, x, C) as ``preprocessing.window`` reads it
            with its neighbours; uint8 or uint16.
        slice_index
            Written into the instances.
        pixel_size_um
            Pixel size of the slice in um; None: that of the training slices.
        tiles
            Overlapping tiles even where the slice fits the network.
        max_detections
            Most detections kept in one tile.
        score_floor
            Detections below it are dropped. Thresholds are meant to be set afterwards.
        prior
            Detections of adjacent slices, in pixels of this one; they change which regions are
            looked at. None, or a weight of 0: no effect.
        views
            1, 2, 4 or 8 turns and mirrors of the slice whose mean the masks are. What is found,
            with its score and box, is what the slice itself shows.
        views_find
            All views find, and the boxes that they find of one object are united.

        Returns
        -------
        list of Instance, highest score first, masks in the slice's own pixels
        """

    # What a model is saved, exported and trained from.

    @property
    def spec(self) -> NetworkSpec:
        """All choices of the network that its weights depend on."""

    @property
    def preprocessing(self) -> Preprocessing:
        """Settings that turn a slice into the network's input."""

    def weights(self) -> dict[str, Tensor]:
        """Return all weights by the names of `MaskRcnn`, detached, on the model's device."""

    # Notes for the user, and what an edit works on.

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user on what it computes differently than our own network."""
        return ()

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Scopes that an edit may have; none: the model cannot be edited."""
        return ()

    def layers(self, scope: Scope = Scope.ALL) -> dict[str, nn.Conv2d]:
        """Return the convolutions that give the maps of a scope by name, finest level first.

        Not to be changed. Those of the masks are the output convolutions of the pyramid, with what
        earlier edits of the masks added.
        """
        return {}

    def capture(
        self, image: Image, *, pixel_size_um: float | None = None, scope: Scope = Scope.ALL
    ) -> list[Captured]:
        """Return keys and values of `layers` for one slice, finest level first.

        Parameters
        ----------
        image
            Slice as for prediction; brought to the working scale as for prediction.
        pixel_size_um
            Pixel size of the slice; None: that of the training slices.
        scope
            For the masks: the values that masks are drawn from, which differ where the masks alone
            were edited.
        """
        raise _not_editable()

    def held(
        self,
        image: Image,
        instances: Sequence[Instance],
        *,
        pixel_size_um: float | None = None,
        tile: int = 0,
    ) -> list[Held]:
        """Return what the network sees of instances of one slice, in the tiles of a prediction.

        Each instance is in the tile that holds most of it. Its box is that of the prediction, or
        around its mask where a person drew it.

        Parameters
        ----------
        image
            Slice as for prediction; brought to the working scale as for prediction.
        tile
            Longest edge of a tile in network pixels; 0: that of a prediction.

        Raises
        ------
        FossilError
            Where one is of a class that the model does not know.
        """
        raise FossilError(
            "This model cannot say what it looks at",
            expected="a model that this program computes itself",
            advice="Choose the backend twin.",
        )

    def edited(self, deltas: Mapping[str, Tensor], strength: float = 1.0) -> Segmenter:
        """Return a model with `strength` times `deltas` added to the weights of its layers.

        This one is left as it is; both share all other weights.

        Parameters
        ----------
        deltas
            (out, in, 3, 3) by a name that `layers` has in one of the `scopes`.
        """
        raise _not_editable()


def _not_editable() -> FossilError:
    return FossilError(
        "This model cannot be edited",
        expected="a model with a feature pyramid whose layers can be changed",
        advice="Edit the model that it is made of.",
    )
