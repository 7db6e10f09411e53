"""COCO files: masks against pycocotools, slices matched, and everything that is broken."""

from __future__ import annotations

import contextlib
import io
import json
import re
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco
from pycocotools.coco import COCO
from skimage.draw import polygon2mask

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.coco import CocoFile, CocoReading
from napari_fossiledit.exchange.tracings.coco_masks import scaled_code
from napari_fossiledit.exchange.tracings.coco_writer import write_coco
from napari_fossiledit.exchange.tracings.tracing_file import Target, TracedSlice
from napari_fossiledit.masks import Instance, Mask, Part

SHAPE = (40, 50)
NAMES = ("Slice_00.png", "Slice_01.png", "Slice_02.png")
TARGET = Target(NAMES, SHAPE)
SQUARE = [10, 5, 20, 5, 20, 15, 10, 15]


def ring() -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(y - 20, x - 25)
    return (distance < 15) & (distance > 6)


def compressed(array: np.ndarray) -> dict[str, Any]:
    code = coco.encode(np.asfortranarray(array, dtype=np.uint8))
    return {"size": list(array.shape), "counts": code["counts"].decode()}


def uncompressed(array: np.ndarray) -> dict[str, Any]:
    edges = np.flatnonzero(np.diff(array.ravel(order="F").astype(int), prepend=0))
    counts = np.diff(edges, prepend=0, append=array.size).tolist()
    return {"size": list(array.shape), "counts": counts}


