"""Traced slices through a project: in, out, painted, corrected, taken over."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from pydantic import ValidationError

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.params.annotations import (
    ExportParams,
    FillParams,
    ImportParams,
    TraceParams,
    UntraceParams,
)
from napari_fossiledit.params.review import CorrectParams, HistoryParams, VersionsParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.progress import Job
from napari_fossiledit.project import ANNOTATIONS, Project, TakenFrom
from napari_fossiledit.stacks import open_stack
from napari_fossiledit.workflows.annotate.corrections import (
    correct,
    fill,
    trace,
    untrace,
)
from napari_fossiledit.workflows.annotate.files import export_annotations, import_annotations
from napari_fossiledit.workflows.review.journal import MoveResult, history, redo, undo, versions
from napari_fossiledit.workflows.shared.model_refs import set_in_use
from napari_fossiledit.workflows.shared.stale import look_at_photographs, stale_notes

SHAPE = (40, 50)
MODEL = "model:reef:0123456789ab"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    for z in range(4):
        Image.fromarray(np.full(SHAPE, z, dtype=np.uint8)).save(photos / f"{z:02d}.png")
    made = tmp_path / "rock.fossil"
    Project.create(made, open_stack(photos), NewParams(pixel_size=72.7, slice_spacing=500)).close()
    return made


def disc(y: int, x: int, radius: float, hole: float = 0.0) -> Mask:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(rows - y, columns - x)
    return Mask.from_array((distance <= radius) & (distance >= hole))


def volume(shift: int = 1) -> np.ndarray:
    labels = np.zeros((4, *SHAPE), dtype=np.uint8)
    for z in range(4):
        labels[z][disc(10, 10, 6).to_array()] = 3
        labels[z][disc(25, 30 + shift * z, 8).to_array()] = 9
    return labels


def write_labels(tmp_path: Path, labels: np.ndarray) -> Path:
    tifffile.imwrite(tmp_path / "labels.tif", labels, photometric="minisblack")
    return tmp_path / "labels.tif"


def stored(path: Path, source: str = ANNOTATIONS) -> list[Instance]:
    with Project.open(path, read_only=True) as project:
        return project.ledger.instances(source)


def first_name(path: Path) -> str:
    with Project.open(path, read_only=True) as project:
        return project.names[0]


def store(path: Path, source: str, z: int, *instances: Instance) -> list[int]:
    with Project.open(path) as project:
        return project.ledger.store(source, z, instances)


def essence(items: list[Instance]) -> list[tuple]:
    found = [
        (i.slice, i.class_name, i.mask, i.part, i.texture, i.unsure, i.specimen, i.score)
        for i in items
    ]
    return sorted(found, key=str)


# ---------------------------------------------------------------------- import


def test_labels_come_in_with_their_identities(path: Path, tmp_path: Path) -> None:
    file = write_labels(tmp_path, volume())
    result = import_annotations(path, ImportParams(file=file, texture="pitted"))
    assert result.summary() == {
        "file": str(file),
        "slices": "0-3",
        "instances": 8,
        "cavities": 0,
        "replaced": 0,
        "unsure": 0,
        "duplicates": 0,
        "classes": {"archaeocyathid": 8},
        "identified": True,
        "left_out": 0,
        "problems": [],
        "assumptions": [
            f"images laid on slices in order, beginning with labels.tif#0 on {first_name(path)}"
        ],
        "warnings": [],
    }
    assert {(i.specimen, i.texture, i.origin) for i in stored(path)} == {
        (3, "pitted", Origin.IMPORTED),
        (9, "pitted", Origin.IMPORTED),
    }
    with Project.open(path) as project:
        assert project.ledger.traced() == dict.fromkeys(range(4))
        assert [(r.kind, r.status) for r in project.ledger.runs()] == [("import", "done")]


def test_values_that_are_no_identities_are_forgotten(path: Path, tmp_path: Path) -> None:
    labels = volume()
    labels[1::2] = np.choose(np.searchsorted([0, 3, 9], labels[1::2]), [0, 9, 3])
    result = import_annotations(path, ImportParams(file=write_labels(tmp_path, labels)))
    assert not result.identified
    assert {i.specimen for i in stored(path)} == {None}


def test_unsure_and_chosen_slices(path: Path, tmp_path: Path) -> None:
    params = ImportParams(file=write_labels(tmp_path, volume()), slices="1,3", unsure=True)
    import_annotations(path, params)
    assert {(i.slice, i.unsure) for i in stored(path)} == {(1, True), (3, True)}


def test_importing_again_replaces(path: Path, tmp_path: Path) -> None:
    params = ImportParams(file=write_labels(tmp_path, volume()))
    before = {import_annotations(path, params) and i.id for i in stored(path)}
    import_annotations(path, params)
    after = {i.id for i in stored(path)}
    assert len(after) == 8
    assert not before & after


def test_a_named_class_replaces_only_itself(path: Path, tmp_path: Path) -> None:
    file = write_labels(tmp_path, volume())
    for name in ("archaeocyathid", "calcimicrobe", "calcimicrobe"):
        import_annotations(path, ImportParams(file=file, class_name=name))
    assert [i.class_name for i in stored(path)].count("archaeocyathid") == 8
    assert len(stored(path)) == 16
    import_annotations(path, ImportParams(file=file))
    assert len(stored(path)) == 8


def test_a_class_without_identities_leaves_those_of_another_alone(
    path: Path, tmp_path: Path
) -> None:
    labels = volume()
    file = write_labels(tmp_path, labels)
    import_annotations(path, ImportParams(file=file, class_name="archaeocyathid"))
    labels[1::2] = np.choose(np.searchsorted([0, 3, 9], labels[1::2]), [0, 9, 3])
    file = write_labels(tmp_path, labels)
    import_annotations(path, ImportParams(file=file, class_name="calcimicrobe"))
    with Project.open(path) as project:
        known = [
            project.ledger.identified(ANNOTATIONS, c) for c in ("archaeocyathid", "calcimicrobe")
        ]
    assert known == [True, False]
    assert {i.specimen for i in stored(path)} == {3, 9, None}


def test_nothing_usable_is_an_error_and_harms_nothing(path: Path, tmp_path: Path) -> None:
    store(path, ANNOTATIONS, 0, Instance(0, "a", disc(20, 20, 5)))
    file = tmp_path / "bad.json"
    bad = {"image_id": 1, "category_id": 1, "segmentation": [[1, 2, 3, 4]]}
    images = [{"id": 1, "file_name": "00.png"}]
    file.write_text(
        json.dumps({"images": images, "annotations": [bad], "categories": [{"id": 1, "name": "a"}]})
    )
    with pytest.raises(
        FossilError, match=r"Nothing in .*bad\.json.*annotation at position 0: .*2 points"
    ):
        import_annotations(path, ImportParams(file=file))
    assert len(stored(path)) == 1
    with Project.open(path) as project:
        assert project.ledger.runs()[0].status == "failed"


def test_another_class_than_the_projects_is_told(path: Path, tmp_path: Path) -> None:
    params = ImportParams(file=write_labels(tmp_path, volume()), class_name="shell")
    assert "--class" in import_annotations(path, params).warnings[0]


@pytest.mark.parametrize(("name", "found"), [("none.json", "no file"), ("notes.txt", r"\.txt")])
def test_files_that_are_nothing(path: Path, tmp_path: Path, name: str, found: str) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(FossilError, match=found):
        import_annotations(path, ImportParams(file=tmp_path / name))


def write_coco(tmp_path: Path, *annotations: dict, **changes: object) -> Path:
    """Write a COCO file whose annotations are of the first slice and the first class."""
    basis = {"image_id": 1, "category_id": 1, "segmentation": [[5, 5, 15, 5, 15, 15, 5, 15]]}
    content = {
        "images": [{"id": z + 1, "file_name": f"{z:02d}.png"} for z in range(4)],
        "categories": [{"id": 1, "name": "archaeo"}, {"id": 2, "name": "calcimicrobe"}],
        "annotations": [basis | {"id": n} | a for n, a in enumerate(annotations, 1)],
    }
    (tmp_path / "traced.json").write_text(json.dumps(content | changes))
    return tmp_path / "traced.json"


BOX_ONLY = {"segmentation": [], "bbox": [20, 20, 5, 5]}


def test_an_import_gives_account(path: Path, tmp_path: Path) -> None:
    ring = [[20, 5, 40, 5, 40, 25, 20, 25], [25, 10, 35, 10, 35, 20, 25, 20]]
    other = {"segmentation": ring, "iscrowd": 1}
    boxes = [BOX_ONLY | {"bbox": [n, 30, 5, 5]} for n in range(7)]
    file = write_coco(tmp_path, {}, {}, other, *boxes)
    summary = import_annotations(path, ImportParams(file=file, crowd="unsure")).summary()
    assert [summary[k] for k in ("instances", "unsure", "duplicates", "left_out")] == [2, 1, 1, 7]
    assert summary["problems"] == [
        "annotation 4, annotation 5, annotation 6, annotation 7, annotation 8 and 2 more: It has a "
        "box only, which is no outline; expected polygons or run lengths."
    ]
    assert [text.split(":")[0] for text in summary["assumptions"]] == [
        "the size of the images that the file does not tell",
        "polygons inside another one of their annotation taken for holes (--holes fill fills them)",
        "completely traced but for the boxes of annotations that were left out",
    ]
    assert sorted(i.mask.area for i in stored(path)) == [100, 300]
    result = import_annotations(path, ImportParams(file=file, holes="fill"))
    assert sorted(i.mask.area for i in stored(path)) == [100, 400]
    assert not any(i.unsure for i in stored(path))
    assert set(summary["problems"]) < set(result.notes)


def test_the_advised_class_is_taken(path: Path, tmp_path: Path) -> None:
    file = write_coco(tmp_path, {})
    advised = "--class archaeocyathid=archaeo imports archaeo as one"
    assert advised in import_annotations(path, ImportParams(file=file)).warnings[0]
    for name in ("archaeocyathid=archaeo", "archaeocyathid"):
        result = import_annotations(path, ImportParams(file=file, class_name=name))
        assert (result.classes, result.warnings) == ({"archaeocyathid": 1}, ())
    with pytest.raises(ValidationError, match="NEW=OLD"):
        ImportParams(file=file, class_name="archaeocyathid=")
    with pytest.raises(ValidationError, match=r"without / .*NEW=OLD reads a class of another name"):
        ImportParams(file=file, class_name="a:b")
    assert ImportParams(file=file, class_name="a = b:c").old_class == "b:c"
    labels = write_labels(tmp_path, volume())
    with pytest.raises(FossilError, match=r"no classes that could be renamed.*--class a$"):
        import_annotations(path, ImportParams(file=labels, class_name="a=b"))


def traced(path: Path) -> dict[int, int | None]:
    """Return the pixels of the traced areas."""
    with Project.open(path, read_only=True) as project:
        return {z: a if a is None else a.area for z, a in project.ledger.traced().items()}


def test_a_slice_does_not_stay_traced_where_something_is_missing(
    path: Path, tmp_path: Path
) -> None:
    whole = SHAPE[0] * SHAPE[1]
    import_annotations(path, ImportParams(file=write_coco(tmp_path, {})))
    assert traced(path) == {0: None}
    import_annotations(path, ImportParams(file=write_coco(tmp_path, {}, BOX_ONLY)))
    assert traced(path) == {0: whole - 25}
    file = write_coco(tmp_path, {}, {"segmentation": None})
    result = import_annotations(path, ImportParams(file=file))
    assert traced(path) == {}
    assert result.warnings[-1] == "Completely traced before and not any more: slices 0."


def test_a_class_does_not_complete_the_others(path: Path, tmp_path: Path) -> None:
    microbe = {"category_id": 2, "segmentation": [[30, 5, 40, 5, 40, 15, 30, 15]]}
    whole = SHAPE[0] * SHAPE[1]

    def bring(name: str, *annotations: dict) -> tuple[str, ...]:
        file = write_coco(tmp_path, *annotations)
        return import_annotations(path, ImportParams(file=file, class_name=name)).warnings

    bring("calcimicrobe", microbe, BOX_ONLY | {"category_id": 2})
    assert traced(path) == {0: whole - 25}
    bring("archaeo", {}, microbe)
    assert traced(path) == {0: whole - 25}
    bring("archaeo", {}, microbe, {"segmentation": None})
    assert traced(path) == {}
    told = bring("calcimicrobe", microbe)
    assert traced(path) == {}
    assert told[-1] == "Not completely traced, because other classes there are not: slices 0."


def test_a_cancelled_import_keeps_the_finished_slices(path: Path, tmp_path: Path) -> None:
    asked = iter([False, False, True])
    params = ImportParams(file=write_labels(tmp_path, volume()))
    with pytest.raises(CancelledError):
        import_annotations(path, params, job=Job(cancelled=lambda: next(asked)))
    assert {i.slice for i in stored(path)} == {0, 1}


def test_cavities_are_added_to_the_bodies(path: Path, tmp_path: Path) -> None:
    import_annotations(path, ImportParams(file=write_labels(tmp_path, volume())))
    bodies = {i.id for i in stored(path)}
    inner = np.zeros_like(volume())
    inner[:, 8:12, 8:12] = 3
    inner[0, :3, 40:] = 5
    params = ImportParams(file=write_labels(tmp_path, inner), part="cavity")
    for _ in range(2):
        result = import_annotations(path, params)
    cavities = [i for i in stored(path) if i.part is Part.CAVITY]
    assert {i.id for i in stored(path) if i.part is Part.BODY} == bodies
    assert len(cavities) == 5
    assert (result.instances, result.cavities) == (0, 5)
    assert result.identified
    by_id = {i.id: i for i in stored(path)}
    assert all(by_id[c.parent].specimen == 3 for c in cavities if c.specimen == 3)
    assert result.problems == ()
    assert result.warnings == (
        "Cavities that lie in no body, kept without one: specimen 5 in slice 0.",
    )


# ---------------------------------------------------------------------- export


def test_export_and_import_change_nothing(path: Path, tmp_path: Path) -> None:
    ring = Instance(0, "archaeocyathid", disc(20, 20, 12, 5), texture="mud_filled", id=-1)
    inner = Instance(0, "archaeocyathid", disc(20, 20, 4), part=Part.CAVITY, parent=-1)
    crust = Instance(2, "calcimicrobe", disc(30, 40, 6), unsure=True, specimen=4)
    store(path, ANNOTATIONS, 0, ring, inner)
    store(path, ANNOTATIONS, 2, crust)
    with Project.open(path) as project:
        project.ledger.set_traced(0, disc(20, 20, 19))
        project.ledger.set_traced(3, None)
        traced = project.ledger.traced()
    before = stored(path)
    result = export_annotations(path, ExportParams(file=tmp_path / "out.json"))
    assert result.summary() | {"file": ""} == {
        "file": "",
        "source": ANNOTATIONS,
        "slices": "0,2-3",
        "instances": 3,
        "sources": {ANNOTATIONS: "0,2-3"},
        "mask_cut": 0.5,
        "notes": ["Read back: all 3 masks and what is known of them are the same."],
        "identical": 3,
    }
    with Project.open(path) as project:
        project.ledger.forget(ANNOTATIONS)
        for z in traced:
            project.ledger.unset_traced(z)
    import_annotations(path, ImportParams(file=tmp_path / "out.json"))
    assert essence(stored(path)) == essence(before)
    (outer,) = (i for i in stored(path) if i.texture)
    assert [i.parent for i in stored(path) if i.part is Part.CAVITY] == [outer.id]
    with Project.open(path) as project:
        assert project.ledger.traced() == traced


@pytest.mark.parametrize("name", ["mine.tif", "mine", "mine.json.gz"])
def test_an_export_writes_only_what_the_name_says(path: Path, tmp_path: Path, name: str) -> None:
    store(path, ANNOTATIONS, 0, Instance(0, "a", disc(20, 20, 5)))
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(FossilError, match=rf"{name} (cannot be written; expected .*\.json|is in)"):
        export_annotations(path, ExportParams(file=tmp_path / name))
    assert (tmp_path / name).read_bytes() == b"precious"


def test_predictions_are_exported_by_the_models_name(path: Path, tmp_path: Path) -> None:
    body = Instance(1, "archaeocyathid", disc(20, 20, 9), score=0.4, id=-1)
    cavity = replace(body, mask=disc(20, 20, 4), score=0.9, part=Part.CAVITY, parent=-1, id=-9)
    store(path, MODEL, 1, body, cavity, replace(body, id=-2, score=0.8))
    file = tmp_path / "out.json"
    result = export_annotations(path, ExportParams(file=file, source="reef", score=0.5))
    assert (result.source, result.instances) == (MODEL, 1)
    content = json.loads(file.read_text())
    assert [a["score"] for a in content["annotations"]] == [0.8]
    assert content["images"][0]["traced"] is False


def test_what_is_best_known_is_exported(path: Path, tmp_path: Path) -> None:
    for z in range(3):
        store(path, MODEL, z, *[Instance(z, "archaeocyathid", disc(20, 20, 9), score=0.7)] * 2)
    store(path, ANNOTATIONS, 1, Instance(1, "archaeocyathid", disc(20, 20, 9)))
    trace(path, TraceParams(slices="1"))
    file = tmp_path / "out.json"
    result = export_annotations(path, ExportParams(file=file))
    assert (result.source, result.sources) == ("best-known", {ANNOTATIONS: "1", MODEL: "0,2"})
    content = json.loads(file.read_text())
    assert [a["image_id"] for a in content["annotations"]].count(2) == 1
    assert len(content["annotations"]) == 5
    assert [i["traced"] for i in content["images"]] == [False, True, False]


@pytest.mark.parametrize("name", ["out.tif", "out.zarr"])
def test_a_label_volume_goes_out_and_comes_back(path: Path, tmp_path: Path, name: str) -> None:
    import_annotations(path, ImportParams(file=write_labels(tmp_path, volume()), slices="0,2-3"))
    before = essence(stored(path))
    result = export_annotations(path, ExportParams(file=tmp_path / name))
    assert (result.instances, result.slices) == (6, (0, 2, 3))
    assert result.notes == (
        "Values are specimens.",
        "Slices without instances and slices that nobody looked at are both empty.",
        "Read back: all 6 masks and what is known of them are the same.",
    )
    with Project.open(path) as project:
        project.ledger.forget(ANNOTATIONS)
    again = import_annotations(path, ImportParams(file=tmp_path / name))
    assert (again.slices, again.identified) == ((0, 2, 3), True)
    assert essence(stored(path)) == before


def test_what_a_label_volume_loses_is_told(path: Path, tmp_path: Path) -> None:
    ring = Instance(1, "archaeocyathid", disc(20, 20, 9), specimen=70_000, id=-1)
    inner = Instance(1, "archaeocyathid", disc(20, 20, 4), part=Part.CAVITY, parent=-1)
    store(path, ANNOTATIONS, 1, ring, inner, Instance(1, "shell", disc(20, 24, 3)))
    file = tmp_path / "out.tif"
    result = export_annotations(path, ExportParams(file=file))
    hidden = disc(20, 24, 3).area
    assert result.notes[0].startswith("Values count the instances")
    assert (
        result.notes[1]
        == f"{hidden} pixels lie under another instance and are its alone in the file."
    )
    labels = tifffile.imread(file)
    assert (labels.shape, labels.dtype) == ((4, *SHAPE), np.uint16)
    # The smaller one lies on top; the cavity belongs to its body.
    assert [(labels[1] == v).sum() for v in (1, 2)] == [ring.mask.area - hidden, hidden]
    assert not labels[[0, 2, 3]].any()
    one = export_annotations(path, ExportParams(file=file, class_name="archaeocyathid"))
    assert one.notes[0] == "Values are specimens."
    assert np.unique(tifffile.imread(file)).tolist() == [0, 70_000]


def test_an_export_takes_no_folder_that_is_there_and_no_other_suffix(
    path: Path, tmp_path: Path
) -> None:
    store(path, ANNOTATIONS, 1, Instance(1, "shell", disc(20, 24, 3)))
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "mine").write_text("mine")
    with pytest.raises(FossilError, match=r"a\.zarr cannot take a label volume"):
        export_annotations(path, ExportParams(file=tmp_path / "a.zarr"))
    assert (tmp_path / "a.zarr" / "mine").read_text() == "mine"
    with pytest.raises(FossilError, match=r"expected a COCO file \(\.json\) or a label volume"):
        export_annotations(path, ExportParams(file=tmp_path / "a.csv"))


def test_predictions_are_found_by_the_models_folder_and_file(path: Path, tmp_path: Path) -> None:
    store(path, MODEL, 1, Instance(1, "archaeocyathid", disc(20, 20, 9), score=0.9))
    folder = tmp_path / "elsewhere" / "reef"
    folder.mkdir(parents=True)
    (folder / "model.json").touch()
    for place in (folder, folder / "model.json"):
        params = ExportParams(file=tmp_path / "out.json", source=str(place))
        assert export_annotations(path, params).source == MODEL


def test_a_source_that_is_not_there_is_told(path: Path, tmp_path: Path) -> None:
    params = ExportParams(file=tmp_path / "out.json", source="other")
    with pytest.raises(FossilError, match="no instances of 'other'; expected one of none yet"):
        export_annotations(path, params)
    store(path, MODEL, 0)
    store(path, MODEL.replace("0", "f"), 0)
    with pytest.raises(FossilError, match="several predictions of 'reef'"):
        export_annotations(path, params.model_copy(update={"source": "reef"}))
    with pytest.raises(FossilError, match="expected 0; found 2-3"):
        export_annotations(path, params.model_copy(update={"source": MODEL, "slices": "2-3"}))


# ------------------------------------------------------- taking over and tracing


def whole(path: Path) -> tuple:
    """All of the user's set."""
    with Project.open(path, read_only=True) as project:
        ledger = project.ledger
        return stored(path), ledger.traced(), ledger.done(ANNOTATIONS)


