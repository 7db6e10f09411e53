"""Workflows in a process of their own: results, errors, cancel, a killed child."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.jobs import Tickets, run_in_process
from napari_fossiledit.progress import Job


def count(total, *, job):
    clock = job.clock(total, "Counting")
    for done in range(1, total + 1):
        job.check("Counting")
        clock.tick(done, half=done / 2)
    return total


def wait_for_cancel(*, job):
    while True:
        job.check("Waiting")
        time.sleep(0.01)


def refuse(*, job):
    raise FossilError("slice 3 is odd", expected="even", found="odd", advice="Choose another.")


def fail(*, job):
    raise RuntimeError("CUDA out of memory: tried to allocate 2 GB")


def die(*, job):
    os.kill(os.getpid(), signal.SIGKILL)


def report_and_wait(file, *, job):
    job.report(0, 1)
    while not job.cancelled():
        time.sleep(0.01)
    Path(file).write_text("saved")


def test_result_and_progress_arrive_in_order():
    reports = []
    assert run_in_process(count, 3, job=Job(reports.append)) == 3
    assert [(r.done, r.total, r.values["half"]) for r in reports] == [
        (1, 3, 0.5),
        (2, 3, 1.0),
        (3, 3, 1.5),
    ]


def test_cancel_reaches_the_child():
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(CancelledError, match="Waiting was cancelled"):
        run_in_process(wait_for_cancel, job=Job(cancelled=stop.is_set))


def test_a_child_whose_listener_failed_is_asked_to_stop(tmp_path):
    def refuse_report(_):
        raise ValueError("the window is gone")

    with pytest.raises(ValueError, match="window is gone"):
        run_in_process(report_and_wait, tmp_path / "state", job=Job(refuse_report))
    assert (tmp_path / "state").read_text() == "saved"


def test_an_error_keeps_its_fields():
    with pytest.raises(FossilError) as caught:
        run_in_process(refuse)
    error = caught.value
    assert (error.expected, error.found, error.advice) == ("even", "odd", "Choose another.")


def test_out_of_memory_is_told_as_such():
    with pytest.raises(FossilError, match="memory ran out"):
        run_in_process(fail)


def load_for_long(*, job):
    time.sleep(120)


def test_a_child_that_only_loads_is_ended_at_once():
    began = time.monotonic()
    with pytest.raises(CancelledError, match="The job was ended"):
        run_in_process(load_for_long, job=Job(cancelled=lambda: True), loads_first=True)
    assert time.monotonic() - began < 60


def test_a_killed_child_becomes_a_message():
    with pytest.raises(FossilError, match=r"expected exit code 0; found exit code -9"):
        run_in_process(die)


def test_only_the_last_ticket_is_current():
    tickets = Tickets()
    drawn = [tickets.draw() for _ in range(3)]
    assert [tickets.is_current(t) for t in drawn] == [False, False, True]


def test_a_script_without_a_guard_is_not_run_again_by_the_child(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from napari_fossiledit.jobs import run_in_process\n"
        f"from {Path(__file__).stem} import count\n"
        "print('started')\n"
        "print(run_in_process(count, 3), __file__ is not None, __spec__)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.splitlines() == ["started", "3 True None"], done.stderr
