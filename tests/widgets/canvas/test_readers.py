"""What napari gets when something is dropped into it; only the viewer's model is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import napari
import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from npe2 import PluginManager, PluginManifest
from PIL import Image as Picture

import napari_fossiledit
from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import VoxelSize
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.stacks import open_stack
from napari_fossiledit.stacks import reduce as reducing
from napari_fossiledit.widgets.canvas import readers
from napari_fossiledit.widgets.canvas.readers import (
    get_reader,
    read_coco,
    read_project,
    read_stack,
    stack_layer,
)
from napari_fossiledit.widgets.start.sample_data import SAMPLE, open_sample_reef

MANIFEST = Path(napari_fossiledit.__file__).with_name("napari.yaml")


def shown(layers: list[tuple]) -> list[Layer]:
    """The layers in a viewer that looks at slice 1."""
    viewer = ViewerModel()
    for layer in layers:
        viewer.add_layer(Layer.create(*layer))
    viewer.dims.set_current_step(0, 1)
    return list(viewer.layers)


def displayed(layer: Layer) -> np.ndarray:
    return np.asarray(layer._slice.image.raw)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "rock"
    path.mkdir()
    for z in range(4):
        pixels = np.random.default_rng(z).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Picture.fromarray(pixels).save(path / f"s{z}.png")
    return path


def box(y0: int, x0: int, y1: int, x1: int) -> Mask:
    array = np.zeros((40, 60), bool)
    array[y0:y1, x0:x1] = True
    return Mask.from_array(array)


@pytest.fixture
def project(folder: Path) -> Path:
    path = folder.parent / "rock.fossil"
    with Project.create(path, open_stack(folder), NewParams(pixel_size=2, slice_spacing=9)) as made:
        made.ledger.store(ANNOTATIONS, 1, [Instance(1, "archaeocyathid", box(5, 5, 15, 20))])
    return path


def write_coco(path: Path, sizes: list[tuple[int, int]]) -> Path:
    mask, rock = box(5, 5, 15, 20), box(0, 0, 40, 60)
    annotations = [
        {
            "id": n,
            "image_id": 2,
            "category_id": c,
            "segmentation": m.coco | {"counts": m.counts.decode()},
        }
        for n, (c, m) in enumerate([(1, mask), (2, rock)], 1)
    ]
    images = [
        {"id": n + 1, "file_name": f"s{n}.png", "height": h, "width": w}
        for n, (h, w) in enumerate(sizes)
    ]
    categories = [{"id": 1, "name": "archaeocyathid"}, {"id": 2, "name": "rock_face"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path


def test_the_right_reader_takes_each_path(folder: Path, project: Path, tmp_path: Path) -> None:
    zarr.save_array(str(tmp_path / "a.zarr"), np.zeros((2, 3, 4), np.uint8))
    coco = write_coco(tmp_path / "a.json", [(40, 60)])
    (tmp_path / "b.json").write_text('{"images": 3}')
    (tmp_path / "empty").mkdir()
    expected = {
        folder: read_stack,
        tmp_path / "a.zarr": read_stack,
        project: read_project,
        coco: read_coco,
        tmp_path / "b.json": None,
        tmp_path / "empty": None,
        folder / "s0.png": None,
    }
    assert {path: get_reader(str(path)) for path in expected} == expected
    assert get_reader([str(folder)]) is read_stack
    assert get_reader([str(folder), str(coco)]) is None


def test_a_folder_is_one_lazy_rgb_layer(folder: Path) -> None:
    (layer,) = shown(read_stack(str(folder)))
    assert isinstance(layer, Image)
    assert layer.rgb
    assert layer.axis_labels == ("z", "y", "x")
    assert [str(u) for u in layer.units] == ["pixel"] * 3
    assert layer.metadata["fossiledit"]["slices"] == ["s0.png", "s1.png", "s2.png", "s3.png"]
    np.testing.assert_array_equal(displayed(layer), open_stack(folder).read(1))


def test_size_in_the_file_becomes_the_scale(tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "a.tif"
    volume = np.arange(2 * 8 * 8, dtype=np.uint16).reshape(2, 8, 8)
    metadata = {"axes": "ZYX", "spacing": 500, "unit": "um"}
    tifffile.imwrite(path, volume, imagej=True, resolution=(0.01, 0.01), metadata=metadata)
    (layer,) = shown(read_stack(str(path)))
    np.testing.assert_allclose(layer.scale, (500, 100, 100))
    assert [str(u) for u in layer.units] == ["micrometer"] * 3
    assert tuple(layer.contrast_limits) == (64, 127)


def test_large_stacks_show_3d_from_an_overview(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reducing, "_SMALL_BYTES", 1000)
    monkeypatch.setattr(reducing, "_OVERVIEW_EDGE", 8)
    (layer,) = shown([stack_layer(open_stack(folder), VoxelSize(5, 2, 2), "rock")])
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [(4, 40, 60, 3), (4, 5, 8, 3)]
    np.testing.assert_allclose(layer.extent.world[1], (15, 78, 118))


def test_a_project_brings_photographs_and_masks(project: Path) -> None:
    image, traced = shown(read_project(str(project)))
    assert isinstance(traced, Labels)
    for layer in (image, traced):
        np.testing.assert_allclose(layer.scale, (9, 2, 2))
    assert (displayed(traced) > 0).sum() == 150


def test_the_3d_button_reads_no_large_labels(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = ViewerModel()
    monkeypatch.setattr(readers, "_MOST_IN_3D", 1000)
    monkeypatch.setattr(napari, "current_viewer", lambda: viewer)
    layers = [data for data, _, kind in read_project(str(project)) if kind == "labels"]
    assert len(layers) == 1
    volume = (slice(None),) * 3
    for data in layers:
        assert np.asarray(data[volume]).shape == (4, 40, 60)
    viewer.dims.ndisplay = 3
    for data in layers:
        assert data[volume].shape == (1, 1, 1)
        assert np.asarray(data[1]).any()


def test_a_file_that_is_not_there_is_left_to_others(tmp_path: Path) -> None:
    assert get_reader(str(tmp_path / "gone.json")) is None


def test_coco_with_everything_twice_is_shown_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("napari.utils.notifications.show_info", told.append)
    path = write_coco(tmp_path / "t.json", [(40, 60)] * 3)
    content = json.loads(path.read_text())
    broken = {"image_id": 1, "category_id": 1, "segmentation": None}
    twice = {key: content[key] * 2 for key in ("images", "annotations")}
    twice["annotations"].append(broken)
    path.write_text(json.dumps(content | twice))
    layers = shown(read_coco(str(path)))
    assert layers[1].data.shape == (3, 40, 60)
    assert np.unique(displayed(layers[1])).tolist() == [0, 1]
    assert told == [
        "t.json: annotation at position 4: The segmentation cannot be read; expected polygons or "
        "run lengths; found nothing.",
        "t.json: images listed several times taken for one: 3, e.g. image s0.png",
        "t.json: completely traced, which the file does not say: slices 1",
        "t.json: there twice, shown once: 2",
    ]


def test_coco_becomes_a_layer_per_class_large_ones_below(tmp_path: Path) -> None:
    layers = shown(read_coco(str(write_coco(tmp_path / "t.coco.json", [(40, 60)] * 3))))
    assert [layer.name for layer in layers] == ["t: rock_face", "t: archaeocyathid"]
    assert layers[1].data.shape == (3, 40, 60)
    assert np.unique(displayed(layers[1])).tolist() == [0, 1]
    assert (displayed(layers[1]) > 0).sum() == 150


@pytest.mark.parametrize("sizes", [[(40, 60), (40, 61)], [], [(None, None)]])
def test_coco_of_unlike_images_is_no_stack(tmp_path: Path, sizes: list) -> None:
    path = write_coco(tmp_path / "t.json", sizes)
    with pytest.raises(FossilError, match=r"t\.json are not the slices of a stack") as caught:
        read_coco(str(path))
    assert caught.value.advice


def test_the_sample_is_made_when_looked_at() -> None:
    image, truth = shown(open_sample_reef())
    assert image.data.shape == (*SAMPLE.shape_zyx, 3)
    assert truth.data.shape == SAMPLE.shape_zyx
    assert displayed(image).std() > 10
    assert displayed(truth).max() > 0


def test_every_command_of_the_manifest_exists() -> None:
    manifest = PluginManifest.from_file(MANIFEST)
    commands = manifest.contributions.commands or []
    assert len(commands) >= 6
    manifest.validate_imports()


def test_napari_finds_the_readers(folder: Path, project: Path) -> None:
    manager = PluginManager()
    manager.register(PluginManifest.from_file(MANIFEST))
    for path in (folder, project, folder / "a.json"):
        assert list(manager.iter_compatible_readers([str(path)]))
    assert not list(manager.iter_compatible_readers([str(folder / "s0.png")]))


def test_reading_needs_no_qt() -> None:
    code = (
        "import sys, napari_fossiledit.widgets.canvas.readers;"
        "import napari_fossiledit.widgets.start.sample_data;"
        "print(sorted({'qtpy', 'napari', 'torch', 'magicgui'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_that_may_not_be_read_says_so_when_it_is_opened(tmp_path, monkeypatch):
    def refused(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refused)
    reader = get_reader(str(tmp_path))
    with pytest.raises(FossilError, match=str(tmp_path)):
        reader(str(tmp_path))
