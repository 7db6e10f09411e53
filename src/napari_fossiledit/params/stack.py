"""Parameters of making a project from a stack."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, field_validator

from napari_fossiledit.geometry import LARGEST_UM, SMALLEST_UM, StackGeometry, ZDirection
from napari_fossiledit.params.base import Params, PlainName
from napari_fossiledit.params.spread import SpreadParams


class NewParams(Params):
    """How big the voxels of a new project are and which way its slices count."""

    # No defaults: every volume and length would silently be wrong by them.
    pixel_size: float = Field(
        ge=SMALLEST_UM, le=LARGEST_UM, description="Edge of a pixel in um, e.g. 72.7."
    )
    slice_spacing: float = Field(
        ge=SMALLEST_UM, le=LARGEST_UM, description="Distance between slices in um, e.g. 500."
    )
    z_direction: ZDirection = Field(
        ZDirection.INTO,
        description="Whether slices count into the rock (as grinding goes) or out of it.",
    )
    classes: tuple[PlainName, ...] = Field(
        ("archaeocyathid",), min_length=1, description="Classes the models of the project learn."
    )

    @field_validator("classes")
    @classmethod
    def _different(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("classes of different names")
        return names

    @property
    def geometry(self) -> StackGeometry:
        """The geometry these parameters describe."""
        return StackGeometry(self.pixel_size, self.slice_spacing, self.z_direction)


class ConvertParams(SpreadParams):
    """How the photographs of a project become an OME-Zarr pyramid."""

    use: bool = Field(
        default=True, description="Read the slices from the converted copy from now on."
    )
    estimate: bool = Field(
        default=False, description="Only tell how long it takes and how much disk."
    )


class RepairProjectParams(Params):
    """What is done with damaged rows of a project."""

    clear: bool = Field(
        False,
        description="Remove what the journal cannot restore: damaged predictions are predicted"
        " anew, slices with a damaged annotation are not traced any more.",
    )


class Align(StrEnum):
    """What is laid over what: all after a jump, each slice over the one before, or nothing."""

    JUMPS = "jumps"
    NEIGHBOURS = "neighbours"
    NONE = "none"


class AlignParams(Params):
    """How photographs are laid over each other."""

    how: Align = Field(
        Align.JUMPS,
        description="jumps: find where the stack jumps, and move all that follows by one motion;"
        " neighbours: lay every slice over the one before, which straightens fossils that lean;"
        " none: leave the photographs as they were taken.",
    )
    slices: str = Field(
        "",
        description="Slices that are laid over each other, e.g. 10-20: what follows them follows,"
        " and all else stays; empty: all.",
    )


class PlaceParams(Params):
    """How a photograph is moved by hand."""

    z: int = Field(0, ge=0, description="Slice, counted from 0.")
    shift: str = Field("0,0", description="Pixels to the right and down, e.g. 3.2,-1.")
    turn: float = Field(
        0.0, ge=-180, le=180, description="Degrees, clockwise, about the middle of the slice."
    )
    points: str = Field(
        "",
        description="In place of shift and turn: points of the slice and of the one before that are"
        " the same place, x,y=x,y one after the other, e.g. '10,12=11,12 80,75=81,74'.",
    )
    alone: bool = Field(False, description="Move this slice alone, not all that follow.")


class CutParams(Params):
    """Where a stack is cut through, to see how its slices lie."""

    z: int = Field(0, ge=0, description="Slice in the middle of the cut, counted from 0.")
    around: int = Field(30, ge=1, le=2000, description="Slices shown on either side of it.")
    row: int = Field(
        -1, ge=-1, description="Row of pixels that is shown of each slice; -1: the middle one."
    )
    column: int = Field(-1, ge=-1, description="Column in place of a row; -1: a row.")
