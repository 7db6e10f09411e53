"""One perturbed slice, made away from the window: no napari, no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from napari_fossiledit.params.perturb import PerturbParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.shared.perturbed_slices import prepared


@dataclass(frozen=True)
class Preview:
    """What a perturbation makes of a slice.

    Attributes
    ----------
    slice
        Index of the slice.
    image
        The perturbed slice (y, x) or (y, x, 3), data type of the stack.
    share
        Share of its pixels that were perturbed, 0 to 1.
    steps
        What was done, in the words of a custom perturbation.
    mud
        Colour of the mud that was used, None where none was.
    """

    slice: int
    image: NDArray[Any]
    share: float
    steps: str
    mud: tuple[float, float, float] | None

    @property
    def text(self) -> str:
        """What was done, for the user."""
        return f"Slice {self.slice}: {self.share:.0%} of the pixels changed. {self.steps}"


def preview(
    project_path: Path,
    z: int,
    params: PerturbParams,
    *,
    job: Job = QUIET,
) -> Preview:
    """Perturb slice `z` and return no more than is shown."""
    with Project.open(project_path, read_only=True) as project:
        made = prepared(project, z, params)
    return Preview(z, made.perturbed, made.share, made.steps, made.mud)
