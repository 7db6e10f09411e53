"""Workflows in a process of their own: results, errors, cancel, a killed child."""

import os
import signal
import threading
import time

import pytest

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.jobs import Tickets, run_in_process
from napari_fossiledit.progress import Clock, check


def count(total, *, on_progress, cancel):
    clock = Clock(total, on_progress, "Counting")
    for done in range(1, total + 1):
        check(cancel, "Counting")
        clock.tick(done, half=done / 2)
    return total


def wait_for_cancel(*, on_progress, cancel):
    while True:
        check(cancel, "Waiting")
        time.sleep(0.01)


def refuse(*, on_progress, cancel):
    raise FossilError("slice 3 is odd", expected="even", found="odd", advice="Choose another.")


def fail(*, on_progress, cancel):
    raise RuntimeError("CUDA out of memory: tried to allocate 2 GB")


def die(*, on_progress, cancel):
    os.kill(os.getpid(), signal.SIGKILL)


def test_result_and_progress_arrive_in_order():
    reports = []
    assert run_in_process(count, 3, on_progress=reports.append) == 3
    assert [(r.done, r.total, r.values["half"]) for r in reports] == [
        (1, 3, 0.5),
        (2, 3, 1.0),
        (3, 3, 1.5),
    ]


def test_cancel_reaches_the_child():
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(CancelledError, match="Waiting was cancelled"):
        run_in_process(wait_for_cancel, cancel=stop.is_set)


def test_an_error_keeps_its_fields():
    with pytest.raises(FossilError) as caught:
        run_in_process(refuse)
    error = caught.value
    assert (error.expected, error.found, error.advice) == ("even", "odd", "Choose another.")


def test_out_of_memory_is_told_as_such():
    with pytest.raises(FossilError, match="memory ran out"):
        run_in_process(fail)


def test_a_killed_child_becomes_a_message():
    with pytest.raises(FossilError, match=r"expected exit code 0; found exit code -9"):
        run_in_process(die)


def test_only_the_last_ticket_is_current():
    tickets = Tickets()
    drawn = [tickets.draw() for _ in range(3)]
    assert [tickets.is_current(t) for t in drawn] == [False, False, True]
