"""Places where a model is wrong, each with a small picture: what a user wants to see first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from napari_fossiledit.evaluation import Change, JudgedSlice, changes
from napari_fossiledit.evaluation.weakness import false_finds
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.masks import Mask
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.shared.ground_truth import GroundTruth

MOST = 6
"""Places that are shown."""

_MARGIN, _LEAST = 0.3, 12
"""Rock around an instance in its picture: as share of its longer side, and at least in pixels."""

_LINE = (0, 255, 255)
"""Colour of outlines: cyan is far from rock of any kind."""

_LONGEST = 160
"""Longest side of a picture, twice as large as it is shown for screens of high resolution."""


@dataclass(frozen=True)
class WrongPlace:
    """A mask that should not be there, or a fossil that was missed, on the slice as it is.

    Attributes
    ----------
    change
        The wrong mask as gained, the missed fossil as lost.
    picture
        Part of the slice (y, x, 3) with the outline, 8 bits.
    """

    change: Change
    picture: pictures.Picture

    @property
    def missed(self) -> bool:
        """True where a fossil was missed."""
        return self.change.after is None

    @property
    def words(self) -> str:
        """What is wrong, in a few words."""
        if self.missed:
            return f"missed {self.change.shown.class_name}"
        return self.change.sits_on or "nothing traced"

    @property
    def sentence(self) -> str:
        """What is wrong and where, in one sentence."""
        if self.missed:
            return f"Slice {self.change.slice}: a {self.words}."
        name = self.change.shown.class_name
        return f"Slice {self.change.slice}: {name} was found on {self.words}."


def wrong_places(
    project: Project,
    judged: Sequence[JudgedSlice],
    truths: Sequence[GroundTruth],
    about: str,
    score: float,
) -> tuple[WrongPlace, ...]:
    """Find the wrong masks and the missed fossils on unperturbed slices.

    Parameters
    ----------
    judged, truths
        Of the same slices; `truths` without the ground that everything lies in.
    about
        Class or texture of the largest weakness: its places come first.
    score
        Predictions below it are ignored.

    Returns
    -------
    tuple
        Those of `about`, then other wrong masks, then missed fossils; the largest first.
    """
    found: list[Change] = []
    for each, truth in zip(judged, truths, strict=True):
        found += changes((), false_finds(each, score), truths=truth.instances)
        touched = each.iou[: each.above(score)].sum(axis=0)
        missed = [t for t, iou in zip(each.truths, touched, strict=True) if not iou]
        found += changes(missed, (), truths=truth.instances)

    def rank(change: Change) -> tuple[bool, bool, int]:
        of_about = (change.shown.texture if change.after is None else change.sits_on) == about
        return not (about and of_about), change.after is None, -change.shown.mask.area

    return tuple(WrongPlace(c, _picture(project, c)) for c in sorted(found, key=rank)[:MOST])


def _picture(project: Project, change: Change) -> pictures.Picture:
    """Cut the place of a change out of its slice, outlined."""
    y0, x0, y1, x1 = change.box
    margin = max(_LEAST, round(_MARGIN * max(y1 - y0, x1 - x0)))
    top, left = max(y0 - margin, 0), max(x0 - margin, 0)
    height, width = project.slice_shape
    box = (top, left, min(y1 + margin, height), min(x1 + margin, width))
    part = pictures.as_rgb(project.stack.read(change.slice)[top : box[2], left : box[3]])
    mask = Mask.from_array(change.shown.mask.crop(box))
    line = max(1, round(max(part.shape[:2]) / _LONGEST * 2))
    return pictures.fitted(pictures.outline(part, [mask], _LINE, line), _LONGEST)
