"""List what a project holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Part
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.shared.model_refs import history_of, in_use
from napari_fossiledit.workflows.shared.stale import (
    added_photographs,
    copy_notes,
    left_to_convert,
    stale_notes,
)

# The last ones; the ledger keeps them all.
_SHOWN_RUNS = 20
_OF_EDIT = ("name", "parent", "state", "strength", "problem")


@dataclass(frozen=True)
class InfoResult:
    """An overview of a project.

    Attributes
    ----------
    content
        JSON-able values, see `run`.
    """

    content: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        """Return the overview as JSON-able values."""
        return self.content


def run(project_path: Path, *, job: Job = QUIET) -> InfoResult:
    """Look a project over; only images whose files have changed are read, for some seconds.

    Returns
    -------
    InfoResult
        Stack, geometry, classes, results of replaced photographs, sources with their instances
        per slice, traced slices, models, edits, the model in use, the last runs, and bytes on disk.
    """
    with Project.open(project_path, read_only=True) as project:
        geometry, traced = project.geometry, project.ledger.traced()
        edits = [entry.summary() for entry in history_of(project) if entry.is_edit]
        return InfoResult(
            {
                "project": str(project.path),
                "notes": [*project.notes, *_lacking(project)],
                "read_only": not os.access(project.path, os.W_OK),
                "stack": _stack(project),
                "geometry": {
                    "pixel_size_um": geometry.pixel_size_um,
                    "slice_spacing_um": geometry.slice_spacing_um,
                    "z_positions_um": geometry.z_positions_um,
                    "z_direction": str(geometry.z_direction),
                },
                "classes": list(project.settings.classes),
                "pinned_slices": format_slices(project.settings.pinned_slices),
                "mud_colour": project.settings.mud_colour,
                "stale": _stale(project),
                "sources": [_source(project, s.name) for s in project.ledger.sources()],
                "traced": {
                    "slices": format_slices(list(traced)),
                    "partly": format_slices([z for z, area in traced.items() if area is not None]),
                },
                "models": project.models(),
                "edits": [{key: edit[key] for key in _OF_EDIT} for edit in edits],
                "model_in_use": in_use(project),
                "runs": [
                    {
                        "id": r.id,
                        "kind": r.kind,
                        "status": r.status,
                        "started": r.started,
                        "ended": r.ended,
                    }
                    for r in project.ledger.runs()[-_SHOWN_RUNS:]
                ],
                "bytes": _sizes(project.path),
            }
        )


def _stack(project: Project) -> dict[str, Any]:
    record = project.settings.stack
    try:
        path, exists = project.stack_path, project.stack_path.exists()
    except FossilError:
        path, exists = record.path, False
    return {
        "path": str(path),
        "found": exists or record.kind == "blank",
        "kind": record.kind,
        "slices": project.shape[0],
        "shape": list(record.shape),
        "dtype": record.dtype,
        "rgb": record.rgb,
        "added": added_photographs(project),
    }


def _lacking(project: Project) -> list[str]:
    """Return what the converted copy lacks, and what to do about it."""
    lacks = left_to_convert(project)
    if not lacks:
        return []
    return [
        f"The converted copy lacks slices {format_slices(lacks)}: 'fossiledit convert"
        f" {project.path}' copies them, once their photographs can be read."
    ]


def _stale(project: Project) -> list[str]:
    """Return which results were made from other photographs than are there now."""
    sources = [s.name for s in project.ledger.sources()]
    notes = stale_notes(project, {name: project.ledger.done(name) for name in sources})
    return list(dict.fromkeys([*notes, *copy_notes(project)]))


def _source(project: Project, name: str) -> dict[str, Any]:
    counts = project.ledger.counts(name)
    return {
        "name": name,
        "slices": format_slices(list(counts)),
        "instances": sum(counts.values()),
        "cavities": sum(project.ledger.counts(name, Part.CAVITY).values()),
        "instances_per_slice": {str(z): n for z, n in counts.items()},
        "classes": project.ledger.classes(name),
        "identified": project.ledger.identified(name),
    }


def _sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each file and folder of the project."""
    with explained(folder, "Reading"):
        return {
            item.name: sum(
                file.stat().st_size for file in (item, *item.rglob("*")) if file.is_file()
            )
            for item in sorted(folder.iterdir())
        }
