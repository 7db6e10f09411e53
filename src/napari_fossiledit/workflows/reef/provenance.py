"""Where the specimens of a report come from: a record, and a draft of a methods paragraph."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np

from napari_fossiledit import __version__
from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import ZDirection, format_slices, parse_slices
from napari_fossiledit.params.reconstruct import ReportParams
from napari_fossiledit.params.spread import SPREAD
from napari_fossiledit.project import ANNOTATIONS, Project, Source
from napari_fossiledit.project.runs import Run
from napari_fossiledit.reef import Surface
from napari_fossiledit.workflows.reef.measure import MeasureResult
from napari_fossiledit.workflows.shared.model_refs import find_model
from napari_fossiledit.workflows.shared.specimens import SpecimenKey, Specimens

# From this median volume on figures are in mm, below in um.
_MM_FROM_UM3 = 1e7
POWERS = {1: "", 2: "\N{SUPERSCRIPT TWO}", 3: "\N{SUPERSCRIPT THREE}"}
"""Signs of powers of a unit of length."""
#: Fields that change no figure.
_LEFT_OUT = {"format", "unit", "version", "plots"} | SPREAD
_LIBRARIES = ("numpy", "scipy", "scikit-image", "trimesh", "torch", "torchvision", "napari")

Row = dict[str, Any]


@dataclass
class MeasuredReef:
    """What was measured, and the surfaces that are drawn."""

    specimens: Specimens
    measured: MeasureResult
    surfaces: dict[SpecimenKey, Surface]
    warnings: list[str]

    @property
    def project(self) -> Project:
        """The project that they are of."""
        return self.specimens.project

    @cached_property
    def rows(self) -> list[Row]:
        """Measurements of each specimen by column."""
        return [row.record() for row in self.measured.rows]

    @property
    def volumes(self) -> list[float]:
        """Known volumes in cubic um, the smallest first."""
        found = (row.volume_um3 for row in self.measured.rows)
        return sorted(v for v in found if v is not None)

    @property
    def unit(self) -> tuple[str, float]:
        """Unit of length that its volumes are easily read in, and how many um it has."""
        middle = float(np.median(self.volumes)) if self.volumes else _MM_FROM_UM3
        return ("mm", 1000.0) if middle >= _MM_FROM_UM3 else ("um", 1.0)


def provenance(reef: MeasuredReef, params: ReportParams) -> dict[str, Any]:
    """Return where the specimens come from, as JSON-able values."""
    project, choice = reef.project, reef.specimens.choice
    geometry, ledger, traced = project.geometry, project.ledger, project.ledger.traced()
    reviewed = ledger.reviewed()
    models = {Source.parse(name).model for name in choice.parts} - {""}
    record: dict[str, Any] = {
        "project": project.path.name,
        "made_with": __version__,
        "photographs": {
            "slices": project.shape[0],
            "height": project.shape[1],
            "width": project.shape[2],
            "pixel_size_um": geometry.pixel_size_um,
            "slice_spacing_um": geometry.slice_spacing_um,
            "even_steps": geometry.z_positions_um is None,
            "z_direction": str(geometry.z_direction),
        },
        "masks": {
            "slices": {name: format_slices(z) for name, z in choice.parts.items()},
            "traced": format_slices(list(traced)),
            "traced_in_part": format_slices([z for z, area in traced.items() if area is not None]),
            "pinned": format_slices(project.settings.pinned_slices),
            "reviewed": sum(done for done, _ in reviewed.values()),
            "of_annotations": sum(every for _, every in reviewed.values()),
            "mask_cut": reef.specimens.mask_cut,
        },
        "models": [row for name in sorted(models) for row in _models(project, name)],
        "runs": [
            {"kind": r.kind, "started": r.started, "status": r.status, "params": r.params}
            for r in ledger.runs()
        ],
        "links": {one["class_name"]: one for one in _links(ledger.runs(), choice.name)},
        "measured": {"reef": reef.measured.reef, "assumed": list(reef.measured.assumed)},
        "params": params.model_dump(mode="json", exclude=_LEFT_OUT),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in _LIBRARIES},
        "warnings": list(dict.fromkeys(reef.warnings)),
    }
    return record | {"methods": _methods(reef, record)}


def _links(runs: Sequence[Run], source: str) -> Iterator[Row]:
    """Yield how each class of a source was linked, the last time last."""
    for run in runs:
        if run.kind == "link" and run.status == "done" and run.summary.get("source") == source:
            yield from (run.params | one for one in run.summary.get("classes", [run.summary]))


def _models(project: Project, name: str) -> Iterator[dict[str, Any]]:
    """Yield a model that predicted; of an edit, all that lies below it first."""
    # It loads torch.
    from napari_fossiledit.models.files.registry import read_record

    try:
        chain = project.edits.lineage(name) if name in project.edits.names() else ()
        root = find_model(project, chain[0].model if chain else name)
        record = read_record(root.folder)
        slices, home = record.training.get("slices"), root.name in project.models()
        made = f"{record.network.architecture}, {'trained' if home else 'trained elsewhere'}"
        made += f" on slices {format_slices(slices)}" if home and slices else ""
        yield {"name": root.name, "hash": record.model_hash, "made": made}
        for edit in chain:
            made = f"edit of {edit.parent} at strength {edit.strength:g}, {edit.state}"
            yield {"name": edit.name, "hash": edit.result_hash, "made": made}
    except FossilError as error:
        yield {"name": name, "hash": "", "made": f"cannot be looked up: {error}"}


def _methods(reef: MeasuredReef, record: Mapping[str, Any]) -> str:
    """Return a draft of a methods paragraph, in sentences that hold for this project alone."""
    photographs, masks = record["photographs"], record["masks"]
    geometry = reef.project.geometry
    steps = f"{photographs['slice_spacing_um']:g} um apart"
    if not photographs["even_steps"]:
        steps = f"at uneven steps of {photographs['slice_spacing_um']:g} um in the mean"
    into = "deeper into" if geometry.z_direction is ZDirection.INTO else "further out of"
    said = [
        f"The block was recorded in {photographs['slices']} serial sections {steps}, each"
        f" {into} the rock than the one before, photographed at {photographs['pixel_size_um']:g}"
        f" um a pixel ({photographs['width']} x {photographs['height']} pixels)."
    ]
    parts = {name: parse_slices(z, photographs["slices"]) for name, z in masks["slices"].items()}
    if own := parts.pop(ANNOTATIONS, []):
        said.append(
            f"Outlines of {counted(len(own), 'section')} were annotated by hand or corrected"
            f" ({counted(masks['reviewed'], 'mask')} of {masks['of_annotations']} marked as"
            " reviewed)."
        )
    for name, slices in parts.items():
        said.append(
            f"In {counted(len(slices), 'section')} fossils were found by the model"
            f" {Source.parse(name).model or name}; masks end at a probability of"
            f" {masks['mask_cut']:g}."
        )
    said += [
        f"Model {model['name']}: {model['made']} (weights {model['hash'][:12]})."
        for model in record["models"]
        if model["hash"]
    ]
    said += [
        f"Outlines of {name} in neighbouring sections were joined to specimens where they overlap"
        f" by at least {link['min_overlap']:.0%} of the smaller one, across at most"
        f" {counted(link['max_gap'], 'section')} without it"
        + (
            "; identities that a person or an imported file had stated were kept."
            if link.get("identities_kept")
            else "."
        )
        for name, link in record["links"].items()
        if {"min_overlap", "max_gap"} <= link.keys()
    ]
    unit, um = reef.unit
    volumes = [v / um**3 for v in reef.volumes]
    if volumes:
        said.append(
            "Surfaces were interpolated between the sections by their signed distances and moved"
            " by up to a pixel to keep the volume of the sections. Volumes are those of the"
            " sections, all within the outer wall. Of"
            f" {counted(len(reef.rows), 'specimen')}, {len(volumes)} have a known volume, from"
            f" {_figure(volumes[0])} to {_figure(volumes[-1])} {unit}{POWERS[3]} (median"
            f" {_figure(float(np.median(volumes)))} {unit}{POWERS[3]})."
        )
    said.append(f"Computed with napari-fossiledit {record['made_with']}.")
    return " ".join(said)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def counted(number: int, what: str) -> str:
    """Return a number and what it counts, in the plural unless it is 1."""
    return f"{number} {what}{'' if number == 1 else 's'}"
