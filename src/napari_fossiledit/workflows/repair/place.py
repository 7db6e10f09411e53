"""The place where a model is wrong, and what it finds there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.changes import class_masks, ground_classes, shares_on
from napari_fossiledit.evaluation.hallucinated import FRAME_SHARE
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.rle import iou_matrix
from napari_fossiledit.params.repair import RepairParams
from napari_fossiledit.perturb import SliceScene
from napari_fossiledit.perturb.language import parse_region
from napari_fossiledit.perturb.regions import Term, region_mask
from napari_fossiledit.perturb.scene import Where
from napari_fossiledit.project import Project

SMALLEST = 16
"""Pixels of the smallest place that can be repaired."""

LEAST_OVERLAP = 0.1
"""An instance with a smaller IoU is another one, not an answer to the place."""

_LISTED = 20
_LEAST_FRAME = 3
_LEAST_SHARE = 0.15


@dataclass(frozen=True)
class Found:
    """What a model finds at a place.

    Attributes
    ----------
    score
        Of the instance that answers most to the place; 0 where none touches it.
    overlap
        IoU of that instance and the place.
    """

    score: float = 0.0
    overlap: float = 0.0

    @property
    def response(self) -> float:
        """Score times overlap: how much the model finds just this, 0 to 1."""
        return self.score * self.overlap

    def __str__(self) -> str:
        """Tell it in words."""
        if not self.response:
            return "nothing"
        return f"score {self.score:.2f} with overlap {self.overlap:.2f}"


@dataclass(frozen=True)
class Place(Term):
    """Where a model is wrong; as a region of a perturbation it is exactly these pixels.

    Attributes
    ----------
    slice
        Index of the slice.
    pixels
        The wrong mask, or the outline of the missed fossil.
    class_name
        Class that was found wrongly, or missed.
    instance
        The wrong instance; None where a fossil was missed.
    outline
        Region of the missed fossil, as a perturbation is written; empty where a mask is wrong.
    """

    slice: int
    pixels: Mask
    class_name: str
    instance: Instance | None = None
    outline: str = ""

    def __str__(self) -> str:
        return self.outline or f"instance {self.instance.id if self.instance else ''}".strip()

    def mask(self, scene: SliceScene) -> Where:
        """See `Term`."""
        return self.pixels.to_array()

    @property
    def missed(self) -> bool:
        """Whether a fossil was missed; else a mask is wrong."""
        return self.instance is None

    def found_in(self, instances: Sequence[Instance]) -> Found:
        """Tell what answers most to the place among the instances of a slice."""
        return answer_to(self.pixels, self.class_name, instances)

    @property
    def frame(self) -> Mask:
        """Pixels around the place, as far as they tell what it is framed by."""
        width = max(_LEAST_FRAME, round(FRAME_SHARE * self.pixels.area**0.5))
        y0, x0, y1, x1 = self.grown(width)
        body = self.pixels.crop((y0, x0, y1, x1))
        around = (ndimage.distance_transform_edt(~body) <= width) & ~body
        return Mask.from_crop(around, (y0, x0), self.pixels.shape)

    def grown(self, by: int) -> tuple[int, int, int, int]:
        """Box (y0, x0, y1, x1) of the place and so many pixels around, within the slice."""
        y0, x0, y1, x1 = self.pixels.box
        height, width = self.pixels.shape
        return max(y0 - by, 0), max(x0 - by, 0), min(y1 + by, height), min(x1 + by, width)

    @property
    def size(self) -> int:
        """Root of its area in pixels."""
        return max(1, math.isqrt(self.pixels.area))

    def neighbour(self, truths: Sequence[Instance]) -> str:
        """Class that the place lies on or, if it lies on none, that frames it; empty: none."""
        classes = class_masks(truths, self.pixels.shape)
        ground = ground_classes(classes) | {self.class_name}
        others = {name: mask for name, mask in classes.items() if name not in ground}
        if not others:
            return ""
        for shares in shares_on([self.pixels, self.frame], others):
            name = max(others, key=lambda n: shares[n])
            if shares[name] >= _LEAST_SHARE:
                return name
        return ""

    def without(self, others: Sequence[Mask]) -> Mask:
        """Take away the pixels that other masks have."""
        left = self.pixels.to_array()
        for mask in others:
            left &= ~mask.to_array()
        return Mask.from_array(left)


def answer_to(pixels: Mask, class_name: str, instances: Sequence[Instance]) -> Found:
    """Tell what answers most to some pixels among the instances of a slice."""
    bodies = [i for i in instances if i.part is Part.BODY and i.class_name == class_name]
    overlaps = iou_matrix([i.mask for i in bodies], [pixels])[:, 0].tolist()
    pairs = zip(bodies, overlaps, strict=True)
    answers = [Found(i.score, overlap) for i, overlap in pairs if overlap >= LEAST_OVERLAP]
    return max(answers, key=lambda f: f.response, default=Found())


def find_place(
    project: Project, params: RepairParams, model: str, source: str, class_name: str
) -> Place:
    """Find what a user means.

    Parameters
    ----------
    model
        Name of the model in the names of its predictions.
    source
        Its predictions of the slice.
    class_name
        Class of a missed fossil.

    Raises
    ------
    FossilError
        Where there is no such instance, the outline cannot be read or lies outside the slice, or
        both or none of the two are told.
    """
    if bool(params.instance) == bool(params.outline.strip()):
        raise FossilError(
            "It is not clear what is to be repaired",
            expected="the id of a wrong instance, or the outline of a missed fossil",
            found="both" if params.instance else "neither",
        )
    if params.instance:
        found = _instance(project, params.slice, params.instance, model, source)
        return _large_enough(Place(params.slice, found.mask, found.class_name, found))
    return _large_enough(_outlined(project, params, class_name))


def _large_enough(place: Place) -> Place:
    if place.pixels.area < SMALLEST:
        raise FossilError(
            f"{place} of slice {place.slice} is too small to be repaired",
            expected=f"{SMALLEST} pixels or more",
            found=place.pixels.area,
        )
    return place


def _instance(project: Project, z: int, id_: int, model: str, source: str) -> Instance:
    """Find a body among all predictions of the model, whatever options they were made with."""
    names = [s.name for s in project.ledger.predictions(model)]
    for name in dict.fromkeys([source, *names]):
        found = project.ledger.instances(name, slices=[z], ids=[id_], part=Part.BODY)
        if found:
            return found[0]
    there = project.ledger.instances(source, slices=[z], part=Part.BODY)
    listed = ", ".join(f"{i.id} (score {i.score:.2f})" for i in there[:_LISTED])
    more = len(there) - _LISTED
    raise FossilError(
        f"{model} has no instance {id_} on slice {z}",
        expected=f"one of {listed}{f' and {more} more' if more > 0 else ''}" if there else None,
        found=None if there else "no instance at all",
        advice="Click on the mask in the window, or outline a missed fossil.",
    )


def _outlined(project: Project, params: RepairParams, class_name: str) -> Place:
    text = params.outline.strip()
    region = text if text[:1].isalpha() or text[:1] == "(" else f"polygon {text}"
    image = np.broadcast_to(np.uint8(0), project.slice_shape)
    mask = region_mask(parse_region(region), SliceScene(image, name=f"slice {params.slice}"))
    return Place(params.slice, Mask.from_array(mask), class_name, None, region)
