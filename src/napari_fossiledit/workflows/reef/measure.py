"""Measure specimens and the reef: tables, a record of what was assumed, and plots."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit import __version__
from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.changes import matched_pairs
from napari_fossiledit.exchange.pages.reef_plots import draw_plots
from napari_fossiledit.exchange.tables import encode_table, require_table
from napari_fossiledit.files import encode_json, write_all
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.rle import iou_matrix, union
from napari_fossiledit.params.reconstruct import MeasureParams, MeshParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, DamagedError, Project
from napari_fossiledit.reef import SpecimenRow
from napari_fossiledit.reef.orientation import azimuth_and_inclination, field_frame
from napari_fossiledit.reef.stereology import PLANE_COLUMNS, Cubes, contacts, planes
from napari_fossiledit.reef.volume_error import SegmentationError
from napari_fossiledit.summary import plain
from napari_fossiledit.workflows.shared.specimens import (
    Reconstructed,
    SpecimenKey,
    Specimens,
    measured,
    read_specimens,
    reconstructed,
)

DEFAULTS = MeasureParams()

Row = dict[str, Any]
FloatArray = NDArray[np.float64]

COLUMNS = {
    "branches": {
        "class_name": str,
        **dict.fromkeys(("specimen", "branch", "from_branch_point", "to_branch_point"), int),
        **dict.fromkeys(("first_slice", "last_slice"), int),
        **dict.fromkeys(("length_um", "radius_um", "azimuth_deg", "inclination_deg"), float),
    },
    "branch_points": {
        "class_name": str,
        **dict.fromkeys(("specimen", "branch_point", "slice"), int),
        **dict.fromkeys(("z_um", "y_um", "x_um"), float),
        **{"stem": int, "branches": str, "angle_deg": float},
    },
    "planes": PLANE_COLUMNS,
    "classes": {"slice": int, "z_um": float, "class_name": str, "share_of_photograph": float},
}
"""Columns of the tables beside that of the specimens; angles are of the branches that part."""

#: Overlap from which a prediction and a traced instance are the same one.
_SAME = 0.5


@dataclass(frozen=True)
class MeasureResult:
    """Measurements that were written.

    Attributes
    ----------
    file
        The table of specimens.
    files
        All that was written: also the tables of branches, branch points, planes and classes
        through z, the record, and the plots.
    rows
        One a specimen.
    reef
        Figures of the reef as a whole.
    assumed
        Sentences that say what the measurements rest on.
    warnings
        Sentences for the user.
    mask_cut
        Probability at which the masks of predictions end.
    """

    file: Path
    files: tuple[Path, ...]
    rows: tuple[SpecimenRow, ...]
    reef: dict[str, Any]
    assumed: tuple[str, ...]
    warnings: tuple[str, ...]
    mask_cut: float

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {
            "file": str(self.file),
            "files": [str(file) for file in self.files],
            "specimens": len(self.rows),
            "rows": [row.record() for row in self.rows],
            "reef": self.reef,
            "mask_cut": self.mask_cut,
            "assumed": list(self.assumed),
            "warnings": list(self.warnings),
        }


def run(
    project_path: Path,
    out: Path,
    params: MeshParams = DEFAULTS,
    *,
    job: Job = QUIET,
) -> MeasureResult:
    """Measure every specimen and the reef, and write tables.

    Parameters
    ----------
    out
        A ``.csv``, ``.json`` or ``.parquet`` file for the specimens; the other tables lie beside it
        under its name and what they hold. The unit of each column is part of its name.
    params
        Which source is measured, whether its surfaces have cavities, and what of the reef.

    Raises
    ------
    FossilError
        Where nothing is linked, or a file cannot be written.
    """
    require_table(out)
    params = MeasureParams(**(DEFAULTS.model_dump() | params.model_dump()))
    with Project.open(project_path, read_only=True) as project:
        project.require_not_a_part(out)
        specimens = read_specimens(project, params.source, params.mask_cut, job)
        return write_measurements(specimens, out, params, job)


def write_measurements(
    specimens: Specimens,
    out: Path,
    params: MeasureParams,
    job: Job = QUIET,
    look: Callable[[Reconstructed], object] = lambda _: None,
) -> MeasureResult:
    """Measure specimens and the reef, and write tables: all of them or none, see `run`.

    Parameters
    ----------
    look
        Is shown each specimen with its surface, which is then forgotten.
    """
    project = specimens.project
    specimens.block = replace(specimens.block, segmentation=_segmentation_error(specimens))
    classes: list[Row] = []
    corners: list[FloatArray] = []
    shared = contacts(_bodies(specimens, classes, corners, job), project.geometry)
    cubes = _cubes(corners, params)
    rows: list[SpecimenRow] = []
    for built in reconstructed(specimens, params, job, params.close_cracks):
        rows.append(measured(specimens, built))
        look(built)
        if built.surface is not None:
            cubes.add(built.surface)
    rows = _with_contacts(rows, shared)
    frame = field_frame(specimens.block.orientation, project.geometry.z_direction)
    step = project.geometry.slice_spacing_um
    tables = {
        "branches": list(_branches(rows, frame)),
        "branch_points": list(_branch_points(rows, project.geometry.handedness)),
        "planes": planes([row.lines for row in rows], frame, step),
        "classes": classes,
    }
    reef = cubes.summary()
    assumed = tuple(_assumed(specimens, params, rows, cubes))
    record = _record(specimens, params, reef, assumed)
    contents = {out: encode_table([row.record() for row in rows], out)}
    for name, table in tables.items():
        file = out.with_name(f"{out.stem}_{name}{out.suffix}")
        contents[file] = encode_table(table, file, COLUMNS[name])
    contents[out.with_name(f"{out.stem}_record.json")] = encode_json(record)
    if params.plots:
        plots = draw_plots(rows, tables, frame, cubes)
        contents |= {params.plots / name: plot for name, plot in plots.items()}
    write_all(contents)
    warnings = tuple(specimens.warnings)
    return MeasureResult(
        out, tuple(contents), tuple(rows), reef, assumed, warnings, specimens.mask_cut
    )


def _segmentation_error(specimens: Specimens) -> SegmentationError | None:
    """Compare predictions with what was traced in pinned slices; None where there is nothing to."""
    project = specimens.project
    predicted, traced = [], []
    for z in project.settings.pinned_slices:
        try:
            truths = _of_classes(project.instances(ANNOTATIONS, z), specimens)
            found = [
                _of_classes(project.instances(source, z, mask_cut=specimens.mask_cut), specimens)
                for source in specimens.choice.parts
                if source != ANNOTATIONS
            ]
        except DamagedError as error:
            specimens.warnings.append(str(error))
            continue
        for masks in found:
            for a, b in matched_pairs(iou_matrix(truths, masks), _SAME):
                traced.append(truths[a].area)
                predicted.append(masks[b].area)
    return SegmentationError.of(predicted, traced)


def _of_classes(instances: Iterable[Instance], specimens: Specimens) -> list[Mask]:
    classes = {key.class_name for key in specimens.keys}
    return [i.mask for i in instances if i.part is Part.BODY and i.class_name in classes]


def _cubes(corners: list[FloatArray], params: MeasureParams) -> Cubes:
    """Place the cubes within the box around all specimens."""
    if not corners:
        raise FossilError("No specimen has a pixel", expected="at least one section")
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    return Cubes.at_random(low, high, params.cube_um, params.cubes, params.seed)


def _bodies(
    specimens: Specimens, classes: list[Row], corners: list[FloatArray], job: Job
) -> Iterator[tuple[int, list[tuple[SpecimenKey, Mask]]]]:
    """Yield the bodies of each slice; note how much of it each class takes, and corners around."""
    project, choice = specimens.project, specimens.choice
    shape, pixel = project.slice_shape, project.geometry.pixel_size_um
    keys = set(specimens.keys)
    for z in job.tracked(choice.slices, len(choice.slices), "Looking for neighbours"):
        found = project.instances(choice.source_of(z), z, mask_cut=specimens.mask_cut)
        bodies = [i for i in found if i.part is Part.BODY and i.mask.area]
        by_class: dict[str, list[Mask]] = {}
        for body in bodies:
            by_class.setdefault(body.class_name, []).append(body.mask)
        place = project.geometry.handedness * project.geometry.z_um(z)
        for name, masks in sorted(by_class.items()):
            share = union(masks, shape).area / (shape[0] * shape[1])
            classes.append(_row("classes", z, place, name, share))
        named = ((SpecimenKey(b.class_name, b.specimen or 0), b.mask) for b in bodies)
        mine = [(key, mask) for key, mask in named if key in keys]
        if mine:
            boxes = np.array([mask.box for _, mask in mine]) * pixel
            low, high = (project.geometry.z_um(z + half) for half in (-0.5, 0.5))
            corners.append(np.array([low, *boxes[:, :2].min(axis=0)]))
            corners.append(np.array([high, *boxes[:, 2:].max(axis=0)]))
        yield z, mine


def _with_contacts(
    rows: list[SpecimenRow], shared: dict[tuple[SpecimenKey, SpecimenKey], float]
) -> list[SpecimenRow]:
    touched: dict[SpecimenKey, dict[SpecimenKey, float]] = {}
    for (one, other), area in shared.items():
        touched.setdefault(one, {})[other] = area
        touched.setdefault(other, {})[one] = area
    found = []
    for row in rows:
        others = touched.get(SpecimenKey(row.class_name, row.specimen), {})
        names = "; ".join(f"{key.class_name} {key.specimen}" for key in sorted(others))
        found.append(replace(row, touching_um2=sum(others.values(), 0.0), touches=names))
    return found


def _row(table: str, *values: Any) -> Row:
    return dict(zip(COLUMNS[table], values, strict=True))


def _branches(rows: list[SpecimenRow], frame: FloatArray) -> Iterator[Row]:
    for row in rows:
        for number, branch in enumerate(row.lines.branches):
            azimuth, inclination = azimuth_and_inclination(frame @ branch.direction)
            slices = int(branch.slices[0]), int(branch.slices[-1])
            size = branch.length_um, branch.radius_um
            way = float(azimuth[0]), float(inclination[0])
            whose = row.class_name, row.specimen, number
            yield _row("branches", *whose, *branch.ends, *slices, *size, *way)


def _branch_points(rows: list[SpecimenRow], handedness: int) -> Iterator[Row]:
    for row in rows:
        for number, point in enumerate(row.lines.branch_points):
            z, y, x = point.point.tolist()
            known = [angle for angle in point.angles_deg if not math.isnan(angle)]
            whose = row.class_name, row.specimen, number, point.slice
            angle = float(np.mean(known)) if known else None
            place = handedness * z, y, x
            arms = " ".join(map(str, point.branches))
            yield _row("branch_points", *whose, *place, point.stem, arms, angle)


def _assumed(
    specimens: Specimens, params: MeasureParams, rows: list[SpecimenRow], cubes: Cubes
) -> Iterator[str]:
    """Yield what the measurements rest on, in sentences."""
    geometry, block = specimens.project.geometry, specimens.block
    spacing = "mean step of the slices" if geometry.z_positions_um else "step of the slices"
    yield f"Pixel {geometry.pixel_size_um:g} um, {spacing} {geometry.slice_spacing_um:g} um."
    if block.orientation is None:
        yield (
            "Directions are those of the stack: north is the top of the photographs, up is out of "
            "the ground face. Enter strike and dip of block and bedding with 'fossiledit orient'."
        )
    else:
        angles = ", ".join(
            f"{name.replace('_', ' ')} {value:g}"
            for name, value in block.orientation.model_dump(exclude={"version"}).items()
        )
        yield f"Directions are those of the rock with its bedding laid flat ({angles} degrees)."
    yield (
        "Intervals of volumes hold with 95 % what the step of the slices may hide (Gundersen and "
        "Jensen 1987, smoothness 1)."
    )
    if (error := block.segmentation) is None:
        yield "Masks were taken to be right: no pinned slice is both traced and predicted."
    else:
        yield (
            f"Predicted areas are {np.expm1(error.log_bias):+.1%} of traced ones, with a spread of "
            f"{np.expm1(error.log_spread):.1%} ({error.count} instances in pinned slices): "
            "intervals of specimens with masks of the model are moved and widened by it, volumes "
            "are not."
        )
    if params.close_cracks:
        yield f"Cracks up to {params.close_cracks:g} um were closed before measuring."
    if lying := sum(row.lies_in_slices for row in rows):
        yield f"{lying} of {len(rows)} specimens lie in the slices: they have no centre line."
    if cut := sum(bool(row.cut_by) for row in rows):
        yield f"{cut} of {len(rows)} reach a side of the stack: figures are of what lies within."
    count, edge = len(cubes.low_um), cubes.edge_um
    where = f"{count} cubes of {edge:g} um in the box around all specimens, seed {params.seed}"
    yield f"Surface per volume is of {where}."
    yield "Shares of classes are shares of the photograph, not of the rock in it."


def _record(
    specimens: Specimens, params: MeasureParams, reef: dict[str, Any], assumed: tuple[str, ...]
) -> dict[str, Any]:
    """Return what the tables were made of, for a file beside them."""
    project = specimens.project
    orientation = specimens.block.orientation
    return {
        "program": f"napari-fossiledit {__version__}",
        "project": str(project.path),
        "source": specimens.choice.name,
        "slices": format_slices(specimens.choice.slices),
        "mask_cut": specimens.mask_cut,
        "parameters": params.model_dump(mode="json"),
        "orientation": None if orientation is None else orientation.model_dump(mode="json"),
        "segmentation": plain(specimens.block.segmentation),
        "reef": reef,
        "assumed": list(assumed),
        "warnings": list(specimens.warnings),
    }
