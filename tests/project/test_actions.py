"""The user's set of instances: every change can be undone and redone, whole or not at all."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.project import ANNOTATIONS, Ledger, TakenFrom, actions
from napari_fossiledit.project.ledger import LARGEST_ID

SHAPE = (20, 30)
MODEL = "model:reef:0123456789ab"


def box(y: int, x: int, size: int = 4) -> Mask:
    return Mask.from_crop(np.ones((size, size), dtype=bool), (y, x), SHAPE)


def body(z: int = 0, **more: object) -> Instance:
    return replace(Instance(z, "archaeocyathid", box(2, 3)), **more)


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


def state(ledger: Ledger) -> dict[str, list[tuple]]:
    """All that the user's set is made of."""
    with ledger._database.reading() as db:
        return {
            "rows": db.execute(
                "SELECT * FROM instances WHERE source = ? ORDER BY id", (ANNOTATIONS,)
            ).fetchall(),
            "traced": db.execute("SELECT * FROM traced ORDER BY z").fetchall(),
            "done": db.execute(
                "SELECT z FROM done WHERE source = ? ORDER BY z", (ANNOTATIONS,)
            ).fetchall(),
            "facts": db.execute("SELECT * FROM meta ORDER BY key").fetchall(),
        }


def test_put_takes_the_place_of_the_instance_with_its_id(ledger: Ledger) -> None:
    (id_,) = ledger.edit(0, put=[body(specimen=3)])
    ledger.set_reviewed([id_])
    (stored,) = ledger.instances(ANNOTATIONS)
    assert ledger.edit(0, put=[replace(stored, mask=box(9, 9))]) == [id_]
    assert ledger.instances(ANNOTATIONS) == [replace(stored, mask=box(9, 9))]
    assert [i.id for i in ledger.instances(ANNOTATIONS) if i.reviewed] == [id_]
    assert ledger.done(ANNOTATIONS) == {0}


def test_the_cavities_of_a_body_that_is_replaced_stay(ledger: Ledger) -> None:
    outer, inner = ledger.edit(0, put=[body(id=-1), body(part=Part.CAVITY, parent=-1)])
    ledger.edit(0, put=[body(id=outer, mask=box(1, 1))])
    assert {i.id: i.parent for i in ledger.instances(ANNOTATIONS)} == {outer: None, inner: outer}
    ledger.edit(0, remove=[outer])
    assert ledger.instances(ANNOTATIONS) == []
    ledger.undo()
    assert {i.id: i.parent for i in ledger.instances(ANNOTATIONS)} == {outer: None, inner: outer}


def test_a_cavity_outlives_its_body(ledger: Ledger) -> None:
    outer, inner = ledger.edit(0, put=[body(id=-1), body(part=Part.CAVITY, parent=-1)])
    ledger.set_reviewed([inner])
    (alone,) = (replace(i, parent=None) for i in ledger.instances(ANNOTATIONS) if i.id == inner)
    ledger.edit(0, put=[alone], remove=[outer])
    after = state(ledger)
    assert [i.id for i in ledger.instances(ANNOTATIONS) if i.reviewed] == [inner]
    for _ in range(2):
        ledger.undo()
        assert {i.id: i.parent for i in ledger.instances(ANNOTATIONS)} == {
            outer: None,
            inner: outer,
        }
        ledger.redo()
        assert state(ledger) == after


def test_ids_that_a_person_typed_are_never_trusted(ledger: Ledger) -> None:
    (predicted,) = ledger.store(MODEL, 0, [body()])
    (other,) = ledger.edit(1, put=[body(1)])
    typed = [predicted, other, 2**31 - 1, 2**40, -5]
    ids = ledger.edit(0, put=[body(id=id_) for id_ in typed])
    assert ids == [other + n for n in range(1, 6)]
    assert [i.id for i in ledger.instances(MODEL)] == [predicted]
    assert [i.id for i in ledger.instances(ANNOTATIONS, slices=[1])] == [other]


def test_reserved_ids_are_given_once(ledger: Ledger) -> None:
    reserved = [ledger.reserve_id() for _ in range(3)]
    assert reserved == [1, 2, 3]
    with Ledger(ledger.path) as beside, ThreadPoolExecutor(4) as threads:
        opened = [ledger, beside] * 10
        reserved += threads.map(Ledger.reserve_id, opened)
    assert len(set(reserved)) == 23
    assert ledger.edit(0, put=[body(id=2), body()]) == [2, max(reserved) + 1]
    # On another slice the same value is another instance.
    assert ledger.edit(1, put=[body(1, id=2)]) == [max(reserved) + 2]


