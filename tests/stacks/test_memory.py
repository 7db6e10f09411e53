"""What stays in memory, how long opening takes, and copies that fit."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.exchange.stack_convert import plan_conversion
from napari_fossiledit.progress import Job, Progress
from napari_fossiledit.stacks import StackRecord, find_warnings, open_stack
from napari_fossiledit.stacks import folder as folder_module
from napari_fossiledit.stacks import pixels as pixels_module
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.stacks.cache import SliceCache
from napari_fossiledit.stacks.folder import FolderStack
from napari_fossiledit.stacks.pixels import area_mean
from napari_fossiledit.stacks.reduce import display_levels, reduced, reduction_factors

SLICE = np.zeros((10, 10), np.uint8)


def test_cache_drops_the_slice_that_waited_longest() -> None:
    cache = SliceCache(300)
    for z in range(3):
        cache.put(z, SLICE)
    cache.get(0)
    cache.put(3, SLICE)
    assert [cache.get(z) is not None for z in range(4)] == [True, False, True, True]
    assert cache.nbytes == 300


def test_cache_counts_a_slice_once_and_refuses_what_is_too_large() -> None:
    cache = SliceCache(250)
    cache.put(0, SLICE)
    cache.put(0, SLICE)
    cache.put(1, np.zeros((20, 20), np.uint8))
    assert cache.nbytes == 100
    assert cache.get(1) is None
    cache.clear()
    assert cache.nbytes == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    for z in range(7):
        Image.fromarray(rng.integers(0, 255, (30, 50, 3), dtype=np.uint8)).save(
            tmp_path / f"{z}.png"
        )
    return tmp_path


def test_3000_slices_open_without_a_look_into_each(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    links, looked = tmp_path_factory.mktemp("links"), []
    for z in range(3000):
        (links / f"{z:04d}.png").symlink_to(folder / "0.png")
    read = folder_module.read_header
    monkeypatch.setattr(
        folder_module, "read_header", lambda path: looked.append(path) or read(path)
    )
    checked = open_stack(links)
    assert (len(checked), len(looked)) == (3000, 3000)
    checked.lazy()
    looked.clear()
    # Of this process alone: what else runs on the machine does not count.
    start = time.process_time()
    stack = open_stack(links, expected=checked.record())
    lazy = stack.lazy()
    assert time.process_time() - start < 0.5
    assert looked == []
    np.testing.assert_array_equal(lazy[2999].compute(), stack.read(0))


def test_stepping_keeps_no_more_than_the_cache(folder: Path) -> None:
    record = open_stack(folder).record()
    stack = FolderStack(record, SliceCache(2 * 30 * 50 * 3))
    lazy = stack.lazy()
    for z in [0, 1, 2, 3, 4, 5, 6, 0]:
        np.asarray(lazy[z])
    assert stack.cache.nbytes == 2 * 30 * 50 * 3


@pytest.mark.real_data
def test_a_real_slice_takes_its_size_and_little_more(shared_data: Path) -> None:
    process = psutil.Process()
    stack = open_stack(shared_data / "labrador" / "labrador_r02103406.jpg")
    assert stack.shape == (1, 3173, 4809, 3)
    before = process.memory_info().rss
    assert stack.read(0).nbytes == 3173 * 4809 * 3
    assert process.memory_info().rss - before < 3 * stack.read(0).nbytes
    stack.close()


def test_reduced_copy_is_the_mean_of_middle_slices(folder: Path) -> None:
    stack = open_stack(folder)
    reports: list[Progress] = []
    copy = reduced(stack, longest=5, job=Job(reports.append))
    assert copy.factors == (2, 10, 10)
    assert copy.array.shape == (4, 3, 5, 3)
    for z, middle in enumerate([0, 2, 4, 6]):
        np.testing.assert_array_equal(copy.array[z], area_mean(stack.read(middle), 10))
    assert (reports[-1].done, reports[-1].total) == (4, 4)


def test_reducing_can_be_cancelled(folder: Path) -> None:
    with pytest.raises(CancelledError):
        reduced(open_stack(folder), job=Job(cancelled=lambda: True))


@pytest.mark.parametrize(
    ("shape", "longest"), [((3000, 3173, 4809, 3), 512), ((5000, 64, 64), 512), ((1, 1, 1), 9)]
)
@pytest.mark.parametrize("budget", [256 * 1024**2, 1000])
@pytest.mark.parametrize("powers", [False, True])
def test_factors_hold_their_bounds(
    shape: tuple[int, ...], longest: int, budget: int, powers: bool
) -> None:
    factors = reduction_factors(shape, longest, budget, powers)
    copy = [-(-n // f) for n, f in zip(shape[:3], factors, strict=True)]
    assert max(copy) <= longest
    assert np.prod(copy) * np.prod(shape[3:]) <= budget
    assert not powers or factors[1].bit_count() == 1


def huge(shape: tuple[int, int, int]) -> BlankStack:
    return BlankStack.of_shape(Path("nothing.mat"), shape)


def test_large_stacks_get_a_small_last_level_for_3d() -> None:
    full, overview = display_levels(huge((3000, 3000, 4000)))
    assert full.shape == (3000, 3000, 4000)
    assert max(overview.shape) <= 256
    assert overview[-1, -1, -1].compute() == 0


def test_small_stacks_are_shown_as_they_are() -> None:
    assert len(display_levels(huge((12, 320, 320)))) == 1


def test_gigantic_slices_are_told() -> None:
    (told,) = find_warnings(huge((1, 20_000, 20_000)))
    assert told == "A slice has 400 megapixels; reading one takes about 0.8 GB of memory."
    assert find_warnings(huge((1, 5000, 5000))) == []


def test_a_slice_that_memory_does_not_hold_is_refused(tmp_path: Path) -> None:
    huge_stack = huge((1, 3_000_000, 3_000_000))
    with pytest.raises(FossilError, match=r"memory does not suffice for slice 0") as caught:
        huge_stack.read(0)
    assert caught.value.expected == "about 18000.0 GB free"
    with pytest.raises(FossilError, match=r"memory does not suffice for converting"):
        plan_conversion(huge_stack, tmp_path / "a.zarr")


def test_reducing_in_strips_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 21, 3), dtype=np.uint8)
    whole = area_mean(pixels, 3)
    monkeypatch.setattr(pixels_module, "_STRIP_PIXELS", 200)
    np.testing.assert_array_equal(area_mean(pixels, 3), whole)


def test_record_says_what_slices_look_like() -> None:
    record = StackRecord(
        kind="folder", path=Path("a"), names=("0.png",), shape=(1, 2, 3, 3), dtype="uint8", rgb=True
    )
    assert str(record.format) == "3 x 2 pixels, RGB, uint8"
