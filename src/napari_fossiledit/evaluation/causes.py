"""Causes of a wrong mask: fill the place or what is around it, and look again.

A cause is tested by taking it away. A wrong mask that falls when the class it lies on is filled
with mud was suggested by that class; one that falls when the slice is blurred, by its texture. For
a missed fossil it is the other way round: what has to be changed for it to be found, hid it.

What is filled becomes real mud, stitched from the slice: one flat colour is so unlike anything in a
slice that it makes every mask fall. Texture and colour change all over the slice, so that what the
other instances suffer can be taken off: the remainder is peculiar to the place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import median
from typing import Any

from scipy import ndimage

from napari_fossiledit.evaluation.changes import class_masks, ground_classes, shares_on
from napari_fossiledit.evaluation.hallucinated import FRAME_SHARE
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.rle import iou_matrix
from napari_fossiledit.perturb import Step, steps_text
from napari_fossiledit.perturb.fills import Blur, Fill, Hue, Mud, RealMud, Texture
from napari_fossiledit.perturb.regions import All, And, Box, Not, OfClass, Term
from napari_fossiledit.perturb.scene import Image, SliceScene, Where

CLEAR_EFFECT = 0.5
"""A test with this effect or more names a cause."""

SURE_SCORE = 0.5
"""Other instances with a score >= this show what a test does to the whole slice."""

MENDED_SHARE = 0.5
"""A wrong mask is mended when no more than this share of its response is left, a missed fossil
when it is found with this score and overlap."""

LEAST_OVERLAP = 0.1
"""An instance with a smaller IoU is another one, not an answer to the place."""

_LEAST_FRAME = 3
"""Pixels around a place that frame it at least, however small it is."""

_LEAST_SHARE = 0.15
"""A class that covers less of the place or of its frame is no neighbour of it."""

_TIE = 0.1
"""Effects that differ by less are alike: the cause that says more is named."""

# Lengths in roots of the area of the place: what is filled around it, and the blur, which is kept
# within a range of pixels.
_REACH = 1.0
_BLUR = 0.02
_SIGMA = (0.7, 4.0)
_HUE_DEGREES = 90.0


# --------------------------------------------------------------------- the place


@dataclass(frozen=True)
class Found:
    """Answer of a model at a place.

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
        """Return it in words."""
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
        """True where a fossil was missed; else a mask is wrong."""
        return self.instance is None

    @property
    def size(self) -> int:
        """Root of its area in pixels."""
        return max(1, math.isqrt(self.pixels.area))

    @property
    def frame(self) -> Mask:
        """Pixels around the place, as far as they show what it is framed by."""
        width = max(_LEAST_FRAME, round(FRAME_SHARE * self.pixels.area**0.5))
        y0, x0, y1, x1 = self.grown(width)
        body = self.pixels.crop((y0, x0, y1, x1))
        around = (ndimage.distance_transform_edt(~body) <= width) & ~body
        return Mask.from_crop(around, (y0, x0), self.pixels.shape)

    def grown(self, by: int) -> tuple[int, int, int, int]:
        """Return the box (y0, x0, y1, x1) of the place and so many pixels around, in the slice."""
        y0, x0, y1, x1 = self.pixels.box
        height, width = self.pixels.shape
        return max(y0 - by, 0), max(x0 - by, 0), min(y1 + by, height), min(x1 + by, width)

    def found_in(self, instances: Sequence[Instance]) -> Found:
        """Return what answers most to the place among the instances of a slice."""
        return _answer(self.pixels, self.class_name, instances)

    def neighbour(self, truths: Sequence[Instance]) -> str:
        """Return the class that it lies on or, if on none, that frames it; empty: none."""
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


def _answer(pixels: Mask, class_name: str, instances: Sequence[Instance]) -> Found:
    bodies = [i for i in instances if i.part is Part.BODY and i.class_name == class_name]
    overlaps = iou_matrix([i.mask for i in bodies], [pixels])[:, 0].tolist()
    pairs = zip(bodies, overlaps, strict=True)
    answers = [Found(i.score, overlap) for i, overlap in pairs if overlap >= LEAST_OVERLAP]
    return max(answers, key=lambda f: f.response, default=Found())


def mended(place: Place, before: Found, after: Found) -> bool:
    """Return whether a place is mended, by `MENDED_SHARE`."""
    if place.missed:
        return after.score >= MENDED_SHARE and after.overlap >= MENDED_SHARE
    return after.response <= MENDED_SHARE * before.response


# --------------------------------------------------------------------- the tests


class Cause(StrEnum):
    """Things that may mislead a model; of two with the same effect, the first says more."""

    CLASS = "class"
    NEIGHBOUR = "neighbour"
    TEXTURE = "texture"
    COLOUR = "colour"


@dataclass(frozen=True)
class PlaceTest:
    """A perturbation of a place.

    Attributes
    ----------
    cause
        What it takes away.
    words
        What is done, as the beginning of a sentence.
    step
        What is done, as a perturbation.
    everywhere
        Whether it changes the whole slice: the other instances then show what is normal.
    """

    cause: Cause
    words: str
    step: Step
    everywhere: bool = False

    def with_flat_mud(self) -> PlaceTest:
        """Return it with the mud colour instead of real mud, of which a slice may show too little.

        See the head of this module for why that is second best.
        """
        fills = tuple(Mud() if isinstance(f, RealMud) else f for f in self.step.fills)
        return replace(self, step=Step(self.step.region, fills))


