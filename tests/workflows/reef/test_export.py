"""Export all specimens into one file, and report them."""

import csv
import gzip
import json
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import trimesh

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.params.reconstruct import LengthUnit, LinkParams, MeshParams, ReportParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.workflows.reef import export, link, mesh, report
from tests.full_disk import full_disk

SHAPE = (6, 60, 80)
CLASSES = ("archaeocyathid", "shell")


def box(z, y0, x0, y1, x1, **fields):
    array = np.zeros(SHAPE[1:], dtype=bool)
    array[y0:y1, x0:x1] = True
    return Instance(z, fields.pop("class_name", CLASSES[0]), Mask.from_array(array), **fields)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A hollow fossil and two shells in slices 1 to 4 of a stack that counts out of the rock."""
    path = tmp_path_factory.mktemp("export") / "reef.fossil"
    params = NewParams(pixel_size=10, slice_spacing=30, z_direction="out_of", classes=CLASSES)
    with Project.create(
        path, BlankStack.of_shape(path.parent / "no.mat", SHAPE), params
    ) as project:
        for z in range(1, 5):
            found = [
                box(z, 5, 5, 35, 35, id=-1),
                box(z, 12, 12, 28, 28, id=-2, parent=-1, part=Part.CAVITY),
                *(box(z, y, 45, y + 20, 70, class_name=CLASSES[1]) for y in (5, 35)),
            ]
            project.ledger.store(ANNOTATIONS, z, found)
            project.ledger.set_traced(z, None)
    link.run(path, LinkParams(class_name="all"))
    return path


def test_a_scene_holds_what_the_files_of_each_hold(folder, tmp_path):
    files = mesh.run(folder, tmp_path / "each", MeshParams(format="ply")).files
    each = trimesh.util.concatenate([trimesh.load(file) for file in files])
    for suffix, unit, per_um in ((".glb", "m", 1e6), (".3mf", "mm", 1e3)):
        out = tmp_path / f"reef{suffix}"
        result = export.run(folder, out, MeshParams(unit="mm"))
        assert (result.holds, result.specimens, result.unit) == ("scene", 3, unit)
        scene = trimesh.load_scene(out)
        assert scene.units == {"m": "meters", "mm": "millimeter"}[unit]
        read = trimesh.util.concatenate(scene.dump()).apply_scale(per_um)
        assert read.is_watertight
        assert read.volume == pytest.approx(each.volume, rel=1e-5)
        assert read.bounds == pytest.approx(each.bounds, abs=0.01)


def test_vaxml_groups_the_specimens_by_class(folder, tmp_path):
    export.run(folder, tmp_path / "reef.vaxml", MeshParams())
    objects = ElementTree.parse(tmp_path / "reef.vaxml").getroot().findall("objects/object")
    groups = [(o.findtext("name"), o.findtext("ingroup")) for o in objects]
    assert groups == [
        ("archaeocyathid_001", CLASSES[0]),
        *((f"shell_00{n}", CLASSES[1]) for n in (1, 2)),
    ]


def test_a_label_volume_holds_the_specimens_where_they_are(folder, tmp_path):
    result = export.run(folder, tmp_path / "reef.nrrd", MeshParams(unit=LengthUnit.MM))
    said = " ".join(result.warnings)
    assert (result.holds, result.specimens, result.unit) == ("label volume", 3, "mm")
    assert "Values are specimens (archaeocyathid: their numbers; shell: their numbers + 1)." in said
    assert "the file states z the other way round, as meshes have it." in said
    head, _, packed = (tmp_path / "reef.nrrd").read_bytes().partition(b"\n\n")
    assert b"(0.01,0,0) (0,0.01,0) (0,0,-0.03)" in head
    labels = np.frombuffer(gzip.decompress(packed), "<i4").reshape(SHAPE)
    expected = np.zeros(SHAPE, int)
    expected[1:5, 5:35, 5:35] = 1
    expected[1:5, 12:28, 12:28] = 0
    expected[1:5, 5:25, 45:70] = 2
    expected[1:5, 35:55, 45:70] = 3
    assert np.array_equal(labels, expected)
    whole = export.run(folder, tmp_path / "reef.tif", MeshParams(cavities=False, unit="mm"))
    assert whole.unit == "um"
    assert "a mirror image of the fossils" in " ".join(whole.warnings)
    expected[1:5, 12:28, 12:28] = 1
    assert np.array_equal(tifffile.imread(tmp_path / "reef.tif"), expected)


def test_what_cannot_be_exported_is_told(folder, tmp_path):
    with pytest.raises(
        FossilError, match=r"reef\.dae.*a scene \(\.stl.*\.vaxml\) or a label.*\.dae"
    ):
        export.run(folder, tmp_path / "reef.dae", MeshParams())
    with pytest.raises(FossilError, match="is a part of the project"):
        export.run(folder, folder / "edits" / "reef.glb", MeshParams())
    path = tmp_path / "other.fossil"
    params = NewParams(pixel_size=10, slice_spacing=30)
    with Project.create(path, BlankStack.of_shape(tmp_path / "no.mat", SHAPE), params) as project:
        project.ledger.store(ANNOTATIONS, 0, [box(0, 5, 5, 35, 35)])
    with pytest.raises(FossilError, match=r"no specimens in annotations.*Link them first"):
        export.run(path, tmp_path / "reef.glb", MeshParams())
    with Project.open(path) as project:
        project.ledger.store(ANNOTATIONS, 2, [box(2, 5, 5, 35, 35, specimen=1)])
        project.ledger.store(ANNOTATIONS, 0, [box(0, 5, 5, 35, 35, specimen=1)])
    with pytest.raises(FossilError, match=r"no surface to write into .*slices in its midst"):
        export.run(path, tmp_path / "reef.glb", MeshParams())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.fossil"]


def test_a_report_shows_the_specimens_and_tells_where_they_come_from(folder, tmp_path, monkeypatch):
    out, files = tmp_path / "reef.html", tmp_path / "reef_files"
    # What an earlier report has written goes.
    files.mkdir()
    (files / "provenance.json").write_text(json.dumps({"files": ["slice_0001.png"]}))
    (files / "slice_0001.png").touch()
    result = report.run(folder, out, ReportParams(slices="2"))
    assert (result.specimens, result.warnings) == (3, ())
    page = out.read_text()
    assert page.count("data:image/png;base64,") == 7
    assert "http" not in page.replace("http-equiv", "")
    names = {file.name for file in files.iterdir()}
    assert names > {
        "provenance.json",
        "scene.png",
        "slice_0002.png",
        "specimens.csv",
        "volumes.png",
    }
    with (files / "specimens.csv").open(newline="") as table:
        volumes = {row["class_name"]: float(row["volume_um3"]) for row in csv.DictReader(table)}
    assert volumes == {CLASSES[0]: 900 * 4 * 3000, CLASSES[1]: 500 * 4 * 3000}
    record = json.loads((files / "provenance.json").read_text())
    assert record["methods"] == result.methods
    assert record["masks"]["slices"] == {ANNOTATIONS: "1-4"}
    assert [run["kind"] for run in record["runs"]] == ["link"]
    assert set(record["links"]) == set(CLASSES)
    assert f"Outlines of {CLASSES[0]} in neighbouring sections were joined" in record["methods"]
    for said in (
        "in 6 serial sections 30 um apart, each further out of the rock than the one before",
        "Outlines of 4 sections were annotated by hand",
        "Of 3 specimens, 3 have a known volume, from 6,000,000 to 10,800,000 um³ (median 6,000,000",
    ):
        assert said in page
    (files / "volumes.xlsx").touch()
    with pytest.raises(FossilError, match=r"reef_files cannot take .*found volumes\.xlsx"):
        report.run(folder, out, ReportParams())
    (files / "volumes.xlsx").unlink()
    before = out.stat().st_mtime_ns
    # Enough for the figures, not for the page that holds them all.
    full_disk(monkeypatch, sum(file.stat().st_size for file in files.iterdir()) + 5000)
    with pytest.raises(FossilError, match=r"(?s)reef\.html.*The disk is full"):
        report.run(folder, out, ReportParams(slices="3"))
    assert out.stat().st_mtime_ns == before
    assert {file.name for file in files.iterdir()} == names
    assert len(list(tmp_path.iterdir())) == 2


def test_specimens_without_a_volume_are_reported_without_a_picture(tmp_path):
    path = tmp_path / "reef.fossil"
    params = NewParams(pixel_size=10, slice_spacing=30, classes=CLASSES)
    Project.create(path, BlankStack.of_shape(tmp_path / "no.mat", SHAPE), params).close()
    with pytest.raises(FossilError, match=r"no specimens in .*Link them first"):
        report.run(path, tmp_path / "reef.html", ReportParams())
    with pytest.raises(FossilError, match=r"reef\.pdf cannot be written.*\.html"):
        report.run(path, tmp_path / "reef.pdf", ReportParams())
    with Project.open(path) as project:
        for z in (0, 3):
            project.ledger.store(ANNOTATIONS, z, [box(z, 5, 5, 35, 35, specimen=1)])
    result = report.run(path, tmp_path / "reef.html", ReportParams(slices="0"))
    said = " ".join(result.warnings)
    assert "1 specimens (archaeocyathid 1) have no volume and no mesh" in said
    assert "No specimen has a known volume" in said
    assert (tmp_path / "reef.html").read_text().count("data:image/png") == 5
    assert "1 specimen, 0 with a known volume" in (tmp_path / "reef.html").read_text()
