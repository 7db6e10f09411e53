"""Parameters of linking, meshing, measuring and drawing."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field

from napari_fossiledit.geometry import LARGEST_UM
from napari_fossiledit.params.base import MaskCut, Params
from napari_fossiledit.params.spread import SpreadParams

BEST_KNOWN = "best-known"
"""Stands for the user's instances where a slice has any, and predictions elsewhere."""


EVERY_CLASS = "all"
"""Stands for all classes but the rock face, each linked by itself."""


class MeshFormat(StrEnum):
    """File formats of a mesh."""

    STL = "stl"
    PLY = "ply"
    OBJ = "obj"
    GLB = "glb"
    THREEMF = "3mf"


class LengthUnit(StrEnum):
    """Units of the coordinates of exported meshes and label volumes."""

    UM = "um"
    MM = "mm"

    @property
    def per_um(self) -> float:
        """Number of these in a um."""
        return 1.0 if self is LengthUnit.UM else 1e-3


class Branches(StrEnum):
    """What the branches of a specimen are."""

    GRAPH = "graph"
    CUT = "cut"


class Ends(StrEnum):
    """What becomes of a surface where the block of rock ends."""

    CAPPED = "capped"
    OPEN = "open"


class LinkParams(Params):
    """How instances of neighbouring slices become specimens."""

    source: str = Field(
        BEST_KNOWN,
        description="best-known (annotations where a slice has any, predictions of the model in"
        " use elsewhere), annotations, or the name of a model.",
    )
    relink: bool = Field(False, description="Forget identities that an imported file brought.")
    class_name: str = Field(
        "", description="Class to link, or all of them: all; empty: the project's first."
    )
    score: float = Field(0.5, ge=0, le=1, description="Score threshold of predictions.")
    mask_cut: MaskCut = 0.5
    min_overlap: float = Field(
        0.35, gt=0, le=1, description="Least overlap, as share of the smaller section."
    )
    max_gap: int = Field(3, ge=0, le=50, description="Most slices a specimen may be missing in.")
    branches: Branches = Field(
        Branches.GRAPH,
        description="What has branches, or has grown together: graph, one specimen; cut, a specimen"
        " a branch.",
    )
    min_slices: int = Field(1, ge=1, description="Specimens in fewer slices are dropped.")


class MeshParams(SpreadParams):
    """How specimens become closed surfaces."""

    format: MeshFormat = Field(MeshFormat.STL, description="File format.")
    unit: LengthUnit = Field(
        LengthUnit.UM,
        description="Unit of coordinates in files; GLB is always in metres, as its standard says.",
    )
    source: str = Field("", description="Source that was linked; empty: the one linked last.")
    mask_cut: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Probability from which on a pixel belongs to the mask of a prediction;"
        " 0: as it was when linking.",
    )
    cavities: bool = Field(True, description="Cut the central cavities out of the bodies.")
    ends: Ends = Field(
        Ends.CAPPED,
        description="Where a specimen is cut by a side of the block: capped closes its mesh there,"
        " open leaves it open.",
    )
    bridge: int = Field(
        0,
        ge=0,
        le=50,
        description="Interpolate a specimen over at most so many slices in which it is missing or"
        " that nobody traced; 0: never.",
    )
    max_faces: int = Field(
        0, ge=0, description="Simplify each mesh to about that many faces; 0: keep all."
    )
    max_error: float = Field(
        0.0,
        ge=0,
        description="Leave off faces as long as the surface moves by less, in um; 0: keep all.",
    )


class MeasureParams(MeshParams):
    """What is measured of specimens and of the reef."""

    close_cracks: float = Field(
        0.0, ge=0, le=1e6, description="Close cracks up to that width in um first; 0: as they are."
    )
    cube_um: float = Field(
        0.0,
        ge=0,
        le=LARGEST_UM,
        description="Edge in um of the cubes in which surface per volume is measured;"
        " 0: a quarter of the shortest edge of the box around all specimens.",
    )
    cubes: int = Field(100, ge=1, le=10_000, description="Cubes, at random places.")
    seed: int = Field(0, ge=0, description="Seed of the places of the cubes.")
    plots: Path | None = Field(
        None, description="Folder for plots: branches, directions, spacing, surface, classes."
    )


def _angle(most: int, description: str) -> Any:
    return Field(ge=0, le=most, allow_inf_nan=False, description=description)


class OrientParams(Params):
    """How the block was cut and how its bedding lay, all in degrees.

    A strike is an azimuth, and the plane dips to the right of it.
    """

    block_strike: float = _angle(360, "Strike of the ground face in the field.")
    block_dip: float = _angle(180, "Dip of the ground face; more than 90 where it looks down.")
    bedding_strike: float = _angle(360, "Strike of the bedding.")
    bedding_dip: float = _angle(180, "Dip of the bedding; more than 90 where it is overturned.")
    strike_heading: float = Field(
        0.0,
        ge=0,
        le=360,
        allow_inf_nan=False,
        description="Where the strike of the face points in the photographs, clockwise from their"
        " top.",
    )


class ReportParams(MeasureParams):
    """What is reported of the specimens, and which slices are drawn."""

    slices: str = Field("", description="Slices to draw, e.g. 0,2,4-9; empty: four with specimens.")


class PictureParams(Params):
    """Which slices are drawn, and what of them."""

    model: str = Field("", description="Name of a model whose predictions are outlined.")
    slices: str = Field("", description="Slices to draw, e.g. 0,2,4-9; empty: four of the stack.")
    score: float = Field(0.5, ge=0, le=1, description="Score threshold of predictions.")
    mask_cut: MaskCut = 0.5
    class_name: str = Field("", description="Class to outline; empty: the project's first.")
    specimens: bool = Field(True, description="Also draw the linked specimens in 3D.")
    longest: int = Field(
        1600, ge=64, le=8192, description="Longest edge of the picture of a slice, in pixels."
    )
