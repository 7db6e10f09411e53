"""COCO files: masks against pycocotools, slices matched, and everything that is broken."""

from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco
from pycocotools.coco import COCO
from skimage.draw import polygon2mask

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.coco import CocoFile
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
    tmp_path: Path, value: Any, target: Target = TARGET, name: str = ""
) -> tuple[list[TracedSlice], CocoFile]:
    path = tmp_path / "traced.json"
    path.write_text(json.dumps(value))
    file = CocoFile(path, target, name)
    return list(file.traced_slices()), file


def only(tmp_path: Path, annotation: dict[str, Any]) -> Instance:
    slices, file = read(tmp_path, content(annotation))
    assert file.problems == []
    return slices[0].instances[0]


def reasons(file: CocoFile) -> str:
    return "\n".join(str(p) for p in file.problems)


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


def test_what_lies_outside_the_slice_is_cut_off(tmp_path: Path) -> None:
    mask = only(tmp_path, {"segmentation": [[-20, -20, 8, -20, 8, 6, -20, 6]]}).mask
    assert mask.box == (0, 0, 6, 8)
    assert mask.area == 48


BROKEN = [
    ([[1, 1, 5, 5]], "has 2 points"),
    ([[1, 1, 5, 5, 9]], "2.5 points"),
    ([[1, 1, 5, 5, 9, 9]], "no pixel"),
    ([[3, 1, 3, 5, 3, 9]], "encloses nothing"),
    ([["a", 1, 5, 5, 9, 1]], "no list of numbers"),
    ([[1e300, 1, 5, 5, 9, 1]], "far beyond"),
    ([[float("nan"), 1, 5, 5, 9, 1]], "far beyond"),
    ([[200, 200, 230, 200, 230, 230]], "far beyond"),
    ([[60, 60, 70, 60, 70, 70]], "no pixel"),
    ([], "no polygon"),
    (None, "expected polygons or run lengths; found NoneType"),
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
    assert [i.texture for s in slices for i in s.instances] == [""]
    assert "category 2" in reasons(file)
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
    value = content({}, {"image_id": 2})
    value["images"][1]["width"] = 99
    slices, file = read(tmp_path, value)
    assert [s.z for s in slices] == [0]
    assert "expected 50 x 40 pixels, found 99 x 40 pixels" in reasons(file)
    for image in value["images"]:
        image["width"] = 99
    with pytest.raises(FossilError, match=r"traced\.json.*expected 50 x 40.*found 99 x 40"):
        read(tmp_path, value)


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


# ------------------------------------------------------------------ attributes


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
    assert only(tmp_path, {"iscrowd": 1}).unsure


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
    assert read(tmp_path, content(named, named))[1].identified
    assert not read(tmp_path, content(named, {}))[1].identified
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


# ------------------------------------------------------------------- structure


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
KEYS = ["segmentation", "image_id", "category_id", "attributes", "id", "score", "iscrowd"]


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
@given(st.dictionaries(st.sampled_from(["id", "file_name", "width", "slice", "traced"]), ANY))
def test_no_value_of_an_image_is_a_traceback(tmp_path: Path, changes: dict[str, Any]) -> None:
    value = content({}, {"image_id": 2})
    value["images"][0] |= changes
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
