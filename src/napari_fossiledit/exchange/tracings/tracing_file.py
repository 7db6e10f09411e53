"""The common part of annotation files: the stack they are for, slices, problems, names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.rle import intersections

LARGEST_SPECIMEN = 2**31 - 1
"""The ledger keeps ids up to this."""

_SHOWN_REASONS, _SHOWN_PLACES = 20, 5

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
        Chosen slices in the order that the user gave, None for all; images that no name matches
        are laid on them in that order.
    scale
        Whether annotations of images of another size but the same proportions are scaled.
    """

    names: tuple[str, ...]
    shape: tuple[int, int]
    slices: tuple[int, ...] | None = None
    scale: bool = False

    def scales(self, size: tuple[int, ...]) -> bool:
        """Return whether what was drawn on an image of `size` (y, x) is to be scaled.

        Sides of a copy of the photographs are rounded to whole pixels.
        """
        if not self.scale or len(size) != 2 or min(size) <= 0:
            return False
        return abs(size[0] * self.shape[1] - size[1] * self.shape[0]) <= max(self.shape)

    @property
    def size(self) -> str:
        """Size of a slice for messages."""
        return size_text(self.shape)

    def require_rising(self, because: str) -> None:
        """Raise where slices were given in another order than they lie, which means nothing here.

        Parameters
        ----------
        because
            Why their order means nothing.

        Raises
        ------
        FossilError
            With the rising list as advice.
        """
        given = list(self.slices or ())
        if given != sorted(given):
            raise FossilError(
                f"The order of the slices {','.join(map(str, given))} means nothing: {because}",
                expected="a list that rises",
                found=",".join(map(str, given)),
                advice=f"Give --slices {format_slices(given)}.",
            )


def nearest(count: int, of: int) -> NDArray[np.int64]:
    """Return for each of `count` pixels along a side the one of `of` that its centre lies in."""
    return (2 * np.arange(count, dtype=np.int64) + 1) * of // (2 * count)


def size_text(shape: tuple[int, ...]) -> str:
    """Return the size of an image (y, x) as people write it, width first."""
    return f"{shape[1]} x {shape[0]} pixels"


