"""Correct by hand: paint instances into labels, and take labels over as annotations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import Region, format_slices, parse_slices
from napari_fossiledit.masks import Mask, Origin, Part
from napari_fossiledit.masks.labels import paint_labels
from napari_fossiledit.params.annotations import FillParams, TraceParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, LABELS, Project
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.shared.sources import find_source, without_orphans


@dataclass(frozen=True)
class FillResult(Summary):
    """Instances that were painted into the labels.

    Attributes
    ----------
    source
        Where the instances are from.
    slices
        Slices that were filled.
    kept
        Slices that held labels already and were left alone.
    instances
        How many were painted.
    """

    source: str
    slices: tuple[int, ...]
    kept: tuple[int, ...]
    instances: int

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        slices = {"slices": format_slices(self.slices), "kept": format_slices(self.kept)}
        return super().summary() | slices


@dataclass(frozen=True)
class TraceResult(Summary):
    """Labels that became annotations.

    Attributes
    ----------
    slices
        Slices that are traced now, wholly or in the region.
    instances
        How many instances the labels showed in them.
    """

    slices: tuple[int, ...]
    instances: int

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return super().summary() | {"slices": format_slices(self.slices)}


def fill_labels(
    project_path: Path,
    params: FillParams,
    *,
    job: Job = QUIET,
) -> FillResult:
    """Paint predictions or annotations into ``labels.zarr`` to be corrected there.

    The instances get rows, and so ids, of their own in the source ``"labels"``. All slices
    together are one change that `LabelVolume.undo_last` takes back.

    Raises
    ------
    FossilError
        Where there are no such instances, or the labels cannot be written.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        source = find_source(project, params.source)
        if source == LABELS:
            raise FossilError("The labels cannot be filled from themselves", found=LABELS)
        chosen = set(parse_slices(params.slices, project.shape[0]))
        there = sorted(project.ledger.done(source) & chosen)
        kept = [] if params.overwrite else [z for z in there if project.labels.read(z).any()]
        slices = [z for z in there if z not in kept]
        change = project.labels.begin(f"fill from {source}") if slices else None
        painted = 0
        for z in job.tracked(slices, len(slices), "Filling labels"):
            painted += _fill(project, source, z, params, change)
    return FillResult(source, tuple(slices), tuple(kept), painted)


def _fill(project: Project, source: str, z: int, params: FillParams, change: int | None) -> int:
    instances = without_orphans(
        project.instances(source, z, class_name=params.class_name or None, min_score=params.score)
    )
    blank = Mask.empty(project.slice_shape)
    # Rows that are painted over stay: taking the change back brings their values back.
    rows = [replace(i, mask=blank) for i in instances]
    ids = project.ledger.store(LABELS, z, rows, replace=False)
    # A cavity gets the score of its body, so that it stays visible on it.
    scores = {i.id: i.score for i in instances}
    nested = [i if i.parent is None else replace(i, score=scores[i.parent]) for i in instances]
    project.labels.write(z, paint_labels(nested, ids, project.slice_shape), change)
    return len(instances)


def trace_slice(
    project_path: Path,
    params: TraceParams,
    *,
    job: Job = QUIET,
) -> TraceResult:
    """Take what the labels show over as annotations, and mark it as completely traced.

    The annotations of the slice are replaced by what its labels show. A slice without labels
    keeps its annotations and is only marked: that nothing is there is a finding, too.

    Raises
    ------
    FossilError
        Where slices or region cannot be read, or the project cannot be written.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        slices = parse_slices(params.slices, project.shape[0])
        area = _area(params.region, project.slice_shape) if params.region else None
        traced = 0
        for z in job.tracked(slices, len(slices), "Tracing"):
            traced += _trace(project, z, area)
    return TraceResult(tuple(slices), traced)


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


def _trace(project: Project, z: int, area: Mask | None) -> int:
    ledger, values = project.ledger, project.labels.values(z)
    if values:
        ledger.adopt(z, values, project.settings.classes[0], project.slice_shape)
    shown = [replace(i, origin=Origin.HUMAN, score=1.0) for i in project.instances(LABELS, z)]
    if shown:
        ledger.store(ANNOTATIONS, z, shown)
        if any(i.specimen is None and i.part is Part.BODY for i in shown):
            ledger.set_identified(ANNOTATIONS, False)
    ledger.add_traced(z, area)
    return len(shown)
