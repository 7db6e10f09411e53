"""Parameters of operations that mostly move files: the demo, measuring."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from napari_fossiledit.params.base import Params


class DemoParams(Params):
    """How the demonstration runs."""

    out: Path = Field(Path("demo-output"), description="Folder for pictures, table and meshes.")
    slices: int = Field(32, ge=8, le=512, description="Slices of the sample reef.")
    size: int = Field(512, ge=256, le=4096, description="Width of its slices in pixels.")
    seed: int = Field(7, ge=0, description="Seed of the sample reef; the shipped model saw none.")
