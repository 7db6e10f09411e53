"""Write the procedural sample reef, alone or as a project to try everything on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.exchange.reef_files import write_reef
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.params.annotations import ImportParams
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.samples.reef import Reef
from napari_fossiledit.workflows.annotate.files import import_annotations
from napari_fossiledit.workflows.stack import new

#: Small enough to be made while the user waits; another seed than the shipped model's.
PROJECT_PARAMS = ReefParams(slices=16, size=384, seed=7)
_TRACED_EVERY = 4


@dataclass(frozen=True)
class SampleResult:
    """A sample reef that was written.

    Attributes
    ----------
    content
        Files, counts and voxel size, JSON-able.
    """

    content: Mapping[str, Any]

    def summary(self) -> Mapping[str, Any]:
        """Return the result as JSON-able values."""
        return self.content


def run(
    out: Path,
    params: ReefParams,
    *,
    job: Job = QUIET,
) -> SampleResult:
    """Write a sample reef with its exact truth into `out`; see `exchange.reef_files.write_reef`."""
    return SampleResult(write_reef(Reef(params), out, job))


def make_sample_project(
    folder: Path,
    params: ReefParams = PROJECT_PARAMS,
    *,
    job: Job = QUIET,
) -> Path:
    """Write a sample reef and a project of it in which every fourth slice is traced.

    Returns
    -------
    Path
        The folder of the project.
    """
    run(folder, params, job=job)
    project = folder / "sample.fossil"
    voxels = NewParams(pixel_size=params.pixel_size_um, slice_spacing=params.slice_spacing_um)
    new.run(project, folder / "images", voxels)
    traced = format_slices(range(0, params.slices, _TRACED_EVERY))
    import_annotations(project, ImportParams(file=folder / "annotations.json", slices=traced))
    return project