def content(*annotations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    images = [
        {"id": n, "file_name": name, "height": SHAPE[0], "width": SHAPE[1]}
        for n, name in enumerate(NAMES, 1)
    ]
    basis = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": compressed(ring())}
    numbered = [basis | {"id": n} | a for n, a in enumerate(annotations, 1)]
    categories = [{"id": 1, "name": "archaeocyathid"}, {"id": 2, "name": "calcimicrobe"}]
    return {"images": images, "annotations": numbered, "categories": categories} | changes


def read(
    tmp_path: Path, value: Any, target: Target = TARGET, name: str = "", **reading: Any
) -> tuple[list[TracedSlice], CocoFile]:
    path = tmp_path / "traced.json"
    path.write_text(json.dumps(value))
    file = CocoFile(path, target, CocoReading(name, **reading))
    slices = list(file.traced_slices())
    # Told of nearly every file here.
    untold = "completely traced, which the file does not say"
    file.assumptions = [a for a in file.assumptions if not a.startswith(untold)]
    return slices, file


def only(tmp_path: Path, annotation: dict[str, Any]) -> Instance:
    slices, file = read(tmp_path, content(annotation))
    assert file.problems == []
    return slices[0].instances[0]


def reasons(file: CocoFile) -> str:
    return "\n".join(str(p) for p in file.problems)


def squares(*sides: int) -> list[list[int]]:
    """Make squares around the same centre."""
    ends = [(25 - s // 2, 25 + s // 2, 20 - s // 2, 20 + s // 2) for s in sides]
    return [[left, top, right, top, right, foot, left, foot] for left, right, top, foot in ends]


# ------------------------------------------------------------------------ masks


@pytest.mark.parametrize("write", [compressed, uncompressed])
def test_run_lengths_keep_holes(tmp_path: Path, write: Any) -> None:
    assert (only(tmp_path, {"segmentation": write(ring())}).mask.to_array() == ring()).all()


def test_a_polygon_covers_the_pixels_between_its_edges(tmp_path: Path) -> None:
    expected = np.zeros(SHAPE, dtype=bool)
    expected[5:15, 10:20] = True
    assert (only(tmp_path, {"segmentation": [SQUARE]}).mask.to_array() == expected).all()
    assert only(tmp_path, {"segmentation": SQUARE}).mask.area == 100


def test_a_polygon_agrees_with_another_rasteriser(tmp_path: Path) -> None:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    points = np.stack([25 + 18 * np.cos(angle), 20 + 14 * np.sin(angle)], axis=1)
    mask = only(tmp_path, {"segmentation": [points.ravel().tolist()]}).mask.to_array()
    # A pixel's centre lies half a pixel from its edge, where COCO counts from.
    other = polygon2mask(SHAPE, points[:, ::-1] - 0.5)
    assert (mask & other).sum() / (mask | other).sum() > 0.97
    assert abs(mask.sum() - np.pi * 18 * 14) < 15


def test_several_polygons_are_parts_of_one_instance(tmp_path: Path) -> None:
    parts = [SQUARE, [30, 20, 40, 20, 40, 30, 30, 30]]
    mask = only(tmp_path, {"segmentation": parts}).mask
    assert mask.area == 200


@pytest.mark.parametrize(
    ("parts", "area", "holes"),
    [
        (squares(20, 10), 300, 1),
        (squares(10, 20), 300, 1),
        # An island in the hole, and a second part with a hole of its own.
        (squares(20, 10, 4), 316, 1),
        ([*squares(20, 10), [1, 1, 9, 1, 9, 9, 1, 9], [3, 3, 5, 3, 5, 5, 3, 5]], 360, 2),
        # The same outline twice, and once more a little smaller.
        (squares(20, 20), 400, 0),
        ([squares(30)[0], [10, 5, 40, 5, 40, 34.5, 10, 34.5]], 900, 0),
        # Halves that overlap are parts.
        ([SQUARE, [15, 5, 25, 5, 25, 15, 15, 15]], 150, 0),
    ],
    ids=str,
)
def test_a_polygon_in_another_is_a_hole(
    tmp_path: Path, parts: list[Any], area: int, holes: int
) -> None:
    slices, file = read(tmp_path, content({"segmentation": parts}))
    assert slices[0].instances[0].mask.area == area
    assert file.assumptions == (
        [
            "polygons inside another one of their annotation taken for holes (--holes fill "
            f"fills them): {holes}"
        ]
        if holes
        else []
    )


def test_holes_are_filled_where_asked(tmp_path: Path) -> None:
    slices, file = read(tmp_path, content({"segmentation": squares(20, 10)}), fill_holes=True)
    assert (slices[0].instances[0].mask.area, file.assumptions) == (400, [])


def test_what_lies_outside_the_slice_is_cut_off(tmp_path: Path) -> None:
    mask = only(tmp_path, {"segmentation": [[-20, -20, 8, -20, 8, 6, -20, 6]]}).mask
    assert mask.box == (0, 0, 6, 8)
    assert mask.area == 48
    _, file = read(tmp_path, content({"segmentation": [[-20, -20, 8, -20, 8, 6, -20, 6]]}))
    assert file.assumptions == ["annotations that reach out of the slice, cut off: 1"]


BROKEN = [
    ([[1, 1, 5, 5]], "has 2 points"),
    ([[1, 1, 5, 5, 9]], "2.5 points"),
    ([[1, 1, 5, 5, 9, 9]], "no pixel"),
    ([[3, 1, 3, 5, 3, 9]], "encloses nothing"),
    ([["a", 1, 5, 5, 9, 1]], "no list of numbers"),
    ([[1e300, 1, 5, 5, 9, 1]], "far beyond"),
    ([[float("nan"), 1, 5, 5, 9, 1]], "far beyond"),
    ([[0.2, 0.2, 0.4, 0.2, 0.4, 0.5]], "in shares of the slice"),
    ([[200, 200, 230, 200, 230, 230]], "far beyond"),
    ([[60, 60, 70, 60, 70, 70]], "no pixel"),
    ([], "no polygon"),
    (None, "expected polygons or run lengths; found nothing"),
    ("abc", "found str"),
    ({"size": [3, 3], "counts": "abc"}, "expected 50 x 40 pixels; found 3 x 3 pixels"),
    ({"counts": "abc"}, "found None"),
    ({"size": [40, 50], "counts": None}, "found NoneType"),
    ({"size": [40, 50], "counts": [1, 2, 3]}, "found 6 pixels"),
    ({"size": [40, 50], "counts": [2000.0]}, "found list"),
    ({"size": [40, 50], "counts": [10**30]}, "does not fit"),
    ({"size": [40, 50], "counts": ""}, "broken"),
    ({"size": [40, 50], "counts": "\u00e9~~~"}, "broken"),
    ({"size": [40, 50], "counts": "01"}, "does not fit"),
    ({"size": [40, 50], "counts": compressed(ring())["counts"][:-3]}, "does not fit|broken"),
    ({"size": [40, 50], "counts": [2000]}, "no pixel"),
]


@pytest.mark.parametrize(("code", "found"), BROKEN, ids=lambda v: str(v)[:40])
def test_a_broken_mask_is_left_out_and_told(tmp_path: Path, code: Any, found: str) -> None:
    slices, file = read(tmp_path, content({"segmentation": code, "id": 77}, {}))
    assert len(slices[0].instances) == 1
    assert file.problems[0].where == "annotation 77"
    assert re.search(found, file.problems[0].reason), reasons(file)


def test_a_bad_part_does_not_cost_the_good_ones(tmp_path: Path) -> None:
    slices, file = read(tmp_path, content({"segmentation": [SQUARE, [1, 1, 5, 5]]}))
    assert slices[0].instances[0].mask.area == 100
    assert "polygon 2 has 2 points" in reasons(file)


# ---------------------------------------------------------------------- images


@pytest.mark.parametrize(
    ("entry", "z"),
    [
        ({"file_name": "Slice_01.png"}, 1),
        ({"file_name": "photos/Slice_01.jpg"}, 1),
        ({"file_name": "photos\\slice_01.TIF"}, 1),
        ({"file_name": "other.png", "slice": 2}, 2),
        ({"slice_index": 2}, 2),
        ({"file_name": "Slice_00.png", "slice": 2}, 0),
    ],
)
def test_images_are_matched_to_slices(tmp_path: Path, entry: dict[str, Any], z: int) -> None:
    image = {"id": 9, "height": SHAPE[0], "width": SHAPE[1]} | entry
    slices, _ = read(tmp_path, content({"image_id": 9}, images=[image]))
    assert [s.z for s in slices] == [z]


def test_nameless_images_are_laid_on_the_chosen_slices(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"scan{n}.png"} for n in (5, 6)]
    value = content({"image_id": 6}, images=images)
    slices, _ = read(tmp_path, value, replace(TARGET, slices=(0, 2)))
    assert [s.z for s in slices] == [2]
    with pytest.raises(FossilError, match=r"expected 3 or 1 images.*found 2 images.*--slices"):
        read(tmp_path, value, replace(TARGET, slices=(0,)))
    with pytest.raises(FossilError, match=r"expected Slice_00.*found image scan5.*--slices"):
        read(tmp_path, value)


def test_what_is_assumed_of_images_is_told(tmp_path: Path) -> None:
    size = {"height": SHAPE[0], "width": SHAPE[1]}
    images = [
        {"id": 1, "file_name": "images\\cb0618f6-Slice_00.png", "slice": 0},
        {"id": 2, "file_name": "other.png", "slice": "1"},
        {"id": 3, "file_name": "Slice_02.png", "slice": 7, "slice_index": 0},
    ]
    value = content(*({"image_id": n} for n in (1, 2, 3)), images=[i | size for i in images])
    slices, file = read(tmp_path, value)
    assert [s.z for s in slices] == [0, 1, 2]
    assert file.assumptions == [
        r"images matched by the end of their names: 1, e.g. images\cb0618f6-Slice_00.png to slice 0"
        " (Slice_00.png)",
        "images matched by the number of the slice they tell: 1",
        "images that tell another slice than their names, which were followed: 1, e.g."
        " Slice_02.png slice 0 instead of 2",
    ]


def test_images_of_two_folders_are_refused(tmp_path: Path) -> None:
    value = content({})
    value["images"] = [
        value["images"][0] | {"id": n, "file_name": f"{n}/{NAMES[0]}"} for n in (1, 2)
    ]
    with pytest.raises(FossilError, match=r"Several images of .* fit the same slice.*image 1/"):
        read(tmp_path, value)


def test_images_that_tell_the_same_slice_are_left_out(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"x{n}.png", "slice": max(n, 2)} for n in (1, 2, 3)]
    value = content(*({"image_id": n} for n in (1, 2, 3)), images=images)
    target = replace(TARGET, names=("a", "b", "c", "d"))
    slices, file = read(tmp_path, value, target)
    assert [s.z for s in slices] == [3]
    why = "another image or several fit slice 2 (annotations left out with it: 1)"
    assert reasons(file) == f"image x1.png: {why}\nimage x2.png: {why}"


def test_chosen_slices_get_the_images_in_the_order_of_their_names(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"img{n}.png"} for n in (1, 10, 2)]
    value = content(*({"image_id": n, "track_id": n} for n in (1, 10, 2)), images=images)
    slices, file = read(tmp_path, value, replace(TARGET, slices=(0, 1, 2)))
    assert [(s.z, s.instances[0].specimen) for s in slices] == [(0, 1), (1, 2), (2, 10)]
    assert file.assumptions[0].endswith("in the order of their names, from img1.png to img10.png")


