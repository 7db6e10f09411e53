"""Label images: folders, multi-page files, and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.label_images import LabelImages
from napari_fossiledit.exchange.tracings.tracing_file import Target
from napari_fossiledit.masks import Part

SHAPE = (24, 30)
NAMES = ("s01.jpg", "s02.jpg", "s10.jpg")
TARGET = Target(NAMES, SHAPE)


def volume() -> np.ndarray:
    """Two specimens through three slices, the second one drifting."""
    labels = np.zeros((3, *SHAPE), dtype=np.uint16)
    for z in range(3):
        labels[z, 2:8, 2:8] = 5
        labels[z, 12:20, 10 + z : 18 + z] = 300
    return labels


def read(path: Path, target: Target = TARGET) -> tuple[list, LabelImages]:
    file = LabelImages(path, target, "shell")
    return list(file.traced_slices()), file


def check(slices: list, expected: np.ndarray) -> None:
    assert [s.z for s in slices] == list(range(len(expected)))
    for item in slices:
        found = np.zeros(SHAPE, dtype=int)
        for instance in item.instances:
            found[instance.mask.to_array()] = instance.specimen
        assert (found == expected[item.z]).all()


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"imagej": True}, {"bigtiff": True, "tile": (16, 16)}]
)
def test_a_multi_page_tiff(tmp_path: Path, options: dict) -> None:
    path = tmp_path / "labels_zyx.tif"
    tifffile.imwrite(path, volume(), **options)
    slices, file = read(path)
    check(slices, volume())
    assert file.identified
    assert file.count == 3
    assert {i.class_name for s in slices for i in s.instances} == {"shell"}


def test_a_folder_in_natural_order(tmp_path: Path) -> None:
    for name, page in zip(("a2.tif", "a9.tif", "a10.png"), volume(), strict=True):
        if name.endswith("png"):
            Image.fromarray(page).save(tmp_path / name)
        else:
            tifffile.imwrite(tmp_path / name, page.astype(np.int32))
    (tmp_path / "notes.txt").write_text("not a label")
    check(read(tmp_path)[0], volume())


def test_names_go_before_order(tmp_path: Path) -> None:
    for name, page in zip(("s10", "s01", "s02"), volume()[[2, 0, 1]], strict=True):
        Image.fromarray(page).save(tmp_path / f"{name}.png")
    Image.fromarray(volume()[0]).save(tmp_path / "zz.png")
    slices, file = read(tmp_path)
    check(slices, volume())
    assert [str(p) for p in file.problems] == ["image zz.png: it is no slice of the stack"]


def test_pages_are_laid_on_the_chosen_slices(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "two.tif", volume()[:2], photometric="minisblack")
    slices, _ = read(tmp_path / "two.tif", Target(NAMES, SHAPE, (0, 2)))
    assert [s.z for s in slices] == [0, 2]
    with pytest.raises(FossilError, match=r"expected 3 images.*found 2"):
        read(tmp_path / "two.tif")


def test_of_a_whole_stack_the_chosen_slices_are_read(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "all.tif", volume(), photometric="minisblack")
    slices, _ = read(tmp_path / "all.tif", Target(NAMES, SHAPE, (1,)))
    assert [s.z for s in slices] == [1]


def test_a_single_image_and_its_palette(tmp_path: Path) -> None:
    image = Image.fromarray((volume()[0] > 0).astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(tmp_path / "one.png")
    slices, file = read(tmp_path / "one.png", Target(("photo.jpg",), SHAPE))
    assert slices[0].instances[0].mask.area == 36 + 64
    assert not file.identified


def test_values_counted_anew_in_each_slice_are_no_identities(tmp_path: Path) -> None:
    labels = np.zeros((3, *SHAPE), dtype=np.uint8)
    for z in range(3):
        for n in range(4):
            labels[z, 1:4, 1 + 6 * n : 4 + 6 * n] = (n + z) % 4 + 1
    tifffile.imwrite(tmp_path / "l.tif", labels, photometric="minisblack")
    assert not read(tmp_path / "l.tif")[1].identified


def test_a_part_can_be_told(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "l.tif", volume(), photometric="minisblack")
    file = LabelImages(tmp_path / "l.tif", TARGET, "shell", Part.CAVITY)
    assert {i.part for s in file.traced_slices() for i in s.instances} == {Part.CAVITY}


def test_slices_without_a_label_are_left_out(tmp_path: Path) -> None:
    labels = volume()
    labels[1] = 0
    tifffile.imwrite(tmp_path / "l.tif", labels, photometric="minisblack")
    assert [s.z for s in read(tmp_path / "l.tif")[0]] == [0, 2]


BAD = [
    (np.zeros((5, 6), np.uint8), "expected 30 x 24 pixels; found 6 x 5 pixels"),
    (np.zeros((*SHAPE, 3), np.uint8), "one whole number a pixel"),
    (np.full(SHAPE, -3, np.int16), "negative label.*found -3"),
    (np.zeros(SHAPE, np.float32), "one whole number a pixel; found float32"),
    (np.full(SHAPE, 2**32 - 1, np.uint32), "is above 2147483647"),
]


@pytest.mark.parametrize(("pixels", "found"), BAD, ids=lambda v: str(v)[:12])
def test_an_unusable_image_is_left_out_and_told(
    tmp_path: Path, pixels: np.ndarray, found: str
) -> None:
    for name, page in (("s01", volume()[0]), ("s02", pixels)):
        tifffile.imwrite(tmp_path / f"{name}.tif", page)
    if pixels.ndim == 3:
        (tmp_path / "s02.tif").unlink()
        Image.fromarray(pixels).save(tmp_path / "s02.png")
    slices, file = read(tmp_path)
    assert [s.z for s in slices] == [0]
    (problem,) = file.problems
    assert "s02" in problem.where
    with pytest.raises(FossilError, match=found):
        raise FossilError(problem.reason)


def test_a_text_named_tif_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.tif").write_text("not a picture at all")
    with pytest.raises(FossilError, match=r"labels\.tif cannot be read; expected a label image"):
        read(tmp_path / "labels.tif")


def test_a_truncated_image_is_left_out(tmp_path: Path) -> None:
    for name, page in zip(("s01", "s02"), volume(), strict=False):
        Image.fromarray(np.random.default_rng(0).integers(0, 9, SHAPE, np.uint8) * (page > 0)).save(
            tmp_path / f"{name}.png"
        )
    data = (tmp_path / "s02.png").read_bytes()
    (tmp_path / "s02.png").write_bytes(data[: len(data) // 2])
    slices, file = read(tmp_path)
    assert [s.z for s in slices] == [0]
    assert "s02.png" in str(file.problems[0])


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FossilError, match="holds no label image; expected PNG or TIFF"):
        read(tmp_path)


@pytest.mark.real_data
def test_the_chloroplast_labels(shared_data: Path) -> None:
    folder = shared_data / "chloroplast"
    target = Target(tuple(f"{z:03d}.png" for z in range(10)), (1024, 1024))
    for source in ("labels", "labels_zyx.tif"):
        slices, file = read(folder / source, target)
        assert len(slices) == 10
        assert file.identified
        assert len({i.specimen for s in slices for i in s.instances}) == 34
