"""Detections of the adjacent slice as a prior for where this slice has something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance
from napari_fossiledit.params.segment import LARGEST_WEIGHT

if TYPE_CHECKING:
    from napari_fossiledit.geometry import Box

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Prior:
    """Boxes that were found in adjacent slices, and how much they count.

    The model-editing paper (section 3, "Model") lets the adjacent slice influence the ranking of
    the region proposals, because archaeocyaths stay where they are from one slice to the next; it
    gives no formula. Here the logit of a proposal p with box b becomes

        logit(p) + weight * max_i(score_i * IoU(b, box_i))

    before the best proposals are chosen and suppress each other. A logit is the logarithm of the
    odds that there is something, so the sum is Bayes' rule with the evidence of the two slices
    taken as independent, and `weight` is the logarithm of the factor by which a certain detection
    at the very same place multiplies the odds. The largest product counts, not the sum, because
    detections of one specimen are no independent evidence: the factor never exceeds exp(weight).

    Only the order of the proposals changes. Scores, classes, boxes and masks are computed from
    this slice alone, so that nothing is found that the slice does not show.

    Attributes
    ----------
    boxes
        (n, 4) x0, y0, x1, y1 in pixels of the slice, half open.
    scores
        (n,) from 0 to 1.
    weight
        0: no effect at all.

    Raises
    ------
    FossilError
        Where boxes and scores do not fit together, or a number makes no sense.
    """

    boxes: Array
    scores: Array
    weight: float

    def __post_init__(self) -> None:
        """Check that boxes, scores and weight make sense."""
        expected, found = "", ""
        if self.boxes.shape != (len(self.scores), 4):
            expected, found = (
                "(n, 4) boxes for n scores",
                f"{self.boxes.shape}, {self.scores.shape}",
            )
        elif not 0 <= self.weight <= LARGEST_WEIGHT:
            expected, found = f"a weight from 0 to {LARGEST_WEIGHT:g}", f"{self.weight}"
        elif not (
            np.isfinite(self.boxes).all() and ((self.scores >= 0) & (self.scores <= 1)).all()
        ):
            expected, found = "finite boxes and scores from 0 to 1", "others"
        if expected:
            raise FossilError("The neighbour prior cannot be used", expected=expected, found=found)

    @classmethod
    def of(cls, instances: Sequence[Instance], weight: float) -> Prior:
        """Return a prior of the boxes around the masks of detections."""
        boxes = np.array([i.mask.box for i in instances], dtype=np.float64).reshape(-1, 4)
        scores = np.array([i.score for i in instances], dtype=np.float64)
        return cls(boxes[:, [1, 0, 3, 2]], scores, weight)

    def scaled(self, own: tuple[int, int], working: tuple[int, int]) -> Prior:
        """Return it with its boxes scaled from a slice of `own` (y, x) to one of `working`."""
        y, x = (w / o for o, w in zip(own, working, strict=True))
        return replace(self, boxes=self.boxes * np.array([x, y, x, y]))

    def inside(self, tile: Box) -> Prior | None:
        """Return it with its boxes cut to a tile (y0, x0, y1, x1) and relative to its corner.

        Returns
        -------
        None where nothing is left to raise a proposal.
        """
        y0, x0, y1, x1 = tile
        low, high = np.array([x0, y0, x0, y0]), np.array([x1, y1, x1, y1])
        boxes = self.boxes.clip(low, high) - low
        kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        if not self.weight or not kept.any():
            return None
        return replace(self, boxes=cast("Array", boxes[kept]), scores=self.scores[kept])
