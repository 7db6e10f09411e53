"""Regions of a slice: what is drawn, what is an instance, and combinations of those.

A pixel is at whole coordinates x (column) and y (row), as napari shows it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from skimage.draw import ellipse
from skimage.morphology import isotropic_dilation

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance
from napari_fossiledit.masks.rle import union
from napari_fossiledit.perturb.reading import quoted, told
from napari_fossiledit.perturb.rock import rock_face
from napari_fossiledit.perturb.scene import Scene, Where

ROCK_CLASS = "rock_face"
"""Class of an annotation that tells the rock face; where there is one, nothing is guessed."""


class Term(ABC):
    """A region that a slice turns into pixels; ``str`` gives the text it is read from."""

    @abstractmethod
    def mask(self, scene: Scene) -> Where:
        """Pixels (y, x) of the region, possibly none.

        Raises
        ------
        FossilError
            Where the slice has not what the region names.
        """


def region_mask(region: Term, scene: Scene) -> Where:
    """Pixels (y, x) of a region in a slice.

    Raises
    ------
    FossilError
        Where the region is empty, lies outside the slice, or names what the slice has not.
    """
    mask = region.mask(scene)
    if not mask.any():
        raise FossilError(
            f"The region {told(str(region))} is empty on {scene.name}",
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

    def mask(self, scene: Scene) -> Where:
        """See `Term`."""
        return np.ones(scene.shape, dtype=np.bool_)


@dataclass(frozen=True)
class Rock(Term):
    """The ground face of the rock: as annotated, else as `rock_face` finds it."""

    def __str__(self) -> str:
        return "rock"

    def mask(self, scene: Scene) -> Where:
        """See `Term`."""
        traced = [i for i in scene.instances if i.class_name == ROCK_CLASS]
        return _painted(traced, scene) if traced else rock_face(scene.image)


@dataclass(frozen=True)
class OfClass(Term):
    """All instances of a class."""

    name: str

    def __str__(self) -> str:
        return f"class {quoted(self.name)}"

    def mask(self, scene: Scene) -> Where:
        """See `Term`."""
        return _chosen(scene, "class", self.name, lambda i: i.class_name)


@dataclass(frozen=True)
class Other(Term):
    """Everything but a class, as far as the instances of the slice are complete."""

    name: str

    def __str__(self) -> str:
        return f"other {quoted(self.name)}"

    def mask(self, scene: Scene) -> Where:
        """See `Term`."""
        outside = ~OfClass(self.name).mask(scene)
        return outside if scene.known is None else outside & scene.known


@dataclass(frozen=True)
class OfTexture(Term):
    """All instances of a texture, such as ``pitted`` or ``mud_filled``."""

    name: str

    def __str__(self) -> str:
        return f"texture {quoted(self.name)}"

    def mask(self, scene: Scene) -> Where:
        """See `Term`."""
        return _chosen(scene, "texture", self.name, lambda i: i.texture)


@dataclass(frozen=True)
class OfInstances(Term):
    """Chosen instances, by the ids of the ledger."""

    ids: tuple[int, ...]

    def __str__(self) -> str:
        return f"instance {'+'.join(map(str, self.ids))}"

    def mask(self, scene: Scene) -> Where:
        """See `Term`."""
        there = {i.id: i for i in scene.instances if i.id is not None}
        missing = [id_ for id_ in self.ids if id_ not in there]
        if missing:
            raise FossilError(
                f"{_upper(scene.name)} has no instance {missing[0]}",
                expected=f"one of {_listed(sorted(there))}",
            )
        return _painted([there[id_] for id_ in self.ids], scene)


@dataclass(frozen=True)
class Box(Term):
    """A rectangle, columns x0 to x1 and rows y0 to y1, half open; None leaves a side open."""

    x0: float | None
    x1: float | None
    y0: float | None = None
    y1: float | None = None

    def __str__(self) -> str:
        x0, x1, y0, y1 = (_text(v) for v in _sides(self))
        return f"box {x0}:{x1},{y0}:{y1}"

    def mask(self, scene: Scene) -> Where:
        """See `Term`."""
        y, x = np.ogrid[: scene.shape[0], : scene.shape[1]]
        inside = (x >= (self.x0 or 0)) & (x < _or_end(self.x1, scene.shape[1]))
        inside = inside & (y >= (self.y0 or 0)) & (y < _or_end(self.y1, scene.shape[0]))
        return _within(inside, self, scene)


@dataclass(frozen=True)
class Ellipse(Term):
    """The ellipse that touches the sides of a rectangle (see `Box`)."""

    x0: float
    x1: float
    y0: float
    y1: float

    def __str__(self) -> str:
        x0, x1, y0, y1 = (_text(v) for v in _sides(self))
        return f"ellipse {x0}:{x1},{y0}:{y1}"

    def mask(self, scene: Scene) -> Where:
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
        return "polygon " + " ".join(f"{_text(x)},{_text(y)}" for x, y in self.corners)

    def mask(self, scene: Scene) -> Where:
        """See `Term`."""
        drawn = Image.new("L", scene.shape[::-1])
        # Pillow cuts the fractions off, which would shift every polygon by half a pixel.
        corners = np.floor(np.array(self.corners) + 0.5).astype(np.intp)
        ImageDraw.Draw(drawn).polygon(corners.ravel().tolist(), fill=1)
        return _within(np.asarray(drawn, dtype=np.bool_), self, scene)


@dataclass(frozen=True)
class Not(Term):
    """What is outside of a region."""

    term: Term

    def __str__(self) -> str:
        return f"not {_bound(self.term, (And, Or))}"

    def mask(self, scene: Scene) -> Where:
        """See `Term`."""
        return ~self.term.mask(scene)


@dataclass(frozen=True)
class Grow(Term):
    """A region and all within some pixels of it, so that no pale rim of a fossil stays visible."""

    pixels: float
    term: Term

    def __str__(self) -> str:
        return f"grow {_text(self.pixels)} {_bound(self.term, (And, Or))}"

    def mask(self, scene: Scene) -> Where:
        """See `Term`."""
        return np.asarray(isotropic_dilation(self.term.mask(scene), self.pixels), dtype=np.bool_)


@dataclass(frozen=True)
class And(Term):
    """What is in two regions alike."""

    left: Term
    right: Term

    def __str__(self) -> str:
        return f"{_bound(self.left, (Or,))} and {_bound(self.right, (And, Or))}"

    def mask(self, scene: Scene) -> Where:
        """See `Term`."""
        return self.left.mask(scene) & self.right.mask(scene)


@dataclass(frozen=True)
class Or(Term):
    """What is in one of two regions or in both."""

    left: Term
    right: Term

    def __str__(self) -> str:
        return f"{self.left} or {_bound(self.right, (Or,))}"

    def mask(self, scene: Scene) -> Where:
        """See `Term`."""
        return self.left.mask(scene) | self.right.mask(scene)


def _bound(term: Term, looser: tuple[type[Term], ...]) -> str:
    return f"({term})" if isinstance(term, looser) else str(term)


def _sides(box: Box | Ellipse) -> tuple[float | None, ...]:
    return (box.x0, box.x1, box.y0, box.y1)


def _text(coordinate: float | None) -> str:
    return "" if coordinate is None else f"{coordinate:.10g}"


def _or_end(side: float | None, end: int) -> float:
    return end if side is None else side


def _within(inside: Where, term: Term, scene: Scene) -> Where:
    """Refuse a drawn region without a pixel in the slice."""
    if not inside.any():
        raise FossilError(
            f"The region {told(str(term))} has no pixel of {scene.name}",
            expected=f"something within {scene.size}",
            advice="Draw it inside the slice.",
        )
    return inside


def _chosen(scene: Scene, kind: str, name: str, key: Callable[[Instance], str]) -> Where:
    found = [i for i in scene.instances if key(i) == name]
    if not found:
        there = sorted({key(i) for i in scene.instances} - {""})
        raise FossilError(
            f"{_upper(scene.name)} has no instance of the {kind} {name!r}",
            expected=f"one of {_listed(there)}",
            advice="Choose another slice, or another source of instances.",
        )
    return _painted(found, scene)


def _painted(instances: Sequence[Instance], scene: Scene) -> Where:
    masks = [i.mask for i in instances]
    wrong = next((m.shape for m in masks if m.shape != scene.shape), None)
    if wrong is not None:
        raise FossilError(
            f"The instances of {scene.name} are of a slice of another size",
            expected=f"{scene.shape[1]} x {scene.shape[0]} pixels",
            found=f"{wrong[1]} x {wrong[0]}",
        )
    return union(masks, scene.shape).to_array()


def _listed(names: Sequence[object], most: int = 20) -> str:
    shown = ", ".join(map(str, names[:most]))
    return (f"{shown}, ..." if len(names) > most else shown) or "none: it has no instances"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
