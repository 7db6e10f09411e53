"""What misleads a model at one place: fill the place or what is around it, and look again.

A cause is tested by taking it away. A wrong mask that falls when the class it lies on is filled
with mud was suggested by that class; one that falls when the slice is blurred, by its texture. For
a missed fossil it is the other way round: what has to be changed for it to be found, hid it.

What is filled becomes real mud, stitched from the slice: one flat colour is so unlike anything in a
slice that it makes every mask fall. Texture and colour change all over the slice, so that what the
other instances suffer can be taken off: the remainder is peculiar to the place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import median
from typing import Any

from napari_fossiledit.masks import Instance
from napari_fossiledit.masks.rle import iou_matrix
from napari_fossiledit.perturb import Step, steps_text
from napari_fossiledit.perturb.fills import Blur, Fill, Hue, Mud, RealMud, Texture
from napari_fossiledit.perturb.regions import All, And, Box, Not, OfClass, Term
from napari_fossiledit.perturb.scene import Image
from napari_fossiledit.workflows.repair.place import LEAST_OVERLAP, Found, Place, answer_to

CLEAR = 0.5
"""A test with this effect or more names a cause."""

_TIE = 0.1
_REACH = 1.0
_BLUR = 0.02
_SIGMA = (0.7, 4.0)
_TURN = 90.0
SURE = 0.5
"""Other instances from this score up tell what a test does to the whole slice."""


class Cause(StrEnum):
    """What may mislead a model; of two that tell the same, the first says more."""

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
        Whether it changes the whole slice: the other instances then tell what is normal.
    """

    cause: Cause
    words: str
    step: Step
    everywhere: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a test showed.

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
        The perturbed slice around the place, (y, x[, 3]); not told in summaries.
    """

    cause: Cause
    words: str
    steps: str
    found: Found
    effect: float
    others: float = 0.0
    image: Image | None = field(default=None, repr=False, compare=False)

    def summary(self) -> dict[str, Any]:
        """Tell the test as JSON-able values."""
        return {
            "cause": str(self.cause),
            "test": self.words,
            "steps": self.steps,
            "score": self.found.score,
            "overlap": self.found.overlap,
            "effect": self.effect,
            "effect_on_others": self.others,
        }


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
    around = And(_box(place), Not(place))
    found = [_test(Cause.NEIGHBOUR, "its surroundings are filled with mud", around, RealMud())]
    if neighbour:
        of_class = And(OfClass(neighbour), Not(place)) if place.missed else OfClass(neighbour)
        words = f"all {neighbour} is filled with mud"
        found.append(_test(Cause.CLASS, words, of_class, RealMud()))
    if not place.missed:
        found.append(_test(Cause.TEXTURE, "its inside is filled with mud", place, RealMud()))
    elif textured:
        words = "its inside is filled with the pitted texture"
        found.append(_test(Cause.TEXTURE, words, place, Texture()))
    low, high = _SIGMA
    blur = Blur(round(min(max(_BLUR * place.size, low), high), 1))
    found.append(_test(Cause.TEXTURE, "the slice is blurred a little", All(), blur))
    if coloured:
        words = "the colours of the slice are turned"
        found.append(_test(Cause.COLOUR, words, All(), Hue(_TURN)))
    return found


def _test(cause: Cause, words: str, region: Term, fill: Fill) -> PlaceTest:
    return PlaceTest(cause, words, Step(region, (fill,)), isinstance(region, All))


def with_flat_mud(test: PlaceTest) -> PlaceTest:
    """Fill with the mud colour instead of real mud, where a slice shows too little of that."""
    fills = tuple(Mud() if isinstance(f, RealMud) else f for f in test.step.fills)
    return replace(test, step=Step(test.step.region, fills))


def _box(place: Place) -> Box:
    y0, x0, y1, x1 = place.grown(round(_REACH * place.size))
    return Box(x0, x1, y0, y1)


def outcome(
    place: Place,
    test: PlaceTest,
    before: Sequence[Instance],
    after: Sequence[Instance],
    image: Image | None = None,
) -> Outcome:
    """Tell what a test showed.

    Parameters
    ----------
    before, after
        All that is found on the slice as it is and perturbed.
    """
    pixels, name = place.pixels, place.class_name
    found = answer_to(pixels, name, after)
    effect = _effect(answer_to(pixels, name, before), found, place.missed)
    others = _on_others(place, before, after) if test.everywhere else 0.0
    steps = steps_text([test.step])
    return Outcome(test.cause, test.words, steps, found, effect - others, others, image)


def _effect(before: Found, after: Found, won: bool) -> float:
    change = after.response - before.response
    if won:
        return change
    return -change / before.response if before.response else 0.0


def _on_others(place: Place, before: Sequence[Instance], after: Sequence[Instance]) -> float:
    """Median effect on what else is found with a high score; 0 where that is nothing."""
    others = [i for i in before if i.score >= SURE and i.class_name == place.class_name]
    overlaps = iou_matrix([i.mask for i in others], [place.pixels])[:, 0]
    apart = [i for i, o in zip(others, overlaps, strict=True) if o < LEAST_OVERLAP]
    effects = [
        _effect(Found(i.score, 1.0), answer_to(i.mask, i.class_name, after), place.missed)
        for i in apart
    ]
    return max(median(effects), 0.0) if effects else 0.0


_LEANS = {
    Cause.CLASS: "the class {neighbour} that it lies on or beside",
    Cause.NEIGHBOUR: "what is around it (its neighbours)",
    Cause.TEXTURE: "its texture",
    Cause.COLOUR: "its colour",
}


def misled_by(place: Place, before: Found, tests: Sequence[Outcome], neighbour: str) -> str:
    """Say in words what the model seems to be misled by, with the figures."""
    ranked = ranking(tests)
    what = "missed the fossil" if place.missed else "found the mask"
    if not ranked:
        return f"Nothing could be tried on the place: why the model {what} is not known."
    first = ranked[0]
    change = f"goes from {before} to {first.found}"
    subject = "what is found there" if place.missed else "the mask"
    evidence = f"when {first.words}, {subject} {change}{_beside(first)}"
    if first.effect < CLEAR:
        return (
            f"No single cause is clear. The largest effect: {evidence}"
            f" (effect {first.effect:.2f}; {CLEAR:g} or more would name a cause)."
        )
    lean = _LEANS[first.cause].format(neighbour=neighbour)
    also = [t for t in ranked[1:] if t.effect >= CLEAR and t.cause is not first.cause]
    told = f"The model seems to be misled by {lean}: {evidence} (effect {first.effect:.2f})."
    if also:
        more = "; ".join(f"when {t.words}, to {t.found}" for t in also)
        told += f" It leans on more than that: {more}."
    return told


def _beside(test: Outcome) -> str:
    """Say what a test does to the others, where it touches them."""
    return f", while the others change by {test.others:.2f}" if test.others else ""


def ranking(tests: Sequence[Outcome]) -> list[Outcome]:
    """Sort tests by effect; of those that tell nearly the same the more telling cause leads."""
    if not tests:
        return []
    largest = max(t.effect for t in tests)
    order = list(Cause)
    near = [t for t in tests if t.effect >= largest - _TIE]
    rest = [t for t in tests if t.effect < largest - _TIE]
    near.sort(key=lambda t: (order.index(t.cause), -t.effect))
    return [*near, *sorted(rest, key=lambda t: -t.effect)]
