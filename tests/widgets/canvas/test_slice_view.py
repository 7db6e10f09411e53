"""The user's instances as an array: what is written becomes instances, what is read shows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.labels import paint_masks
from napari_fossiledit.project import ANNOTATIONS, Ledger
from napari_fossiledit.widgets.canvas.flat import FlatArray
from napari_fossiledit.widgets.canvas.slice_view import SliceView

SHAPE = (3, 37, 53)


def box(y0: int, x0: int, y1: int, x1: int) -> Mask:
    return Mask.from_crop(np.ones((y1 - y0, x1 - x0), bool), (y0, x0), SHAPE[1:])


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        body = Instance(1, "a", box(2, 2, 20, 20), id=-1)
        cavity = Instance(1, "a", box(8, 8, 12, 12), part=Part.CAVITY, parent=-1)
        opened.edit(1, put=[body, cavity, Instance(1, "a", box(15, 15, 30, 30))])
        yield opened


@pytest.fixture
def view(ledger: Ledger) -> SliceView:
    return SliceView(ledger, SHAPE, lambda: "painted")


def shown(view: SliceView, z: int) -> np.ndarray:
    return np.asarray(view[z, :, :])


def test_shape_and_type_are_known_without_reading(view, monkeypatch):
    monkeypatch.setattr(Ledger, "instances", None)
    assert (view.shape, view.ndim, view.size) == (SHAPE, 3, np.prod(SHAPE))
    flat = FlatArray(view, lambda: False)
    assert (flat[0].dtype, flat[0].shape, flat[np.int64(2)].ndim) == (np.uint32, SHAPE[1:], 2)


def test_every_index_reads_what_is_shown(view, ledger):
    whole = np.zeros(SHAPE, np.uint32)
    for n, mask in enumerate((box(2, 2, 20, 20), box(15, 15, 30, 30), box(8, 8, 12, 12))):
        whole[1][mask.to_array()] = (1, 3, 2)[n]
    points = tuple(np.random.default_rng(0).integers(0, SHAPE, (50, 3)).T)
    for key in (1, 0, (1,), (1, slice(3, 9), 4), slice(1, 3), (slice(1, 2), slice(4, 9)), points):
        np.testing.assert_array_equal(np.asarray(view[key]), whole[key])
    np.testing.assert_array_equal(np.asarray(view), whole)


def test_random_writing_keeps_what_is_shown_and_what_is_stored_the_same(view, ledger):
    random = np.random.default_rng(3)
    for n in range(60):
        z = int(random.integers(3))
        # It may have changed until it is read.
        view.make_ready((z + n) % 3)
        ids = [i.id for i in view.instances(z)]
        value = int(random.choice([0, 5_000_000, view.reserve(), *ids]))
        (y, x), (height, width) = random.integers(0, (34, 50)), random.integers(1, 16, 2)
        if n % 3:
            view[z : z + 1, y : y + height, x : x + width] = value
        else:
            view[np.full(9, z), random.integers(0, 37, 9), random.integers(0, 53, 9)] = value
        if n % 7 == 0 and ids:
            view.remove(z, ids[0])
        elif n % 5 == 0:
            view.save()
            ledger.undo()
            view.compare()
        elif n % 4:
            given = view.save()
            assert given.keys() <= {5_000_000, *view._reserved, *ids}
            order = view.instances(z)
            assert {i.id: i for i in order} == {
                i.id: i for i in ledger.instances(ANNOTATIONS, slices=[z])
            }
            painted = paint_masks([i.mask for i in order], [i.id for i in order], SHAPE[1:])
            np.testing.assert_array_equal(shown(view, z), painted)
    assert 5_000_000 not in [i.id for i in ledger.instances(ANNOTATIONS)]
    assert {i.class_name for i in ledger.instances(ANNOTATIONS, slices=[0, 2])} == {"painted"}


def test_a_slice_that_was_made_ready_is_not_painted_again(view, ledger, monkeypatch):
    view.make_ready(1)
    with monkeypatch.context() as patched:
        patched.setattr("napari_fossiledit.widgets.canvas.slice_view._painted", None)
        assert set(np.unique(shown(view, 1))) == {0, 1, 2, 3}
    assert not shown(view, 2).any()
    view.make_ready(1)
    ledger.edit(1, put=[Instance(1, "a", box(31, 1, 36, 9))])
    assert shown(view, 1)[33, 4] == 4


def test_several_slices_written_at_once_are_a_stroke_each(view, ledger):
    view[0:3, 32:35, 40:44] = np.full((3, 3, 4), view.reserve())
    assert sorted(view.save()) == [4]
    found = ledger.instances(ANNOTATIONS, slices=[0, 2])
    assert [(i.slice, i.mask.area) for i in found] == [(0, 12), (2, 12)]
    assert len({i.id for i in ledger.instances(ANNOTATIONS)}) == 6
    assert [a.what for a in ledger.history(3)] == ["paint"] * 3


def test_only_the_part_that_shows_something_else_is_painted_again(view, ledger):
    view[1, 25:28, 35:38] = 3
    view.save()
    assert view.take_repainted() is None
    view[1, 16:18, 16:18] = 0
    view.save()
    assert view.take_repainted() == (16, 16, 18, 18)
    ledger.undo()
    view.compare()
    assert view.take_repainted() == (16, 16, 18, 18)
    view.compare()
    assert view.take_repainted() is None


def test_of_several_strokes_those_that_cannot_be_saved_stay_to_be_seen(view, ledger, monkeypatch):
    view[1, 25:28, 35:38] = 5_000_000
    shown(view, 0)
    view[1, 25:28, 38:41] = 5_000_000
    shown(view, 0)
    view[1, 30:33, 1:5] = 3
    revise, done = Ledger.revise, []

    def once(self, *args, **more):
        if done:
            raise FossilError("disk full")
        done.append(args)
        return revise(self, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "revise", once)
        with pytest.raises(FossilError):
            view.save()
    assert len(np.unique(shown(view, 1)[25:28, 35:41])) == 1
    assert (shown(view, 1)[30:33, 1:5] == 3).all()
    view.save()
    (new,) = ledger.instances(ANNOTATIONS, class_name="painted")
    assert new.mask.area == 18
    assert (shown(view, 1) == new.id).sum() == 18


def test_two_windows_on_one_project_lose_no_stroke(view, ledger):
    with Ledger(ledger.path) as other_ledger:
        other = SliceView(other_ledger, SHAPE, lambda: "painted")
        old, more, fresh = shown(view, 1)[3, 3], shown(other, 1)[29, 29], other.reserve()
        # Both paint before either has saved; the second one over a part of what the first erased.
        view[1, 2:6, 2:6] = 0
        view[1, 30:34, 20:30] = more
        other[1, 4:8, 4:8] = fresh
        view.save()
        other.save()
        for each in (view, other):
            each.compare()
        assert np.array_equal(shown(view, 1), shown(other, 1))
        now = shown(view, 1)
        assert (now[2:4, 2:6] == 0).all()
        assert (now[4:8, 4:8] == fresh).all()
        assert (now[30:34, 20:30] == more).all()
        assert now[10, 3] == old
        # Undone strictly backwards, in whichever window.
        ledger.undo()
        other.compare()
        assert (shown(other, 1)[4:6, 4:6] == 0).all()
        assert shown(other, 1)[7, 7] == old
