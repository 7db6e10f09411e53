"""A plane in which items that look alike lie near one another, and where new items lie in it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.morphospace.arrays import reading, write_arrays
from napari_fossiledit.morphospace.embedding import Embedding
from napari_fossiledit.params.morphospace import Projection
from napari_fossiledit.progress import QUIET, Job

Points = NDArray[np.float64]

_EXACT = 20_000
"""Items up to which nearest neighbours are found exactly, in seconds."""
_LEAST = {Projection.TSNE: 7, Projection.PCA: 3, Projection.UMAP: 7}
"""Items that a map needs: perplexity 2 has six neighbours."""
_UNMOVED = 0.9999
"""Cosine similarity from which on a vector is the one that was mapped: the same picture gives
slightly other numbers in another batch."""
_ROUND = 50
"""Steps of t-SNE between two looks whether the user wants to stop."""


@dataclass(frozen=True)
class Map:
    """Points in a plane, with all that is needed to place others among them.

    Attributes
    ----------
    points
        (n, 2) float64.
    vectors, keys
        (n, d) float32 and n: of what was mapped.
    method, perplexity, seed
        How. Neighbours take the place of the perplexity in UMAP.
    model_hash
        Digest of the model that made the vectors.
    fixed
        How many of the points, the first ones, the plane was computed from; the rest was placed.
    notes
        What was assumed, in sentences.
    """

    points: Points
    vectors: NDArray[np.float32]
    keys: tuple[str, ...]
    method: Projection
    perplexity: float
    seed: int
    model_hash: str
    fixed: int
    notes: tuple[str, ...] = ()

    def extended(self, embedding: Embedding, job: Job = QUIET) -> tuple[Map, int]:
        """Return the map with the items of an embedding that it has not, and how many these are.

        No point moves. An item whose picture has changed is new.

        Raises
        ------
        FossilError
            Where another model made the vectors.
        """
        embedding.require_model(self.model_hash)
        rows = self.rows_of(embedding)
        new = [n for n, row in enumerate(rows) if row is None]
        if not new:
            return self, 0
        keys = [embedding.items[n].key for n in new]
        kept = np.array([n < self.fixed or k not in keys for n, k in enumerate(self.keys)])
        placed = self._place(embedding.vectors[new], job)
        old = (key for key, there in zip(self.keys, kept, strict=True) if there)
        extended = replace(
            self,
            points=np.vstack([self.points[kept], placed]),
            vectors=np.vstack([self.vectors[kept], embedding.vectors[new]]),
            keys=(*old, *keys),
        )
        return extended, len(new)

    def rows_of(self, embedding: Embedding) -> list[int | None]:
        """Return which point is that of each item; None where there is none of its picture."""
        at = {key: row for row, key in enumerate(self.keys)}
        return [
            row
            if (row := at.get(item.key)) is not None
            and float(vector @ self.vectors[row]) >= _UNMOVED
            else None
            for item, vector in zip(embedding.items, embedding.vectors, strict=True)
        ]

    def _place(self, vectors: NDArray[np.float32], job: Job) -> Points:
        base, points = self.vectors[: self.fixed], self.points[: self.fixed]
        job.check("Placing items on the map")
        if self.method is Projection.TSNE:
            import openTSNE

            # The same as what was fitted: the affinities depend on the vectors alone.
            fitted = openTSNE.TSNEEmbedding(
                points, _affinities(base, self.perplexity), random_state=self.seed
            )
            return np.asarray(fitted.transform(vectors), dtype=np.float64)
        if self.method is Projection.PCA:
            mean, axes = _axes(base)
            return np.asarray((vectors - mean) @ axes.T, dtype=np.float64)
        # UMAP's model is only kept as a pickle: new items lie between their nearest neighbours.
        nearest = np.argsort(-(vectors @ base.T), axis=1, kind="stable")[:, :5]
        return np.asarray(points[nearest].mean(axis=1))

    def save(self, path: Path) -> None:
        """Write one ``.npz`` file, whole or not at all."""
        head = {f.name: getattr(self, f.name) for f in fields(self)}
        write_arrays(path, head, points=head.pop("points"), vectors=head.pop("vectors"))

    @classmethod
    def load(cls, path: Path) -> Map:
        """Read what `save` wrote.

        Raises
        ------
        FossilError
            Where the file is none or damaged.
        """
        with reading(path, "a map", "fossiledit morphospace map --anew") as (arrays, head):
            points, vectors = arrays["points"], arrays["vectors"]
            head |= {name: tuple(head[name]) for name in ("keys", "notes")}
            if not points.shape == (len(vectors), 2) == (len(head["keys"]), 2):
                raise ValueError(f"{points.shape} points of {len(vectors)} vectors")
            if not (np.isfinite(points).all() and 0 < head["fixed"] <= len(points)):
                raise ValueError("points that are no numbers")
            return cls(points, vectors, **head | {"method": Projection(head["method"])})


def make_map(
    embedding: Embedding,
    *,
    method: Projection = Projection.TSNE,
    perplexity: float = 30.0,
    seed: int = 0,
    job: Job = QUIET,
) -> Map:
    """Return a map of an embedding; the same seed gives the same points.

    Raises
    ------
    FossilError
        Where there are too few items, all are the same, or UMAP is not installed.
    """
    vectors, n, notes = embedding.vectors, len(embedding.items), list[str]()
    if n < _LEAST[method]:
        raise FossilError(
            "There are too few items for a map",
            expected=f"{_LEAST[method]} for {method}",
            found=n,
            advice="" if method is Projection.PCA else "Use --method pca.",
        )
    if float(np.ptp(vectors, axis=0).max()) < 1e-5:
        raise FossilError(
            "All items look the same to the model: a map would show nothing",
            expected="pictures that differ",
            found=f"{n} times the same vector",
        )
    if method is not Projection.PCA and perplexity > (n - 1) / 3:
        perplexity = (n - 1) / 3
        notes.append(f"Perplexity is {perplexity:.3g}: there are {n} items.")
    if method is Projection.TSNE:
        points = _tsne(vectors, perplexity, seed, job)
        if n > _EXACT:
            notes.append("With so many items, another run with the same seed differs a little.")
    elif method is Projection.PCA:
        mean, axes = _axes(vectors)
        parts = vectors - mean
        points = np.asarray(parts @ axes.T, dtype=np.float64)
        share = float(points.var(axis=0).sum() / parts.var(axis=0).sum())
        notes.append(f"Two principal components show {share:.0%} of the variance.")
    else:
        points = _umap(vectors, perplexity, seed)
        notes.append("UMAP cannot place new items exactly: they lie among their neighbours.")
    keys = tuple(item.key for item in embedding.items)
    return Map(
        points, vectors, keys, method, perplexity, seed, embedding.model_hash, n, tuple(notes)
    )


def _affinities(vectors: NDArray[np.float32], perplexity: float) -> Any:
    from openTSNE.affinity import PerplexityBasedNN

    how = "exact" if len(vectors) <= _EXACT else "auto"
    return PerplexityBasedNN(vectors, perplexity, metric="cosine", method=how, random_state=0)


def _tsne(vectors: NDArray[np.float32], perplexity: float, seed: int, job: Job) -> Points:
    import openTSNE
    from openTSNE import initialization

    affinities = _affinities(vectors, perplexity)
    steps, early = 750, 250

    def step(done: int, _error: float, _points: object) -> bool:
        job.report(done, steps, "Making the map")
        return job.cancelled()

    exact = len(vectors) <= _EXACT
    # Two threads, or the faster method, add up in another order each time, and points move.
    points = openTSNE.TSNE(
        n_jobs=1,
        negative_gradient_method="bh" if exact else "fft",
        random_state=seed,
        n_iter=steps - early,
        early_exaggeration_iter=early,
        callbacks=step,
        callbacks_every_iters=_ROUND,
    ).fit(affinities=affinities, initialization=initialization.pca(vectors, random_state=seed))
    job.check("Making the map")
    return np.asarray(points, dtype=np.float64)


def _axes(vectors: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the mean and the first two principal axes (2, d); their signs are always the same."""
    from sklearn.decomposition import PCA

    # Exact, and with thousands of items many times as fast as by singular values.
    pca = PCA(2, svd_solver="covariance_eigh")
    pca.fit(vectors.astype(np.float64))
    return pca.mean_, pca.components_


def _umap(vectors: NDArray[np.float32], neighbours: float, seed: int) -> Points:
    try:
        import umap
    except ImportError as error:
        raise FossilError(
            "UMAP is not installed",
            expected="the package umap-learn",
            advice="Install napari-fossiledit[umap], or use --method tsne.",
        ) from error
    plane = umap.UMAP(n_neighbors=max(2, round(neighbours)), metric="cosine", random_state=seed)
    return np.asarray(plane.fit_transform(vectors), dtype=np.float64)
