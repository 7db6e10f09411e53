"""Making a project and telling what it holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from scipy.io import savemat

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.params.annotations import ImportParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.annotate.files import import_annotations
from napari_fossiledit.workflows.stack import append, info, new

VOXEL = {"pixel_size": 72.7, "slice_spacing": 500}


@pytest.mark.parametrize("given", VOXEL)
def test_a_voxel_size_is_never_assumed(given: str) -> None:
    with pytest.raises(ValidationError, match="Field required"):
        NewParams.model_validate({given: 1.0})


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for z in (0, 1, 3):
        Image.new("RGB", (30, 20)).save(folder / f"s{z}.png", dpi=(254, 254))
    return folder


@pytest.mark.parametrize("name", ["a:b", ".cup", "=cup", "cup\n"])
def test_classes_have_plain_names(name: str) -> None:
    with pytest.raises(ValidationError, match="a name of 1 to 64 characters"):
        NewParams(**VOXEL, classes=("archaeocyathid", name))
    with pytest.raises(ValidationError, match="classes of different names"):
        NewParams(**VOXEL, classes=("cup", "cup"))


def test_a_new_project_is_told_with_what_is_odd(photographs: Path, tmp_path: Path) -> None:
    result = new.run(tmp_path / "p.fossil", photographs, NewParams(**VOXEL))
    summary = json.loads(json.dumps(result.summary()))
    assert summary["shape"] == [3, 20, 30, 3]
    assert summary["voxel_size_um"] == [500.0, 72.7, 72.7]
    text = " ".join(summary["warnings"])
    assert "pixel size is 72.7 um, but the files say 100 um" in text
    assert len(summary["warnings"]) == 2


def test_positions_of_slices_are_stated_in_a_file(photographs: Path, tmp_path: Path) -> None:
    project, file = tmp_path / "p.fossil", tmp_path / "z.csv"
    new.run(project, photographs, NewParams(**VOXEL))
    file.write_text("slice,um\n0,100\n1,500\n2,1300\n")
    assert new.set_positions(project, file).voxel_size_um == (600.0, 72.7, 72.7)
    with Project.open(project) as opened:
        assert opened.geometry.z_positions_um == (0, 400, 1200)
    Image.new("RGB", (30, 20)).save(photographs / "s4.png", dpi=(254, 254))
    assert "lie 600 um apart" in append.run(project).warnings[-1]
    with Project.open(project) as opened:
        assert opened.geometry.z_um(3) == 1800
    for text, message in (("1\n2\n3\nx\n", "a number in line 4; found x"), ("1\n2\n", "found 2")):
        file.write_text(text)
        with pytest.raises(FossilError, match=message):
            new.set_positions(project, file)


def test_outlines_make_a_project_without_photographs(tmp_path: Path) -> None:
    outlines = np.empty((1, 1), dtype=object)
    outlines[0, 0] = np.empty((1, 3), dtype=object)
    outlines[0, 0][0, :2] = [np.empty((0, 0))] * 2
    outlines[0, 0][0, 2] = np.array([[10.0, 5, 1], [20, 5, 1], [20, 15, 1], [10, 15, 1]])
    savemat(tmp_path / "outers.mat", {"outers": outlines})
    path = tmp_path / "p.fossil"
    result = new.run(path, tmp_path / "outers.mat", NewParams(**VOXEL))
    assert (result.kind, result.shape) == ("blank", (3, 20, 25))
    import_annotations(path, ImportParams(file=tmp_path / "outers.mat"))
    (tmp_path / "outers.mat").unlink()
    with Project.open(path) as project:
        assert not project.stack.read(2).any()
        assert project.stack.lazy().shape == (3, 20, 25)
        assert [(i.slice, i.mask.area) for i in project.ledger.instances("annotations")] == [
            (2, 100)
        ]
    assert info.run(path).summary()["stack"]["found"]


def test_a_failed_start_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FossilError):
        new.run(tmp_path / "p.fossil", tmp_path / "nowhere", NewParams(**VOXEL))
    assert list(tmp_path.iterdir()) == []


def test_moved_photographs(photographs: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.fossil"
    new.run(path, photographs, NewParams(**VOXEL))
    photographs.rename(tmp_path / "moved")
    assert not info.run(path).summary()["stack"]["found"]
    assert new.move_stack(path, tmp_path / "moved").shape == (3, 20, 30, 3)
    assert info.run(path).summary()["stack"]["found"]


def test_an_overview_is_json(photographs: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.fossil"
    new.run(path, photographs, NewParams(pixel_size=10, slice_spacing=20))
    mask = Mask.from_array(np.ones((20, 30), dtype=bool))
    with Project.open(path) as project:
        project.update(pinned_slices=(2,))
        body = Instance(0, "archaeocyathid", mask, id=-1)
        cavity = replace(body, part=Part.CAVITY, parent=-1, id=-2)
        # A body of two pieces, and one with a cavity: two instances are painted.
        pieces = replace(body, mask=Mask.from_array(np.eye(20, 30, dtype=bool)[:, ::-1]), id=-3)
        project.ledger.store("annotations", 0, [body, cavity, pieces])
        project.ledger.store("annotations", 1, [])
        project.ledger.set_traced(0, None)
        project.ledger.set_traced(1, mask)
        folder = project.model_folder("reef")
        folder.mkdir(parents=True)
        (folder / "model.json").write_text("{}")
        with project.ledger.recorded("train", {}):
            pass
    before = sorted(f.name for f in path.iterdir())
    found = json.loads(json.dumps(info.run(path).summary(), allow_nan=False))
    assert found["geometry"] == {
        "pixel_size_um": 10.0,
        "slice_spacing_um": 20.0,
        "z_positions_um": None,
        "z_direction": "into",
    }
    assert found["stack"]["shape"] == [3, 20, 30, 3]
    assert found["sources"] == [
        {
            "name": "annotations",
            "slices": "0-1",
            "instances": 2,
            "cavities": 1,
            "instances_per_slice": {"0": 2, "1": 0},
            "classes": ["archaeocyathid"],
            "identified": False,
        }
    ]
    assert found["traced"] == {"slices": "0-1", "partly": "1"}
    assert (found["models"], found["pinned_slices"]) == (["reef"], "2")
    assert [(r["kind"], r["status"]) for r in found["runs"]] == [("train", "done")]
    assert set(found["bytes"]) >= set(before)
