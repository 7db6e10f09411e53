"""Meshes as files: STL, PLY, OBJ, GLB, 3MF, and VAXML for SPIERSview; one or many in each.

Axes are (x, y, z) in every format. STL, PLY and OBJ know no unit: it stands in their header or
comments. 3MF and VAXML state it. GLB is in metres, whatever is asked for: its specification knows
no other unit, and a viewer that believes it shows fossils in their true size.
"""

from __future__ import annotations

import colorsys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import trimesh
from numpy.typing import NDArray
from trimesh.exchange.gltf import export_glb
from trimesh.exchange.ply import export_ply
from trimesh.exchange.stl import export_stl
from trimesh.util import array_to_string, concatenate
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import appearing, replacing, require_empty, write_whole
from napari_fossiledit.params.reconstruct import LengthUnit, MeshFormat

# Hues in steps of the golden ratio never come close to an earlier one soon.
_GOLDEN_RATIO = 0.618034
# Bytes of a binary STL file: of the text at its beginning, and with the count of facets.
_STL_TEXT, _STL_HEADER = 80, 84
_GLB_PER_UM = 1e-6
_3MF_UNIT = {LengthUnit.UM: "micron", LengthUnit.MM: "millimeter"}
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_3MF = "http://schemas.microsoft.com/3dmanufacturing"
_3MF_PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels"'
    ' ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default'
    ' Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/>'
    "</Types>",
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rel0"'
    f' Target="/3D/3dmodel.model" Type="{_3MF}/2013/01/3dmodel"/></Relationships>',
}
# Corners or faces that are put into text at once.
_BATCH = 8192


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
    class_name
        Its group, in formats that have groups.
    """

    specimen: int
    name: str
    vertices: NDArray[np.floating[Any]]
    faces: NDArray[np.integer[Any]]
    class_name: str = ""


Solids = Iterator[tuple[SpecimenMesh, trimesh.Trimesh]]


def colour(specimen: int) -> tuple[int, int, int]:
    """Return the colour (r, g, b from 0 to 255) of a specimen; neighbouring numbers differ."""
    red, green, blue = colorsys.hsv_to_rgb(specimen * _GOLDEN_RATIO % 1, 0.55, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def write_meshes(
    meshes: Iterable[SpecimenMesh],
    path: Path,
    file_format: MeshFormat,
    unit: LengthUnit = LengthUnit.UM,
) -> None:
    """Write meshes into one file, the whole file or nothing.

    STL, OBJ and 3MF take one mesh after the other; PLY and GLB, which begin with sizes, all.

    Parameters
    ----------
    unit
        Of the coordinates; those of GLB are metres.

    Raises
    ------
    FossilError
        Where there is no mesh, one has no face, or the file cannot be written.
    """
    per_um = _GLB_PER_UM if file_format is MeshFormat.GLB else unit.per_um
    with replacing(path) as stream:
        _WRITERS[file_format](_solids(meshes, path, per_um), stream, path.stem, unit)


def _solids(meshes: Iterable[SpecimenMesh], path: Path, per_um: float) -> Solids:
    faces = 0
    for mesh in meshes:
        faces = len(mesh.faces)
        if not faces:
            break
        vertices = np.asarray(mesh.vertices, dtype=np.float64)[:, ::-1] * per_um
        yield mesh, trimesh.Trimesh(vertices, mesh.faces, process=False)
    if not faces:
        raise _nothing(path)


def _nothing(path: Path) -> FossilError:
    return FossilError(
        f"There is no surface to write into {path}",
        expected="the closed surface of a specimen",
        advice="A specimen with slices in its midst that nobody has looked at has none.",
    )


def write_vaxml(meshes: Iterable[SpecimenMesh], path: Path, unit: LengthUnit) -> None:
    """Write a VAXML file and an STL file for each mesh, in the folder NAME_stl beside it.

    Laid out as SPIERSview does: a group for each class, objects with colours, and as scale the
    millimetres that a unit of the coordinates is.

    Raises
    ------
    FossilError
        Where NAME_stl is there already, there is no mesh, or a file cannot be written.
    """
    folder = path.with_name(f"{path.stem}_stl")
    require_empty(folder, "the meshes of a VAXML file")
    classes: dict[str, int] = {}
    objects: list[str] = []
    with appearing(folder) as hidden:
        for mesh in meshes:
            write_meshes([mesh], hidden / f"{mesh.name}.stl", MeshFormat.STL, unit)
            group = mesh.class_name or "specimens"
            classes.setdefault(group, len(classes))
            parts = zip(("red", "green", "blue"), colour(mesh.specimen), strict=True)
            objects.append(
                f"<object><name>{escape(mesh.name)}</name><visible>1</visible>"
                f"<ingroup>{escape(group)}</ingroup><position>{len(objects)}</position>"
                f"<file>{escape(f'{folder.name}/{mesh.name}.stl')}</file><material><colour>"
                f"{''.join(f'<{name}>{value}</{name}>' for name, value in parts)}"
                "</colour></material></object>\n"
            )
        if not objects:
            raise _nothing(path)
        groups = (
            f"<group><name>{escape(name)}</name><visible>1</visible>"
            f"<position>{len(objects) + n}</position></group>\n"
            for name, n in classes.items()
        )
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<vaxml>\n<header><version>2</version>'
            f"<title>{escape(path.stem)}</title><scale>{1e-3 / unit.per_um:g}</scale>"
            f"<comments>Coordinates are in {unit}.</comments></header>\n"
            f"<groups>\n{''.join(groups)}</groups>\n<objects>\n{''.join(objects)}</objects>\n"
            "</vaxml>\n"
        )
        # The last thing that a full disk can stop: then neither the file nor the folder is there.
        write_whole(path, text.encode())


def _stl(solids: Solids, stream: IO[bytes], title: str, unit: LengthUnit) -> None:
    # A file that begins with the word solid is taken for one of text.
    stream.write(f"unit {unit}, {title}".encode().ljust(_STL_TEXT)[:_STL_TEXT] + bytes(4))
    count = 0
    for _, solid in solids:
        stream.write(export_stl(solid)[_STL_HEADER:])
        count += len(solid.faces)
    stream.seek(_STL_TEXT)
    stream.write(count.to_bytes(4, "little"))


def _ply(solids: Solids, stream: IO[bytes], title: str, unit: LengthUnit) -> None:
    painted = []
    for mesh, solid in solids:
        colours = np.full((len(solid.vertices), 4), [*colour(mesh.specimen), 255], dtype=np.uint8)
        solid.visual = ColorVisuals(solid, vertex_colors=colours)
        painted.append(solid)
    head, line, rest = export_ply(concatenate(painted)).partition(b"1.0\n")
    stream.writelines([head, line, f"comment {title}\ncomment unit {unit}\n".encode(), rest])


def _obj(solids: Solids, stream: IO[bytes], title: str, unit: LengthUnit) -> None:
    stream.write(f"# {title}, unit {unit}\n".encode())
    # Corners are counted from 1, through all objects.
    first = 1
    for mesh, solid in solids:
        corners = array_to_string(solid.vertices, col_delim=" ", row_delim="\nv ", digits=6)
        faces = array_to_string(solid.faces + first, col_delim=" ", row_delim="\nf ")
        group = f"g {mesh.class_name}\n" if mesh.class_name else ""
        stream.write(f"{group}o {mesh.name}\nv {corners}\nf {faces}\n".encode())
        first += len(solid.vertices)


def _glb(solids: Solids, stream: IO[bytes], title: str, _: LengthUnit) -> None:
    scene = trimesh.Scene(metadata={"unit": "m", "title": title})
    for mesh, solid in solids:
        base = [*colour(mesh.specimen), 255]
        material = PBRMaterial(name=mesh.name, baseColorFactor=base, roughnessFactor=0.8)
        solid.visual = TextureVisuals(material=material)
        scene.add_geometry(solid, node_name=mesh.name, geom_name=mesh.name)
    stream.write(export_glb(scene))


def _3mf(solids: Solids, stream: IO[bytes], title: str, unit: LengthUnit) -> None:
    """Write the core format: a zip file with one XML file of objects and their colours."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=5) as package:
        for name, content in _3MF_PARTS.items():
            package.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>\n{content}')
        with package.open("3D/3dmodel.model", "w", force_zip64=True) as model:
            model.write(
                f'<?xml version="1.0" encoding="UTF-8"?>\n<model unit="{_3MF_UNIT[unit]}"'
                f' xml:lang="en" xmlns="{_3MF}/core/2015/02"><metadata name="Title">'
                f"{escape(title)}</metadata><resources>".encode()
            )
            count = 0
            for count, (mesh, solid) in enumerate(solids, 1):
                shade = "".join(f"{value:02X}" for value in colour(mesh.specimen))
                name = quoteattr(mesh.name)
                model.write(
                    f'<basematerials id="{2 * count}"><base name={name} displaycolor="#{shade}"/>'
                    f'</basematerials><object id="{2 * count + 1}" type="model" name={name}'
                    f' pid="{2 * count}" pindex="0"><mesh><vertices>'.encode()
                )
                model.writelines(_rows(solid.vertices, '<vertex x="%.9g" y="%.9g" z="%.9g"/>'))
                model.write(b"</vertices><triangles>")
                model.writelines(_rows(solid.faces, '<triangle v1="%d" v2="%d" v3="%d"/>'))
                model.write(b"</triangles></mesh></object>")
            items = "".join(f'<item objectid="{2 * n + 1}"/>' for n in range(1, count + 1))
            model.write(f"</resources><build>{items}</build></model>".encode())


def _rows(values: NDArray[Any], row: str) -> Iterator[bytes]:
    for start in range(0, len(values), _BATCH):
        part = values[start : start + _BATCH]
        yield (row * len(part) % tuple(part.ravel().tolist())).encode()


_WRITERS: dict[MeshFormat, Callable[[Solids, IO[bytes], str, LengthUnit], None]] = {
    MeshFormat.STL: _stl,
    MeshFormat.PLY: _ply,
    MeshFormat.OBJ: _obj,
    MeshFormat.GLB: _glb,
    MeshFormat.THREEMF: _3mf,
}
