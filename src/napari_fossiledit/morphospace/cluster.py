"""Group items that nobody has named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.morphospace import ClusterParams, Grouping

_COMPONENTS = 50
"""Principal components that HDBSCAN looks at: densities mean little in more dimensions."""
_MOST = 20
"""Largest number of clusters that is tried where none is given."""
MOST_PAIRED = 15_000
"""Items of agglomerative clusters: the distances of all pairs then take 4 GB."""
_SAMPLED = 2000
"""Items that the silhouette is computed of: all pairs of more take minutes."""


@dataclass(frozen=True)
class Clustering:
    """Items by cluster.

    Attributes
    ----------
    labels
        (n,) cluster of each item: 0 is the largest, -1 are items in none.
    sizes
        Items in each cluster, falling.
    silhouette
        Mean silhouette (cosine) of the items in clusters; None of fewer than two clusters.
    tried
        Silhouette by number of clusters, where the number was to be chosen.
    notes
        What was assumed, in sentences.
    """

    labels: NDArray[np.intp]
    sizes: tuple[int, ...]
    silhouette: float | None
    tried: Mapping[int, float]
    notes: tuple[str, ...]


def cluster(vectors: NDArray[np.floating[Any]], params: ClusterParams | None = None) -> Clustering:
    """Return clusters of vectors (n, d), L2-normalised.

    Agglomerative clusters are Ward's; every item is in one. HDBSCAN's are dense, the rest is in
    none.

    Raises
    ------
    FossilError
        Where there are fewer items than clusters, or than a cluster needs.
    """
    params = params or ClusterParams()
    n, notes, clusters, least = len(vectors), list[str](), params.clusters, params.least
    needed = least if params.method is Grouping.HDBSCAN else max(clusters, 2)
    if n < needed:
        raise FossilError("There are too few items to cluster", expected=f"{needed}", found=n)
    if params.method is Grouping.AGGLOMERATIVE and n > MOST_PAIRED:
        raise FossilError(
            "There are too many items for agglomerative clusters, which need all pairs at once",
            expected=f"at most {MOST_PAIRED}",
            found=n,
            advice="Use HDBSCAN.",
        )
    # Rounded, as the same picture gives slightly other numbers in another batch.
    different = len(np.unique(vectors.round(5), axis=0))
    sample = np.random.default_rng(params.seed).permutation(n)[:_SAMPLED]
    tried: dict[int, float] = {}
    if different == 1:
        labels = np.zeros(n, dtype=np.intp)
        notes.append("All items look the same: they are one cluster.")
    elif params.method is Grouping.HDBSCAN:
        from sklearn.cluster import HDBSCAN
        from sklearn.decomposition import PCA

        count = min(_COMPONENTS, n, vectors.shape[1])
        parts = PCA(count, random_state=params.seed).fit_transform(vectors)
        labels = HDBSCAN(min_cluster_size=max(least, 2), copy=True).fit_predict(parts)
        if count < min(n, vectors.shape[1]):
            notes.append(f"HDBSCAN looked at the first {count} principal components.")
    else:
        from scipy.cluster.hierarchy import fcluster, linkage
        from scipy.spatial.distance import squareform

        # The tree of scikit-learn's AgglomerativeClustering, made once for all numbers of clusters.
        # Of vectors of length 1 a product gives the distances, many times as fast as pdist.
        distances = np.sqrt(np.maximum(2 - 2 * (vectors @ vectors.T), 0), dtype=np.float64)
        tree = linkage(squareform(distances, checks=False), "ward")
        if not clusters:
            for count in range(2, min(_MOST, different - 1) + 1):
                cut = fcluster(tree, count, "maxclust")
                if (value := _silhouette(vectors, cut, sample)) is not None:
                    tried[count] = value
            clusters = max(tried, key=tried.__getitem__, default=different)
            notes.append(
                f"{clusters} clusters: the number with the largest silhouette."
                if tried
                else f"{clusters} clusters: too few items to choose the number by a silhouette."
            )
        labels = fcluster(tree, clusters, "maxclust").astype(np.intp)
    labels = _by_size(np.asarray(labels, dtype=np.intp))
    sizes = tuple(int(s) for s in np.bincount(labels[labels >= 0]))
    if 1 < len(sizes) < clusters:
        notes.append(f"There are {len(sizes)} clusters: items that are the same stay together.")
    if noise := int((labels < 0).sum()):
        notes.append(f"{noise} of {n} items are in no cluster.")
    return Clustering(labels, sizes, _silhouette(vectors, labels, sample), tried, tuple(notes))


def _by_size(labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return clusters numbered by falling size; what is below 0 is in none."""
    found, counts = np.unique(labels[labels >= 0], return_counts=True)
    numbers = {int(old): new for new, old in enumerate(found[np.argsort(-counts, kind="stable")])}
    return np.array([numbers.get(int(label), -1) for label in labels], dtype=np.intp)


def _silhouette(
    vectors: NDArray[Any], labels: NDArray[Any], sample: NDArray[np.intp]
) -> float | None:
    from sklearn.metrics import silhouette_score

    sample = sample[labels[sample] >= 0]
    if not 1 < len(np.unique(labels[sample])) < len(sample):
        return None
    of = np.asarray(vectors[sample], dtype=np.float64)
    return float(silhouette_score(of, labels[sample], metric="cosine"))