def test_a_class_that_nothing_has_is_refused_and_nothing_changes(
    path: Path, tmp_path: Path
) -> None:
    store(path, MODEL, 1, Instance(1, "archaeocyathid", disc(20, 20, 9)))
    fill(path, FillParams())
    trace(path, TraceParams(slices="1"))
    before = whole(path)
    typo, message = "archeocyathid", "no class 'archeocyathid'.*Do you mean 'archaeocyathid'"
    with pytest.raises(FossilError, match=message):
        fill(path, FillParams(class_name=typo, overwrite=True))
    with pytest.raises(FossilError, match=message):
        export_annotations(path, ExportParams(file=tmp_path / "out.json", class_name=typo))
    assert whole(path) == before
    assert not (tmp_path / "out.json").exists()


def test_predictions_are_taken_over_to_be_corrected(path: Path) -> None:
    body = Instance(1, "archaeocyathid", disc(20, 20, 9), 0.9, specimen=2, id=-1)
    body = replace(body, origin=Origin.MODEL, texture="pitted")
    cavity = replace(body, mask=disc(20, 20, 4), score=0.6, part=Part.CAVITY, parent=-1, id=-9)
    weak = replace(body, id=-2, mask=disc(5, 5, 3), score=0.2)
    store(path, MODEL, 1, body, cavity, weak)
    result = fill(path, FillParams(score=0.5))
    assert result.summary() == {
        "source": MODEL, "slices": "1", "kept": "", "mask_cut": 0.5, "instances": 1, "replaced": 0,
        "untraced": "", "left_out": 0, "problems": [], "notes": [],
    }  # fmt: skip
    found = stored(path)
    assert essence(found) == essence([replace(i, score=1.0, specimen=None) for i in (body, cavity)])
    assert {i.origin for i in found} == {Origin.MODEL}
    assert [i.parent for i in found if i.parent] == [i.id for i in found if not i.parent]
    assert whole(path)[1:] == ({}, {1})
    assert trace(path, TraceParams(slices="1")).instances == 1
    assert (stored(path), whole(path)[1]) == (found, {1: None})


