"""Items without a name are grouped."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score, silhouette_score

from napari_fossiledit.errors import FossilError
from napari_fossiledit.morphospace.cluster import cluster
from napari_fossiledit.params.morphospace import ClusterParams, Grouping
from tests.morphospace.clouds import clouds


@pytest.mark.parametrize("method", Grouping)
def test_clouds_are_found_the_largest_first(method: Grouping) -> None:
    vectors, names = clouds([20, 60, 40])
    found = cluster(vectors, ClusterParams(method=method))
    assert found.sizes == (60, 40, 20)
    assert dict(zip(names, found.labels.tolist(), strict=True)) == {"A": 2, "B": 0, "C": 1}


def test_the_tree_is_that_of_scikit_learn() -> None:
    vectors, _ = clouds([40, 40, 40], spread=0.4)
    for count in (2, 5, 9):
        own = cluster(vectors, ClusterParams(clusters=count))
        theirs = AgglomerativeClustering(count).fit_predict(vectors)
        assert adjusted_rand_score(own.labels, theirs) == 1
        expected = silhouette_score(vectors.astype(float), theirs, metric="cosine")
        assert own.silhouette == pytest.approx(expected, abs=1e-9)


def test_the_number_with_the_largest_silhouette_is_chosen() -> None:
    found = cluster(clouds([30, 30, 30, 30])[0])
    assert len(found.sizes) == max(found.tried, key=found.tried.__getitem__) == 4
    assert "4 clusters: the number with the largest silhouette." in found.notes


def test_what_lies_alone_is_in_no_cluster_and_is_said() -> None:
    vectors, _ = clouds([30, 30, 1])
    found = cluster(vectors, ClusterParams(method=Grouping.HDBSCAN))
    assert found.labels[-1] == -1
    assert f"{(found.labels < 0).sum()} of 61 items are in no cluster." in found.notes


@pytest.mark.parametrize("method", Grouping)
def test_items_that_are_all_the_same_are_one_cluster(method: Grouping) -> None:
    same = np.repeat(np.eye(1, 3, dtype=np.float32), 9, axis=0)
    found = cluster(same, ClusterParams(method=method))
    assert (found.sizes, found.silhouette) == ((9,), None)
    assert "All items look the same: they are one cluster." in found.notes


def test_too_few_items_are_refused() -> None:
    vectors, _ = clouds([2, 1])
    with pytest.raises(FossilError, match="too few items to cluster; expected 4; found 3"):
        cluster(vectors, ClusterParams(clusters=4))
    with pytest.raises(FossilError, match="expected 5; found 3"):
        cluster(vectors, ClusterParams(method=Grouping.HDBSCAN))
