"""Photographs that are replaced, and what was made from them before."""

import os

import numpy as np
import pytest
from PIL import Image

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.stacks import open_stack

MODEL = "model:m:0123456789ab"
SHAPE = (12, 16)


def write(path, value, **options):
    pixels = np.full((*SHAPE, 3), value, np.uint8)
    Image.fromarray(pixels).save(path, **options)


def later(path):
    """Give a file another time, as replacing it does."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "stack"
    folder.mkdir()
    for z in range(4):
        write(folder / f"s{z}.png", z)
    return folder


@pytest.fixture
def project(tmp_path, photographs):
    made = Project.create(
        tmp_path / "a.fossil",
        open_stack(photographs),
        NewParams(pixel_size=72.7, slice_spacing=500),
    )
    with made as project:
        yield project


def instance(z):
    return Instance(z, "archaeocyathid", Mask.from_array(np.ones(SHAPE, bool)))


def reopened(project):
    project.close()
    return project


def test_only_what_was_made_from_a_replaced_photograph_is_stale(project, photographs):
    project.contents.check(read_new=True)
    for source in (ANNOTATIONS, MODEL):
        for z in (0, 1):
            project.ledger.store(source, z, [instance(z)])
    write(photographs / "s1.png", 200)
    later(photographs / "s1.png")
    assert project.contents.check() == []
    assert project.contents.stale(MODEL) == project.contents.stale(ANNOTATIONS) == [1]
    assert (project.contents.read(1) == 200).all()
    project.ledger.store(MODEL, 1, [instance(1)])
    # A stroke does not make the rest of the annotations right, looking the slice through does.
    project.ledger.edit(1, put=[instance(1)])
    assert (project.contents.stale(MODEL), project.contents.stale(ANNOTATIONS)) == ([], [1])
    project.ledger.set_traced(1, None)
    assert project.contents.stale(ANNOTATIONS) == []
    # The old photograph is back.
    write(photographs / "s1.png", 1)
    reopened(project).contents.check()
    assert project.contents.stale(MODEL) == [1]


def test_the_same_pixels_in_another_file_are_the_same_photograph(project, photographs):
    project.contents.check(read_new=True)
    project.ledger.store(MODEL, 1, [instance(1)])
    write(photographs / "s1.png", 1, compress_level=0, dpi=(300, 300))
    later(photographs / "s1.png")
    assert project.contents.check() == []
    assert project.contents.stale(MODEL) == []


def test_what_was_not_read_is_known_by_its_file_until_it_is(project, photographs):
    project.contents.check(seconds=0, read_new=True)
    for z in (0, 1):
        project.ledger.store(ANNOTATIONS, z, [instance(z)])
    project.contents.read(0)
    assert project.contents.stale(ANNOTATIONS) == []
    later(photographs / "s0.png")
    write(photographs / "s1.png", 99)
    later(photographs / "s1.png")
    # Too little time to compare: neither is called stale, both are named.
    assert project.contents.check(seconds=0) == [0, 1]
    assert project.contents.stale(ANNOTATIONS) == []
    assert project.contents.check() == []
    assert project.contents.stale(ANNOTATIONS) == [1]


def test_results_that_are_older_than_the_table_are_taken_to_be_of_what_is_there(
    project, photographs
):
    project.ledger.store(MODEL, 2, [instance(2)])
    project.contents.check(read_new=True)
    assert project.ledger.contents.made_from(MODEL).keys() == {2}
    assert project.contents.stale(MODEL) == []
    write(photographs / "s2.png", 77)
    later(photographs / "s2.png")
    assert reopened(project).contents.check() == []
    assert project.contents.stale(MODEL) == [2]


def test_a_photograph_that_is_gone_or_damaged_is_another_one(project, photographs):
    project.contents.check(read_new=True)
    for z in (0, 1):
        project.ledger.store(MODEL, z, [instance(z)])
    whole = (photographs / "s0.png").read_bytes()
    (photographs / "s0.png").unlink()
    (photographs / "s1.png").write_bytes(b"no image")
    project.contents.check()
    assert project.contents.stale(MODEL) == [0, 1]
    (photographs / "s0.png").write_bytes(whole)
    project.contents.check()
    assert project.contents.stale(MODEL) == [1]


def test_a_project_open_for_reading_looks_and_writes_nothing(project, photographs):
    project.contents.check(read_new=True)
    project.ledger.store(MODEL, 1, [instance(1)])
    before = project.ledger.contents.known("")
    write(photographs / "s1.png", 200)
    later(photographs / "s1.png")
    with Project.open(project.path, read_only=True) as reading:
        reading.contents.check()
        assert reading.contents.stale(MODEL) == [1]
        assert reading.ledger.contents.known("") == before


def test_forgotten_predictions_are_not_stale(project, photographs):
    project.contents.check(read_new=True)
    project.ledger.store(MODEL, 1, [instance(1)])
    project.ledger.forget(MODEL)
    write(photographs / "s1.png", 200)
    later(photographs / "s1.png")
    project.contents.check()
    assert project.contents.stale(MODEL) == []
    assert project.ledger.contents.made_from(MODEL) == {}


def test_moved_photographs_are_compared_by_their_pixels(project, photographs, tmp_path):
    project.contents.check(read_new=True)
    for z in (0, 1):
        project.ledger.store(MODEL, z, [instance(z)])
    other = tmp_path / "other"
    other.mkdir()
    for z in range(4):
        write(other / f"s{z}.png", 50 if z == 1 else z, compress_level=1)
        later(other / f"s{z}.png")
    project.set_stack_path(other)
    project.contents.check()
    assert project.contents.stale(MODEL) == [1]


@pytest.mark.parametrize("fixture", ["folder", "tiff", "zarr", "zip"])
def test_every_kind_of_stack_tells_that_a_slice_was_rewritten(fixture, tmp_path, photographs):
    import tifffile
    import zarr

    pixels = np.stack([np.full((40, 60), z, np.uint8) for z in range(3)])
    path = tmp_path / f"a.{fixture}"
    if fixture == "folder":
        path, inside = photographs, photographs / "s1.png"
    elif fixture == "tiff":
        tifffile.imwrite(path, pixels, photometric="minisblack")
        inside = path
    elif fixture == "zarr":
        array = zarr.create_array(path, shape=pixels.shape, chunks=(1, 20, 30), dtype="u1")
        array[:] = pixels
        inside = path / "c" / "1" / "1" / "1"
    else:
        store = zarr.storage.ZipStore(path, mode="w")
        zarr.create_array(store, shape=pixels.shape, chunks=(1, 40, 60), dtype="u1")[:] = pixels
        store.close()
        inside = path
    stack = open_stack(path)
    before = [stack.stamp(z) for z in range(3)]
    later(inside)
    after = [stack.stamp(z) for z in range(3)]
    assert before[1] != after[1]
    assert (before[0] == after[0]) == (fixture in ("folder", "zarr"))
