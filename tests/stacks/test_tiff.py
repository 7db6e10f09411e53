"""Multi-page TIFFs: axes, page order, laziness, sizes of voxels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_fossiledit.errors import FossilError
from napari_fossiledit.stacks import open_stack

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
