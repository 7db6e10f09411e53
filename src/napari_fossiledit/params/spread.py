"""Parameters of work that may be spread over processes."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

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
        pattern=r"^$|^\w+://\S+$",
        description="Address of a dask scheduler whose workers do it, e.g. tcp://host:8786.",
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.workers and self.scheduler:
            raise ValueError("workers of this machine or a scheduler, not both")
        return self


SPREAD = frozenset(SpreadParams.model_fields.keys() - Params.model_fields.keys())
"""Names of its fields."""
