"""Base class of all parameter models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """Immutable, flat, versioned parameters of one operation.

    Field descriptions serve as tooltips and as help of the command line; bounds serve both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=False)

    version: int = 1
