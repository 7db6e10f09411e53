"""Convert the photographs of a project to a pyramid that is quick to step through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.stack_convert import (
    Copied,
    Handle,
    Spreader,
    convert_stack,
    plan_conversion,
    verifier,
)
from napari_fossiledit.jobs.spread import Spread, WorkerEndedError, spread
from napari_fossiledit.params.spread import SpreadParams
from napari_fossiledit.params.stack import ConvertParams
from napari_fossiledit.progress import QUIET, Job, Progress
from napari_fossiledit.project import Project
from napari_fossiledit.project.project import IMAGES
from napari_fossiledit.stacks import open_stack
from napari_fossiledit.summary import Summary

#: Stands in the ledger for what a damaged slice of the copy was made from: no photograph.
_DAMAGED = "damaged"


@dataclass(frozen=True)
class ConvertResult(Summary):
    """A conversion that is finished, or estimated.

    Attributes
    ----------
    path
        The OME-Zarr folder.
    slices
        How many slices it holds, or will hold.
    used
        True where the project reads its slices there from now on.
    estimate
        How much time and space was expected of the slices that were not there yet.
    again
        Slices that were copied again, because their photographs were replaced since, or because
        the copy was damaged.
    failed
        Slices that could not be read, and are missing.
    notes
        Why.
    """

    path: Path
    slices: int
    used: bool
    estimate: str
    again: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """Exit code for a shell: 3 where slices are missing."""
        return 3 if self.failed else 0


@dataclass(frozen=True)
class VerifyResult(Summary):
    """A converted copy that was read back.

    Attributes
    ----------
    path
        The OME-Zarr folder.
    slices
        How many slices were read.
    wrong
        Slices that are damaged or have other pixels than their photographs had.
    notes
        What is wrong with each, what to do, and which slices the copy lacks.
    """

    path: Path
    slices: int
    wrong: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """Exit code for a shell: 3 where slices are damaged."""
        return 3 if self.wrong else 0


def run(
    project_path: Path,
    params: ConvertParams | None = None,
    *,
    job: Job = QUIET,
) -> ConvertResult:
    """Convert the stack of a project to ``images.zarr``, going on where an earlier run stopped.

    The original photographs stay where they are; they are no longer needed once the copy is used.
    Slices that cannot be read are left out and named; the next run tries them again.

    Raises
    ------
    FossilError
        Where the project is read-only, has no photographs, or is converted by another process, or
        the disk is too small.
    CancelledError
        Where the user asked to stop; finished slices are kept.
    """
    params = params or ConvertParams()
    with Project.open(project_path) as project, project.converting():
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
        if source.path == target.resolve():
            return ConvertResult(
                target, len(source.stack), True, "Nothing to copy: the photographs are gone."
            )
        job.report(0, 1, "Estimating time and space")
        source.check()
        again = source.stale(IMAGES)
        spreader = _spreader(params, job)
        plan = plan_conversion(source.stack, target, again=again, spread=spreader)
        count = len(source.stack)
        if params.estimate:
            return ConvertResult(target, count, source is project.original, str(plan))
        job.on_progress(Progress(0, len(plan.remaining), "Converting slices", said=str(plan)))
        table = project.ledger.contents

        def written(z: int, copied: Copied) -> None:
            source.seen(z, copied.stamp, copied.content)
            table.set_made_from(IMAGES, {z: copied.content})

        failed = convert_stack(
            source.stack,
            target,
            project.geometry,
            plan=plan,
            spread=spreader,
            written=written,
            job=job,
        )
        if params.use:
            project.use_copy()
        again = [z for z in again if z not in failed]
        notes = [str(failed[z]) for z in sorted(failed)]
        return ConvertResult(
            target, count, params.use, str(plan), tuple(again), tuple(sorted(failed)), tuple(notes)
        )


def verify(
    project_path: Path, params: SpreadParams | None = None, *, job: Job = QUIET
) -> VerifyResult:
    """Read the converted copy of a project back; the next conversion writes anew what is wrong.

    All resolutions are read, and their checksums compared; the pixels of the finest one are
    compared with what the photograph was when it was copied.

    Raises
    ------
    FossilError
        Where there is no finished copy, or the project is read-only.
    CancelledError
        Where the user asked to stop.
    """
    with Project.open(project_path) as project, project.converting():
        project.require_writable()
        target = project.part(IMAGES)
        made = project.ledger.contents.made_from(IMAGES)
        if not made:
            raise FossilError(
                f"{project.path} has no converted copy",
                advice="Make one with 'fossiledit convert'.",
            )
        slices = sorted(made)
        wrong: dict[int, str] = {}
        checked = _spreader(params or SpreadParams(), job)(verifier, (target,), slices)
        for z, found in job.tracked(checked, len(slices), "Reading the copy back"):
            if found.error is not None:
                wrong[z] = str(found.error)
            elif found.content != made[z]:
                wrong[z] = f"Slice {z} has other pixels than its photograph had."
            if z in wrong:
                project.ledger.contents.set_made_from(IMAGES, {z: _DAMAGED})
        notes = [wrong[z] for z in sorted(wrong)]
        if wrong:
            advice = (
                "write them anew."
                if project.original or project.contents.path != target.resolve()
                else "need their photographs for that: put those back where they were."
            )
            notes.append(f"'fossiledit convert' will {advice}")
        # Slices that were never copied.
        notes += open_stack(target).warnings()
        return VerifyResult(target, len(slices), tuple(sorted(wrong)), tuple(notes))


def _spreader(params: SpreadParams, job: Job) -> Spreader:
    """Return what spreads slices over threads or processes, and raises what is no bad slice."""

    def over(
        make: Callable[..., Handle], args: tuple[Any, ...], items: list[int]
    ) -> Iterator[tuple[int, Copied]]:
        how = Spread(workers=params.workers, scheduler=params.scheduler)
        for outcome in spread(make, args, items, how=how, job=job):
            if isinstance(outcome.error, WorkerEndedError):
                # Of this slice alone, time and again: the others are not kept from being copied.
                yield outcome.item, Copied("", "", outcome.error)
            else:
                yield outcome.item, outcome.result()

    return over
