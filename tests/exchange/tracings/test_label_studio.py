"""Label Studio's tasks: the code of painted masks against a plain reading of its description."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.coco import CocoFile
from napari_fossiledit.exchange.tracings.label_studio import decode_brush, encode_brush
from napari_fossiledit.exchange.tracings.tracing_file import Target, TracedSlice
from napari_fossiledit.masks import Mask, Origin, Part

SHAPE = (40, 50)
NAMES = ("s0.png", "s1.png")


def packed(values: list[int], *, literal: bool = False) -> list[int]:
    """Pack values as runs of at most 8, or value by value, with lengths of 3 bits."""
    bits = f"{len(values):032b}{7:05b}" + f"{2:04b}" * 4
    if literal:
        for n in range(0, len(values), 8):
            piece = values[n : n + 8]
            bits += f"000{len(piece) - 1:03b}" + "".join(f"{v:08b}" for v in piece)
    else:
        for value, run in groupby(values):
            count = len(list(run))
            for n in range(0, count, 8):
                bits += f"111{min(8, count - n) - 1:03b}{value:08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[n : n + 8], 2) for n in range(0, len(bits), 8)]


def unpacked(code: list[int]) -> list[int]:
    """Unpack a code bit by bit."""
    bits = iter("".join(f"{byte:08b}" for byte in code))

    def read(count: int) -> int:
        return int("".join(next(bits) for _ in range(count)), 2)

    total, word, sizes = read(32), read(5) + 1, [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        same = read(1)
        length = read(sizes[read(2)]) + 1
        values += [read(word)] * length if same else [read(word) for _ in range(length)]
    return values


def ring() -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(y - 20, x - 25)
    return (distance < 15) & (distance > 6)


def painted(pixels: np.ndarray, **options: bool) -> list[int]:
    """Pack a mask as the brush paints it: a colour, and alpha where it is."""
    image = np.zeros((*pixels.shape, 4), dtype=int)
    image[pixels] = (255, 0, 7, 255)
    return packed(image.ravel().tolist(), **options)


@pytest.mark.parametrize("literal", [False, True])
def test_a_painted_mask_is_where_alpha_is(literal: bool) -> None:
    assert decode_brush(painted(ring(), literal=literal), SHAPE) == Mask.from_array(ring())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_masks_are_packed_so_that_a_plain_reader_gets_them(data: st.DataObject) -> None:
    rows, columns = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 300)))
    seed = data.draw(st.integers(0, 10**6))
    pixels = np.random.default_rng(seed).random((rows, columns)) < data.draw(st.floats(0.01, 1))
    pixels |= data.draw(st.booleans())
    mask = Mask.from_array(pixels)
    code = encode_brush(mask)
    assert unpacked(code) == np.repeat(255 * pixels.ravel(), 4).tolist()
    assert decode_brush(code, (rows, columns)) == mask


def test_the_code_begins_as_label_studio_writes_it() -> None:
    pixels = np.zeros((2527, 3332), dtype=bool)
    pixels[1200, 1600:1700] = True
    head = [2, 1, 233, 240, 57, 27, 255, 255, 255, 0, 255, 255, 224, 31, 255, 252, 3, 255, 255, 128]
    assert encode_brush(Mask.from_array(pixels))[: len(head)] == head


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (painted(ring())[:-2], "breaks off"),
        (painted(ring()[:20]), "found 4000 values"),
        ([0, 0, 31, 64, *packed([0] * 7999 + [1] * 8)[4:]], "found 8007 values"),
        ([256, 1], "range"),
        (["a"], "str"),
        ("nothing", "breaks off"),
    ],
)
def test_a_broken_code_is_told(code: Any, found: str) -> None:
    with pytest.raises(FossilError, match=found):
        decode_brush(code, SHAPE)


# ----------------------------------------------------------------------- tasks


def region(kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    size = {"original_width": SHAPE[1], "original_height": SHAPE[0], "image_rotation": 0}
    names = {"from_name": "label", "to_name": "image", "origin": "manual", "type": kind}
    return size | names | {"id": "Dx_aB91ISN", "value": value} | more


def task(*result: dict[str, Any], image: str = "/data/upload/3/cb0618f6-s0.png") -> dict[str, Any]:
    done = {"id": 5, "completed_by": 1, "was_cancelled": False, "result": list(result)}
    return {"id": 1, "data": {"image": image}, "annotations": [done], "predictions": []}


def read(tmp_path: Path, *tasks: dict[str, Any]) -> tuple[list[TracedSlice], CocoFile]:
    path = tmp_path / "project-3.json"
    path.write_text(json.dumps(tasks))
    file = CocoFile(path, Target(NAMES, SHAPE))
    return list(file.traced_slices()), file


BRUSH = {"format": "rle", "rle": painted(ring()), "brushlabels": ["archaeocyathid"]}
SQUARE = {"points": [[20, 25], [40, 25], [40, 50], [20, 50]], "polygonlabels": ["calcimicrobe"]}


def test_tasks_are_read(tmp_path: Path) -> None:
    box = {"x": 10, "y": 10, "width": 20, "height": 50, "rectanglelabels": ["calcimicrobe"]}
    slices, file = read(
        tmp_path,
        task(
            region("brushlabels", BRUSH, meta={"text": ["why"], "part": "cavity", "specimen": 4}),
            region("polygonlabels", SQUARE, id="b"),
            region("rectanglelabels", box, id="c"),
            {"type": "choices", "value": {"choices": ["good"]}, "id": "d"},
            {"type": "relation", "from_id": "b", "to_id": "c"},
        ),
        task(region("brushlabels", BRUSH), image="/data/local-files/?d=rock/s1.png"),
    )
    assert [s.z for s in slices] == [0, 1]
    ring_, square = slices[0].instances
    assert (ring_.mask, ring_.class_name) == (Mask.from_array(ring()), "archaeocyathid")
    assert (ring_.part, ring_.specimen, ring_.origin) == (Part.CAVITY, 4, Origin.IMPORTED)
    assert (square.mask.box, square.mask.area) == ((10, 10, 20, 20), 100)
    assert square.class_name == "calcimicrobe"
    assert [p.where for p in file.problems] == ["annotation c"]
    assert "box only" in file.problems[0].reason
    # The box may hold a fossil: it is no part of what is traced.
    area = slices[0].area
    assert area is not None
    assert not area.to_array()[4:24, 5:15].any()
    assert area.area == SHAPE[0] * SHAPE[1] - 200


def test_a_brush_whose_label_stands_apart_is_one_instance(tmp_path: Path) -> None:
    bare = {"format": "rle", "rle": painted(ring())}
    named = bare | {"labels": ["archaeocyathid"]}
    slices, file = read(tmp_path, task(region("brush", bare), region("labels", named)))
    assert [i.class_name for i in slices[0].instances] == ["archaeocyathid"]
    assert (file.problems, file.duplicates) == ([], 0)


def test_which_annotation_of_a_task_is_read_is_told(tmp_path: Path) -> None:
    both = task(region("brushlabels", BRUSH))
    late = {"was_cancelled": False, "result": [region("polygonlabels", SQUARE)]}
    both["annotations"] += [late, {"was_cancelled": True, "result": []}]
    both["predictions"] = [{"result": [region("brushlabels", BRUSH)]}]
    slices, file = read(tmp_path, both)
    assert [i.class_name for i in slices[0].instances] == ["calcimicrobe"]
    assert "the last annotation of tasks that have several: 1" in file.assumptions


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"image_rotation": 90}, "turned by 90 degrees in Label Studio"),
        ({"value": BRUSH | {"rle": painted(ring())[:-3]}}, "breaks off"),
        ({"value": {"points": [["a", 1]], "polygonlabels": ["x"]}}, "no list of numbers"),
        ({"value": {"rle": painted(ring())}}, "category"),
        ({"value": {"ellipselabels": ["x"], "x": 1}}, "found nothing"),
    ],
)
def test_a_region_that_cannot_be_read_leaves_the_slice_untraced(
    tmp_path: Path, changed: dict[str, Any], found: str
) -> None:
    bad = region("brushlabels", BRUSH, id="bad") | changed
    slices, file = read(tmp_path, task(region("polygonlabels", SQUARE), bad))
    assert [found in p.reason for p in file.problems] == [True]
    assert ([len(s.instances) for s in slices], slices[0].traced) == ([1], False)


def test_tasks_of_another_size_say_so(tmp_path: Path) -> None:
    half = region("brushlabels", BRUSH) | {"original_width": 25, "original_height": 20}
    with pytest.raises(FossilError, match="expected 50 x 40 pixels; found 25 x 20 pixels"):
        read(tmp_path, task(half))