def test_an_image_that_is_no_entry_is_told(tmp_path: Path) -> None:
    value = content({"image_id": 6}, images=["x", {"id": 6}])
    slices, file = read(tmp_path, value, replace(TARGET, slices=(0, 2)))
    assert [s.z for s in slices] == [2]
    assert "image 0" in reasons(file)


def test_halves_of_characters_harm_nothing(tmp_path: Path) -> None:
    broken = {"segmentation": {"size": list(SHAPE), "counts": "\ud800"}}
    value = content(broken, {"attributes": {"texture": "\ud800"}}, {"category_id": 3})
    value["categories"].append({"id": 3, "name": "\ud800"})
    slices, file = read(tmp_path, value)
    assert [(i.class_name, i.texture) for s in slices for i in s.instances] == [
        ("archaeocyathid", ""),
        ("_", ""),
    ]
    assert "A run-length code is broken" in reasons(file)


def test_chosen_slices_alone_are_read(tmp_path: Path) -> None:
    value = content({"image_id": 1}, {"image_id": 2}, {"image_id": 3})
    slices, file = read(tmp_path, value, replace(TARGET, slices=(0, 2)))
    assert [s.z for s in slices] == [0, 2]
    assert file.problems == []


def test_what_belongs_to_no_slice_is_told(tmp_path: Path) -> None:
    value = content({}, {"image_id": 55}, {"image_id": [1]}, {"image_id": 4})
    value["images"] += [{"id": 4, "file_name": "unknown.png"}, "nonsense"]
    value["annotations"].append(17)
    slices, file = read(tmp_path, value)
    assert len(slices[0].instances) == 1
    told = reasons(file)
    assert "image unknown.png: it is no slice" in told
    assert "annotation 2: its image is not in the file" in told
    assert "annotation 3: its image is not in the file" in told
    assert "annotation at position 4: it is no annotation" in told
    assert len(file.problems) == 5


