"""Tell what a project holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.project.history import HistoryEntry
from napari_fossiledit.workflows.shared.model_refs import history_of, in_use

_SHOWN_RUNS = 20


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
        """Tell the overview as JSON-able values."""
        return self.content


def run(project_path: Path, *, job: Job = QUIET) -> InfoResult:
    """Look a project over, without reading an image.

    Returns
    -------
    InfoResult
        Stack, geometry, classes, sources with their instances per slice, traced slices, models,
        edits, the model in use, the last runs, and bytes on disk.
    """
    with Project.open(project_path, read_only=True) as project:
        return InfoResult(
            {
                "project": str(project.path),
                "read_only": not os.access(project.path, os.W_OK),
                "stack": _stack(project),
                "geometry": _geometry(project),
                "classes": list(project.settings.classes),
                "pinned_slices": format_slices(project.settings.pinned_slices),
                "mud_colour": project.settings.mud_colour,
                "sources": [_source(project, s.name) for s in project.ledger.sources()],
                "traced": _traced(project),
                "models": project.models(),
                "edits": [_edit(entry) for entry in history_of(project) if entry.is_edit],
                "model_in_use": in_use(project),
                "runs": _runs(project),
                "bytes": _sizes(project.path),
            }
        )


def _stack(project: Project) -> dict[str, Any]:
    record = project.settings.stack
    try:
        path, found = project.stack_path, project.stack_path.exists()
    except FossilError:
        path, found = record.path, False
    return {
        "path": str(path),
        "found": found or record.kind == "blank",
        "kind": record.kind,
        "slices": project.shape[0],
        "shape": list(record.shape),
        "dtype": record.dtype,
        "rgb": record.rgb,
    }


def _geometry(project: Project) -> dict[str, Any]:
    geometry = project.geometry
    return {
        "pixel_size_um": geometry.pixel_size_um,
        "slice_spacing_um": geometry.slice_spacing_um,
        "z_direction": str(geometry.z_direction),
    }


def _source(project: Project, name: str) -> dict[str, Any]:
    counts = project.ledger.counts(name)
    return {
        "name": name,
        "slices": format_slices(list(counts)),
        "instances": sum(counts.values()),
        "instances_per_slice": {str(z): n for z, n in counts.items()},
        "classes": project.ledger.classes(name),
        "identified": project.ledger.identified(name),
    }


def _traced(project: Project) -> dict[str, Any]:
    areas = project.ledger.traced()
    return {
        "slices": format_slices(list(areas)),
        "partly": format_slices([z for z, area in areas.items() if area is not None]),
    }


def _edit(entry: HistoryEntry) -> dict[str, Any]:
    told = entry.summary()
    return {key: told[key] for key in ("name", "parent", "state", "strength", "problem")}


def _runs(project: Project) -> list[dict[str, Any]]:
    return [
        {"id": r.id, "kind": r.kind, "status": r.status, "started": r.started, "ended": r.ended}
        for r in project.ledger.runs()[-_SHOWN_RUNS:]
    ]


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file and folder of the project."""
    with explained(folder, "Reading"):
        return {item.name: _bytes(item) for item in sorted(folder.iterdir())}


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
