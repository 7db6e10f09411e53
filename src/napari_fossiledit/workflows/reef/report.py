"""Write the report of a reef: a page with pictures and measurements, and its figures as files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.exchange.pages.charts import histogram
from napari_fossiledit.exchange.pages.html_page import ReportTable, Value, write_html
from napari_fossiledit.files import appearing, read_json, write_json, write_whole
from napari_fossiledit.geometry import parse_slices
from napari_fossiledit.masks import Part
from napari_fossiledit.params.reconstruct import MeasureParams, ReportParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project, Source
from napari_fossiledit.reef import Surface, simplified
from napari_fossiledit.stacks.listing import enumerated
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.reef.measure import write_measurements
from napari_fossiledit.workflows.reef.provenance import POWERS, MeasuredReef, counted, provenance
from napari_fossiledit.workflows.shared.specimens import (
    Reconstructed,
    SpecimenKey,
    read_specimens,
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
_PLOTS = {
    "branching": "Branches: radius along them, angles between them, and lengths",
    "directions": "Directions of the specimens",
    "reef": "Spacing in each plane, and surface per volume in cubes at random places",
    "through_z": "Classes through the stack",
}


@dataclass(frozen=True)
class ReportResult(Summary):
    """The page, the folder with its figures as files, and what the user should know."""

    file: Path
    folder: Path
    specimens: int
    methods: str
    warnings: tuple[str, ...]


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
        reef = _measured(project, params, draft, job)
        if reef.volumes:
            title = f"{len(reef.surfaces)} specimens"
            pictures.draw_specimens(list(reef.surfaces.values()), draft / _SCENE, title)
            write_whole(draft / _VOLUMES, _histogram(reef))
        else:
            reef.warnings.append("No specimen has a known volume: there is no picture in 3D.")
        drawn = _draw_slices(reef, slices or _spread(reef), draft, job)
        record = provenance(reef, params)
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


def _measured(project: Project, params: ReportParams, draft: Path, job: Job) -> MeasuredReef:
    """Measure, and keep the surfaces simplified: to hold all as they are takes too much memory."""
    specimens = read_specimens(project, params.source, params.mask_cut, job)
    faces = max(_FEWEST_FACES, _FACES // len(specimens.keys))
    surfaces: dict[SpecimenKey, Surface] = {}

    def keep(built: Reconstructed) -> None:
        if built.surface is not None:
            turned = built.surface.in_rock(project.geometry.z_direction)
            surfaces[built.key] = simplified(turned, faces)

    measuring = MeasureParams(**params.model_dump(exclude={"slices"}) | {"plots": draft})
    measured = write_measurements(specimens, draft / _TABLE, measuring, job, keep)
    # All of it is in the record of the report.
    (draft / f"{Path(_TABLE).stem}_record.json").unlink()
    return MeasuredReef(specimens, measured, surfaces, list(measured.warnings))


# ----------------------------------------------------------------------- figures


def _histogram(reef: MeasuredReef) -> bytes:
    unit, um = reef.unit
    values = [volume / um**3 for volume in reef.volumes]
    return histogram(values, f"Volume of a specimen ({unit}{POWERS[3]})", "Specimens")


def _spread(reef: MeasuredReef) -> list[int]:
    """Return some slices with specimens, from all through the stack."""
    found = sorted({z for row in reef.rows for z in (row["first_slice"], row["last_slice"])})
    there = [z for z in reef.specimens.choice.slices if found[0] <= z <= found[-1]]
    places = np.linspace(0, len(there) - 1, 2 * _SHOWN + 1)[1::2]
    return sorted({there[round(place)] for place in places})


def _draw_slices(
    reef: MeasuredReef, slices: Sequence[int], draft: Path, job: Job
) -> dict[int, Path]:
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


# ------------------------------------------------------------------------ the page


def _values(
    reef: MeasuredReef,
    record: Mapping[str, Any],
    draft: Path,
    drawn: Mapping[int, Path],
    folder: str,
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
        "verdict_text": f"{counted(len(reef.rows), 'specimen')}, {known} with a known volume",
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


def _measurements(reef: MeasuredReef) -> ReportTable:
    """Return the largest specimens with the columns that are known of any of them."""
    unit, um = reef.unit
    rows = sorted(reef.rows, key=lambda row: -(row["volume_um3"] or 0))[:_MOST_ROWS]
    shown = {
        name: column
        for name, column in _COLUMNS.items()
        if any(row.get(name) not in (None, "") for row in rows)
    }
    heads = [f"{head} ({unit}{POWERS[power]})" if power else head for head, power in shown.values()]
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