def test_single_instances_are_accepted_deleted_and_merged_as_one_change_each(path: Path) -> None:
    body = Instance(0, "archaeocyathid", disc(20, 20, 12), score=0.6, origin=Origin.MODEL, id=-1)
    cavity = replace(body, mask=disc(20, 20, 4), part=Part.CAVITY, id=-2, parent=-1)
    aside = replace(body, mask=disc(20, 40, 6), id=-3)
    first, inner, second = store(path, MODEL, 0, body, cavity, aside)
    (drawn,) = store(path, ANNOTATIONS, 0, Instance(0, "archaeocyathid", disc(21, 20, 12)))
    params = CorrectParams(source=MODEL, accept=str(first), reviewed=False)
    result = correct(path, params)
    assert not result.reviewed
    assert (result.replaced, result.deleted, result.merged) == ((drawn,), (), None)
    now = {i.part: i for i in stored(path)}
    assert now[Part.BODY].mask == body.mask
    assert now[Part.BODY].score == 1
    assert now[Part.CAVITY].parent == now[Part.BODY].id
    assert set(result.accepted) == {i.id for i in now.values()}
    kept = now[Part.BODY].id
    # A prediction merges with an annotation, which keeps its id and its cavity.
    merging = CorrectParams(source=MODEL, merge=f"{second},{kept}")
    assert correct(path, merging).merged == kept
    now = {i.part: i for i in stored(path)}
    assert (now[Part.BODY].id, now[Part.CAVITY].parent) == (kept, kept)
    assert now[Part.BODY].mask.area == (body.mask | aside.mask).area
    assert len(stored(path, MODEL)) == 3
    # Its cavity goes with it.
    gone = correct(path, CorrectParams(reject=str(kept))).deleted
    assert gone == (kept, now[Part.CAVITY].id)
    assert stored(path) == []
    for count in (2, 2, 1):
        undo(path)
        assert len(stored(path)) == count
    assert stored(path)[0].id == drawn
    assert inner not in result.accepted


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "nothing to correct"),
        ({"merge": "1"}, "at least two ids"),
        ({"reject": "seven"}, "whole numbers"),
        ({"reject": "999"}, "no masks 999"),
        ({"accept": "999", "source": MODEL}, "no masks 999"),
        ({"accept": "1", "reject": "1"}, "1 are to be accepted and rejected"),
        ({"accept": "1", "merge": "1,2"}, "1 are to be accepted and merged"),
        ({"merge": "1,2"}, r"unlike kinds.*archaeocyathid \(body\), shell \(body\)"),
        ({"merge": "1,3"}, r"unlike kinds.*archaeocyathid \(body\), archaeocyathid \(cavity\)"),
    ],
)
def test_a_correction_of_what_is_not_there_is_refused(
    path: Path, params: dict[str, str], message: str
) -> None:
    body = Instance(0, "archaeocyathid", disc(20, 20, 12), origin=Origin.MODEL, id=-1)
    shell = replace(body, class_name="shell", id=-2)
    store(path, MODEL, 0, body, shell, replace(body, part=Part.CAVITY, id=-3, parent=-1))
    with pytest.raises(FossilError, match=message):
        correct(path, CorrectParams(**params))


