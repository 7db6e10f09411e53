"""Parameters of repairing a model at one wrong place."""

from __future__ import annotations

from pydantic import Field

from napari_fossiledit.params.base import Params
from napari_fossiledit.params.editing import EditParams, Solver
from napari_fossiledit.params.segment import Device

_EDIT = EditParams.model_fields


class RepairParams(Params):
    """What is wrong where, and how the edit that mends it is made and judged."""

    model: str = Field("", description="Model or edit that is wrong; empty: the one in use.")
    slice: int = Field(ge=0, description="Slice on which it is wrong.")
    instance: int | None = Field(
        None,
        ge=0,
        description="Id of the predicted instance that is wrong; 0 or none: see outline.",
    )
    outline: str = Field(
        "",
        description="Outline of a fossil that was missed: corners x,y x,y x,y, or any region"
        " such as 'ellipse 10:40,5:25'.",
    )
    towards_texture: bool = Field(
        False,
        description="For a missed fossil: also show it filled with the pitted texture; such edits"
        " never helped in the paper.",
    )
    joint: int = Field(
        4, ge=0, le=50, description="Most other traced slices that are edited with jointly."
    )
    solver: Solver = Field(_EDIT["solver"].default, description=_EDIT["solver"].description)
    strengths: str = Field(_EDIT["strengths"].default, description=_EDIT["strengths"].description)
    tolerance: float = Field(
        _EDIT["tolerance"].default, ge=0, le=1, description=_EDIT["tolerance"].description
    )
    tuning: str = Field("", description=_EDIT["tuning"].description)
    pinned: str = Field("", description=_EDIT["pinned"].description)
    name: str = Field("", max_length=64, description=_EDIT["name"].description)
    device: Device = Field(Device.AUTO, description=_EDIT["device"].description)