def listed(names: Sequence[str], most: int) -> str:
    """Return the first names for a message, and how many there are more."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


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


def reasons(problems: Sequence[Problem]) -> list[str]:
    """Return what was left out as lines, problems with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for problem in problems:
        by_reason.setdefault(problem.reason, []).append(problem.where)
    shown = [f"{listed(where, _SHOWN_PLACES)}: {why}" for why, where in by_reason.items()]
    rest = shown[_SHOWN_REASONS:]
    return shown[:_SHOWN_REASONS] + ([f"{len(rest)} more reasons"] if rest else [])


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
    problems, duplicates, assumptions
        What had to be left out, how many instances were there twice, and what was taken for given
        though the file does not say it; complete after `traced_slices` has run through.
    """

    path: Path
    problems: list[Problem]
    duplicates: int
    assumptions: list[str]

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
    """Base of files that keep account of what was left out and what was assumed."""

    path: Path
    problems: list[Problem] = field(default_factory=list)
    duplicates: int = 0
    assumptions: list[str] = field(default_factory=list)

    def leave_out(self, where: str, reason: object) -> None:
        """Note that something cannot be used."""
        self.problems.append(Problem(where, str(reason)))

    def assume(self, what: str) -> None:
        """Note what was taken for given though the file does not say it."""
        if what not in self.assumptions:
            self.assumptions.append(what)

    def match(self, names: Sequence[str | None], target: Target) -> Matching:
        """Match images to slices by their names (see `NameIndex`), and note what was guessed."""
        match = NameIndex(target.names).match(names)
        if match.by_end:
            n = match.by_end[0]
            z = match.slices[n]
            self.assume(
                f"images matched by the end of their names: {len(match.by_end)}, e.g. {names[n]} to"
                f" slice {z} ({target.names[z]})"
            )
        return match

    def unique(self, instances: Sequence[Instance]) -> list[Instance]:
        """Return the instances of a slice without those that are there before, and count these.

        Instances of the same class and part with the very same pixels are one: files that were
        joined, or exported twice into one, hold everything twice. The first one stays, gets the
        specimen of another where it has none, and the cavities of all.
        """
        kept: dict[tuple[str, Part, Mask], Instance] = {}
        ids: dict[int | None, int | None] = {}
        for item in instances:
            key = (item.class_name, item.part, item.mask)
            first = kept.setdefault(key, item)
            ids[item.id] = first.id
            if first.specimen is None:
                kept[key] = replace(first, specimen=item.specimen)
        self.duplicates += len(instances) - len(kept)
        return [replace(i, parent=ids.get(i.parent, i.parent)) for i in kept.values()]


# ----------------------------------------------------------- images and slices


#: What Roboflow makes of "s0.png": "s0_png.rf.0a1b2c.jpg".
_ROBOFLOW = re.compile(r"_[a-z]{3,4}\.rf\.[0-9a-z]+$", re.IGNORECASE)


class Matching(NamedTuple):
    """Which images are which slices.

    Attributes
    ----------
    slices
        Slices by positions of images; an image that is listed twice has both positions.
    clashes
        By positions of images that have no slice for it: the slice that several of them fit.
    by_end
        Positions of those of which only the end of the name is that of a slice.
    """

    slices: dict[int, int]
    clashes: dict[int, int]
    by_end: list[int]


class NameIndex:
    """Slices by the names of images.

    Tried in turn: the same name; the same file name, in whatever Unicode form, with or without
    percent signs for other characters; that without extension; that without regard to case; the
    end of a name, where the sign before it is no letter or digit, because Label Studio and others
    put something in front. A name that several slices share means none.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._tables: list[dict[str, int | None]] = [{}, {}, {}, {}]
        for z, name in enumerate(names):
            for table, key in zip(self._tables, self._keys(name), strict=True):
                table[key] = None if key in table else z

    @staticmethod
    def _keys(name: str) -> tuple[str, str, str, str]:
        path = PurePosixPath(unicodedata.normalize("NFC", unquote(name)).replace("\\", "/"))
        stem = _ROBOFLOW.sub("", path.stem)
        return name, path.name, stem, stem.casefold()

    def _ranked(self, name: str) -> tuple[int, int] | None:
        """Return how a name fits (0: exactly, 4: by its end) and the slice."""
        keys = self._keys(name)
        for rank, (table, key) in enumerate(zip(self._tables, keys, strict=True)):
            if (z := table.get(key)) is not None:
                return rank, z
        folded, table, rank = keys[-1], self._tables[-1], len(keys)
        ends = (folded[n:] for n in range(1, len(folded)) if not folded[n - 1].isalnum())
        # The longest end decides, also where it is that of several slices.
        end = next((e for e in ends if e in table), None)
        return None if end is None or (z := table[end]) is None else (rank, z)

    def match(self, names: Sequence[str | None]) -> Matching:
        """Match all images of a file (None: without a name) to slices.

        Of several images that fit one slice the best one gets it, or all of the very same name;
        where other names fit as well, none does.
        """
        fits: dict[int, list[tuple[int, int]]] = {}
        for n, name in enumerate(names):
            if name is not None and (found := self._ranked(name)) is not None:
                fits.setdefault(found[1], []).append((found[0], n))
        slices: dict[int, int] = {}
        clashes: dict[int, int] = {}
        by_end: list[int] = []
        for z, ranked in fits.items():
            best = min(ranked)[0]
            chosen = [n for rank, n in ranked if rank == best]
            alone = len({unicodedata.normalize("NFC", str(names[n])) for n in chosen}) == 1
            slices.update(dict.fromkeys(chosen if alone else [], z))
            clashes.update((n, z) for _, n in ranked if not (alone and n in chosen))
            by_end += chosen if alone and best == len(self._tables) else []
        return Matching(slices, clashes, sorted(by_end))


def by_order(count: int, target: Target, where: str) -> list[int]:
    """Return the slices of nameless images: all slices of the stack, or the chosen ones.

    Returns
    -------
    list of int
        A slice for each of `count` images, in order. Where there is an image for every slice of
        the stack and fewer are chosen, the choice does not matter here.

    Raises
    ------
    FossilError
        Where the numbers do not agree.
    """
    total, chosen = len(target.names), target.slices
    if chosen is not None and count == len(chosen):
        return list(chosen)
    if count == total:
        target.require_rising(f"{where} has an image for each slice of the stack")
        return list(range(total))
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
