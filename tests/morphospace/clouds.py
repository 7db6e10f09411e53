"""Clouds of points on the unit sphere, as tests of the morphospace use them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_fossiledit.morphospace.embedding import Embedding, Item


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clouds(
    counts: Sequence[int], *, dimensions: int = 16, spread: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, list[str]]:
    """Return vectors about as many centres at right angles, and a letter for each."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(np.eye(len(counts), dimensions), counts, axis=0)
    names = [letter for letter, n in zip("ABCDEFGH", counts, strict=False) for _ in range(n)]
    return unit(centres + spread * rng.normal(size=centres.shape)), names


def embedded(vectors: np.ndarray, names: Sequence[str | None] | None = None) -> Embedding:
    named = names or [None] * len(vectors)
    items = tuple(Item(f"{n}.png", f"{n}.png", name) for n, name in enumerate(named))
    return Embedding(vectors, items, "cloud", "c" * 64)
