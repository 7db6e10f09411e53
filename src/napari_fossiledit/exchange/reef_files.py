"""A sample reef as files: pictures, COCO, label volumes and everything that is known of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel
from scipy import ndimage

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, write_json
from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.masks.labels import masks_of_labels
from napari_fossiledit.masks.rle import Mask
from napari_fossiledit.progress import QUIET, Job

Labels = NDArray[np.uint16]

SCHEMA = 1
KIND = "fossiledit sample reef"
CATEGORIES = {"archaeocyathid": 1, "calcimicrobe": 2, "shell": 3, "rock_face": 4}
# A section of fewer pixels is marked unsure: nobody could trace it, and nothing should be judged
# by it.
SURE_AREA_PX = 25
_LAYERS = {
    "labels_archaeocyathid_zyx.tif": "specimens",
    "labels_archaeocyathid_cavity_zyx.tif": "cavities",
    "labels_calcimicrobe_zyx.tif": "calcimicrobes",
    "labels_shell_zyx.tif": "shells",
}
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)
_UM_PER_CM = 1e4


class SampleSlice(Protocol):
    """One slice with its truth; every array is (y, x), `rgb` (y, x, 3)."""

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """Picture."""
        ...

    @property
    def specimens(self) -> Labels:
        """Ids of archaeocyathids."""
        ...

    @property
    def cavities(self) -> Labels:
        """Ids of the archaeocyathids whose cavity is there."""
        ...

    @property
    def calcimicrobes(self) -> Labels:
        """Ids of calcimicrobe patches."""
        ...

    @property
    def shells(self) -> Labels:
        """Ids of shells."""
        ...

    @property
    def rock(self) -> NDArray[np.bool_]:
        """Whether the rock face is there."""
        ...


class SampleShift(Protocol):
    """The misalignment of a slice in pixels and degrees."""

    @property
    def dy(self) -> float:
        """Shift down."""
        ...

    @property
    def dx(self) -> float:
        """Shift right."""
        ...

    @property
    def angle_deg(self) -> float:
        """Turn from the x axis towards the y axis."""
        ...


class SampleVolume(Protocol):
    """The known volume of one specimen."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        ...


class SampleReef(Protocol):
    """What a sample reef gives to be written."""

    @property
    def params(self) -> BaseModel:
        """The parameters it was made from."""
        ...

    @property
    def geometry(self) -> StackGeometry:
        """Pixel size and slice spacing."""
        ...

    @property
    def textures(self) -> Mapping[int, str]:
        """Texture of each archaeocyathid."""
        ...

    def __len__(self) -> int: ...

    def slice(self, z: int) -> SampleSlice:
        """Make one slice."""
        ...

    def shift(self, z: int) -> SampleShift:
        """Tell the misalignment of a slice."""
        ...

    def volumes(self) -> Sequence[SampleVolume]:
        """Compute the known volumes (`SampleVolume`)."""
        ...


def write_reef(reef: SampleReef, out: Path, job: Job = QUIET) -> dict[str, Any]:
    """Write a sample reef into a folder, holding one slice at a time.

    Writes ``images/slice_0000.png`` and so on, ``annotations.json`` (COCO, run-length codes),
    ``labels_*_zyx.tif`` (uint16 specimen ids, zlib) and ``truth.json`` (parameters, geometry,
    volumes, misalignment). An older sample that is there is replaced.

    Returns
    -------
    Folder, number of slices, specimens and annotations.

    Raises
    ------
    FossilError
        Where `out` holds something else, or cannot be written.
    """
    _prepare(out)
    truth = _truth(reef)
    write_json(out / "truth.json", truth | {"complete": False})
    annotations = _write_slices(reef, out, job)
    write_json(out / "annotations.json", _coco(reef, annotations))
    write_json(out / "truth.json", truth | {"complete": True})
    return _summary(out, reef, annotations)


def _prepare(out: Path) -> None:
    """Make the folder, or make sure that what it holds is an older sample, and clear that."""
    with explained(out, "Opening"):
        entries = sorted(p.name for p in out.iterdir()) if out.exists() else []
    if entries and "truth.json" not in entries:
        raise FossilError(
            f"{out} is not empty and holds no sample reef",
            expected="a new or empty folder",
            found=", ".join(entries[:3]),
            advice="Choose another folder; nothing was changed.",
        )
    with explained(out, "Writing"):
        (out / "images").mkdir(parents=True, exist_ok=True)
        for old in [*(out / "images").glob("slice_*.png"), *out.glob("labels_*_zyx.tif")]:
            old.unlink()


def _write_slices(reef: SampleReef, out: Path, job: Job) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    with ExitStack() as stack:
        writers = {name: _label_writer(stack, out / name, reef.geometry) for name in _LAYERS}
        steps = job.tracked(range(len(reef)), len(reef), "Making slices")
        for z in steps:
            made = reef.slice(z)
            with explained(out, "Writing a slice into"):
                Image.fromarray(made.rgb).save(_picture(out, z))
                for name, layer in _LAYERS.items():
                    writers[name](getattr(made, layer))
            annotations += _annotations(made, z, reef.textures, len(annotations))
    return annotations


