"""Parameters of work that may be spread over processes."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from napari_fossiledit.params.base import Params


class SpreadParams(Params):
    """Where the work is done, which changes nothing of what comes out.

    To be left out of whatever says how something came about.
    """

    workers: int = Field(
        0, ge=0, le=256, description="Processes that share the work; 0: this one alone."
    )
    scheduler: str = Field(
        "",
        description="Address of a dask scheduler whose workers do it, e.g. tcp://host:8786.",
    )

    @field_validator("scheduler")
    @classmethod
    def _an_address(cls, text: str) -> str:
        if text and not re.fullmatch(r"\w+://\S+", text):
            raise ValueError("an address such as tcp://host:8786")
        return text

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.workers and self.scheduler:
            raise ValueError("workers of this machine or a scheduler, not both")
        return self


SPREAD = frozenset(SpreadParams.model_fields.keys() - Params.model_fields.keys())
"""Names of its fields."""
