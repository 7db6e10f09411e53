"""Labels of an earlier version are taken over once, slice by slice, and nothing is lost."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, LABELS, Ledger, Project, old_labels
from napari_fossiledit.stacks.blank import BlankStack

SHAPE = (5, 30, 40)
PLANE = SHAPE[1:]
BLANK = Mask.empty(PLANE)
MODEL = "model:m:0123456789ab"


def mask(y0: int, x0: int, y1: int, x1: int) -> Mask:
    array = np.zeros(PLANE, dtype=np.bool_)
    array[y0:y1, x0:x1] = True
    return Mask.from_array(array)


def paint(path: Path, z: int, value: int, where: Mask) -> None:
    array = zarr.open_array(path / "labels.zarr", mode="r+")
    labels = array[z]
    labels[where.to_array()] = value
    array[z] = labels


def add_row(path: Path, id_: int, item: Instance) -> None:
    with Ledger(path / "ledger.sqlite") as ledger, ledger._database.writing() as db:
        (new,) = ledger.store(LABELS, item.slice, [replace(item, mask=BLANK)], replace=False)
        db.execute("UPDATE instances SET id = ? WHERE id = ?", (id_, new))
        db.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'instances'", (id_,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A project as version 1 wrote it.

    Slice 1 was filled from a prediction with a cavity, slice 2 was painted by hand, with a value
    that has its row in slice 1 and one that has none; slice 3 is annotated, too.
    """
    made = tmp_path / "old.fossil"
    stack = BlankStack.of_shape(tmp_path / "none.mat", SHAPE)
    Project.create(made, stack, NewParams(pixel_size=72.7, slice_spacing=500)).close()
    zarr.create_array(
        made / "labels.zarr", shape=SHAPE, chunks=(1, 16, 16), dtype=np.uint32, fill_value=0
    )
    body = Instance(1, "archaeocyathid", BLANK, 0.8, texture="pitted", specimen=4)
    body = replace(body, origin=Origin.MODEL)
    add_row(made, 11, body)
    add_row(made, 12, replace(body, part=Part.CAVITY, score=0.6, parent=11))
    add_row(made, 13, Instance(1, "shell", BLANK, unsure=True))
    add_row(made, 14, Instance(1, "never painted", BLANK))
    add_row(made, 31, Instance(3, "archaeocyathid", BLANK))
    paint(made, 1, 11, mask(2, 2, 20, 20))
    paint(made, 1, 12, mask(5, 5, 10, 10))
    paint(made, 2, 13, mask(0, 0, 4, 4))
    paint(made, 2, 900, mask(10, 10, 14, 14))
    paint(made, 3, 31, mask(8, 8, 12, 12))
    with Ledger(made / "ledger.sqlite") as ledger:
        traced = Instance(3, "archaeocyathid", mask(0, 0, 9, 9), specimen=7)
        ledger.store(ANNOTATIONS, 3, [traced])
        ledger.set_traced(3, None)
        ledger.store(MODEL, 1, [Instance(1, "archaeocyathid", mask(1, 1, 9, 9), 0.8)])
    as_version_1(made)
    return made


def as_version_1(path: Path) -> None:
    database = sqlite3.connect(path / "ledger.sqlite")
    database.executescript(
        "DROP TABLE action_slices; DROP TABLE actions; PRAGMA user_version = 1;"
        "DROP TRIGGER set_decided;"
        "ALTER TABLE instances DROP COLUMN guessed; ALTER TABLE instances DROP COLUMN probability;"
        "CREATE TABLE changes (id INTEGER PRIMARY KEY, what TEXT);"
        "CREATE TABLE overwritten (id INTEGER PRIMARY KEY, change INTEGER);"
    )
    database.close()


def essence(project: Project, source: str) -> set[tuple]:
    found = project.ledger.instances(source)
    classes = {i.id: i.class_name for i in found}
    return {
        (i.slice, i.class_name, i.mask, i.part, i.score, i.texture, i.unsure, i.origin, i.specimen,
         classes.get(i.parent))
        for i in found
    }  # fmt: skip


def expected(score: bool, specimen: bool) -> set[tuple]:
    """What slices 1 and 2 show; the cavity's pixels belong to its body, too."""
    model, human, fossil = Origin.MODEL, Origin.HUMAN, "archaeocyathid"
    who = 4 if specimen else None
    return {
        (1, fossil, mask(2, 2, 20, 20), Part.BODY, 0.8 if score else 1.0, "pitted", False, model,
         who, None),
        (1, fossil, mask(5, 5, 10, 10), Part.CAVITY, 0.6 if score else 1.0, "pitted", False, model,
         who, fossil),
        (2, "shell", mask(0, 0, 4, 4), Part.BODY, 1.0, "", True, human, None, None),
        (2, fossil, mask(10, 10, 14, 14), Part.BODY, 1.0, "", False, human, None, None),
    }  # fmt: skip


