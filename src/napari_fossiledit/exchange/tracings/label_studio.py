"""Label Studio's own JSON: tasks with painted masks and polygons, read as COCO, and written.

A painted mask is a run-length code of the values red, green, blue, alpha of the image, row by row,
packed into bits (`decode_brush`). The program's own COCO export keeps no hole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.coco_writer import attributes_of, traced_of
from napari_fossiledit.exchange.tracings.tracing_file import ProblemList, TracedSlice, size_text
from napari_fossiledit.files import replacing
from napari_fossiledit.masks import Instance, Mask

#: Where Label Studio serves photographs of a folder of its own computer.
_ROOT = "/data/local-files/?d="
#: Bits that a length takes, of which each run chooses one, as Label Studio writes them.
_SIZES = (3, 4, 8, 16)
_CHANNELS = 4


def decode_brush(code: Any, shape: tuple[int, int]) -> Mask:
    """Decode a painted mask: the pixels whose alpha is not 0.

    The head is the number of values (32 bits), bits a value less 1 (5) and four sizes less 1 (4
    each). Then come runs: whether all values of one are the same (1), which size (2), the length
    less 1 in as many bits, and its one value or all of them.

    Parameters
    ----------
    code
        Bytes as whole numbers.
    shape
        Rows and columns (y, x) of the slice.

    Raises
    ------
    FossilError
        Where the code is broken or of another size.
    """
    try:
        data = bytes(code if isinstance(code, list) else [])
    except (TypeError, ValueError) as error:
        raise _broken(str(error)) from error
    place = 0

    def read(bits: int) -> int:
        nonlocal place
        start, place = place, place + bits
        if place > 8 * len(data):
            raise _broken("a code that breaks off")
        window = int.from_bytes(data[start // 8 : (place + 7) // 8])
        return (window >> (-place % 8)) & ((1 << bits) - 1)

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in _SIZES]
    if total != _CHANNELS * shape[0] * shape[1]:
        raise _broken(f"{total} values", f"{_CHANNELS} for each of {size_text(shape)}")
    lengths: list[int] = []
    values: list[int] = []
    done = 0
    while done < total:
        same, size = read(1), sizes[read(2)]
        length = read(size) + 1
        values += [read(word)] if same else [read(word) for _ in range(length)]
        lengths += [length] if same else [1] * length
        done += length
    if done > total:
        raise _broken(f"{done} values", str(total))
    ends = np.cumsum(lengths, dtype=np.int64)
    # Of the pixels whose four values begin in a run, it holds the alpha of all but the last.
    first, last = (ends - np.array(lengths)) // _CHANNELS, ends // _CHANNELS
    inside = (np.array(values) > 0) & (first < last)
    if not inside.any():
        return Mask.empty(shape)
    first, last = first[inside], last[inside]
    top, foot = int(first[0]) // shape[1], -(-int(last[-1]) // shape[1])
    steps = np.zeros((foot - top) * shape[1] + 1, dtype=np.int8)
    np.add.at(steps, first - top * shape[1], 1)
    np.add.at(steps, last - top * shape[1], -1)
    pixels = np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_).reshape(-1, shape[1])
    return Mask.from_crop(pixels, (top, 0), shape)


def encode_brush(mask: Mask) -> list[int]:
    """Encode a mask as a painted one (see `decode_brush`)."""
    rows, columns = mask.shape
    y0, x0, _, _ = mask.box
    change = np.diff(mask.crop().astype(np.int8), axis=1, prepend=0, append=0)
    starts, ends = (
        (y + y0) * columns + x + x0 for y, x in (np.nonzero(change == step) for step in (1, -1))
    )
    edges = np.stack([starts, ends], axis=1).ravel()
    lengths = _CHANNELS * np.diff(edges, prepend=0, append=rows * columns)
    bits = [f"{_CHANNELS * rows * columns:032b}", f"{7:05b}", *(f"{s - 1:04b}" for s in _SIZES)]
    most = 1 << _SIZES[-1]
    for n, length in enumerate(lengths.tolist()):
        for piece in (min(length - done, most) for done in range(0, length, most)):
            choice = next(c for c, size in enumerate(_SIZES) if piece <= 1 << size)
            bits.append(f"1{choice:02b}{piece - 1:0{_SIZES[choice]}b}{255 * (n % 2):08b}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8))


def _broken(found: str, expected: str = "the run lengths of a painted mask") -> FossilError:
    return FossilError("A mask of Label Studio is broken", expected=expected, found=found)


# ----------------------------------------------------------------------- tasks


def are_tasks(content: Any) -> TypeGuard[list[dict[str, Any]]]:
    """Return whether the content of a JSON file is a list of tasks of Label Studio."""
    return (
        isinstance(content, list)
        and content != []
        and all(isinstance(t, dict) and isinstance(t.get("data"), dict) for t in content)
    )


def as_coco(file: ProblemList, tasks: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return tasks as the content of a COCO file, masks as they are (``rle``).

    Predictions are left out. Of several annotations of a task the last is read, which is told.
    """
    images, annotations, names, repeated = [], [], set[str](), 0
    for n, task in enumerate(tasks):
        done = task.get("annotations")
        there = [
            a
            for a in (done if isinstance(done, list) else [])
            if isinstance(a, dict) and not a.get("was_cancelled")
        ]
        repeated += len(there) > 1
        data = task["data"]
        texts = [v for v in (data.get("image"), *data.values()) if isinstance(v, str)]
        kept = {key: data[key] for key in ("slice", "traced") if key in data}
        image = {"id": n, "file_name": texts[0].removeprefix(_ROOT) if texts else None} | kept
        images.append(image)
        for region in _regions(there[-1] if there else {}):
            size = [region.get("original_height"), region.get("original_width")]
            image |= {"height": size[0], "width": size[1]}
            value = region["value"]
            labels = next((v for k, v in value.items() if k.endswith("labels")), None)
            label = labels[0] if isinstance(labels, list) and labels else None
            names |= {label} if isinstance(label, str) else set()
            annotations.append(
                {
                    "id": region.get("id"),
                    "image_id": n,
                    "category_id": label,
                    "segmentation": _segmentation(region, value, size),
                    "score": region.get("score"),
                    "attributes": region.get("meta"),
                }
            )
            if isinstance(value.get("width"), int | float):
                annotations[-1]["bbox"] = _in_pixels(
                    [value.get(key) for key in ("x", "y", "width", "height")], size
                )
    if repeated:
        file.assume(f"the last annotation of tasks that have several: {repeated}")
    categories = [{"id": name, "name": name} for name in sorted(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _regions(annotation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return what was drawn; a brush whose label is a result of its own comes once."""
    found: dict[Any, dict[str, Any]] = {}
    result = annotation.get("result")
    for n, region in enumerate(result if isinstance(result, list) else []):
        value = region.get("value") if isinstance(region, dict) else None
        if isinstance(value, dict) and ("original_width" in region or "rle" in value):
            key = str(region.get("id", n))
            value = found.get(key, {"value": {}})["value"] | value
            found[key] = region | {"value": value}
    yield from found.values()


def _segmentation(region: dict[str, Any], value: dict[str, Any], size: list[Any]) -> Any:
    if region.get("image_rotation"):
        return {"size": f"turned by {region['image_rotation']} degrees in Label Studio"}
    if "rle" in value:
        return {"size": size, "rle": value["rle"]}
    points = value.get("points")
    if not isinstance(points, list):
        return None
    flat = [v for point in points if isinstance(point, list) for v in point]
    return [_in_pixels(flat, size)]


def _in_pixels(values: list[Any], size: list[Any]) -> list[Any] | None:
    """Return x, y, x, y ... in hundredths of the image in pixels; None where one is no number."""
    if not all(type(v) in (int, float) for v in (*values, *size)):
        return None
    return [v * size[1 - n % 2] / 100 for n, v in enumerate(values)]


def write_label_studio(
    path: Path, slices: Iterable[TracedSlice], names: Sequence[str], shape: tuple[int, int]
) -> int:
    """Write traced slices as tasks with painted masks, one slice in memory at a time.

    Parameters and errors are those of `write_coco`.
    """
    written = 0
    with replacing(path) as stream:
        for n, item in enumerate(slices):
            task = {
                "data": {
                    "image": _ROOT + names[item.z],
                    "slice": item.z,
                    "traced": traced_of(item),
                },
                "annotations": [{"result": [_region(i, item, shape) for i in item.instances]}],
            }
            text = json.dumps(task, ensure_ascii=False)
            stream.write(f"{',' if n else '['}\n{text}".encode())
            written += len(item.instances)
        stream.write(b"\n]\n")
    return written


def _region(item: Instance, of: TracedSlice, shape: tuple[int, int]) -> dict[str, Any]:
    return {
        "id": str(item.id),
        "type": "brushlabels",
        "from_name": "label",
        "to_name": "image",
        "original_height": shape[0],
        "original_width": shape[1],
        "image_rotation": 0,
        "score": item.score,
        "value": {
            "format": "rle",
            "rle": encode_brush(item.mask),
            "brushlabels": [item.class_name],
        },
        "meta": attributes_of(item, of.instances),
    }