def test_an_image_of_another_size_is_left_out(tmp_path: Path) -> None:
    value = content({"segmentation": [SQUARE]}, {"segmentation": [SQUARE], "image_id": 2})
    value["images"][1]["width"] = 99
    slices, file = read(tmp_path, value)
    assert [s.z for s in slices] == [0]
    told = "image Slice_01.png: it is of another size; expected 50 x 40 pixels, found 99 x 40"
    assert reasons(file) == told + " pixels (annotations left out with it: 1)"
    for image in value["images"]:
        image["width"] = 99
    with pytest.raises(FossilError, match=r"traced\.json.*expected 50 x 40.*found 99 x 40"):
        read(tmp_path, value)
    for image in value["images"]:
        image |= {"height": SHAPE[1], "width": SHAPE[0]}
    with pytest.raises(FossilError, match=r"found 40 x 50 pixels\. .*turned.*EXIF.*upright"):
        read(tmp_path, value)


def test_what_was_drawn_on_copies_is_scaled_where_asked(tmp_path: Path) -> None:
    """A copy of half the size: each of its pixels becomes four."""
    half = ring()[::2, ::2]
    parts = {"segmentation": [[v / 2 for v in SQUARE]], "image_id": 2}
    value = content({"segmentation": compressed(half)}, parts)
    # Rounded: 25 x 20 would be half, and this copy is cut at a whole pixel.
    for image, size in zip(value["images"], [(20, 25), (20, 25), (20, 24)], strict=True):
        image |= {"height": size[0], "width": size[1]}
    value["images"][0]["traced"] = compressed(np.ones_like(half))
    with pytest.raises(FossilError, match=r"found 25 x 20 pixels\. .*--scale"):
        read(tmp_path, value)
    slices, file = read(tmp_path, value, replace(TARGET, scale=True))
    doubled = half.repeat(2, axis=0).repeat(2, axis=1)
    assert slices[0].instances[0].mask == Mask.from_array(doubled)
    assert slices[0].area == Mask.from_array(np.ones(SHAPE, dtype=bool))
    square = np.zeros(SHAPE, dtype=bool)
    square[5:15, 10:20] = True
    assert slices[1].instances[0].mask == Mask.from_array(square)
    assert file.problems == []
    assert any("scaled to 50 x 40 pixels: slices 0-2" in a for a in file.assumptions)
    for image in value["images"]:
        image["height"] = 30
    with pytest.raises(FossilError, match=r"found 25 x 30 pixels"):
        read(tmp_path, value, replace(TARGET, scale=True))


@settings(max_examples=50, deadline=None)
@given(*[st.tuples(st.integers(1, 40), st.integers(1, 40))] * 2, st.integers(0, 10**6))
def test_a_scaled_mask_has_the_nearest_pixels(
    size: tuple[int, int], shape: tuple[int, int], seed: int
) -> None:
    pixels = np.random.default_rng(seed).random(size) < 0.3
    code = scaled_code(compressed(pixels), size, shape)
    y, x = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(shape, size, strict=True))
    assert code == compressed(pixels[np.ix_(y, x)])


@pytest.mark.parametrize(
    ("stated", "code", "told"),
    [
        (
            (50, 40),
            compressed(ring()),
            "their annotations fit the photographs: slices 0",
        ),
        (
            (20, 25),
            compressed(ring()),
            "their annotations fit the photographs: slices 0",
        ),
        # The ring reaches to column 40 of 50: too far for a slice that is 30 wide.
        (
            (40, 30),
            [[10, 5, 40, 5, 40, 15]],
            "their annotations fit the photographs: slices 0",
        ),
        ((0, 0), [SQUARE], "that the file does not tell: slices 0"),
        ((None, "wide"), [SQUARE], "that the file does not tell: slices 0"),
        (("40", 50.0), [SQUARE], ""),
    ],
    ids=str,
)
def test_a_size_that_the_annotations_disprove_is_not_believed(
    tmp_path: Path, stated: tuple[Any, Any], code: Any, told: str
) -> None:
    value = content({"segmentation": code})
    value["images"][0] |= {"height": stated[0], "width": stated[1]}
    slices, file = read(tmp_path, value)
    assert len(slices[0].instances) == 1
    assert file.problems == []
    assert told in "".join(file.assumptions)
    assert bool(told) == bool(file.assumptions)


