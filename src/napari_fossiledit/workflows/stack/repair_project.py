"""Find damaged rows of a project, restore what the journal holds, clear the rest where asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.params.stack import RepairProjectParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.project.damage import CLEARED, LEFT, RESTORED, Damage, repair_ledger


@dataclass(frozen=True)
class RepairProjectResult:
    """What was damaged, and what became of it."""

    damages: tuple[Damage, ...]
    notes: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        counts = Counter(damage.outcome for damage in self.damages)
        return {
            "damaged": len(self.damages),
            **{outcome: counts[outcome] for outcome in (RESTORED, CLEARED, LEFT)},
            "rows": [damage.summary() for damage in self.damages],
            "notes": list(self.notes),
        }


def run(
    project_path: Path,
    params: RepairProjectParams,
    *,
    job: Job = QUIET,
) -> RepairProjectResult:
    """Look at every row of the ledger; nothing but damaged rows is changed.

    Raises
    ------
    FossilError
        Where the ledger cannot be opened or written at all.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        damages = repair_ledger(project.ledger, clear=params.clear)
        notes = list(project.notes)
        if any(damage.outcome == LEFT for damage in damages):
            notes.append(
                "What the journal does not hold was left as it is: --clear removes it, so that all"
                " else can be used again."
            )
        return RepairProjectResult(tuple(damages), tuple(notes))
