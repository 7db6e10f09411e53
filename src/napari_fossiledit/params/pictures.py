"""Parameters of pictures for reports."""

from __future__ import annotations

from pydantic import Field

from napari_fossiledit.params.base import Params


class PictureParams(Params):
    """Which slices are drawn, and what of them."""

    model: str = Field("", description="Name of a model whose predictions are outlined.")
    slices: str = Field("", description="Slices to draw, e.g. 0,2,4-9; empty: four of the stack.")
    score: float = Field(0.5, ge=0, le=1, description="Score threshold of predictions.")
    class_name: str = Field("", description="Class to outline; empty: the project's first.")
    specimens: bool = Field(True, description="Also draw the linked specimens in 3D.")
    longest: int = Field(
        1600, ge=64, le=8192, description="Longest edge of the picture of a slice, in pixels."
    )
