"""Parameters of looking through masks and correcting them."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from napari_fossiledit.params.base import MaskCut, Params
from napari_fossiledit.params.segment import Device

MOST_PIXELS = 1000
"""By which an outline is smoothed or moved: farther takes minutes, and is no tidying."""


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

    skip: int = Field(0, ge=0, le=10**9, description="How many of the best places are passed over.")
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
        True,
        description="Mark what is accepted as reviewed, so that nothing overwrites it; no takes the"
        " mark away.",
    )
    source: str = Field(
        "", description="Source of the predictions, or name of a model; empty: the model in use."
    )
    mask_cut: MaskCut = 0.5


class AgreementParams(Params):
    """Which predictions are compared with the masks that a person has found right."""

    source: str = Field(
        "", description="Source, or name of a model; empty: predictions of the model in use."
    )
    slices: str = Field("all", description="Slices to compare, where they are reviewed or traced.")
    score: float = Field(0.5, ge=0, le=1, description="Score threshold of predictions.")
    mask_cut: MaskCut = 0.5


class HistoryParams(Params):
    """How much of the history of the annotations is listed."""

    limit: int = Field(20, ge=1, le=10_000, description="Most actions to list, newest first.")


class VersionsParams(Params):
    """A version of the annotations that is named or restored; neither: versions are listed."""

    name: str = Field("", description="Name the annotations as they are now.")
    restore: str = Field("", description="Bring back the annotations as they were then.")


class Tool(StrEnum):
    """What is done to a mask to tidy it."""

    FILL = "fill"
    SMOOTH = "smooth"
    GROW = "grow"
    SHRINK = "shrink"
    ISLANDS = "islands"


class YesNo(StrEnum):
    """An answer; empty: nothing changes."""

    KEEP = ""
    YES = "yes"
    NO = "no"

    @property
    def answer(self) -> bool | None:
        """True, False, or None where nothing changes."""
        return None if self is YesNo.KEEP else self is YesNo.YES


class ShapeParams(Params):
    """Which slice a tool works in, and whether it may change what a person has found right."""

    slice: int = Field(0, ge=0, description="Slice, counted from 0.")
    reviewed_too: bool = Field(False, description="Also change reviewed masks.")


class SplitParams(ShapeParams):
    """A mask that is split along a line, or between two clicks."""

    id: int = Field(0, description="Id of the mask.")
    line: str = Field(
        "", description="Corners of a line across the mask in pixels: x,y;x,y and so on."
    )
    clicks: str = Field(
        "", description="A place in each of the two fossils in pixels, in place of a line: x,y;x,y."
    )


class ReshapeParams(ShapeParams):
    """Masks that are tidied."""

    ids: str = Field("", description="Ids of masks, e.g. 12,15.")
    tool: Tool = Field(
        Tool.FILL,
        description="fill (holes), smooth (the outline, keeping the area), grow, shrink, or islands"
        " (remove them).",
    )
    pixels: float = Field(
        2.0, gt=0, le=MOST_PIXELS, description="Smooth, grow and shrink: by so many pixels."
    )
    um: float = Field(
        0.0, ge=0, description="Smooth, grow and shrink: by so many micrometres; 0: in pixels."
    )
    least_area: int = Field(
        0, ge=0, description="Islands: smaller ones are removed, in pixels; 0: all but the largest."
    )


class ProposeParams(ShapeParams):
    """A fossil whose outline is proposed."""

    box: str = Field("", description="Box about the fossil in pixels, x0:x1,y0:y1.")
    click: str = Field("", description="A place in the fossil in pixels, in place of a box: x,y.")
    id: int = Field(0, description="Draw this mask again, by default in its own box; 0: a new one.")
    write: bool = Field(False, description="Write the mask; else it is only shown.")
    class_name: str = Field("", description="Class of a new mask; empty: the project's first.")
    source: str = Field(
        "", description="Predictions to begin with, or name of a model; empty: the model in use."
    )


class DescribeParams(ShapeParams):
    """What masks are of."""

    ids: str = Field("", description="Ids of masks, e.g. 12,15; the cavities of a fossil follow.")
    class_name: str = Field("", description="Their class; empty: as it is.")
    texture: str | None = Field(None, description="Their texture; left out: as it is.")
    unsure: YesNo = Field(YesNo.KEEP, description="Whether they count for nothing, yes or no.")


class SwapParams(ShapeParams):
    """Two masks of a slice that exchange their specimens."""

    ids: str = Field("", description="Two ids, e.g. 12,15.")


class InterpolateParams(Params):
    """Between which slices fossils are interpolated."""

    slices: str = Field(
        "all",
        description="Slices to interpolate between, e.g. 10,14; all: all that were annotated.",
    )
    class_name: str = Field("", description="Interpolate only this class; empty: all.")
    specimens: str = Field(
        "", description="Interpolate only the specimens of these numbers, e.g. 3,7; empty: all."
    )
    max_gap: int = Field(
        10, ge=1, le=1000, description="Most slices between two; longer gaps are left alone."
    )
    least_area: int = Field(
        20, ge=1, description="Smaller sections are left out, in pixels; also what is left of one."
    )
    preview: bool = Field(False, description="Write nothing.")


class CopyParams(Params):
    """Which fossils of a slice are copied, and where to."""

    slice: int = Field(0, ge=0, description="Slice, counted from 0.")
    ids: str = Field("", description="Ids of annotations, e.g. 12,15; their cavities follow.")
    to: str = Field("next", description="Slices to copy to, e.g. 41-45; or next, or previous.")
    least_area: int = Field(
        20, ge=1, description="A copy is left out where less is left of it beside other fossils."
    )
    preview: bool = Field(False, description="Write nothing.")


class SpecimensParams(Params):
    """What becomes of whole specimens, in all their slices."""

    specimens: str = Field("", description="Numbers of specimens, e.g. 3,7.")
    class_name: str = Field(
        "", description="Their class; empty: the only one with such a specimen."
    )
    merge: bool = Field(False, description="Make one specimen of them, with the first number.")
    split_at: int | None = Field(
        None, ge=0, description="Give what lies in this slice and later ones a new number."
    )
    delete: bool = Field(False, description="Delete all their masks.")
    new_class: str = Field("", description="Class to give them; empty: as it is.")
    texture: str | None = Field(None, description="Texture to give them; left out: as it is.")
    unsure: YesNo = Field(YesNo.KEEP, description="Whether they count for nothing, yes or no.")
    reviewed_too: bool = Field(
        False, description="Also delete and describe anew what a person has found right."
    )


class SameParams(Params):
    """Whether two sections that were linked are of one specimen."""

    before: int = Field(0, ge=1, description="Id of the section in the earlier slice.")
    after: int = Field(0, ge=1, description="Id of the section in the later slice.")
    same: bool = Field(True, description="One specimen; no: two.")


class TeachParams(Params):
    """How corrected slices teach the model, or what is decided about a model that was taught."""

    model: str = Field("", description="Model or edit to go on from; empty: the one in use.")
    slices: str = Field(
        "",
        description="Corrected slices to learn from; empty: those that are new to the model, with"
        " every mask reviewed or marked as traced.",
    )
    pin: str = Field(
        "", description="Corrected slices that only judge from now on: they are pinned."
    )
    others: bool = Field(
        True, description="Learn from all other traced slices as well, or the model forgets them."
    )
    name: str = Field("", max_length=64, description="Name of the new model; empty: made up.")
    class_name: str = Field("", description="Class to judge; empty: the project's first.")
    max_minutes: float = Field(15.0, gt=0, description="Longest training time in minutes.")
    max_steps: int = Field(
        300, ge=1, description="Most steps; what is used up first, time or steps, ends it."
    )
    learning_rate: float = Field(6e-4, gt=0, le=1, description="Peak learning rate.")
    crop: int = Field(512, ge=64, le=2048, description="Edge of a training crop, network pixels.")
    batch: int = Field(2, ge=1, le=64, description="Crops in one step.")
    seed: int = Field(0, ge=0, description="Seed of all random choices.")
    device: Device = Field(Device.AUTO, description="Where to compute.")
    keep: str = Field("", description="Use this taught model from now on; nothing is trained.")
    roll_back: str = Field(
        "", description="Do without this taught model: the one before is in use; trains nothing."
    )
