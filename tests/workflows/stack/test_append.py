"""Photographs that are added to a stack later."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.params.stack import ConvertParams, NewParams
from napari_fossiledit.placement import Alignment, Placement
from napari_fossiledit.project import Project
from napari_fossiledit.stacks import open_stack
from napari_fossiledit.workflows.stack import append, convert, info, new

SHAPE = (20, 30)
MODEL = "model:m:0123456789ab"


def write(folder, name, value, shape=SHAPE):
    Image.fromarray(np.full(shape, value, np.uint8)).save(folder / name)


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "stack"
    folder.mkdir()
    for z in range(3):
        write(folder, f"s{z}.png", z)
    return folder


@pytest.fixture
def project(tmp_path, photographs):
    path = tmp_path / "a.fossil"
    new.run(path, photographs, NewParams(pixel_size=72.7, slice_spacing=500))
    with Project.open(path) as made:
        mask = Mask.from_array(np.ones(SHAPE, bool))
        made.ledger.store(MODEL, 1, [Instance(1, "archaeocyathid", mask)])
    return path


def values(project):
    with Project.open(project) as opened:
        return [int(opened.stack.read(z)[0, 0]) for z in range(opened.shape[0])]


def test_new_photographs_come_behind_and_nothing_else_changes(project, photographs):
    assert append.run(project).added == ()
    write(photographs, "s3.png", 3)
    write(photographs, "s10.png", 10)
    assert info.run(project).summary()["stack"]["added"] == ["s3.png", "s10.png"]
    with Project.open(project) as opened:
        opened.ledger.set_alignment(Alignment.of({1: Placement(1, 0)}))
    result = append.run(project)
    assert (result.added, result.slices) == (("s3.png", "s10.png"), 5)
    assert "--slices 0-4' looks whether they do" in " ".join(result.warnings)
    with Project.open(project) as opened:
        assert opened.ledger.alignment().at(4) == Placement(1, 0)
        opened.ledger.undo()
    assert values(project) == [0, 1, 2, 3, 10]
    told = info.run(project).summary()
    assert (told["stack"]["slices"], told["stack"]["added"], told["stale"]) == (5, [], [])
    assert told["sources"][0]["instances_per_slice"] == {"1": 1}
    assert append.run(project).added == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: write(f, "s0b.png", 9), r"behind s2.png.*found s0b.png before s1.png.*Rename"),
        (lambda f: (f / "s1.png").unlink(), r"found s1.png missing.*Put them back"),
        (lambda f: write(f, "s3.png", 9, (21, 30)), r"s3.png does not fit the 4 other slices"),
    ],
)
def test_what_would_move_slices_or_does_not_fit_is_refused(project, photographs, change, message):
    write(photographs, "s4.png", 4)
    change(photographs)
    before = (project / "project.json").read_bytes()
    with pytest.raises(FossilError, match=message):
        append.run(project)
    assert (project / "project.json").read_bytes() == before


def test_other_photographs_of_the_same_names_are_refused(project, photographs, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for z in range(4):
        write(other, f"s{z}.png", z, (40, 30))
    with pytest.raises(FossilError, match=r"expected 30 x 20 pixels.*found 30 x 40 pixels"):
        append.run(project, other)


def test_moving_to_a_grown_stack_advises_to_append(project, photographs, tmp_path):
    moved = photographs.rename(tmp_path / "moved")
    write(moved, "s3.png", 3)
    with pytest.raises(FossilError, match=r"stack append \S+ --stack \S+moved"):
        new.move_stack(project, moved)
    assert append.run(project, moved).added == ("s3.png",)
    assert values(project) == [0, 1, 2, 3]


def test_a_killed_run_is_ended_by_the_same_command(project, photographs, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    write(photographs, "s3.png", 3)
    with monkeypatch.context() as patch:
        patch.setattr(append, "look_at_photographs", killed)
        with pytest.raises(KeyboardInterrupt):
            append.run(project)
    append.run(project)
    with Project.open(project) as opened:
        assert [*opened.contents.known] == [0, 1, 2, 3]


def test_a_tiff_grows_by_its_pages(tmp_path):
    pixels = np.stack([np.full(SHAPE, z, np.uint8) for z in range(4)])
    tifffile.imwrite(tmp_path / "a.tif", pixels[:3], photometric="minisblack")
    new.run(
        tmp_path / "a.fossil", tmp_path / "a.tif", NewParams(pixel_size=72.7, slice_spacing=500)
    )
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack")
    assert append.run(tmp_path / "a.fossil").added == ("a.tif#3",)
    assert values(tmp_path / "a.fossil") == [0, 1, 2, 3]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_converted_copy_is_continued(project, photographs, damaged):
    convert.run(project, ConvertParams())
    for z in (3, 4):
        write(photographs, f"s{z}.png", z)
    assert info.run(project).summary()["stack"]["added"] == ["s3.png", "s4.png"]
    result = append.run(project)
    assert "'fossiledit convert' continues it" in result.warnings[-1]
    assert values(project) == [0, 1, 2, 3, 4]
    assert info.run(project).summary()["stale"] == []
    if damaged:
        whole = (photographs / "s4.png").read_bytes()
        (photographs / "s4.png").write_bytes(b"")
        assert convert.run(project, ConvertParams()).failed == (4,)
        (photographs / "s4.png").write_bytes(whole)
    convert.run(project, ConvertParams())
    copy = open_stack(project / "images.zarr")
    assert copy.names == tuple(f"s{z}.png" for z in range(5))
    assert [int(copy.read(z)[0, 0]) for z in range(5)] == [0, 1, 2, 3, 4]
    with Project.open(project) as opened:
        assert opened.stack_path == (project / "images.zarr").resolve()
        assert opened.photographs.path == photographs.resolve()
