"""Mark slices to be traced, and list those that are marked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.params.agenda import MarkParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.summary import Summary


@dataclass(frozen=True)
class MarkResult(Summary):
    """Slices that are marked to be traced and are not traced yet.

    Attributes
    ----------
    to_trace
        These slices, ascending.
    notes
        What was left out, in sentences.
    """

    to_trace: tuple[int, ...]
    notes: tuple[str, ...] = ()


def run(project_path: Path, params: MarkParams, *, job: Job = QUIET) -> MarkResult:
    """Mark slices to be traced or take the mark from some; list all that are marked then.

    A slice that is traced is not listed any more, and is again where its tracing is undone.

    Raises
    ------
    FossilError
        Where slices cannot be read, or the project cannot be written.
    """
    job.check()
    with Project.open(project_path) as project:
        new, gone = (
            set(parse_slices(text, project.shape[0])) if text.strip() else set[int]()
            for text in (params.mark, params.unmark)
        )
        ledger, notes = project.ledger, tuple[str, ...]()
        if done := sorted(new & ledger.traced().keys()):
            notes = (f"Slices {format_slices(done)} are traced already: they are not marked.",)
        before = set(ledger.to_trace())
        after = (before | new.difference(done)) - gone
        if after != before:
            project.require_writable()
            changed = format_slices(sorted(after ^ before))
            what = "mark" if after > before else "unmark" if after < before else "change marks of"
            ledger.set_to_trace(after, ledger.begin(f"{what} slice {changed} to trace"))
        return MarkResult(tuple(sorted(after)), notes)
