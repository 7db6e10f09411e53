"""The sample reef as a project to try everything on."""

from __future__ import annotations

from pathlib import Path

from napari_fossiledit.geometry import format_slices
from napari_fossiledit.params.annotations import ImportParams
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.workflows.annotate.files import import_annotations
from napari_fossiledit.workflows.sample import reef as sample
from napari_fossiledit.workflows.stack import new

#: Small enough to be made while the user waits; another seed than the shipped model's.
PARAMS = ReefParams(slices=16, size=384, seed=7)
_TRACED_EVERY = 4


def make_sample_project(
    folder: Path,
    params: ReefParams = PARAMS,
    *,
    job: Job = QUIET,
) -> Path:
    """Write a sample reef and a project of it in which every fourth slice is traced.

    Returns
    -------
    Path
        The folder of the project.
    """
    sample.run(folder, params, job=job)
    project = folder / "sample.fossil"
    voxels = NewParams(pixel_size=params.pixel_size_um, slice_spacing=params.slice_spacing_um)
    new.run(project, folder / "images", voxels)
    traced = format_slices(range(0, params.slices, _TRACED_EVERY))
    import_annotations(project, ImportParams(file=folder / "annotations.json", slices=traced))
    return project