def test_undo_gives_back_ids_specimens_and_reviews(ledger: Ledger) -> None:
    ids = ledger.edit(0, put=[body(specimen=4), body(mask=box(9, 9))])
    ledger.set_reviewed(ids[:1])
    before = state(ledger)
    ledger.edit(0, put=[body(id=ids[1], mask=box(10, 9))], remove=ids[:1], traced=None, what="cut")
    after = state(ledger)
    assert after != before
    assert ledger.undo() == actions.Undone("cut", (0,))
    assert state(ledger) == before
    assert ledger.redo() == actions.Undone("cut", (0,))
    assert state(ledger) == after
    assert ledger.redo() is None


def test_everything_that_changes_the_set_can_be_undone(ledger: Ledger) -> None:
    (id_,) = ledger.store(ANNOTATIONS, 0, [body()])
    changes = (
        lambda: ledger.store(ANNOTATIONS, 0, [body(mask=box(5, 5))], replace=False),
        lambda: ledger.describe([id_], unsure=True, texture="pitted", class_name="shell"),
        lambda: ledger.set_reviewed([id_]),
        lambda: ledger.set_specimens(ANNOTATIONS, {id_: 9}),
        lambda: ledger.set_traced(1, box(0, 0)),
        lambda: ledger.add_traced(1, box(9, 0)),
        lambda: ledger.set_identified(ANNOTATIONS, True),
        lambda: ledger.set_guessed(ANNOTATIONS, "shell"),
        lambda: ledger.unset_traced(1),
        lambda: ledger.forget(ANNOTATIONS),
    )
    states = [state(ledger)]
    for change in changes:
        change()
        states.append(state(ledger))
        assert states[-1] != states[-2]
    for n in range(len(changes), 0, -1):
        ledger.undo()
        assert state(ledger) == states[n - 1]
    for n in range(1, len(changes) + 1):
        ledger.redo()
        assert state(ledger) == states[n]


def test_predictions_are_not_in_the_journal(ledger: Ledger) -> None:
    (id_,) = ledger.store(MODEL, 0, [body()])
    ledger.set_specimens(MODEL, {id_: 3})
    ledger.set_reviewed([id_])
    assert ledger.history() == []
    assert ledger.undo() is None
    assert len(ledger.instances(MODEL)) == 1


def test_an_action_over_slices_is_undone_as_one(ledger: Ledger) -> None:
    ledger.edit(0, put=[body()], what="draw")
    action = ledger.begin("import")
    assert len(ledger.history()) == 1
    for z in (0, 2, 5):
        ledger.store(ANNOTATIONS, z, [body(z)] * 2, action=action)
        ledger.set_traced(z, None, action=action)
    imported, drawn = ledger.history()
    assert (imported.what, imported.slices, drawn.what, drawn.slices) == (
        "import", (0, 2, 5), "draw", (0,),
    )  # fmt: skip
    assert ledger.undo() == actions.Undone("import", (0, 2, 5))
    assert ledger.counts(ANNOTATIONS) == {0: 1}
    assert ledger.traced() == {}
    assert [a.undone for a in ledger.history()] == [True, False]


def test_what_changes_nothing_is_no_action(ledger: Ledger) -> None:
    ledger.edit(0, put=[body()])
    (stored,) = ledger.instances(ANNOTATIONS)
    ledger.edit(0, put=[stored])
    ledger.set_reviewed([stored.id], False)
    assert len(ledger.history()) == 1


def test_a_new_action_leaves_behind_what_was_undone(ledger: Ledger) -> None:
    for n in range(3):
        ledger.edit(n, put=[body(n)], what=str(n))
    ledger.undo()
    ledger.undo()
    ledger.edit(7, put=[body(7)], what="new")
    assert ledger.redo() is None
    assert [a.what for a in ledger.history()] == ["new", "0"]
    assert ledger.undo().what == "new"
    assert ledger.undo().what == "0"


def test_versions_come_back_as_one_action(ledger: Ledger) -> None:
    ledger.name_version("empty")
    states = {"empty": state(ledger)}
    for n in range(3):
        ledger.edit(n, put=[body(n)], what=str(n))
    ledger.name_version("three")
    states["three"] = state(ledger)
    ledger.undo()
    ledger.undo()
    # On a branch of its own, what was named is left behind.
    ledger.edit(0, put=[body(mask=box(9, 9))], what="another way")
    ledger.name_version("branch")
    states["branch"] = state(ledger)
    assert {v.name: v.changes for v in ledger.versions()} == {"branch": 0, "three": 3, "empty": 2}
    for name in ("three", "branch", "empty", "three", "empty", "branch"):
        before = state(ledger)
        restored = ledger.restore(name)
        assert restored.what == f"restore version {name}"
        assert state(ledger) == states[name]
        ledger.undo()
        assert state(ledger) == before
        ledger.redo()
    newest = ledger.history(1)[0]
    assert newest.what == "restore version branch"
    with pytest.raises(FossilError, match="no version 'four'") as error:
        ledger.restore("four")
    assert error.value.expected == "branch, empty, three"
    with pytest.raises(FossilError, match="already"):
        ledger.name_version("three")


