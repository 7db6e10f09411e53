"""Lay the photographs of a stack over each other: jumps, neighbours, or by hand."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.pages.pictures import as_rgb, write_png
from napari_fossiledit.geometry import check_slice, format_slices, parse_slices
from napari_fossiledit.jobs.spread import Spread, spread
from napari_fossiledit.params.stack import Align, AlignParams, CutParams, PlaceParams
from napari_fossiledit.placement import Alignment, Placement, from_points
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.stacks.blank import KIND as BLANK
from napari_fossiledit.stacks.registration import (
    FEWEST_PIXELS,
    FEWEST_SLICES,
    Found,
    Reduced,
    find_jumps,
    follow_neighbours,
    register,
)
from napari_fossiledit.stacks.section import SectionStack
from napari_fossiledit.summary import Summary

#: Reduced slices that are kept: two threads need three each.
_HELD = 8
_PAIR = re.compile(r"\s*([^,=\s]+),([^,=\s]+)=([^,=\s]+),([^,=\s]+)\s*")


@dataclass(frozen=True)
class AlignResult:
    """Where the photographs of a project lie.

    Attributes
    ----------
    alignment
        Placements, by first slice.
    jumps, alone
        What was found: slices with which all moves, and slices that lay elsewhere by themselves.
    notes
        What could not be laid over its neighbour, and what follows from a change.
    """

    alignment: Alignment
    jumps: tuple[int, ...] = ()
    alone: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {
            "placements": [
                {"from_slice": z, "dx": p.dx, "dy": p.dy, "degrees": p.degrees}
                for z, p in self.alignment.entries
            ],
            "jumps": format_slices(self.jumps),
            "alone": format_slices(self.alone),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class CutResult(Summary):
    """A picture of a cut: its file, and its height and width in pixels."""

    file: Path
    shape: tuple[int, int]


def run(project_path: Path, params: AlignParams | None = None, *, job: Job = QUIET) -> AlignResult:
    """Find where the photographs of a project lie, in place of what was found or set before.

    Photographs and their copies stay as they are; what was drawn, traced and predicted moves with
    them. Each pair of neighbours that was laid over each other is noted: a stopped run goes on.

    Raises
    ------
    FossilError
        Where the project is read-only or has no photographs, or the slices are not in a row.
    CancelledError
        Where the user asked to stop.
    """
    params = params or AlignParams()
    how = params.how
    with Project.open(project_path) as project:
        project.require_writable()
        slices = _in_a_row(params.slices, project.shape[0])
        if how is Align.NONE:
            return _lay(project, Found(Alignment()), "forget the alignment", slices)
        if project.settings.stack.kind == BLANK:
            raise FossilError(
                f"{project.path} has no photographs to lay over each other",
                expected="a stack of images",
                found="tracings alone",
            )
        motions, errors = _motions(project, slices, job)
        job.report(0, 0, "Looking where the stack jumps")
        between = _registering(project.photos)

        def readable(fixed: int, moving: int) -> Placement | None:
            try:
                return between(fixed, moving)
            except FossilError:
                return None

        found = find_jumps(motions, readable, project.slice_shape)
        if how is Align.NEIGHBOURS:
            found = follow_neighbours(motions, found, project.slice_shape)
        lost = [z for z, m in motions.items() if m is None and z not in errors]
        notes = []
        if len(slices) < FEWEST_SLICES:
            notes.append(
                f"A jump is what stands out of the motions around it: in fewer than {FEWEST_SLICES}"
                " slices none can be told. Move slices by hand."
            )
        height, width = project.slice_shape
        if height * width < FEWEST_PIXELS:
            notes.append(
                f"Photographs of {width} x {height} pixels show too little to tell whether two are"
                f" alike: about {round(FEWEST_PIXELS**0.5)} x {round(FEWEST_PIXELS**0.5)} are the"
                " fewest. Nothing can be found in them; move slices by hand."
            )
        elif lost:
            notes.append(
                f"Slices {format_slices(lost)} show nothing that the slice before shows: they are"
                " taken to lie as that does."
            )
        if errors:
            notes.append(
                f"Slices {format_slices(sorted(errors))} could not be compared with the slice"
                f" before, and are taken to lie as that does: {errors[min(errors)]}"
            )
        if how is Align.NEIGHBOURS:
            notes.append(
                "Every slice lies over the one before: how far fossils lean is a guess now."
            )
        return _lay(project, found, f"align {how}", slices, *notes)


def place(project_path: Path, params: PlaceParams, *, job: Job = QUIET) -> AlignResult:
    """Move a photograph, and all that follow, by so much more than they are moved already.

    Raises
    ------
    FossilError
        Where there is no such slice, or the motion cannot be read.
    """
    job.check("Placing a slice")
    with Project.open(project_path) as project:
        project.require_writable()
        z = check_slice(params.z, project.shape[0], f"{project.path}")
        motion = _motion(params, project.slice_shape)
        moved = project.ledger.alignment().moved(z, motion, alone=params.alone)
        which = f"slice {z}" if params.alone else f"slice {z} and all that follow"
        return _set(project, Found(moved), f"place {which}")


def show(project_path: Path, *, job: Job = QUIET) -> AlignResult:
    """Return where the photographs of a project lie."""
    job.check("Reading the alignment")
    with Project.open(project_path, read_only=True) as project:
        return AlignResult(project.ledger.alignment())


def read_slice(project_path: Path, z: int, *, job: Job = QUIET) -> NDArray[Any]:
    """Read a slice as it lies, (y, x) or (y, x, 3)."""
    job.check("Reading a slice")
    with Project.open(project_path, read_only=True) as project:
        return project.stack.read(check_slice(z, project.shape[0], f"{project.path}"))


def read_cut(project_path: Path, params: CutParams, *, job: Job = QUIET) -> NDArray[np.uint8]:
    """Return a picture (z, x or y, 3) of a row or column of pixels of each slice around one.

    Slices are as high in it as they are apart in the rock.

    Raises
    ------
    FossilError
        Where the project has no such slice, row or column.
    """
    with Project.open(project_path, read_only=True) as project:
        count, height, width = project.shape
        check_slice(params.z, count, f"{project.path}")
        across = params.column >= 0
        place = params.column if across else height // 2 if params.row < 0 else params.row
        most = width if across else height
        if place >= most:
            raise FossilError(
                f"The slices of {project.path} have no {'column' if across else 'row'} {place}",
                expected=f"0 to {most - 1}",
            )
        line = np.s_[:, place : place + 1] if across else np.s_[place : place + 1]
        slices = range(max(0, params.z - params.around), min(count, params.z + params.around + 1))
        lines = [
            as_rgb(project.stack.read(z)[line]).reshape(-1, 3)
            for z in job.tracked(slices, len(slices), "Cutting through the stack")
        ]
        geometry = project.geometry
        high = max(1, round(geometry.slice_spacing_um / geometry.pixel_size_um))
    return np.repeat(np.stack(lines), high, axis=0)


def cut(
    project_path: Path, out: Path, params: CutParams | None = None, *, job: Job = QUIET
) -> CutResult:
    """Write the picture of a cut as PNG, see `read_cut`."""
    picture = read_cut(project_path, params or CutParams(), job=job)
    write_png(out, picture)
    return CutResult(out, (picture.shape[0], picture.shape[1]))


def _in_a_row(text: str, count: int) -> range:
    """Return the slices of a text, all where it is empty."""
    chosen = parse_slices(text or "all", count)
    if text and (len(chosen) < 2 or chosen[-1] - chosen[0] >= len(chosen)):
        raise FossilError(
            "Slices can be laid over each other where they are in a row",
            expected="at least two, such as 10-20",
            found=text,
        )
    return range(chosen[0], chosen[-1] + 1)


def _lay(project: Project, found: Found, what: str, slices: range, *notes: str) -> AlignResult:
    """Write how slices lie to each other; those before stay, and those after follow."""
    if len(slices) < project.shape[0]:
        before = project.ledger.alignment()
        laid = before.within(slices[0], slices[-1], found.alignment)
        found, slices = replace(found, alignment=laid), slices[1:]
    return _set(project, found, what, *notes, replaces=slices)


def _set(
    project: Project, found: Found, what: str, *notes: str, replaces: range = range(0)
) -> AlignResult:
    ledger = project.ledger
    try:
        before = ledger.alignment()
    except FossilError:
        # What is damaged can be replaced, but nothing can be told from it.
        if not replaces:
            raise
        before = None
    if before != found.alignment:
        if before and (replaced := sum(z in replaces for z, _ in before.entries)):
            notes = (
                *notes,
                f"Of what was found or set before, {replaced} replaced: undo brings it back.",
            )
        ledger.set_alignment(found.alignment, ledger.begin(what))
        notes = (*notes, "Masks have moved with their photographs. Link again, if it was linked.")
    return AlignResult(found.alignment, tuple(found.jumps), tuple(found.alone), notes)


def _motions(
    project: Project, slices: range, job: Job
) -> tuple[dict[int, Placement | None], dict[int, FossilError]]:
    """Return what lays each slice over the one before, noted or found now, and what went wrong."""
    ledger, contents = project.ledger, project.contents
    contents.check(slices)
    pairs = {z: f"{contents.of(z - 1)}|{contents.of(z)}" for z in slices[1:]}
    known = ledger.motions()
    errors: dict[int, FossilError] = {}
    motions = {z: m for z, (pair, m) in known.items() if pairs.get(z) == pair}
    missing = [z for z in pairs if z not in motions]
    outcomes = spread(_register_before, (project.photos,), missing, how=Spread(), job=job)
    for outcome in job.tracked(outcomes, len(missing), "Laying slices over each other"):
        motions[outcome.item] = outcome.value
        if outcome.error is None:
            ledger.note_motion(outcome.item, pairs[outcome.item], outcome.value)
        else:
            errors[outcome.item] = outcome.error
    return dict(sorted(motions.items())), errors


def _register_before(stack: SectionStack) -> Callable[[int], Placement | None]:
    """Return what lays a slice over the one before it."""
    between = _registering(stack)
    return lambda z: between(z - 1, z)


def _registering(stack: SectionStack) -> Callable[[int, int], Placement | None]:
    """Return what lays the second of two slices over the first; it keeps the last few it read."""
    held: dict[int, Reduced] = {}
    lock = threading.Lock()

    def reduced(z: int) -> Reduced:
        with lock:
            found = held.get(z)
        if found is None:
            found = Reduced.of(stack.read(z))
            with lock:
                held[z] = found
                for old in list(held)[:-_HELD]:
                    del held[old]
        return found

    return lambda fixed, moving: register(reduced(fixed), reduced(moving))


def _motion(params: PlaceParams, shape: tuple[int, int]) -> Placement:
    expected = "numbers such as 3.2,-1, or points such as 10,12=11,12"
    try:
        if not params.points:
            dx, dy = (float(v) for v in params.shift.split(","))
            return Placement(dy, dx, params.turn)
        texts = _PAIR.findall(params.points)
        if _PAIR.sub("", params.points).strip():
            raise ValueError(params.points)
        pairs = [[float(v) for v in pair] for pair in texts]
    except ValueError as error:
        found = params.points or params.shift
        raise FossilError("The motion cannot be read", expected=expected, found=found) from error
    return from_points([(y, x) for x, y, _, _ in pairs], [(y, x) for _, _, x, y in pairs], shape)
