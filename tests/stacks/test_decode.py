"""Single image files: every kind that is taken or refused, against Pillow as the judge."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from napari_fossiledit.errors import FossilError
from napari_fossiledit.stacks.decode import read_header, read_image, read_stored
from napari_fossiledit.stacks.pixels import area_mean, format_of

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (13, 17), dtype=np.uint8)
RGB = RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (13, 17, 4), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (13, 17), dtype=np.uint16)
RGB16 = RNG.integers(0, 65536, (13, 17, 3), dtype=np.uint16)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def check(path: Path, expected: np.ndarray) -> None:
    pixels = read_image(path)
    assert pixels.dtype == expected.dtype
    np.testing.assert_array_equal(pixels, expected)
    assert read_header(path).format == format_of(pixels)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("pixels", [GREY, RGB, GREY16], ids=["grey", "rgb", "grey16"])
def test_plain_images_come_back_unchanged(tmp_path: Path, suffix: str, pixels: np.ndarray) -> None:
    check(saved(tmp_path / f"a.{suffix}", Image.fromarray(pixels)), pixels)


def test_16_bit_colour_stays_16_bit(tmp_path: Path) -> None:
    png, tif = tmp_path / "a.png", tmp_path / "a.tif"
    png.write_bytes(imagecodecs.png_encode(RGB16))
    tifffile.imwrite(tif, RGB16)
    check(png, RGB16)
    check(tif, RGB16)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_jpeg_decodes_as_pillow_does(tmp_path: Path, pixels: np.ndarray, options: dict) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(pixels), **options)
    check(path, np.asarray(Image.open(path)))


def test_jpeg_with_data_after_its_end_is_complete(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(RGB))
    expected = np.asarray(Image.open(path))
    path.write_bytes(path.read_bytes() + b"trailer of a camera")
    check(path, expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_palette_becomes_rgb(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(RGB).quantize(16)
    check(saved(tmp_path / f"a.{suffix}", image), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_one_bit_becomes_grey(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(GREY > 100)
    check(saved(tmp_path / f"a.{suffix}", image), np.asarray(image.convert("L")))


def test_white_is_zero_tiff_is_turned_round(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, photometric="miniswhite")
    check(path, 255 - GREY)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_transparency_is_left_out_and_told(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(RGBA))
    check(path, RGBA[..., :3])
    assert read_header(path).alpha


def test_grey_with_transparency_becomes_grey(tmp_path: Path) -> None:
    check(saved(tmp_path / "a.png", Image.fromarray(RGBA[..., :2], "LA")), RGBA[..., 0])


def test_planar_tiff_becomes_interleaved(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate")
    check(path, RGB)


@pytest.mark.parametrize("compression", ["jpeg", "lzw", "deflate"])
def test_compressed_tiff(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", compression=compression)
    with Image.open(path) as image:
        check(path, np.asarray(image))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_orientation_is_respected(tmp_path: Path, suffix: str, turn: int) -> None:
    exif = Image.Exif()
    exif[274] = turn
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(RGB), exif=exif)
    with Image.open(path) as image:
        check(path, np.asarray(ImageOps.exif_transpose(image)))


def test_content_counts_not_the_suffix(tmp_path: Path) -> None:
    check(saved(tmp_path / "a.tif", Image.fromarray(RGB), format="PNG"), RGB)


def test_large_slices_pass_pillows_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    path = saved(tmp_path / "a.png", Image.fromarray(RGB).quantize(16))
    assert read_image(path).shape == (13, 17, 3)


def packed(path: Path, values: np.ndarray, bits: int, photometric: int) -> None:
    """A TIFF of values with less bits than a byte or two, which tifffile does not write."""
    rows = ["".join(f"{v:0{bits}b}" for v in row) for row in values]
    data = b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in rows)
    height, width = values.shape
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    tags += [(273, 4, 122), (277, 3, 1), (278, 4, height), (279, 4, len(data))]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    path.write_bytes(head + entries + b"\0" * 4 + data)


BITS = [(2, "u1"), (4, "u1"), (10, "u2"), (12, "u2"), (14, "u2")]


@pytest.mark.parametrize(("bits", "dtype"), BITS)
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_bits_below_the_type_span_it(
    tmp_path: Path, bits: int, dtype: str, white_is_zero: bool
) -> None:
    values = RNG.integers(0, 2**bits, (8, 8))
    values[0, :2] = 0, 2**bits - 1
    packed(tmp_path / "a.tif", values, bits, 0 if white_is_zero else 1)
    shown = 2**bits - 1 - values if white_is_zero else values
    factor = np.iinfo(dtype).max / (2**bits - 1)
    check(tmp_path / "a.tif", np.rint(shown * factor).astype(dtype))
    assert f"values of {bits} bits are scaled" in " ".join(read_header(tmp_path / "a.tif").notes)


def test_a_palette_of_8_bit_colours(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="palette", colormap=colours)
    check(tmp_path / "a.tif", np.moveaxis(colours[:, GREY], 0, -1).astype(np.uint8))


def test_ycbcr_becomes_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(RGB).convert("YCbCr")
    path = saved(tmp_path / "a.tif", image, compression="tiff_lzw")
    check(path, np.asarray(image.convert("RGB")))


def test_a_preview_as_second_page_is_left_out(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(RGB, photometric="rgb", metadata=None)
        writer.write(RGB[::4, ::4], photometric="rgb", metadata=None)
    check(tmp_path / "a.tif", RGB)
    assert "page 1 (5 x 4) is taken for a small copy" in read_header(tmp_path / "a.tif").notes[0]


def test_stored_values_are_neither_scaled_nor_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(GREY // 16)
    image.putpalette(bytes(range(48)))
    path = saved(tmp_path / "a.png", image, bits=4)
    np.testing.assert_array_equal(read_stored(path), GREY // 16)
    path.write_bytes(imagecodecs.png_encode(RGB16))
    np.testing.assert_array_equal(read_stored(path), RGB16)
    exif = Image.Exif()
    exif[274] = 6
    turned = saved(path, Image.fromarray(GREY), exif=exif)
    np.testing.assert_array_equal(read_stored(turned), np.rot90(GREY, -1))
    with pytest.raises(FossilError, match=r"holds no labels.*JPEG"):
        read_stored(saved(tmp_path / "b.png", Image.fromarray(GREY), format="JPEG"))


def grey_of_2_bits(path: Path, values: np.ndarray) -> None:
    """A PNG as optimisers of file sizes write it; Pillow does not."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    bits = ["".join(f"{v:02b}" for v in row) for row in values]
    rows = b"".join(b"\0" + int(row, 2).to_bytes(len(row) // 8, "big") for row in bits)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 2, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_png_of_2_bits(tmp_path: Path) -> None:
    values = RNG.integers(0, 4, (4, 8))
    grey_of_2_bits(tmp_path / "a.png", values)
    check(tmp_path / "a.png", (values * 85).astype(np.uint8))
    np.testing.assert_array_equal(read_stored(tmp_path / "a.png"), values)


def test_a_file_without_its_end_is_told_by_the_header(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[270] = "\xff\xd9 is no end of the image, it lies in its head"
    for name in ("a.jpg", "a.png"):
        path = saved(tmp_path / name, Image.fromarray(np.tile(RGB, (9, 9, 1))), exif=exif)
        assert read_header(path).notes == ()
        path.write_bytes(path.read_bytes()[:-9])
        assert read_header(path).notes == ("it is cut off and cannot be read",)


def text_named_tif(path: Path) -> None:
    path.write_text("slice 1\n")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cmyk(path: Path) -> None:
    Image.fromarray(RGB).convert("CMYK").save(path, "JPEG")


def cmyk_tiff(path: Path) -> None:
    tifffile.imwrite(path, RGBA, photometric="separated")


def floating(path: Path) -> None:
    tifffile.imwrite(path, GREY.astype(np.float32))


def signed_32(path: Path) -> None:
    tifffile.imwrite(path, GREY.astype(np.int32))


def several_pages(path: Path) -> None:
    tifffile.imwrite(path, np.stack([GREY] * 3), photometric="minisblack")


def broken_tiff(path: Path) -> None:
    path.write_bytes(b"II*\0" + b"\xff" * 20)


@pytest.mark.parametrize(
    ("make", "expected", "found"),
    [
        (text_named_tif, "a PNG, JPEG or TIFF file", "slice 1"),
        (empty, "a PNG, JPEG or TIFF file", "an empty file"),
        (cmyk, "grey or RGB of 8 or 16 bit", "CMYK"),
        (cmyk_tiff, "grey or RGB of 8 or 16 bit", "SEPARATED"),
        (floating, "8 or 16 bit unsigned integers", "float32"),
        (signed_32, "8 or 16 bit unsigned integers", "int32"),
        (several_pages, "one image per file", "3 pages"),
        (broken_tiff, "a complete image", ""),
    ],
)
def test_what_is_refused_says_why(tmp_path: Path, make, expected: str, found: str) -> None:
    path = tmp_path / "slice_7.tif"
    make(path)
    with pytest.raises(FossilError, match=r"slice_7\.tif") as caught:
        read_header(path)
    assert expected in (caught.value.expected or "")
    assert found in (caught.value.found or "")
    assert caught.value.advice


@pytest.mark.parametrize("share", [0.3, 0.9, 0.98])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_truncated_images_are_never_half_grey(tmp_path: Path, kind: str, share: float) -> None:
    stream = io.BytesIO()
    smooth = np.repeat(np.repeat(RGB, 20, axis=0), 20, axis=1)
    Image.fromarray(smooth).save(stream, kind)
    path = tmp_path / "a.png"
    path.write_bytes(stream.getvalue()[: int(len(stream.getvalue()) * share)])
    with pytest.raises(FossilError, match=r"a\.png"):
        read_image(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FossilError, match=r"gone\.jpg cannot be read"):
        read_image(tmp_path / "gone.jpg")


@pytest.mark.parametrize("pixels", [GREY, RGB, GREY16, RGB16], ids=str)
@pytest.mark.parametrize("factor", [1, 2, 5, 40])
def test_area_mean_against_a_plain_loop(pixels: np.ndarray, factor: int) -> None:
    found = area_mean(pixels, factor)
    rows, columns = (range(0, n, factor) for n in pixels.shape[:2])
    expected = [
        [pixels[y : y + factor, x : x + factor].mean(axis=(0, 1)) for x in columns] for y in rows
    ]
    assert found.dtype == pixels.dtype
    np.testing.assert_allclose(found, expected, atol=0.51)
