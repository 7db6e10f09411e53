"""Filling regions of a slice, one step after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.perturb.regions import region_mask
from napari_fossiledit.perturb.scene import Image, SliceScene, Where
from napari_fossiledit.perturb.steps import Step
from napari_fossiledit.progress import Cancel, check, never


@dataclass(frozen=True)
class Perturbed:
    """A perturbed slice.

    Attributes
    ----------
    image
        The perturbed slice, of the shape and dtype of the original.
    changed
        Pixels (y, x) of any step's region.
    share
        Their share of the slice, 0 to 1.
    """

    image: Image
    changed: Where
    share: float


def perturb(
    scene: SliceScene, steps: Sequence[Step], *, seed: int = 0, cancel: Cancel = never
) -> Perturbed:
    """Fill regions of a slice, one step after the other; the scene is left as it is.

    Parameters
    ----------
    seed
        Seed of noise and of stitched textures: the same seed gives the same pixels.

    Raises
    ------
    FossilError
        Where there is no step, one does not suit the slice, or the user stopped it.
    """
    if not steps:
        raise FossilError("There is nothing to perturb with", expected="one step or more")
    image = np.array(scene.image)
    changed = np.zeros(scene.shape, dtype=np.bool_)
    for number, step in enumerate(steps):
        mask = region_mask(step.region, scene)
        for layer, fill in enumerate(step.fills):
            check(cancel, "Perturbing")
            fill.paint(image, mask, scene, np.random.default_rng([seed, number, layer]))
        changed |= mask
    return Perturbed(image, changed, float(changed.mean()))