def test_neither_annotations_nor_a_cavity_alone_are_taken_over(path: Path) -> None:
    body = Instance(0, "archaeocyathid", disc(20, 20, 12), origin=Origin.MODEL, id=-1)
    cavity = replace(body, mask=disc(20, 20, 4), part=Part.CAVITY, id=-2, parent=-1)
    outer, inner = store(path, MODEL, 0, body, cavity)
    (drawn,) = store(path, ANNOTATIONS, 0, replace(body, mask=disc(9, 9, 3), specimen=7))
    with pytest.raises(FossilError, match=f"{inner} is a cavity.*Accept {outer}"):
        correct(path, CorrectParams(source=MODEL, accept=str(inner)))
    with pytest.raises(FossilError, match="into themselves"):
        correct(path, CorrectParams(source=ANNOTATIONS, accept=str(outer)))
    assert [(i.id, i.specimen) for i in stored(path)] == [(drawn, 7)]


def test_what_is_reviewed_stays_and_what_is_rejected_is_noted(path: Path) -> None:
    body = Instance(0, "archaeocyathid", disc(20, 20, 12), score=0.6, origin=Origin.MODEL, id=-1)
    first, wrong = store(path, MODEL, 0, body, replace(body, mask=disc(5, 40, 4), id=-2))
    drawn = Instance(0, "archaeocyathid", disc(21, 20, 12), specimen=4)
    (own,) = store(path, ANNOTATIONS, 0, drawn)
    before = stored(path)
    assert correct(path, CorrectParams(accept="all")).accepted == (own,)
    assert stored(path) == [replace(before[0], reviewed=True)]
    # What lies on a reviewed one does not take its place.
    result = correct(path, CorrectParams(accept=str(first), reject=str(wrong)))
    assert (result.replaced, result.rejected, result.reviewed) == ((), (wrong,), True)
    assert [i.reviewed for i in stored(path)] == [True, True]
    with Project.open(path) as project:
        assert project.ledger.rejected(0) == {wrong}
        (new,) = result.accepted
        assert project.ledger.taken_from([own, new]) == {new: TakenFrom(MODEL, first, 0.6)}
    assert undo(path).what == "accept a mask, reject a mask"
    with Project.open(path) as project:
        assert project.ledger.rejected(0) == set()
    assert undo(path).what == "accept a mask"
    assert stored(path) == before