# --------------------------------------------------------------------- classes


def test_classes(tmp_path: Path) -> None:
    value = content({}, {"category_id": 2}, {"category_id": 3}, {"category_id": None})
    slices, file = read(tmp_path, value)
    assert [i.class_name for i in slices[0].instances] == ["archaeocyathid", "calcimicrobe"]
    assert "annotation 3: The category" in reasons(file)
    slices, _ = read(tmp_path, value, name="calcimicrobe")
    assert [i.class_name for i in slices[0].instances] == ["calcimicrobe"]
    with pytest.raises(FossilError, match="no class 'shell'; expected one of archaeocyathid, calc"):
        read(tmp_path, value, name="shell")


@pytest.mark.parametrize("categories", [[{"id": 1, "name": "chamber"}], []])
def test_a_single_category_takes_the_given_class(tmp_path: Path, categories: list[Any]) -> None:
    slices, _ = read(tmp_path, content({}, categories=categories), name="shell")
    assert slices[0].instances[0].class_name == "shell"


def test_a_category_that_nothing_belongs_to_does_not_count(tmp_path: Path) -> None:
    root = [{"id": 0, "name": "fossils", "supercategory": "none"}, {"id": 1, "name": "archaeo"}]
    value = content({}, categories=root)
    slices, file = read(tmp_path, value, name="archaeocyathid")
    assert slices[0].instances[0].class_name == "archaeocyathid"
    assert file.assumptions == ["the category archaeo of the file is the class archaeocyathid"]
    # A class that the file knows is never another one, and nothing says that it occurs nowhere.
    found = "no annotation of the class 'fossils'; expected one of archaeo; .*fossils=archaeo"
    with pytest.raises(FossilError, match=found):
        read(tmp_path, value, name="fossils")


def test_a_category_is_read_under_another_name(tmp_path: Path) -> None:
    value = content({}, {"category_id": 2, "segmentation": [SQUARE]})
    slices, _ = read(tmp_path, value, name="crust", renamed="calcimicrobe")
    assert [(i.class_name, i.mask.area) for i in slices[0].instances] == [("crust", 100)]
    advice = "--class shell=archaeocyathid"
    with pytest.raises(FossilError, match=f"expected one of archaeocyathid, calc.*{advice}"):
        read(tmp_path, value, name="shell")
    with pytest.raises(FossilError, match="no class 'worm'; expected one of archaeocyathid"):
        read(tmp_path, value, name="shell", renamed="worm")


def test_categories_with_names_that_no_class_can_have_are_renamed(tmp_path: Path) -> None:
    names = ["cups: regular", "cups/ regular", "=1+1", ".hidden", "two\nlines", "cups_ regular"]
    value = content(
        *({"category_id": n, "segmentation": [SQUARE]} for n in range(len(names))),
        categories=[{"id": n, "name": name} for n, name in enumerate(names)],
    )
    slices, file = read(tmp_path, value)
    classes = ["cups_ regular_3", "cups_ regular_2", "1+1", "hidden", "two_lines", "cups_ regular"]
    assert [i.class_name for i in slices[0].instances] == classes
    assert len(file.assumptions) == 5
    told = "the category 'two\\nlines' of the file is the class two_lines, "
    assert any(a.startswith(told) and "(--class NEW=two_lines" in a for a in file.assumptions)
    for old in ("two\nlines", "two_lines"):
        slices, file = read(tmp_path, value, name="crust", renamed=old)
        assert [i.class_name for i in slices[0].instances] == ["crust"]
        assert not file.assumptions


def test_classes_are_the_same_in_every_unicode_form(tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "Röhre") for form in ("NFC", "NFD")]
    value = content({}, {"category_id": 2, "segmentation": [SQUARE]})
    value["categories"] = [{"id": n, "name": name} for n, name in enumerate(forms, 1)]
    assert [i.class_name for i in read(tmp_path, value)[0][0].instances] == [forms[0]] * 2


# ------------------------------------------------------------------------- ids


@pytest.mark.parametrize("write", [str, float, lambda n: f"{n}.0", lambda n: f" {n} "])
@pytest.mark.parametrize("where", ["images", "annotations", "categories"])
def test_ids_are_the_same_as_text_and_as_numbers(tmp_path: Path, write: Any, where: str) -> None:
    value = content({"image_id": 2, "category_id": 2}, {"image_id": 3})
    for entry in value[where]:
        entry |= {key: write(entry[key]) for key in entry if key == "id" or key.endswith("_id")}
    slices, file = read(tmp_path, value)
    assert [(s.z, s.instances[0].class_name) for s in slices] == [
        (1, "calcimicrobe"),
        (2, "archaeocyathid"),
    ]
    assert file.problems == []


