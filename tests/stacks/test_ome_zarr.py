"""OME-Zarr of both versions, with the axes that programs write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_fossiledit.errors import FossilError
from napari_fossiledit.stacks import open_stack
from napari_fossiledit.stacks.pixels import area_mean
from napari_fossiledit.stacks.reduce import reduced

RNG = np.random.default_rng(2)
ZYXC = RNG.integers(0, 256, (4, 12, 10, 3), dtype=np.uint8)


def write_ome(
    path: Path,
    volumes: list[np.ndarray],
    axes: str,
    version: str = "0.5",
    unit: str = "micrometer",
    scale: float = 2.0,
) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    datasets = []
    for level, volume in enumerate(volumes):
        group.create_array(str(level), data=volume, chunks=tuple(min(n, 5) for n in volume.shape))
        sizes = [scale * (2**level if a in "yx" else 5 if a == "z" else 1) for a in axes]
        transformations = [{"type": "scale", "scale": sizes}]
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    kinds = {"c": "channel", "t": "time"}
    described = [{"name": a, "type": kinds.get(a, "space")} for a in axes]
    for axis in described:
        if axis["type"] == "space" and unit:
            axis["unit"] = unit
    image = {"version": version, "axes": described, "datasets": datasets, "name": "rock"}
    group.attrs.update(
        {"ome": {"version": "0.5", "multiscales": [image]}}
        if version == "0.5"
        else {"multiscales": [image]}
    )
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["zyx", "zyxc", "czyx", "tczyx", "zcyx"])
def test_axes_become_zyxc(tmp_path: Path, axes: str, version: str) -> None:
    wanted = ZYXC if "c" in axes else ZYXC[..., 0]
    order = [{"z": 0, "y": 1, "x": 2, "c": 3}[a] for a in axes if a != "t"]
    stored = np.transpose(wanted, order)
    stored = stored[np.newaxis] if "t" in axes else stored
    stack = open_stack(write_ome(tmp_path / "rock.ome.zarr", [stored], axes, version))
    assert (stack.kind, stack.shape, stack.rgb) == ("zarr", wanted.shape, "c" in axes)
    assert stack.names[3] == "rock.ome.zarr#3"
    np.testing.assert_array_equal(stack.lazy().compute(), wanted)
    np.testing.assert_array_equal(stack.levels()[0].compute(), wanted)
    again = open_stack(stack.path, expected=stack.record())
    np.testing.assert_array_equal(again.read(2), wanted[2])


def test_a_single_channel_is_grey(tmp_path: Path) -> None:
    stored = ZYXC[..., :1].transpose(3, 0, 1, 2)
    stack = open_stack(write_ome(tmp_path / "a.zarr", [stored], "czyx"))
    np.testing.assert_array_equal(stack.read(1), ZYXC[1, ..., 0])


def test_levels_are_those_of_the_file(tmp_path: Path) -> None:
    halved = np.stack([area_mean(s, 2) for s in ZYXC])
    stored = [np.moveaxis(v, 3, 0) for v in (ZYXC, halved)]
    stack = open_stack(write_ome(tmp_path / "a.zarr", stored, "czyx"))
    assert [level.shape for level in stack.levels()] == [(4, 12, 10, 3), (4, 6, 5, 3)]
    np.testing.assert_array_equal(stack.levels()[1].compute(), halved)
    copy = reduced(stack, longest=5)
    assert copy.factors == (1, 4, 4)
    np.testing.assert_array_equal(copy.array[2], area_mean(halved[2], 2))


@pytest.mark.parametrize(("unit", "factor"), [("micrometer", 1), ("millimeter", 1000)])
def test_size_of_a_voxel(tmp_path: Path, unit: str, factor: float) -> None:
    path = write_ome(tmp_path / "a.zarr", [ZYXC[..., 0]], "zyx", unit=unit)
    found = open_stack(path).suggested_geometry()
    assert found is not None
    assert (found.pixel_size_um, found.slice_spacing_um) == pytest.approx((2 * factor, 10 * factor))


def test_a_size_without_a_unit_is_no_size(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.zarr", [ZYXC[..., 0]], "zyx", unit="")
    assert open_stack(path).suggested_geometry() is None


def test_a_plain_array_is_taken(tmp_path: Path) -> None:
    zarr.save_array(str(tmp_path / "a.zarr"), ZYXC)
    np.testing.assert_array_equal(open_stack(tmp_path / "a.zarr").read(0), ZYXC[0])


@pytest.mark.parametrize(
    ("volume", "axes", "found"),
    [
        (np.zeros((2, 4, 5, 6), np.uint8), "tzyx", "axes tzyx of sizes (2, 4, 5, 6)"),
        (np.zeros((2, 4, 5, 6), np.uint8), "czyx", "axes czyx of sizes (2, 4, 5, 6)"),
        (np.zeros((5, 6), np.uint8), "yx", "axes yx of sizes (5, 6)"),
        (np.zeros((4, 5, 6), np.uint8), "xyz", "axes xyz of sizes (4, 5, 6)"),
        (np.zeros((4, 5, 6), np.float32), "zyx", "float32"),
    ],
)
def test_other_images_are_refused(
    tmp_path: Path, volume: np.ndarray, axes: str, found: str
) -> None:
    with pytest.raises(FossilError, match=r"odd\.zarr") as caught:
        open_stack(write_ome(tmp_path / "odd.zarr", [volume], axes))
    assert caught.value.found == found


def test_a_group_without_an_image(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "plate.zarr", mode="w").attrs["plate"] = {}
    with pytest.raises(
        FossilError, match=r"plate\.zarr is a zarr group without an image"
    ) as caught:
        open_stack(tmp_path / "plate.zarr")
    assert caught.value.found == "plate"


def test_damaged_metadata(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.zarr", [ZYXC], "zyxc")
    content = json.loads((path / "zarr.json").read_text())
    content["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = "gone"
    (path / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(FossilError, match=r"a\.zarr cannot be read"):
        open_stack(path)


def test_a_damaged_chunk_names_the_slice(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.zarr", [ZYXC[..., 0]], "zyx")
    for chunk in (path / "0" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"rubbish")
    with pytest.raises(FossilError, match=r"Slice 1 \(a\.zarr#1\)"):
        open_stack(path).read(1)
