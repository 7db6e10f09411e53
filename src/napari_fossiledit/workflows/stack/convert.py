"""Convert the photographs of a project to a pyramid that is quick to step through."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.stack_convert import convert_stack
from napari_fossiledit.params.stack import ConvertParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.project.project import IMAGES
from napari_fossiledit.summary import Summary


@dataclass(frozen=True)
class ConvertResult(Summary):
    """A finished conversion.

    Attributes
    ----------
    path
        The OME-Zarr folder.
    slices
        How many slices it holds.
    used
        True where the project reads its slices there from now on.
    again
        Slices that were copied again, because their photographs were replaced since.
    """

    path: Path
    slices: int
    used: bool
    again: tuple[int, ...] = ()


def run(
    project_path: Path,
    params: ConvertParams | None = None,
    *,
    job: Job = QUIET,
) -> ConvertResult:
    """Convert the stack of a project to ``images.zarr``, going on where an earlier run stopped.

    The original photographs stay where they are; they are no longer needed once the copy is used.

    Raises
    ------
    FossilError
        Where the project is read-only, has no photographs, or the disk is too small.
    CancelledError
        Where the user asked to stop; finished slices are kept.
    """
    use = (params or ConvertParams()).use
    with Project.open(project_path) as project:
        project.require_writable()
        target = project.part(IMAGES)
        if project.stack.kind == "blank":
            raise FossilError(
                f"{project.path} has no photographs to convert",
                expected="a stack of images",
                found="tracings alone",
            )
        # Of a copy that is in use already, only what the photographs have become since is written.
        source = project.original or project.contents
        again: list[int] = []
        if source.path != target.resolve():
            source.check()
            again = source.stale(IMAGES)
            table = project.ledger.contents
            convert_stack(
                source.stack,
                target,
                project.geometry,
                again=again,
                read=lambda z: source.read(z, placed=False),
                written=lambda z: table.set_made_from(IMAGES, {z: source.of(z)}),
                job=job,
            )
        if use:
            project.use_copy()
        return ConvertResult(target, project.shape[0], use, tuple(again))
