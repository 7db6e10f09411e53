"""Parameters of looking through masks and correcting them."""

from __future__ import annotations

from pydantic import Field

from napari_fossiledit.params.base import MaskCut, Params


class QueueParams(Params):
    """Where masks are looked for that are worth a look."""

    source: str = Field(
        "",
        description="Predictions among which missing fossils are looked for: source, or name of a "
        "model; empty: the model in use.",
    )
    limit: int = Field(20, ge=1, le=10_000, description="Most places to list, best first.")


class NextParams(Params):
    """Which place of the queue is asked for."""

    skip: int = Field(0, ge=0, description="How many of the best places are passed over.")
    doubt: str = Field("", description="Only this kind of doubt, e.g. gap; empty: any.")
    slice: int | None = Field(None, ge=0, description="Only this slice; without: all.")


class CorrectParams(Params):
    """Single instances of a slice that are found right, thrown away or merged, as one change."""

    slice: int = Field(0, ge=0, description="Slice, counted from 0.")
    accept: str = Field(
        "",
        description="Ids of instances that are right, e.g. 12,15, or 'all' of the slice's own; "
        "predictions among them are taken over.",
    )
    reject: str = Field(
        "",
        description="Ids of annotations to delete, of predictions that are wrong, and of "
        "annotations of the slice below that do not go on here.",
    )
    merge: str = Field("", description="Ids of annotations or predictions to make one of.")
    reviewed: bool = Field(
        True, description="Mark what is accepted as reviewed, so that nothing overwrites it."
    )
    source: str = Field(
        "", description="Source of the predictions, or name of a model; empty: the model in use."
    )
    mask_cut: MaskCut = 0.5


class HistoryParams(Params):
    """How much of the history of the annotations is listed."""

    limit: int = Field(20, ge=1, le=10_000, description="Most actions to list, newest first.")


class VersionsParams(Params):
    """A version of the annotations that is named or restored; neither: versions are listed."""

    name: str = Field("", description="Name the annotations as they are now.")
    restore: str = Field("", description="Bring back the annotations as they were then.")
