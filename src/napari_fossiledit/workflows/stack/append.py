"""Take in photographs that were added to a stack since its project was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_fossiledit.errors import FossilError
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.project.contents import STACK
from napari_fossiledit.stacks import find_warnings, open_stack
from napari_fossiledit.stacks.blank import KIND as BLANK
from napari_fossiledit.stacks.listing import enumerated
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.shared.stale import added_photographs, look_at_photographs


@dataclass(frozen=True)
class AppendResult(Summary):
    """A stack that has grown.

    Attributes
    ----------
    project
        Folder of the project.
    added
        Names of the new slices.
    slices
        How many there are now.
    warnings
        What is odd about the photographs, and what has to be done again.
    """

    project: Path
    added: tuple[str, ...]
    slices: int
    warnings: tuple[str, ...]


def run(project_path: Path, stack_path: Path | None = None, *, job: Job = QUIET) -> AppendResult:
    """Take in photographs behind those that a project has; those it has keep their numbers.

    Parameters
    ----------
    stack_path
        Where all photographs are now, old and new ones; None: where the project has them.

    Raises
    ------
    FossilError
        Where a photograph of the project is missing, a new one comes before one of those, or is of
        another size, colour or depth.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        had = project.photographs
        if had.kind == BLANK:
            raise FossilError(
                f"{project.path} has no photographs to be continued",
                expected="a stack of images",
                found="tracings alone",
            )
        job.report(0, 1, "Reading the headers of the slices")
        stack = open_stack(had.path if stack_path is None else stack_path)
        record = stack.record()
        _require_behind(project, had.names, record.names)
        if record.format != had.format:
            raise FossilError(
                f"{record.path} is not the stack of {project.path}",
                expected=had.format,
                found=record.format,
            )
        job.check("Appending")
        added, warnings = record.names[len(had.names) :], find_warnings(stack)
        if added:
            original = project.original
            positions = project.geometry.z_positions_um
            if positions is not None:
                step = project.geometry.slice_spacing_um
                further = (positions[-1] + step * (n + 1) for n in range(len(added)))
                positions = (*positions, *further)
                warnings.append(
                    f"The new slices are taken to lie {step:g} um apart: state their positions with"
                    " 'fossiledit stack positions'."
                )
            if project.ledger.alignment().entries:
                # What stands out is told from the motions of the slices around.
                near = f"{max(0, len(had.names) - 11)}-{len(record.names) - 1}"
                warnings.append(
                    "The new slices are taken to lie as those before them do: 'fossiledit"
                    f" stack align {project.path} --slices {near}' looks whether they do."
                )
            project.set_stack(record, z_positions_um=positions)
            if original is not None:
                project.ledger.contents.note(STACK, original.known)
                warnings.append(
                    "The converted copy lacks the new slices, and the photographs themselves are"
                    " read again: 'fossiledit convert' continues it."
                )
        # Also at those that a killed run appended and did not look at.
        look_at_photographs(project)
        job.report(1, 1, "Took in the new slices")
        return AppendResult(project.path, added, project.shape[0], tuple(warnings))


def new_photographs(project_path: Path, *, job: Job = QUIET) -> list[str]:
    """Return names of photographs that lie beside those of a project and could be taken in."""
    job.check("Looking for new photographs")
    with Project.open(project_path) as project:
        return added_photographs(project)


def _require_behind(project: Project, had: Sequence[str], there: Sequence[str]) -> None:
    """Raise where the photographs of a project are not the first of those that are there."""
    if tuple(there[: len(had)]) == tuple(had):
        return
    gone = [name for name in had if name not in {*there}]
    new = [name for name in there if name not in {*had}]
    between = [name for name in new if there.index(name) < len(had)]
    what = f"{project.path} cannot take in new photographs"
    behind = f"new slices behind {had[-1]}"
    if gone:
        raise FossilError(
            what, expected=behind, found=f"{enumerated(gone)} missing", advice="Put them back."
        )
    if between:
        after = there[there.index(between[-1]) + 1]
        raise FossilError(
            what,
            expected=behind,
            found=f"{enumerated(between)} before {after}",
            advice="Slices count from the first photograph: all results would lie on other slices."
            " Rename new photographs so that they are sorted behind, or make a new project.",
        )
    raise FossilError(what, expected=f"{had[0]} to {had[-1]} in this order", found="another order")