def _picture(out: Path, z: int) -> Path:
    return out / "images" / f"slice_{z:04d}.png"


def _label_writer(
    stack: ExitStack, path: Path, geometry: StackGeometry
) -> Callable[[Labels], None]:
    """Open a label volume; the function that comes back appends a slice to it."""
    with explained(path, "Writing"):
        writer = stack.enter_context(tifffile.TiffWriter(path, bigtiff=False))
    per_cm = _UM_PER_CM / geometry.pixel_size_um
    description = f"label volume; spacing={geometry.slice_spacing_um}; unit=um; axes=ZYX"

    def append(labels: Labels) -> None:
        writer.write(
            labels,
            compression="zlib",
            contiguous=False,
            description=description,
            metadata=None,
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
        )

    return append


# ------------------------------------------------------------------------ COCO


def _annotations(
    made: SampleSlice, z: int, textures: Mapping[int, str], before: int
) -> list[dict[str, Any]]:
    """All annotations of a slice in COCO's form, numbered on from `before`."""
    found = list(_found(made, textures))
    return [
        {
            "id": before + number,
            "image_id": z + 1,
            "category_id": CATEGORIES[category],
            "iscrowd": 0,
            "area": mask.area,
            "bbox": _bbox(mask),
            "segmentation": {"size": list(mask.shape), "counts": mask.counts.decode("ascii")},
            "attributes": attributes | {"confidence": _confidence(mask)},
        }
        for number, (category, mask, attributes) in enumerate(found, 1)
    ]


def _found(
    made: SampleSlice, textures: Mapping[int, str]
) -> Iterator[tuple[str, Mask, dict[str, Any]]]:
    """Class, mask and attributes of every instance.

    Each connected section of an archaeocyathid and of its cavity is an instance of its own;
    calcimicrobe and shells, which noise and preservation break to pieces, are one a specimen.
    """
    for part, labels in (("body", made.specimens), ("cavity", made.cavities)):
        for specimen, mask in _sections(labels):
            attributes = {"texture": textures[specimen], "specimen": specimen, "part": part}
            yield "archaeocyathid", mask, attributes
    for category, texture, labels in (
        ("calcimicrobe", "clotted", made.calcimicrobes),
        ("shell", None, made.shells),
    ):
        for specimen, mask in masks_of_labels(labels).items():
            attributes = {"texture": texture, "specimen": specimen, "part": "body"}
            yield category, mask, attributes
    if made.rock.any():
        yield "rock_face", Mask.from_array(made.rock), {"texture": None}


def _sections(labels: Labels) -> Iterator[tuple[int, Mask]]:
    """Specimen and mask of each connected section (pixels touch at corners, too)."""
    shape = (labels.shape[0], labels.shape[1])
    for specimen, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        pieces, count = ndimage.label(labels[box] == specimen, _EIGHT_NEIGHBOURS)
        for piece in range(1, count + 1):
            yield specimen, Mask.from_crop(pieces == piece, (box[0].start, box[1].start), shape)


def _bbox(mask: Mask) -> list[int]:
    """COCO's box: x, y, width, height."""
    y0, x0, y1, x1 = mask.box
    return [x0, y0, x1 - x0, y1 - y0]


def _confidence(mask: Mask) -> str:
    return "sure" if mask.area >= SURE_AREA_PX else "unsure"


def _coco(reef: SampleReef, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    height, width = reef.slice(0).rock.shape
    images = [
        {
            "id": z + 1,
            "file_name": f"slice_{z:04d}.png",
            "width": width,
            "height": height,
            "slice": z,
        }
        for z in range(len(reef))
    ]
    categories = [
        {"id": number, "name": name, "supercategory": "region" if "rock" in name else "fossil"}
        for name, number in CATEGORIES.items()
    ]
    return {"images": images, "categories": categories, "annotations": annotations}


# ----------------------------------------------------------------------- truth


def _truth(reef: SampleReef) -> dict[str, Any]:
    """Everything that is known of a reef but its pixels."""
    geometry = reef.geometry
    shifts = (reef.shift(z) for z in range(len(reef)))
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "params": reef.params.model_dump(mode="json"),
        "geometry": {
            "pixel_size_um": geometry.pixel_size_um,
            "slice_spacing_um": geometry.slice_spacing_um,
            "z_direction": geometry.z_direction.value,
        },
        "misalignment": [
            {"slice": z, "dy_px": shift.dy, "dx_px": shift.dx, "angle_deg": shift.angle_deg}
            for z, shift in enumerate(shifts)
        ],
        "volumes": [record.as_dict() for record in reef.volumes()],
    }


def _summary(out: Path, reef: SampleReef, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    specimens = {a["attributes"].get("specimen") for a in annotations} - {None}
    return {
        "folder": str(out),
        "images": str(out / "images"),
        "annotations_file": str(out / "annotations.json"),
        "slices": len(reef),
        "specimens": len(specimens),
        "annotations": len(annotations),
    }
