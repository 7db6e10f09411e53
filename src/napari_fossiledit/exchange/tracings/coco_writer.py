"""Writing COCO: run lengths, so that holes stay holes, or polygons for programs without them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from skimage.measure import find_contours

from napari_fossiledit.exchange.tracings.tracing_file import TracedSlice
from napari_fossiledit.files import replacing
from napari_fossiledit.masks import Instance, Mask

#: Value of the attribute ``review`` of what a person has found right.
ACCEPTED = "accepted"


def write_coco(
    path: Path,
    slices: Iterable[TracedSlice],
    names: Sequence[str],
    shape: tuple[int, int],
    classes: Sequence[str],
    *,
    polygons: bool = False,
) -> int:
    """Write traced slices, holding one slice in memory at a time.

    Parameters
    ----------
    slices
        What to write; instances have ids.
    names
        One name for each slice of the stack.
    shape
        Rows and columns (y, x) of a slice.
    classes
        All classes that occur.
    polygons
        Write outlines (see `outlines`) in place of run lengths.

    Returns
    -------
    int
        Number of instances written.

    Raises
    ------
    FossilError
        Where the file cannot be written; an old file is then untouched.
    """
    categories = {name: n for n, name in enumerate(classes, 1)}
    images: list[dict[str, Any]] = []
    written = 0
    with replacing(path) as stream:
        stream.write(b'{"info": {"description": "napari-fossiledit"},\n "categories": ')
        _write(stream, [{"id": n, "name": name} for name, n in categories.items()])
        stream.write(b',\n "annotations": [')
        for item in slices:
            images.append(
                {
                    "id": item.z + 1,
                    "file_name": names[item.z],
                    "height": shape[0],
                    "width": shape[1],
                    "slice": item.z,
                    "traced": traced_of(item),
                }
            )
            for instance in item.instances:
                stream.write(b",\n  " if written else b"\n  ")
                entry = _annotation(instance, categories, item.instances)
                if polygons:
                    entry["segmentation"] = outlines(instance.mask)
                _write(stream, entry)
                written += 1
        stream.write(b'],\n "images": ')
        _write(stream, images)
        stream.write(b"}\n")
    return written


def _write(stream: IO[bytes], value: Any) -> None:
    stream.write(json.dumps(value, ensure_ascii=False).encode())


def attributes_of(item: Instance, neighbours: Sequence[Instance]) -> dict[str, Any]:
    """Return what COCO has no field for; other programs keep it, or leave it out.

    Parameters
    ----------
    neighbours
        What is written of the same slice.
    """
    attributes: dict[str, Any] = {
        "part": str(item.part),
        "texture": item.texture,
        "confidence": "unsure" if item.unsure else "sure",
        "origin": str(item.origin),
        "review": ACCEPTED if item.reviewed else "",
        # What `parent` of a cavity means: ids change in other programs.
        "number": item.id,
    }
    if item.specimen is not None:
        attributes["specimen"] = item.specimen
    if any(n.id == item.parent for n in neighbours if n.id is not None):
        attributes["parent"] = item.parent
    return attributes


def traced_of(item: TracedSlice) -> bool | dict[str, Any]:
    """Return whether a slice is traced completely, or where."""
    return item.traced if item.area is None else code_of(item.area)


def outlines(mask: Mask) -> list[list[float]]:
    """Return the outlines (x, y, x, y ... in pixels) of the parts of a mask and of their holes.

    They run halfway between the pixel centres inside and outside, so that whoever asks whether
    a centre lies within an odd number of them gets the mask back. Outlines of holes run the
    other way round than those of parts.
    """
    y0, x0 = mask.box[:2]
    found = []
    for contour in find_contours(np.pad(mask.crop(), 1), 0.5, fully_connected="low"):
        # The pad shifts by a pixel; COCO's pixel centres lie at one half.
        points = contour[:-1, ::-1] + (x0 - 0.5, y0 - 0.5)
        step = np.roll(points, -1, axis=0) - points
        corner = (step != np.roll(step, 1, axis=0)).any(axis=1)
        found.append(points[corner].ravel().tolist())
    return found


def _annotation(
    item: Instance, categories: dict[str, int], neighbours: Sequence[Instance]
) -> dict[str, Any]:
    y0, x0, y1, x1 = item.mask.box
    return {
        "id": item.id,
        "image_id": item.slice + 1,
        "category_id": categories[item.class_name],
        "iscrowd": 0,
        "area": item.mask.area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "score": item.score,
        "segmentation": code_of(item.mask),
        "attributes": attributes_of(item, neighbours),
    }


def code_of(mask: Mask) -> dict[str, Any]:
    """Return a mask as compressed run lengths."""
    return {"size": list(mask.shape), "counts": mask.counts.decode("ascii")}
