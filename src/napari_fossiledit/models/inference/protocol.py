"""What every segmentation model promises, whatever library runs it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.masks import Instance
from napari_fossiledit.models.network.prior import Prior
from napari_fossiledit.progress import Cancel, never

Image = NDArray[np.integer[Any]]


@runtime_checkable
class Segmenter(Protocol):
    """An instance segmentation model with feature pyramid output convolutions to edit."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the network's outputs."""

    @property
    def model_hash(self) -> str:
        """Hex digest of weights and preprocessing; predictions are stored under it."""

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
        """Find instances in one slice.

        Parameters
        ----------
        image
            Slice (y, x) grey or (y, x, 3) RGB, uint8 or uint16.
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

        Returns
        -------
        list of Instance, highest score first, masks in the slice's own pixels
        """
