"""A process that stays: state, errors, cancel, death, and calls from several threads."""

import os
import re
import signal
import threading
import time

import pytest

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.log import log_file
from napari_fossiledit.progress import Job

_kept: list[int] = []


def keep(value, *, job):
    """Remember a value in the child, as a workflow keeps a model."""
    _kept.append(value)
    job.report(1, 1, "Keeping")
    return os.getpid(), tuple(_kept)


def refuse(*, job):
    raise FossilError("slice 3 is odd", expected="even", found="odd", advice="Choose another.")


def fail(*, job):
    raise RuntimeError("out of memory")


def die(*, job):
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_cancel(*, job):
    job.report(0, 1)
    while True:
        job.check("Waiting")
        time.sleep(0.01)


@pytest.fixture
def warm():
    made = WarmProcess(threads=1)
    yield made
    made.close()


def test_the_next_call_finds_what_the_one_before_kept(warm):
    reports = []
    first, _ = warm.call(keep, 1, job=Job(reports.append))
    second, kept = warm.call(keep, 2)
    assert first == second != os.getpid()
    assert kept == (1, 2)
    assert [r.message for r in reports] == ["Keeping"]
    assert not _kept


def test_errors_keep_their_fields_and_the_process(warm):
    first, _ = warm.call(keep, 1)
    with pytest.raises(FossilError) as caught:
        warm.call(refuse)
    assert (caught.value.expected, caught.value.advice) == ("even", "Choose another.")
    with pytest.raises(FossilError, match="memory ran out"):
        warm.call(fail)
    assert warm.call(keep, 2) == (first, (1, 2))


def test_after_a_death_the_next_call_starts_anew(warm):
    first, _ = warm.call(keep, 1)
    with pytest.raises(FossilError, match="found exit code -9"):
        warm.call(die)
    assert not warm.is_alive
    second, kept = warm.call(keep, 2)
    assert second != first
    assert kept == (2,)


def test_a_child_that_dies_unnoticed_is_told(warm, monkeypatch):
    warm.call(keep, 1)
    process = warm._child.process
    process.kill()
    process.join()
    monkeypatch.setattr(process, "is_alive", lambda: True)
    with pytest.raises(FossilError, match="found exit code -9"):
        warm.call(keep, 2)
    assert warm.call(keep, 3)[1] == (3,)


def test_cancel_stops_the_call_and_not_the_process(warm):
    first, _ = warm.call(keep, 1)
    stop = threading.Event()
    with pytest.raises(CancelledError, match="Waiting was cancelled"):
        warm.call(wait_for_cancel, job=Job(lambda _: stop.set(), stop.is_set))
    assert warm.call(keep, 2) == (first, (1, 2))


def test_a_call_that_waits_for_its_turn_can_be_cancelled(warm):
    running, stop = threading.Event(), threading.Event()

    def block() -> None:
        with pytest.raises(CancelledError):
            warm.call(wait_for_cancel, job=Job(lambda _: running.set(), stop.is_set))

    other = threading.Thread(target=block)
    other.start()
    assert running.wait(30)
    with pytest.raises(CancelledError):
        warm.call(keep, 1, job=Job(cancelled=lambda: True))
    stop.set()
    other.join(30)
    assert warm.call(keep, 2)[1] == (2,)


def test_a_listener_that_fails_costs_the_process_but_no_later_answer(warm):
    def refuse_report(_):
        raise ValueError("the window is gone")

    first, _ = warm.call(keep, 1)
    with pytest.raises(ValueError, match="window is gone"):
        warm.call(wait_for_cancel, job=Job(refuse_report))
    second, kept = warm.call(keep, 2)
    assert second != first
    assert kept == (2,)


def test_closing_ends_what_runs(warm):
    running = threading.Event()
    ended = []

    def block() -> None:
        try:
            warm.call(wait_for_cancel, job=Job(lambda _: running.set()))
        except CancelledError as error:
            ended.append(error)

    other = threading.Thread(target=block)
    other.start()
    assert running.wait(30)
    warm.close()
    other.join(30)
    assert len(ended) == 1
    assert not warm.is_alive


def test_what_cannot_be_pickled_does_not_block_the_line(warm):
    with pytest.raises((AttributeError, TypeError)):
        warm.call(keep, threading.Lock())
    assert warm.call(keep, 2)[1] == (2,)


def test_an_unexpected_error_is_in_the_log_that_the_message_names(warm):
    with pytest.raises(FossilError, match=re.escape(str(log_file()))):
        warm.call(fail)
    assert "in fail" in log_file().read_text()
