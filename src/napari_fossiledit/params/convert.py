"""Parameters of converting a stack."""

from __future__ import annotations

from pydantic import Field

from napari_fossiledit.params.base import Params


class ConvertParams(Params):
    """How the photographs of a project become an OME-Zarr pyramid."""

    use: bool = Field(
        default=True, description="Read the slices from the converted copy from now on."
    )
