"""Parameters of the morphospace: specimens as points, named, grouped and mapped."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from napari_fossiledit.params.base import Params, PlainName
from napari_fossiledit.params.segment import Device


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


class Colour(StrEnum):
    """What the colours of a map tell."""

    NAME = "name"
    CLASS = "class"
    CLUSTER = "cluster"
    SLICE = "slice"


class Naming(StrEnum):
    """Which property of instances a name is."""

    AS_EMBEDDED = ""
    CLASS = "class"
    TEXTURE = "texture"


class PointsParams(Params):
    """Which points are used."""

    embedding: PlainName = Field("embedding", description="Name of the embedding.")


class ClassifyParams(PointsParams):
    """How items are named by those that have a name, and when the answer is unknown."""

    method: Method = Field(
        Method.LOGISTIC,
        description="logistic (regression), knn (the most similar named items vote), or centroids"
        " (the nearest mean of a class).",
    )
    neighbours: int = Field(5, ge=1, le=1000, description="Named items that vote, of knn.")
    refused: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Share of items of known classes that may be called unknown; a larger share"
        " finds more items of new classes.",
    )
    seed: int = Field(0, ge=0, description="Seed of how items are held out.")


class ClusterParams(PointsParams):
    """How items are grouped by their looks alone."""

    method: Grouping = Field(
        Grouping.AGGLOMERATIVE,
        description="agglomerative (every item is in a cluster) or hdbscan (dense clusters, the"
        " rest in none).",
    )
    clusters: int = Field(
        0,
        ge=0,
        le=10_000,
        description="How many, if agglomerative; 0: the number with the largest silhouette.",
    )
    least: int = Field(5, ge=2, le=10_000, description="Fewest items of a cluster of hdbscan.")
    seed: int = Field(0, ge=0, description="Seed of the items that the silhouette is taken of.")


class MapParams(PointsParams):
    """How items are laid out in a plane."""

    method: Projection = Field(
        Projection.TSNE, description="tsne (openTSNE), pca, or umap where it is installed."
    )
    perplexity: float = Field(
        30.0, ge=1, le=1000, description="About how many neighbours an item keeps; not of pca."
    )
    anew: bool = Field(
        False, description="Lay out all items again; else new ones are placed among the others."
    )
    colour: Colour = Field(
        Colour.NAME, description="Colours of the picture: name, class, cluster or slice."
    )
    seed: int = Field(0, ge=0, description="Seed; the same one gives the same map.")


class SimilarParams(PointsParams):
    """What is looked for among the points."""

    items: str = Field("", description="Ids of instances, or paths of pictures, e.g. 12,15.")
    count: int = Field(12, ge=1, le=10_000, description="Most items to list.")
    same_specimen: bool = Field(False, description="Also list sections of the same specimen.")


class OutlierParams(PointsParams):
    """How many items that are like no other are listed."""

    neighbours: int = Field(5, ge=1, le=1000, description="Nearest items that are compared with.")
    count: int = Field(20, ge=1, le=10_000, description="Most items to list.")


class SectionsParams(PointsParams):
    """Where sections of the same specimen are looked for."""

    reach: int = Field(1, ge=1, le=1000, description="Most slices from one section to the other.")
    least: float = Field(0.5, ge=-1, le=1, description="Least similarity of the two.")
    count: int = Field(100, ge=1, le=1_000_000, description="Most pairs to list.")


class DisparityParams(PointsParams):
    """How the diversity of forms is measured."""

    components: int = Field(
        3, ge=2, le=8, description="Principal components that the convex hull is taken in."
    )
    least: int = Field(
        5, ge=2, le=10_000, description="Classes and windows of fewer specimens are left out."
    )
    window: int = Field(10, ge=1, le=100_000, description="Slices that are taken together.")
    draws: int = Field(200, ge=10, le=10_000, description="Samples for a mean and its interval.")
    seed: int = Field(0, ge=0, description="Seed of the samples.")


class NameParams(PointsParams):
    """Which items get which name."""

    name: str = Field("", max_length=100, description="Name to give; empty: with --confidence.")
    items: str = Field("", description="Ids of instances, or paths of pictures, e.g. 12,15.")
    specimens: str = Field("", description="Numbers of specimens, e.g. 3,7: all their sections.")
    cluster: int | None = Field(None, ge=0, description="All items of this cluster.")
    confidence: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Items without a name get the answer of the classifier, where it is at least"
        " so sure and not unknown.",
    )
    file: Path | None = Field(None, description="Table (CSV) with the columns key and name.")
    naming: Naming = Field(
        Naming.AS_EMBEDDED,
        description="class or texture; left out: what the embedding was made with.",
    )
    reviewed_too: bool = Field(False, description="Also name what a person has found right.")


class NamedBy(StrEnum):
    """What gives items of a project their name."""

    CLASS = "class"
    TEXTURE = "texture"


class Filling(StrEnum):
    """What is put around a specimen that was cut out."""

    IMAGENET = "imagenet"
    OWN = "own"


class Mining(StrEnum):
    """Triplets that the training learns from."""

    HARD = "hard"
    SEMIHARD = "semihard"
    ALL = "all"


class ItemParams(Params):
    """Which specimens are looked at, and how they are cut out."""

    instances: str = Field(
        "",
        description="Instances of a project: annotations, or the name of a model; empty: what is"
        " best known of each slice.",
    )
    named_by: NamedBy = Field(
        NamedBy.CLASS, description="What names specimens of a project: class or texture."
    )
    class_name: str = Field("", description="Class to look at; empty: all.")
    score: float = Field(0.5, ge=0, le=1, description="Least score of a prediction; 0 keeps all.")
    smallest: int = Field(
        16, ge=4, le=1024, description="Leave out instances with a shorter edge, in pixels."
    )
    filling: Filling = Field(
        Filling.IMAGENET,
        description="Colour around a specimen: the mean of ImageNet, or its own mean.",
    )
    device: Device = Field(Device.AUTO, description="Where features are computed.")


class MetricParams(ItemParams):
    """How an embedding is learned."""

    name: PlainName = Field("metric", description="Name of the new model.")
    backbone: str = Field(
        "lite", description="lite, torchvision:NAME or timm:NAME; the last two need weights."
    )
    weights: Path | None = Field(
        None, description="File with the weights of the backbone (.safetensors, .pth)."
    )
    edge: int = Field(
        0, ge=0, le=1024, description="Edge of pictures in pixels; 0: what the backbone is for."
    )
    outline: bool = Field(False, description="Numbers for the outline take part.")
    copies: int = Field(8, ge=1, le=64, description="Changed copies of each picture to learn from.")
    dimensions: int = Field(128, ge=3, le=2048, description="Dimensions of the embedding.")
    shrinkage: float = Field(
        0.3,
        gt=0,
        le=1,
        description="How little the spread inside classes is trusted, from 0 to 1; few pictures"
        " need more.",
    )
    share: float = Field(
        0.8,
        gt=0,
        lt=1,
        description="Share of what tells the known classes apart; the rest keeps all else that"
        " pictures differ in, for classes that were never seen.",
    )
    epochs: int = Field(20, ge=0, le=10000, description="Rounds of metric learning.")
    margin: float = Field(0.1, gt=0, le=2, description="Margin of the triplet loss.")
    mining: Mining = Field(Mining.HARD, description="Triplets that count: hard, semihard or all.")
    learning_rate: float = Field(0.01, gt=0, le=1, description="Relative step of the training.")
    fine_tune: bool = Field(
        False, description="Train the last stage of the backbone as well (lite only)."
    )
    seed: int = Field(0, ge=0, description="Seed of everything random.")


class Per(StrEnum):
    """What a point stands for."""

    SECTION = "section"
    SPECIMEN = "specimen"


class EmbedParams(ItemParams):
    """Which model makes the points, and of what."""

    model: str = Field(
        "", description="Name or folder of a trained model; empty: a network that saw ImageNet."
    )
    edge: int = Field(
        0,
        ge=0,
        le=1024,
        description="Edge of pictures in pixels without a trained model; 0: 224 for sections of a"
        " project, 320 for a folder.",
    )
    per: Per = Field(
        Per.SECTION,
        description="A point for each section (or picture), or for each linked specimen: the mean"
        " of its sections.",
    )
    embedding: PlainName = Field("embedding", description="Name of the embedding.")


class JudgeParams(MetricParams):
    """How well a training, or a saved model, does on what it has not seen."""

    model: str = Field(
        "",
        description="Name or folder of a trained model to judge on what it has not learned from;"
        " empty: judge a training with these settings.",
    )
    folds: int = Field(5, ge=2, le=50, description="Parts; each is tested on once.")
    repeats: int = Field(5, ge=1, le=100, description="How often specimens are parted anew.")
    unseen: bool = Field(True, description="Also leave each pair of classes out of the training.")
