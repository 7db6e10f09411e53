"""Stacks as OME-Zarr pyramids: same pixels, halved levels, stopped and continued."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import zarr
from PIL import Image

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.exchange import stack_convert
from napari_fossiledit.exchange.stack_convert import (
    convert_stack,
    plan_conversion,
    pyramid_shapes,
)
from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.progress import Job, Progress
from napari_fossiledit.stacks import SectionStack, open_stack
from napari_fossiledit.stacks.ome_zarr import ATTRIBUTE
from napari_fossiledit.stacks.pixels import area_mean
from napari_fossiledit.stacks.reduce import reduced
from tests.full_disk import full_disk

GEOMETRY = StackGeometry(72.7, 500)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_convert, "_CHUNK", 16)


@pytest.fixture(params=["RGB", "L"])
def stack(tmp_path: Path, request: pytest.FixtureRequest) -> SectionStack:
    rng = np.random.default_rng(5)
    folder = tmp_path / "rock"
    folder.mkdir()
    for z in range(5):
        pixels = rng.integers(0, 256, (37, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(request.param).save(folder / f"r{z}.png")
    return open_stack(folder)


def check_same(stack: SectionStack, target: Path) -> None:
    again = open_stack(target)
    assert (again.names, again.shape, again.dtype) == (stack.names, stack.shape, stack.dtype)
    np.testing.assert_array_equal(again.lazy().compute(), stack.lazy().compute())
    assert not (target / "conversion.json").exists()


def test_pixels_names_and_sizes_survive(stack: SectionStack, tmp_path: Path) -> None:
    target = tmp_path / "images.zarr"
    reports: list[Progress] = []
    convert_stack(stack, target, GEOMETRY, job=Job(reports.append))
    check_same(stack, target)
    found = open_stack(target).suggested_geometry()
    assert found is not None
    assert (found.pixel_size_um, found.slice_spacing_um) == (72.7, 500)
    assert (reports[-1].done, reports[-1].total) == (5, 5)


def test_levels_are_area_means(stack: SectionStack, tmp_path: Path) -> None:
    target = tmp_path / "images.zarr"
    convert_stack(stack, target, GEOMETRY)
    converted = open_stack(target)
    sizes = [level.shape[1:3] for level in converted.levels()]
    assert sizes == [(37, 50), (19, 25), (10, 13)]
    halved = area_mean(stack.read(3), 2)
    np.testing.assert_array_equal(converted.levels()[1][3].compute(), halved)
    np.testing.assert_array_equal(converted.levels()[2][3].compute(), area_mean(halved, 2))
    copy = reduced(converted, longest=20)
    assert copy.factors == (1, 4, 4)
    np.testing.assert_array_equal(copy.array[3], area_mean(halved, 2))


def test_layout_is_ome_zarr_05(stack: SectionStack, tmp_path: Path) -> None:
    target = tmp_path / "images.zarr"
    convert_stack(stack, target, GEOMETRY)
    image = json.loads((target / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
    assert "".join(axis["name"] for axis in image["axes"]) == ("zyxc" if stack.rgb else "zyx")
    scale, translation = image["datasets"][1]["coordinateTransformations"]
    assert scale["scale"][:3] == pytest.approx([500, 145.4, 145.4])
    assert translation["translation"][:3] == pytest.approx([0, 36.35, 36.35])
    finest = zarr.open_group(target, mode="r")["0"]
    assert finest.chunks == (1, 16, 16, 3)[: finest.ndim]
    assert len(list((target / "0" / "c").rglob("*.*"))) == 0
    assert sum(p.is_file() for p in (target / "0" / "c").rglob("*")) == 5


def test_it_goes_on_where_it_was_stopped(stack: SectionStack, tmp_path: Path) -> None:
    target = tmp_path / "images.zarr"
    asked = iter([False, False, True])
    with pytest.raises(CancelledError):
        convert_stack(stack, target, GEOMETRY, job=Job(cancelled=lambda: next(asked)))
    with pytest.raises(FossilError, match="was not finished"):
        open_stack(target)
    assert plan_conversion(stack, target).remaining == (2, 3, 4)
    reports: list[Progress] = []
    convert_stack(stack, target, GEOMETRY, job=Job(reports.append))
    assert reports[-1].total == 3
    check_same(stack, target)
    convert_stack(stack, target, GEOMETRY, job=Job(cancelled=lambda: True))


@pytest.mark.parametrize(("kept", "left"), [({"slices": "1,3-4"}, [0, 2]), ({"done": 3}, [3, 4])])
def test_slices_are_finished_in_any_order(
    stack: SectionStack, tmp_path: Path, kept: dict, left: list[int]
) -> None:
    target = tmp_path / "images.zarr"
    convert_stack(stack, target, GEOMETRY)
    group = zarr.open_group(str(target), mode="r+")
    group.attrs[ATTRIBUTE] = {**group.attrs[ATTRIBUTE], "complete": False}
    (target / "conversion.json").write_text(json.dumps(kept))
    written: list[int] = []
    convert_stack(stack, target, GEOMETRY, written=lambda z, _: written.append(z))
    assert written == left
    check_same(stack, target)


@pytest.mark.parametrize(
    ("complete", "left"),
    [
        (None, "zarr.0123.partial"),
        (None, ".images.zarr.estimate/zarr.json"),
        (False, "0/c/1/0/0.0123.partial"),
        (False, "conversion.json"),
        (True, "conversion.json"),
    ],
)
def test_what_a_killed_run_leaves_is_ended(
    stack: SectionStack, tmp_path: Path, complete: bool | None, left: str
) -> None:
    target = tmp_path / "images.zarr"
    if complete is None:
        target.mkdir()
    else:
        convert_stack(stack, target, GEOMETRY)
        group = zarr.open_group(str(target), mode="r+")
        group.attrs[ATTRIBUTE] = {**group.attrs[ATTRIBUTE], "complete": complete}
    (target / left).parent.mkdir(parents=True, exist_ok=True)
    (target / left).write_text('{"done": 5}')
    convert_stack(stack, target, GEOMETRY)
    check_same(stack, target)
    assert not (target / left).exists()


def test_a_full_disk_is_told_and_nothing_is_lost(
    stack: SectionStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "images.zarr"
    plan = plan_conversion(stack, target)
    # Within a shard of a slice in the middle.
    full_disk(monkeypatch, plan.needed_bytes * 3 // 5)
    with pytest.raises(FossilError, match="The disk is full"):
        convert_stack(stack, target, GEOMETRY, plan=plan)
    monkeypatch.undo()
    monkeypatch.setattr(stack_convert, "_CHUNK", 16)
    assert not [*target.rglob("*.partial")]
    left = plan_conversion(stack, target).remaining
    assert left == tuple(range(left[0], 5))
    assert 0 < left[0] < 4
    convert_stack(stack, target, GEOMETRY)
    check_same(stack, target)


def test_too_small_a_disk_is_told_before_a_byte_is_written(
    stack: SectionStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_convert.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    target = tmp_path / "images.zarr"
    with pytest.raises(FossilError, match="too small") as caught:
        convert_stack(stack, target, GEOMETRY)
    assert "GB" in (caught.value.expected or "")
    assert not target.exists()


def test_the_estimate_is_near_the_truth(stack: SectionStack, tmp_path: Path) -> None:
    target = tmp_path / "images.zarr"
    plan = plan_conversion(stack, target)
    convert_stack(stack, target, GEOMETRY)
    written = sum(p.stat().st_size for p in target.rglob("*") if p.is_file())
    assert 0.5 * written < plan.needed_bytes < 2 * written


def test_a_very_large_slice_is_written_in_bands(
    stack: SectionStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_convert, "_SHARD_BYTES", 1)
    target = tmp_path / "bands.zarr"
    convert_stack(stack, target, GEOMETRY)
    check_same(stack, target)
    assert len(list((target / "0" / "c" / "0").iterdir())) > 1


def test_other_folders_are_left_alone(stack: SectionStack, tmp_path: Path) -> None:
    target = tmp_path / "mine.zarr"
    target.mkdir()
    (target / "thesis.txt").write_text("x")
    with pytest.raises(FossilError, match=r"mine\.zarr is in the way") as caught:
        convert_stack(stack, target, GEOMETRY)
    assert caught.value.found == "other files"
    assert [p.name for p in target.iterdir()] == ["thesis.txt"]


def test_another_stack_is_not_continued(stack: SectionStack, tmp_path: Path) -> None:
    target = tmp_path / "images.zarr"
    convert_stack(stack, target, GEOMETRY)
    (stack.path / "r0.png").unlink()
    with pytest.raises(FossilError, match="another stack"):
        convert_stack(open_stack(stack.path), target, GEOMETRY)


def test_shapes_of_a_real_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_convert, "_CHUNK", 512)
    shapes = pyramid_shapes((3000, 3173, 4809, 3))
    assert shapes[-1] == (3000, 199, 301, 3)
    assert len(shapes) == 5
