"""Meshes as files: STL, PLY, OBJ and GLB, in um.

Numbers are um and axes (x, y, z) in every format. STL and OBJ know no unit, so it stands in their
header; so it does in the comments of PLY and in the extras of GLB (whose own unit is the metre:
programs that insist on it show the fossil a million times too large, in its right proportions).
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from trimesh.exchange.gltf import export_glb
from trimesh.exchange.obj import export_obj
from trimesh.exchange.ply import export_ply
from trimesh.exchange.stl import export_stl
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import write_whole
from napari_fossiledit.params.reconstruct import MeshFormat

UNIT = "um"
# Hues in steps of the golden ratio never come close to an earlier one soon.
_GOLDEN_RATIO = 0.618034
# Bytes of text at the beginning of a binary STL file.
_STL_HEADER = 80


@dataclass(frozen=True)
class SpecimenMesh:
    """A triangle mesh of one specimen.

    Attributes
    ----------
    specimen
        Its number, which chooses its colour.
    name
        What its file and its node in a scene are called.
    vertices
        Array (n, 3), (z, y, x) in um.
    faces
        Array (m, 3) of vertex indices, counter-clockwise from outside in the frame (x, y, z).
    """

    specimen: int
    name: str
    vertices: NDArray[np.floating[Any]]
    faces: NDArray[np.integer[Any]]


def colour(specimen: int) -> tuple[int, int, int]:
    """Return the colour (r, g, b from 0 to 255) of a specimen; neighbouring numbers differ."""
    red, green, blue = colorsys.hsv_to_rgb(specimen * _GOLDEN_RATIO % 1, 0.55, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def write_mesh(mesh: SpecimenMesh, path: Path, file_format: MeshFormat) -> None:
    """Write one mesh, the whole file or nothing.

    Raises
    ------
    FossilError
        Where the mesh is empty or the file cannot be written.
    """
    if not len(mesh.faces):
        raise FossilError(f"The mesh for {path} has no face", expected="a closed surface")
    write_whole(path, _WRITERS[file_format](mesh))


def write_scene(meshes: Iterable[SpecimenMesh], path: Path) -> None:
    """Write all specimens into one GLB, one named and coloured node each."""
    write_whole(path, _scene(meshes))


def _solid(mesh: SpecimenMesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(np.asarray(mesh.vertices)[:, ::-1], mesh.faces, process=False)


def _stl(mesh: SpecimenMesh) -> bytes:
    header = f"{mesh.name}, unit {UNIT}".encode().ljust(_STL_HEADER)[:_STL_HEADER]
    return header + export_stl(_solid(mesh))[_STL_HEADER:]


def _ply(mesh: SpecimenMesh) -> bytes:
    solid = _solid(mesh)
    colours = np.empty((len(solid.vertices), 4), dtype=np.uint8)
    colours[:] = (*colour(mesh.specimen), 255)
    solid.visual = ColorVisuals(solid, vertex_colors=colours)
    comments = f"comment {mesh.name}\ncomment unit {UNIT}\n".encode()
    head, line, rest = export_ply(solid).partition(b"1.0\n")
    return bytes(head + line + comments + rest)


def _obj(mesh: SpecimenMesh) -> bytes:
    text = export_obj(_solid(mesh), include_color=False, include_normals=False, header=None)
    return f"# {mesh.name}, unit {UNIT}\no {mesh.name}\n{text}".encode()


def _scene(meshes: Iterable[SpecimenMesh]) -> bytes:
    scene = trimesh.Scene(metadata={"unit": UNIT})
    for mesh in meshes:
        solid = _solid(mesh)
        base = [*colour(mesh.specimen), 255]
        material = PBRMaterial(name=mesh.name, baseColorFactor=base, roughnessFactor=0.8)
        solid.visual = TextureVisuals(material=material)
        scene.add_geometry(solid, node_name=mesh.name, geom_name=mesh.name)
    return bytes(export_glb(scene))


_WRITERS: dict[MeshFormat, Callable[[SpecimenMesh], bytes]] = {
    MeshFormat.STL: _stl,
    MeshFormat.PLY: _ply,
    MeshFormat.OBJ: _obj,
    MeshFormat.GLB: lambda mesh: _scene([mesh]),
}
