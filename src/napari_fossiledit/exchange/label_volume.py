"""Label volumes: one whole number a voxel, the whole stack as a TIFF or an OME-Zarr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import appearing, replacing, require_empty
from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.masks.labels import paint_masks, paint_order

SUFFIXES = (".tif", ".tiff", ".zarr")
_CHUNK = 512
_UM_PER_CM = 1e4
#: A TIFF with 32-bit offsets holds 4 GiB; compressed labels are a small part of that.
_BIG = 2**32
_DESCRIPTION = "label volume of napari-fossiledit;"

Labels = NDArray[np.unsignedinteger[Any]]


def painted(
    instances: Sequence[Instance], values: Sequence[int], shape: tuple[int, int], largest: int
) -> tuple[Labels, int]:
    """Paint the bodies of a slice; cavities are a part of them.

    Returns
    -------
    array (y, x) of uint16 or uint32
        After the greatest value of the stack, `largest`.
    int
        Pixels of bodies that lie under another one and are not to be seen.
    """
    value_of = dict(zip((id(i) for i in instances), values, strict=True))
    bodies = paint_order(i for i in instances if i.part is Part.BODY)
    dtype = np.uint16 if largest < 2**16 else np.uint32
    labels = paint_masks([b.mask for b in bodies], [value_of[id(b)] for b in bodies], shape, dtype)
    return labels, sum(b.mask.area for b in bodies) - int(np.count_nonzero(labels))


def write_label_volume(
    path: Path,
    slices: Iterator[Labels],
    shape: tuple[int, int, int],
    geometry: StackGeometry,
) -> None:
    """Write labels slice by slice, the whole file or folder or nothing.

    Parameters
    ----------
    path
        A name of `SUFFIXES`; a folder must be new, and a TIFF new or such a volume.
    slices
        Labels (y, x) of every slice of the stack, all of one type.
    shape
        (z, y, x) of the stack.

    Raises
    ------
    FossilError
        Where it cannot be written, or has another suffix.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise FossilError(
            f"{path} is no label volume", expected=", ".join(SUFFIXES), found=path.suffix
        )
    if path.suffix.lower() == ".zarr":
        _write_zarr(path, slices, shape, geometry)
        return
    _require_own(path)
    per_cm, spacing = _UM_PER_CM / geometry.pixel_size_um, geometry.slice_spacing_um
    with replacing(path) as stream, tifffile.TiffWriter(stream, bigtiff=_is_big(shape)) as writer:
        for labels in slices:
            writer.write(
                labels,
                photometric="minisblack",
                compression="zlib",
                contiguous=False,
                metadata=None,
                description=f"{_DESCRIPTION} spacing={spacing}; unit=um; axes=ZYX",
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
            )


def _require_own(path: Path) -> None:
    """Check that no photograph is replaced that happens to have the name."""
    if not path.exists():
        return
    description = ""
    broken = (OSError, ValueError, KeyError, IndexError, tifffile.TiffFileError)
    with suppress(*broken), tifffile.TiffFile(path) as file:
        description = file.pages.first.description
    if not description.startswith(_DESCRIPTION):
        raise FossilError(
            f"{path} is in the way", expected="a new name", found="another file of that name"
        )


def _is_big(shape: tuple[int, int, int]) -> bool:
    # zlib takes at least a thousandth; the directories of the pages add a little.
    return shape[0] * (4 * shape[1] * shape[2] // 8 + 4096) >= _BIG


def _write_zarr(
    path: Path, slices: Iterator[Labels], shape: tuple[int, int, int], geometry: StackGeometry
) -> None:
    import zarr

    require_empty(path, "a label volume")
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": list(geometry.voxel_size.zyx)}]
    image = {
        "name": path.stem,
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    ome = {"version": "0.5", "multiscales": [image], "image-label": {}}
    with appearing(path) as hidden:
        group = zarr.create_group(str(hidden), attributes={"ome": ome}, zarr_format=3)
        array: Any = None
        for z, labels in enumerate(slices):
            if array is None:
                array = group.create_array(
                    "0",
                    shape=shape,
                    dtype=labels.dtype,
                    chunks=(1, *(min(_CHUNK, n) for n in shape[1:])),
                    fill_value=0,
                    dimension_names=list("zyx"),
                )
            array[z] = labels
