"""Label images: folders, multi-page files, and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
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


def read(path: Path, target: Target = TARGET, **options: object) -> tuple[list, LabelImages]:
    file = LabelImages(path, target, "shell", **options)
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
    slices, file = read(tmp_path / "one.png", Target(("photo.jpg",), SHAPE), split=False)
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


COLOURS = np.random.default_rng(0).integers(0, 9, (*SHAPE, 3), np.uint8)
BAD = [
    (np.zeros((5, 6), np.uint8), "expected 30 x 24 pixels; found 6 x 5 pixels"),
    (COLOURS, "one whole number a pixel; found a colour image"),
    (np.full(SHAPE, -3, np.int16), r"negative label.*found -3"),
    (np.full(SHAPE, 0.5, np.float32), "one whole number a pixel; found float32"),
    (np.full(SHAPE, np.nan, np.float32), "one whole number a pixel; found float32"),
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
    with pytest.raises(FossilError, match=r"labels\.tif is not an image; expected a PNG"):
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
    with pytest.raises(FossilError, match="holds no images; expected PNG, TIFF files"):
        read(tmp_path)


def test_order_of_the_user_is_kept(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "l.tif", volume(), photometric="minisblack")
    slices, file = read(tmp_path / "l.tif", Target(NAMES, SHAPE, (2, 0, 1)))
    check(slices, volume()[[1, 2, 0]])
    assert file.assumptions == ["images laid on slices in order, beginning with l.tif#0 on s10.jpg"]
    for n, page in enumerate(volume()):
        Image.fromarray(page).save(tmp_path / f"s{(1, 2, 10)[n]:02d}.png")
    (tmp_path / "l.tif").unlink()
    with pytest.raises(FossilError, match=r"2,0,1 means nothing.*have the names of slices"):
        read(tmp_path, Target(NAMES, SHAPE, (2, 0, 1)))


@pytest.mark.parametrize(
    ("photographs", "labels"),
    [
        (("img.png", "img1.png", "img2.png"), ("lab.png", "lab1.png", "lab2.png")),
        (("s1.png", "s2.png", "s3.png"), ("Mask_1.png", "mask_2.png", "Mask_3.png")),
        (("z1mm.png", "z1.25mm.png", "z2mm.png"), ("d1mm.png", "d1.25mm.png", "d2mm.png")),
    ],
)
def test_labels_have_the_order_of_photographs(
    tmp_path: Path, photographs: tuple[str, ...], labels: tuple[str, ...]
) -> None:
    for name, page in zip(labels, volume(), strict=True):
        Image.fromarray(page).save(tmp_path / name)
    check(read(tmp_path, Target(photographs, SHAPE))[0], volume())


def test_hidden_files_of_a_folder_are_told(tmp_path: Path) -> None:
    for n, page in enumerate(volume()):
        tifffile.imwrite(tmp_path / f"l{n}.tif", page)
    (tmp_path / "._l0.tif").write_bytes(b"\0\5\x16\7" + b"\0" * 80)
    slices, file = read(tmp_path)
    check(slices, volume())
    assert file.assumptions[0] == "left out of the folder: 1 hidden (._l0.tif)"


def test_a_slice_with_two_images_gets_none(tmp_path: Path) -> None:
    for name in ("s01.png", "s01.tif", "s02.png"):
        Image.fromarray(volume()[0]).save(tmp_path / name)
    slices, file = read(tmp_path)
    assert [s.z for s in slices] == [1]
    assert {p.where for p in file.problems} == {"image s01.png", "image s01.tif"}
    assert {p.reason for p in file.problems} == {"slice 0 has several images"}


def test_names_matched_by_their_ends_are_told(tmp_path: Path) -> None:
    for name, page in zip(("a7f-s02.png", "b8e-s01.png"), volume()[[1, 0]], strict=True):
        Image.fromarray(page).save(tmp_path / name)
    slices, file = read(tmp_path)
    check(slices, volume()[:2])
    (told,) = file.assumptions
    assert told.startswith("images matched by the end of their names: 2, e.g. a7f-s02.png to slice")


def test_labels_are_turned_as_photographs_are(tmp_path: Path) -> None:
    turned = np.rot90(volume()[0], 2)
    tag = [(274, "H", 1, 3, True)]
    tifffile.imwrite(tmp_path / "s01.tif", turned, photometric="minisblack", extratags=tag)
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(np.rot90(volume()[1], 2)).save(tmp_path / "s02.png", exif=exif)
    check(read(tmp_path)[0], volume()[:2])


def test_pages_of_another_compression_are_labels(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "l.tif") as writer:
        for page, compression in zip(volume(), (None, "zlib", None), strict=True):
            writer.write(page, compression=compression, metadata=None, contiguous=False)
    check(read(tmp_path / "l.tif")[0], volume())


def test_a_cut_off_volume_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "l.tif", volume(), imagej=True, truncate=True)
    (tmp_path / "l.tif").write_bytes((tmp_path / "l.tif").read_bytes()[:-9])
    with pytest.raises(FossilError, match=r"l\.tif is cut off"):
        read(tmp_path / "l.tif")


@pytest.mark.parametrize(
    "stored",
    [
        volume().astype(np.float32),
        volume().astype(np.int32) - (volume() == 0),
        np.repeat(volume()[..., np.newaxis], 3, axis=-1),
        volume().astype(">i8"),
    ],
    ids=["float", "-1 for none", "grey as RGB", "int64"],
)
def test_whole_numbers_in_other_types(tmp_path: Path, stored: np.ndarray) -> None:
    photometric = "rgb" if stored.ndim == 4 else "minisblack"
    tifffile.imwrite(tmp_path / "l.tif", stored, photometric=photometric)
    slices, file = read(tmp_path / "l.tif")
    check(slices, volume())
    assert ("the value -1 means no fossil" in file.assumptions) == (stored.min() < 0)


def test_huge_values_are_renumbered_and_stay_identities(tmp_path: Path) -> None:
    labels = volume().astype(np.uint64)
    labels[labels == 300] = 2**40
    tifffile.imwrite(tmp_path / "l.tif", labels, photometric="minisblack")
    slices, file = read(tmp_path / "l.tif")
    expected = volume().astype(int)
    expected[expected == 300] = 10**9 + 1
    check(slices, expected)
    assert file.identified
    assert file.assumptions[-1] == (
        "values above 1000000000, renumbered from 1000000001 on: 1, e.g. 1099511627776"
    )


def mask_of_three() -> np.ndarray:
    mask = np.zeros((3, *SHAPE), dtype=np.uint8)
    for y, x in ((2, 2), (2, 20), (14, 2)):
        mask[:, y : y + 5, x : x + 5] = 255
    return mask


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (mask_of_three(), "the value 255 alone, in up to 3 parts of a slice, on 10% of the slices"),
        (255 - mask_of_three(), "up to 1 parts of a slice, on 90% of the slices.*invert it first"),
        (mask_of_three() > 0, "the value 1 alone, in up to 3 parts"),
    ],
)
def test_a_mask_is_no_image_of_instances(tmp_path: Path, mask: np.ndarray, found: str) -> None:
    tifffile.imwrite(tmp_path / "l.tif", mask, photometric="minisblack")
    with pytest.raises(FossilError, match=f"l.tif is a mask.*{found}"):
        read(tmp_path / "l.tif")


def test_a_mask_can_be_split_into_its_parts(tmp_path: Path) -> None:
    mask = mask_of_three()
    mask[0, 22, 29] = 255
    tifffile.imwrite(tmp_path / "l.tif", mask, photometric="minisblack")
    slices, file = read(tmp_path / "l.tif", split=True)
    assert [[i.mask.area for i in s.instances] for s in slices] == [
        [25, 25, 25, 1],
        *[[25] * 3] * 2,
    ]
    assert {i.specimen for s in slices for i in s.instances} == {None}
    assert not file.identified
    assert file.assumptions[-1] == "instances of less than 10 pixels: 1"
    slices, _ = read(tmp_path / "l.tif", split=False)
    assert [[i.mask.area for i in s.instances] for s in slices] == [[76], [75], [75]]


def test_one_specimen_in_one_part_is_no_mask(tmp_path: Path) -> None:
    labels = np.zeros((3, *SHAPE), dtype=np.uint8)
    labels[:, 3:9, 4:9] = 255
    tifffile.imwrite(tmp_path / "l.tif", labels, photometric="minisblack")
    check(read(tmp_path / "l.tif")[0], labels)
    # A value that was chosen is an id, whatever its parts.
    labels[:, 12:15, 4:9] = labels[:, 3:9, 4:9] = 7
    tifffile.imwrite(tmp_path / "l.tif", labels, photometric="minisblack")
    slices, file = read(tmp_path / "l.tif")
    check(slices, labels)
    assert file.assumptions[-1] == "the value 7 is one specimen, in up to 2 parts of a slice"


def test_a_photograph_is_no_image_of_instances(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 40, SHAPE, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "s01.png")
    with pytest.raises(FossilError, match=r"s01\.png of .* is no image of instances"):
        read(tmp_path)


def test_labels_of_an_ome_zarr(tmp_path: Path) -> None:
    path = tmp_path / "l.zarr"
    labels = zarr.open_group(path / "labels", mode="w", attributes={"ome": {"labels": ["cups"]}})
    axes = [{"name": n, "type": "space"} for n in "zyx"]
    image = {"version": "0.5", "axes": axes, "datasets": [{"path": "0"}]}
    attributes = {"ome": {"version": "0.5", "multiscales": [image], "image-label": {}}}
    labels.create_group("cups", attributes=attributes).create_array("0", data=volume())
    for inside in (path / "labels", path / "labels" / "cups"):
        check(read(inside)[0], volume())


@pytest.mark.real_data
def test_the_chloroplast_labels(shared_data: Path) -> None:
    folder = shared_data / "chloroplast"
    target = Target(tuple(f"{z:03d}.png" for z in range(10)), (1024, 1024))
    for source in ("labels", "labels_zyx.tif"):
        slices, file = read(folder / source, target)
        assert len(slices) == 10
        assert file.identified
        assert len({i.specimen for s in slices for i in s.instances}) == 34


def test_labels_of_copies_are_scaled_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "labels.tif"
    small = volume()[:, ::2, ::2]
    tifffile.imwrite(path, small, photometric="minisblack")
    _, left_out = read(path)
    assert "expected 30 x 24 pixels; found 15 x 12 pixels" in str(left_out.problems[0])
    slices, file = read(path, Target(NAMES, SHAPE, scale=True))
    check(slices, small.repeat(2, axis=1).repeat(2, axis=2))
    assert any("15 x 12 pixels, and scaled to 30 x 24" in a for a in file.assumptions)
