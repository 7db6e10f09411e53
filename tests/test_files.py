"""Writes that leave the old content alone, names that stay inside, errors that explain."""

import errno
import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.files import (
    appearing,
    explained,
    inside,
    is_alive,
    is_plain,
    made_plain,
    plain_name,
    read_json,
    require_empty,
    this_process,
    write_json,
    write_whole,
)
from napari_fossiledit.progress import Clock, Job


def test_json_survives_a_round_trip(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"mud": [75, 40, 33], "name": "é"})
    assert read_json(tmp_path / "a" / "b.json", "settings") == {"mud": [75, 40, 33], "name": "é"}


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    target = tmp_path / "project.json"
    write_whole(target, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FossilError, match="The disk is full") as caught:
        write_whole(target, b"new")
    assert str(target) in str(caught.value)
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["project.json"]


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_broken_json_names_the_file(tmp_path, data):
    path = tmp_path / "broken.json"
    path.write_bytes(data)
    with pytest.raises(FossilError, match=r"broken\.json cannot be read; expected a project"):
        read_json(path, "a project")


@pytest.mark.parametrize("name", ["", ".", "..", "../other", "/etc/passwd", "a/../../b"])
def test_names_cannot_leave_the_folder(tmp_path, name):
    with pytest.raises(FossilError, match="leads out of"):
        inside(tmp_path / "models", name)


def test_a_missing_file_is_explained(tmp_path):
    with (
        pytest.raises(FossilError, match=r"Reading .*none\.tif failed: No such file"),
        explained(tmp_path / "none.tif", "Reading"),
    ):
        (tmp_path / "none.tif").read_bytes()


def test_errors_travel_between_processes():
    error = CancelledError("stopped", expected=3, found="two", advice="Go on.")
    again = pickle.loads(pickle.dumps(error))  # our own bytes
    assert type(again) is CancelledError
    assert str(again) == str(error) == "stopped; expected 3; found two. Go on."


def test_tracking_reports_every_item_and_stops_when_asked():
    reports = []
    assert list(Job(reports.append).tracked("abc", 3, "Reading")) == ["a", "b", "c"]
    assert [r.done for r in reports] == [0, 1, 2, 3]
    with pytest.raises(CancelledError, match="Reading was cancelled"):
        list(Job(cancelled=lambda: True).tracked("abc", 3, "Reading"))


def test_the_estimate_shrinks_to_zero():
    reports = []
    clock = Clock(2, reports.append)
    clock.tick(0)
    clock.tick(2)
    assert reports[0].eta_s is None
    assert reports[1].eta_s == 0


DEAD = f"{this_process().split('-', maxsplit=1)[0]}-{2**22 + 1}-1700000000"  # beyond any Linux pid


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path):
    gone = [tmp_path / f".out.json.{DEAD}.abc.part", tmp_path / f".mud.{DEAD}.abc.part"]
    gone[0].write_bytes(b"torso")
    (gone[1] / "inner").mkdir(parents=True)
    elsewhere = "00000000" + DEAD[8:]  # a process of another host, of which nothing is known
    kept = [".mine.part", f".x.{this_process()}.abc.part", f".x.{elsewhere}.abc.part"]
    for name in kept:
        (tmp_path / name).write_bytes(b"")
    write_whole(tmp_path / "other.json", b"{}")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*kept, "other.json"])


def test_a_number_that_was_given_again_is_another_process():
    host, pid, start = this_process().split("-")
    assert is_alive(this_process())
    assert not is_alive(f"{host}-{pid}-{int(start) - 100_000}")


def test_what_a_kill_leaves_is_removed_at_the_next_writing(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from napari_fossiledit.files import *\n"
        "with replacing(Path(sys.argv[1])) as out: out.write(b'half'); out.flush();"
        " os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out.json")], check=False)
    assert [p.name.startswith(".out.json.") for p in tmp_path.iterdir()] == [True]
    require_empty(tmp_path, "a model")
    assert not list(tmp_path.iterdir())


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def write(folder, meanwhile=None):
        with appearing(folder) as hidden:
            (hidden / "a").write_bytes(b"")
            assert not folder.exists()
            if meanwhile is not None:
                write_whole(folder / meanwhile, b"")

    with pytest.raises(FossilError, match="out failed"):
        write(tmp_path / "out", "first")
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "first"]
    with pytest.raises(FossilError, match=r"Writing .*full failed: No space left"):  # noqa: SIM117
        with appearing(tmp_path / "full"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    write(tmp_path / "new")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "first", "new", "out"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".x",
        "x.",
        " x",
        "=x",
        "-x",
        "@x",
        "+x",
        "a/b",
        "a\\b",
        "a:b",
        "a\nb",
        "a\x00b",
        "x" * 65,
        "con",
        "NUL.1",
    ],
)
def test_names_that_no_file_can_have_everywhere_are_refused(name):
    with pytest.raises(FossilError, match="The name of a model cannot be used; expected a name of"):
        plain_name(name, "a model")
    assert plain_name("Archaeocyath é 2.1", "a model") == "Archaeocyath é 2.1"


@given(st.lists(st.text(max_size=70), unique=True, max_size=5))
def test_foreign_names_become_plain_and_stay_different(names: list[str]) -> None:
    plain = made_plain(names)
    assert plain.keys() == set(names)
    assert len(set(plain.values())) == len(names)
    assert all(map(is_plain, plain.values()))
    assert all(plain[name] == name for name in names if is_plain(name))


def test_file_names_that_are_no_text_survive_in_json(tmp_path):
    name = os.fsdecode(b"bad\xff.png")
    write_json(tmp_path / "a.json", {"name": name, "class": "é"})
    assert read_json(tmp_path / "a.json", "names") == {"name": name, "class": "é"}
