"""The section of one specimen in one slice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks.probability import MASK_CUT, ProbabilityMask
from napari_fossiledit.masks.rle import Mask, intersections


class Origin(StrEnum):
    """Who made a mask."""

    MODEL = "model"
    HUMAN = "human"
    IMPORTED = "imported"
    INTERPOLATED = "interpolated"


class Part(StrEnum):
    """Extent of a mask: all within the outer wall, or the central cavity nested in it."""

    BODY = "body"
    CAVITY = "cavity"


@dataclass(frozen=True)
class Instance:
    """The section of one specimen in one slice, or a cavity nested in it.

    Attributes
    ----------
    slice
        Index of the slice, from 0 in stack order.
    class_name
        Class, e.g. ``"archaeocyathid"``.
    mask
        Everything within the outer wall (``Part.BODY``) or the cavity (``Part.CAVITY``).
    score
        Confidence of the model, 1 where a person drew it.
    texture
        ``"pitted"``, ``"mud_filled"`` or another word; empty where unknown.
    unsure
        Where True, neither loss nor score counts the instance.
    specimen
        Identity through the stack, None before linking.
    id
        Row of the ledger and value in the Labels layer; None before it is stored, never reused.
    parent
        ``id`` of the body a cavity lies in.
    reviewed
        Whether a person has said that it is right; nothing overwrites it then unless asked.
    probability
        What the mask of a prediction was cut from; None where it was drawn, or was not asked for.
    """

    slice: int
    class_name: str
    mask: Mask
    score: float = 1.0
    part: Part = Part.BODY
    texture: str = ""
    unsure: bool = False
    origin: Origin = Origin.HUMAN
    specimen: int | None = None
    id: int | None = None
    parent: int | None = None
    reviewed: bool = False
    probability: ProbabilityMask | None = field(default=None, compare=False, repr=False)

    @property
    def family(self) -> int | None:
        """``id`` of the body that it is or lies in; its own of a cavity without a body."""
        return self.id if self.parent is None else self.parent


def cut_at(instances: Iterable[Instance], at: float, whose: str) -> list[Instance]:
    """Return predicted instances with masks cut at another probability.

    Parameters
    ----------
    at
        One half leaves all as they are; else instances without a pixel above it are left out.
    whose
        Who found them, for errors.

    Raises
    ------
    FossilError
        Where one has no probabilities, and another cut than one half is asked for.
    """
    if at == MASK_CUT:
        return list(instances)
    cut = []
    for instance in instances:
        if instance.probability is None:
            raise FossilError(
                f"The masks of {whose} cannot be cut at {at:g}: their probabilities are not known",
                expected="predictions of this version, which keep them",
                found=f"none in slice {instance.slice}",
                advice="Predict again with 'fossiledit predict PROJECT --again', or leave the mask"
                f" cut at {MASK_CUT:g}.",
            )
        mask = instance.probability.cut(at, instance.mask.shape)
        if mask.area:
            cut.append(replace(instance, mask=mask))
    return cut


def beside_reviewed(new: Sequence[Instance], own: Sequence[Instance]) -> list[Instance]:
    """Return the new instances of a slice that lie on none that a person has found right.

    A body lies on another one where they share more than half of the smaller one; its cavities
    are left out with it. A cavity without its body is left out where its place has a reviewed one.
    A body and its cavities stay together: what is said of one holds for all.
    """
    families = {i.family for i in own if i.reviewed}
    out: set[int] = set()
    lost: set[int | None] = set()
    for part in (Part.BODY, Part.CAVITY):
        locked = [i.mask for i in own if i.family in families and i.part is part]
        areas = np.array([mask.area for mask in locked])
        for n, item in enumerate(new):
            if item.part is not part:
                continue
            (shared,) = intersections([item.mask], locked)
            on_one = (shared > 0.5 * np.minimum(areas, item.mask.area)).any()
            if on_one or (item.parent is not None and item.parent in lost):
                out.add(n)
                lost |= {item.id} - {None}
    return [item for n, item in enumerate(new) if n not in out]
