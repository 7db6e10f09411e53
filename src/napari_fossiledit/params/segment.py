"""Parameters of training, predicting and evaluating, and of importing and exporting models."""

from __future__ import annotations

from enum import IntEnum, StrEnum

from pydantic import Field

from napari_fossiledit.params.base import MaskCut, Params
from napari_fossiledit.params.spread import SpreadParams


class Architecture(StrEnum):
    """Mask R-CNN by its backbone: EfficientNet-Lite0 for CPUs, ResNet-50 and -101, ResNeXt-101."""

    LITE = "lite"
    R50 = "r50"
    R101 = "r101"
    X101 = "x101"


class Device(StrEnum):
    """Where torch computes; ``auto`` takes CUDA, then MPS, then the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class Direction(StrEnum):
    """Which neighbours of a slice count: the one before, the one after, or both."""

    FORWARD = "forward"
    BACKWARD = "backward"
    BOTH = "both"


IMAGENET = "imagenet"
"""Says that a training starts from a backbone that has seen photographs, and no fossil."""

LARGEST_WEIGHT = 20.0
"""Largest weight of the neighbour prior: it multiplies odds by half a thousand million."""


class InputMode(StrEnum):
    """What a model sees of a slice: its colours, or also its neighbours, in grey or in colour."""

    RGB = "rgb"
    GREY_WINDOW = "grey-window"
    RGB_WINDOW = "rgb-window"


class FirstLayer(StrEnum):
    """How the weights of the first convolution start from those of colours.

    As they are (pretrained), the same for every channel (uniform) or for every slice (uniform-z),
    the same for z-n and z+n also while they learn (symmetric), or by chance (random).
    """

    PRETRAINED = "pretrained"
    UNIFORM = "uniform"
    UNIFORM_Z = "uniform-z"
    SYMMETRIC = "symmetric"
    RANDOM = "random"


class Backend(StrEnum):
    """Code that computes: this program's own networks, or an installed detectron2."""

    TWIN = "twin"
    DETECTRON2 = "detectron2"


class Engine(StrEnum):
    """How a prediction is computed: to the last digits of training, or faster on a CPU."""

    EXACT = "exact"
    FAST = "fast"


class Precision(StrEnum):
    """float32 throughout (full), or bfloat16 for most of the network (mixed)."""

    AUTO = "auto"
    FULL = "full"
    MIXED = "mixed"


class CocoWeights(StrEnum):
    """Mask R-CNNs that torchvision and detectron2 publish, trained on COCO."""

    TORCHVISION_R50 = "torchvision-r50"
    TORCHVISION_R50_V2 = "torchvision-r50-v2"
    DETECTRON2_R50 = "detectron2-r50"
    DETECTRON2_R101 = "detectron2-r101"
    DETECTRON2_X101 = "detectron2-x101"


class Views(IntEnum):
    """How many turns and mirrors of a slice masks are drawn from."""

    ONE = 1
    TWO = 2
    FOUR = 4
    EIGHT = 8


