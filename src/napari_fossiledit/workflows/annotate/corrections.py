"""The user's set of instances: take predictions over, mark slices as traced, undo and redo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import Region, format_slices, parse_slices
from napari_fossiledit.masks import Mask, Part
from napari_fossiledit.params.annotations import (
    FillParams,
    HistoryParams,
    TraceParams,
    UntraceParams,
)
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import (
    ANNOTATIONS,
    DamagedError,
    Ledger,
    PastAction,
    Project,
    TakenOver,
    Undone,
)
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.shared.sources import (
    find_source,
    known_class,
    predictions_in_use,
    without_orphans,
)
from napari_fossiledit.workflows.shared.stale import look_at_photographs, stale_notes


@dataclass(frozen=True)
class FillResult(Summary):
    """Instances that were taken over.

    Attributes
    ----------
    source
        Where the instances are from.
    slices
        Slices that got instances.
    kept
        Slices that were left alone: they are traced, or hold instances already.
    mask_cut
        Probability at which the masks of predictions end.
    instances
        How many were taken over.
    replaced
        How many instances of the user's set they replaced.
    untraced
        Slices that were traced, and are not any more.
    problems
        Slices whose instances cannot be read, and why.
    notes
        Which of the instances were made from other photographs than are there now.
    """

    source: str
    slices: tuple[int, ...]
    kept: tuple[int, ...]
    mask_cut: float
    instances: int
    replaced: int
    untraced: tuple[int, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        listed = {n: format_slices(getattr(self, n)) for n in ("slices", "kept", "untraced")}
        return super().summary() | listed


@dataclass(frozen=True)
class TraceResult(Summary):
    """Slices whose mark changed, and how many instances the user's set holds in them."""

    slices: tuple[int, ...]
    instances: int

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return super().summary() | {"slices": format_slices(self.slices)}


@dataclass(frozen=True)
class MoveResult(Summary):
    """What was undone or redone, and the slices that changed by it."""

    what: str
    slices: tuple[int, ...]

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return super().summary() | {"slices": format_slices(self.slices)}


@dataclass(frozen=True)
class HistoryResult:
    """Changes of the user's set, newest first."""

    actions: tuple[PastAction, ...]

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {
            "actions": [
                {**action.__dict__, "slices": format_slices(action.slices)}
                for action in self.actions
            ]
        }


def fill(
    project_path: Path,
    params: FillParams,
    *,
    job: Job = QUIET,
) -> FillResult:
    """Copy instances of a source into the user's set, where they can be corrected.

    Each slice is one transaction, all slices together are one action of the journal. A slice that
    is traced or holds instances already is kept, unless `params.overwrite`.

    Raises
    ------
    FossilError
        Where there are no such instances, or the ledger cannot be written.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        ledger = project.ledger
        source = (
            find_source(project, params.source) if params.source else predictions_in_use(project)
        )
        if source == ANNOTATIONS:
            raise FossilError(
                "The annotations cannot be taken over into themselves",
                expected="predictions",
                found=ANNOTATIONS,
            )
        known_class(project, params.class_name)
        chosen = set(parse_slices(params.slices, project.shape[0]))
        there = sorted(ledger.done(source) & chosen)
        action, name = ledger.begin(f"take over {source}"), params.class_name or None
        done: dict[int, TakenOver | None] = {}
        bodies = dict[int, int]()
        problems: list[str] = []
        for z in job.tracked(there, len(there), "Taking over"):
            try:
                found = project.instances(
                    source, z, class_name=name, min_score=params.score, mask_cut=params.mask_cut
                )
            except DamagedError as error:
                problems.append(str(error))
                continue
            # A prediction's number of a specimen means nothing among those of the user's set.
            new = [replace(i, score=1.0, specimen=None) for i in without_orphans(found)]
            bodies[z] = sum(i.part is Part.BODY for i in new)
            done[z] = ledger.take_over(
                z, new, source, class_name=name, overwrite=params.overwrite, action=action
            )
        taken = {z: result for z, result in done.items() if result is not None}
        notes = stale_notes(project, {source: taken})
    return FillResult(
        source,
        tuple(taken),
        tuple(z for z in done if z not in taken),
        params.mask_cut,
        sum(bodies[z] for z in taken),
        sum(t.replaced for t in taken.values()),
        tuple(z for z, t in taken.items() if t.untraced),
        tuple(problems),
        notes,
    )


def trace(
    project_path: Path,
    params: TraceParams,
    *,
    job: Job = QUIET,
) -> TraceResult:
    """Mark slices, or a region of them, as annotated completely; nothing else changes.

    That nothing is there is a finding, too: a slice without instances can be marked.

    Raises
    ------
    FossilError
        Where slices or region cannot be read, or the project cannot be written.
    """
    with Project.open(project_path) as project:
        area = _area(params.region, project.slice_shape) if params.region else None
        mark = partial(project.ledger.add_traced, area=area)
        return _mark(project, params.slices, job, "trace", mark)


def untrace(
    project_path: Path,
    params: UntraceParams,
    *,
    job: Job = QUIET,
) -> TraceResult:
    """Take the mark from slices that they are annotated completely; their instances stay.

    Raises
    ------
    FossilError
        Where the slices cannot be read, or the project cannot be written.
    """
    with Project.open(project_path) as project:
        return _mark(project, params.slices, job, "untrace", project.ledger.unset_traced)


def _mark(
    project: Project, text: str, job: Job, what: str, change: Callable[..., None]
) -> TraceResult:
    project.require_writable()
    slices = parse_slices(text, project.shape[0])
    look_at_photographs(project, slices)
    action = project.ledger.begin(what)
    for z in job.tracked(slices, len(slices), "Marking slices"):
        change(z, action=action)
    counts = project.ledger.counts(ANNOTATIONS)
    return TraceResult(tuple(slices), sum(counts.get(z, 0) for z in slices))


def undo(project_path: Path, *, job: Job = QUIET) -> MoveResult:
    """Undo the newest change of the user's set.

    Raises
    ------
    FossilError
        Where there is none, or the project cannot be written.
    """
    return _moved(project_path, Ledger.undo, "undo")


def redo(project_path: Path, *, job: Job = QUIET) -> MoveResult:
    """Redo the change that was undone last.

    Raises
    ------
    FossilError
        Where there is none, or something was changed since then.
    """
    return _moved(project_path, Ledger.redo, "redo")


def _moved(path: Path, move: Callable[[Ledger], Undone | None], word: str) -> MoveResult:
    with Project.open(path) as project:
        project.require_writable()
        moved = move(project.ledger)
    if moved is None:
        raise FossilError(f"There is nothing to {word} in the annotations of {path}")
    return MoveResult(moved.what, moved.slices)


def history(
    project_path: Path,
    params: HistoryParams,
    *,
    job: Job = QUIET,
) -> HistoryResult:
    """List the changes of the user's set that can be undone or redone, newest first."""
    with Project.open(project_path, read_only=True) as project:
        return HistoryResult(tuple(project.ledger.history(params.limit)))


def _area(region: str, shape: tuple[int, int]) -> Mask:
    """Return the mask of a rectangle."""
    rows, columns = Region.parse(region).slices(shape)
    crop = np.ones((rows.stop - rows.start, columns.stop - columns.start), dtype=np.bool_)
    if not crop.size:
        raise FossilError(
            "The region lies outside the slice",
            expected=f"within {shape[1]} x {shape[0]} pixels",
            found=region,
        )
    return Mask.from_crop(crop, (rows.start, columns.start), shape)
