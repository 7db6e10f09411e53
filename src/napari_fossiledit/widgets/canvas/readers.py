"""Reader of files dropped on napari: folders of slices, OME-Zarr, projects, COCO files.

Nothing here needs Qt: functions return layer data tuples, and whatever they show is read lazily.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import VoxelSize
from napari_fossiledit.stacks import SectionStack, open_stack
from napari_fossiledit.stacks.listing import is_image_name
from napari_fossiledit.stacks.ome_zarr import is_zarr
from napari_fossiledit.stacks.reduce import display_levels
from napari_fossiledit.widgets.canvas.flat import ArrayLike, FlatArray

if TYPE_CHECKING:
    from napari_fossiledit.exchange.tracings.tracing_file import Target
    from napari_fossiledit.masks import Instance
    from napari_fossiledit.project import Project

#: Data, arguments of the layer, and its type, as napari takes them from a reader.
LayerTuple: TypeAlias = tuple[Any, dict[str, Any], str]
Reader: TypeAlias = Callable[[str | Sequence[str]], list[LayerTuple]]

_PROJECT_FILE = "project.json"
PROJECT = "fossiledit_project"
"""Key in the metadata of layers that were read from a project: its folder."""

PHOTOGRAPHS = "fossiledit_photographs"
"""Key in the metadata of layers of photographs that are no project yet: their file or folder."""

_METADATA = "fossiledit"
AXES = ("z", "y", "x")
# Detections with lower scores are mostly wrong; the dock Segment has a slider for it.
_SHOWN_SCORE = 0.5
# Voxels; napari takes four times as many bytes for labels in 3D.
_MOST_IN_3D = 64 * 1024**2


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Return the reader of this plugin for a path, None where it has none.

    It claims project folders, OME-Zarr folders, folders with PNG, JPEG or TIFF images in them,
    and COCO files. Single images are left to napari.
    """
    if not isinstance(path, str):
        return get_reader(path[0]) if len(path) == 1 else None
    file = Path(path)
    if file.is_dir():
        if (file / _PROJECT_FILE).is_file():
            return read_project
        try:
            is_stack = is_zarr(file) or any(is_image_name(each.name) for each in file.iterdir())
        except OSError:
            # Without the right to look into it: reading it says so.
            is_stack = True
        return read_stack if is_stack else None
    if file.suffix.lower() != ".json" or not file.is_file():
        return None
    content = file.read_bytes()
    return read_coco if b'"images"' in content and b'"annotations"' in content else None


def _only(path: str | Sequence[str]) -> Path:
    return Path(path if isinstance(path, str) else path[0])


# ---------------------------------------------------------------------- images


def read_stack(path: str | Sequence[str]) -> list[LayerTuple]:
    """Read a folder of slices or an OME-Zarr folder as one image layer, lazily.

    Raises
    ------
    FossilError
        Where the slices do not fit each other.
    """
    stack = open_stack(_only(path))
    voxel_size = None
    if (claimed := stack.suggested_geometry()) is not None:
        pixel, spacing, _ = claimed
        if pixel is not None and spacing is not None:
            voxel_size = VoxelSize(spacing, pixel, pixel)
    layer = stack_layer(stack, voxel_size, stack.path.stem)
    layer[1]["metadata"][PHOTOGRAPHS] = str(stack.path)
    return [layer]


