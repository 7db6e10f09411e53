"""Results that were made from photographs which have been replaced since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.stack_convert import converted
from napari_fossiledit.files import explained
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.project import ANNOTATIONS
from napari_fossiledit.project.project import IMAGES
from napari_fossiledit.stacks.listing import enumerated, list_images

if TYPE_CHECKING:
    from napari_fossiledit.project import Project

#: Comparing photographs whose files have another time may take so long; a folder that was copied
#: without the times of its files would take an hour.
_SECONDS = 5.0


#: So long a new project or an import may read photographs that nobody has read yet.
_SECONDS_NEW = 2.0


def look_at_photographs(project: Project, slices: Iterable[int] | None = None) -> None:
    """Note what the photographs are before something is made of them; None: all slices.

    Where there are many the time of their files must do, until they are read.

    Raises
    ------
    FossilError
        Where that cannot be written: a photograph that is replaced later would not be noticed.
    """
    _ = project.ledger
    try:
        _ = project.stack
    except FossilError:
        # The photographs were moved or removed.
        return
    project.contents.check(slices, seconds=_SECONDS)
    project.contents.check(slices, seconds=_SECONDS_NEW, read_new=True)


def stale_notes(
    project: Project, parts: Mapping[str, Iterable[int]], *, seconds: float = _SECONDS
) -> tuple[str, ...]:
    """Return which results were made from other photographs than are there now, for the user.

    Parameters
    ----------
    parts
        Slices that each source is asked for.
    seconds
        How long photographs may be read and compared.
    """
    try:
        photographs = project.contents
    except FossilError:
        # They were moved or removed, and what was made from them can still be used.
        return ()
    listed = {source: set(slices) for source, slices in parts.items()}
    left = photographs.check({z for part in listed.values() for z in part}, seconds=seconds)
    notes = []
    for source, slices in listed.items():
        stale = sorted(slices.intersection(photographs.stale(source)))
        if stale:
            which = "annotations" if source == ANNOTATIONS else f"predictions {source}"
            advice = (
                "look at them again and mark the slices as traced"
                if source == ANNOTATIONS
                else "predict them again"
            )
            notes.append(
                f"The {which} of slices {format_slices(stale)} were made from other photographs"
                f" than are there now: {advice}."
            )
    return (*notes, *_not_compared(left))


def left_to_convert(project: Project) -> list[int]:
    """Return the slices that the converted copy of a project lacks; none where there is no copy."""
    target = project.part(IMAGES)
    try:
        stack = project.stack
        done = converted(stack, target) if target.exists() else range(len(stack))
    except FossilError:
        # Photographs that are gone cannot be converted either.
        return []
    return sorted({*range(len(stack))} - {*done})


def copy_notes(project: Project, *, seconds: float = _SECONDS) -> tuple[str, ...]:
    """Return which slices of the converted copy were made from other photographs."""
    try:
        photographs = project.original or project.contents
    except FossilError:
        return ()
    left = photographs.check(seconds=seconds)
    stale = photographs.stale(IMAGES)
    notes = (
        f"The converted copy of slices {format_slices(stale)} is damaged, or was made from other"
        " photographs than are there now: convert again.",
    )
    return (*(notes if stale else ()), *_not_compared(left))


def added_photographs(project: Project) -> list[str]:
    """Return names of photographs in the folder of a project that it does not know, in order."""
    try:
        record = project.photographs
        if record.kind != "folder":
            return []
        with explained(record.path, "Reading"):
            known = {*record.names}
            return [name for name in list_images(record.path).names if name not in known]
    except FossilError:
        return []


def added_notes(project: Project) -> tuple[str, ...]:
    """Return what to do about photographs that were added, for the user."""
    added = added_photographs(project)
    if not added:
        return ()
    return (
        f"{len(added)} photographs were added since ({enumerated(added)}): 'fossiledit stack append"
        f" {project.path}' takes them in.",
    )


def _not_compared(slices: list[int]) -> tuple[str, ...]:
    if not slices:
        return ()
    return (
        f"The files of slices {format_slices(slices)} have another size or time than before; they"
        f" were not compared, which would take longer than {_SECONDS:g} s. Predicting them does.",
    )