def test_a_version_is_named_and_restored(path: Path) -> None:
    (drawn,) = store(path, ANNOTATIONS, 0, Instance(0, "archaeocyathid", disc(20, 20, 12)))
    before = stored(path)
    assert [v.name for v in versions(path, VersionsParams(name="first")).versions] == ["first"]
    correct(path, CorrectParams(reject=str(drawn)))
    restored = versions(path, VersionsParams(restore="first")).restored
    assert restored == MoveResult("restore version first", (0,))
    assert stored(path) == before
    assert versions(path, VersionsParams()).summary()["versions"][0]["changes"] == 2
    undo(path)
    assert stored(path) == []
    with pytest.raises(FossilError, match="either named or restored"):
        versions(path, VersionsParams(name="a", restore="first"))


def test_slices_with_annotations_or_a_mark_are_kept(path: Path) -> None:
    for z in range(4):
        store(path, MODEL, z, Instance(z, "archaeocyathid", disc(20, 20, 9), 0.9))
    drawn = Instance(0, "archaeocyathid", disc(9, 9, 3))
    store(path, ANNOTATIONS, 0, drawn, drawn)
    trace(path, TraceParams(slices="1"))
    store(path, ANNOTATIONS, 2, Instance(2, "shell", disc(9, 9, 3)))
    before = whole(path)
    result = fill(path, FillParams(source="reef", class_name="archaeocyathid"))
    assert (result.slices, result.kept) == ((2, 3), (0, 1))
    assert {i.class_name for i in stored(path) if i.slice == 2} == {"archaeocyathid", "shell"}
    replaced = fill(path, FillParams(slices="0-1", overwrite=True))
    assert (replaced.slices, replaced.replaced, replaced.untraced) == ((0, 1), 2, (1,))
    assert whole(path)[1] == {}
    assert undo(path).summary() == {"what": f"take over {MODEL}", "slices": "0-1"}
    undo(path)
    assert whole(path) == before


