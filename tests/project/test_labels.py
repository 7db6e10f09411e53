"""Corrected labels: painting, bulk changes, and taking them back even after a crash."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.project import LABELS, LabelVolume, Ledger
from napari_fossiledit.project.journal import KEPT_CHANGES
from napari_fossiledit.project.labels import labelled_instances

SHAPE = (3, 600, 700)


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


@pytest.fixture
def labels(tmp_path: Path, ledger: Ledger) -> LabelVolume:
    return LabelVolume(tmp_path / "labels.zarr", SHAPE, ledger.journal, read_only=False)


def square(value: int, y: int = 500, x: int = 500, size: int = 40) -> np.ndarray:
    image = np.zeros(SHAPE[1:], dtype=np.uint32)
    image[y : y + size, x : x + size] = value
    return image


def test_nothing_is_made_before_something_is_painted(labels: LabelVolume) -> None:
    assert not labels.read(0).any()
    assert labels.values(2) == []
    assert not labels.path.exists()


def test_the_array_is_what_napari_paints_into(labels: LabelVolume) -> None:
    array = labels.array
    assert (array.shape, array.chunks, array.dtype) == (SHAPE, (1, 512, 512), np.uint32)
    array[1, 10:20, 10:20] = 2**31
    again = zarr.open_array(labels.path, mode="r")
    assert again.metadata.dimension_names == ("z", "y", "x")
    assert again[1, 15, 15] == 2**31
    assert labels.values(1) == [2**31]


def test_a_bulk_change_is_taken_back_whole(labels: LabelVolume) -> None:
    labels.write(0, square(7))
    change = labels.begin("fill")
    labels.write(0, square(8, 480), change)
    labels.write(2, square(9), change)
    assert labels.undo_last() == [0, 2]
    assert (labels.read(0) == square(7)).all()
    assert not labels.read(2).any()
    assert labels.undo_last() == [0]
    assert not labels.read(0).any()
    assert labels.undo_last() == []


def test_what_was_painted_since_then_stays(labels: LabelVolume) -> None:
    labels.write(0, square(7))
    labels.array[0, 510, 510] = 99
    labels.undo_last()
    assert labels.read(0)[510, 510] == 99
    assert (labels.read(0) > 0).sum() == 1


def test_a_slice_written_twice_in_one_change(labels: LabelVolume) -> None:
    change = labels.begin("twice")
    labels.write(0, square(1), change)
    labels.write(0, square(2), change)
    labels.undo_last()
    assert not labels.read(0).any()


class Crash(BaseException):
    """The process ends here."""


def test_a_crash_before_the_voxels_change(labels: LabelVolume, monkeypatch) -> None:
    labels.write(0, square(7))

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(LabelVolume, "_put", crash)
        with pytest.raises(Crash):
            labels.write(0, square(8))
    assert (labels.read(0) == square(7)).all()
    labels.undo_last()
    assert (labels.read(0) == square(7)).all()


def test_a_crash_amid_the_voxels(labels: LabelVolume, monkeypatch) -> None:
    labels.write(0, square(7, 490, 490))
    put = LabelVolume._put

    def half(self, item, values) -> None:
        rows = values.shape[0] // 2
        mixed = np.concatenate([values[:rows], item.before[rows:]])
        put(self, item, mixed)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(LabelVolume, "_put", half)
        with pytest.raises(Crash):
            labels.write(0, square(8, 480, 480))
    labels.undo_last()
    assert (labels.read(0) == square(7, 490, 490)).all()


def test_a_crash_amid_taking_back(labels: LabelVolume, monkeypatch) -> None:
    change = labels.begin("fill")
    for z in range(3):
        labels.write(z, square(z + 1), change)
    with monkeypatch.context() as patch:
        calls = iter([LabelVolume._put])

        def once(self, item, values) -> None:
            next(calls, crash)(self, item, values)

        def crash(*_: object) -> None:
            raise Crash

        patch.setattr(LabelVolume, "_put", once)
        with pytest.raises(Crash):
            labels.undo_last()
    assert labels.undo_last() == [0, 1, 2]
    assert not any(labels.read(z).any() for z in range(3))


def test_a_full_disk_is_told(labels: LabelVolume, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    labels.ensure()
    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(FossilError, match=r"slice 1 of .*labels\.zarr.*free some space"):
        labels.write(1, square(1))


def test_only_the_last_changes_are_kept(labels: LabelVolume, ledger: Ledger) -> None:
    for n in range(KEPT_CHANGES + 5):
        labels.write(0, square(n + 1, size=3))
    taken_back = 0
    while labels.undo_last():
        taken_back += 1
    assert taken_back == KEPT_CHANGES


@pytest.mark.parametrize("z", [-1, 3])
def test_a_slice_outside_the_stack_is_refused(labels: LabelVolume, z: int) -> None:
    with pytest.raises(FossilError, match="expected 0 to 2"):
        labels.read(z)
    with pytest.raises(FossilError, match="expected 0 to 2"):
        labels.write(z, square(1))


def test_labels_of_another_shape_are_refused(labels: LabelVolume, ledger: Ledger) -> None:
    with pytest.raises(FossilError, match=r"expected \(600, 700\); found \(5, 5\)"):
        labels.write(0, np.zeros((5, 5), dtype=np.uint32))
    labels.ensure()
    other = LabelVolume(labels.path, (3, 5, 5), ledger.journal, read_only=False)
    with pytest.raises(FossilError, match="does not fit the stack"):
        other.read(0)


def test_a_damaged_array_is_named(labels: LabelVolume) -> None:
    labels.path.mkdir()
    (labels.path / "zarr.json").write_text("{")
    with pytest.raises(FossilError, match=r"labels\.zarr"):
        labels.read(0)


def test_instances_take_geometry_from_voxels_and_words_from_rows(
    labels: LabelVolume, ledger: Ledger
) -> None:
    shape = SHAPE[1:]
    blank = Mask.empty(shape)
    outer, inner = ledger.store(
        LABELS,
        0,
        [
            Instance(0, "shell", blank, texture="pitted", specimen=4, id=-1),
            Instance(0, "shell", blank, part=Part.CAVITY, parent=-1),
        ],
    )
    image = square(outer)
    image[510:520, 510:520] = inner
    image[:5, :5] = inner + 10
    labels.array[0] = image
    found = {i.id: i for i in labelled_instances(ledger, labels, 0, "archaeocyathid")}
    assert found[outer].mask == Mask.from_array(square(1) > 0)
    assert (found[outer].texture, found[outer].specimen) == ("pitted", 4)
    assert (found[inner].part, found[inner].parent, found[inner].mask.area) == (
        Part.CAVITY,
        outer,
        100,
    )
    assert found[inner + 10].class_name == "archaeocyathid"


def test_a_cavity_outlives_its_painted_over_body(labels: LabelVolume, ledger: Ledger) -> None:
    blank = Mask.empty(SHAPE[1:])
    _, inner = ledger.store(
        LABELS,
        0,
        [Instance(0, "a", blank, id=-1), Instance(0, "a", blank, part=Part.CAVITY, parent=-1)],
    )
    labels.array[0] = square(inner)
    (found,) = labelled_instances(ledger, labels, 0, "a")
    assert found.parent is None