def stack_layer(stack: SectionStack, voxel_size: VoxelSize | None, name: str) -> LayerTuple:
    """Return the image layer (z, y, x), grey or RGB, of a stack.

    Parameters
    ----------
    voxel_size
        Sizes in um; where None, the layer is in pixels.
    """
    levels = display_levels(stack)
    options: dict[str, Any] = {
        "name": name,
        "rgb": stack.rgb,
        "multiscale": len(levels) > 1,
        # The stack keeps the last slices itself; dask's own cache would take a quarter of the RAM.
        "cache": False,
        "metadata": {_METADATA: {"path": str(stack.path), "slices": list(stack.names)}},
        **placed_in(voxel_size),
    }
    if not stack.rgb and stack.dtype == np.uint8:
        options["contrast_limits"] = (0, 255)
    elif not stack.rgb:
        # 16 bit: the grey values of the middle slice.
        middle = stack.read(len(stack) // 2)
        low, high = int(middle.min()), int(middle.max())
        options["contrast_limits"] = (low, max(high, low + 1))
    return (levels if len(levels) > 1 else levels[0], options, "image")


def image_layer(project: Project) -> LayerTuple:
    """Return the image layer of a project's photographs, in um."""
    return stack_layer(project.stack, project.geometry.voxel_size, project.path.stem)


def placed_in(voxel_size: VoxelSize | None, step: int = 1) -> dict[str, Any]:
    """Return scale, translation, units and axis labels of a layer over a stack.

    Parameters
    ----------
    voxel_size
        Sizes in um; where None, the layer is in pixels.
    step
        Pixels of the stack that a pixel of the layer stands for, in y and x.
    """
    z, y, x = voxel_size.zyx if voxel_size else (1.0, 1.0, 1.0)
    return {
        "scale": (z, y * step, x * step),
        # napari places centres of pixels: the first coarse one lies amid those it stands for.
        "translate": (0.0, y * (step - 1) / 2, x * (step - 1) / 2),
        "units": ("um",) * 3 if voxel_size else ("pixel",) * 3,
        "axis_labels": AXES,
    }


# -------------------------------------------------------------------- projects


def read_project(path: str | Sequence[str]) -> list[LayerTuple]:
    """Read a project: its photographs and each source of masks; nothing of it can be painted.

    Raises
    ------
    FossilError
        Where the folder is no project, or its photographs are gone.
    """
    from napari_fossiledit.project import LABELS, Project

    project = Project.open(_only(path))
    voxel_size = project.geometry.voxel_size
    layers = [image_layer(project)]
    for source in project.ledger.sources():
        if source.instances and source.name != LABELS:

            def read(z: int, name: str = source.name) -> list[Instance]:
                return project.ledger.instances(name, slices=[z])

            layers.append(_masks_layer(read, project.shape, source.name, voxel_size, _SHOWN_SCORE))
    for _, options, _ in layers:
        # The docks take the project over from here, see `ProjectView`.
        options.setdefault("metadata", {})[PROJECT] = str(project.path)
    return layers


def _masks_layer(
    read: Callable[[int], list[Instance]],
    shape: tuple[int, int, int],
    name: str,
    voxel_size: VoxelSize | None,
    score: float = 0.0,
) -> LayerTuple:
    """Return a Labels layer of the ids of instances, painted when a slice is shown."""
    from napari_fossiledit.widgets.canvas.prediction_array import PredictionArray

    array = PredictionArray(read, shape, score)
    return (
        _bounded(array),
        {"name": name, "opacity": 0.5, **placed_in(voxel_size, array.step)},
        "labels",
    )


def _bounded(array: ArrayLike) -> ArrayLike:
    """Keep napari's 3D button from reading all of a large array; the docks show it reduced."""
    large = math.prod(array.shape) > _MOST_IN_3D
    return FlatArray(array, _in_3d) if large else array


def _in_3d() -> bool:
    from napari import current_viewer

    viewer = current_viewer()
    return viewer is not None and bool(viewer.dims.ndisplay == 3)


# ------------------------------------------------------------------------ COCO


def read_coco(path: str | Sequence[str]) -> list[LayerTuple]:
    """Read a COCO file as one Labels layer per class over the stack of its images, in pixels.

    The images are put in natural order of their names.

    Raises
    ------
    FossilError
        Where the file is broken, or its images differ in size.
    """
    from napari.utils.notifications import show_info

    from napari_fossiledit.exchange.tracings.coco import CocoFile
    from napari_fossiledit.exchange.tracings.tracing_file import reasons

    file = _only(path)
    target = _target(file)
    shape = (len(target.names), *target.shape)
    by_class: dict[str, dict[int, list[Instance]]] = {}
    area: Counter[str] = Counter()
    coco = CocoFile(file, target)
    instances = (i for traced in coco.traced_slices() for i in traced.instances)
    for number, instance in enumerate(instances, 1):
        slices = by_class.setdefault(instance.class_name, {})
        slices.setdefault(instance.slice, []).append(replace(instance, id=number))
        area[instance.class_name] += instance.mask.area
    twice = [f"there twice, shown once: {coco.duplicates}"] if coco.duplicates else []
    for note in (*reasons(coco.problems), *coco.assumptions, *twice):
        show_info(f"{file.name}: {note}")
    title, layers = file.stem.removesuffix(".coco"), []
    # Large things such as the rock face go below what lies on them.
    for name in sorted(by_class, key=lambda name: -area[name]):

        def read(z: int, slices: dict[int, list[Instance]] = by_class[name]) -> list[Instance]:
            return slices.get(z, [])

        layers.append(_masks_layer(read, shape, f"{title}: {name}", None))
    return layers


def _target(file: Path) -> Target:
    """Return the stack that a COCO file describes by itself: names and size of its images."""
    from napari_fossiledit.exchange.tracings.coco import entries
    from napari_fossiledit.exchange.tracings.coco_images import whole
    from napari_fossiledit.exchange.tracings.tracing_file import Target, size_text
    from napari_fossiledit.files import read_json
    from napari_fossiledit.stacks.listing import in_order

    images = entries(file, read_json(file, "a COCO annotation file"), "images")
    described = [entry for entry in images if isinstance(entry, dict)]

    sizes = {(whole(entry.get("height")), whole(entry.get("width"))) for entry in described}
    if len(sizes) != 1 or min(min(sizes)) <= 0:
        raise FossilError(
            f"The images of {file} are not the slices of a stack",
            expected="one height and width",
            found=", ".join(map(size_text, sorted(sizes)[:3])) or "no images",
            advice="Make a project of the photographs and import the file there.",
        )
    # An image that is listed twice is one slice.
    names = [entry.get("file_name") for entry in described]
    named = dict.fromkeys(name for name in names if isinstance(name, str))
    nameless = [str(name) for name in names if not isinstance(name, str)]
    return Target(tuple(in_order([*named, *nameless])), min(sizes))