def test_a_version_that_the_journal_has_forgotten(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "KEPT_BYTES", 1000)
    ledger.edit(0, put=[body()])
    ledger.name_version("early")
    for n in range(1, 200):
        ledger.edit(n, put=[body(n)])
    ledger.name_version("late")
    before = state(ledger)
    assert {v.name: v.changes for v in ledger.versions()} == {"early": None, "late": 0}
    with pytest.raises(FossilError, match="'early' cannot be restored any more"):
        ledger.restore("early")
    assert state(ledger) == before


def test_what_is_reviewed_is_not_replaced_unless_asked(ledger: Ledger) -> None:
    right, wrong = ledger.store(ANNOTATIONS, 0, [body(), body(mask=box(2, 20))])
    ledger.set_reviewed([right])
    predicted = [
        body(id=50, mask=box(3, 4), score=0.7),
        body(id=51, mask=box(12, 12), score=0.6, specimen=8),
        body(id=52, mask=box(4, 5, 2), part=Part.CAVITY, parent=50),
    ]
    taken = ledger.take_over(0, predicted, MODEL, overwrite=True)
    assert (len(taken.ids), taken.replaced, taken.left_out) == (1, 1, 2)
    kept, new = sorted(ledger.instances(ANNOTATIONS), key=lambda i: i.id)
    assert (kept.id, kept.mask, kept.reviewed) == (right, box(2, 3), True)
    assert (new.mask, new.score, new.specimen, new.reviewed) == (box(12, 12), 1.0, None, False)
    assert ledger.taken_from([right, new.id]) == {new.id: TakenFrom(MODEL, 51, 0.6)}
    taken = ledger.take_over(0, predicted, MODEL, overwrite=True, reviewed_too=True)
    assert (len(taken.ids), taken.replaced, taken.left_out) == (3, 2, 0)
    ledger.undo()
    ledger.undo()
    assert {i.id for i in ledger.instances(ANNOTATIONS)} == {right, wrong}


def test_two_programs_undo_strictly_backwards(ledger: Ledger) -> None:
    with Ledger(ledger.path) as other:
        one, two = ledger.begin("one"), other.begin("two")
        states = [state(ledger)]
        for n in range(4):
            (ledger, other)[n % 2].edit(0, put=[body()], action=(one, two)[n % 2])
            states.append(state(ledger))
        for expected in reversed(states[:-1]):
            other.undo()
            assert state(ledger) == expected


def test_a_failed_change_leaves_no_action(ledger: Ledger) -> None:
    action = ledger.begin("import")
    with pytest.raises(FossilError, match="another slice"):
        ledger.edit(0, put=[body(4)], action=action)
    with pytest.raises(FossilError, match=r"ledger\.sqlite"):
        ledger.edit(0, put=[body(parent=99, part=Part.CAVITY)], action=action)
    assert (ledger.history(), ledger.done(ANNOTATIONS), action.id) == ([], set(), None)


def test_old_actions_are_forgotten(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "KEPT_BYTES", 1000)
    for n in range(200):
        ledger.edit(n, put=[body(n)])
    left = ledger.history(1000)
    assert actions.KEPT_ACTIONS <= len(left) < actions.KEPT_ACTIONS + 16
    while ledger.undo():
        pass
    assert len(ledger.counts(ANNOTATIONS)) == 200 - len(left)


def test_linking_costs_the_journal_no_masks(ledger: Ledger) -> None:
    noise = Mask.from_array(np.random.default_rng(0).random((200, 200)) < 0.5)
    ids = ledger.store(ANNOTATIONS, 0, [Instance(0, "a", noise)] * 20)
    ledger.set_specimens(ANNOTATIONS, {id_: n for n, id_ in enumerate(ids)})
    with ledger._database.reading() as db:
        sizes = db.execute("SELECT length(before) + length(after) FROM action_slices ORDER BY id")
        stored, linked = (size for (size,) in sizes)
    assert stored > 10_000
    assert linked < 2_000


