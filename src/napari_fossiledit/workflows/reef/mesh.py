"""Build closed surfaces of specimens: as files, or in memory for the window."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.exchange.meshes import SpecimenMesh, write_meshes
from napari_fossiledit.exchange.written_files import WrittenFiles
from napari_fossiledit.files import explained
from napari_fossiledit.jobs.spread import Spread, spread
from napari_fossiledit.masks import Origin, Part
from napari_fossiledit.params.reconstruct import LengthUnit, MeshFormat, MeshParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.reef import SpecimenRow, Surface, simplified
from napari_fossiledit.workflows.shared.specimens import (
    BuildNotes,
    Reconstructed,
    SpecimenKey,
    Specimens,
    build_warnings,
    builder,
    measured,
    read_specimens,
    reconstructed,
)

SCENE = "reef.glb"
"""File with all specimens together."""

# The scene is to be looked at: small meshes keep it, and the memory, small.
_SCENE_FACES = 20_000


@dataclass(frozen=True)
class MeshResult:
    """Meshes that were written.

    Attributes
    ----------
    folder, files, scene
        Where they are: a file each, and one with all of them, simplified; None where there is no
        specimen with a known volume.
    rows
        Measurements of each.
    sound
        Whether each mesh is an oriented manifold, as manifold3d finds it.
    warnings
        What the user should know.
    mask_cut
        Probability at which the masks of predictions end.
    removed
        Names of the files of an earlier run that were removed.
    unit
        Of the coordinates in the files.
    """

    folder: Path
    files: tuple[Path, ...]
    scene: Path | None
    rows: tuple[SpecimenRow, ...]
    sound: tuple[bool, ...]
    warnings: tuple[str, ...]
    mask_cut: float
    removed: tuple[str, ...] = ()
    unit: LengthUnit = LengthUnit.UM

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {
            "folder": str(self.folder),
            "specimens": len(self.files),
            "closed": sum(bool(row.mesh_closed) for row in self.rows),
            "files": [file.name for file in self.files],
            "scene": self.scene and self.scene.name,
            "meshes": [
                {
                    "specimen": row.specimen,
                    "class_name": row.class_name,
                    "closed": row.mesh_closed,
                    "manifold": sound,
                    "volume_um3": row.mesh_volume_um3,
                    "contour_volume_um3": (row.volume_um3 or 0) - (row.cavity_volume_um3 or 0),
                    "surface_um2": row.surface_um2,
                }
                for row, sound in zip(self.rows, self.sound, strict=True)
            ],
            "unit": self.unit,
            "mask_cut": self.mask_cut,
            "removed": list(self.removed),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class SpecimenModel:
    """All specimens in memory, to be shown.

    Attributes
    ----------
    reviewed
        How far a person has reviewed the specimen of each row.
    share
        Share of the faces that the surfaces kept.
    """

    meshes: tuple[SpecimenMesh, ...]
    rows: tuple[SpecimenRow, ...]
    reviewed: tuple[str, ...]
    warnings: tuple[str, ...]
    share: float = 1.0

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {"specimens": len(self.meshes), "warnings": list(self.warnings)}


def run(
    project_path: Path,
    out_dir: Path,
    params: MeshParams,
    *,
    job: Job = QUIET,
) -> MeshResult:
    """Write a closed surface of every specimen and one scene of all.

    Where slices count out of the rock the surfaces are mirrored along z, so that the files show
    the fossils as they are.

    Specimens with slices in their midst that nobody has looked at get no file: a warning names
    them. Of what an earlier run wrote into the folder for this project in the same format, the
    files that are not written anew are removed; any other file stays as it is.

    Raises
    ------
    FossilError
        Where nothing is linked, or a file cannot be written.
    """
    with explained(out_dir, "Making"):
        out_dir.mkdir(parents=True, exist_ok=True)
    with Project.open(project_path, read_only=True) as project:
        specimens = read_specimens(project, params.source, params.mask_cut, job)
        keys, names = specimens.keys, file_names(specimens.keys)
        written = WrittenFiles(out_dir, project.path)
        written.announce([SCENE, *(f"{name}.{params.format}" for name in names.values())])
        # One at a time in each process: Python does most of it, and threads would only wait.
        how = Spread(params.workers, params.scheduler, threads=1)
        here = not (how.workers or how.scheduler)
        args = (project_path.absolute(), out_dir.absolute(), params, specimens if here else None)
        made: dict[SpecimenKey, _Meshed] = {}
        clock = job.clock(len(keys), "Building surfaces")
        with closing(spread(mesher, args, keys, how=how, job=job)) as outcomes:
            for done, outcome in enumerate(outcomes, 1):
                if (meshed := outcome.result()) is not None:
                    made[outcome.item] = meshed
                clock.tick(done)
    specimens.warnings += build_warnings((one.notes for one in made.values()), params)
    found = [one for _, one in sorted(made.items()) if one.simple is not None]
    simple = [one.simple for one in found if one.simple is not None]
    files = [out_dir / f"{mesh.name}.{params.format}" for mesh in simple]
    scene = out_dir / SCENE if simple else None
    if scene is not None:
        write_meshes(simple, scene, MeshFormat.GLB)
    cleared = written.clear(
        [file.name for file in (*files, *filter(None, [scene]))],
        lambda name: name == SCENE or name.endswith(f".{params.format}"),
    )
    return MeshResult(
        out_dir,
        tuple(files),
        scene,
        tuple(one.row for one in found if one.row is not None),
        tuple(one.sound for one in found),
        (*specimens.warnings, *cleared.warnings),
        specimens.mask_cut,
        cleared.removed,
        params.unit,
    )


@dataclass(frozen=True)
class _Meshed:
    """What became of a specimen: its file is written, and this is left to be put together."""

    notes: BuildNotes
    simple: SpecimenMesh | None = None
    row: SpecimenRow | None = None
    sound: bool = False


def mesher(
    project_path: Path, out_dir: Path, params: MeshParams, specimens: Specimens | None
) -> Callable[[SpecimenKey], _Meshed | None]:
    """Make what writes the surface of a specimen.

    Parameters
    ----------
    specimens
        Those of the project; None: list them, as another process has to.
    """
    if specimens is None:
        project = Project.open(project_path, read_only=True)
        specimens = read_specimens(project, params.source, params.mask_cut)
    listed, build, names = specimens, builder(specimens, params), file_names(specimens.keys)
    # Workers of a scheduler may have more threads.
    lock = threading.Lock()

    def write(key: SpecimenKey) -> _Meshed | None:
        with lock:
            built = build(key)
            if built is None:
                return None
            if built.surface is None:
                return _Meshed(built.notes)
            surface = built.surface.in_rock(listed.project.geometry.z_direction)
            mesh = _named(key, names[key], surface)
            write_meshes(
                [mesh], out_dir / f"{mesh.name}.{params.format}", params.format, params.unit
            )
            simple = _named(key, mesh.name, simplified(surface, _SCENE_FACES))
            return _Meshed(built.notes, simple, measured(listed, built), surface.sound)

    return write


def in_memory(
    project_path: Path,
    params: MeshParams,
    *,
    most_faces: int = 0,
    job: Job = QUIET,
) -> SpecimenModel:
    """Build the surface of every specimen and write nothing.

    Parameters
    ----------
    most_faces
        Simplify the surfaces to about so many faces together, each by the same share; 0: keep all.
        Figures are those of the whole surfaces.

    Returns
    -------
    SpecimenModel
        Surfaces in the frame of the stack, to be laid over its slices.

    Raises
    ------
    FossilError
        Where nothing is linked.
    """
    surfaces: dict[SpecimenKey, Surface] = {}
    rows: list[SpecimenRow] = []
    reviewed: list[str] = []
    with Project.open(project_path, read_only=True) as project:
        specimens = read_specimens(project, params.source, params.mask_cut, job)
        names = file_names(specimens.keys)
        for built in reconstructed(specimens, params, job):
            if built.surface is not None:
                surfaces[built.key] = built.surface
            rows.append(measured(specimens, built))
            reviewed.append(_reviewed(built))
    faces = sum(len(s.faces) for s in surfaces.values())
    share = most_faces / faces if 0 < most_faces < faces else 1.0
    if share < 1:
        surfaces = {
            key: simplified(s, math.ceil(share * len(s.faces))) for key, s in surfaces.items()
        }
    meshes = tuple(_named(key, names[key], surface) for key, surface in surfaces.items())
    warnings = tuple(specimens.warnings)
    return SpecimenModel(meshes, tuple(rows), tuple(reviewed), warnings, share)


def _reviewed(built: Reconstructed) -> str:
    """Say whether a person drew the sections of a specimen, or found them right."""
    bodies = [i for i in built.instances if i.part is Part.BODY]
    seen = [i.reviewed or i.origin in (Origin.HUMAN, Origin.IMPORTED) for i in bodies]
    if all(seen):
        return "by a person"
    return "in part" if any(seen) else "not yet"


def _named(key: SpecimenKey, name: str, surface: Surface) -> SpecimenMesh:
    return SpecimenMesh(key.specimen, name, surface.vertices, surface.faces, key.class_name)


def file_names(keys: Iterable[SpecimenKey]) -> dict[SpecimenKey, str]:
    """Name specimens after their classes and numbers, as files can be called, each differently."""
    names: dict[SpecimenKey, str] = {}
    taken: set[str] = set()
    for key in keys:
        word = re.sub(r"[^\w-]+", "_", key.class_name).strip("_") or "specimen"
        name, n = f"{word}_{key.specimen:03d}", 2
        # Classes may differ in characters that no file name has, or in case alone.
        while name.casefold() in taken:
            name, n = f"{word}_{key.specimen:03d}_{n}", n + 1
        taken.add(name.casefold())
        names[key] = name
    return names