class TrainParams(Params):
    """How a model is trained from a few traced slices."""

    name: str = Field("model", min_length=1, max_length=64, description="Name of the new model.")
    architecture: Architecture = Field(Architecture.LITE, description="Backbone of the network.")
    slices: str = Field("", description="Traced slices to train on, e.g. 0,2,4-9.")
    validation: str = Field(
        "", description="Traced slices that choose the best checkpoint; empty: parts of the others."
    )
    classes: tuple[str, ...] = Field(
        (), description="Classes to learn; empty: those of the project."
    )
    region: str = Field("", description="Part of each slice to use, x0:x1,y0:y1; empty: all.")
    init: str = Field(
        "",
        description="Model, file or fetched weights to start from, or imagenet; empty: reef-lite"
        " for lite.",
    )
    input: InputMode = Field(
        InputMode.RGB,
        description="What the model sees: the slice alone (rgb), or a window of slices around it,"
        " in grey or in colour.",
    )
    reach: int = Field(
        1, ge=1, le=8, description="Slices on either side that a window holds; rgb: has none."
    )
    start: FirstLayer = Field(
        FirstLayer.PRETRAINED,
        description="First layer: as it was trained, alike for all channels (uniform) or slices"
        " (uniform-z), alike for before and after for good (symmetric), or by chance (random).",
    )
    z_flip: bool = Field(
        False, description="Half of the windows that are learned from run the other way."
    )
    hold_back: int = Field(
        50,
        ge=0,
        description="From so many traced instances on, and without validation slices, a quarter of"
        " a slice is held back to choose the best checkpoint; fewer are all learned.",
    )
    max_minutes: float = Field(20.0, gt=0, description="Longest training time in minutes.")
    max_steps: int = Field(
        20000, ge=1, description="Most steps; what is used up first, time or steps, ends it."
    )
    scale: float = Field(
        0.0, ge=0, le=4, description="Network pixels per stack pixel; 0: from the fossils' size."
    )
    crop: int = Field(512, ge=64, le=2048, description="Edge of a training crop, network pixels.")
    batch: int = Field(2, ge=1, le=64, description="Crops in one step.")
    learning_rate: float = Field(6e-4, gt=0, le=1, description="Peak learning rate.")
    seed: int = Field(0, ge=0, description="Seed of all random choices.")
    device: Device = Field(Device.AUTO, description="Where to compute.")
    backend: Backend = Field(
        Backend.TWIN, description="What trains; detectron2 is its own trainer, if installed."
    )
    precision: Precision = Field(
        Precision.AUTO,
        description="mixed computes most of a step in bfloat16 where that is faster.",
    )


class PredictParams(SpreadParams):
    """How a model is applied to slices."""

    model: str = Field("", description="Model, edit or file; empty: the one in use.")
    slices: str = Field("all", description="Slices to predict, e.g. 0,2,4-9.")
    again: bool = Field(False, description="Predict also what is predicted already, anew.")
    first: int = Field(
        -1, ge=-1, description="Slice to begin with, its neighbours next; -1: the lowest one."
    )
    estimate: bool = Field(
        False, description="Predict two slices, say how long all will take, and stop."
    )
    tiles: bool = Field(
        False, description="Overlapping tiles even for slices that fit the network."
    )
    max_detections: int = Field(
        100, ge=1, le=2000, description="Most detections kept in a tile (detectron2's default)."
    )
    score_floor: float = Field(
        0.0, ge=0, le=1, description="Detections below it are not even stored; 0 stores all."
    )
    # Off: it was measured to lose recall (docs/benchmarks/neighbour-prior.md).
    neighbour_weight: float = Field(
        0.0,
        ge=0,
        le=LARGEST_WEIGHT,
        description="How far places that were detected in adjacent slices move up among the"
        " regions that are looked at; 0: every slice by itself.",
    )
    neighbour_direction: Direction = Field(
        Direction.BOTH,
        description="Adjacent slices that count: those before (forward), those after (backward),"
        " or both, which takes three times as long.",
    )
    neighbour_score: float = Field(
        0.5, ge=0, le=1, description="Detections of adjacent slices count from this score on."
    )
    views: Views = Field(
        Views.ONE,
        description="Turns and mirrors of each slice whose mean the masks are: cleaner masks, for"
        " nearly as many times the time.",
    )
    views_find: bool = Field(
        False, description="All views find fossils, not only the slice as it is."
    )
    refine: bool = Field(
        False, description="Draw masks again by the model's refiner, at native resolution."
    )
    exclusive: bool = Field(
        False, description="Refined masks share no pixel: the most probable instance keeps it."
    )
    calibrated: bool = Field(
        False, description="Scores are probabilities, as 'calibrate' found them for the model."
    )
    device: Device = Field(Device.AUTO, description="Where to compute.")
    backend: Backend = Field(
        Backend.TWIN, description="What computes; detectron2 is its own code, if installed."
    )
    # Edits are solved with the rounding of training: exact stays the default.
    engine: Engine = Field(
        Engine.EXACT,
        description="fast: quicker kernels on a CPU; scores differ in the fifth digit, in the"
        " second where it computes in bfloat16 (precision).",
    )
    precision: Precision = Field(
        Precision.AUTO,
        description="mixed computes most of the network in bfloat16; auto does, where that is"
        " faster, for the engine fast and for views beyond the first, which draw masks alone.",
    )


