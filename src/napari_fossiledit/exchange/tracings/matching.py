"""Which image of a file is which slice of the stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.tracing_file import Target


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).stem


def _lower_stem(name: str) -> str:
    return _stem(name).lower()


_KEYS: tuple[Callable[[str], str], ...] = (str, _stem, _lower_stem)


class NameIndex:
    """Finds slices by the names of images.

    Tried in turn: the same name; the same without folders and extension; that without regard
    to case.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._tables = [(key, _unique(names, key)) for key in _KEYS]

    def find(self, name: str) -> int | None:
        """Index of the slice, None where no or several slices fit."""
        for key, table in self._tables:
            found = table.get(key(name))
            if found is not None:
                return found
        return None


def _unique(names: Sequence[str], key: Callable[[str], str]) -> dict[str, int | None]:
    table: dict[str, int | None] = {}
    for z, name in enumerate(names):
        table[key(name)] = None if key(name) in table else z
    return table


def by_order(count: int, target: Target, where: str) -> list[int]:
    """Slices that `count` nameless images mean: all slices of the stack, or the chosen ones.

    Returns
    -------
    list of int
        A slice for each image, in order. Where there is an image for every slice of the stack,
        `Target.slices` does not matter here.

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
