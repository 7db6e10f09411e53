"""Measure specimens: a table with a row for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.exchange.tables import require_table, write_table
from napari_fossiledit.params.reconstruct import MeshParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.reef import SpecimenRow
from napari_fossiledit.workflows.shared.specimens import measured, read_specimens, reconstructed

DEFAULTS = MeshParams()


@dataclass(frozen=True)
class MeasureResult:
    """Measurements that were written.

    Attributes
    ----------
    file
        The table.
    rows
        One a specimen.
    warnings
        Sentences for the user.
    mask_cut
        Probability at which the masks of predictions end.
    """

    file: Path
    rows: tuple[SpecimenRow, ...]
    warnings: tuple[str, ...]
    mask_cut: float

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {
            "file": str(self.file),
            "specimens": len(self.rows),
            "rows": [row.record() for row in self.rows],
            "mask_cut": self.mask_cut,
            "warnings": list(self.warnings),
        }


def run(
    project_path: Path,
    out: Path,
    params: MeshParams = DEFAULTS,
    *,
    job: Job = QUIET,
) -> MeasureResult:
    """Measure every specimen and write a table.

    Parameters
    ----------
    out
        A ``.csv`` or ``.json`` file. The unit of each column is part of its name.
    params
        Which source is measured and whether its surfaces have cavities.

    Raises
    ------
    FossilError
        Where nothing is linked, or the file cannot be written.
    """
    require_table(out)
    rows: list[SpecimenRow] = []
    with Project.open(project_path, read_only=True) as project:
        project.require_not_a_part(out)
        specimens = read_specimens(project, params.source, params.mask_cut, job)
        rows += (measured(project, built) for built in reconstructed(specimens, params, job))
    write_table([row.record() for row in rows], out)
    return MeasureResult(out, tuple(rows), tuple(specimens.warnings), specimens.mask_cut)
