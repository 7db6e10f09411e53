"""The whole way on a sample reef: predict, judge, link, mesh, measure, and draw."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import read_json
from napari_fossiledit.params.annotations import ImportParams
from napari_fossiledit.params.reconstruct import LinkParams, MeshFormat, MeshParams, PictureParams
from napari_fossiledit.params.sample import DemoParams, ReefParams
from napari_fossiledit.params.segment import EvaluateParams, PredictParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.project.project import SETTINGS_FILE
from napari_fossiledit.workflows.annotate.files import import_annotations
from napari_fossiledit.workflows.reef import link, measure, mesh, pictures
from napari_fossiledit.workflows.sample import reef as sample
from napari_fossiledit.workflows.segment import evaluate, predict
from napari_fossiledit.workflows.stack import new

MODEL = "reef-lite"


@dataclass(frozen=True)
class DemoResult:
    """Files and figures of the demonstration.

    Attributes
    ----------
    out, project
        Folder of the pictures, meshes and the table, and the project in it.
    results
        Summary of each step, JSON-able, with its seconds.
    """

    out: Path
    project: Path
    results: dict[str, Any]

    @property
    def window_picture(self) -> Path:
        """Path for a picture of the window."""
        return self.out / "pictures" / "window.png"

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {"out": str(self.out), "project": str(self.project), **self.results}


def run(params: DemoParams, *, job: Job = QUIET) -> DemoResult:
    """Segment a sample reef with the shipped model and reconstruct it.

    What an earlier run finished in the same folder is used again.

    Raises
    ------
    FossilError
        Where the folder cannot be written or holds something else.
    """
    out = params.out
    project = out / "reef.fossil"
    _sample(out / "sample", project, params, job)
    _project(project, out / "sample", job)
    judged = EvaluateParams(model=MODEL, slices="all")
    meshes = MeshParams(format=MeshFormat.PLY)
    drawn = PictureParams(model=MODEL)
    steps: dict[str, Callable[[], Any]] = {
        "predict": lambda: predict.run(project, PredictParams(model=MODEL), job=job),
        "evaluate": lambda: evaluate.run(project, judged, job=job),
        "link": lambda: link.run(project, LinkParams(source=MODEL), job=job),
        "mesh": lambda: mesh.run(project, out / "meshes", meshes, job=job),
        "measure": lambda: measure.run(project, out / "specimens.csv", meshes, job=job),
        "pictures": lambda: pictures.run(project, out / "pictures", drawn, job=job),
    }
    results: dict[str, Any] = {}
    for name, step in steps.items():
        start = time.monotonic()
        summary = step().summary()
        results[name] = {**summary, "seconds": round(time.monotonic() - start, 1)}
    return DemoResult(out, project, results)


def _sample(folder: Path, project: Path, params: DemoParams, job: Job) -> None:
    """Write the sample reef, unless a complete one of the same parameters is there."""
    reef = ReefParams(slices=params.slices, size=params.size, seed=params.seed)
    truth = folder / "truth.json"
    written = read_json(truth, "the truth of a sample reef") if truth.exists() else {}
    if written.get("complete") and written.get("params") == reef.model_dump(mode="json"):
        return
    if project.exists():
        raise FossilError(
            f"{project} was made of another sample reef",
            expected=f"{params.slices} slices of {params.size} pixels, seed {params.seed}",
            advice="Choose another folder with --out, or remove this one.",
        )
    sample.run(folder, reef, job=job)


def _project(project: Path, folder: Path, job: Job) -> None:
    """Make the project with its ground truth, unless it is there."""
    if not (project / SETTINGS_FILE).exists():
        reef = ReefParams()
        voxels = NewParams(pixel_size=reef.pixel_size_um, slice_spacing=reef.slice_spacing_um)
        new.run(project, folder / "images", voxels, job=job)
    with Project.open(project) as opened:
        # A run that was killed may have left a project without its annotations.
        if any(run.kind == "import" and run.status == "done" for run in opened.ledger.runs()):
            return
    import_annotations(project, ImportParams(file=folder / "annotations.json"), job=job)
