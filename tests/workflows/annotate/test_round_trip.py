"""What comes back of what was written, in our own layouts and through other programs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_fill_holes, gaussian_filter

from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.params.annotations import ExportParams, ImportParams, Layout
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.stacks import open_stack
from napari_fossiledit.workflows.annotate.files import export_annotations, import_annotations

SHAPE = (60, 80)
CLASSES = ("archaeocyathid", "calcimicrobe")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for z in range(4):
        Image.fromarray(np.full(SHAPE, z, dtype=np.uint8)).save(folder / f"s{z}.png")
    return folder


def new(photos: Path, name: str) -> Path:
    path = photos.parent / f"{name}.fossil"
    Project.create(path, open_stack(photos), NewParams(pixel_size=72.7, slice_spacing=500)).close()
    return path


def blob(rng: np.random.Generator) -> np.ndarray:
    """Make a ragged patch of several parts with holes."""
    noise = gaussian_filter(rng.random(SHAPE), rng.choice([0.8, 1.5, 3]))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    near = np.hypot(y - rng.integers(SHAPE[0]), x - rng.integers(SHAPE[1])) < rng.integers(6, 30)
    return near & (noise > np.quantile(noise, rng.uniform(0.1, 0.6)))


def crowd(z: int, rng: np.random.Generator) -> list[Instance]:
    """Make 100 bodies and 25 cavities that overlap, of all that an instance can be."""
    bodies = [
        Instance(
            slice=z,
            class_name=CLASSES[n % 2],
            mask=Mask.from_array(blob(rng)),
            score=[1.0, 0.25][n % 5 == 0],
            texture=["", "pitted", "mud_filled"][n % 3],
            unsure=n % 7 == 0,
            origin=list(Origin)[n % 4],
            specimen=None if n % 11 == 0 else n,
            reviewed=n % 4 == 0,
            id=-1 - n,
        )
        for n in range(100)
    ]
    cavities = []
    for body in bodies[:25]:
        pixels = body.mask.to_array()
        inner = binary_fill_holes(pixels) & ~pixels
        inner = inner if inner.any() else pixels
        inside = Mask.from_array(inner | (pixels & (rng.random(SHAPE) < 0.2)))
        cavities.append(replace(body, mask=inside, part=Part.CAVITY, parent=body.id, id=None))
    return bodies + cavities


def all_known(path: Path) -> dict[str, list[Any]]:
    """Return what a project knows of its annotations, but for ids."""
    with Project.open(path, read_only=True) as project:
        there = project.ledger.instances(ANNOTATIONS)
        traced = sorted(project.ledger.traced().items())
    masks = {i.id: i.mask.counts for i in there}
    return {
        "instances": sorted(
            repr((replace(i, id=None, parent=None), masks.get(i.parent or 0))) for i in there
        ),
        "traced": traced,
    }


@pytest.mark.parametrize("layout", Layout)
def test_500_instances_with_holes_come_back_identical(photos: Path, layout: Layout) -> None:
    rng = np.random.default_rng(7)
    path, again, file = new(photos, "rock"), new(photos, "again"), photos.parent / "out.json"
    with Project.open(path) as project:
        for z in range(4):
            project.ledger.store(ANNOTATIONS, z, crowd(z, rng))
        project.ledger.set_traced(1, None)
        project.ledger.set_traced(2, Mask.from_array(blob(rng)))
    result = export_annotations(path, ExportParams(file=file, layout=layout))
    assert (result.instances, result.identical) == (500, 500)
    assert result.notes == ("Read back: all 500 masks and what is known of them are the same.",)
    import_annotations(again, ImportParams(file=file))
    before = all_known(path)
    assert len(before["instances"]) == 500
    assert all_known(again) == before


# -------------------------------------------------------------- what is not held


def disc(y: int, x: int, radius: float, hole: float = 0.0) -> Mask:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(rows - y, columns - x)
    return Mask.from_array((distance <= radius) & (distance >= hole))


def known_of(path: Path) -> set[tuple[Any, ...]]:
    """Return what a foreign program can hold: not the score, ids, or who was there first."""
    with Project.open(path, read_only=True) as project:
        there = project.ledger.instances(ANNOTATIONS)
    masks = {i.id: i.mask for i in there}
    return {
        (
            *(i.slice, i.class_name, i.part, i.mask, i.texture, i.unsure, i.specimen),
            *(i.reviewed, i.origin, masks.get(i.parent or 0)),
        )
        for i in there
    }


def traced_by_hand(photos: Path) -> Path:
    path = new(photos, "rock")
    body = Instance(0, CLASSES[0], disc(20, 20, 12, 4), texture="pitted", specimen=3, id=-1)
    inner = Instance(0, CLASSES[0], disc(20, 20, 5), part=Part.CAVITY, parent=-1, reviewed=True)
    other = replace(body, mask=disc(40, 50, 9), specimen=None, unsure=True, reviewed=True, id=-2)
    upper = replace(other, mask=disc(45, 52, 6), class_name=CLASSES[1], unsure=False, id=-3)
    with Project.open(path) as project:
        # Numbers that begin elsewhere than those of another program.
        project.ledger.store(ANNOTATIONS, 1, [replace(body, slice=1, origin=Origin.INTERPOLATED)])
        project.ledger.store(ANNOTATIONS, 0, [upper, body, inner, other])
        project.ledger.set_traced(0, None)
    return path


def test_what_a_label_volume_does_not_hold_is_counted(photos: Path) -> None:
    result = export_annotations(
        traced_by_hand(photos), ExportParams(file=photos.parent / "out.tif")
    )
    assert (result.instances, result.identical) == (4, 0)
    assert result.notes[-5:] == (
        "Read back: 3 of 5 masks are the same in every pixel.",
        "The file does not hold specimen of 3, texture of 3, origin of 3, class of 1, review of 1 "
        "of them.",
        "Missing or with other pixels: bodies 1, cavities 1.",
        "Masks that come back and were not written so: 1.",
        "Of these slices, another area comes back as completely traced: 1.",
    )


def test_a_file_that_cannot_be_read_back_is_written_all_the_same(photos: Path) -> None:
    path, file = new(photos, "rock"), photos.parent / "out.tif"
    with Project.open(path) as project:
        parts = disc(10, 10, 4) | disc(40, 60, 4)
        project.ledger.store(ANNOTATIONS, 0, [Instance(0, CLASSES[0], parts, specimen=1)])
    result = export_annotations(path, ExportParams(file=file))
    assert "Not read back" in result.notes[-1]
    assert "mask" in result.notes[-1]
    assert file.exists()
    unchecked = export_annotations(path, ExportParams(file=file, check=False))
    assert (unchecked.identical, unchecked.notes) == (None, result.notes[:-1])


# ------------------------------------------------------------------ other programs


def uncompressed(code: dict[str, Any]) -> dict[str, Any]:
    mask = Mask((code["size"][0], code["size"][1]), code["counts"].encode())
    return {"counts": mask.runs().tolist(), "size": code["size"]}


def through_cvat(content: dict[str, Any], attributes: set[str]) -> dict[str, Any]:
    """Return what CVAT writes as *COCO 1.0* of masks that it read from a file.

    It counts images and annotations anew, writes masks uncompressed and as crowds, and keeps the
    attributes that its label has, as text.
    """
    blank = dict.fromkeys(("contributor", "date_created", "description", "url"), "")
    places = {image["id"]: n for n, image in enumerate(content["images"], 1)}
    return {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": blank,
        "categories": [c | {"supercategory": ""} for c in content["categories"]],
        "images": [
            {"id": n, "file_name": i["file_name"], "height": i["height"], "width": i["width"]}
            | {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
            for n, i in enumerate(content["images"], 1)
        ],
        "annotations": [
            {key: a[key] for key in ("category_id", "area", "bbox")}
            | {"id": n, "image_id": places[a["image_id"]], "iscrowd": 1}
            | {"segmentation": uncompressed(a["segmentation"])}
            | {
                "attributes": {"occluded": False, "rotation": 0.0}
                | {k: str(v) for k, v in a["attributes"].items() if k in attributes}
            }
            for n, a in enumerate(content["annotations"], 1)
        ],
    }


NAMES = {"part", "texture", "confidence", "origin", "review", "specimen", "parent", "number"}


def test_cvat_brings_all_back_where_its_labels_have_the_attributes(photos: Path) -> None:
    path, file = traced_by_hand(photos), photos.parent / "out.json"
    export_annotations(path, ExportParams(file=file))
    written = json.loads(file.read_text())
    # A cavity names its body by a number that is that of another one by then.
    assert {a["id"] for a in written["annotations"]} & set(range(1, 6)) != set()
    file.write_text(json.dumps(through_cvat(written, NAMES)))
    again = new(photos, "again")
    result = import_annotations(again, ImportParams(file=file))
    assert known_of(again) == known_of(path)
    assert any("not say" in note and "0-1" in note for note in result.notes)
    file.write_text(json.dumps(through_cvat(written, set())))
    bare = new(photos, "bare")
    import_annotations(bare, ImportParams(file=file))
    assert {(z, name, mask) for z, name, _, mask, *_ in known_of(bare)} == {
        (z, name, mask) for z, name, _, mask, *_ in known_of(path)
    }
    nothing = ("", False, None, False, Origin.IMPORTED, None)
    assert {facts[4:] for facts in known_of(bare)} == {nothing}


def test_coco_annotator_brings_outlines_and_metadata_back(photos: Path) -> None:
    path, file = traced_by_hand(photos), photos.parent / "out.json"
    export_annotations(path, ExportParams(file=file, layout=Layout.POLYGONS))
    written = json.loads(file.read_text())
    kept = ("id", "image_id", "category_id", "segmentation", "area", "bbox")
    annotations = [
        {key: a[key] for key in kept}
        | {"iscrowd": False, "isbbox": False, "color": "#1f2d3c", "creator": "admin"}
        # What a person typed there; what the file had is lost at the import of that program.
        | {"metadata": {"specimen": "8"}}
        for a in written["annotations"]
    ]
    box = [[10, 10, 30, 10, 30, 30, 10, 30]]
    annotations.append(annotations[0] | {"id": 99, "isbbox": True, "segmentation": box})
    images = [i | {"path": f"/datasets/reef/{i['file_name']}"} for i in written["images"]]
    again = new(photos, "again")
    file.write_text(json.dumps(written | {"images": images, "annotations": annotations}))
    result = import_annotations(again, ImportParams(file=file))
    assert [(p.where, "box only" in p.reason) for p in result.problems] == [("annotation 99", True)]
    assert {(z, name, mask) for z, name, _, mask, *_ in known_of(again)} == {
        (z, name, mask) for z, name, _, mask, *_ in known_of(path)
    }
    assert {(part, texture, specimen) for _, _, part, _, texture, _, specimen, *_ in known_of(again)
            } == {(Part.BODY, "", 8)}  # fmt: skip
