"""The ledger: what is stored comes back, what breaks off was never there."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.masks.probability import Piece, ProbabilityMask
from napari_fossiledit.project import ANNOTATIONS, Ledger
from napari_fossiledit.project.database import on_network

SHAPE = (20, 30)
MODEL = "model:reef:0123456789ab"


def box(y: int, x: int, size: int = 4) -> Mask:
    return Mask.from_crop(np.ones((size, size), dtype=bool), (y, x), SHAPE)


def body(z: int = 0, *, score: float = 1.0, **more: object) -> Instance:
    return replace(Instance(z, "archaeocyathid", box(2, 3), score=score), **more)


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


def test_every_property_comes_back(ledger: Ledger) -> None:
    item = Instance(3, "calcimicrobe", box(5, 6), 0.25, Part.BODY, "clotted", True, Origin.MODEL, 7)
    (new,) = ledger.store(MODEL, 3, [item])
    assert ledger.instances(MODEL) == [replace(item, id=new)]


def test_instances_come_by_slice_and_falling_score(ledger: Ledger) -> None:
    ledger.store(MODEL, 5, [body(5, score=0.1), body(5, score=0.9)])
    ledger.store(MODEL, 2, [body(2, score=0.5)])
    assert [(i.slice, i.score) for i in ledger.instances(MODEL)] == [(2, 0.5), (5, 0.9), (5, 0.1)]


def test_every_filter(ledger: Ledger) -> None:
    inputs = [
        body(score=0.2),
        body(score=0.8, class_name="shell"),
        body(score=0.6, id=-1),
        body(score=0.7, part=Part.CAVITY, parent=-1),
    ]
    ids = ledger.store(MODEL, 0, inputs)
    found = ledger.instances
    assert [i.id for i in found(MODEL, min_score=0.6)] == [ids[1], ids[3], ids[2]]
    assert [i.id for i in found(MODEL, class_name="shell")] == [ids[1]]
    assert [i.id for i in found(MODEL, part=Part.CAVITY)] == [ids[3]]
    assert [i.id for i in found(MODEL, ids=[ids[0], 999])] == [ids[0]]
    assert found(MODEL, slices=[1]) == found(ANNOTATIONS) == found(MODEL, slices=[]) == []


def test_parents_are_given_their_new_ids(ledger: Ledger) -> None:
    ledger.store(MODEL, 0, [body()])
    cavity = body(part=Part.CAVITY, parent=-8)
    ids = ledger.store(ANNOTATIONS, 0, [cavity, body(id=-8)])
    stored = {i.id: i for i in ledger.instances(ANNOTATIONS)}
    assert stored[ids[0]].parent == ids[1]


def test_a_parent_that_is_nowhere_is_refused_and_nothing_stored(ledger: Ledger) -> None:
    kept = ledger.store(MODEL, 0, [body()])
    with pytest.raises(FossilError, match=r"ledger\.sqlite"):
        ledger.store(MODEL, 0, [body(), body(part=Part.CAVITY, parent=77)])
    assert [i.id for i in ledger.instances(MODEL)] == kept
    with pytest.raises(FossilError, match="another slice; expected 0; found 4"):
        ledger.store(MODEL, 0, [body(4)])


def test_storing_again_replaces_and_never_reuses_ids(ledger: Ledger) -> None:
    first = ledger.store(MODEL, 0, [body(), body()])
    second = ledger.store(MODEL, 0, [body()])
    assert [i.id for i in ledger.instances(MODEL)] == second
    ledger.forget(MODEL)
    third = ledger.store(MODEL, 0, [body()])
    assert max(first) < min(second) <= max(second) < min(third)


def test_replacing_cavities_leaves_bodies_alone(ledger: Ledger) -> None:
    (outer,) = ledger.store(ANNOTATIONS, 0, [body()])
    for _ in range(2):
        ledger.store(ANNOTATIONS, 0, [body(part=Part.CAVITY, parent=outer)], part=Part.CAVITY)
    assert [i.part for i in ledger.instances(ANNOTATIONS)] == [Part.BODY, Part.CAVITY]


def test_done_counts_slices_without_a_find(ledger: Ledger) -> None:
    ledger.store(MODEL, 4, [])
    ledger.store(MODEL, 6, [body(6)])
    assert ledger.done(MODEL) == {4, 6}
    assert ledger.counts(MODEL) == {4: 0, 6: 1}
    assert ledger.counts(MODEL, min_score=1.1) == {4: 0, 6: 0}
    assert [(s.name, s.slices, s.instances) for s in ledger.sources()] == [(MODEL, 2, 1)]
    ledger.forget(MODEL, [6])
    assert ledger.done(MODEL) == {4}
    assert ledger.instances(MODEL) == []


def test_specimens_are_set_for_one_source_only(ledger: Ledger) -> None:
    (ours,) = ledger.store(MODEL, 0, [body()])
    (other,) = ledger.store(ANNOTATIONS, 0, [body(specimen=5)])
    ledger.set_specimens(MODEL, {ours: 3, other: 9})
    assert ledger.instances(MODEL)[0].specimen == 3
    assert ledger.instances(ANNOTATIONS)[0].specimen == 5


def test_what_is_said_about_instances_can_change(ledger: Ledger) -> None:
    (one, two) = ledger.store(MODEL, 0, [body(score=0.9), body(score=0.8)])
    ledger.describe([two], unsure=True, texture="mud_filled")
    ledger.set_reviewed([one])
    first, second = ledger.instances(MODEL)
    assert (first.unsure, second.unsure, second.texture) == (False, True, "mud_filled")
    assert second.class_name == "archaeocyathid"
    assert (first.reviewed, second.reviewed) == (True, False)
    assert ledger.reviewed() == {}
    ids = ledger.store(ANNOTATIONS, 3, [body(3), body(3)])
    ledger.set_reviewed(ids[:1])
    assert ledger.reviewed() == {3: (1, 2)}


def test_traced_areas_grow(ledger: Ledger) -> None:
    ledger.add_traced(2, box(0, 0))
    ledger.add_traced(2, box(10, 10))
    ledger.set_traced(5, None)
    ledger.add_traced(5, box(0, 0))
    area = ledger.traced()[2]
    assert area == box(0, 0) | box(10, 10)
    assert ledger.traced()[5] is None
    ledger.unset_traced(5)
    assert set(ledger.traced()) == {2}


def test_runs_and_facts(ledger: Ledger) -> None:
    with ledger.recorded("train", {"steps": 3}) as summary:
        summary["loss"] = 0.5
    with pytest.raises(CancelledError), ledger.recorded("predict", {}):
        raise CancelledError("stopped")
    done, cancelled = ledger.runs()
    assert (done.kind, done.params, done.status, done.summary) == (
        "train",
        {"steps": 3},
        "done",
        {"loss": 0.5},
    )
    assert cancelled.status == "cancelled"
    ledger.set_meta("colour", [1, 2])
    assert ledger.get_meta("colour") == [1, 2]
    assert ledger.get_meta("nothing", 3) == 3
    assert not ledger.identified(MODEL)
    ledger.set_identified(MODEL, True)
    assert ledger.identified(MODEL)


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    def work(first: int) -> None:
        for z in range(first, first + 10):
            ledger.store(MODEL, z, [body(z), body(z)])
            ledger.instances(MODEL, slices=[z])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(0, 40, 10)))
    assert ledger.counts(MODEL) == dict.fromkeys(range(40), 2)
    assert len({i.id for i in ledger.instances(MODEL)}) == 80


def test_a_full_disk_keeps_what_was_stored(ledger: Ledger) -> None:
    ledger.store(MODEL, 0, [body()])
    with ledger._database.reading() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")
    noise = np.random.default_rng(0).random((400, 400)) < 0.5
    with pytest.raises(FossilError, match=r"ledger\.sqlite.*free some space"):
        ledger.store(MODEL, 1, [Instance(1, "shell", Mask.from_array(noise))] * 5)
    assert ledger.done(MODEL) == {0}
    assert len(ledger.instances(MODEL)) == 1


def test_another_program_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_fossiledit.project.database._BUSY_S", 0.05)
    with Ledger(tmp_path / "l.sqlite") as ledger:
        other = sqlite3.connect(tmp_path / "l.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(FossilError, match=r"l\.sqlite.*Another program"):
            ledger.store(MODEL, 0, [body()])
        other.execute("ROLLBACK")
        other.close()
        ledger.store(MODEL, 0, [body()])


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database, only a long enough text " * 100)
    with pytest.raises(FossilError, match=r"ledger\.sqlite.*damaged"):
        Ledger(path)


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(FossilError, match=r"newer version.*found 99"):
        Ledger(path)


def test_an_impossible_row_is_told(ledger: Ledger) -> None:
    ledger.store(MODEL, 0, [body()])
    with ledger._database.writing() as db:
        db.execute("UPDATE instances SET part = 'tail'")
    with pytest.raises(FossilError, match="tail"):
        ledger.instances(MODEL)


def test_numbers_beyond_sqlite_are_refused(ledger: Ledger) -> None:
    with pytest.raises(FossilError, match=r"ledger\.sqlite"):
        ledger.store(MODEL, 0, [body(specimen=2**70)])


def test_read_only_reads_and_refuses(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as writer:
        writer.store(MODEL, 0, [body()])
        with Ledger(path, read_only=True) as beside:
            assert beside.done(MODEL) == {0}
    with Ledger(path, read_only=True) as reader:
        assert len(reader.instances(MODEL)) == 1
        with pytest.raises(FossilError, match="for reading only"):
            reader.store(MODEL, 1, [])


def test_a_missing_ledger_reads_as_empty(tmp_path: Path) -> None:
    with Ledger(tmp_path / "none.sqlite", read_only=True) as reader:
        assert reader.sources() == []
    assert list(tmp_path.iterdir()) == []


def test_local_files_use_the_write_ahead_log(ledger: Ledger, monkeypatch) -> None:
    with ledger._database.reading() as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert not on_network(ledger.path)


def test_network_drives_use_the_rollback_journal(tmp_path: Path, monkeypatch) -> None:
    from types import SimpleNamespace

    drives = [
        SimpleNamespace(mountpoint="/", fstype="ext4", opts="rw"),
        SimpleNamespace(mountpoint=str(tmp_path), fstype="nfs4", opts="rw"),
    ]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: drives)
    with Ledger(tmp_path / "l.sqlite") as ledger, ledger._database.reading() as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_slice_is_found_quickly_among_many(ledger: Ledger) -> None:
    asked: list[str] = []
    with ledger._database.reading() as db:
        db.set_trace_callback(asked.append)
        ledger.instances(MODEL, slices=[4])
        db.set_trace_callback(None)
        (query,) = [text for text in asked if " FROM instances " in text]
        plan = db.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
    text = " ".join(str(row) for row in plan)
    assert "instances_by_slice (source=? AND z=?" in text
    assert "ORDER BY" not in text


def cone(**more: object) -> Instance:
    """An instance whose probability falls from left to right over ten pixels."""
    grid = np.tile(np.linspace(250, 25, 10).astype(np.uint8), (4, 1))
    kept = ProbabilityMask((Piece((3, 2, 13, 6), grid, exact=True),))
    return body(probability=kept, mask=kept.cut(0.5, SHAPE), **more)


def test_masks_are_cut_where_asked(ledger: Ledger) -> None:
    ledger.store(MODEL, 0, [cone(score=0.4), cone(score=0.9)])
    at_half = ledger.instances(MODEL)
    assert [i.probability for i in at_half] == [None, None]
    assert [i.mask.area for i in at_half] == [4 * 5] * 2
    assert [i.mask.area for i in ledger.instances(MODEL, mask_cut=0.7)] == [4 * 3] * 2
    assert [i.mask.area for i in ledger.instances(MODEL, mask_cut=0.2, min_score=0.5)] == [4 * 8]
    # Without a pixel there is no instance.
    assert ledger.instances(MODEL, mask_cut=0.99) == []
    (read, _) = ledger.instances(MODEL, with_probability=True)
    assert read.mask == at_half[0].mask
    assert read.probability is not None
    assert read.probability.cut(0.7, SHAPE).area == 4 * 3


def test_what_a_person_has_taken_over_has_one_mask(ledger: Ledger) -> None:
    ledger.take_over(0, [cone()])
    (one,) = ledger.instances(ANNOTATIONS, mask_cut=0.9, with_probability=True)
    assert (one.mask, one.probability) == (cone().mask, None)


def as_version_2(path: Path) -> None:
    other = sqlite3.connect(path)
    other.executescript(
        "ALTER TABLE instances DROP COLUMN probability; ALTER TABLE actions DROP COLUMN parent;"
        "ALTER TABLE actions DROP COLUMN size; DROP TABLE versions; DROP TABLE taken_over;"
        "PRAGMA user_version = 2;"
    )
    other.close()


def test_predictions_without_probabilities_are_cut_at_one_half_only(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.store(MODEL, 0, [cone()])
    as_version_2(path)
    told = r"reef \(0123456\) cannot be cut at 0.6.*none in slice 0.*--again"
    with Ledger(path, read_only=True) as ledger:
        (one,) = ledger.instances(MODEL, with_probability=True)
        assert (one.mask, one.probability) == (cone().mask, None)
        with pytest.raises(FossilError, match=told):
            ledger.instances(MODEL, mask_cut=0.6)
    with Ledger(path) as ledger:
        with pytest.raises(FossilError, match=told):
            ledger.instances(MODEL, mask_cut=0.6)
        ledger.store(MODEL, 0, [cone()])
        assert [i.mask.area for i in ledger.instances(MODEL, mask_cut=0.7)] == [4 * 3]


def test_a_damaged_name_in_the_schema_is_told(tmp_path: Path) -> None:
    """SQLite quotes it in its message, which then is no text."""
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    content = path.read_bytes().replace(b"instances_by_slice", b"instances\xffby_slice")
    path.write_bytes(content.replace(b"slice ON instances (source", b"slice ON instance? (source"))
    for read_only in (True, False):
        with pytest.raises(FossilError, match=r"ledger\.sqlite failed.*The file is damaged"):
            Ledger(path, read_only=read_only)


def test_nothing_is_written_into_a_file_that_was_moved_away(tmp_path: Path) -> None:
    folder = tmp_path / "reef.fossil"
    folder.mkdir()
    with Ledger(folder / "ledger.sqlite") as ledger:
        folder.rename(tmp_path / "elsewhere")
        with pytest.raises(FossilError, match="was moved, renamed or removed"):
            ledger.store(MODEL, 0, [body()])
        (tmp_path / "elsewhere").rename(folder)
        ledger.store(MODEL, 0, [body()])
        assert ledger.done(MODEL) == {0}
