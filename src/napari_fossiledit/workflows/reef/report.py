"""The report of a reef: pictures, measurements, where all of it comes from, draft methods."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from napari_fossiledit import __version__
from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.exchange.pages.charts import histogram
from napari_fossiledit.exchange.pages.html_page import ReportTable, Value, write_html
from napari_fossiledit.files import appearing, read_json, write_json, write_whole
from napari_fossiledit.geometry import ZDirection, format_slices, parse_slices
from napari_fossiledit.masks import Part
from napari_fossiledit.params.reconstruct import MeasureParams, ReportParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, Project, Source
from napari_fossiledit.project.runs import Run
from napari_fossiledit.reef import Surface, simplified
from napari_fossiledit.stacks.listing import enumerated
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.reef import measure
from napari_fossiledit.workflows.reef.measure import MeasureResult
from napari_fossiledit.workflows.shared.model_refs import find_model
from napari_fossiledit.workflows.shared.specimens import (
    SpecimenKey,
    Specimens,
    read_specimens,
    reconstructed,
)

_SCENE, _VOLUMES, _TABLE, _RECORD = "scene.png", "volumes.png", "specimens.csv", "provenance.json"
_SLICE = "slice_"
# Slices to draw where none is named; longest edge of their pictures in pixels.
_SHOWN, _LONGEST = 4, 1000
# matplotlib draws each face as a polygon of its own: so many in all, and at least of each.
_FACES, _FEWEST_FACES = 60_000, 100
# More specimens are in the table beside the page.
_MOST_ROWS = 200
_MOST_RUNS = 30
# From this median volume on figures are in mm, below in um.
_MM_FROM_UM3 = 1e7
# Columns of the table where the measurements have them: heading, and power of the unit of length.
_COLUMNS: Mapping[str, tuple[str, int]] = {
    "specimen": ("Specimen", 0),
    "class_name": ("Class", 0),
    "texture": ("Texture", 0),
    "slices": ("Slices", 0),
    "volume_um3": ("Volume", 3),
    "volume_low_um3": ("from", 3),
    "volume_high_um3": ("to", 3),
    "cavity_volume_um3": ("Cavity", 3),
    "surface_um2": ("Surface", 2),
    "wall_thickness_mean_um": ("Wall", 1),
    "radius_um": ("Radius", 1),
    "length_um": ("Length", 1),
    "branches": ("Branches", 0),
    "cut_by": ("Cut by", 0),
}
_POWERS = {1: "", 2: "\N{SUPERSCRIPT TWO}", 3: "\N{SUPERSCRIPT THREE}"}
_PLOTS = {
    "branching": "Branches: radius along them, angles between them, and lengths",
    "directions": "Directions of the specimens",
    "reef": "Spacing in each plane, and surface per volume in cubes at random places",
    "through_z": "Classes through the stack",
}
_LIBRARIES = ("numpy", "scipy", "scikit-image", "trimesh", "torch", "torchvision", "napari")

Row = dict[str, Any]


@dataclass(frozen=True)
class ReportResult(Summary):
    """The page, the folder with its figures as files, and what the user should know."""

    file: Path
    folder: Path
    specimens: int
    methods: str
    warnings: tuple[str, ...]


@dataclass
class _Reef:
    """What was measured, and the surfaces that are drawn."""

    specimens: Specimens
    measured: MeasureResult
    surfaces: dict[SpecimenKey, Surface]
    warnings: list[str]

    @property
    def project(self) -> Project:
        return self.specimens.project

    @cached_property
    def rows(self) -> list[Row]:
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


def run(project_path: Path, out: Path, params: ReportParams, *, job: Job = QUIET) -> ReportResult:
    """Write a page about the linked specimens, and its figures as files in NAME_files beside it.

    Nothing is written where something fails. Figures of an earlier report of that name are
    replaced.

    Raises
    ------
    FossilError
        Where nothing is linked, the page has another suffix than ``.html``, NAME_files holds other
        files than those of a report, or they cannot be written.
    """
    folder = _folder_of(out)
    with Project.open(project_path, read_only=True) as project, appearing(folder) as draft:
        project.require_not_a_part(out)
        slices = parse_slices(params.slices, project.shape[0]) if params.slices else []
        values = params.model_dump(exclude={"slices"}) | {"plots": draft}
        measured = measure.run(project_path, draft / _TABLE, MeasureParams(**values), job=job)
        # All of it is in the record of the report.
        (draft / f"{Path(_TABLE).stem}_record.json").unlink()
        reef = _read(project, measured, params, job)
        if reef.volumes:
            title = f"{len(reef.surfaces)} specimens"
            pictures.draw_specimens(list(reef.surfaces.values()), draft / _SCENE, title)
            write_whole(draft / _VOLUMES, _histogram(reef))
        else:
            reef.warnings.append("No specimen has a known volume: there is no picture in 3D.")
        drawn = _draw_slices(reef, slices or _spread(reef), draft, job)
        record = _record(reef, params)
        record["files"] = sorted(file.name for file in draft.iterdir())
        write_json(draft / _RECORD, record)
        # The last thing that can fail: then neither the page nor the folder is there.
        write_html(out, "reef.html", **_values(reef, record, draft, drawn, folder.name))
        shutil.rmtree(folder, ignore_errors=True)
    return ReportResult(out, folder, len(reef.rows), record["methods"], tuple(record["warnings"]))


def _folder_of(out: Path) -> Path:
    """Return the folder for the figures, checked to hold nothing but those of a report."""
    if out.suffix.lower() != ".html":
        raise FossilError(
            f"The report {out} cannot be written",
            expected="a name that ends in .html",
            found=repr(out.suffix),
        )
    folder = out.with_name(f"{out.stem}_files")
    known = {_RECORD}
    if (folder / _RECORD).is_file():
        record = read_json(folder / _RECORD, "the record of a report")
        known |= set(record.get("files", ()) if isinstance(record, dict) else ())
    there = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    if others := sorted({*there} - known) or [folder.name] * folder.is_file():
        raise FossilError(
            f"{folder} cannot take the figures of the report",
            expected="a new folder, or that of an earlier report",
            found=enumerated(others),
            advice="Give the report another name; nothing was changed.",
        )
    return folder


def _read(project: Project, measured: MeasureResult, params: ReportParams, job: Job) -> _Reef:
    """Build the surfaces once more, simplified: to hold all as they are takes too much memory."""
    specimens = read_specimens(project, params.source, params.mask_cut, job)
    faces = max(_FEWEST_FACES, _FACES // len(specimens.keys))
    surfaces = {
        built.key: simplified(built.surface.in_rock(project.geometry.z_direction), faces)
        for built in reconstructed(specimens, params, job, params.close_cracks)
        if built.surface is not None
    }
    return _Reef(specimens, measured, surfaces, list(measured.warnings))


# ----------------------------------------------------------------------- figures


def _histogram(reef: _Reef) -> bytes:
    unit, um = reef.unit
    values = [volume / um**3 for volume in reef.volumes]
    return histogram(values, f"Volume of a specimen ({unit}{_POWERS[3]})", "Specimens")


def _spread(reef: _Reef) -> list[int]:
    """Return some slices with specimens, from all through the stack."""
    found = sorted({z for row in reef.rows for z in (row["first_slice"], row["last_slice"])})
    there = [z for z in reef.specimens.choice.slices if found[0] <= z <= found[-1]]
    places = np.linspace(0, len(there) - 1, 2 * _SHOWN + 1)[1::2]
    return sorted({there[round(place)] for place in places})


def _draw_slices(reef: _Reef, slices: Sequence[int], draft: Path, job: Job) -> dict[int, Path]:
    """Draw slices with the outlines of their specimens, in the colours of the picture in 3D."""
    specimens, files = reef.specimens, dict[int, Path]()
    key_of = {id_: key for key, ids in specimens.ids.items() for id_ in ids}
    shades = dict(zip(reef.surfaces, pictures.specimen_colours(len(reef.surfaces)), strict=True))
    known = frozenset(specimens.choice.slices)
    for z in job.tracked(slices, len(slices), "Drawing slice"):
        try:
            picture = pictures.as_rgb(reef.project.stack.read(z))
        except FossilError as error:
            reef.warnings.append(f"No slices are drawn: {error}")
            break
        width = max(1, round(max(picture.shape[:2]) / _LONGEST * 1.5))
        source = specimens.choice.source_of(z) if z in known else ""
        for item in (
            reef.project.instances(source, z, mask_cut=specimens.mask_cut) if source else ()
        ):
            if item.id in key_of and item.part is Part.BODY:
                red, green, blue = shades.get(key_of[item.id], (1.0, 1.0, 1.0))
                colour = round(255 * red), round(255 * green), round(255 * blue)
                picture = pictures.outline(picture, [item.mask], colour, width)
        files[z] = draft / f"{_SLICE}{z:04d}.png"
        pictures.write_png(files[z], pictures.fitted(picture, _LONGEST))
    return files


# -------------------------------------------------------------------- provenance


def _record(reef: _Reef, params: ReportParams) -> dict[str, Any]:
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
        "params": params.model_dump(mode="json", exclude={"format", "unit", "version", "plots"}),
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


def _methods(reef: _Reef, record: Mapping[str, Any]) -> str:
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
            f"Outlines of {_counted(len(own), 'section')} were annotated by hand or corrected"
            f" ({_counted(masks['reviewed'], 'mask')} of {masks['of_annotations']} marked as"
            " reviewed)."
        )
    for name, slices in parts.items():
        said.append(
            f"In {_counted(len(slices), 'section')} fossils were found by the model"
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
        f" {_counted(link['max_gap'], 'section')} without it"
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
            f" {_counted(len(reef.rows), 'specimen')}, {len(volumes)} have a known volume, from"
            f" {_figure(volumes[0])} to {_figure(volumes[-1])} {unit}{_POWERS[3]} (median"
            f" {_figure(float(np.median(volumes)))} {unit}{_POWERS[3]})."
        )
    said.append(f"Computed with napari-fossiledit {record['made_with']}.")
    return " ".join(said)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# ------------------------------------------------------------------------ the page


def _values(
    reef: _Reef, record: Mapping[str, Any], draft: Path, drawn: Mapping[int, Path], folder: str
) -> dict[str, Any]:
    """Return what the template shows."""
    photographs, masks = record["photographs"], record["masks"]
    names = reef.project.names
    made_from = [
        (
            "Photographs",
            f"{photographs['slices']} of {photographs['width']} x {photographs['height']}",
        ),
        ("Pixel", f"{photographs['pixel_size_um']:g} um"),
        (
            "Step between slices",
            f"{photographs['slice_spacing_um']:g} um"
            + ("" if photographs["even_steps"] else " in the mean"),
        ),
        ("Slices count", f"{reef.project.geometry.z_direction.replace('_', ' ')} the rock"),
        *(
            (f"Masks by {Source.parse(name).title}", f"slices {z}")
            for name, z in masks["slices"].items()
        ),
        ("Traced slices", masks["traced"] or "none"),
        ("Traced in part", masks["traced_in_part"] or "none"),
        ("Pinned slices", masks["pinned"] or "none"),
        ("Reviewed masks", f"{masks['reviewed']} of {masks['of_annotations']} annotations"),
        *(
            (f"Model {m['name']}", f"{m['made']}; weights {m['hash'][:12] or 'unknown'}")
            for m in record["models"]
        ),
    ]
    runs = [
        [r["started"][:16].replace("T", " "), r["kind"], r["status"], _settings(r["params"])]
        for r in record["runs"]
    ]
    this = ["now", "report", "done", _settings(record["params"])]
    known = len(reef.volumes)
    return {
        "project": record["project"],
        "verdict_text": f"{_counted(len(reef.rows), 'specimen')}, {known} with a known volume",
        "warnings": record["warnings"],
        "methods": record["methods"],
        "scene": draft / _SCENE if reef.volumes else None,
        "volumes": draft / _VOLUMES if reef.volumes else None,
        "plots": [
            {"file": draft / f"{name}.png", "caption": caption}
            for name, caption in _PLOTS.items()
            if (draft / f"{name}.png").is_file()
        ],
        "assumed": reef.measured.assumed,
        "slices": [{"z": z, "name": names[z], "file": file} for z, file in drawn.items()],
        "measurements": _measurements(reef),
        "unlisted": max(0, len(reef.rows) - _MOST_ROWS),
        "folder": folder,
        "table_file": _TABLE,
        "record_file": _RECORD,
        "made_from": ReportTable(("What", "Value"), made_from),
        "runs": ReportTable(
            ("Started (UTC)", "What", "Ended", "Settings"), [*runs[-_MOST_RUNS:], this]
        ),
        "versions": ", ".join(f"{name} {v}" for name, v in record["versions"].items()),
        "made_with": record["made_with"],
    }


def _measurements(reef: _Reef) -> ReportTable:
    """Return the largest specimens with the columns that are known of any of them."""
    unit, um = reef.unit
    rows = sorted(reef.rows, key=lambda row: -(row["volume_um3"] or 0))[:_MOST_ROWS]
    shown = {
        name: column
        for name, column in _COLUMNS.items()
        if any(row.get(name) not in (None, "") for row in rows)
    }
    heads = [
        f"{head} ({unit}{_POWERS[power]})" if power else head for head, power in shown.values()
    ]
    return ReportTable(
        heads,
        [[_value(row[name], um**power) for name, (_, power) in shown.items()] for row in rows],
    )


def _value(value: Any, divisor: float) -> Value:
    return value / divisor if isinstance(value, float) else value


def _settings(params: Mapping[str, Any]) -> str:
    """Return parameters as text; what is empty or off is left out."""
    set_ = {
        k: v for k, v in params.items() if k != "version" and v not in ("", None, False, [], {})
    }
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in set_.items())