def test_ids_that_are_words(tmp_path: Path) -> None:
    value = content({"image_id": "007"}, {"image_id": "7", "segmentation": [SQUARE]})
    value["images"][0]["id"], value["images"][1]["id"] = "7", "007"
    slices, _ = read(tmp_path, value)
    assert [(s.z, s.instances[0].mask.area) for s in slices] == [(0, 100), (1, ring().sum())]


def test_an_id_of_several_images_is_refused(tmp_path: Path) -> None:
    value = content({}, {})
    for image in value["images"]:
        image["id"] = 1
    expected = r"id 1 to several images.*expected an id for each.*Slice_00\.png, .*Slice_02\.png"
    with pytest.raises(FossilError, match=expected):
        read(tmp_path, value)
    # Nobody asks for it: no harm.
    value["images"][0]["id"] = "first"
    value["annotations"] = [a | {"image_id": "first"} for a in value["annotations"]]
    assert [s.z for s in read(tmp_path, value)[0]] == [0]


def test_an_id_of_several_categories_is_refused(tmp_path: Path) -> None:
    value = content({"category_id": 2})
    value["categories"][0]["id"] = "2"
    with pytest.raises(FossilError, match=r"id 2 to several categ.*found archaeocyathid, calcimi"):
        read(tmp_path, value)


def test_an_image_that_is_listed_twice_is_one(tmp_path: Path) -> None:
    value = content({}, {"image_id": 4, "segmentation": [SQUARE]}, {"image_id": 4})
    value["images"].append(value["images"][0] | {"id": 4})
    slices, file = read(tmp_path, value)
    assert [i.mask.area for i in slices[0].instances] == [ring().sum(), 100]
    assert (file.duplicates, file.problems) == (1, [])
    assert file.assumptions == [
        "images listed several times taken for one: 1, e.g. image Slice_00.png"
    ]


# ------------------------------------------------------------------ attributes


@pytest.mark.parametrize("crowd", [1, True, 1.0, "1"])
def test_a_painted_mask_is_an_instance(tmp_path: Path, crowd: Any) -> None:
    value = content({"iscrowd": crowd, "segmentation": uncompressed(ring())})
    slices, file = read(tmp_path, value)
    assert not slices[0].instances[0].unsure
    assert file.assumptions == [
        "annotations with iscrowd 1 taken for one instance each, as CVAT writes painted masks "
        "(--crowd unsure marks them unsure): 1"
    ]
    slices, file = read(tmp_path, value, crowds_unsure=True)
    assert slices[0].instances[0].unsure
    assert file.assumptions == []


def test_everything_twice_is_there_once(tmp_path: Path) -> None:
    body = {"segmentation": squares(30), "attributes": {"specimen": None}}
    cavity = {"segmentation": squares(10), "attributes": {"part": "cavity", "parent": 1}}
    far = {"segmentation": [[1, 1, 5, 1, 5, 5]]}
    value = content(body, cavity, far, body | {"attributes": {"specimen": 8}}, cavity, far)
    for annotation, again in zip(value["annotations"][:3], value["annotations"][3:], strict=True):
        again["id"] = annotation["id"]
    slices, file = read(tmp_path, value)
    outer, inner, _ = slices[0].instances
    assert (file.duplicates, outer.specimen, inner.parent) == (3, 8, outer.id)


def test_attributes(tmp_path: Path) -> None:
    told = {"texture": "mud_filled", "confidence": "unsure", "specimen": 12}
    item = only(tmp_path, {"attributes": told, "score": 0.25})
    assert (item.texture, item.unsure, item.specimen, item.score) == ("mud_filled", True, 12, 0.25)
    plain = only(tmp_path, {"attributes": "none", "score": float("nan")})
    assert (plain.texture, plain.unsure, plain.specimen, plain.score) == ("", False, None, 1.0)
    assert only(tmp_path, {"track_id": 3}).specimen == 3
    assert only(tmp_path, {"attributes": {"track_id": 4}}).specimen == 4
    assert only(tmp_path, {"attributes": {"specimen": -1}}).specimen is None
    assert only(tmp_path, {"attributes": {"specimen": 2**70}}).specimen is None
    assert only(tmp_path, {"track_id": "5"}).specimen == 5
    assert only(tmp_path, {"track_id": 6.0}).specimen == 6


def test_cavities_find_their_bodies(tmp_path: Path) -> None:
    inner = compressed(ring() & False | np.pad(np.ones((4, 4), bool), ((18, 18), (23, 23))))
    body = {"segmentation": compressed(ring() | (np.hypot(*(np.mgrid[:40, :50] - 22)) < 12))}
    cavity = {"segmentation": inner, "attributes": {"part": "cavity"}}
    far = {"segmentation": [[1, 1, 5, 1, 5, 5]], "attributes": {"part": "cavity"}}
    slices, _ = read(tmp_path, content(far, cavity, body))
    lone, nested, outer = slices[0].instances
    assert (nested.part, nested.parent, lone.parent) == (Part.CAVITY, outer.id, None)
    told = cavity | {"attributes": {"part": "cavity", "parent": 3}}
    slices, _ = read(tmp_path, content({}, told, body))
    assert slices[0].instances[1].parent == slices[0].instances[2].id


