"""Writes that leave the old content alone, names that stay inside, errors that explain."""

import errno
import os
import pickle

import pytest

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.files import explained, inside, read_json, write_json, write_whole
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