def check(path: Path) -> None:
    """Check all that the fixture says."""
    with Project.open(path) as project:
        ledger = project.ledger
        own = (3, "archaeocyathid", mask(8, 8, 12, 12), Part.BODY, 1.0, "", False, Origin.HUMAN)
        assert essence(project, LABELS) == expected(True, True) | {(*own, None, None)}
        traced = (3, "archaeocyathid", mask(0, 0, 9, 9), *own[3:], 7, None)
        assert essence(project, ANNOTATIONS) == expected(False, False) | {traced}
        assert ledger.done(ANNOTATIONS) == {1, 2, 3}
        assert ledger.traced() == {3: None}
        assert len(ledger.instances(LABELS, slices=[1])) == 2
        assert len(ledger.instances(MODEL)) == 1
        with ledger._database.reading() as db:
            tables = {n for (n,) in db.execute("SELECT name FROM sqlite_master")}
        assert not tables & {"changes", "overwritten"}
    assert not (path / "labels.zarr").exists()
    # Nothing is lost: the voxels are still there for whoever wants them.
    assert (zarr.open_array(path / "labels-taken-over.zarr", mode="r")[2] == 900).sum() == 16


def test_labels_become_a_source_and_annotations_where_there_are_none(path: Path) -> None:
    with Project.open(path) as project:
        assert project.notes == (
            "labels.zarr of an earlier version was taken over: it is labels-taken-over.zarr now and"
            " is not read any more.",
            "The labels of slices 1-2 are annotations now, not marked as traced.",
            "Slices 3 had annotations and keep them; their labels are the source 'labels'.",
        )
        assert [(r.kind, r.status) for r in project.ledger.runs()] == [("take over labels", "done")]
    check(path)
    with Project.open(path) as project:
        assert project.notes == ()


def test_a_folder_that_may_not_be_changed_opens_as_it_is(path: Path) -> None:
    with Project.open(path, read_only=True) as project:
        assert "labels.zarr of an earlier version is not shown" in project.notes[0]
        assert project.ledger.done(ANNOTATIONS) == {3}
        assert project.ledger.history() == []
    assert (path / "labels.zarr").exists()


@pytest.mark.parametrize("at", range(11))
def test_killed_anywhere_the_next_opening_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    class Killed(BaseException):
        pass

    steps = iter(range(100))

    def killing(function):
        def call(*args, **kwargs):
            if next(steps) == at:
                raise Killed
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("store", "set_meta", "forget_blank", "free_ids"):
            patch.setattr(Ledger, name, killing(getattr(Ledger, name)))
        patch.setattr(old_labels, "_put_aside", killing(old_labels._put_aside))
        with pytest.raises(Killed):
            Project.open(path)
    check(path)


def test_a_damaged_chunk_is_named_and_the_other_slices_are_taken_over(path: Path) -> None:
    (path / "labels.zarr" / "c" / "2" / "0" / "0").write_bytes(b"junk")
    with Project.open(path) as project:
        assert len(project.notes) == 4
        assert "The labels of slice 2 could not be taken over" in project.notes[-1]
        assert project.ledger.done(ANNOTATIONS) == {1, 3}
        assert project.ledger.runs()[-1].summary["damaged"].keys() == {"2"}
    assert (path / "labels-taken-over.zarr" / "c" / "2" / "0" / "0").exists()


@pytest.mark.parametrize("content", ["{", '{"zarr_format": 3}', None])
def test_labels_that_cannot_be_read_are_put_aside(path: Path, content: str | None) -> None:
    file = path / "labels.zarr" / "zarr.json"
    file.unlink() if content is None else file.write_text(content)
    with Project.open(path) as project:
        assert "No labels could be taken over" in project.notes[-1]
        assert "labels.zarr" in project.notes[-1]
        assert len(project.ledger.instances(ANNOTATIONS)) == 1


def test_a_project_whose_ids_one_value_used_up_lives_again(path: Path) -> None:
    with Ledger(path / "ledger.sqlite") as ledger:
        pass
    add_row(path, 2**31 - 1, Instance(4, "shell", BLANK))
    paint(path, 4, 2**31 - 1, mask(1, 1, 3, 3))
    as_version_1(path)
    with Project.open(path) as project:
        ledger = project.ledger
        (painted,) = ledger.instances(ANNOTATIONS, slices=[4])
        assert (painted.class_name, painted.mask) == ("shell", mask(1, 1, 3, 3))
        assert ledger.reserve_id() < 1000
        assert max(i.id for i in ledger.instances(LABELS)) < 1000


def test_two_programs_take_over_once(path: Path) -> None:
    with ThreadPoolExecutor(3) as threads:
        for project in threads.map(lambda _: Project.open(path), range(3)):
            project.close()
    check(path)