def test_identities_are_known_where_every_body_has_one(tmp_path: Path) -> None:
    named = {"attributes": {"specimen": 1}}
    other = {"segmentation": [SQUARE]}
    assert read(tmp_path, content(named, named | other))[1].identified
    assert not read(tmp_path, content(named, other))[1].identified
    assert not read(tmp_path, content())[1].identified


def test_traced_areas(tmp_path: Path) -> None:
    value = content({}, {"image_id": 2})
    assert [s.traced for s in read(tmp_path, value)[0]] == [True, True]
    value["images"][0]["traced"] = compressed(ring())
    value["images"][1]["traced"] = False
    value["images"][2]["traced"] = True
    one, two, three = read(tmp_path, value)[0]
    assert one.area == Mask.from_array(ring())
    assert (two.traced, three.traced, three.instances) == (False, True, [])


BROKEN_CODE = {"size": [3, 3], "counts": "abc"}


@pytest.mark.parametrize(
    ("broken", "box"),
    [
        # y0, x0, y1, x1 of what is no part of the traced area; None: the slice is not traced.
        ({"segmentation": BROKEN_CODE, "bbox": [5, 6, 10.2, 4]}, (6, 5, 10, 16)),
        ({"segmentation": [], "bbox": [5, 6, 10.2, 4]}, (6, 5, 10, 16)),
        ({"segmentation": BROKEN_CODE, "bbox": [45, 30, 90, 90]}, (30, 45, 40, 50)),
        ({"category_id": 9, "segmentation": [SQUARE]}, (5, 10, 15, 20)),
        ({"segmentation": [[1, 2, 7, 9]]}, (2, 1, 9, 7)),
        ({"segmentation": [SQUARE, "?"], "bbox": [10, 5, 30, 10]}, (5, 10, 15, 40)),
        ({"segmentation": [SQUARE, "?"]}, None),
        ({"segmentation": [[1, 2]]}, None),
        ({"segmentation": BROKEN_CODE}, None),
        ({"segmentation": BROKEN_CODE, "bbox": [5, 6, 0, 0]}, None),
        ({"segmentation": BROKEN_CODE, "bbox": [float("nan"), 6, 9, 9]}, None),
    ],
    ids=str,
)
def test_a_slice_is_not_traced_where_an_annotation_is_left_out(
    tmp_path: Path, broken: dict[str, Any], box: tuple[int, int, int, int] | None
) -> None:
    value = content({"segmentation": squares(4)}, broken | {"id": 7})
    (found,), file = read(tmp_path, value)
    assert len(file.problems) == 1
    if box is None:
        assert not found.traced
        assert file.assumptions[0].startswith("not completely traced, ")
        return
    expected = np.ones(SHAPE, bool)
    expected[box[0] : box[2], box[1] : box[3]] = False
    assert found.traced
    assert (found.area.to_array() == expected).all()
    assert file.assumptions[0].startswith("completely traced but for the boxes")
    value["images"][0]["traced"] = compressed(ring())
    ((found,), _) = read(tmp_path, value)
    assert (found.area.to_array() == expected & ring()).all()


@pytest.mark.parametrize(
    "harmless",
    [
        {"segmentation": {"size": list(SHAPE), "counts": [2000]}},
        {"segmentation": [[60, 60, 70, 60, 70, 70]]},
        {"segmentation": [SQUARE, [1, 1, 5, 5]]},
        {"segmentation": [SQUARE, [1, 1, 1, 5, 1, 9]]},
    ],
    ids=str,
)
def test_what_has_no_area_leaves_the_slice_traced(tmp_path: Path, harmless: Any) -> None:
    (found,), file = read(tmp_path, content({}, harmless))
    assert (len(file.problems), found.traced, found.area) == (1, True, None)


# ------------------------------------------------------------------- structure


def test_a_box_alone_is_no_outline(tmp_path: Path) -> None:
    _, file = read(tmp_path, content({}, {"segmentation": [], "bbox": [1, 2, 3, 4]}))
    assert reasons(file) == (
        "annotation 2: It has a box only, which is no outline; expected polygons or run lengths."
    )


def test_a_file_that_memory_does_not_suffice_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(FossilError, match=r"for reading .*traced\.json; .*a file for each few"):
        read(tmp_path, content({}))


