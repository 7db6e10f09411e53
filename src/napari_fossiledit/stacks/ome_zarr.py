"""OME-Zarr 0.4 and 0.5 images and labels, and plain zarr arrays; folders and zip files."""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.stacks.cache import SliceCache
from napari_fossiledit.stacks.decode import DECODER_ERRORS
from napari_fossiledit.stacks.pixels import Pixels, check_dtype
from napari_fossiledit.stacks.section import SectionStack, StackRecord, SuggestedGeometry, named
from napari_fossiledit.stacks.units import Pitch, in_um, pitch

if TYPE_CHECKING:
    import dask.array as da
    import zarr

#: Attribute of the group in which this package keeps the names of the slices.
ATTRIBUTE = "fossiledit"
#: Where it says which slices could not be converted, and why.
MISSING = "missing"

_MARKS = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
_ZIP = b"PK\x03\x04"
# Axes by their number, where an array does not name them.
_AXES = {2: "yx", 3: "zyx", 4: "zyxc", 5: "tczyx"}


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
        Size of a voxel of the finest array along each axis, in the units of the axes; empty
        where there is none that can be used.
    attributes
        What `ATTRIBUTE` holds.
    notes
        What was assumed, and what cannot be used, for the user.
    labels
        True where the metadata call it labels rather than an image.
    """

    arrays: list[zarr.Array[Any]]
    axes: list[Axis]
    scale: list[float]
    attributes: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    labels: bool = False

    @property
    def names(self) -> str:
        """The axes as text, e.g. ``"zyxc"``."""
        return "".join(axis.name for axis in self.axes)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of each axis; z has one slice where there is no such axis."""
        return {"z": 1} | dict(zip(self.names, self.arrays[0].shape, strict=True))

    def plane(self, z: int) -> NDArray[Any]:
        """Read slice `z` as it is stored, (y, x) or (y, x, 3), in the byte order of the machine."""
        stored: Any = np.asarray(self.arrays[0][self.selection(z)])
        pixels = stored.astype(stored.dtype.newbyteorder("="), copy=False)
        channel = self.names.replace("t", "").replace("z", "").find("c")
        if pixels.ndim == 3:
            pixels = np.moveaxis(pixels, channel, -1)
        return np.ascontiguousarray(pixels)

    def selection(self, z: int | slice) -> tuple[int | slice, ...]:
        """Index that leaves z (where it is a slice), y, x and the colours, in stored order."""
        whole: dict[str, int | slice] = {"z": z, "y": slice(None), "x": slice(None), "t": 0}
        return tuple(
            whole.get(name, slice(None) if size == 3 else 0)
            for name, size in zip(self.names, self.arrays[0].shape, strict=True)
        )


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
        pyramid = open_image(path)
        missing = {int(z) for z in pyramid.attributes.get(MISSING, {})}
        empty = [z for z in _empty_slices(path, pyramid) if z not in missing]
        if missing:
            note = (
                f"slices {format_slices([*missing])} are missing, because their photographs could"
                " not be read: put those right and convert again"
            )
            pyramid = pyramid._replace(notes=(*pyramid.notes, note))
        if empty:
            note = f"slices {format_slices(empty)} hold no data and are read as one value"
            pyramid = pyramid._replace(notes=(*pyramid.notes, note))
        stack = cls(_record(path, pyramid))
        stack._opened = pyramid
        return stack

    @property
    def pyramid(self) -> Pyramid:
        """The image as it is stored."""
        if self._opened is None:
            self._opened = open_image(self.path)
        return self._opened

    def levels(self) -> list[da.Array]:
        """Return the stored resolutions (z, y, x[, 3]), finest first, in chunks as stored.

        Showing a part of a slice then reads that part only.
        """
        import dask.array as da

        pyramid = self.pyramid
        channel = pyramid.names.replace("t", "").find("c")
        axis = pyramid.names.find("z")
        arrays = []
        for stored in pyramid.arrays:
            # Without meta dask would read a part of it to learn its kind.
            meta = np.empty((0,) * stored.ndim, stored.dtype)
            source = _Level(stored, self, axis)
            lazy = da.from_array(source, chunks=stored.chunks, name=False, meta=meta)
            arrays.append(lazy[pyramid.selection(slice(None))])
        if "z" not in pyramid.names:
            return [(da.moveaxis(a, channel, -1) if self.rgb else a)[np.newaxis] for a in arrays]
        return [da.moveaxis(a, channel, -1) if self.rgb else a for a in arrays]

    def suggested_geometry(self) -> SuggestedGeometry | None:
        """Return the voxel size by the coordinate transformations of the image."""
        z, x = in_um(*self._length("z")), self._pixel().um
        return SuggestedGeometry(x, z, f"OME-Zarr metadata of {self.path.name}") if x or z else None

    def warnings(self) -> list[str]:
        """Return what was assumed about axes and sizes, and slices without data."""
        odd = self._pixel().warning
        return [f"{self.path.name}: {note}." for note in self.pyramid.notes] + [odd] * bool(odd)

    def _pixel(self) -> Pitch:
        (y, y_unit), (x, unit) = self._length("y"), self._length("x")
        across, down = in_um(x, unit), in_um(y, y_unit)
        return pitch(across, down, "um") if across and down else pitch(x, y, unit)

    def _length(self, name: str) -> tuple[float | None, str | None]:
        """Return size and unit of a voxel along an axis."""
        pyramid = self.pyramid
        sizes = zip(pyramid.axes, pyramid.scale, strict=False)
        return next(((size, axis.unit) for axis, size in sizes if axis.name == name), (None, None))

    def close(self) -> None:
        """Forget the opened arrays and the cached slices."""
        super().close()
        self._opened = None

    def _files(self, z: int) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        array: Any = self.pyramid.arrays[0]
        chunks = array.shards or array.chunks
        axes = [
            range(-(-size // chunk)) if isinstance(chosen, slice) else [chosen // chunk]
            for chosen, size, chunk in zip(
                self.pyramid.selection(z), array.shape, chunks, strict=True
            )
        ]
        folder = Path(array.store.root) / array.path
        return [folder / array.metadata.encode_chunk_key(place) for place in product(*axes)]

    def _decode(self, z: int) -> Pixels:
        with self.reading(z):
            return self.pyramid.plane(z)

    @contextmanager
    def reading(self, z: int) -> Iterator[None]:
        """Name slice `z` in what goes wrong while it is read, also where it was not converted."""
        what = f"Slice {z} ({self.names[z]}) of {self.path}"
        why = self.pyramid.attributes.get(MISSING, {}).get(str(z))
        if why is not None:
            raise FossilError(
                f"{what} is missing, because its photograph could not be read: {why}",
                advice="Put the photograph right and convert again.",
            )
        with named(what, *DECODER_ERRORS):
            yield


class _Level:
    """A stored resolution as dask reads it, with errors that name the slice."""

    def __init__(self, array: Any, stack: ZarrStack, axis: int) -> None:
        self._array, self._stack, self._axis = array, stack, axis
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        z = key[self._axis] if self._axis >= 0 else 0
        with self._stack.reading(z if isinstance(z, int) else z.indices(len(self._stack))[0]):
            return np.asarray(self._array[key])


def is_zarr(path: Path) -> bool:
    """Return whether a path is a zarr group or array, in a folder or a zip file."""
    if path.is_dir():
        return any((path / name).is_file() for name in _MARKS)
    return _zipped_root(path) is not None


def open_image(path: Path) -> Pyramid:
    """Open the image in a zarr folder or zip file.

    Raises
    ------
    FossilError
        Where it holds none, or one whose axes or numbers are not those of a stack.
    """
    with named(str(path), *DECODER_ERRORS):
        pyramid = _pyramid(path, labels=False)
    if pyramid.labels:
        raise FossilError(
            f"{path} holds labels",
            expected="photographs",
            found="a label image of OME-Zarr",
            advice="Make a project of the photographs and import the labels there.",
        )
    check_dtype(pyramid.arrays[0].dtype, str(path))
    return pyramid


def open_labels(path: Path) -> Pyramid:
    """Open the labels in a zarr folder or zip file: those of an image, or an array of its own.

    Raises
    ------
    FossilError
        Where there are none or several.
    """
    with named(str(path), *DECODER_ERRORS):
        return _pyramid(path, labels=True)


# -------------------------------------------------------------- what is in it


def _pyramid(path: Path, *, labels: bool) -> Pyramid:
    node = _root(path)
    for _ in range(3):
        further = _inner(node, path, labels)
        if further is None:
            break
        node = node[further]
    pyramid = _described(node, path) if _is_group(node) else _plain(node, path)
    _check(pyramid, path)
    return pyramid


def _root(path: Path) -> Any:
    import zarr

    if path.is_dir():
        return zarr.open(str(path), mode="r")
    root = _zipped_root(path)
    if root is None:
        raise FossilError(f"{path} holds no zarr", expected="zarr.json or .zgroup in a zip file")
    return zarr.open(zarr.storage.ZipStore(path, mode="r"), path=root, mode="r")


def _is_group(node: Any) -> bool:
    import zarr

    # Arrays of version 2 do not know their type of node.
    return isinstance(node, zarr.Group)


def _zipped_root(path: Path) -> str | None:
    """Return the folder in a zip file that is the zarr, empty for all of it, None for none."""
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        if stream.read(4) != _ZIP:
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            roots = [n.rpartition("/") for n in archive.namelist()]
    except zipfile.BadZipFile:
        return None
    found = [folder for folder, _, name in roots if name in _MARKS]
    return min(found, key=len) if found else None


def _inner(node: Any, path: Path, labels: bool) -> str | None:
    """Return the part of a group that holds what is wanted, None where it is the group itself."""
    if not _is_group(node):
        return None
    described = _described_by(node)
    if labels and "image-label" not in described:
        names = described.get("labels") or _listed_labels(node)
        if names:
            inside = "" if described.get("labels") else "labels/"
            return inside + _only(list(map(str, names)), path, "labels", f"{path}/{inside}")
    if described.get("multiscales"):
        return None
    if not labels and "labels" in described:
        raise FossilError(
            f"{path} holds labels, no image",
            expected="photographs",
            found=", ".join(map(str, described["labels"])) or "no labels",
            advice="Make a project of the photographs and import the labels there.",
        )
    images = sorted(name for name, _ in node.groups())
    if "bioformats2raw.layout" in described:
        images = [name for name in images if name.isdecimal()]
        return _only(images, path, "images", f"{path}/")
    arrays = sorted(name for name, _ in node.arrays())
    if len(arrays) == 1 and not images:
        return str(arrays[0])
    holds = [*(f"the metadata {name}" for name in sorted(described)), *arrays, *images]
    raise FossilError(
        f"{path} is a zarr group without an image",
        expected="multiscales of OME-Zarr 0.4 or 0.5, or one array",
        found=", ".join(holds) or "nothing",
        advice="Choose the folder of the image itself, for example the one named 0.",
    )


def _only(names: list[str], path: Path, what: str, inside: str) -> str:
    if len(names) == 1:
        return names[0]
    raise FossilError(
        f"{path} holds several {what}" if names else f"{path} holds no {what}",
        expected="one",
        found=", ".join(names) or "none",
        advice=f"Choose one of them, for example {inside}{names[0]}." if names else "",
    )


def _described_by(node: Any) -> Mapping[str, Any]:
    """Return the OME metadata of a group: below "ome" since 0.5, before that on top."""
    attributes = dict(node.attrs)
    found = attributes.get("ome", attributes)
    return found if isinstance(found, Mapping) else {}


def _listed_labels(node: Any) -> list[Any]:
    try:
        return list(_described_by(node["labels"]).get("labels") or [])
    except KeyError:
        return []


def _plain(array: Any, path: Path) -> Pyramid:
    """Describe an array by the group it lies in, by the names of its axes, or by their number."""
    parent = path.parent
    if path.is_dir() and is_zarr(parent) and _is_group(group := _root(parent)):
        images = _described_by(group).get("multiscales") or []
        levels = [str(d.get("path")) for image in images[:1] for d in image.get("datasets", [])]
        if path.name in levels:
            whole = _described(group, parent, levels.index(path.name))
            return whole._replace(arrays=[array])
    given = getattr(array.metadata, "dimension_names", None) or ()
    names = [str(name).lower() for name in given if name]
    notes: tuple[str, ...] = ()
    if len(names) != array.ndim:
        colours = array.ndim == 3 and array.shape[2] == 3
        names = list("yxc" if colours else _AXES.get(array.ndim, ""))
        notes = (f"its axes have no names and are taken for {', '.join(names)}",)
    return Pyramid([array], [Axis(n) for n in names], [], {}, notes)


def _described(group: Any, path: Path, level: int = 0) -> Pyramid:
    """Read the first image that the metadata of a group describe."""
    described = _described_by(group)
    image = described["multiscales"][0]
    try:
        datasets = image["datasets"]
        # Version 0.3 gives the names of the axes alone.
        axes = [
            Axis(entry.lower())
            if isinstance(entry, str)
            else Axis(str(entry["name"]).lower(), entry.get("unit"))
            for entry in image.get("axes", ["t", "c", "z", "y", "x"])
        ]
        paths = [str(entry["path"]) for entry in datasets[level:]]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise FossilError(
            f"The metadata of {path} cannot be used",
            expected="multiscales with axes and datasets, as OME-Zarr has them",
            found=f"{type(error).__name__}: {error}",
        ) from error
    gone = next((name for name in paths if name not in group), None)
    if gone is not None:
        raise FossilError(
            f"{path} cannot be read, because a part of it is missing",
            expected=f"the array {gone}, which its metadata name",
            found="no such array",
            advice="Copy the whole folder again from the original.",
        )
    scale, note = _scale([image, datasets[level]], "".join(a.name for a in axes))
    return Pyramid(
        arrays=[group[name] for name in paths],
        axes=axes,
        scale=scale,
        attributes=dict(dict(group.attrs).get(ATTRIBUTE, {})),
        notes=(note,) if note else (),
        labels="image-label" in described,
    )


def _scale(entries: list[Any], names: str) -> tuple[list[float], str]:
    """Return the product of the scales of an image and a level, or why there is none."""
    product = np.ones(len(names))
    for entry in entries:
        for transformation in entry.get("coordinateTransformations") or []:
            if transformation.get("type") != "scale":
                continue
            scale = transformation.get("scale")
            numbers = isinstance(scale, list) and all(
                type(n) in (int, float) and math.isfinite(n) and n > 0 for n in scale
            )
            if not numbers or len(scale) != len(names):
                return [], f"its scale {scale} does not fit the axes {names}; no sizes are taken"
            product *= scale
    return product.tolist(), ""


def _check(pyramid: Pyramid, path: Path) -> None:
    """Check that the image is a stack, and that no conversion left it unfinished."""
    names, shape = pyramid.names, pyramid.arrays[0].shape
    sizes = dict(zip(names, shape, strict=False))
    # z, y, x in this order, with 1 or 3 colours and one time point anywhere.
    nameable = len(sizes) == len(shape) == len(pyramid.axes) and set(sizes) <= set("tczyx")
    ordered = [a for a in names if a in "zyx"] in (list("zyx"), list("yx"))
    single = sizes.get("t", 1) == 1 and sizes.get("c", 1) in (1, 3)
    if not (nameable and ordered and single):
        raise FossilError(
            f"The axes of {path} are not those of a stack",
            expected="z, y, x and perhaps 3 colours",
            found=f"axes {names} of sizes {shape}",
            advice="Save one time point, with its channels merged to RGB or one of them alone.",
        )
    if not pyramid.attributes.get("complete", True):
        raise FossilError(
            f"The conversion to {path} was not finished",
            expected="all slices",
            found="some",
            advice="Start the conversion again: it goes on where it stopped.",
        )


def _empty_slices(path: Path, pyramid: Pyramid) -> list[int]:
    """Return the slices of which no chunk is stored, as after a copy that broke off."""
    array, axis = pyramid.arrays[0], pyramid.names.find("z")
    if axis < 0:
        return []
    depth = (array.shards or array.chunks)[axis]
    stored = {
        int(numbers[axis])
        for key in _stored_keys(path, array.path)
        if len(numbers := re.findall(r"\d+", key)) == array.ndim
    }
    return [z for z in range(array.shape[axis]) if z // depth not in stored]


def _stored_keys(path: Path, inside: str) -> Iterator[str]:
    """Yield the keys of the chunks of an array, without its own path."""
    if path.is_dir():
        folder = path / inside
        for parent, _, files in os.walk(folder):
            below = Path(parent).relative_to(folder).as_posix()
            yield from (f"{below}/{name}" for name in files)
        return
    with zipfile.ZipFile(path) as archive:
        prefix = f"{inside}/" if inside else ""
        yield from (n[len(prefix) :] for n in archive.namelist() if n.startswith(prefix))


def _record(path: Path, pyramid: Pyramid) -> StackRecord:
    sizes = pyramid.sizes
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
