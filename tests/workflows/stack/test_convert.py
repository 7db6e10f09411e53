"""Converting the photographs of a project, which then does without them."""

from __future__ import annotations

import shutil
from pathlib import Path

import dask
import numpy as np
import pytest
from PIL import Image

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.exchange.stack_convert import convert_stack, verifier
from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.jobs.spread import Outcome, WorkerEndedError
from napari_fossiledit.params.stack import ConvertParams, NewParams
from napari_fossiledit.progress import Job
from napari_fossiledit.project import Project
from napari_fossiledit.project.contents import ContentTable
from napari_fossiledit.stacks import open_stack
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.workflows.stack import convert, info


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


def damage(file: Path, at: float = 0.5) -> None:
    data = bytearray(file.read_bytes())
    data[int(len(data) * at)] ^= 1
    file.write_bytes(data)


def test_a_slice_that_cannot_be_read_is_left_out_and_tried_again(project: Path) -> None:
    file = project.parent / "rock" / "1.png"
    whole = file.read_bytes()
    file.write_bytes(whole[:300])
    result = convert.run(project)
    assert (result.failed, result.exit_code) == ((1,), 3)
    assert str(file.name) in result.notes[0]
    found = convert.verify(project)
    assert (found.slices, found.wrong, found.exit_code) == (2, (), 0)
    assert "slices 1 are missing" in found.notes[0]
    lacks = f"The converted copy lacks slices 1: 'fossiledit convert {project}' copies them"
    assert info.run(project).summary()["notes"][-1].startswith(lacks)
    with Project.open(project) as after:
        assert after.stack.kind == "zarr"
        after.stack.read(2)
        for read in (after.stack.read, lambda z: after.stack.levels()[0][z].compute()):
            with pytest.raises(FossilError, match=r"Slice 1 \(1\.png\) .* is missing, because"):
                read(1)
        assert "slices 1 are missing" in open_stack(after.stack.path).warnings()[0]
    file.write_bytes(whole)
    result = convert.run(project)
    assert (result.failed, result.exit_code) == ((), 0)
    assert result.estimate.startswith("1 slice to copy")
    assert info.run(project).summary()["notes"] == []
    with Project.open(project) as after:
        np.testing.assert_array_equal(after.stack.read(1), np.asarray(Image.open(file)))


def test_a_slice_that_ends_its_workers_is_left_out(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spread(make, args, items, **_):
        handle = make(*args)
        for z in items:
            ended = WorkerEndedError("The process ended each time") if z == 1 else None
            yield Outcome(z, error=ended) if ended else Outcome(z, handle(z))

    monkeypatch.setattr(convert, "spread", spread)
    result = convert.run(project)
    assert (result.failed, result.notes) == ((1,), ("The process ended each time.",))


def test_no_slice_at_all_is_an_error(project: Path) -> None:
    for file in (project.parent / "rock").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(FossilError, match=r"\.png is not an image"):
        convert.run(project)


@pytest.mark.parametrize("at", [0.5, 0.999])
def test_a_flipped_bit_is_named_and_written_anew(project: Path, at: float) -> None:
    convert.run(project)
    with Project.open(project) as before:
        expected = before.stack.read(2)
        (shard,) = before.photos._files(2)
    damage(shard, at)
    with Project.open(project) as open_project:
        for read in (
            open_project.stack.read,
            lambda z: open_project.stack.levels()[0][z].compute(),
        ):
            with pytest.raises(FossilError, match=r"Slice 2 \(2\.png\).* cannot be read"):
                read(2)
    found = convert.verify(project)
    assert (found.slices, found.wrong, found.exit_code) == (3, (2,), 3)
    assert "will write them anew" in found.notes[-1]
    assert convert.run(project).again == (2,)
    assert convert.verify(project).wrong == ()
    with Project.open(project) as after:
        np.testing.assert_array_equal(after.stack.read(2), expected)


def test_other_pixels_than_the_photograph_had_are_found(project: Path) -> None:
    convert.run(project)
    shutil.rmtree(project.parent / "rock")
    with Project.open(project) as before:
        (one,), (two,) = before.photos._files(1), before.photos._files(2)
    shutil.copyfile(one, two)
    found = convert.verify(project)
    assert found.wrong == (2,)
    assert found.notes[0] == "Slice 2 has other pixels than its photograph had."
    assert "need their photographs" in found.notes[1]


def test_a_copy_is_read_back_in_the_thread_that_has_the_slice(tmp_path: Path) -> None:
    (tmp_path / "rock").mkdir()
    Image.new("L", (520, 4), 7).save(tmp_path / "rock" / "0.png")
    convert_stack(open_stack(tmp_path / "rock"), tmp_path / "copy", StackGeometry(1, 1))
    # As in a worker, where that would send open files to another one.
    with dask.config.set(scheduler=lambda *_, **__: pytest.fail("a scheduler was asked")):
        assert verifier(tmp_path / "copy")(0).error is None


def test_an_estimate_writes_nothing(project: Path) -> None:
    result = convert.run(project, ConvertParams(estimate=True))
    assert result.estimate.startswith("3 slices to copy: about ")
    assert (result.used, sorted(p.name for p in project.iterdir() if ".zarr" in p.name)) == (
        False,
        [".images.zarr.lock"],
    )


def test_two_conversions_at_once_are_refused(project: Path) -> None:
    with (
        Project.open(project) as other,
        other.converting(),
        pytest.raises(FossilError, match="being converted by another process"),
    ):
        convert.run(project)
