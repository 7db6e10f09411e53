"""Make a project of a stack, and write where a stack has been moved to."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tables import read_column
from napari_fossiledit.exchange.tracings.outlines import read_outlines
from napari_fossiledit.geometry import check_positions
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.stacks import SectionStack, find_warnings, open_stack
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.shared.stack_values import StackValues
from napari_fossiledit.workflows.shared.stale import look_at_photographs

# Share by which sizes may differ before the user is warned.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class NewResult(Summary):
    """A project that was made or whose stack was found again.

    Attributes
    ----------
    project
        Its folder.
    shape
        (z, y, x) or (z, y, x, 3) of the stack.
    kind
        How the stack is stored.
    voxel_size_um
        (z, y, x) in um.
    warnings
        What is odd about the stack, for the user.
    """

    project: Path
    shape: tuple[int, ...]
    kind: str
    voxel_size_um: tuple[float, float, float]
    warnings: tuple[str, ...] = ()


def run(
    project_path: Path,
    stack_path: Path,
    params: NewParams,
    *,
    job: Job = QUIET,
) -> NewResult:
    """Make a project.

    Parameters
    ----------
    project_path
        New or empty folder.
    stack_path
        Folder of images, image, multi-page TIFF or OME-Zarr; or a ``.mat`` file of outlines,
        whose photographs are lost: the project then lies over black slices.

    Raises
    ------
    FossilError
        Where there is no usable stack, or the folder is taken.
    """
    job.report(0, 1, "Reading the headers of the slices")
    stack = open_source(stack_path)
    job.check("Making the project")
    with Project.create(project_path, stack, params) as project:
        look_at_photographs(project)
        # Noted now: a preview, which opens the project to read it, would look at them each time.
        with suppress(FossilError):
            _ = StackValues(project).span
        result = _result(project, stack)
    job.report(1, 1, "Made the project")
    return result


def move_stack(
    project_path: Path,
    stack_path: Path,
    *,
    job: Job = QUIET,
) -> NewResult:
    """Write where the photographs of a project have been moved to.

    Raises
    ------
    FossilError
        Where those are other photographs.
    """
    job.report(0, 1, "Reading the headers of the slices")
    job.check("Moving the stack")
    with Project.open(project_path) as project:
        project.set_stack_path(stack_path)
        result = _result(project, project.stack)
    job.report(1, 1, "Found the stack")
    return result


def set_positions(project_path: Path, file: Path, *, job: Job = QUIET) -> NewResult:
    """Write how far each slice lies from the first, where the steps are not all the same.

    Parameters
    ----------
    file
        CSV with a line for each slice; its last column is the position in um.

    Raises
    ------
    FossilError
        Where the file has another number of lines than the stack has slices, or the positions do
        not increase.
    """
    job.check("Reading positions of slices")
    with Project.open(project_path) as project:
        positions = check_positions(read_column(file), project.shape[0], file)
        mean = positions[-1] / max(1, len(positions) - 1) or project.geometry.slice_spacing_um
        project.update(z_positions_um=positions, slice_spacing_um=mean)
        return _result(project, project.stack)


def open_source(path: Path) -> SectionStack:
    """Open what a project can be made of: photographs, or a ``.mat`` file of outlines."""
    if path.suffix.lower() == ".mat":
        return BlankStack.of_shape(path, read_outlines(path).shape)
    return open_stack(path)


def _result(project: Project, stack: SectionStack) -> NewResult:
    """Return the result, with a warning where the files state another voxel size."""
    warnings, geometry = [*find_warnings(stack)], project.geometry
    stated = stack.suggested_geometry()
    if stated is not None:
        for what, theirs, ours in (
            ("pixel size", stated.pixel_size_um, geometry.pixel_size_um),
            ("slice spacing", stated.slice_spacing_um, geometry.slice_spacing_um),
        ):
            if theirs is not None and abs(theirs - ours) > _TOLERANCE * ours:
                warnings.append(
                    f"The project's {what} is {ours:g} um, but the files say {theirs:g} um"
                    f" ({stated.origin})."
                )
    return NewResult(
        project=project.path,
        shape=stack.shape,
        kind=stack.kind,
        voxel_size_um=geometry.voxel_size.zyx,
        warnings=tuple(warnings),
    )
