"""Edits on disk: whole or not there, never outside their folder, damage named."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_fossiledit import files
from napari_fossiledit.errors import FossilError
from napari_fossiledit.project.edits import EditRecord, EditState, EditStore
from napari_fossiledit.project.history import history

DELTA = bytes(range(200)) * 10


def record(name: str, parent: str = "blank", **values: object) -> EditRecord:
    fixed = {"parent_hash": "0" * 64, "result_hash": "1" * 64, "model": "blank"}
    return EditRecord(name=name, parent=parent, **(fixed | values))


@pytest.fixture
def store(tmp_path: Path) -> EditStore:
    return EditStore(tmp_path)


def change(store: EditStore, edit: str, /, **values: object) -> None:
    file = store.folder / edit / "edit.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_an_edit_comes_back_as_it_was_saved(store: EditStore) -> None:
    figures = {"before": {"iou": 0.5}, "after": {"iou": float("nan")}}
    saved = store.save(record("mud", losses={"fpn": [1, 0.5]}, judged=figures), DELTA)
    assert store.names() == ["mud"]
    assert store.read("mud") == saved
    assert store.delta("mud") == DELTA
    assert saved.judged["after"] == {"iou": None}
    assert saved.state is EditState.PROPOSED
    assert [f.name for f in store.folder.iterdir()] == ["mud"]


def test_changes_are_checked_before_they_are_written(store: EditStore) -> None:
    store.save(record("mud"), DELTA)
    assert store.update("mud", state="kept", strength=0.5).state is EditState.KEPT
    before = (store.folder / "mud" / "edit.json").read_bytes()
    for bad in ({"strength": float("nan")}, {"state": "lost"}, {"score": 2}, {"surprise": 1}):
        with pytest.raises(FossilError, match=rf"edit\.json cannot be used: {next(iter(bad))}"):
            store.update("mud", **bad)
    assert (store.folder / "mud" / "edit.json").read_bytes() == before
    assert store.read("mud").strength == 0.5


HOSTILE_NAMES = [
    "", ".", "..", "../a", "a/b", "/tmp", "a\\b", "C:", "a:b", ".hidden", "a\0", "a\n", "x" * 65,
    "a ", "a.", "*",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_stay_in_the_folder(store: EditStore, name: str) -> None:
    for use in (store.place, store.read, store.delta, store.require_free):
        with pytest.raises(FossilError, match=r"cannot be used; expected a name of 1 to 64"):
            use(name)
    with pytest.raises(ValueError, match="a name of 1 to 64 characters"):
        record(name)


@pytest.mark.parametrize("name", ["mud", "Schlamm über 35 %", "v1.2", "泥", "a" * 64])
def test_usual_names_are_taken(store: EditStore, name: str) -> None:
    store.save(record(name), DELTA)
    assert store.names() == [name]


def test_a_link_out_of_the_folder_is_not_followed(store: EditStore, tmp_path: Path) -> None:
    other = EditStore(tmp_path / "other")
    (tmp_path / "other").mkdir()
    other.save(record("mud"), DELTA)
    store.folder.mkdir()
    (store.folder / "mud").symlink_to(other.folder / "mud")
    with pytest.raises(FossilError, match="leads out of"):
        store.delta("mud")


def test_models_and_edits_share_their_names(store: EditStore) -> None:
    (store.project / "models" / "reef").mkdir(parents=True)
    store.save(record("mud"), DELTA)
    for name, what in (("reef", "a model 'reef'"), ("mud", "an edit 'mud'")):
        with pytest.raises(FossilError, match=f"has {what} already; expected a new name"):
            store.save(record(name), b"other")
    assert store.delta("mud") == DELTA
    assert store.names() == ["mud"]


def test_a_full_disk_leaves_nothing_behind(
    store: EditStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(record("old"), DELTA)
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:  # the weights are written, the record is not
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(FossilError, match=r"edit\.json failed: No space left.*free some space"):
        store.save(record("new"), DELTA)
    monkeypatch.undo()
    assert store.names() == ["old"]
    assert [f.name for f in store.folder.iterdir()] == ["old"]
    store.save(record("new"), DELTA)


def test_half_an_edit_is_not_listed(store: EditStore) -> None:
    store.save(record("mud"), DELTA)
    (store.folder / ".saving-x" / "half").mkdir(parents=True)
    shutil.copytree(store.folder / "mud", store.folder / ".saving-y")
    (store.folder / "mud" / "edit.json").unlink()
    assert store.names() == []
    with pytest.raises(FossilError, match=r"no edit 'mud'.*expected an edit"):
        store.read("mud")
    with pytest.raises(FossilError, match="has an edit 'mud' already"):
        store.save(record("mud"), DELTA)


def save_many(project: Path, start: object, won: object) -> None:
    start.wait()
    for number in range(20):
        mine = f"{os.getpid()}-{number}".encode()
        with contextlib.suppress(FossilError):
            EditStore(project).save(record(f"e{number}", note=mine.decode()), mine)
            won.put(number)


def test_of_two_processes_one_has_the_name(store: EditStore) -> None:
    context = multiprocessing.get_context("spawn")
    start, won = context.Barrier(2), context.Queue()
    both = [context.Process(target=save_many, args=(store.project, start, won)) for _ in range(2)]
    for process in both:
        process.start()
    numbers = [won.get(timeout=60) for _ in range(20)]
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(numbers) == list(range(20))
    assert won.empty()
    for number in range(20):
        name = f"e{number}"
        assert store.delta(name).decode() == store.read(name).note
    assert sorted(f.name for f in store.folder.iterdir()) == store.names()


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"", lambda b: b"\1" + b[1:], lambda b: b + b"\0"]
)
def test_damaged_weights_are_refused(store: EditStore, damage) -> None:
    store.save(record("mud"), DELTA)
    file = store.folder / "mud" / "delta.safetensors"
    file.write_bytes(damage(DELTA))
    with pytest.raises(FossilError, match=r"delta\.safetensors is truncated or was changed"):
        store.delta("mud")
    file.unlink()
    with pytest.raises(FossilError, match=r"delta\.safetensors failed: No such file"):
        store.delta("mud")


HOSTILE = [
    {"format_version": 0},
    {"format_version": "1"},
    {"name": "../other"},
    {"name": 3},
    {"parent": "../../etc"},
    {"parent": "a/b"},
    {"parent": ""},
    {"parent": "/a\0b"},
    {"model": ".."},
    {"parent_hash": ""},
    {"result_hash": None},
    {"strength": float("inf")},
    {"strength": 1e9},
    {"score": -1},
    {"state": "gone"},
    {"params": []},
    {"judged": json.loads("[" * 100 + "]" * 100)},
    {"judged": {"a": json.loads("[" * 100 + "]" * 100)}},
    {"versions": {"torch": 2}},
    {"surprise": True},
]


@pytest.mark.parametrize("values", HOSTILE, ids=lambda v: str(v)[:40])
def test_hostile_records_are_refused_and_listed(store: EditStore, values) -> None:
    store.save(record("mud"), DELTA)
    change(store, "mud", **values)
    for use in (store.read, store.delta, store.lineage, store.update):
        with pytest.raises(FossilError, match=r"edit\.json"):
            use("mud")
    assert store.names() == ["mud"]
    assert store.children("blank") == []
    (entry,) = [e for e in history(store, {}) if e.is_edit]
    assert "edit.json" in entry.problem


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\0", "[" * 90000, "\xff"])
def test_what_is_no_record_is_refused(store: EditStore, text: str) -> None:
    store.save(record("mud"), DELTA)
    (store.folder / "mud" / "edit.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FossilError, match=r"edit\.json"):
        store.read("mud")


def test_a_newer_record_and_a_renamed_folder_are_told(store: EditStore) -> None:
    store.save(record("mud"), DELTA)
    (store.folder / "mud").rename(store.folder / "copy")
    with pytest.raises(FossilError, match="another edit; expected copy; found mud"):
        store.read("copy")
    change(store, "copy", format_version=2, surprise=1)
    with pytest.raises(FossilError, match=r"newer version.*found format 2"):
        store.read("copy")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(sorted(EditRecord.model_fields)), JSON)
def test_any_value_is_read_or_refused(store: EditStore, key: str, value: object) -> None:
    with contextlib.suppress(FossilError):
        store.save(record("mud"), DELTA)
    file = store.folder / "mud" / "edit.json"
    good = file.read_bytes()
    change(store, "mud", **{key: value})
    with contextlib.suppress(FossilError):
        store.lineage("mud")
    assert len(history(store, {"blank": "0" * 64})) >= 2
    file.write_bytes(good)


def chain(store: EditStore, names: str, parent: str = "blank") -> None:
    for name in names:
        store.save(record(name, parent), DELTA)
        parent = name


def test_parents_are_followed_to_the_root(store: EditStore) -> None:
    chain(store, "abc")
    chain(store, "d", "a")
    assert [r.name for r in store.lineage("c")] == ["a", "b", "c"]
    assert store.children("a") == ["b", "d"]
    assert set(store.descendants("a")) == {"b", "c", "d"}
    assert store.descendants("c") == []


def test_circles_end(store: EditStore) -> None:
    chain(store, "abc")
    change(store, "a", parent="c")
    chain(store, "z")
    change(store, "z", parent="z")
    for name in "abcz":
        with pytest.raises(FossilError, match=rf"parents of the edit '{name}' never end"):
            store.lineage(name)
    assert set(store.descendants("a")) == {"b", "c"}
    entries = history(store, {})
    assert sorted(e.name for e in entries) == ["a", "b", "c", "z"]
    assert all("No model leads to it" in e.problem for e in entries)


def test_the_history_is_a_tree_with_figures_and_problems(store: EditStore) -> None:
    chain(store, "ab")
    judged = {"before": {"iou": 0.5}, "after": {"iou": {"mean": 0.6}}, "strength": 0.5}
    store.update("a", created="2026-01-01", judged=judged)
    store.save(record("early", created="2025-01-01"), DELTA)
    store.save(record("lost", "gone"), DELTA)
    store.update("b", parent_hash="1" * 64)
    entries = history(store, {"blank": "0" * 64, "other": "2"})
    assert [(e.name, e.depth, e.is_edit) for e in entries] == [
        ("blank", 0, False), ("early", 1, True), ("a", 1, True), ("b", 2, True),
        ("gone", 0, False), ("lost", 1, True), ("other", 0, False),
    ]  # fmt: skip
    told = {e.name: e for e in entries}
    assert told["a"].figures == {"iou": (0.5, 0.6)}
    assert (told["a"].strength, told["a"].judged_at) == (1.0, 0.5)
    assert not any(told[name].problem for name in ("blank", "a", "b", "early"))
    assert "not there any more" in told["gone"].problem
    assert "'gone' it was made from is not there" in told["lost"].problem
    again = {e.name: e for e in history(store, {"blank": "9" * 64})}
    assert "made from another 'blank'" in again["a"].problem


def test_a_model_and_an_edit_of_one_name_do_not_loop(store: EditStore) -> None:
    chain(store, "a")
    change(store, "a", parent="a")
    assert [e.name for e in history(store, {"a": "0" * 64})] == ["a", "a"]


def test_read_only_projects_refuse_changes(store: EditStore) -> None:
    store.save(record("mud"), DELTA)
    locked = EditStore(store.project, read_only=True)
    assert locked.delta("mud") == DELTA
    for change_it in (
        lambda: locked.save(record("new"), DELTA),
        lambda: locked.update("mud", state="kept"),
    ):
        with pytest.raises(FossilError, match=r"for reading only.*Copy the project"):
            change_it()
