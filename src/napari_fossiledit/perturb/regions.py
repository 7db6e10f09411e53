"""Regions of a slice: what is drawn, what is an instance, and combinations of those.

A pixel is at whole coordinates x (column) and y (row), as napari shows it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw
from skimage.draw import ellipse
from skimage.morphology import isotropic_dilation

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance
from napari_fossiledit.perturb.mud import rock_of
from napari_fossiledit.perturb.scene import SliceScene, Where

OPERATORS = frozenset({"and", "or", "not"})
_ONE_WORD = re.compile(r"[^\s()\";]+")
#: Characters of a text that a message shows.
_LONGEST_SHOWN = 200


class Term(ABC):
    """A region that a slice turns into pixels; ``str`` gives the text it is read from."""

    @abstractmethod
    def mask(self, scene: SliceScene) -> Where:
        """Return the pixels (y, x) of the region, possibly none.

        A `FossilError` is raised where the region names what the slice does not have.
        """


def region_mask(region: Term, scene: SliceScene) -> Where:
    """Return the pixels (y, x) of a region in a slice, at least one.

    Raises
    ------
    FossilError
        Where the region is empty, lies outside the slice, or names what the slice does not have.
    """
    mask = region.mask(scene)
    if not mask.any():
        raise FossilError(
            f"The region {shortened(str(region))} is empty on {scene.name}",
            expected="at least one pixel",
            found="none",
            advice="Draw or choose another one.",
        )
    return mask


@dataclass(frozen=True)
class All(Term):
    """The whole slice."""

    def __str__(self) -> str:
        return "all"

    def mask(self, scene: SliceScene) -> Where:
        """See `Term`."""
        return np.ones(scene.shape, dtype=np.bool_)


@dataclass(frozen=True)
class Rock(Term):
    """The ground face of the rock: as annotated, else as `rock_face` finds it."""

    def __str__(self) -> str:
        return "rock"

    def mask(self, scene: SliceScene) -> Where:
        """See `Term`."""
        return rock_of(scene)


@dataclass(frozen=True)
class _Named(Term):
    """A region that is found by a name."""

    name: str
    word: ClassVar[str]

    def __str__(self) -> str:
        return f"{self.word} {quoted(self.name)}"

    def _covered(self, scene: SliceScene, key: Callable[[Instance], str]) -> Where:
        """Pixels of the instances whose `key` is the name; at least one instance."""
        instances = [i for i in scene.instances if key(i) == self.name]
        if not instances:
            present = sorted({key(i) for i in scene.instances} - {""})
            raise FossilError(
                f"{_capitalised(scene.name)} has no instance of the {self.word} {self.name!r}",
                expected=f"one of {_listed(present)}",
                advice="Choose another slice, or another source of instances.",
            )
        return scene.covered(instances)


@dataclass(frozen=True)
class OfClass(_Named):
    """All instances of a class."""

    word = "class"

    def mask(self, scene: SliceScene) -> Where:
        """See `Term`."""
        return self._covered(scene, lambda i: i.class_name)


@dataclass(frozen=True)
class OfTexture(_Named):
    """All instances of a texture, such as ``pitted`` or ``mud_filled``."""

    word = "texture"

    def mask(self, scene: SliceScene) -> Where:
        """See `Term`."""
        return self._covered(scene, lambda i: i.texture)


@dataclass(frozen=True)
class Other(_Named):
    """Everything but a class, as far as the instances of the slice are complete."""

    word = "other"

    def mask(self, scene: SliceScene) -> Where:
        """See `Term`."""
        outside = ~OfClass(self.name).mask(scene)
        # Outside of the traced area nobody knows what is a fossil.
        return outside if scene.complete is None else outside & scene.complete


@dataclass(frozen=True)
class OfInstances(Term):
    """Chosen instances, by the ids of the ledger."""

    ids: tuple[int, ...]

    def __str__(self) -> str:
        return f"instance {'+'.join(map(str, self.ids))}"

    def mask(self, scene: SliceScene) -> Where:
        """See `Term`."""
        present = {i.id: i for i in scene.instances if i.id is not None}
        missing = [id_ for id_ in self.ids if id_ not in present]
        if missing:
            raise FossilError(
                f"{_capitalised(scene.name)} has no instance {missing[0]}",
                expected=f"one of {_listed(sorted(present))}",
            )
        return scene.covered(present[id_] for id_ in self.ids)


@dataclass(frozen=True)
class Box(Term):
    """A rectangle, columns x0 to x1 and rows y0 to y1, half open; None leaves a side open."""

    x0: float | None
    x1: float | None
    y0: float | None = None
    y1: float | None = None

    def __str__(self) -> str:
        return f"box {_sides(self)}"

    def mask(self, scene: SliceScene) -> Where:
        """See `Term`."""
        height, width = scene.shape
        y, x = np.ogrid[:height, :width]
        columns = (x >= (self.x0 or 0)) & (x < (width if self.x1 is None else self.x1))
        rows = (y >= (self.y0 or 0)) & (y < (height if self.y1 is None else self.y1))
        return _within(columns & rows, self, scene)


@dataclass(frozen=True)
class Ellipse(Term):
    """The ellipse that touches the sides of a rectangle (see `Box`)."""

    x0: float
    x1: float
    y0: float
    y1: float

    def __str__(self) -> str:
        return f"ellipse {_sides(self)}"

    def mask(self, scene: SliceScene) -> Where:
        """See `Term`."""
        inside = np.zeros(scene.shape, dtype=np.bool_)
        centre = (self.y0 + self.y1 - 1) / 2, (self.x0 + self.x1 - 1) / 2
        radii = (self.y1 - self.y0) / 2, (self.x1 - self.x0) / 2
        inside[ellipse(*centre, *radii, shape=scene.shape)] = True
        return _within(inside, self, scene)


@dataclass(frozen=True)
class Polygon(Term):
    """A polygon by its corners (x, y), closed by itself; pixels on its edge belong to it."""

    corners: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        return "polygon " + " ".join(f"{_number(x)},{_number(y)}" for x, y in self.corners)

    def mask(self, scene: SliceScene) -> Where:
        """See `Term`."""
        drawn = Image.new("L", scene.shape[::-1])
        # Pillow cuts the fractions off, which would shift every polygon by half a pixel.
        corners = np.floor(np.array(self.corners) + 0.5).astype(np.intp)
        ImageDraw.Draw(drawn).polygon(corners.ravel().tolist(), fill=1)
        return _within(np.asarray(drawn, dtype=np.bool_), self, scene)


@dataclass(frozen=True)
class Not(Term):
    """All outside of a region."""

    term: Term

    def __str__(self) -> str:
        return f"not {_bound(self.term, (And, Or))}"

    def mask(self, scene: SliceScene) -> Where:
        """See `Term`."""
        return ~self.term.mask(scene)


@dataclass(frozen=True)
class Grow(Term):
    """A region and all within some pixels of it, so that no pale rim of a fossil stays visible."""

    pixels: float
    term: Term

    def __str__(self) -> str:
        return f"grow {_number(self.pixels)} {_bound(self.term, (And, Or))}"

    def mask(self, scene: SliceScene) -> Where:
        """See `Term`."""
        return np.asarray(isotropic_dilation(self.term.mask(scene), self.pixels), dtype=np.bool_)


@dataclass(frozen=True)
class And(Term):
    """The pixels that are in both of two regions."""

    left: Term
    right: Term

    def __str__(self) -> str:
        return f"{_bound(self.left, (Or,))} and {_bound(self.right, (And, Or))}"

    def mask(self, scene: SliceScene) -> Where:
        """See `Term`."""
        return self.left.mask(scene) & self.right.mask(scene)


@dataclass(frozen=True)
class Or(Term):
    """The pixels that are in one of two regions or in both."""

    left: Term
    right: Term

    def __str__(self) -> str:
        return f"{self.left} or {_bound(self.right, (Or,))}"

    def mask(self, scene: SliceScene) -> Where:
        """See `Term`."""
        return self.left.mask(scene) | self.right.mask(scene)


def quoted(name: str) -> str:
    """Write a name so that it is read back as one word."""
    plain = _ONE_WORD.fullmatch(name) and name not in OPERATORS and "->" not in name
    return name if plain else f'"{name}"'


def shortened(text: str) -> str:
    """Quote a text for a message, the end of a long one left out."""
    text = text.strip()
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")


def _bound(term: Term, looser: tuple[type[Term], ...]) -> str:
    """Write a term, in parentheses where it binds more loosely than what surrounds it."""
    return f"({term})" if isinstance(term, looser) else str(term)


def _sides(box: Box | Ellipse) -> str:
    x0, x1, y0, y1 = (_number(v) for v in (box.x0, box.x1, box.y0, box.y1))
    return f"{x0}:{x1},{y0}:{y1}"


def _number(coordinate: float | None) -> str:
    return "" if coordinate is None else f"{coordinate:.10g}"


def _within(inside: Where, term: Term, scene: SliceScene) -> Where:
    """Check that a drawn region has a pixel in the slice."""
    if not inside.any():
        raise FossilError(
            f"The region {shortened(str(term))} has no pixel of {scene.name}",
            expected=f"something within {scene.extent}",
            advice="Draw it inside the slice.",
        )
    return inside


def _listed(names: Sequence[object], most: int = 20) -> str:
    shown = ", ".join(map(str, names[:most]))
    return (f"{shown}, ..." if len(names) > most else shown) or "none: it has no instances"


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
