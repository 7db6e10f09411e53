"""Mesh files and tables are read back by trimesh and csv."""

import csv
import json
import zipfile
from functools import partial
from xml.etree import ElementTree

import numpy as np
import pytest
import trimesh

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.meshes import SpecimenMesh, colour, write_meshes, write_vaxml
from napari_fossiledit.exchange.tables import write_table
from napari_fossiledit.params.reconstruct import LengthUnit, MeshFormat
from tests.full_disk import full_disk


@pytest.fixture
def mesh():
    """A ball of 1000 um around (x, y, z) = (1000, 2000, 3000)."""
    ball = trimesh.creation.icosphere(subdivisions=2, radius=1000.0)
    ball.apply_translation([1000, 2000, 3000])
    return SpecimenMesh(7, "archaeocyathid_007", ball.vertices[:, ::-1], ball.faces)


def two(mesh):
    """Two balls in two classes, 5 mm apart."""
    other = SpecimenMesh(8, "shell_008", mesh.vertices + 5000, mesh.faces, "shells & co")
    return [mesh, other]


def reopened(path, unit):
    """All meshes of a file in um, by what trimesh makes of its coordinates and its unit."""
    scene = trimesh.load_scene(path)
    # The others know no unit.
    stated = scene.units if path.suffix in (".glb", ".3mf") else unit
    factor = {"meters": 1e6, "mm": 1e3, "millimeter": 1e3, "micron": 1, "um": 1}[stated]
    return scene, trimesh.util.concatenate(scene.dump()).apply_scale(factor)


@pytest.mark.parametrize("unit", LengthUnit)
@pytest.mark.parametrize("file_format", MeshFormat)
def test_every_format_keeps_shape_place_handedness_and_unit(tmp_path, mesh, file_format, unit):
    for meshes in ([mesh], two(mesh)):
        path = tmp_path / f"balls.{file_format}"
        write_meshes(meshes, path, file_format, unit)
        scene, read = reopened(path, unit)
        expected = trimesh.util.concatenate(
            [trimesh.Trimesh(m.vertices[:, ::-1], m.faces) for m in meshes]
        )
        assert read.is_watertight
        assert read.volume == pytest.approx(expected.volume, rel=1e-6)
        assert read.bounds == pytest.approx(expected.bounds, abs=0.01)
        assert read.body_count == len(meshes)
        if file_format in (MeshFormat.GLB, MeshFormat.THREEMF):
            assert set(scene.geometry) == {m.name for m in meshes}
        else:
            data = path.read_bytes()
            assert f"unit {unit}" in data[:200].decode("ascii", "replace")
            assert file_format is not MeshFormat.OBJ or all(m.name.encode() in data for m in meshes)


def test_scenes_have_the_colours_of_their_specimens(tmp_path, mesh):
    expected = {colour(7), colour(8)}
    write_meshes(two(mesh), tmp_path / "reef.ply", MeshFormat.PLY)
    vertices = trimesh.load(tmp_path / "reef.ply").visual.vertex_colors
    assert {tuple(c) for c in vertices[:, :3].tolist()} == expected
    write_meshes(two(mesh), tmp_path / "reef.glb", MeshFormat.GLB)
    shown = trimesh.load_scene(tmp_path / "reef.glb").geometry.values()
    assert {tuple(g.visual.material.baseColorFactor[:3].tolist()) for g in shown} == expected
    write_meshes(two(mesh), tmp_path / "reef.3mf", MeshFormat.THREEMF)
    with zipfile.ZipFile(tmp_path / "reef.3mf") as package:
        model = ElementTree.fromstring(package.read("3D/3dmodel.model"))
    shades = [e.attrib["displaycolor"] for e in model.iter() if e.tag.endswith("}base")]
    assert {tuple(bytes.fromhex(shade[1:])) for shade in shades} == expected


def test_a_vaxml_file_names_a_mesh_a_colour_a_group_and_the_scale(tmp_path, mesh):
    write_vaxml(two(mesh), tmp_path / "reef.vaxml", LengthUnit.UM)
    root = ElementTree.parse(tmp_path / "reef.vaxml").getroot()
    assert float(root.findtext("header/scale")) == 1e-3
    objects = root.findall("objects/object")
    assert [o.findtext("ingroup") for o in objects] == ["specimens", "shells & co"]
    assert {g.findtext("name") for g in root.findall("groups/group")} == {
        "specimens",
        "shells & co",
    }
    shade = [int(objects[1].findtext(f"material/colour/{c}")) for c in ("red", "green", "blue")]
    assert tuple(shade) == colour(8)
    read = [trimesh.load(tmp_path / o.findtext("file")) for o in objects]
    assert [m.centroid.round() for m in read] == pytest.approx(
        np.array([[1000, 2000, 3000], [6000, 7000, 8000]])
    )
    with pytest.raises(FossilError, match=r"reef_stl cannot take the meshes of a VAXML file"):
        write_vaxml(two(mesh), tmp_path / "reef.vaxml", LengthUnit.UM)


# The last one has its meshes written and fails at the file that names them.
@pytest.mark.parametrize(
    ("name", "after"), [*((f"reef.{f}", 2000) for f in MeshFormat), ("reef.vaxml", 33_000)]
)
def test_a_full_disk_leaves_nothing_behind(tmp_path, mesh, monkeypatch, name, after):
    (tmp_path / "other").touch()
    full_disk(monkeypatch, after)
    write = partial(write_vaxml, unit=LengthUnit.UM)
    if not name.endswith("vaxml"):
        write = partial(write_meshes, file_format=MeshFormat(name[5:]))
    with pytest.raises(FossilError, match=r"(?s)reef.*The disk is full"):
        write(two(mesh), tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["other"]


def test_neighbouring_specimens_look_unlike():
    table = np.array([colour(n) for n in range(30)])
    assert np.abs(np.diff(table, axis=0)).max(axis=1).min() > 40


def test_an_empty_mesh_is_refused_and_nothing_is_left(tmp_path, mesh):
    empty = SpecimenMesh(1, "nothing", np.zeros((0, 3)), np.zeros((0, 3), dtype=int))
    with pytest.raises(FossilError, match=r"empty\.stl.*closed surface"):
        write_meshes([empty], tmp_path / "empty.stl", MeshFormat.STL)
    assert not list(tmp_path.iterdir())


def test_tables_are_read_back(tmp_path):
    rows = [{"name": "a, b", "volume_um3": 1 / 3}, {"name": "c", "volume_um3": 2e12}]
    write_table(rows, tmp_path / "t.csv")
    write_table(rows, tmp_path / "t.json")
    with (tmp_path / "t.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [(r["name"], float(r["volume_um3"])) for r in read] == [("a, b", 1 / 3), ("c", 2e12)]
    assert json.loads((tmp_path / "t.json").read_text()) == rows


def test_no_cell_is_a_formula(tmp_path):
    texts = ["=1+1", "+a", "-a", "@a", "\tx", "a=b"]
    write_table([{"t": t, "n": -1.5} for t in texts], tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        read = [(row["t"], row["n"]) for row in csv.DictReader(file)]
    assert read == [*((f"'{t}", "-1.5") for t in texts[:-1]), ("a=b", "-1.5")]


def test_other_tables_are_refused(tmp_path):
    with pytest.raises(FossilError, match=r"reef\.xlsx.*\.json or \.parquet.*'\.xlsx'"):
        write_table([], tmp_path / "reef.xlsx")
