"""Distances between images, and between an image and a set of images, in a model's feature space.

Achara and Pandey (2023), Revealing the Underlying Patterns, equations 2 to 8. P are the images that
a model knows (n), S others (m); X are the feature vectors of both, one a row:

    A = X - mean(X) = U Sigma V'        Y = A V_z        D(s, p) = |Y_s - Y_p|
    I_dist(s) = sum over p of D(s, p)   O_dist = mean over s of I_dist(s)

The sum grows with n: across sets P of different sizes only the mean over p can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from napari_fossiledit.errors import FossilError

COMPONENTS = 25
"""Principal components from which on the paper found distances stable (its section A.1)."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Distances:
    """Distances of images S from images P.

    Attributes
    ----------
    pairs
        (m, n) Euclidean distances D(S, P).
    primary, secondary
        (n, z) and (m, z) coordinates of the images on the z principal components.
    notes
        What was computed otherwise than by the paper, in sentences.
    """

    pairs: Floats
    primary: Floats
    secondary: Floats
    notes: tuple[str, ...] = ()

    @property
    def components(self) -> int:
        """Number of principal components."""
        return int(self.primary.shape[1])

    @cached_property
    def sums(self) -> Floats:
        """I_dist of each image of S as printed, the sum over P: (m,)."""
        return np.asarray(self.pairs.sum(axis=1))

    @cached_property
    def means(self) -> Floats:
        """I_dist of each image of S as mean over P, comparable between sets P: (m,)."""
        return np.asarray(self.pairs.mean(axis=1))

    @property
    def overall(self) -> float:
        """O_dist: the mean of `sums`."""
        return float(self.sums.mean())

    @cached_property
    def scaled(self) -> Floats:
        """I_dist from 0 (nearest image of S) to 1 (farthest); all 0 where none differs: (m,)."""
        return min_max(self.sums)


def distances(
    primary: NDArray[np.floating[Any]],
    secondary: NDArray[np.floating[Any]],
    components: int = COMPONENTS,
) -> Distances:
    """Compute the distances of images S from images P on their joint principal components.

    Parameters
    ----------
    primary, secondary
        Feature vectors (n, q) and (m, q).
    components
        Principal components at most; n + m - 1 where that is less, as centred vectors have no more.

    Raises
    ------
    FossilError
        Where a set is empty, vectors have different lengths or are not finite, or all images are
        the same to the model.
    """
    for name, features in (("measured from (P)", primary), ("that are measured (S)", secondary)):
        if features.ndim != 2 or not len(features):
            raise FossilError(
                f"There are no images {name}", expected="at least one", found=features.shape
            )
        if not np.isfinite(features).all():
            raise FossilError(
                f"Features of images {name} are not numbers",
                expected="finite values",
                found=f"{int((~np.isfinite(features)).any(axis=1).sum())} images with others",
                advice="The model is damaged: train or load it again.",
            )
    if primary.shape[1] != secondary.shape[1]:
        raise FossilError(
            "Features of two different models cannot be compared",
            expected=f"{primary.shape[1]} values an image",
            found=secondary.shape[1],
        )
    centred = np.concatenate([primary, secondary]).astype(np.float64)
    centred -= centred.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    if sizes[0] <= np.finfo(np.float32).eps * max(1.0, float(np.abs(primary).max())):
        raise FossilError(
            "All images are the same to the model",
            expected="images that differ",
            found=f"{len(centred)} equal feature vectors",
            advice="Check that the photographs are not blank, or copies of one.",
        )
    most = min(len(centred) - 1, centred.shape[1])
    used = min(components, most)
    projected = centred @ axes[:used].T
    known, other = projected[: len(primary)], projected[len(primary) :]
    notes = []
    if used < components:
        notes.append(
            f"{used} principal components in place of {components}: {len(centred)} images of "
            f"{centred.shape[1]} features have no more."
        )
    if len(secondary) == 1:
        notes.append("One image alone has no scaled distance: it is given as 0.")
    return Distances(cdist(other, known), known, other, tuple(notes))


def min_max(values: Floats) -> Floats:
    """Scale values to 0 (least) to 1 (most); all 0 where none differs."""
    span = np.ptp(values)
    return (values - values.min()) / span if span else np.zeros_like(values)


def shares(values: Sequence[float]) -> list[float]:
    """Divide O_dist of several sets S by their sum, as the rows of the paper's Table 2."""
    total = sum(values)
    return [value / total if total else 0.0 for value in values]
