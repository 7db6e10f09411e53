"""Places where a model is wrong, each with a small picture: what a user wants to see first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from napari_fossiledit.evaluation import JudgedSlice
from napari_fossiledit.evaluation.numbers import percent
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.project import Project

MOST = 6
"""Places that are shown."""

_NOTABLE = 0.1
"""Share of a mask from which on it is worth a look that it lies on another class."""

_MARGIN, _LEAST = 0.3, 12
"""Rock around an instance in its picture: as share of its longer side, and at least in pixels."""

_LINE = (0, 255, 255)
"""Colour of outlines: cyan is far from rock of any kind."""

_LONGEST = 160
"""Longest side of a picture, twice as large as it is shown for screens of high resolution."""


@dataclass(frozen=True)
class WrongPlace:
    """A mask that is wrong at least in part, or a fossil that was missed, on the slice as it is.

    Attributes
    ----------
    instance
        The mask, or the fossil.
    missed
        True where it is a fossil that was missed.
    on
        Annotated class that most of what is wrong lies on; empty: on none.
    pixels
        How many are wrong.
    picture
        Part of the slice (y, x, 3) with the outline, 8 bits.
    """

    instance: Instance
    missed: bool
    on: str
    pixels: int
    picture: pictures.Picture

    @property
    def words(self) -> str:
        """What is wrong, in a few words."""
        return "missed" if self.missed else self.on or "not traced"

    @property
    def sentence(self) -> str:
        """What is wrong and where, in one sentence."""
        what = f"Slice {self.instance.slice}: this {self.instance.class_name}"
        if self.missed:
            return f"{what} was missed."
        share = percent(self.pixels / self.instance.mask.area)
        return f"{what} lies on {self.on or 'nothing traced'}, by {share} of its area."


def wrong_places(
    project: Project, judged: Sequence[JudgedSlice], about: str, score: float
) -> tuple[WrongPlace, ...]:
    """Find masks that are wrong, and missed fossils, on unperturbed slices.

    Parameters
    ----------
    judged
        Without the ground that everything lies in.
    about
        Class of the largest weakness: its places come first.
    score
        Predictions below it are ignored.

    Returns
    -------
    tuple
        Masks on `about`, then other wrong masks, then missed fossils; most wrong pixels first.
    """
    found = [place for each in judged for place in _on_slice(each, score)]
    found.sort(key=lambda f: (f[1], f[2] != about, -f[3]))
    return tuple(WrongPlace(*f, _picture(project, f[0])) for f in found[:MOST])


def _on_slice(judged: JudgedSlice, score: float) -> Iterator[tuple[Instance, bool, str, int]]:
    """Yield the first four values of each `WrongPlace` of a slice."""
    used = judged.above(score)
    for find, true in zip(judged.predictions[:used], judged.on_truth, strict=False):
        wrong = find.mask.area - int(true)
        beside = {n: (find.mask & other).area for n, other in judged.others.items()}
        name = max(sorted(beside), key=lambda n: beside[n], default="")
        # On no class lies the blur of outlines, too: of masks that are true for the most part only
        # what lies on another class counts.
        if name and beside[name] >= max(wrong / 2, _NOTABLE * find.mask.area):
            yield find, False, name, beside[name]
        elif wrong > true:
            yield find, False, "", wrong
    touched = judged.iou[:used].sum(axis=0)
    for truth, iou in zip(judged.truths, touched, strict=True):
        if not iou:
            yield truth, True, "", truth.mask.area


def _picture(project: Project, instance: Instance) -> pictures.Picture:
    """Cut the place of an instance out of its slice, outlined."""
    y0, x0, y1, x1 = instance.mask.box
    margin = max(_LEAST, round(_MARGIN * max(y1 - y0, x1 - x0)))
    top, left = max(y0 - margin, 0), max(x0 - margin, 0)
    height, width = project.slice_shape
    box = (top, left, min(y1 + margin, height), min(x1 + margin, width))
    part = pictures.as_rgb(project.stack.read(instance.slice)[top : box[2], left : box[3]])
    mask = Mask.from_array(instance.mask.crop(box))
    line = max(1, round(max(part.shape[:2]) / _LONGEST * 2))
    return pictures.fitted(pictures.outline(part, [mask], _LINE, line), _LONGEST)
