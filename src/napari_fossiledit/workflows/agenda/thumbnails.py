"""Small pictures of slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_fossiledit.exchange.pages.pictures import Picture, as_rgb, fitted
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project


def run(
    project_path: Path, slices: Sequence[int], longest: int, *, job: Job = QUIET
) -> dict[int, Picture]:
    """Read slices one after the other; their longest edges have `longest` pixels then.

    Raises
    ------
    FossilError
        Where a slice cannot be read.
    """
    with Project.open(project_path, read_only=True) as project:
        tracked = job.tracked(slices, len(slices), "Reading slice")
        return {z: fitted(as_rgb(project.stack.read(z)), longest) for z in tracked}
