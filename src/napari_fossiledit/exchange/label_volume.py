"""Label volumes: one whole number a voxel, the whole stack as TIFF, OME-Zarr, NRRD or NIfTI.

Slices keep their order in all of them. TIFF and OME-Zarr lay them out as the stack has them; NRRD
and NIfTI state axes in space, those of the meshes, with z turned round where slices count out of
the rock. x, y and z of a mesh are left, posterior and superior there: what 3D Slicer takes the
coordinates of STL, PLY and OBJ for.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
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
from napari_fossiledit.params.reconstruct import LengthUnit

SUFFIXES = (".tif", ".tiff", ".zarr", ".nrrd", ".nii", ".nii.gz")
_CHUNK = 512
_UM_PER_CM = 1e4
#: A TIFF with 32-bit offsets holds 4 GiB; compressed labels are a small part of that.
_BIG = 2**32
_DESCRIPTION = "label volume of napari-fossiledit;"
# Bytes of a NIfTI-1 header, and of what follows: none further.
_NIFTI_HEADER, _NIFTI_START = 348, 352
_NIFTI_LABELS, _NIFTI_INT32, _NIFTI_UNITS = 1002, 8, {LengthUnit.UM: 3, LengthUnit.MM: 2}
_LONGEST_NIFTI, _LARGEST_INT32 = 2**15 - 1, 2**31 - 1

Labels = NDArray[np.unsignedinteger[Any]]
Floats = NDArray[np.float64]


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


def suffix_of(path: Path) -> str:
    """Return which of `SUFFIXES` a name has; empty where it has none."""
    name = path.name.lower()
    return max((s for s in SUFFIXES if name.endswith(s)), key=len, default="")


def placing(path: Path, geometry: StackGeometry) -> Iterator[str]:
    """Yield what a user should know of how such a file places the slices."""
    if geometry.z_positions_um is not None:
        yield (
            "The steps between slices are not all the same; the file states their mean,"
            f" {geometry.slice_spacing_um:g} um."
        )
    if geometry.handedness < 0:
        turned = suffix_of(path) not in (".tif", ".tiff", ".zarr")
        yield "Slices count out of the rock: " + (
            "the file states z the other way round, as meshes have it."
            if turned
            else "in the order of the slices the volume is a mirror image of the fossils."
        )


def write_label_volume(
    path: Path,
    slices: Iterator[Labels],
    shape: tuple[int, int, int],
    geometry: StackGeometry,
    unit: LengthUnit = LengthUnit.UM,
) -> None:
    """Write labels slice by slice, the whole file or folder or nothing.

    Parameters
    ----------
    path
        A name of `SUFFIXES`; a folder must be new, and a file new or such a volume.
    slices
        Labels (y, x) of every slice of the stack, all of one type.
    shape
        (z, y, x) of the stack.
    unit
        Of the spacing that NRRD and NIfTI state.

    Raises
    ------
    FossilError
        Where it cannot be written, or has another suffix.
    """
    suffix = suffix_of(path)
    if not suffix:
        raise FossilError(
            f"{path} is no label volume", expected=", ".join(SUFFIXES), found=path.suffix
        )
    if suffix == ".zarr":
        _write_zarr(path, slices, shape, geometry)
        return
    _require_own(path)
    if suffix in (".nrrd", ".nii", ".nii.gz"):
        head = _nrrd if suffix == ".nrrd" else _nifti
        steps = np.array(geometry.voxel_size.zyx[::-1]) * unit.per_um
        header = head(path, shape, steps, geometry.handedness, unit)
        _write_plain(path, slices, header, packed=suffix != ".nii")
        return
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
    broken = (OSError, ValueError, KeyError, IndexError, EOFError, tifffile.TiffFileError)
    with suppress(*broken):
        if suffix_of(path).startswith(".tif"):
            with tifffile.TiffFile(path) as file:
                description = file.pages.first.description
        else:
            with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as stream:
                description = stream.read(_NIFTI_HEADER).decode("latin-1")
    if _DESCRIPTION not in description:
        raise FossilError(
            f"{path} is in the way", expected="a new name", found="another file of that name"
        )


def _nrrd(
    _: Path, shape: tuple[int, int, int], steps: Floats, hand: int, unit: LengthUnit
) -> bytes:
    """Return the header of a NRRD file; steps (x, y, z) are those of its unit."""
    x, y, z = (f"{step:.9g}" for step in steps * [1, 1, hand])
    return (
        f"NRRD0004\n# {_DESCRIPTION} z, y, x of the stack\ntype: int32\ndimension: 3\n"
        f"space: left-posterior-superior\nsizes: {shape[2]} {shape[1]} {shape[0]}\n"
        f"space directions: ({x},0,0) (0,{y},0) (0,0,{z})\nkinds: domain domain domain\n"
        f'endian: little\nencoding: gzip\nspace units: "{unit}" "{unit}" "{unit}"\n'
        "space origin: (0,0,0)\n\n"
    ).encode()


def _nifti(
    path: Path, shape: tuple[int, int, int], steps: Floats, hand: int, unit: LengthUnit
) -> bytes:
    """Return the header of a NIfTI-1 file; steps (x, y, z) are those of its unit."""
    if max(shape) > _LONGEST_NIFTI:
        raise FossilError(
            f"{path} cannot hold the stack",
            expected=f"at most {_LONGEST_NIFTI} voxels along each axis",
            found=" x ".join(map(str, shape)),
            advice="Write it as NRRD (.nrrd) instead.",
        )
    # Its axes go right and to the front: the other way round than left and posterior.
    places = np.hstack([np.diag(steps * [-1, -1, hand]), np.zeros((3, 1))])
    # Offsets, types and values of what is not 0: size of the header, dimensions, meaning (labels),
    # type (int32), steps, where data begin, scale, unit, description, axes in space, kind of file.
    fields: tuple[tuple[Any, ...], ...] = (
        (0, "<i", _NIFTI_HEADER),
        (40, "<8h", 3, *shape[::-1], 1, 1, 1, 1),
        (68, "<3h", _NIFTI_LABELS, _NIFTI_INT32, 32),
        (76, "<4f", 1, *steps),
        (108, "<2f", _NIFTI_START, 1),
        (123, "<B", _NIFTI_UNITS[unit]),
        (148, "80s", _DESCRIPTION.encode()),
        (254, "<h", 1),
        (280, "<12f", *places.ravel()),
        (344, "4s", b"n+1"),
    )
    header = bytearray(_NIFTI_START)
    for offset, layout, *values in fields:
        struct.pack_into(layout, header, offset, *values)
    return bytes(header)


def _write_plain(path: Path, slices: Iterator[Labels], header: bytes, *, packed: bool) -> None:
    """Write a header and the values, x fastest; of NRRD the header alone stays unpacked."""
    with replacing(path) as stream:
        if suffix_of(path) == ".nrrd":
            stream.write(header)
            header = b""
        wrapped = gzip.GzipFile("", "wb", 5, stream, mtime=0) if packed else nullcontext(stream)
        with wrapped as file:
            file.write(header)
            for labels in slices:
                if labels.max(initial=0) > _LARGEST_INT32:
                    raise FossilError(
                        f"{path} cannot hold a number of a specimen",
                        expected=f"at most {_LARGEST_INT32}",
                        found=int(labels.max()),
                    )
                file.write(labels.astype("<i4").tobytes())


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
