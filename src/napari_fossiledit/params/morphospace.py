"""Parameters of the morphospace: specimens as points, named, grouped and mapped."""

from __future__ import annotations

from enum import StrEnum


class Method(StrEnum):
    """How items are named by those that have a name."""

    KNN = "knn"
    CENTROIDS = "centroids"
    LOGISTIC = "logistic"


class Grouping(StrEnum):
    """How items without a name are grouped."""

    AGGLOMERATIVE = "agglomerative"
    HDBSCAN = "hdbscan"


class Projection(StrEnum):
    """How items are laid out in a plane."""

    TSNE = "tsne"
    PCA = "pca"
    UMAP = "umap"