def fitting_tests(
    place: Place, neighbour: str, *, coloured: bool, textured: bool
) -> list[PlaceTest]:
    """Choose the tests that fit a place.

    Parameters
    ----------
    neighbour
        Class that it lies on or that frames it; empty: none is known.
    coloured
        Whether the slice has colours.
    textured
        Whether there is a pitted texture to fill with.
    """

    def test(cause: Cause, words: str, region: Term, fill: Fill) -> PlaceTest:
        return PlaceTest(cause, words, Step(region, (fill,)), isinstance(region, All))

    y0, x0, y1, x1 = place.grown(round(_REACH * place.size))
    around = And(Box(x0, x1, y0, y1), Not(place))
    tests = [test(Cause.NEIGHBOUR, "its surroundings are filled with mud", around, RealMud())]
    if neighbour:
        of_class = And(OfClass(neighbour), Not(place)) if place.missed else OfClass(neighbour)
        words = f"all {neighbour} is filled with mud"
        tests.append(test(Cause.CLASS, words, of_class, RealMud()))
    if not place.missed:
        tests.append(test(Cause.TEXTURE, "its inside is filled with mud", place, RealMud()))
    elif textured:
        words = "its inside is filled with the pitted texture"
        tests.append(test(Cause.TEXTURE, words, place, Texture()))
    low, high = _SIGMA
    blur = Blur(round(min(max(_BLUR * place.size, low), high), 1))
    tests.append(test(Cause.TEXTURE, "the slice is blurred a little", All(), blur))
    if coloured:
        words = "the colours of the slice are turned"
        tests.append(test(Cause.COLOUR, words, All(), Hue(_HUE_DEGREES)))
    return tests


@dataclass(frozen=True)
class Outcome:
    """Result of a test.

    Attributes
    ----------
    cause, words
        Of the test.
    steps
        What was done, as a perturbation is written.
    found
        What was found at the place then.
    effect
        For a wrong mask the share of its response that is gone, 1: all; for a missed fossil the
        response that was won. Negative where it went the other way. What happened to the others
        is taken off.
    others
        The same of the other instances of the slice, their median; 0 where they were not touched.
    image
        The perturbed slice around the place, (y, x[, 3]); left out of summaries.
    """

    cause: Cause
    words: str
    steps: str
    found: Found
    effect: float
    others: float = 0.0
    image: Image | None = field(default=None, repr=False, compare=False)

    def summary(self) -> dict[str, Any]:
        """Return the test as JSON-able values."""
        return {
            "cause": str(self.cause),
            "test": self.words,
            "steps": self.steps,
            "score": self.found.score,
            "overlap": self.found.overlap,
            "effect": self.effect,
            "effect_on_others": self.others,
        }


def outcome(
    place: Place,
    test: PlaceTest,
    before: Sequence[Instance],
    after: Sequence[Instance],
    image: Image | None = None,
) -> Outcome:
    """Compute what a test showed.

    Parameters
    ----------
    before, after
        All that is found on the slice as it is and perturbed.
    """
    there = place.found_in(after)
    effect = _effect(place.found_in(before), there, place.missed)
    normal = 0.0
    if test.everywhere:
        sure = [i for i in before if i.score >= SURE_SCORE and i.class_name == place.class_name]
        overlaps = iou_matrix([i.mask for i in sure], [place.pixels])[:, 0]
        effects = [
            _effect(Found(i.score, 1.0), _answer(i.mask, i.class_name, after), place.missed)
            for i, overlap in zip(sure, overlaps, strict=True)
            if overlap < LEAST_OVERLAP
        ]
        normal = max(median(effects), 0.0) if effects else 0.0
    steps = steps_text([test.step])
    return Outcome(test.cause, test.words, steps, there, effect - normal, normal, image)


def _effect(before: Found, after: Found, missed: bool) -> float:
    change = after.response - before.response
    if missed:
        return change
    return -change / before.response if before.response else 0.0


_LEANS = {
    Cause.CLASS: "the class {neighbour} that it lies on or beside",
    Cause.NEIGHBOUR: "what is around it (its neighbours)",
    Cause.TEXTURE: "its texture",
    Cause.COLOUR: "its colour",
}


def misled_by(place: Place, before: Found, tests: Sequence[Outcome], neighbour: str) -> str:
    """Return in words what the model seems to be misled by, with the figures."""
    ranked = ranking(tests)
    if not ranked:
        what = "missed the fossil" if place.missed else "found the mask"
        return f"Nothing could be tried on the place: why the model {what} is not known."
    first = ranked[0]
    subject = "what is found there" if place.missed else "the mask"
    evidence = f"when {first.words}, {subject} goes from {before} to {first.found}"
    if first.others:
        evidence += f", while the others change by {first.others:.2f}"
    if first.effect < CLEAR_EFFECT:
        return (
            f"No single cause is clear. The largest effect: {evidence}"
            f" (effect {first.effect:.2f}; {CLEAR_EFFECT:g} or more would name a cause)."
        )
    lean = _LEANS[first.cause].format(neighbour=neighbour)
    words = f"The model seems to be misled by {lean}: {evidence} (effect {first.effect:.2f})."
    also = [t for t in ranked[1:] if t.effect >= CLEAR_EFFECT and t.cause is not first.cause]
    if also:
        more = "; ".join(f"when {t.words}, to {t.found}" for t in also)
        words += f" It leans on more than that: {more}."
    return words


def ranking(tests: Sequence[Outcome]) -> list[Outcome]:
    """Sort tests by effect; of those with nearly the same the cause that says more leads."""
    if not tests:
        return []
    least = max(t.effect for t in tests) - _TIE
    order = list(Cause)
    near = [t for t in tests if t.effect >= least]
    near.sort(key=lambda t: (order.index(t.cause), -t.effect))
    return [*near, *sorted((t for t in tests if t.effect < least), key=lambda t: -t.effect)]