def test_tracing_a_region_or_a_class_destroys_nothing(path: Path) -> None:
    """A region, or a class, was named: all else stays, and so do the slice's other marks."""
    store(path, MODEL, 0, Instance(0, "archaeocyathid", disc(30, 20, 4), 0.9))
    store(path, ANNOTATIONS, 0, Instance(0, "shell", disc(20, 20, 9)))
    fill(path, FillParams(class_name="archaeocyathid"))
    before = stored(path)
    trace(path, TraceParams(slices="0", region=":25"))
    trace(path, TraceParams(slices="0", region="30:40,10:20"))
    assert stored(path) == before
    assert {i.class_name for i in before} == {"archaeocyathid", "shell"}
    expected = np.zeros(SHAPE, dtype=bool)
    expected[:, :25] = True
    expected[10:20, 30:40] = True
    area = whole(path)[1][0]
    assert area is not None
    assert (area.to_array() == expected).all()
    trace(path, TraceParams(slices="0"))
    trace(path, TraceParams(slices="0", region=":25"))
    assert whole(path)[1] == {0: None}
    with pytest.raises(FossilError, match="outside the slice; expected within 50 x 40"):
        trace(path, TraceParams(slices="0", region="900:"))


def test_a_traced_slice_of_an_import_keeps_its_instances(path: Path, tmp_path: Path) -> None:
    import_annotations(path, ImportParams(file=write_labels(tmp_path, volume())))
    before = whole(path)
    with Project.open(path) as project:
        drawn = Instance(2, "archaeocyathid", disc(34, 5, 3))
        (new,) = project.ledger.edit(2, put=[drawn], what="draw")
    trace(path, TraceParams(slices="2"))
    assert [i for i in stored(path) if i.id != new] == before[0]
    assert untrace(path, UntraceParams(slices="1-2")).summary() == {"slices": "1-2", "instances": 5}
    assert whole(path)[1] == {0: None, 3: None}
    actions = history(path, HistoryParams()).summary()["actions"]
    # The slice was traced already: marking it again is no change.
    assert [(a["what"], a["slices"]) for a in actions] == [
        ("untrace", "1-2"), ("draw", "2"), ("import", "0-3"),
    ]  # fmt: skip
    undo(path), undo(path)
    assert whole(path) == before
    undo(path)
    assert whole(path) == ([], {}, set())
    with pytest.raises(FossilError, match="nothing to undo"):
        undo(path)
    for _ in range(3):
        redo(path)
    with pytest.raises(FossilError, match="nothing to redo"):
        redo(path)
    assert whole(path)[1] == {0: None, 3: None}


