"""The same work on many items: what comes out, in which order it is asked for, how it ends."""

import threading
import time

import pytest

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.jobs import Outcome, Spread, spread
from napari_fossiledit.progress import Job

HERE = Spread()


def squares(base):
    """Make what adds `base` to the square of an item, and fails at some."""

    def handle(item):
        if item == 3:
            raise FossilError("slice 3 is odd", advice="Choose another.")
        if item == 5:
            raise ValueError("five")
        return base + item * item

    return handle


def waiting(_):
    return time.sleep


def test_every_item_has_an_outcome_of_its_own():
    found = {o.item: o for o in spread(squares, (100,), range(7), how=HERE)}
    assert {z: o.value for z, o in found.items() if o.error is None} == {
        0: 100, 1: 101, 2: 104, 4: 116, 6: 136,
    }  # fmt: skip
    with pytest.raises(FossilError, match=r"slice 3 is odd. Choose another."):
        found[3].result()
    assert "ValueError: five (test_spread.py:" in str(found[5].error)


def test_items_are_asked_for_as_places_become_free():
    asked = []

    def items():
        for z in range(9):
            asked.append(z)
            yield z

    ahead = [len(asked) - n for n, _ in enumerate(spread(squares, (0,), items(), how=HERE))]
    assert len(ahead) == 9
    assert max(ahead) == HERE.threads + 1


def test_threads_overlap():
    meet = threading.Barrier(2, timeout=5)
    found = spread(lambda: lambda _: meet.wait() in (0, 1), (), range(2), how=HERE)
    assert [o.value for o in found] == [True, True]


def test_cancel_lets_go_of_what_runs():
    began = time.monotonic()
    job = Job(cancelled=lambda: time.monotonic() - began > 0.2)
    with pytest.raises(CancelledError, match="The job was cancelled"):
        list(spread(waiting, (0,), [2, 2, 2], how=HERE, job=job))
    assert time.monotonic() - began < 1


def test_nothing_is_nothing():
    assert list(spread(squares, (0,), [], how=HERE)) == []
    assert Outcome(1, None).result() is None
