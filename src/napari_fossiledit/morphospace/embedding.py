"""Embeddings: a vector for each picture of a specimen, and what each picture is."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Mask
from napari_fossiledit.morphospace.arrays import reading, write_arrays
from napari_fossiledit.summary import Summary

_ROUNDING = 1e-3
"""How far from 1 the length of a vector may be: float32 leaves 1e-6, other files may be coarser."""


@dataclass(frozen=True)
class Item:
    """One picture of a specimen.

    Attributes
    ----------
    key
        Path of a picture below its folder, with ``/``, or ``slice/id`` of an instance.
    group
        Specimen or picture: a split into training and test never divides a group.
    name
        Class, genus or texture, whichever was asked for; None where it is not known.
    slice, instance, specimen
        Where an instance comes from; None for pictures of a folder.
    content
        Digest of the mask of an instance, from `content_of`: it tells when the mask was changed
        since; of the pixels of a picture of a folder.
    sections
        Instances whose mean the point is, where it is of a whole specimen; `instance` is the one
        in the middle, and `content` that of all.
    picture
        What it looks like, from `splits.picture_hash`; empty: not known.
    """

    key: str
    group: str
    name: str | None = None
    slice: int | None = None
    instance: int | None = None
    specimen: int | None = None
    content: str = ""
    picture: str = ""
    sections: tuple[int, ...] = ()


def content_of(*masks: Mask) -> str:
    """Return a digest of masks, the same for the same pixels."""
    return _together(
        [
            hashlib.blake2b(m.counts, digest_size=8, key=repr(m.shape).encode()).hexdigest()
            for m in masks
        ]
    )


def _together(contents: Sequence[str]) -> str:
    """Return the digest of several contents."""
    if len(contents) == 1:
        return contents[0]
    return hashlib.blake2b("".join(contents).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Embedding(Summary):
    """A point of length 1 for each item.

    Attributes
    ----------
    vectors
        (n, d) float32, L2-normalised: the scalar product of two is their cosine similarity.
    items
        What the rows are, in their order.
    model, model_hash
        Name and digest of the model that made the vectors: only those of one model compare.
    named_by
        What the names of the items are: ``class`` or ``texture`` of instances, which may have
        been given others since; empty for pictures of a folder.
    notes
        What was assumed or left out, in sentences.
    learned
        Shrinkage, share and dimensions of the training, where the model learned from some of these
        items: what is said of those is judged by learning again without them.
    looks
        (n, q) 16-bit features before the closed form, those of the network as it is; None where
        `vectors` are these.
    """

    vectors: NDArray[np.float32]
    items: tuple[Item, ...]
    model: str
    model_hash: str
    notes: tuple[str, ...] = ()
    named_by: str = ""
    learned: dict[str, float] = field(default_factory=dict)
    looks: NDArray[np.float16] | None = None

    def __post_init__(self) -> None:
        vectors = self.vectors
        if vectors.ndim != 2 or len(vectors) != len(self.items) or not len(vectors):
            raise FossilError(
                "The embedding does not fit its items",
                expected=f"({len(self.items)}, d) values, and at least one item",
                found=vectors.shape,
            )
        lengths = np.linalg.norm(vectors, axis=1)
        # Written so that a length that is not a number is refused, too.
        if not (np.abs(lengths - 1) <= _ROUNDING).all():
            raise FossilError(
                "The embedding has vectors of another length",
                expected="length 1",
                found=f"{lengths.min():.3g} to {lengths.max():.3g}",
                advice="Make it again with `fossiledit morphospace embed`.",
            )

    def summary(self) -> dict[str, object]:
        """Return what it is, without the vectors."""
        named = sum(item.name is not None for item in self.items)
        n, d = self.vectors.shape
        return {
            "items": n,
            "named": named,
            "groups": len({item.group for item in self.items}),
            "dimensions": d,
            "model": self.model,
            "model_hash": self.model_hash,
            "notes": list(self.notes),
        }

    def of(self, rows: Sequence[int]) -> Embedding:
        """Return the embedding of some rows alone."""
        return replace(
            self,
            vectors=self.vectors[rows],
            items=tuple(self.items[row] for row in rows),
            looks=None if self.looks is None else self.looks[rows],
        )

    def by_specimen(self) -> Embedding:
        """Return a point for each linked specimen: the mean of its sections, of length 1.

        The middle section stands for the specimen. At least one item has to be linked.
        """
        members: dict[str, list[int]] = {}
        for row, item in enumerate(self.items):
            if item.specimen is not None:
                members.setdefault(item.group, []).append(row)
        groups, items = list(members.values()), []
        for rows in groups:
            own = [self.items[row] for row in rows]
            names = Counter(item.name for item in own if item.name is not None).most_common(1)
            items.append(
                replace(
                    own[len(own) // 2],
                    name=names[0][0] if names else None,
                    content=_together([item.content for item in own]),
                    sections=tuple(item.instance or 0 for item in own),
                )
            )
        means = np.stack([self.vectors[rows].mean(axis=0) for rows in groups])
        looks = self.looks
        left = len(self.items) - sum(map(len, groups))
        said = (f"{left} sections that are not linked are left out.",) if left else ()
        return replace(
            self,
            vectors=means / np.linalg.norm(means, axis=1, keepdims=True),
            items=tuple(items),
            looks=None if looks is None else np.stack([looks[r].mean(axis=0) for r in groups]),
            notes=(*self.notes, *said, "Each point is the mean of the sections of a specimen."),
        )

    def require_model(self, model_hash: str, what: str = "The embedding") -> None:
        """Raise `FossilError` where another model made the vectors."""
        if self.model_hash != model_hash:
            raise FossilError(
                f"{what} was made by another model: its points cannot be compared",
                expected=f"vectors of the model {model_hash[:12]}",
                found=f"vectors of {self.model} ({self.model_hash[:12]})",
                advice="Make it again with `fossiledit morphospace embed` and the model in use.",
            )

    def save(self, path: Path) -> None:
        """Write one ``.npz`` file, whole or not at all.

        Raises
        ------
        FossilError
            Where it cannot be written; the old file is then untouched.
        """
        head = {f.name: getattr(self, f.name) for f in fields(self)}
        head["items"] = [asdict(item) for item in self.items]
        arrays = {"vectors": np.asarray(head.pop("vectors"), np.float32)}
        if (looks := head.pop("looks")) is not None:
            arrays["looks"] = np.asarray(looks, np.float16)
        write_arrays(path, head, **arrays)

    @classmethod
    def load(cls, path: Path, model_hash: str | None = None) -> Embedding:
        """Read what `save` wrote.

        Parameters
        ----------
        model_hash
            Digest of the model that the vectors should be of; None takes any.

        Raises
        ------
        FossilError
            Where the file is none or damaged, or another model made it.
        """
        with reading(path, "an embedding", "fossiledit morphospace embed") as (arrays, head):
            head["items"] = tuple(
                Item(**item | {"sections": tuple(item.get("sections", ()))})
                for item in head["items"]
            )
            head |= {"notes": tuple(head["notes"]), "looks": arrays.get("looks")}
            found = cls(arrays["vectors"], **head)
        if model_hash is not None:
            found.require_model(model_hash, str(path))
        return found
