"""Writing COCO: compressed run lengths, so that holes stay holes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from napari_fossiledit.exchange.tracings.tracing_file import TracedSlice
from napari_fossiledit.files import replacing
from napari_fossiledit.masks import Instance, Mask


def write_coco(
    path: Path,
    slices: Iterable[TracedSlice],
    names: Sequence[str],
    shape: tuple[int, int],
    classes: Sequence[str],
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
                    "traced": item.traced if item.area is None else _code(item.area),
                }
            )
            for instance in item.instances:
                stream.write(b",\n  " if written else b"\n  ")
                _write(stream, _annotation(instance, categories, item.instances))
                written += 1
        stream.write(b'],\n "images": ')
        _write(stream, images)
        stream.write(b"}\n")
    return written


def _write(stream: IO[bytes], value: Any) -> None:
    stream.write(json.dumps(value, ensure_ascii=False).encode())


def _annotation(
    item: Instance, categories: dict[str, int], neighbours: Sequence[Instance]
) -> dict[str, Any]:
    y0, x0, y1, x1 = item.mask.box
    attributes: dict[str, Any] = {
        "part": str(item.part),
        "texture": item.texture,
        "confidence": "unsure" if item.unsure else "sure",
    }
    if item.specimen is not None:
        attributes["specimen"] = item.specimen
    if any(n.id == item.parent for n in neighbours if n.id is not None):
        attributes["parent"] = item.parent
    return {
        "id": item.id,
        "image_id": item.slice + 1,
        "category_id": categories[item.class_name],
        "iscrowd": 0,
        "area": item.mask.area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "score": item.score,
        "segmentation": _code(item.mask),
        "attributes": attributes,
    }


def _code(mask: Mask) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": mask.counts.decode("ascii")}
