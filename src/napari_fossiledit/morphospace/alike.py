"""Items that are most alike, that are like no other, and that may be of one specimen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.morphospace.embedding import Embedding

_ROWS = 256
"""Rows whose distances to all others are held at a time."""


@dataclass(frozen=True)
class Outlier:
    """An item that is like few others.

    Attributes
    ----------
    row
        Of the embedding.
    distance
        Mean cosine distance to its nearest neighbours of other groups.
    reasons
        Why it is listed, in sentences.
    """

    row: int
    distance: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """Two instances in different slices, each of which is the other's nearest in its slice.

    Attributes
    ----------
    rows
        Of the embedding, the one in the lower slice first.
    similarity
        Cosine.
    linked
        Whether they are of one specimen at present; None where one is of none.
    """

    rows: tuple[int, int]
    similarity: float
    linked: bool | None


def most_similar(
    embedding: Embedding, rows: Sequence[int], count: int, *, same_group: bool = False
) -> list[tuple[int, float]]:
    """Return the rows that are most like some rows, and their cosine similarity, falling.

    Parameters
    ----------
    rows
        What is looked for: the mean of these.
    same_group
        Also list items of the same specimen or picture.
    """
    asked = embedding.vectors[list(rows)].mean(axis=0)
    similar = embedding.vectors @ (asked / max(float(np.linalg.norm(asked)), 1e-9))
    groups = {embedding.items[row].group for row in rows}
    left_out = set(rows)
    if not same_group:
        left_out |= {n for n, item in enumerate(embedding.items) if item.group in groups}
    order = (int(row) for row in np.argsort(-similar, kind="stable"))
    return [(row, float(similar[row])) for row in order if row not in left_out][:count]


def outliers(embedding: Embedding, *, neighbours: int = 5, count: int = 20) -> list[Outlier]:
    """Return the items that are farthest from their neighbours of other groups, farthest first.

    Then come those that most of their neighbours have another name than, also farthest first.

    Raises
    ------
    FossilError
        Where all items are of one group.
    """
    groups = np.unique([item.group for item in embedding.items], return_inverse=True)[1]
    if len(np.unique(groups)) < 2:
        raise FossilError(
            "No item can be an outlier",
            expected="items of at least two specimens or pictures",
            found="one",
        )
    vectors, names = embedding.vectors, [item.name for item in embedding.items]
    distances, elsewhere = np.zeros(len(vectors)), dict[int, str]()
    for start in range(0, len(vectors), _ROWS):
        far = 1 - vectors[start : start + _ROWS] @ vectors.T
        far[groups[start : start + _ROWS, None] == groups] = np.inf
        for row, nearest in enumerate(np.argsort(far, axis=1, kind="stable"), start):
            near = [n for n in nearest[:neighbours] if np.isfinite(far[row - start, n])]
            distances[row] = far[row - start, near].mean()
            top, votes = Counter(names[n] for n in near).most_common(1)[0]
            if None not in (names[row], top) and top != names[row] and votes > len(near) / 2:
                elsewhere[row] = str(top)
    middle = float(np.median(distances))
    order = [int(row) for row in np.argsort(-distances, kind="stable")]
    # Tukey's fence: beyond it is what the others do not explain.
    low, high = np.percentile(distances, [25, 75])
    far_out = [row for row in order if distances[row] > high + 1.5 * (high - low) + 1e-6]
    listed = []
    for row in dict.fromkeys([*far_out, *(row for row in order if row in elsewhere)]):
        reasons = []
        if row in far_out:
            reasons.append(f"Its neighbours are {distances[row]:.2f} away, usual are {middle:.2f}.")
        if row in elsewhere:
            reasons.append(f"It is named {names[row]}, and most like it are {elsewhere[row]}.")
        listed.append(Outlier(row, float(distances[row]), tuple(reasons)))
    return listed[:count]


def across_slices(embedding: Embedding, *, reach: int = 1, least: float = 0.0) -> list[Pair]:
    """Return pairs of instances that may be sections of one specimen, most alike first.

    Parameters
    ----------
    reach
        Most slices from one to the other.
    least
        Least cosine similarity.

    Raises
    ------
    FossilError
        Where the items do not come from different slices.
    """
    slices = np.array([-1 if item.slice is None else item.slice for item in embedding.items])
    there = {int(z): np.flatnonzero(slices == z) for z in np.unique(slices) if z >= 0}
    if len(there) < 2:
        raise FossilError(
            "The same specimen can only be found in other slices of a project",
            expected="instances of at least two slices",
            found=f"{len(there)} slices" if there else "pictures of a folder",
        )
    pairs = []
    for z, lower in there.items():
        for upper in (there[y] for y in range(z + 1, z + reach + 1) if y in there):
            similar = embedding.vectors[lower] @ embedding.vectors[upper].T
            back = similar.argmax(axis=0)
            for n, m in enumerate(similar.argmax(axis=1)):
                if back[m] == n and similar[n, m] >= least:
                    rows = (int(lower[n]), int(upper[m]))
                    pairs.append(Pair(rows, float(similar[n, m]), _linked(embedding, *rows)))
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.rows))


def _linked(embedding: Embedding, first: int, second: int) -> bool | None:
    one, other = embedding.items[first], embedding.items[second]
    if one.specimen is None or other.specimen is None:
        return None
    # Not the bare numbers: they begin anew in each class, and a group is a specimen of a class.
    return one.group == other.group
