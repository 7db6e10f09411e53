"""Folders of images: order, what is ignored, what is refused, what is only told."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_fossiledit.errors import FossilError
from napari_fossiledit.stacks import find_warnings, open_stack
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.stacks.listing import doubled, gap_warnings, in_order


def write(path: Path, value: int = 0, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> None:
    """An image of `size` (x, y) whose first channel is `value`."""
    colour = value if mode == "L" else (value, 0, 0, 255)[: len(mode)]
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    stack = tmp_path / "rock"
    stack.mkdir()
    for number in (1, 2, 9, 10, 11):
        write(stack / f"s{number}.png", number)
    return stack


def test_slices_come_in_natural_order(folder: Path) -> None:
    stack = open_stack(folder)
    assert stack.names == ("s1.png", "s2.png", "s9.png", "s10.png", "s11.png")
    assert (stack.kind, stack.shape, stack.dtype, stack.rgb) == (
        "folder",
        (5, 6, 8, 3),
        "uint8",
        True,
    )
    assert [int(stack.read(z)[0, 0, 0]) for z in range(len(stack))] == [1, 2, 9, 10, 11]


def test_suffixes_mix_and_what_is_left_out_is_told(folder: Path) -> None:
    write(folder / "s12.TIFF", 12)
    write(folder / "s13.jpeg", 13)
    write(folder / ".s14.png")
    (folder / "notes.txt").write_text("ground on Monday")
    (folder / "s15.png").mkdir()
    (folder / "Thumbs.db").write_bytes(b"")
    stack = open_stack(folder)
    assert stack.names[-2:] == ("s12.TIFF", "s13.jpeg")
    assert find_warnings(stack)[0] == (
        "Left out of rock: 1 x .txt, 1 x folder, 1 hidden (.s14.png)."
    )


def test_one_image_is_a_stack_of_one_slice(folder: Path) -> None:
    stack = open_stack(folder / "s9.png")
    assert (stack.kind, stack.shape, stack.names) == ("image", (1, 6, 8, 3), ("s9.png",))
    assert stack.read(0)[0, 0, 0] == 9


@pytest.mark.parametrize(
    ("size", "mode", "found"),
    [((9, 6), "RGB", "9 x 6 pixels, RGB, uint8"), ((8, 6), "L", "8 x 6 pixels, grey, uint8")],
)
def test_the_odd_slice_is_named(folder: Path, size: tuple[int, int], mode: str, found: str) -> None:
    write(folder / "s2.png", size=size, mode=mode)
    with pytest.raises(FossilError, match=r"s2\.png does not fit the 4 other slices") as caught:
        open_stack(folder)
    assert caught.value.expected == "8 x 6 pixels, RGB, uint8"
    assert caught.value.found == found


def test_first_slice_can_be_the_odd_one(folder: Path) -> None:
    write(folder / "s1.png", size=(3, 3))
    with pytest.raises(FossilError, match=r"s1\.png does not fit"):
        open_stack(folder)


def test_opaque_rgba_mixes_with_rgb_without_a_word(folder: Path) -> None:
    write(folder / "s1.png", 1, mode="RGBA")
    stack = open_stack(folder)
    assert stack.read(0).shape == (6, 8, 3)
    assert not any("transparent" in text for text in find_warnings(stack))


def test_transparent_pixels_are_told(folder: Path) -> None:
    Image.new("RGBA", (8, 6), (1, 2, 3, 0)).save(folder / "s1.png")
    assert any("s1.png is transparent in 100.0%" in t for t in find_warnings(open_stack(folder)))


def test_a_truncated_slice_spoils_only_itself(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for z in range(3):
        Image.fromarray(pixels).save(tmp_path / f"{z}.jpg")
    middle = tmp_path / "1.jpg"
    middle.write_bytes(middle.read_bytes()[:3000])
    stack = open_stack(tmp_path)
    assert find_warnings(stack) == ["1.jpg: it is cut off and cannot be read."]
    with pytest.raises(FossilError, match=r"1\.jpg cannot be read") as caught:
        stack.lazy()[1].compute()
    assert caught.value.expected == "a complete image"
    np.testing.assert_array_equal(stack.read(0), stack.read(2))


def test_text_named_tif_is_refused_at_once(folder: Path) -> None:
    (folder / "s5.tif").write_text("lost")
    with pytest.raises(FossilError, match=r"s5\.tif is not an image"):
        open_stack(folder)


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(FossilError, match="holds no images") as caught:
        open_stack(tmp_path)
    assert caught.value.found == "an empty folder"
    (tmp_path / "a.docx").touch()
    with pytest.raises(FossilError, match=r"1 x \.docx"):
        open_stack(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FossilError, match="No such file"):
        open_stack(tmp_path / "nowhere")


def test_a_record_opens_without_looking(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = open_stack(folder).record()
    assert type(record).model_validate_json(record.model_dump_json()) == record
    assert pickle.loads(pickle.dumps(record)) == record

    def fail(*_: object) -> None:
        raise AssertionError("the folder was listed")

    monkeypatch.setattr(Path, "iterdir", fail)
    moved = folder.rename(folder.parent / "moved")
    stack = open_stack(moved, expected=record)
    assert stack.path == moved
    assert stack.read(3)[0, 0, 0] == 10


def test_a_slice_that_changed_since_is_refused(folder: Path) -> None:
    record = open_stack(folder).record()
    write(folder / "s9.png", size=(5, 5))
    with pytest.raises(FossilError, match=r"Slice 2 \(s9\.png\)") as caught:
        open_stack(folder, expected=record).read(2)
    assert caught.value.found == "5 x 5 pixels, RGB, uint8"


def test_a_record_of_an_unknown_kind(folder: Path) -> None:
    record = open_stack(folder).record().model_copy(update={"kind": "hologram"})
    with pytest.raises(FossilError, match="hologram"):
        open_stack(folder, expected=record)


def test_a_blank_stack_needs_no_file(tmp_path: Path) -> None:
    blank = BlankStack.of_shape(tmp_path / "gone.mat", (3, 4, 5))
    assert open_stack(blank.path, expected=blank.record()).read(2).shape == (4, 5)


@pytest.mark.parametrize("z", [-1, 5])
def test_slices_outside_the_stack(folder: Path, z: int) -> None:
    with pytest.raises(FossilError, match=f"Slice {z} is not in") as caught:
        open_stack(folder).read(z)
    assert caught.value.expected == "0 to 4"


def test_slices_are_shared_and_so_read_only(folder: Path) -> None:
    stack = open_stack(folder)
    assert stack.read(0) is stack.read(0)
    with pytest.raises(ValueError, match="read-only"):
        stack.read(0)[0] = 1


def test_lazy_equals_read(folder: Path) -> None:
    stack = open_stack(folder)
    lazy = stack.lazy()
    assert lazy.chunks[0] == (1,) * 5
    np.testing.assert_array_equal(lazy.compute(), np.stack([stack.read(z) for z in range(5)]))
    np.testing.assert_array_equal(lazy[3, 1:4, ::2].compute(), stack.read(3)[1:4, ::2])


def test_resolution_is_offered_unless_it_means_nothing(tmp_path: Path) -> None:
    image = Image.new("L", (4, 4))
    image.save(tmp_path / "a.png", dpi=(1200, 1200))
    found = open_stack(tmp_path).suggested_geometry()
    assert found is not None
    assert found.pixel_size_um == pytest.approx(25400 / 1200, rel=1e-3)
    assert found.slice_spacing_um is None
    image.save(tmp_path / "a.png", dpi=(72, 72))
    assert open_stack(tmp_path).suggested_geometry() is None


def test_gaps_are_told_and_harmless(folder: Path) -> None:
    assert find_warnings(open_stack(folder)) == [
        "The numbering jumps from s2.png to s9.png: 6 slices may be missing."
    ]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a1", "a2", "a3"], []),
        (["r010.jpg", "r020.jpg", "r030.jpg", "r050.jpg"], ["r030.jpg to r050.jpg: 1 slice may"]),
        (["s1.jpg", "s1.tif", "s2.tif", "s3.tif", "s4.tif"], ["carry the same number"]),
        (["IMG_0113.jpg", "IMG_0425.jpg", "IMG_0612.jpg", "IMG_1900.jpg"], []),
        (["x.jpg", "y.jpg", "z1.jpg"], []),
        (["one.jpg"], []),
        (["2024-05-01_s1", "2024-05-01_s2", "2024-05-02_s3", "2024-05-02_s5"], ["s3 to 2024-05"]),
    ],
)
def test_numbering(names: list[str], told: list[str]) -> None:
    found = gap_warnings(names)
    assert len(found) == len(told)
    assert all(part in text for part, text in zip(told, found, strict=True))


def test_many_gaps_are_summed_up() -> None:
    names = [f"{n}.png" for n in range(100) if n % 10 != 5]
    found = gap_warnings(names)
    assert len(found) == 6
    assert found[-1] == "... and 5 more such places."


def test_order_ignores_case_and_leading_zeros() -> None:
    assert in_order(["S010.png", "s2.PNG", "s001.png"]) == ["s001.png", "s2.PNG", "S010.png"]


@pytest.mark.parametrize(
    "names",
    [
        ["img.png", "img1.png", "img2.png", "img10.png"],
        ["Mask_1.tif", "mask_2.tif", "Mask_3.tif"],
        ["z0.5mm.png", "z1mm.png", "z1.25mm.png", "z1.5mm.png", "z10mm.png"],
        ["z0,5 mm.png", "z1 mm.png", "z1,25 mm.png", "z1,5 mm.png"],
        ["d9.png", "d9.05.png", "d9.5.png", "d10.png"],
        ["plate1.8.png", "plate1.9.png", "plate1.10.png", "plate1.11.png"],
        ["2024.05.01_3.png", "2024.05.01_10.png", "2024.10.02_1.png"],
        ["s.ome.tif", "s1.ome.tif", "s10.ome.tif"],
    ],
    ids=lambda names: names[0],
)
def test_order_is_that_of_people(names: list[str]) -> None:
    assert in_order(sorted(names)) == names
    assert in_order(names[::-1]) == names


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["s1.png", "s2 (1).png", "s2.png", "s3.png"], [["s2 (1).png", "s2.png"]]),
        (["a - Copy.png", "a.png", "b.png"], [["a - Copy.png", "a.png"]]),
        (["a copy 2.png", "a.png", "b.png"], [["a copy 2.png", "a.png"]]),
        (["S1.png", "s1.png", "s2.png"], [["S1.png", "s1.png"]]),
        (["s1.jpg", "s1.tif", "s2.tif"], [["s1.jpg", "s1.tif"]]),
        (["slice (1).png", "slice (2).png", "slice (3).png"], []),
        (["slice.png", "slice (1).png"], []),
        (["photocopy.png", "photo.png"], []),
    ],
)
def test_a_slice_that_is_there_twice(names: list[str], told: list[list[str]]) -> None:
    assert doubled(names) == told


def test_a_doubled_slice_is_told_and_hides_no_gap(folder: Path) -> None:
    write(folder / "s2 copy.png", 2)
    assert find_warnings(open_stack(folder)) == [
        "s2.png and s2 copy.png look like the same slice; each counts as a slice of its own.",
        "The numbering jumps from s2.png to s9.png: 6 slices may be missing.",
    ]


def test_pixels_that_are_not_square_are_told(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png", dpi=(1200, 600))
    stack = open_stack(tmp_path)
    assert stack.suggested_geometry() is None
    (told,) = find_warnings(stack)
    assert told.startswith("Pixels are not square: 21.16")