def test_annotations_are_no_source_of_themselves(path: Path) -> None:
    store(path, ANNOTATIONS, 0, Instance(0, "a", disc(9, 9, 3)))
    with pytest.raises(FossilError, match="into themselves"):
        fill(path, FillParams(source=ANNOTATIONS))


def test_the_model_in_use_is_taken_over(path: Path) -> None:
    with pytest.raises(FossilError, match="no predictions"):
        fill(path, FillParams())
    for name in ("one", "two"):
        store(path, f"model:{name}:0123456789ab", 0, Instance(0, name, disc(9, 9, 3)))
    with pytest.raises(FossilError, match=r"none of them is in use; expected.*one, two"):
        fill(path, FillParams())
    with Project.open(path) as project:
        set_in_use(project, "two")
    fill(path, FillParams())
    assert [i.class_name for i in stored(path)] == ["two"]


def test_a_damaged_prediction_stops_its_slice_alone(path: Path) -> None:
    for z in range(3):
        (last,) = store(path, MODEL, z, Instance(z, "archaeocyathid", disc(20, 20, 9), 0.9))
    with Project.open(path) as project, project.ledger.transaction() as db:
        db.execute("UPDATE instances SET height = 'x' WHERE id = ?", (last,))
    result = fill(path, FillParams())
    assert (result.slices, result.kept) == ((0, 1), ())
    assert f"damaged instance, number {last} of {MODEL}, in slice 2" in result.problems[0]


def test_two_programs_take_over_once(path: Path) -> None:
    for z in range(4):
        store(path, MODEL, z, Instance(z, "archaeocyathid", disc(20, 20, 9), 0.9))
    with ThreadPoolExecutor(4) as threads:
        results = [threads.submit(fill, path, FillParams()) for _ in range(4)]
    done = [z for result in results for z in result.result().slices]
    assert sorted(done) == [0, 1, 2, 3]
    assert len(stored(path)) == 4


def test_what_was_taken_over_before_a_kill_stays_and_the_rest_follows(path: Path) -> None:
    for z in range(4):
        store(path, MODEL, z, *[Instance(z, "archaeocyathid", disc(20, 20, 9), 0.9)] * 3)
    asked = iter([False, False, True])
    with pytest.raises(CancelledError):
        fill(path, FillParams(), job=Job(cancelled=lambda: next(asked)))
    assert fill(path, FillParams()).kept == (0, 1)
    assert len(stored(path)) == 12


@pytest.mark.parametrize("slices", ["", "9", "x"])
def test_slices_must_be_in_the_stack(path: Path, slices: str) -> None:
    for call in (lambda: trace(path, TraceParams(slices=slices)),
                 lambda: untrace(path, UntraceParams(slices=slices))):  # fmt: skip
        with pytest.raises(FossilError, match="expected"):
            call()


