"""Multi-page TIFFs: axes, page order, laziness, sizes of voxels."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_fossiledit.errors import FossilError
from napari_fossiledit.stacks import find_warnings, open_stack
from napari_fossiledit.stacks.units import in_um

RNG = np.random.default_rng(1)
GREY = RNG.integers(0, 256, (5, 7, 9), dtype=np.uint8)
RGB = RNG.integers(0, 256, (5, 7, 9, 3), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (5, 7, 9), dtype=np.uint16)
PLANES = np.moveaxis(RGB, 3, 1)


def write_one_by_one(path: Path, volume: np.ndarray) -> None:
    with tifffile.TiffWriter(path) as writer:
        for page in volume:
            writer.write(page, contiguous=False)


WRITERS = {
    "plain": (lambda p: tifffile.imwrite(p, GREY, photometric="minisblack"), GREY),
    "16 bit": (lambda p: tifffile.imwrite(p, GREY16, photometric="minisblack"), GREY16),
    "big-endian": (
        lambda p: tifffile.imwrite(p, GREY16, photometric="minisblack", byteorder=">"),
        GREY16,
    ),
    "rgb": (lambda p: tifffile.imwrite(p, RGB, photometric="rgb"), RGB),
    "deflate": (
        lambda p: tifffile.imwrite(p, GREY, photometric="minisblack", compression="deflate"),
        GREY,
    ),
    "tiled": (lambda p: tifffile.imwrite(p, RGB, photometric="rgb", tile=(16, 16)), RGB),
    "planar": (
        lambda p: tifffile.imwrite(p, PLANES, photometric="rgb", planarconfig="separate"),
        RGB,
    ),
    "white is zero": (lambda p: tifffile.imwrite(p, GREY, photometric="miniswhite"), 255 - GREY),
    "one by one": (lambda p: write_one_by_one(p, GREY), GREY),
    "ImageJ": (lambda p: tifffile.imwrite(p, GREY16, imagej=True), GREY16),
    "ImageJ time": (
        lambda p: tifffile.imwrite(p, GREY, imagej=True, metadata={"axes": "TYX"}),
        GREY,
    ),
    "ImageJ channels": (
        lambda p: tifffile.imwrite(p, PLANES, imagej=True, metadata={"axes": "ZCYX"}),
        RGB,
    ),
    "ImageJ one header": (
        lambda p: tifffile.imwrite(p, GREY, imagej=True, truncate=True),
        GREY,
    ),
    "OME": (lambda p: tifffile.imwrite(p, GREY, ome=True, metadata={"axes": "ZYX"}), GREY),
    "OME channels first": (
        lambda p: tifffile.imwrite(
            p, np.moveaxis(RGB, 3, 0), ome=True, photometric="minisblack", metadata={"axes": "CZYX"}
        ),
        RGB,
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_slice_comes_back(tmp_path: Path, name: str) -> None:
    write, expected = WRITERS[name]
    path = tmp_path / "rock.ome.tif" if name.startswith("OME") else tmp_path / "rock.tif"
    write(path)
    stack = open_stack(path)
    assert (stack.kind, stack.shape, stack.dtype) == ("tiff", expected.shape, expected.dtype)
    assert stack.names[4] == f"{path.name}#4"
    np.testing.assert_array_equal(stack.lazy().compute(), expected)
    again = open_stack(path, expected=stack.record())
    np.testing.assert_array_equal(again.read(3), expected[3])
    again.close()
    stack.close()


def test_a_single_page_is_an_image(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "one.tif", RGB[0], photometric="rgb")
    stack = open_stack(tmp_path / "one.tif")
    assert (stack.kind, stack.shape) == ("image", (1, 7, 9, 3))


def test_pages_turned_by_their_tag(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "t.tif", GREY, photometric="minisblack", extratags=[(274, 3, 1, 6, False)]
    )
    stack = open_stack(tmp_path / "t.tif")
    assert stack.shape == (5, 9, 7)
    np.testing.assert_array_equal(stack.read(2), np.rot90(GREY[2], -1))


def test_pages_of_another_size_are_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.tif"
    with tifffile.TiffWriter(path) as writer:
        for page in (GREY[0], GREY[1], GREY[2, :4]):
            writer.write(page, contiguous=False)
    with pytest.raises(FossilError, match=r"Page 2 of .*odd\.tif") as caught:
        open_stack(path)
    assert "9 x 7 pixels" in (caught.value.expected or "")
    assert "9 x 4 pixels" in (caught.value.found or "")


@pytest.mark.parametrize(("shape", "axes"), [((2, 5, 7, 9), "TZYX"), ((5, 2, 7, 9), "ZCYX")])
def test_other_axes_are_refused(tmp_path: Path, shape: tuple[int, ...], axes: str) -> None:
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, np.zeros(shape, np.uint8), imagej=True, metadata={"axes": axes})
    with pytest.raises(FossilError, match=r"The axes of .*movie\.tif") as caught:
        open_stack(path)
    assert f"{axes[0]} ({shape[0]})" in (caught.value.found or "")


def test_floating_point_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", GREY.astype(np.float32), photometric="minisblack")
    with pytest.raises(FossilError, match="float32"):
        open_stack(tmp_path / "f.tif")


def test_two_axes_of_one_name_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "q.tif", np.zeros((2, 3, 7, 9), np.uint8), photometric="minisblack")
    with pytest.raises(FossilError, match=r"Q \(2\), Q \(3\)"):
        open_stack(tmp_path / "q.tif")


@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_channels_are_no_depth(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    options = {"photometric": "minisblack", "metadata": {"axes": "CYX", "mode": "composite"}}
    tifffile.imwrite(path, PLANES[0], **options, **{kind: True})
    stack = open_stack(path)
    assert (stack.shape, stack.rgb) == ((1, 7, 9, 3), True)
    np.testing.assert_array_equal(stack.read(0), RGB[0])
    assert find_warnings(stack) == [f"{path.name}: 3 channels are taken for red, green and blue."]
    stack.close()
    tifffile.imwrite(path, GREY, **options, **{kind: True})
    with pytest.raises(FossilError, match=r"found C \(5\), Y \(7\)"):
        open_stack(path)


def test_grey_channels_of_imagej_are_slices_and_told(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, imagej=True)
    stack = open_stack(tmp_path / "a.tif")
    assert stack.shape == GREY.shape
    assert find_warnings(stack) == ["a.tif: its 5 grey channels are taken for slices."]


def test_pages_of_another_compression_are_slices(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for page, compression in zip(GREY, (None, "zlib", None, "lzw", None), strict=True):
            writer.write(page, compression=compression, contiguous=False, metadata=None)
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.lazy().compute(), GREY)
    np.testing.assert_array_equal(open_stack(path, expected=stack.record()).read(3), GREY[3])


def test_a_small_second_page_is_left_out_and_told(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for page in (GREY[0], GREY[0, ::2, ::3][:3], *GREY[1:]):
            writer.write(page, contiguous=False, metadata=None)
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.lazy().compute(), GREY)
    assert find_warnings(stack) == [
        "a.tif: page 1 (3 x 3) is taken for a small copy of the image and left out."
    ]


def test_stale_metadata_hide_no_page(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, imagej=True, metadata={"axes": "ZYX"})
    data = (tmp_path / "a.tif").read_bytes()
    told = data.replace(b"images=5", b"images=3").replace(b"slices=5", b"slices=3")
    (tmp_path / "a.tif").write_bytes(told)
    stack = open_stack(tmp_path / "a.tif")
    np.testing.assert_array_equal(stack.lazy().compute(), GREY)
    assert find_warnings(stack) == ["a.tif: its metadata tell of 3 images, but 5 are read."]


def cut_imagej(path: Path) -> None:
    tifffile.imwrite(path, GREY16, imagej=True, truncate=True, metadata={"axes": "ZYX"})
    path.write_bytes(path.read_bytes()[:-200])


def cut_shaped(path: Path) -> None:
    tifffile.imwrite(path, GREY16, photometric="minisblack", truncate=True)
    path.write_bytes(path.read_bytes()[:-1])


def cut_last_page(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        for page in GREY16:
            writer.write(page, contiguous=False, metadata=None, compression="zlib")
    path.write_bytes(path.read_bytes()[:-1])


def cut_description(path: Path) -> None:
    tifffile.imwrite(path, GREY, ome=True, metadata={"axes": "ZYX"})
    path.write_bytes(path.read_bytes()[:-1])


def more_rows_than_data(path: Path) -> None:
    tifffile.imwrite(path, GREY[0], photometric="minisblack", compression="zlib", rowsperstrip=2)
    with tifffile.TiffFile(path) as tif:
        place = tif.pages[0].tags["ImageLength"].valueoffset
    data = bytearray(path.read_bytes())
    data[place + 1] = 100
    path.write_bytes(data)


def ome_of_six(path: Path) -> None:
    tifffile.imwrite(path, GREY, ome=True, metadata={"axes": "ZYX"}, compression="zlib")
    path.write_bytes(path.read_bytes().replace(b'SizeZ="5"', b'SizeZ="6"'))


def ome_set(path: Path) -> None:
    """Two slices in a file each, of which the second file is missing."""
    one = (
        '<TiffData FirstZ="{0}" PlaneCount="1"><UUID FileName="{1}">urn:uuid:{0}</UUID></TiffData>'
    )
    planes = one.format(0, path.name) + one.format(1, "other.ome.tif")
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><OME UUID="urn:uuid:0" xmlns='
        '"http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID='
        '"Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="9" SizeY="7" SizeZ="2" SizeC="1" '
        f'SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
    )
    tifffile.imwrite(path, GREY[0], description=text, metadata=None)


@pytest.mark.parametrize(
    ("make", "name", "expected", "found"),
    [
        (cut_imagej, "a.tif", "5 images", "1"),
        (cut_shaped, "a.tif", "630 bytes of pixels", "bytes"),
        (cut_last_page, "a.tif", "page 4 to end at", "bytes"),
        (more_rows_than_data, "a.tif", "12804 strips or tiles in page 0", "4"),
        (cut_description, "a.ome.tif", "a description of its axes", "none"),
        (ome_of_six, "a.ome.tif", "6 images", "5"),
        (ome_set, "a.ome.tif", "2 files beside it", "no other.ome.tif"),
    ],
)
def test_what_is_not_complete_is_refused_at_opening(
    tmp_path: Path, make: Callable[[Path], None], name: str, expected: str, found: str
) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(FossilError, match=r"tif (is cut off|belongs)") as caught:
        open_stack(path)
    assert expected in (caught.value.expected or "")
    assert found in (caught.value.found or "")


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_file_that_lost_its_end_names_the_slice(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "cut.tif"
    volume = RNG.integers(0, 256, (5, 100, 100), dtype=np.uint8)
    tifffile.imwrite(path, volume, photometric="minisblack", compression=compression)
    record = open_stack(path).record()
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(FossilError, match=r"Slice 4 \(cut\.tif#4\)"):
        open_stack(path, expected=record).read(4)


def test_slices_are_not_lost_silently(tmp_path: Path) -> None:
    path = tmp_path / "cut.tif"
    write_one_by_one(path, RNG.integers(0, 256, (5, 50, 50), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(FossilError, match=r"cut\.tif is cut off") as caught:
        open_stack(path)
    assert caught.value.found == "the end of the file after page 3"


def test_a_damaged_file_is_a_fossil_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.tif"
    path.write_bytes(b"II*\0" + bytes(range(40)))
    with pytest.raises(FossilError, match=r"bad\.tif"):
        open_stack(path)


def test_threads_read_the_right_pages(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="minisblack", compression="deflate")
    stack = open_stack(tmp_path / "a.tif")
    wanted = [z % 5 for z in range(60)]
    with ThreadPoolExecutor(4) as pool:
        for z, pixels in zip(wanted, pool.map(stack.read, wanted), strict=True):
            np.testing.assert_array_equal(pixels, GREY[z])


def test_imagej_says_the_size_of_a_voxel(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    metadata = {"spacing": 0.5, "unit": "mm"}
    tifffile.imwrite(path, GREY, imagej=True, resolution=(10, 10), metadata=metadata)
    found = open_stack(path).suggested_geometry()
    assert found is not None
    assert (found.pixel_size_um, found.slice_spacing_um) == pytest.approx((100, 500))
    assert "ImageJ" in found.origin


UNITS = {
    **dict.fromkeys(("um", "micron", "microns", "micrometer", "micrometers", "micrometres"), 1),
    **dict.fromkeys(("\\u00B5m", "µm"), 1),
    **dict.fromkeys(("mm", "millimeter", "millimetres"), 1000),
    **dict.fromkeys(("inch", "inches", "in"), 25400),
    **dict.fromkeys(("cm", "centimeters"), 10000),
}


@pytest.mark.parametrize("unit", UNITS)
def test_units_of_imagej(unit: str) -> None:
    assert in_um("2", unit) == pytest.approx(2 * UNITS[unit])


def test_an_unknown_unit_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "spacing": 5, "unit": "furlong"}
    tifffile.imwrite(path, GREY, imagej=True, resolution=(0.5, 0.5), metadata=metadata)
    stack = open_stack(path)
    assert stack.suggested_geometry() is None
    assert find_warnings(stack) == [
        "The unit 'furlong' of lengths is not known; sizes in it are not used."
    ]


def test_voxels_that_are_not_square_keep_their_depth(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": 1.0, "PhysicalSizeY": 2.0, "PhysicalSizeZ": 5.0}
    tifffile.imwrite(path, GREY, metadata={"axes": "ZYX", **sizes})
    stack = open_stack(path)
    found = stack.suggested_geometry()
    assert found is not None
    assert (found.pixel_size_um, found.slice_spacing_um) == (None, 5.0)
    assert "Pixels are not square: 1 um along x, 2 um along y" in find_warnings(stack)[0]


def test_ome_says_the_size_of_a_voxel(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": 72.7, "PhysicalSizeZ": 0.5, "PhysicalSizeZUnit": "mm"}
    tifffile.imwrite(path, GREY, metadata={"axes": "ZYX", **sizes})
    found = open_stack(path).suggested_geometry()
    assert found is not None
    assert (found.pixel_size_um, found.slice_spacing_um) == pytest.approx((72.7, 500))


def test_resolution_tags_say_the_size_of_a_pixel(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    options = {"resolution": (1000, 1000), "resolutionunit": "centimeter"}
    tifffile.imwrite(path, GREY, photometric="minisblack", **options)
    found = open_stack(path).suggested_geometry()
    assert found is not None
    assert found.pixel_size_um == pytest.approx(10)


def test_no_sizes_no_suggestion(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="minisblack")
    assert open_stack(tmp_path / "a.tif").suggested_geometry() is None
