"""How unequally a model looks at the slices and colours that it sees together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance
from napari_fossiledit.models.inference.preprocessing import Image
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.params.saliency import LookParams, Method
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.saliency.looking import look
from napari_fossiledit.stacks.window import Window

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Asymmetry:
    """Shares of |saliency| over several slices.

    Attributes
    ----------
    window
        What the model sees of a slice.
    shares
        (n, slices, colours) of each slice that was looked at; they add up to 1.
    """

    window: Window
    shares: Floats

    @property
    def by_slice(self) -> Floats:
        """(n, slices) shares, those before the slice first."""
        summed: Floats = self.shares.sum(2)
        return summed

    @property
    def by_colour(self) -> Floats:
        """(n, 3) shares of red, green and blue, or (n, 1) of grey."""
        summed: Floats = self.shares.sum(1)
        return summed

    @property
    def centre(self) -> Floats:
        """(n,) shares of the slice itself."""
        return self.by_slice[:, self.window.reach]

    @property
    def index(self) -> Floats:
        """(n,) values (S+ - S-) / (S+ + S-) of the slices after and before; 0 where both are 0."""
        reach, by_slice = self.window.reach, self.by_slice
        before, after = by_slice[:, :reach].sum(1), by_slice[:, reach + 1 :].sum(1)
        both = before + after
        result: Floats = np.divide(after - before, both, out=np.zeros_like(both), where=both > 0)
        return result


def shares_of(values: NDArray[np.float32], window: Window) -> Floats:
    """Return the share (slices, colours) of |values| (C, y, x) that each channel has."""
    total = np.abs(values).sum((1, 2), dtype=np.float64)
    if not total.any():
        raise FossilError(
            "The model looks at nothing",
            expected="a gradient that is not zero everywhere",
            found="zero",
            advice="Choose other instances, or the mask in place of the class.",
        )
    shares: Floats = (total / total.sum()).reshape(window.slices, window.colours)
    return shares


def asymmetry(
    segmenter: Segmenter,
    slices: Iterable[tuple[Image, Sequence[Instance]]],
    params: LookParams | None = None,
    *,
    pixel_size_um: float | None = None,
    job: Job = QUIET,
) -> Asymmetry:
    """Compute the share of |saliency| of each channel on each of several slices.

    Parameters
    ----------
    slices
        Slices as `Segmenter.predict` takes them, with the instances whose saliency is summed; those
        that were traced give the same boxes before and after a training.
    params
        None: input x gradient of the class scores.

    Raises
    ------
    FossilError
        Where there is no slice, or see `look`; Grad-CAM tells no channels apart.
    """
    params, window = params or LookParams(), segmenter.preprocessing.window
    if params.method is Method.GRAD_CAM:
        raise FossilError(
            "Grad-CAM does not tell slices and colours apart",
            expected=", ".join(m for m in Method if m is not Method.GRAD_CAM),
            found=params.method,
        )
    shares = []
    for image, instances in slices:
        job.check("Looking")
        found = look(segmenter, image, instances, params, pixel_size_um=pixel_size_um)
        shares.append(shares_of(found.values, window))
    if not shares:
        raise FossilError("There is no slice to look at", expected="one or more", found="none")
    return Asymmetry(window, np.stack(shares))
