"""Mesh files and tables are read back by trimesh and csv."""

import csv
import json

import numpy as np
import pytest
import trimesh

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.meshes import SpecimenMesh, colour, write_mesh, write_scene
from napari_fossiledit.exchange.tables import write_table
from napari_fossiledit.params.reconstruct import MeshFormat


@pytest.fixture
def mesh():
    """A ball of 1000 um around (x, y, z) = (1000, 2000, 3000)."""
    ball = trimesh.creation.icosphere(subdivisions=2, radius=1000.0)
    ball.apply_translation([1000, 2000, 3000])
    return SpecimenMesh(7, "archaeocyathid_007", ball.vertices[:, ::-1], ball.faces)


@pytest.mark.parametrize("file_format", MeshFormat)
def test_every_format_keeps_shape_place_and_handedness(tmp_path, mesh, file_format):
    path = tmp_path / f"ball.{file_format}"
    write_mesh(mesh, path, file_format)
    read = trimesh.load_mesh(path)
    expected = trimesh.Trimesh(mesh.vertices[:, ::-1], mesh.faces)
    assert read.is_watertight
    assert read.volume == pytest.approx(expected.volume, rel=1e-6)
    assert read.centroid == pytest.approx([1000, 2000, 3000], abs=0.01)


@pytest.mark.parametrize("file_format", MeshFormat)
def test_every_format_states_its_unit_and_name(tmp_path, mesh, file_format):
    path = tmp_path / f"ball.{file_format}"
    write_mesh(mesh, path, file_format)
    data = path.read_bytes()
    assert b"archaeocyathid_007" in data
    assert b"unit um" in data or b'"unit":"um"' in data


def test_ply_has_the_colour_of_the_specimen(tmp_path, mesh):
    write_mesh(mesh, tmp_path / "ball.ply", MeshFormat.PLY)
    read = trimesh.load(tmp_path / "ball.ply")
    assert np.all(read.visual.vertex_colors[:, :3] == colour(7))


def test_a_scene_holds_all_specimens_by_name(tmp_path, mesh):
    other = SpecimenMesh(8, "archaeocyathid_008", mesh.vertices + 5000, mesh.faces)
    write_scene([mesh, other], tmp_path / "reef.glb")
    scene = trimesh.load(tmp_path / "reef.glb")
    assert set(scene.geometry) == {"archaeocyathid_007", "archaeocyathid_008"}
    colours = {g.visual.material.baseColorFactor.tolist()[0] for g in scene.geometry.values()}
    assert colours == {colour(7)[0], colour(8)[0]}


def test_neighbouring_specimens_look_unlike():
    table = np.array([colour(n) for n in range(30)])
    assert np.abs(np.diff(table, axis=0)).max(axis=1).min() > 40


def test_an_empty_mesh_is_refused_and_nothing_is_left(tmp_path, mesh):
    empty = SpecimenMesh(1, "nothing", np.zeros((0, 3)), np.zeros((0, 3), dtype=int))
    with pytest.raises(FossilError, match=r"empty\.stl.*closed surface"):
        write_mesh(empty, tmp_path / "empty.stl", MeshFormat.STL)
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
    with pytest.raises(FossilError, match=r"reef\.xlsx.*\.csv or \.json.*'\.xlsx'"):
        write_table([], tmp_path / "reef.xlsx")