def test_a_damaged_action_is_named_and_changes_nothing(ledger: Ledger) -> None:
    ledger.edit(3, put=[body(3)], what="draw")
    before = state(ledger)
    for blob in (b"junk", actions.zlib.compress(b'{"rows": {"1": {"id = 5; --": 1}}}')):
        with ledger._database.writing() as db:
            db.execute("UPDATE action_slices SET after = ?", (blob,))
        with pytest.raises(FossilError, match=r"ledger\.sqlite.*damaged action: draw, slice 3"):
            ledger.undo()
        assert state(ledger) == before


def test_an_action_of_which_a_part_is_missing_is_not_undone(ledger: Ledger) -> None:
    action = ledger.begin("interpolate")
    for z in range(3):
        ledger.edit(z, put=[body(z)], action=action)
    before = state(ledger)
    with ledger._database.writing() as db:
        db.execute("DELETE FROM action_slices WHERE z = 1")
    with pytest.raises(FossilError, match=r"damaged action: interpolate.*repair-project"):
        ledger.undo()
    assert state(ledger) == before
    assert not ledger.history(1)[0].undone


def test_a_full_disk_amid_an_action_leaves_what_can_be_undone(ledger: Ledger) -> None:
    before = state(ledger)
    noise = Mask.from_array(np.random.default_rng(0).random((400, 400)) < 0.5)
    action, done = ledger.begin("interpolate"), 0
    with ledger._database.reading() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 120}")

    def interpolated() -> None:
        nonlocal done
        for z in range(9):
            ledger.edit(z, put=[Instance(z, "a", noise)], action=action)
            done += 1

    with pytest.raises(FossilError, match=r"ledger\.sqlite.*free some space"):
        interpolated()
    assert 0 < done < 9
    assert ledger.history(2)[0].slices == tuple(range(done))
    with ledger._database.reading() as db:
        db.execute("PRAGMA max_page_count = 100000")
    # Space again: it goes on, and is still one action.
    ledger.edit(done, put=[Instance(done, "a", noise)], action=action)
    assert ledger.undo().slices == tuple(range(done + 1))
    assert {**state(ledger), "facts": ()} == {**before, "facts": ()}


def test_what_was_imported_since_is_undone_first(ledger: Ledger) -> None:
    (id_,) = ledger.edit(1, put=[body(1)], what="paint")
    drawn = ledger.instances(ANNOTATIONS)
    ledger.edit(1, put=[replace(drawn[0], mask=box(9, 9))], what="paint more")
    painted = ledger.instances(ANNOTATIONS)
    # The slice is imported anew: what was painted is gone.
    ledger.store(ANNOTATIONS, 1, [body(1, class_name="a")], action=ledger.begin("import"))
    assert id_ not in {i.id for i in ledger.instances(ANNOTATIONS)}
    assert (ledger.undo().what, ledger.instances(ANNOTATIONS)) == ("import", painted)
    assert (ledger.undo().what, ledger.instances(ANNOTATIONS)) == ("paint more", drawn)
    ledger.redo()
    ledger.redo()
    assert [i.class_name for i in ledger.instances(ANNOTATIONS)] == ["a"]


def test_without_ids_left_masks_can_still_be_changed_and_undone(ledger: Ledger) -> None:
    (id_,) = ledger.edit(0, put=[body()])
    (drawn,) = ledger.instances(ANNOTATIONS)
    with ledger._database.writing() as db:
        db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'instances'", (LARGEST_ID - 1,))
    before = state(ledger)
    for change in (ledger.reserve_id, lambda: ledger.edit(0, put=[drawn, body()])):
        with pytest.raises(FossilError, match=f"no instance ids left.*up to {LARGEST_ID}"):
            change()
        assert state(ledger) == before
    assert ledger.edit(0, put=[replace(drawn, mask=box(9, 9))]) == [id_]
    ledger.undo()
    assert state(ledger) == before


def test_a_ledger_of_the_first_version_gets_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.store(ANNOTATIONS, 0, [body()])
    old = sqlite3.connect(path)
    old.executescript(
        "DROP TABLE action_slices; DROP TABLE actions; PRAGMA user_version = 1;"
        "DROP TRIGGER set_decided;"
        "ALTER TABLE instances DROP COLUMN guessed; ALTER TABLE instances DROP COLUMN probability;"
        "ALTER TABLE instances DROP COLUMN placed; ALTER TABLE traced DROP COLUMN placed;"
    )
    old.close()
    with Ledger(path, read_only=True) as reader:
        assert reader.history() == []
        assert len(reader.instances(ANNOTATIONS)) == 1
    with Ledger(path) as ledger:
        ledger.edit(0, put=[body()])
        ledger.undo()
        assert len(ledger.instances(ANNOTATIONS)) == 1