@pytest.mark.real_data
def test_chloroplast_labels_survive_coco(shared_data: Path, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        made = tmp_path / f"{name}.fossil"
        stack = open_stack(shared_data / "chloroplast" / "images")
        Project.create(made, stack, NewParams(pixel_size=72.7, slice_spacing=500)).close()
        file = tmp_path / "c.json" if found else shared_data / "chloroplast" / "labels_zyx.tif"
        assert import_annotations(made, ImportParams(file=file)).identified
        export_annotations(made, ExportParams(file=tmp_path / "c.json"))
        found.append(essence(stored(made)))
    assert found[0] == found[1]
    assert len({item[6] for item in found[0]}) == 34


def test_an_import_of_cavities_leaves_those_of_other_classes(path: Path, tmp_path: Path) -> None:
    def pair(name: str, y: int, hole: float) -> list[Instance]:
        body = Instance(0, name, disc(y, 20, 8), id=-y)
        return [body, Instance(0, name, disc(y, 20, hole), part=Part.CAVITY, parent=-y)]

    with Project.open(path) as project:
        project.ledger.store(ANNOTATIONS, 0, [*pair("shell", 10, 3), *pair("crust", 28, 3)])
        other = replace(pair("shell", 10, 2)[1], parent=None)
        project.ledger.store("other", 0, [other])
    export_annotations(path, ExportParams(file=tmp_path / "a.json", source="other"))
    result = import_annotations(path, ImportParams(file=tmp_path / "a.json"))
    assert (result.instances, result.cavities, result.replaced) == (0, 1, 1)
    with Project.open(path) as project:
        holes = project.ledger.instances(ANNOTATIONS, part=Part.CAVITY)
    assert {i.class_name: i.mask for i in holes} == {
        "shell": disc(10, 20, 2),
        "crust": disc(28, 20, 3),
    }


def test_an_export_never_takes_the_place_of_a_part_of_the_project(path: Path) -> None:
    with Project.open(path) as project:
        project.ledger.store(ANNOTATIONS, 0, [Instance(0, "shell", disc(10, 20, 8))])
    before = (path / "project.json").read_bytes()
    with pytest.raises(FossilError, match="is a part of the project; expected a name outside"):
        export_annotations(path, ExportParams(file=path / "project.json"))
    assert (path / "project.json").read_bytes() == before
    export_annotations(path, ExportParams(file=path / "mine.json"))


def test_undoing_and_taking_over_keep_what_a_slice_was_made_from(path: Path) -> None:
    photograph = path.parent / "photos" / "01.png"

    def notes(source: str) -> tuple[str, ...]:
        with Project.open(path) as project:
            return stale_notes(project, {source: [1]})

    with Project.open(path) as project:
        look_at_photographs(project)
        for source in (ANNOTATIONS, MODEL):
            project.ledger.store(source, 1, [Instance(1, "shell", disc(10, 20, 8))])
    Image.fromarray(np.full(SHAPE, 99, dtype=np.uint8)).save(photograph)
    assert "slices 1 were made from other" in notes(ANNOTATIONS)[0]
    trace(path, TraceParams(slices="1"))
    assert notes(ANNOTATIONS) == ()
    undo(path)
    assert "slices 1 were made from other" in notes(ANNOTATIONS)[0]
    redo(path)
    assert notes(ANNOTATIONS) == ()
    result = fill(path, FillParams(slices="1", overwrite=True))
    assert "predictions model:reef" in result.notes[0]
    assert "slices 1 were made from other" in notes(ANNOTATIONS)[0]


def test_files_that_count_their_own_specimens_are_told(path: Path, tmp_path: Path) -> None:
    whole = np.zeros((4, *SHAPE), np.uint16)
    whole[:, 4:14, 4:20], whole[:, 22:36, 20:40] = 1, 2
    for name, swapped in (("same", whole[2:]), ("own", np.array([0, 2, 1], np.uint16)[whole[2:]])):
        for part, values in ((f"{name}-first", whole[:2]), (name, swapped)):
            tifffile.imwrite(tmp_path / f"{part}.tif", values, photometric="minisblack")
        first = ImportParams(file=tmp_path / f"{name}-first.tif", slices="0-1")
        assert import_annotations(path, first).warnings == ()
        result = import_annotations(path, ImportParams(file=tmp_path / f"{name}.tif", slices="2-3"))
        assert ["lie on each other in slices 2." in w for w in result.warnings] == [True] * (
            name == "own"
        )
        for _ in range(2):
            undo(path)


def test_interpolated_masks_that_a_person_merges_are_a_persons(path: Path) -> None:
    body = Instance(0, "archaeocyathid", disc(20, 20, 9), origin=Origin.INTERPOLATED)
    ids = store(path, ANNOTATIONS, 0, body, replace(body, mask=disc(20, 30, 9)))
    correct(path, CorrectParams(merge=",".join(map(str, ids))))
    assert [i.origin for i in stored(path)] == [Origin.HUMAN]


@pytest.mark.parametrize("cavity_reviewed", [True, False])
def test_a_body_and_its_cavity_stay_where_one_is_reviewed(
    path: Path, cavity_reviewed: bool
) -> None:
    whole = Instance(0, "archaeocyathid", disc(20, 20, 12), id=-1, reviewed=not cavity_reviewed)
    hollow = replace(
        whole, mask=disc(20, 20, 5), part=Part.CAVITY, id=-2, parent=-1, reviewed=cavity_reviewed
    )
    store(path, ANNOTATIONS, 0, whole, hollow)
    found = Instance(0, "archaeocyathid", disc(20, 20, 11), 0.9, origin=Origin.MODEL)
    (prediction,) = store(path, MODEL, 0, found)
    before = stored(path)
    result = fill(path, FillParams(source=MODEL, overwrite=True))
    assert (result.replaced, result.left_out) == (0, 1)
    assert stored(path) == before
    assert correct(path, CorrectParams(source=MODEL, accept=str(prediction))).replaced == ()


def test_an_unknown_id_is_told_where_nothing_was_predicted(path: Path) -> None:
    store(path, ANNOTATIONS, 0, Instance(0, "archaeocyathid", disc(20, 20, 12)))
    with pytest.raises(FossilError, match="Slice 0 has no masks 99; expected ids among"):
        correct(path, CorrectParams(reject="99"))
