"""Write all specimens into one file: a scene of their surfaces, or a label volume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.label_volume import SUFFIXES as VOLUMES
from napari_fossiledit.exchange.label_volume import (
    Labels,
    painted,
    placing,
    suffix_of,
    write_label_volume,
)
from napari_fossiledit.exchange.meshes import SpecimenMesh, write_meshes, write_vaxml
from napari_fossiledit.masks import Part
from napari_fossiledit.params.reconstruct import LengthUnit, MeshFormat, MeshParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.reef.mesh import file_names
from napari_fossiledit.workflows.shared.specimens import (
    SpecimenKey,
    Specimens,
    read_specimens,
    reconstructed,
)

_VAXML = ".vaxml"
SCENES = (*(f".{kind}" for kind in MeshFormat), _VAXML)


@dataclass(frozen=True)
class SpecimensFile(Summary):
    """The file that was written, what it holds, and what the user should know.

    `unit` is that of its coordinates or spacing; masks of predictions end at the probability
    `mask_cut`.
    """

    file: Path
    holds: str
    specimens: int
    unit: str
    mask_cut: float
    warnings: tuple[str, ...]


def run(
    project_path: Path,
    out: Path,
    params: MeshParams,
    *,
    job: Job = QUIET,
) -> SpecimensFile:
    """Write the linked specimens into one file; its suffix says how.

    Parameters
    ----------
    out
        A scene (`SCENES`) with every surface as `mesh.run` writes it, or a label volume with the
        number of a specimen at each voxel.

    Raises
    ------
    FossilError
        Where nothing is linked, no specimen has what the file holds, or it cannot be written.
    """
    suffix = suffix_of(out) or out.suffix.lower()
    if suffix not in (*SCENES, *VOLUMES):
        raise FossilError(
            f"Specimens cannot be written to {out}",
            expected=f"a scene ({', '.join(SCENES)}) or a label volume ({', '.join(VOLUMES)})",
            found=suffix or "no extension",
            advice="Give the file another name.",
        )
    with Project.open(project_path, read_only=True) as project:
        project.require_not_a_part(out)
        specimens = read_specimens(project, params.source, params.mask_cut, job)
        write = _write_scene if suffix in SCENES else _write_volume
        unit = "m" if suffix == f".{MeshFormat.GLB}" else params.unit
        if suffix in (".tif", ".tiff", ".zarr"):
            unit = LengthUnit.UM
        count = write(specimens, out, params, job)
    holds = "scene" if suffix in SCENES else "label volume"
    return SpecimensFile(
        out, holds, count, str(unit), specimens.mask_cut, tuple(specimens.warnings)
    )


def _write_scene(specimens: Specimens, out: Path, params: MeshParams, job: Job) -> int:
    names, count = file_names(specimens.keys), 0

    def meshes() -> Iterator[SpecimenMesh]:
        nonlocal count
        for built in reconstructed(specimens, params, job):
            if built.surface is None:
                continue
            surface = built.surface.in_rock(specimens.project.geometry.z_direction)
            number, name = built.key.specimen, names[built.key]
            count += 1
            yield SpecimenMesh(number, name, surface.vertices, surface.faces, built.key.class_name)

    if out.suffix.lower() == _VAXML:
        write_vaxml(meshes(), out, params.unit)
    else:
        write_meshes(meshes(), out, MeshFormat(out.suffix.lower()[1:]), params.unit)
    return count


def _write_volume(specimens: Specimens, out: Path, params: MeshParams, job: Job) -> int:
    """Paint the specimens slice by slice, without their cavities where those are cut out."""
    project, choice = specimens.project, specimens.choice
    values = _values(specimens)
    value_of = {id_: values[key] for key, ids in specimens.ids.items() for id_ in ids}
    known, hidden = frozenset(choice.slices), 0

    def labels() -> Iterator[Labels]:
        nonlocal hidden
        for z in job.tracked(range(project.shape[0]), project.shape[0], "Exporting"):
            found = (
                project.instances(choice.source_of(z), z, mask_cut=specimens.mask_cut)
                if z in known
                else []
            )
            ours = [(i, value_of[i.id]) for i in found if i.id in value_of]
            image, covered = painted(
                [i for i, _ in ours],
                [value for _, value in ours],
                project.slice_shape,
                max(values.values()),
            )
            hidden += covered
            for cavity, value in ours if params.cavities else []:
                if cavity.part is Part.CAVITY:
                    y0, x0, y1, x1 = cavity.mask.box
                    inside = image[y0:y1, x0:x1]
                    inside[cavity.mask.crop() & (inside == value)] = 0
            yield image

    write_label_volume(out, labels(), project.shape, project.geometry, params.unit)
    specimens.warnings += placing(out, project.geometry)
    if hidden:
        specimens.warnings.append(
            f"{hidden} pixels lie under another specimen and are its alone in the file."
        )
    specimens.warnings.append(
        "Slices without specimens and slices that nobody looked at are both empty."
    )
    return len(values)


def _values(specimens: Specimens) -> dict[SpecimenKey, int]:
    """Return a number above 0 for each specimen, its own where there is one class."""
    values: dict[SpecimenKey, int] = {}
    said = []
    for name, keys in groupby(specimens.keys, lambda key: key.class_name):
        ours = list(keys)
        shift = max(values.values(), default=0) + max(0, 1 - ours[0].specimen)
        values |= {key: key.specimen + shift for key in ours}
        said.append(f"{name}: their numbers + {shift}" if shift else f"{name}: their numbers")
    specimens.warnings.append(f"Values are specimens ({'; '.join(said)}).")
    return values
