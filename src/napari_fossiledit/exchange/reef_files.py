"""A sample reef as files: pictures, COCO, label volumes and everything that is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, remove_leftovers, write_json
from napari_fossiledit.masks.labels import masks_of_labels
from napari_fossiledit.masks.rle import Mask
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.samples.reef import Reef, ReefSlice

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


def write_reef(reef: Reef, out: Path, job: Job = QUIET) -> dict[str, Any]:
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
    return {
        "folder": str(out),
        "images": str(out / "images"),
        "annotations_file": str(out / "annotations.json"),
        "slices": len(reef),
        "specimens": len({a["attributes"].get("specimen") for a in annotations} - {None}),
        "annotations": len(annotations),
    }


def _prepare(out: Path) -> None:
    """Make the folder; where it holds an older sample, remove that."""
    with explained(out, "Opening"):
        remove_leftovers(out)
        entries = sorted(p.name for p in out.iterdir()) if out.exists() else []
    # A run that was killed at its start leaves the folder of pictures, empty.
    begun = entries == ["images"] and not any((out / "images").glob("*"))
    if entries and not begun and "truth.json" not in entries:
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


def _write_slices(reef: Reef, out: Path, job: Job) -> list[dict[str, Any]]:
    """Write pictures and labels slice by slice, and return the annotations in COCO's form."""
    per_cm = _UM_PER_CM / reef.geometry.pixel_size_um
    spacing = reef.geometry.slice_spacing_um
    tags: dict[str, Any] = {
        "compression": "zlib",
        "contiguous": False,
        "description": f"label volume; spacing={spacing}; unit=um; axes=ZYX",
        "metadata": None,
        "resolution": (per_cm, per_cm),
        "resolutionunit": "CENTIMETER",
    }
    annotations: list[dict[str, Any]] = []
    with ExitStack() as stack:
        writers = {}
        for name, layer in _LAYERS.items():
            with explained(out / name, "Writing"):
                writer = tifffile.TiffWriter(out / name, bigtiff=False)
            writers[layer] = stack.enter_context(writer)
        for z in job.tracked(range(len(reef)), len(reef), "Making slices"):
            made = reef.slice(z)
            with explained(out, "Writing a slice into"):
                Image.fromarray(made.rgb).save(out / "images" / f"slice_{z:04d}.png")
                for layer, writer in writers.items():
                    writer.write(getattr(made, layer), **tags)
            for category, mask, attributes in _instances(made, reef.textures):
                y0, x0, y1, x1 = mask.box
                confidence = "sure" if mask.area >= SURE_AREA_PX else "unsure"
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": z + 1,
                        "category_id": CATEGORIES[category],
                        "iscrowd": 0,
                        "area": mask.area,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "segmentation": {
                            "size": list(mask.shape),
                            "counts": mask.counts.decode("ascii"),
                        },
                        "attributes": attributes | {"confidence": confidence},
                    }
                )
    return annotations


def _instances(
    made: ReefSlice, textures: Mapping[int, str]
) -> Iterator[tuple[str, Mask, dict[str, Any]]]:
    """Yield class, mask and attributes of every instance.

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
            yield category, mask, {"texture": texture, "specimen": specimen, "part": "body"}
    if made.rock.any():
        yield "rock_face", Mask.from_array(made.rock), {"texture": None}


def _sections(labels: NDArray[np.uint16]) -> Iterator[tuple[int, Mask]]:
    """Yield specimen and mask of each connected section (pixels touch at corners, too)."""
    shape = (labels.shape[0], labels.shape[1])
    for specimen, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        pieces, count = ndimage.label(labels[box] == specimen, _EIGHT_NEIGHBOURS)
        for piece in range(1, count + 1):
            yield specimen, Mask.from_crop(pieces == piece, (box[0].start, box[1].start), shape)


def _coco(reef: Reef, annotations: list[dict[str, Any]]) -> dict[str, Any]:
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


def _truth(reef: Reef) -> dict[str, Any]:
    """Return everything that is known of a reef but its pixels."""
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
