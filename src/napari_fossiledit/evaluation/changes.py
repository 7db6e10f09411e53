"""Instances of a slice that appeared, vanished or changed, and the classes they lie on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.rle import intersections, iou_matrix, union

BACKGROUND = ""
"""Name of what an instance sits on where nothing is annotated."""

GROUND_SHARE = 0.5
"""A class that covers this share or more of every other one is the ground they lie in."""


class Kind(StrEnum):
    """Fate of an instance."""

    GAINED = "gained"
    LOST = "lost"
    CHANGED = "changed"
    SAME = "same"


@dataclass(frozen=True)
class Change:
    """One instance before and after.

    Attributes
    ----------
    kind
        Its fate.
    before, after
        The instance; None where there was, or is, none.
    iou
        Of the two; 0 where one is missing.
    sits_on
        Annotated class that the instance (as it is after; as it was, where it is lost) covers
        most; `BACKGROUND` where more of it lies on no class (or only on the ground, see
        `ground_classes`) than on any one.
    share_on
        Share of its pixels that lie there.
    """

    kind: Kind
    before: Instance | None
    after: Instance | None
    iou: float
    sits_on: str
    share_on: float

    @property
    def shown(self) -> Instance:
        """The instance to point at: as it is after, or as it was where it is lost."""
        shown = self.after or self.before
        if shown is None:  # pragma: no cover - no change is made of two missing instances
            raise ValueError("a change has an instance before or after")
        return shown

    @property
    def slice(self) -> int:
        """Index of the slice."""
        return self.shown.slice

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Bounding box (y0, x0, y1, x1) of the shown instance in pixels, half open."""
        return self.shown.mask.box

    def summary(self) -> dict[str, object]:
        """Return the values for JSON; scores are None where there is no instance."""
        return {
            "kind": str(self.kind),
            "slice": self.slice,
            "box": list(self.box),
            "class_name": self.shown.class_name,
            "area": self.shown.mask.area,
            "iou": self.iou,
            "score_before": None if self.before is None else self.before.score,
            "score_after": None if self.after is None else self.after.score,
            "sits_on": self.sits_on,
            "share_on": self.share_on,
        }


def changes(
    before: Sequence[Instance],
    after: Sequence[Instance],
    *,
    truths: Sequence[Instance] = (),
    same_iou: float = 0.9,
    match_iou: float = 0.1,
) -> tuple[Change, ...]:
    """Pair the bodies of one slice before and after, so that their IoU sums up highest.

    Parameters
    ----------
    before, after
        Instances of one slice; cavities are left out.
    truths
        Annotated instances of the slice, all classes; see `ground_classes` for which are left out.
    same_iou
        A pair of the same class with this IoU or more counts as unchanged.
    match_iou
        Least IoU of a pair (Hungarian matching, Kuhn 1955).

    Returns
    -------
    tuple of Change
        Gained ones first, then lost, changed and same ones; the largest first.
    """
    old, new = _bodies(before), _bodies(after)
    iou = iou_matrix([i.mask for i in old], [i.mask for i in new])
    pairs = matched_pairs(iou, match_iou)
    lone_old = sorted(set(range(len(old))) - {b for b, _ in pairs})
    lone_new = sorted(set(range(len(new))) - {a for _, a in pairs})
    drafts = []
    for b, a in pairs:
        alike = iou[b, a] >= same_iou and old[b].class_name == new[a].class_name
        kind = Kind.SAME if alike else Kind.CHANGED
        drafts.append(Change(kind, old[b], new[a], float(iou[b, a]), BACKGROUND, 0.0))
    drafts += [Change(Kind.LOST, old[b], None, 0.0, BACKGROUND, 0.0) for b in lone_old]
    drafts += [Change(Kind.GAINED, None, new[a], 0.0, BACKGROUND, 0.0) for a in lone_new]
    if not drafts:
        return ()
    order = list(Kind)
    drafts.sort(key=lambda c: (order.index(c.kind), -c.shown.mask.area))
    classes = class_masks(truths, drafts[0].shown.mask.shape)
    # What is being found is never ground, however much of the slice it fills.
    ground = ground_classes(classes) - {c.shown.class_name for c in drafts}
    kept = {name: mask for name, mask in classes.items() if name not in ground}
    placed = []
    for change, shares in zip(drafts, shares_on([c.shown.mask for c in drafts], kept), strict=True):
        name = max(shares, key=lambda n: shares[n])
        placed.append(replace(change, sits_on=name, share_on=shares[name]))
    return tuple(placed)


def matched_pairs(iou: NDArray[np.float64], least_iou: float) -> list[tuple[int, int]]:
    """Return the pairs (row, column) of the one-to-one matching of the highest sum of IoU.

    Parameters
    ----------
    iou
        Array (before, after).
    least_iou
        Pairs below it do not enter the matching.
    """
    worth = np.where(iou >= max(least_iou, np.finfo(float).tiny), iou, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(row, column) for row, column in pairs if worth[row, column] > 0]


def class_masks(truths: Sequence[Instance], shape: tuple[int, int]) -> dict[str, Mask]:
    """Return the union of the annotated bodies of each class in a slice of `shape` (y, x)."""
    groups: dict[str, list[Mask]] = {}
    for body in _bodies(truths):
        groups.setdefault(body.class_name, []).append(body.mask)
    return {name: union(groups[name], shape) for name in sorted(groups)}


def ground_classes(classes: Mapping[str, Mask]) -> set[str]:
    """Return the classes that the others lie in, such as the rock face.

    These cover half or more of every other annotated class, so that everything sits on them.
    """
    areas = np.array([m.area for m in classes.values()])
    masks = list(classes.values())
    covered = intersections(masks, masks) >= GROUND_SHARE * areas
    return {n for n, row in zip(classes, covered, strict=True) if row.all() and len(classes) > 1}


def shares_on(masks: Sequence[Mask], classes: Mapping[str, Mask]) -> list[dict[str, float]]:
    """Compute the share of each mask's pixels on each class and on none (`BACKGROUND`).

    Annotations of two classes may overlap, so the shares may add up to more than 1.
    """
    names = list(classes)
    covers = list(classes.values())
    covers.append(union(covers, masks[0].shape) if covers else Mask.empty(masks[0].shape))
    shared = intersections(masks, covers).tolist()
    shares = []
    for mask, (*on, anywhere) in zip(masks, shared, strict=True):
        whole = max(mask.area, 1)
        of_mask = {name: count / whole for name, count in zip(names, on, strict=True)}
        shares.append({**of_mask, BACKGROUND: (mask.area - anywhere) / whole})
    return shares


def _bodies(instances: Sequence[Instance]) -> list[Instance]:
    return [i for i in instances if i.part is Part.BODY]