KINDS = ("draw", "redraw", "remove", "store", "trace", "untrace", "link", "word", "review")
CHANGES = st.tuples(
    st.sampled_from([*KINDS, "undo", "redo"]),
    st.integers(0, 2),
    st.integers(0, 15),
)


def change(ledger: Ledger, kind: str, z: int, n: int) -> None:
    """Make one change; `n` chooses an instance and a place."""
    there = ledger.instances(ANNOTATIONS, slices=[z])
    chosen = there[n % len(there)] if there else body(z)
    parent = chosen.id if chosen.part is Part.BODY and n % 3 == 0 else None
    part = Part.BODY if parent is None else Part.CAVITY
    ids = [] if chosen.id is None else [chosen.id]
    new = body(z, mask=box(n, n), part=part, parent=parent)
    {
        "draw": lambda: ledger.edit(z, put=[new]),
        "redraw": lambda: ledger.edit(z, put=[replace(chosen, mask=box(n, 3))], remove=[n]),
        "remove": lambda: ledger.edit(z, remove=ids, clear_traced=n % 2 == 0),
        "store": lambda: ledger.store(ANNOTATIONS, z, [body(z)] * (n % 3), replace=n % 2 == 0),
        "trace": lambda: ledger.add_traced(z, None if n % 4 == 0 else box(n, 2)),
        "untrace": lambda: ledger.unset_traced(z),
        "link": lambda: ledger.set_specimens(ANNOTATIONS, dict.fromkeys(ids, n)),
        "word": lambda: ledger.describe(ids, texture=str(n), unsure=n % 2 == 0),
        "review": lambda: ledger.set_reviewed(ids, n % 3 > 0),
        "undo": ledger.undo,
        "redo": ledger.redo,
    }[kind]()


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(CHANGES, max_size=25))
def test_undoing_all_and_redoing_all_is_exact(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int, int]]
) -> None:
    with Ledger(tmp_path_factory.mktemp("l") / "ledger.sqlite") as ledger:
        with ledger._database.reading() as db:
            db.execute("PRAGMA synchronous = OFF")
        ledger.store(MODEL, 0, [body()])
        start = state(ledger)
        for item in changes:
            change(ledger, *item)
        while ledger.redo():
            pass
        newest = state(ledger)
        back = 0
        while ledger.undo():
            back += 1
        assert state(ledger) == start
        assert len(ledger.instances(MODEL)) == 1
        for _ in range(back):
            ledger.redo()
        assert state(ledger) == newest


def test_a_thousand_actions_are_undone_exactly(ledger: Ledger) -> None:
    rng = np.random.default_rng(7)
    with ledger._database.reading() as db:
        db.execute("PRAGMA synchronous = OFF")
    ledger.name_version("start")
    states = {"start": state(ledger)}
    for _ in range(1600):
        kind = str(rng.choice(KINDS)) if rng.random() < 0.9 else "undo"
        change(ledger, kind, int(rng.integers(3)), int(rng.integers(16)))
        if rng.random() < 0.02:
            name = f"version {len(states)}"
            ledger.name_version(name)
            states[name] = state(ledger)
    with ledger._database.reading() as db:
        assert db.execute("SELECT count(*) FROM actions").fetchone()[0] > 1000
    for name in rng.permutation([*states]):
        ledger.restore(str(name))
        assert state(ledger) == states[name]
    while ledger.undo():
        pass
    assert state(ledger) == states["start"]


def test_a_change_sees_what_another_program_has_just_written(ledger: Ledger) -> None:
    (first,) = ledger.edit(0, put=[body()])
    seen = []

    def change(now: list[Instance]) -> tuple[list[Instance], list[int]]:
        seen.append([i.id for i in now])
        return [replace(now[0], texture="pitted")], [i.id or 0 for i in now[1:]]

    with Ledger(ledger.path) as other:
        (second,) = other.edit(0, put=[body()])
    assert ledger.revise(0, change, what="paint") == [first]
    assert seen == [[first, second]]
    assert [i.texture for i in ledger.instances(ANNOTATIONS)] == ["pitted"]
    assert ledger.history(1)[0].what == "paint"
    with pytest.raises(ZeroDivisionError):
        ledger.revise(0, lambda now: ([], [1 // 0]))
    assert len(ledger.history()) == 3


def test_a_version_holds_no_more_than_there_was_when_it_was_named(ledger: Ledger) -> None:
    action = ledger.begin("take over")
    ledger.edit(0, put=[body(0)], action=action)
    ledger.name_version("half")
    ledger.edit(1, put=[body(1)], action=action)
    ledger.restore("half")
    assert [i.slice for i in ledger.instances(ANNOTATIONS)] == [0]
