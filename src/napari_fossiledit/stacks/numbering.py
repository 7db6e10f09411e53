"""Order of slices by their names, and what the numbers in the names give away."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from natsort import natsorted, ns

_SHOWN = 5


def in_order(names: Sequence[str]) -> list[str]:
    """Sort file names as people do: slice_2 comes before slice_10, case does not matter."""
    return natsorted(names, alg=ns.PATH | ns.IGNORECASE)


def gap_warnings(names: Sequence[str]) -> list[str]:
    """Tell where sorted names skip numbers or repeat them.

    The usual step is the most common one (a stack may have every tenth number). Names whose
    numbers follow no step, such as times, give no warning.
    """
    numbers = _numbers(names)
    if len(numbers) < 3:
        return []
    steps = [b - a for a, b in pairwise(numbers)]
    usual, count = Counter(steps).most_common(1)[0]
    if usual <= 0 or count * 2 < len(steps):
        return []
    told = [_told(names[i], names[i + 1], step, usual) for i, step in enumerate(steps)]
    odd = [text for text in told if text]
    hidden = [f"... and {len(odd) - _SHOWN} more such places."] if len(odd) > _SHOWN else []
    return odd[:_SHOWN] + hidden


def _told(name: str, following: str, step: int, usual: int) -> str:
    if step == usual:
        return ""
    if step == 0:
        return f"{name} and {following} carry the same number."
    missing = step // usual - 1
    lost = f": {missing} slice{'s' if missing > 1 else ''} may be missing" if missing > 0 else ""
    return f"The numbering jumps from {name} to {following}{lost}."


def _numbers(names: Sequence[str]) -> list[int]:
    """Return the number that counts the slices: the last one that differs between the names."""
    fields = [[int(n) for n in re.findall(r"\d+", Path(name).stem)] for name in names]
    if len({len(f) for f in fields}) != 1:
        return []
    columns = list(zip(*fields, strict=True))
    varying = [list(column) for column in columns if len(set(column)) > 1]
    return varying[-1] if varying else []
