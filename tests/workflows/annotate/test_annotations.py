"""Traced slices through a project: in, out, painted, corrected, taken over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.params.annotations import ExportParams, FillParams, ImportParams, TraceParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.progress import Job
from napari_fossiledit.project import ANNOTATIONS, LABELS, Project
from napari_fossiledit.stacks import open_stack
from napari_fossiledit.workflows.annotate.corrections import fill_labels, trace_slice
from napari_fossiledit.workflows.annotate.files import export_annotations, import_annotations

SHAPE = (40, 50)
MODEL = "model:reef:0123456789ab"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    for z in range(4):
        Image.fromarray(np.full(SHAPE, z, dtype=np.uint8)).save(photos / f"{z:02d}.png")
    made = tmp_path / "rock.fossil"
    Project.create(made, open_stack(photos), NewParams()).close()
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
        "classes": {"archaeocyathid": 8},
        "identified": True,
        "left_out": 0,
        "problems": [],
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
    assert result.identified
    by_id = {i.id: i for i in stored(path)}
    assert all(by_id[c.parent].specimen == 3 for c in cavities if c.specimen == 3)
    assert result.problems == (
        "cavity of specimen 5 in slice 0: it lies in no body; kept without one",
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


# ---------------------------------------------------------- labels and tracing


def test_predictions_become_labels_and_then_annotations(path: Path) -> None:
    body = Instance(1, "archaeocyathid", disc(20, 20, 9), 0.9, specimen=2, id=-1)
    body = replace(body, origin=Origin.MODEL, texture="pitted")
    cavity = replace(body, mask=disc(20, 20, 4), score=0.3, part=Part.CAVITY, parent=-1, id=-9)
    weak = replace(body, id=-2, mask=disc(5, 5, 3), score=0.2)
    store(path, MODEL, 1, body, replace(cavity, score=0.6), weak)
    result = fill_labels(path, FillParams(source="reef", score=0.5))
    assert (result.source, result.slices, result.instances) == (MODEL, (1,), 2)
    with Project.open(path) as project:
        outer, inner = project.labels.values(1)
        labels = project.labels.read(1)
        assert (labels == outer).sum() == body.mask.area - cavity.mask.area
        assert (labels == inner).sum() == cavity.mask.area
        project.labels.array[1, 0:4, 0:4] = inner + 1000
    assert trace_slice(path, TraceParams(slices="1")).instances == 3
    found = stored(path)
    assert essence(found) == essence(
        [
            replace(body, score=1.0),
            replace(cavity, score=1.0),
            Instance(1, "archaeocyathid", Mask.from_crop(np.ones((4, 4), bool), (0, 0), SHAPE)),
        ]
    )
    assert {i.origin for i in found} == {Origin.HUMAN}
    with Project.open(path) as project:
        assert project.ledger.traced() == {1: None}


def test_corrected_slices_are_not_filled_again(path: Path) -> None:
    for z in (0, 1):
        store(path, MODEL, z, Instance(z, "archaeocyathid", disc(20, 20, 9)))
    with Project.open(path) as project:
        project.labels.array[0, 3, 3] = 77
    result = fill_labels(path, FillParams(source=MODEL))
    assert result.summary() == {"source": MODEL, "slices": "1", "kept": "0", "instances": 1}
    assert fill_labels(path, FillParams(source=MODEL, overwrite=True)).slices == (0, 1)
    with Project.open(path) as project:
        assert project.labels.undo_last() == [0, 1]
        assert project.labels.values(0) == [77]
        (value,) = project.labels.values(1)
        assert [i.id for i in project.instances(LABELS, 1)] == [value]


def test_labels_are_no_source_of_labels(path: Path) -> None:
    with Project.open(path) as project:
        project.ledger.new_instance(0, "a", SHAPE)
    with pytest.raises(FossilError, match="filled from themselves"):
        fill_labels(path, FillParams(source=LABELS))


def test_a_region_is_traced(path: Path) -> None:
    store(path, ANNOTATIONS, 0, Instance(0, "archaeocyathid", disc(20, 20, 9)))
    trace_slice(path, TraceParams(slices="0", region=":25"))
    trace_slice(path, TraceParams(slices="0", region="30:40,10:20"))
    with Project.open(path) as project:
        area = project.ledger.traced()[0].to_array()
        assert len(project.ledger.instances(ANNOTATIONS)) == 1
    expected = np.zeros(SHAPE, dtype=bool)
    expected[:, :25] = True
    expected[10:20, 30:40] = True
    assert (area == expected).all()
    with pytest.raises(FossilError, match="outside the slice; expected within 50 x 40"):
        trace_slice(path, TraceParams(slices="0", region="900:"))


@pytest.mark.parametrize("slices", ["", "9", "x"])
def test_slices_must_be_in_the_stack(path: Path, slices: str) -> None:
    with pytest.raises(FossilError, match="expected"):
        trace_slice(path, TraceParams(slices=slices))


@pytest.mark.real_data
def test_chloroplast_labels_survive_coco(shared_data: Path, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        made = tmp_path / f"{name}.fossil"
        stack = open_stack(shared_data / "chloroplast" / "images")
        Project.create(made, stack, NewParams()).close()
        file = tmp_path / "c.json" if found else shared_data / "chloroplast" / "labels_zyx.tif"
        assert import_annotations(made, ImportParams(file=file)).identified
        export_annotations(made, ExportParams(file=tmp_path / "c.json"))
        found.append(essence(stored(made)))
    assert found[0] == found[1]
    assert len({item[6] for item in found[0]}) == 34
