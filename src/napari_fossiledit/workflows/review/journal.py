"""The journal of the user's set: undo, redo, list what was done, name and restore versions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.params.review import HistoryParams, VersionsParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Ledger, PastAction, Project, Undone, Version
from napari_fossiledit.summary import Summary


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


@dataclass(frozen=True)
class VersionsResult:
    """Named versions of the user's set, newest first, and what was restored, if anything was."""

    versions: tuple[Version, ...]
    restored: MoveResult | None = None

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        restored = None if self.restored is None else self.restored.summary()
        return {"versions": [v.__dict__ for v in self.versions], "restored": restored}


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


def versions(project_path: Path, params: VersionsParams, *, job: Job = QUIET) -> VersionsResult:
    """List the named versions of the user's set, after one was named or restored.

    Restoring is one action, which can be undone; nothing that was done since is forgotten by it.

    Raises
    ------
    FossilError
        Where a name is taken, there is no such version, or the journal does not reach it any more.
    """
    if params.name and params.restore:
        raise FossilError(
            "A version is either named or restored",
            found=f"{params.name!r} to name, {params.restore!r} to restore",
        )
    writes = bool(params.name or params.restore)
    with Project.open(project_path, read_only=not writes) as project:
        restored: MoveResult | None = None
        if writes:
            project.require_writable()
        if params.name:
            project.ledger.name_version(params.name)
        elif params.restore:
            moved = project.ledger.restore(params.restore)
            restored = MoveResult(moved.what, moved.slices)
        return VersionsResult(tuple(project.ledger.versions()), restored)