class RefineParams(Params):
    """How a refiner of a model is fitted."""

    model: str = Field("", description="Model or edit to refine; empty: the one in use.")
    slices: str = Field(
        "", description="Traced slices to fit it on; empty: all but the pinned ones."
    )
    region: str = Field("", description="Part of each slice to use, x0:x1,y0:y1; empty: all.")
    smallest: int = Field(
        9,
        ge=1,
        le=10_000,
        description="Holes and islands that no square of so many pixels (of the traced slices) fits"
        " into are never drawn.",
    )
    device: Device = Field(Device.AUTO, description="Where the model computes.")


class CalibrateParams(Params):
    """How the scores of a model become probabilities."""

    model: str = Field("", description="Model or edit to calibrate; empty: the one in use.")
    slices: str = Field(
        "",
        description="Traced slices to do it on; empty: those that are not pinned, and that the"
        " model did not learn from where there are such.",
    )
    region: str = Field("", description="Part of each slice to use, x0:x1,y0:y1; empty: all.")
    device: Device = Field(Device.AUTO, description="Where the model computes.")


class EvaluateParams(Params):
    """How predictions are compared with traced slices."""

    model: str = Field("", description="Model, edit or file; empty: the one in use.")
    slices: str = Field("", description="Traced slices to judge on; empty: the pinned ones.")
    score: float = Field(
        0.0, ge=0, le=1, description="Score threshold of the paper's protocol (0 there)."
    )
    detection_score: float = Field(0.5, ge=0, le=1, description="Score threshold of detections.")
    mask_cut: MaskCut = 0.5
    against: str = Field(
        "",
        description="Model, edit or predictions to compare with at equal recall; empty: what an"
        " edit was made from, or the model without views and refiner.",
    )
    views: Views = Field(Views.ONE, description="Judge what so many views of each slice give.")
    refine: bool = Field(False, description="Judge masks that the model's refiner draws.")
    class_name: str = Field("", description="Class to score; empty: the project's first.")
    region: str = Field("", description="Part of each slice to judge, x0:x1,y0:y1; empty: all.")
    device: Device = Field(Device.AUTO, description="Where to compute missing predictions.")


class FetchParams(Params):
    """Which published weights are fetched."""

    name: CocoWeights = Field(
        CocoWeights.TORCHVISION_R50, description="Weights trained on COCO, to start training from."
    )


class ImportModelParams(Params):
    """How a checkpoint of detectron2 becomes a model of the project."""

    name: str = Field(
        "", max_length=64, description="Name of the new model; empty: that of the file."
    )
    classes: str = Field(
        "",
        description="Which class is which, in the model's order or by number (0=archaeocyathid), "
        "- for those to leave out, e.g. archaeocyathid,-.",
    )
    config: str = Field(
        "",
        description="Its configuration (.yaml), else config.yaml beside it or the usual one; "
        "empty: look for it.",
    )
    scale: float = Field(
        0.0,
        ge=0,
        le=4,
        description="Network pixels per pixel of this stack; 0: slices are resized as the "
        "configuration says, whatever their size.",
    )


class ExportModelParams(Params):
    """Settings in a configuration for detectron2 beside the model."""

    score: float = Field(0.0, ge=0, le=1, description="Least score of a detection; 0 keeps all.")
    max_detections: int = Field(100, ge=1, le=2000, description="Most detections of a slice.")
