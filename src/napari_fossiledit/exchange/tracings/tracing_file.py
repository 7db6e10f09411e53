"""What an annotation file gave and what of it could not be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from napari_fossiledit.masks import Instance, Mask


@dataclass(frozen=True)
class Target:
    """The stack that annotations are for.

    Attributes
    ----------
    names
        One name a slice, in stack order.
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
    """Size of an image (y, x) as people write it, width first."""
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
    """What a file says about one slice.

    Attributes
    ----------
    z
        The slice.
    instances
        Its instances; ids are provisional and tell parents.
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
        """Whether the file says which specimen each body belongs to.

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
