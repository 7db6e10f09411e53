"""Converting the photographs of a project, which then does without them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.params.stack import ConvertParams, NewParams
from napari_fossiledit.progress import Job
from napari_fossiledit.project import Project
from napari_fossiledit.project.contents import ContentTable
from napari_fossiledit.stacks import open_stack
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.workflows.stack import convert


@pytest.fixture
def project(tmp_path: Path) -> Path:
    photographs = tmp_path / "rock"
    photographs.mkdir()
    for z in range(3):
        pixels = np.random.default_rng(z).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photographs / f"{z}.png")
    path = tmp_path / "rock.fossil"
    Project.create(
        path, open_stack(photographs), NewParams(pixel_size=72.7, slice_spacing=500)
    ).close()
    return path


def test_the_original_photographs_are_no_longer_needed(project: Path) -> None:
    with Project.open(project) as before:
        expected = before.stack.lazy().compute()
        names = before.names
    assert convert.run(project).summary()["used"]
    shutil.rmtree(project.parent / "rock")
    moved = project.rename(project.parent / "moved.fossil")
    with Project.open(moved) as after:
        assert (after.stack.kind, after.names) == ("zarr", names)
        np.testing.assert_array_equal(after.stack.lazy().compute(), expected)
    assert convert.run(moved).slices == 3


def test_a_copy_need_not_be_used(project: Path) -> None:
    result = convert.run(project, ConvertParams(use=False))
    assert not result.used
    with Project.open(project) as after:
        assert after.stack.kind == "folder"
    assert open_stack(result.path).names == ("0.png", "1.png", "2.png")


def test_a_cancelled_conversion_leaves_the_project_as_it_was(project: Path) -> None:
    with pytest.raises(CancelledError):
        convert.run(project, job=Job(cancelled=lambda: True))
    with Project.open(project) as after:
        assert after.stack.kind == "folder"


def test_tracings_alone_cannot_be_converted(tmp_path: Path) -> None:
    path = tmp_path / "a.fossil"
    Project.create(
        path,
        BlankStack.of_shape(tmp_path / "a.mat", (2, 3, 4)),
        NewParams(pixel_size=72.7, slice_spacing=500),
    ).close()
    with pytest.raises(FossilError, match="no photographs"):
        convert.run(path)


def test_a_killed_conversion_knows_what_its_slices_are_copies_of(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ContentTable.set_made_from

    def killed(table: ContentTable, result: str, contents: dict[int, str]) -> None:
        if 1 in contents:
            raise KeyboardInterrupt
        whole(table, result, contents)

    monkeypatch.setattr(ContentTable, "set_made_from", killed)
    with pytest.raises(KeyboardInterrupt):
        convert.run(project)
    monkeypatch.undo()
    convert.run(project)
    other = np.full((20, 30, 3), 7, dtype=np.uint8)
    Image.fromarray(other).save(project.parent / "rock" / "1.png")
    assert convert.run(project).again == (1,)
    with Project.open(project) as after:
        np.testing.assert_array_equal(after.stack.read(1), other)
