"""Image files of a folder: which are slices, in which order, and what is odd about their names.

Photographs and label images are listed here, so that both get the same order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path, PurePath
from typing import NamedTuple

from natsort import natsorted, ns

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
# What operating systems leave in every folder.
_LITTER = (".ds_store", "thumbs.db", "desktop.ini")
#: Places in the numbering, and names of files, that a warning lists.
_SHOWN = 5
# One point or comma between digits, and a unit of length behind: 2024.05.01 is no decimal.
_DECIMAL = re.compile(
    r"(?<![\d.,])\d+[.,](\d+)(?!\d|[.,]\d)(\s?(?:nm|um|µm|μm|mm|cm|m|in)(?![a-z]))?", re.IGNORECASE
)
# " (1)", " copy", "_copy2", " - Copy", " - Kopie (2)": what systems add to the name of a copy.
_NUMBERED = re.compile(r"\s?\(\d+\)$")
_COPY = re.compile(r"[\s_-]+(?:copy|kopie|copie|copia)[\s_]?(?:\(?\d+\)?)?$")


class Listing(NamedTuple):
    """The images of a folder.

    Attributes
    ----------
    names
        File names in the order of slices.
    left_out
        What else is in the folder, for the user; empty where there is nothing.
    """

    names: list[str]
    left_out: str


def list_images(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> Listing:
    """List the images of a folder in order; hidden files, other files and folders are left out.

    Raises
    ------
    FossilError
        Where there is no image, or no folder.
    """
    files, hidden, others = [], [], Counter[str]()
    with explained(folder, "Reading"):
        entries = list(folder.iterdir())
    for entry in entries:
        if entry.name.lower() in _LITTER:
            continue
        if entry.is_dir():
            others["folder"] += 1
        elif not entry.name.lower().endswith(tuple(suffixes)):
            others[entry.suffix or entry.name] += 1
        elif is_image_name(entry.name):
            files.append(entry.name)
        else:
            hidden.append(entry.name)
    # A folder is listed in whatever order its disk keeps.
    kinds = sorted(others.items(), key=lambda each: (-each[1], each[0]))
    found = [f"{n} x {kind}" for kind, n in kinds[:_SHOWN]]
    if hidden:
        found.append(f"{len(hidden)} hidden ({enumerated(sorted(hidden))})")
    if not files:
        taken = ", ".join(s.lstrip(".").upper() for s in suffixes if s not in (".jpg", ".tif"))
        raise FossilError(
            f"The folder {folder} holds no images",
            expected=f"{taken} files, one per slice",
            found=", ".join(found) or "an empty folder",
            advice="Choose the folder that the images are in.",
        )
    return Listing(in_order(files), ", ".join(found))


def is_image_name(name: str) -> bool:
    """Return whether a file name looks like a visible PNG, JPEG or TIFF."""
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def in_order(names: Sequence[str]) -> list[str]:
    """Sort file names as people do: slice_2 comes before slice_10, case does not matter.

    Numbers with a decimal point or comma are sorted by their value where they are lengths
    (z1mm, z1.25mm, z1.5mm), see `has_decimals`.
    """
    if not has_decimals(names):
        return natsorted(names, alg=ns.PATH | ns.IGNORECASE)
    return natsorted(
        names,
        key=lambda name: re.sub(r"(?<=\d),(?=\d)", ".", name),
        alg=ns.PATH | ns.IGNORECASE | ns.FLOAT | ns.NOEXP,
    )


def has_decimals(names: Iterable[str]) -> bool:
    """Return whether the names hold decimal numbers rather than two counts (plate 1.9, 1.10).

    They do where a unit of length stands behind, or where the digits behind the point differ in
    number and none of them ends in a zero, as counting from 1.9 on to 1.10 does.
    """
    found = [m for name in names for m in _DECIMAL.finditer(PurePath(name).stem)]
    if any(m[2] for m in found):
        return True
    lengths = {len(m[1]) for m in found}
    return len(lengths) > 1 and not any(len(m[1]) > 1 and m[1].endswith("0") for m in found)


def name_warnings(names: Sequence[str]) -> list[str]:
    """Return what is odd about sorted names: a slice that is there twice, numbers left out."""
    warnings, extra = [], set[str]()
    for group in doubled(names):
        warnings.append(
            f"{enumerated(group)} look like the same slice; each counts as a slice of its own."
        )
        extra.update(group[1:])
    hidden = len(warnings) - _SHOWN
    more = [f"... and {hidden} more slices that are there twice."] if hidden > 0 else []
    return warnings[:_SHOWN] + more + gap_warnings([n for n in names if n not in extra])


def doubled(names: Sequence[str]) -> list[list[str]]:
    """Return groups of names that mean one slice: copies, two formats, or another case."""
    groups: dict[str, list[str]] = {}
    for name in names:
        stem = _COPY.sub("", PurePath(name).stem.lower())
        groups.setdefault(_NUMBERED.sub("", stem), []).append(name)
    if len(groups) == 1:
        # slice (1), slice (2), ... is how some programs number.
        groups.clear()
        for name in names:
            groups.setdefault(_COPY.sub("", PurePath(name).stem.lower()), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def gap_warnings(names: Sequence[str]) -> list[str]:
    """Return a warning for each place where sorted names skip numbers or repeat them.

    The usual step is the most common one (a stack may have every tenth number). Names whose
    numbers follow no step, such as times, give no warning.
    """
    numbers = [] if has_decimals(names) else _numbers(names)
    if len(numbers) < 3:
        return []
    steps = [b - a for a, b in pairwise(numbers)]
    usual, count = Counter(steps).most_common(1)[0]
    if usual <= 0 or count * 2 < len(steps):
        return []
    warnings = []
    for name, following, step in zip(names, names[1:], steps, strict=False):
        if step == 0:
            warnings.append(f"{name} and {following} carry the same number.")
        elif step != usual:
            missing = step // usual - 1
            plural = "s" if missing > 1 else ""
            lost = f": {missing} slice{plural} may be missing" if missing > 0 else ""
            warnings.append(f"The numbering jumps from {name} to {following}{lost}.")
    hidden = len(warnings) - _SHOWN
    more = [f"... and {hidden} more such places."] if hidden > 0 else []
    return warnings[:_SHOWN] + more


def _numbers(names: Sequence[str]) -> list[int]:
    """Return the number that counts the slices: the last one that differs between the names."""
    fields = [[int(n) for n in re.findall(r"\d+", Path(name).stem)] for name in names]
    if len({len(f) for f in fields}) != 1:
        return []
    columns = list(zip(*fields, strict=True))
    varying = [list(column) for column in columns if len(set(column)) > 1]
    return varying[-1] if varying else []


def enumerated(names: Sequence[str]) -> str:
    """Return the first names as text: "a, b and c", or "a, b, c and 7 more"."""
    shown, hidden = list(names[:_SHOWN]), len(names) - _SHOWN
    last = f"{hidden} more" if hidden > 0 else shown.pop()
    return f"{', '.join(shown)} and {last}" if shown else last
