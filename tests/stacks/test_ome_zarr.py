"""OME-Zarr of both versions, with the axes that programs write."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import zarr

from napari_fossiledit.errors import FossilError
from napari_fossiledit.stacks import find_warnings, open_stack
from napari_fossiledit.stacks.ome_zarr import open_labels
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
        (np.zeros((5, 6), np.uint8), "xy", "axes xy of sizes (5, 6)"),
        (np.zeros((4, 5, 6), np.uint8), "zzx", "axes zzx of sizes (4, 5, 6)"),
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
    assert caught.value.found == "the metadata plate"


def test_damaged_metadata(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.zarr", [ZYXC], "zyxc")
    content = json.loads((path / "zarr.json").read_text())
    content["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = "gone"
    (path / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(FossilError, match=r"a\.zarr cannot be read"):
        open_stack(path)


GREY = ZYXC[..., 0]


@pytest.mark.parametrize(
    "scale", [[1.0, 2.0], [5.0, 0.0, 2.0], ["a", 1, 1], [1, float("inf"), 1], "1 1 1"], ids=str
)
def test_a_wrong_scale_is_called_one(tmp_path: Path, scale: object) -> None:
    path = write_ome(tmp_path / "a.zarr", [GREY], "zyx")
    content = json.loads((path / "zarr.json").read_text())
    image = content["attributes"]["ome"]["multiscales"][0]
    image["datasets"][0]["coordinateTransformations"] = [{"type": "scale", "scale": scale}]
    (path / "zarr.json").write_text(json.dumps(content))
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.read(1), GREY[1])
    assert stack.suggested_geometry() is None
    assert find_warnings(stack) == [
        f"a.zarr: its scale {scale} does not fit the axes zyx; no sizes are taken."
    ]


def test_pixels_that_are_not_square_are_told(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.zarr", [GREY], "zyx")
    content = json.loads((path / "zarr.json").read_text())
    image = content["attributes"]["ome"]["multiscales"][0]
    image["coordinateTransformations"] = [{"type": "scale", "scale": [1.0, 1.5, 1.0]}]
    (path / "zarr.json").write_text(json.dumps(content))
    stack = open_stack(path)
    found = stack.suggested_geometry()
    assert found is not None
    assert (found.pixel_size_um, found.slice_spacing_um) == (None, 10.0)
    assert "2 um along x, 3 um along y" in find_warnings(stack)[0]


@pytest.mark.parametrize(("stored", "axes"), [(GREY[0], "yx"), (ZYXC[0].transpose(2, 0, 1), "cyx")])
def test_an_image_without_depth_is_one_slice(tmp_path: Path, stored: np.ndarray, axes: str) -> None:
    stack = open_stack(write_ome(tmp_path / "a.zarr", [stored], axes))
    wanted = GREY[:1] if axes == "yx" else ZYXC[:1]
    assert stack.shape == wanted.shape
    np.testing.assert_array_equal(stack.read(0), wanted[0])
    np.testing.assert_array_equal(stack.levels()[0].compute(), wanted)


@pytest.mark.parametrize("inside", ["", "rock.zarr/"])
def test_a_zip_file(tmp_path: Path, inside: str) -> None:
    folder = write_ome(tmp_path / "a.zarr", [GREY], "zyx")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_STORED) as archive:
        for file in folder.rglob("*"):
            archive.write(file, inside + file.relative_to(folder).as_posix())
    stack = open_stack(tmp_path / "a.zip")
    np.testing.assert_array_equal(stack.lazy().compute(), GREY)
    again = open_stack(tmp_path / "a.zip", expected=stack.record())
    np.testing.assert_array_equal(again.read(2), GREY[2])
    assert find_warnings(stack) == []


def test_a_zip_file_of_other_things(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "ground on Monday")
    with pytest.raises(FossilError, match=r"a\.zip is not an image"):
        open_stack(tmp_path / "a.zip")


def test_a_level_alone_knows_its_axes_and_sizes(tmp_path: Path) -> None:
    halved = np.stack([area_mean(s, 2) for s in ZYXC])
    stored = [np.moveaxis(v, 3, 0) for v in (ZYXC, halved)]
    path = write_ome(tmp_path / "a.zarr", stored, "czyx")
    stack = open_stack(path / "1")
    np.testing.assert_array_equal(stack.lazy().compute(), halved)
    found = stack.suggested_geometry()
    assert found is not None
    assert found.pixel_size_um == pytest.approx(4)


@pytest.mark.parametrize("version", [2, 3])
def test_arrays_of_both_versions(tmp_path: Path, version: Literal[2, 3]) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), data=GREY, zarr_format=version)
    group = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=version)
    group.create_array("0", data=GREY)
    axes = [{"name": n, "type": "space", "unit": "millimeter"} for n in "zyx"]
    scale = [{"type": "scale", "scale": [3, 0.5, 0.5]}]
    level = {"path": "0", "coordinateTransformations": scale}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [level]}]
    for path in ("a.zarr", "b.zarr", "b.zarr/0"):
        stack = open_stack(tmp_path / path)
        np.testing.assert_array_equal(stack.read(1), GREY[1])
        found = stack.suggested_geometry()
        assert (found.slice_spacing_um if found else None) == (None if path == "a.zarr" else 3000)


def test_axes_of_arrays_that_name_none(tmp_path: Path) -> None:
    zarr.save_array(str(tmp_path / "a.zarr"), ZYXC[0])
    stack = open_stack(tmp_path / "a.zarr")
    assert stack.shape == (1, 12, 10, 3)
    assert find_warnings(stack) == ["a.zarr: its axes have no names and are taken for y, x, c."]
    group = zarr.open_group(tmp_path / "b.zarr", mode="w")
    group.create_array("image", data=GREY.astype(">u2"), dimension_names=["z", "y", "x"])
    stack = open_stack(tmp_path / "b.zarr")
    assert stack.read(1).dtype.isnative
    np.testing.assert_array_equal(stack.read(1), GREY[1])
    assert find_warnings(stack) == []


def test_slices_without_data_are_told(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.zarr", [np.repeat(GREY, 3, axis=0)], "zyx")
    assert find_warnings(open_stack(path)) == []
    shutil.rmtree(path / "0" / "c" / "1")
    assert find_warnings(open_stack(path)) == [
        "a.zarr: slices 5-9 hold no data and are read as one value."
    ]


def labelled(path: Path, *names: str) -> Path:
    group = zarr.open_group(path, mode="a")
    labels = group.create_group("labels", attributes={"ome": {"labels": list(names)}})
    for name in names:
        write_ome(path / "labels" / name, [GREY.astype(np.uint32)], "zyx")
        one = labels[name]
        one.attrs["ome"] = dict(one.attrs["ome"]) | {"image-label": {}}
    return path


def test_labels_are_no_photographs_and_can_be_found(tmp_path: Path) -> None:
    path = labelled(write_ome(tmp_path / "a.zarr", [GREY], "zyx"), "cups")
    np.testing.assert_array_equal(open_stack(path).read(0), GREY[0])
    with pytest.raises(FossilError, match=r"labels holds labels.*found cups"):
        open_stack(path / "labels")
    with pytest.raises(FossilError, match=r"cups holds labels.*import the labels there"):
        open_stack(path / "labels" / "cups")
    for inside in (path, path / "labels", path / "labels" / "cups", path / "labels" / "cups" / "0"):
        np.testing.assert_array_equal(open_labels(inside).plane(1), GREY[1])


def test_of_several_labels_or_images_one_is_chosen(tmp_path: Path) -> None:
    path = labelled(write_ome(tmp_path / "a.zarr", [GREY], "zyx"), "cups", "walls")
    with pytest.raises(FossilError, match=r"several labels.*cups, walls.*a\.zarr/labels/cups"):
        open_labels(path)
    raw = zarr.open_group(
        tmp_path / "raw.zarr", mode="w", attributes={"ome": {"bioformats2raw.layout": 3}}
    )
    write_ome(tmp_path / "raw.zarr" / "0", [GREY], "zyx")
    np.testing.assert_array_equal(open_stack(tmp_path / "raw.zarr").read(0), GREY[0])
    raw.create_group("1")
    with pytest.raises(FossilError, match=r"several images.*0, 1"):
        open_stack(tmp_path / "raw.zarr")


@pytest.mark.parametrize("change", [{"datasets": 3}, {"axes": [{"type": "space"}]}], ids=str)
def test_metadata_of_another_kind(tmp_path: Path, change: dict) -> None:
    path = write_ome(tmp_path / "a.zarr", [GREY], "zyx")
    content = json.loads((path / "zarr.json").read_text())
    content["attributes"]["ome"]["multiscales"][0].update(change)
    (path / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(FossilError, match=r"The metadata of .*a\.zarr cannot be used"):
        open_stack(path)


def test_a_damaged_chunk_names_the_slice(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.zarr", [ZYXC[..., 0]], "zyx")
    for chunk in (path / "0" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"rubbish")
    with pytest.raises(FossilError, match=r"Slice 1 \(a\.zarr#1\)"):
        open_stack(path).read(1)
