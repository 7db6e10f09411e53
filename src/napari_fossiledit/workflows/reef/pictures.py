"""Pictures of a project: predictions beside what was traced, and the specimens in 3D."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.files import explained
from napari_fossiledit.geometry import parse_slices
from napari_fossiledit.masks import Mask, Part
from napari_fossiledit.params.reconstruct import MeshParams, PictureParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.shared.sources import find_source, with_class
from napari_fossiledit.workflows.shared.specimens import read_specimens, reconstructed

# Slices to draw where none is named, spread over the stack.
_SHOWN = 4
# matplotlib draws each face as a polygon of its own.
_FACES = 3000


@dataclass(frozen=True)
class PicturesResult:
    """Pictures that were written."""

    folder: Path
    files: tuple[Path, ...]

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {"folder": str(self.folder), "files": [file.name for file in self.files]}


def run(
    project_path: Path,
    out_dir: Path,
    params: PictureParams,
    *,
    job: Job = QUIET,
) -> PicturesResult:
    """Draw slices with their predictions (yellow) and traced instances (blue), and specimens.

    Raises
    ------
    FossilError
        Where the model has no predictions, or a picture cannot be written.
    """
    with explained(out_dir, "Making"):
        out_dir.mkdir(parents=True, exist_ok=True)
    with Project.open(project_path, read_only=True) as project:
        params = with_class(project, params)
        count = project.shape[0]
        step = max(1, count // _SHOWN)
        slices = list(range(step // 2, count, step))[:_SHOWN]
        if params.slices:
            slices = parse_slices(params.slices, count)
        files = [
            _draw_slice(project, z, params, out_dir)
            for z in job.tracked(slices, len(slices), "Drawing slice")
        ]
        if params.specimens:
            files.append(_draw_specimens(project, params, out_dir, job))
    return PicturesResult(out_dir, tuple(files))


def _draw_slice(project: Project, z: int, params: PictureParams, out_dir: Path) -> Path:
    """Draw one slice as it is, with its predictions, and with what was traced."""
    image = pictures.as_rgb(project.stack.read(z))
    width = max(1, round(max(image.shape[:2]) / params.longest * 1.5))
    panels = [image]
    if params.model:
        predicted = _bodies(project, find_source(project, params.model), z, params, params.score)
        panels.append(pictures.outline(image, predicted, pictures.PREDICTED, width))
    traced = _bodies(project, ANNOTATIONS, z, params, 0.0)
    if traced:
        panels.append(pictures.outline(image, traced, pictures.TRUE, width))
    path = out_dir / f"slice_{z:04d}.png"
    pictures.write_png(path, pictures.beside(*(pictures.fitted(p, params.longest) for p in panels)))
    return path


def _bodies(
    project: Project, source: str, z: int, params: PictureParams, score: float
) -> list[Mask]:
    bodies = project.ledger.instances(
        source,
        slices=[z],
        class_name=params.class_name,
        part=Part.BODY,
        min_score=score,
        mask_cut=params.mask_cut,
    )
    return [body.mask for body in bodies]


def _draw_specimens(project: Project, params: PictureParams, out_dir: Path, job: Job) -> Path:
    specimens = read_specimens(project, "", job=job)
    surfaces = [
        built.surface.in_rock(project.geometry.z_direction)
        for built in reconstructed(specimens, MeshParams(max_faces=_FACES), job)
        if built.key.class_name == params.class_name and built.surface is not None
    ]
    if not surfaces:
        raise FossilError(
            f"{project.path} has no specimen to draw",
            expected=f"linked instances of {params.class_name}",
        )
    path = out_dir / "specimens.png"
    title = f"{len(surfaces)} specimens of {params.class_name}"
    pictures.draw_specimens(surfaces, path, title)
    return path
