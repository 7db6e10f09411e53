"""Base class of all parameter models."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from napari_fossiledit.files import PLAIN_NAME, is_plain


def _plain(name: str) -> str:
    if not is_plain(name):
        raise ValueError(PLAIN_NAME)
    return name


PlainName = Annotated[str, AfterValidator(_plain)]
"""A name of a model, an edit or a class."""


class Params(BaseModel):
    """Immutable, flat, versioned parameters of one operation.

    Field descriptions serve as tooltips and as help of the command line; bounds serve both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=False)

    version: int = 1


MaskCut = Annotated[
    float,
    Field(
        gt=0,
        lt=1,
        description="Probability from which on a pixel belongs to the mask of a prediction.",
    ),
]
