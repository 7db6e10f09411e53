"""Parameters of distances between slices, and of suggestions which slices to trace next."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from napari_fossiledit.params.base import Params
from napari_fossiledit.params.segment import Device


class Rule(StrEnum):
    """How slices to trace are chosen."""

    DISTANCE = "distance"
    FARTHEST = "farthest"
    TYPICAL = "typical"
    EVEN = "even"
    FOREGROUND = "foreground"
    RANDOM = "random"


class FeatureParams(Params):
    """Whose features of slices are compared."""

    model: str = Field(
        "",
        description="Model or edit whose features are compared, or imagenet; empty: the model in"
        " use, or imagenet where none is.",
    )
    components: int = Field(25, ge=1, le=1000, description="Principal components at most.")
    device: Device = Field(Device.AUTO, description="Where features are computed.")
    seed: int = Field(0, ge=0, description="Seed of everything random.")


class DistanceParams(FeatureParams):
    """From which slices distances are measured, and of which."""

    known: str = Field(
        "",
        description="Slices to measure from, e.g. 0,2,4-9; empty: those that the model learned"
        " from, or else the traced ones.",
    )
    slices: str = Field("", description="Slices to measure; empty: all others.")
    other: Path | None = Field(
        None, description="Project whose slices are measured, in place of those of the same one."
    )
    quality: bool = Field(
        True,
        description="Relate distance and F-score on the measured slices that are traced; those"
        " without a prediction are predicted.",
    )
    class_name: str = Field("", description="Class whose F-score is meant; empty: the first one.")


class SuggestParams(FeatureParams):
    """Which slices to trace next, and by which rule."""

    count: int = Field(3, ge=1, le=100, description="Number of suggestions; the paper: 1, 3, 7.")
    rule: Rule = Field(
        Rule.EVEN,
        description="distance (drawn from those unlike the traced slices, as in the paper),"
        " farthest (unlike the traced slices and each other), typical (those that stand for most"
        " slices that no traced one is like; of slices alike the one with the most fossils"
        " predicted), even (the widest gaps between traced slices), foreground (at random,"
        " more often where more fossils are predicted), or random.",
    )
    slices: str = Field("", description="Slices to choose from; empty: all that are not traced.")
    # Two hours for 74 fossils, the mean of six slices of a real reef that a paper was made from.
    slice_minutes: float = Field(
        9.0, ge=0, le=1000, description="Minutes that a slice takes whatever there is to trace."
    )
    fossil_minutes: float = Field(
        1.5, ge=0, le=1000, description="Minutes that it takes to trace one fossil."
    )
    gain: bool = Field(
        False,
        description="Also expect the gain an hour of tracing, and judge what the last training"
        " brought; slices without a prediction are predicted.",
    )


class ExpectParams(FeatureParams):
    """Which model is to be judged without tracings, and on what."""

    slices: str = Field(
        "",
        description="Slices whose F-score is expected; empty: all, and of several candidates up to"
        " ten, evenly spaced.",
    )
    other: Path | None = Field(
        None, description="Project of another rock, whose slices are meant in place of the own."
    )
    candidates: str = Field(
        "",
        description="Models and edits to choose from, e.g. mine,reef-lite, those of other projects"
        " by their folders (OLD.fossil/models/NAME); slices are listed for the best.",
    )
    class_name: str = Field("", description="Class whose F-score is meant; empty: the first one.")


class MarkParams(Params):
    """Which slices are meant to be traced."""

    mark: str = Field("", description="Slices to mark, e.g. 0,2,4-9.")
    unmark: str = Field("", description="Slices to take the mark from.")