def test_a_list_of_results_is_refused(tmp_path: Path) -> None:
    result = {"image_id": 1, "category_id": 1, "segmentation": compressed(ring()), "score": 0.9}
    with pytest.raises(FossilError, match=r"list of results.*found a list.*list 'annotations'"):
        read(tmp_path, [result])


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "coco",
        {},
        {"images": []},
        {"images": {}, "annotations": []},
        {"images": [], "annotations": []},
        {"images": [], "annotations": None},
        {"images": [{}], "annotations": [], "categories": 3},
    ],
    ids=str,
)
def test_what_is_no_coco_file_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(FossilError, match=r"traced\.json"):
        read(tmp_path, value)


def test_a_text_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "traced.json").write_text("{'images': ")
    with pytest.raises(FossilError, match=r"traced\.json.*expected a COCO annotation file"):
        CocoFile(tmp_path / "traced.json", TARGET)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["size", "counts", "part", "specimen"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
KEYS = [
    "segmentation",
    "image_id",
    "category_id",
    "attributes",
    "id",
    "score",
    "iscrowd",
    "bbox",
    "track_id",
]


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(st.sampled_from(KEYS), ANY, min_size=1))
def test_no_value_of_an_annotation_harms_the_others(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    slices, _ = read(tmp_path, content(changes, {"id": "sound"}))
    assert any(i.mask == Mask.from_array(ring()) for i in slices[0].instances)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(st.sampled_from(["id", "file_name", "width", "slice", "traced", "name"]), ANY)
)
def test_no_value_of_an_image_or_category_is_a_traceback(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    value = content({}, {"image_id": 2})
    value["images"][0] |= changes
    value["categories"][0] |= changes
    with contextlib.suppress(FossilError):
        read(tmp_path, value)


# --------------------------------------------------------------------- writing


def written(tmp_path: Path, slices: list[TracedSlice], names: tuple[str, ...] = NAMES) -> Path:
    path = tmp_path / "out.json"
    write_coco(path, slices, names, SHAPE, ["archaeocyathid", "shell"])
    return path


def test_masks_come_back_identical(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    arrays = [ring(), rng.random(SHAPE) < 0.3, rng.random(SHAPE) < 0.7]
    made = [
        Instance(0, "archaeocyathid", Mask.from_array(arrays[0]), 0.5, Part.BODY, "pitted", id=5),
        Instance(0, "archaeocyathid", Mask.from_array(arrays[1]), part=Part.CAVITY, parent=5, id=6),
        Instance(2, "shell", Mask.from_array(arrays[2]), unsure=True, specimen=4, id=9),
    ]
    area = Mask.from_array(ring())
    path = written(tmp_path, [TracedSlice(0, made[:2]), TracedSlice(2, made[2:], True, area)])
    file = CocoFile(path, TARGET)
    first, second = file.traced_slices()
    for before, after in zip(made, first.instances + second.instances, strict=True):
        kept = {"id": after.id, "parent": after.parent, "origin": after.origin}
        assert replace(before, **kept) == after
    assert first.instances[1].parent == first.instances[0].id
    assert (first.area, second.area, file.problems) == (None, area, [])


def test_pycocotools_loads_it(tmp_path: Path) -> None:
    made = Instance(1, "shell", Mask.from_array(ring()), id=3)
    path = written(tmp_path, [TracedSlice(1, [made])])
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = COCO(path)
    (annotation,) = loaded.loadAnns(loaded.getAnnIds())
    (image,) = loaded.loadImgs([annotation["image_id"]])
    assert (loaded.annToMask(annotation).astype(bool) == ring()).all()
    assert (annotation["area"], annotation["bbox"]) == (ring().sum(), [11, 6, 29, 29])
    assert (image["file_name"], image["slice"]) == (NAMES[1], 1)
    assert loaded.loadCats([annotation["category_id"]])[0]["name"] == "shell"


def test_a_failed_export_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = written(tmp_path, [])
    before = path.read_bytes()

    def breaking():
        yield TracedSlice(0, [])
        raise FossilError("the ledger is damaged")

    with pytest.raises(FossilError, match="damaged"):
        write_coco(path, breaking(), NAMES, SHAPE, [])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.real_data
def test_the_labrador_tracings(shared_data: Path) -> None:
    folder = shared_data / "labrador"
    file = CocoFile(
        folder / "labrador_left.coco.json", Target(("labrador_left.jpg",), (3173, 2400))
    )
    (found,) = file.traced_slices()
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = COCO(folder / "labrador_left.coco.json")
    for item, annotation in zip(found.instances, loaded.loadAnns(loaded.getAnnIds()), strict=True):
        assert item.mask.area == coco.area(annotation["segmentation"])
    names = [i.class_name for i in found.instances]
    assert (names.count("archaeocyathid"), names.count("calcimicrobe")) == (34, 9)
    assert any(i.unsure for i in found.instances)
    assert {"pitted", "mud_filled"} <= {i.texture for i in found.instances}
    assert file.problems == []
