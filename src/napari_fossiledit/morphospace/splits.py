"""Parts of the items to train and to test on, and pictures that are in both."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from napari_fossiledit.errors import FossilError
from napari_fossiledit.morphospace.embedding import Item

Indices = NDArray[np.intp]

_HASH_EDGE = 32
_ALIKE_BITS = 5
"""Bits of 63 in which two pictures differ at most to count as the same one.

Of the 7 021 pairs of 119 pictures of fusulinids the nearest one differs in 8; a copy that was saved
as JPEG of quality 60 at half the size, or is darker by a tenth, in at most 4.
"""


class Split(NamedTuple):
    """Rows to train on and rows to test on; no group is in both."""

    train: Indices
    test: Indices


def require_classes(items: Sequence[Item], what: str) -> Counter[str]:
    """Return the number of groups of each class.

    Raises
    ------
    FossilError
        Where fewer than two classes have a name.
    """
    groups = {(item.name, item.group) for item in items if item.name is not None}
    counts = Counter(str(name) for name, _ in groups)
    if len(counts) < 2:
        raise FossilError(
            f"{what} needs at least two classes",
            expected="items of two or more names",
            found=f"all of {next(iter(counts))!r}" if counts else "no item with a name",
            advice="Sort pictures into a sub-folder for each name, or name by texture.",
        )
    return counts


def folds(items: Sequence[Item], count: int, seed: int) -> Iterator[Split]:
    """Yield `count` splits of named items; each class is spread evenly, no group divided."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    names = [str(item.name) for item in items]
    groups = [item.group for item in items]
    alone = len(set(groups)) == len(groups)
    kind = StratifiedKFold if alone else StratifiedGroupKFold
    divided = kind(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class of fewer groups than folds is not in all of them: the user is told beforehand.
        warnings.filterwarnings("ignore", "The least populated class")
        for train, test in divided.split(names, names, *([] if alone else [groups])):
            yield Split(train, test)


def without_pairs(items: Sequence[Item]) -> Iterator[tuple[tuple[str, str], Split]]:
    """Yield each pair of classes, and the split that trains on all others and tests on the pair."""
    names = np.array([str(item.name) for item in items])
    for pair in combinations(sorted(set(names)), 2):
        unseen = np.isin(names, pair)
        yield pair, Split(np.flatnonzero(~unseen), np.flatnonzero(unseen))


def picture_hash(picture: NDArray[Any]) -> str:
    """Return what stays nearly the same where a picture is scaled, compressed or brightened.

    63 bits in hexadecimal digits: signs of the lowest 8 x 8 cosine coefficients of the brightness
    at 32 x 32, without the mean,
    relative to their median (Zauner 2010, Implementation and benchmarking of perceptual image
    hash functions, section 3.2).

    Parameters
    ----------
    picture
        (y, x) or (y, x, 3), of any size from 32 up.
    """
    grey = picture.mean(axis=2) if picture.ndim == 3 else picture.astype(np.float64)
    small = grey
    for axis in (0, 1):
        ends = np.arange(_HASH_EDGE + 1) * grey.shape[axis] // _HASH_EDGE
        total = np.add.reduceat(small, ends[:-1], axis=axis)
        small = total / np.diff(ends).reshape((-1, 1) if axis == 0 else (1, -1))
    low = dctn(small, norm="ortho")[:8, :8].ravel()[1:]
    return np.packbits(low > np.median(low)).tobytes().hex()


def near_duplicates(items: Sequence[Item], bits: int = _ALIKE_BITS) -> list[tuple[int, int]]:
    """Return pairs of items of different groups whose pictures are all but the same.

    Items whose `picture` is not known are like no other.
    """
    known = [n for n, item in enumerate(items) if item.picture]
    bytes_of = [list(bytes.fromhex(items[n].picture)) for n in known]
    hashes = np.unpackbits(np.array(bytes_of, np.uint8).reshape(-1, 8), axis=1)
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    found: list[tuple[int, int]] = []
    # In blocks: all pairs of 5 000 pictures at once would take 100 MB more than they need.
    for start in range(0, len(signs), 512):
        differing = (signs.shape[1] - signs[start : start + 512] @ signs.T) / 2
        rows, columns = np.nonzero(differing <= bits)
        found += [
            (known[a], known[b])
            for a, b in zip((rows + start).tolist(), columns.tolist(), strict=True)
            if a < b and items[known[a]].group != items[known[b]].group
        ]
    return found


def joined(items: Sequence[Item], pairs: Iterable[tuple[int, int]]) -> tuple[Item, ...]:
    """Return items of which those of each pair share a group, so that no split divides them."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    groups = [item.group for item in items]
    names = sorted(set(groups))
    places = {name: n for n, name in enumerate(names)}
    edges = [(places[groups[a]], places[groups[b]]) for a, b in pairs]
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    graph = coo_matrix((np.ones(len(edges)), (rows, columns)), (len(names), len(names)))
    _, parts = connected_components(graph, directed=False)
    first: dict[int, str] = {}
    for name, part in zip(names, parts.tolist(), strict=True):
        first.setdefault(part, name)
    return tuple(replace(item, group=first[int(parts[places[item.group]])]) for item in items)
