"""Write how the block was cut and how its bedding lay, once for the project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_fossiledit.params.reconstruct import OrientParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.reef.orientation import azimuth_and_inclination, field_frame
from napari_fossiledit.summary import Summary


@dataclass(frozen=True)
class OrientResult(Summary):
    """Directions of the stack in the rock as it lay when it was mud, in degrees.

    Attributes
    ----------
    project
        Its folder.
    photograph_top, photograph_right, out_of_face
        (azimuth, inclination) of the top and the right of the photographs, and of the way from the
        ground face to the camera; inclinations below the horizontal are negative.
    """

    project: Path
    photograph_top: tuple[float, float]
    photograph_right: tuple[float, float]
    out_of_face: tuple[float, float]


def run(project_path: Path, params: OrientParams, *, job: Job = QUIET) -> OrientResult:
    """Write the angles of block and bedding; later measurements give directions in the bedding."""
    job.check("Writing the orientation of the block")
    with Project.open(project_path) as project:
        project.update(orientation=params.model_dump())
        direction = project.geometry.z_direction
    frame = field_frame(params, direction)
    out = -project.geometry.handedness
    ways = np.array([[0, -1, 0], [0, 0, 1], [out, 0, 0]], dtype=np.float64) @ frame.T
    degrees = np.round(np.stack(azimuth_and_inclination(ways, upward=False), axis=1), 3).tolist()
    return OrientResult(project_path, *(tuple(pair) for pair in degrees))
