"""Parameters of asking a model what it looks at."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from napari_fossiledit.params.base import Params
from napari_fossiledit.params.segment import Device


class Method(StrEnum):
    """How a saliency map is made, see `saliency.methods`."""

    GRADIENT = "gradient"
    INPUT_X_GRADIENT = "input-x-gradient"
    SMOOTHGRAD = "smoothgrad"
    INTEGRATED = "integrated-gradients"
    GRAD_CAM = "grad-cam"


class Said(StrEnum):
    """What the model says of an instance: that it is of its class, or where its mask is."""

    CLASS = "class"
    MASK = "mask"


class LookParams(Params):
    """How a model is asked what it looks at."""

    model: str = Field("", description="Model, edit or file; empty: the one in use.")
    method: Method = Field(
        Method.INPUT_X_GRADIENT, description="How the importance of each pixel is computed."
    )
    of: Said = Field(
        Said.CLASS, description="What is explained: the score of the class, or the mask."
    )
    class_name: str = Field("", description="Only instances of this class; empty: all.")
    score: float = Field(0.5, ge=0, le=1, description="Predictions below it are left out.")
    steps: int = Field(
        128, ge=1, le=4096, description="Steps of integrated gradients from the mean colour on."
    )
    samples: int = Field(16, ge=1, le=1024, description="Noisy copies that SmoothGrad averages.")
    noise: float = Field(
        0.15, gt=0, le=2, description="Their noise, as a share of the range of the slice's values."
    )
    tile: int = Field(
        0,
        ge=0,
        le=4096,
        description="Longest edge of what is looked at at once, network pixels, to save memory; 0:"
        " as for a prediction.",
    )
    seed: int = Field(0, ge=0, description="Seed of the noise and of the intervals.")
    device: Device = Field(Device.AUTO, description="Where to compute.")


class SaliencyParams(LookParams):
    """Which instances of one slice a model is asked about."""

    z: int = Field(0, ge=0, description="Slice, counted from 0.")
    instance: int = Field(
        0, ge=0, description="Id of one instance, whoever found it; 0: all that the model finds."
    )


class AsymmetryParams(LookParams):
    """On which slices it is measured how unequally a model looks at slices and colours."""

    slices: str = Field(
        "", description="Slices to look at, as 0,2,4-9; empty: the traced ones, else eight."
    )
    before: bool = Field(
        False, description="Judge also what the model was before it was trained, anew from chance."
    )
    hue: float = Field(
        90.0,
        ge=0,
        le=180,
        description="Degrees that hues of traced slices are turned by, to see what a model of"
        " colours loses; 0: not.",
    )
