"""OME-Zarr 0.4 and 0.5 images, and plain zarr arrays, as stacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.stacks.cache import SliceCache
from napari_fossiledit.stacks.decode import DECODER_ERRORS
from napari_fossiledit.stacks.pixels import Pixels, check_dtype
from napari_fossiledit.stacks.section import (
    SectionStack,
    StackRecord,
    SuggestedGeometry,
    named,
)
from napari_fossiledit.stacks.units import in_um

if TYPE_CHECKING:
    import dask.array as da
    import zarr

#: Attribute of the group in which this package keeps the names of the slices.
ATTRIBUTE = "fossiledit"


class Axis(NamedTuple):
    """One axis of an OME-Zarr image: its name, and its unit where one is given."""

    name: str
    unit: str | None = None


class Pyramid(NamedTuple):
    """The image in a zarr folder.

    Attributes
    ----------
    arrays
        Resolutions, finest first.
    axes
        Axes of every array, in array order.
    scale
        Size of a voxel of the finest array along each axis, in the units of the axes.
    attributes
        What `ATTRIBUTE` holds.
    """

    arrays: list[zarr.Array[Any]]
    axes: list[Axis]
    scale: list[float]
    attributes: dict[str, Any]

    @property
    def names(self) -> str:
        """The axes as text, e.g. ``"zyxc"``."""
        return "".join(axis.name for axis in self.axes)


class ZarrStack(SectionStack):
    """The finest resolution of an OME-Zarr image."""

    def __init__(self, record: StackRecord, cache: SliceCache | None = None) -> None:
        super().__init__(record, cache)
        self._opened: Pyramid | None = None

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an OME-Zarr image of axes z, y, x and perhaps 3 colours.

        Raises
        ------
        FossilError
            Where the folder holds no image, or one with other axes or numbers.
        """
        pyramid = _open_pyramid(path)
        stack = cls(_record(path, pyramid))
        stack._opened = pyramid
        return stack

    @property
    def pyramid(self) -> Pyramid:
        """The image as it is stored."""
        if self._opened is None:
            self._opened = _open_pyramid(self.path)
        return self._opened

    def levels(self) -> list[da.Array]:
        """Return the stored resolutions (z, y, x[, 3]), finest first, in chunks as stored.

        Showing a part of a slice then reads that part only.
        """
        import dask.array as da

        pyramid = self.pyramid
        channel = pyramid.names.replace("t", "").find("c")
        arrays = [
            da.from_array(a, chunks=a.chunks, name=False)[_index(pyramid, slice(None))]
            for a in pyramid.arrays
        ]
        return [da.moveaxis(a, channel, -1) if a.ndim == 4 else a for a in arrays]

    def suggested_geometry(self) -> SuggestedGeometry | None:
        """Return the voxel size by the coordinate transformations of the image."""
        sizes = {
            axis.name: in_um(size, axis.unit)
            for axis, size in zip(self.pyramid.axes, self.pyramid.scale, strict=True)
        }
        x, z = sizes.get("x"), sizes.get("z")
        return SuggestedGeometry(x, z, f"OME-Zarr metadata of {self.path.name}") if x or z else None

    def close(self) -> None:
        """Forget the opened arrays and the cached slices."""
        super().close()
        self._opened = None

    def _decode(self, z: int) -> Pixels:
        with named(f"Slice {z} ({self.names[z]}) of {self.path}", *DECODER_ERRORS):
            pyramid = self.pyramid
            pixels: Any = np.asarray(pyramid.arrays[0][_index(pyramid, z)])
        if not self.rgb:
            return np.ascontiguousarray(pixels)
        channel = pyramid.names.replace("t", "").replace("z", "").index("c")
        return np.ascontiguousarray(np.moveaxis(pixels, channel, -1))


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a zarr group or array."""
    return any((path / name).is_file() for name in ("zarr.json", ".zattrs", ".zgroup", ".zarray"))


def _index(pyramid: Pyramid, z: int | slice) -> tuple[int | slice, ...]:
    """Index that leaves z (where it is a slice), y, x and the colours, in stored order."""
    sizes = pyramid.arrays[0].shape
    whole: dict[str, int | slice] = {"z": z, "y": slice(None), "x": slice(None), "t": 0}
    return tuple(
        whole.get(name, slice(None) if size == 3 else 0)
        for name, size in zip(pyramid.names, sizes, strict=True)
    )


def _open_pyramid(path: Path) -> Pyramid:
    import zarr

    with named(str(path), *DECODER_ERRORS):
        node = zarr.open(str(path), mode="r")
        if isinstance(node, zarr.Array):
            names = "zyxc"[: node.ndim]
            pyramid = Pyramid([node], [Axis(n) for n in names], [1.0] * node.ndim, {})
        else:
            pyramid = _ome_pyramid(node, path)
    _check(pyramid, path)
    return pyramid


def _ome_pyramid(group: zarr.Group, path: Path) -> Pyramid:
    """Read the first image that the metadata of a group describe."""
    attributes: dict[str, Any] = dict(group.attrs)
    images = attributes.get("ome", attributes).get("multiscales")
    if not images:
        raise FossilError(
            f"{path} is a zarr group without an image",
            expected="multiscales of OME-Zarr 0.4 or 0.5",
            found=", ".join(sorted(attributes)) or "no metadata",
            advice="Choose the folder of the image itself, for example the one named 0.",
        )
    image = images[0]
    arrays: list[Any] = [group[entry["path"]] for entry in image["datasets"]]
    # Version 0.3 gives the names of the axes alone.
    axes = [
        Axis(entry) if isinstance(entry, str) else Axis(str(entry["name"]), entry.get("unit"))
        for entry in image.get("axes", ["t", "c", "z", "y", "x"])
    ]
    common, finest = _scale(image, len(axes)), _scale(image["datasets"][0], len(axes))
    scale = [a * b for a, b in zip(common, finest, strict=True)]
    return Pyramid(arrays, axes, scale, dict(attributes.get(ATTRIBUTE, {})))


def _scale(entry: dict[str, Any], axes: int) -> list[float]:
    for transformation in entry.get("coordinateTransformations", []):
        if transformation.get("type") == "scale":
            return [float(value) for value in transformation["scale"]]
    return [1.0] * axes


def _check(pyramid: Pyramid, path: Path) -> None:
    """Check that the image is a stack, and that no conversion left it unfinished."""
    names, shape = pyramid.names, pyramid.arrays[0].shape
    sizes = dict(zip(names, shape, strict=False))
    # z, y, x in this order, with 1 or 3 colours and one time point anywhere.
    nameable = len(sizes) == len(shape) == len(names) and set(sizes) <= set("tczyx")
    ordered = [a for a in names if a in "zyx"] == list("zyx")
    single = sizes.get("t", 1) == 1 and sizes.get("c", 1) in (1, 3)
    if not (nameable and ordered and single):
        raise FossilError(
            f"The axes of {path} are not those of a stack",
            expected="z, y, x and perhaps 3 colours",
            found=f"axes {names} of sizes {shape}",
            advice="Save one time point, with its channels merged to RGB or one of them alone.",
        )
    check_dtype(pyramid.arrays[0].dtype, str(path))
    if not pyramid.attributes.get("complete", True):
        raise FossilError(
            f"The conversion to {path} was not finished",
            expected="all slices",
            found="some",
            advice="Start the conversion again: it goes on where it stopped.",
        )


def _record(path: Path, pyramid: Pyramid) -> StackRecord:
    sizes = dict(zip(pyramid.names, pyramid.arrays[0].shape, strict=True))
    rgb = sizes.get("c") == 3
    shape = tuple(sizes[a] for a in "zyx")
    names = pyramid.attributes.get("names")
    return StackRecord(
        kind="zarr",
        path=path,
        names=tuple(names or (f"{path.name}#{z}" for z in range(shape[0]))),
        shape=(*shape, 3) if rgb else shape,
        dtype=pyramid.arrays[0].dtype.name,
        rgb=rgb,
    )
