"""The common part of annotation files: the stack they are for, slices, problems, names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.rle import intersections

LARGEST_SPECIMEN = 2**31 - 1
"""The ledger keeps ids up to this."""

_LEAST_SHARE_INSIDE = 0.5
"""Share of a cavity that must lie in a body; hand-clicked inner walls stray out a little."""


@dataclass(frozen=True)
class Target:
    """The stack that annotations are for.

    Attributes
    ----------
    names
        One name for each slice, in stack order.
    shape
        Rows and columns (y, x) of a slice.
    slices
        Chosen slices, None for all; images that no name matches are laid on them in order.
    """

    names: tuple[str, ...]
    shape: tuple[int, int]
    slices: tuple[int, ...] | None = None

    @property
    def size(self) -> str:
        """Size of a slice for messages."""
        return size_text(self.shape)


def size_text(shape: tuple[int, ...]) -> str:
    """Return the size of an image (y, x) as people write it, width first."""
    return f"{shape[1]} x {shape[0]} pixels"


@dataclass(frozen=True)
class Problem:
    """Something in a file that was left out.

    Attributes
    ----------
    where
        The image, annotation or page.
    reason
        Why it could not be used.
    """

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class TracedSlice:
    """The annotations of one slice.

    Attributes
    ----------
    z
        The slice.
    instances
        Its instances; ids are provisional, for parents to refer to.
    traced
        Whether the slice is annotated completely in `area`.
    area
        The completely annotated part, None for the whole slice.
    """

    z: int
    instances: list[Instance]
    traced: bool = True
    area: Mask | None = None


class TracingFile(Protocol):
    """A file with traced slices, read slice by slice.

    Attributes
    ----------
    path
        The file or folder.
    problems
        What had to be left out; complete after `traced_slices` has run through.
    """

    path: Path
    problems: list[Problem]

    @property
    def count(self) -> int:
        """Number of slices that `traced_slices` yields."""

    @property
    def identified(self) -> bool:
        """True where the file says which specimen each body belongs to.

        Known after `traced_slices` has run through.
        """

    def traced_slices(self) -> Iterator[TracedSlice]:
        """Read the slices in stack order, one at a time."""


@dataclass
class ProblemList:
    """Base of files that collect problems."""

    path: Path
    problems: list[Problem] = field(default_factory=list)

    def leave_out(self, where: str, reason: object) -> None:
        """Note that something cannot be used."""
        self.problems.append(Problem(where, str(reason)))


# ----------------------------------------------------------- images and slices


class NameIndex:
    """Slices by the names of images.

    Tried in turn: the same name; the same without folders and extension; that without regard
    to case. A name that several slices share means none.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._tables: list[dict[str, int | None]] = [{}, {}, {}]
        for z, name in enumerate(names):
            for table, key in zip(self._tables, self._keys(name), strict=True):
                table[key] = None if key in table else z

    @staticmethod
    def _keys(name: str) -> tuple[str, str, str]:
        stem = PurePosixPath(name.replace("\\", "/")).stem
        return name, stem, stem.lower()

    def find(self, name: str) -> int | None:
        """Return the index of the slice, None where no or several slices fit."""
        candidates = (t.get(key) for t, key in zip(self._tables, self._keys(name), strict=True))
        return next((z for z in candidates if z is not None), None)


def by_order(count: int, target: Target, where: str) -> list[int]:
    """Return the slices of nameless images: all slices of the stack, or the chosen ones.

    Returns
    -------
    list of int
        A slice for each of `count` images, in order. Where there is an image for every slice of
        the stack, `Target.slices` does not matter here.

    Raises
    ------
    FossilError
        Where the numbers do not agree.
    """
    total, chosen = len(target.names), target.slices
    if count == total:
        return list(range(total))
    if chosen is not None and count == len(chosen):
        return list(chosen)
    expected = f"{total}" if chosen is None else f"{total} or {len(chosen)}"
    raise FossilError(
        f"The images of {where} cannot be matched to slices",
        expected=f"{expected} images, or the names of slices",
        found=f"{count} images",
        advice="Choose the slices they belong to with --slices, one for each image.",
    )


# ---------------------------------------------------------- cavities and bodies


def nested(instances: Sequence[Instance], bodies: Sequence[Instance]) -> list[Instance]:
    """Give cavities the id of the body of their class they lie in as `Instance.parent`.

    A cavity with a specimen belongs to the body of the same specimen it shares most with; one
    without to the smallest body that holds at least half of it. Cavities that have a parent or
    lie nowhere, and bodies, stay as they are.

    Parameters
    ----------
    instances, bodies
        Of one slice; bodies have ids.
    """
    return [
        _with_parent(i, bodies) if i.part is Part.CAVITY and i.parent is None else i
        for i in instances
    ]


def _with_parent(cavity: Instance, bodies: Sequence[Instance]) -> Instance:
    bodies = [b for b in bodies if b.class_name == cavity.class_name]
    same = [b for b in bodies if cavity.specimen is not None and b.specimen == cavity.specimen]
    candidates = same or [b for b in bodies if cavity.specimen is None or b.specimen is None]
    shared = intersections([cavity.mask], [b.mask for b in candidates]).ravel().tolist()
    if same:
        return replace(cavity, parent=same[shared.index(max(shared))].id)
    least = _LEAST_SHARE_INSIDE * cavity.mask.area
    holding = [b for b, pixels in zip(candidates, shared, strict=True) if pixels > least]
    if not holding:
        return cavity
    return replace(cavity, parent=min(holding, key=lambda b: b.mask.area).id)
