"""All specimens as one coloured surface.

`build_scene` runs in a spawned process: importing napari or Qt here would slow its start.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from napari_fossiledit.exchange.meshes import SpecimenMesh
from napari_fossiledit.params.reconstruct import MeshParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.workflows.reef import mesh
from napari_fossiledit.workflows.shared.specimens import SpecimenKey

Floats = NDArray[np.float32]
Span = tuple[int, int]
RGB = tuple[float, float, float]

#: Where the light comes from, (z, y, x): above, the last slice, a little from the right.
LIGHT = (0.45, -0.8, 0.4)
# More faces than these take the window's thread more than 0.1 s whenever a colour changes.
_MOST_FACES = 150_000
# Brightness of a face in the shadow, and of specimens that are not chosen.
_SHADE, _PALE = 0.35, 0.72


@dataclass(frozen=True)
class JoinedMeshes:
    """Meshes of many specimens as one.

    Attributes
    ----------
    vertices
        Array (n, 3) in um, axis order (z, y, x).
    faces
        Array (m, 3) of indices of vertices.
    light
        Array (n,), brightness of each vertex from 0 to 1.
    spans
        First and one-past-last vertex of each specimen.
    """

    vertices: Floats
    faces: NDArray[np.int64]
    light: Floats
    spans: dict[SpecimenKey, Span]

    def box(self, *keys: SpecimenKey) -> tuple[Floats, Floats]:
        """Return the corners (z, y, x) of the box around a specimen in um; none: around all."""
        (span,) = (self.spans[key] for key in keys) if keys else ((0, None),)
        corners = self.vertices[slice(*span)]
        return corners.min(axis=0), corners.max(axis=0)

    def colours(
        self, of: Callable[[SpecimenKey], RGB], chosen: Collection[SpecimenKey] = ()
    ) -> Floats:
        """Return colours (n, 4) of the vertices; with specimens `chosen`, the others are pale.

        Parameters
        ----------
        of
            Returns the colour of a specimen, from 0 to 1.
        """
        rgba = np.ones((len(self.vertices), 4), dtype=np.float32)
        for key, (start, end) in self.spans.items():
            pale = bool(chosen) and key not in chosen
            rgba[start:end, :3] = _PALE if pale else of(key)
        rgba[:, :3] *= self.light[:, np.newaxis]
        return rgba


def joined(meshes: Sequence[SpecimenMesh]) -> JoinedMeshes:
    """Return meshes with all vertices in one array and all faces in another."""
    ends = np.cumsum([len(mesh.vertices) for mesh in meshes])
    starts = ends - [len(mesh.vertices) for mesh in meshes]
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]
    spans = zip(starts.tolist(), ends.tolist(), strict=True)
    return JoinedMeshes(
        np.concatenate([mesh.vertices for mesh in meshes]).astype(np.float32),
        np.concatenate(faces).astype(np.int64),
        np.concatenate([lit(mesh) for mesh in meshes]),
        {
            SpecimenKey(mesh.class_name, mesh.specimen): span
            for mesh, span in zip(meshes, spans, strict=True)
        },
    )


def lit(mesh: SpecimenMesh) -> Floats:
    """Return the brightness (n,) of the vertices under a light that is fixed to the rock.

    napari's own shading lights a scene from behind where one axis is turned, as it has to be for
    the rock not to be mirrored (see `face_camera`).
    """
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    # Faces that are wound the other way round give a negative volume and inward normals.
    outward = np.sign(solid.volume) or 1.0
    facing: NDArray[np.float64] = np.asarray(solid.vertex_normals) @ np.asarray(LIGHT) * outward
    brightness: Floats = (_SHADE + (1 - _SHADE) * (0.5 + 0.5 * facing)).astype(np.float32)
    return brightness


@dataclass(frozen=True)
class SpecimenScene:
    """Specimens as the dock *Reef model* shows them.

    Attributes
    ----------
    meshes
        All specimens in one, None where there are none.
    rows
        Figures of each specimen by name, and how far it was reviewed.
    warnings
        Messages for the user.
    share
        Share of the faces that are shown.
    """

    meshes: JoinedMeshes | None
    rows: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]
    share: float = 1.0


def build_scene(
    project_path: Path,
    params: MeshParams,
    *,
    job: Job = QUIET,
) -> SpecimenScene:
    """Build the surfaces of all specimens, join them and compute their light."""
    model = mesh.in_memory(project_path, params, most_faces=_MOST_FACES, job=job)
    return SpecimenScene(
        joined(model.meshes) if model.meshes else None,
        tuple(
            row.record() | {"review": said}
            for row, said in zip(model.rows, model.reviewed, strict=True)
        ),
        model.warnings,
        model.share,
    )
