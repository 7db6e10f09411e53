"""The same work on many items: what comes out, in which order it is asked for, how it ends."""

import os
import signal
import sys
import threading
import time
from concurrent.futures import Future
from importlib import import_module
from itertools import chain, repeat
from types import SimpleNamespace

import psutil
import pytest

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.jobs import Outcome, Spread, cluster, run_in_process, spread
from napari_fossiledit.jobs.process import THREAD_LIMITS
from napari_fossiledit.progress import Job

# The function of this name hides the module.
spreading = import_module("napari_fossiledit.jobs.spread")
HERE = Spread()
DEADLY = 77
#: What cannot be read.
GONE = 1000


def squares(base):
    """Make what adds `base` to the square of an item, and fails at some."""

    def handle(item):
        if item == 3:
            raise FossilError("slice 3 is odd", advice="Choose another.")
        if item == 5:
            raise ValueError("five")
        if item == DEADLY:
            time.sleep(0.2)  # results that are ready arrive first
            os.kill(os.getpid(), signal.SIGKILL)
        return base + item * item

    return handle


_over = threading.Event()


def waiting(_):
    """Make what handles an item until `_over` is set, or for a minute; 0 at once."""
    return lambda item: bool(item) and _over.wait(60)


@pytest.fixture
def over():
    """What ends whatever `waiting` is at in this process."""
    _over.clear()
    yield _over
    _over.set()


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
    meet = threading.Barrier(2, timeout=60)
    found = spread(lambda: lambda _: meet.wait() in (0, 1), (), range(2), how=HERE)
    assert [o.value for o in found] == [True, True]


def test_cancel_lets_go_of_what_runs(over):
    begun, ended = threading.Event(), []

    def handle(_):
        begun.set()
        ended.append(over.wait(60))

    with pytest.raises(CancelledError, match="The job was cancelled"):
        list(spread(lambda: handle, (), [1, 2, 3], how=HERE, job=Job(cancelled=begun.is_set)))
    assert ended == []


def test_who_goes_on_at_any_moment_gets_all():
    paused = chain([True, False, False, True, True], repeat(False))
    found = spread(squares, (0,), [1, 2, 3], how=HERE, job=Job(paused=lambda: next(paused)))
    assert sorted(o.item for o in found) == [1, 2, 3]


def test_nothing_is_nothing():
    assert list(spread(squares, (0,), [], how=HERE)) == []
    assert Outcome(1, None).result() is None


class Mortal:
    """A worker with two places that ends, with all that it has, at the deadly item."""

    def __init__(self):
        self.here, self.had = {}, []

    def places(self):
        self.had += [sorted(self.here.values())] if self.here else []
        for future in self.here:
            future.set_result(DEADLY in self.here.values())
        return 2

    def submit(self, item):
        self.here[done := Future()] = item
        return done

    def fetch(self, done):
        item = self.here.pop(done)
        if done.result():
            raise spreading.WorkerEndedError("It ended")
        return Outcome(item, item, FossilError("No such photograph") if item == GONE else None)


def test_only_the_item_that_ends_its_workers_is_marked(monkeypatch):
    monkeypatch.setattr(spreading, "POLL_S", 0.001)
    crew = Mortal()
    found = list(spreading._handed_out(crew, iter([1, 2, 3, DEADLY, 4, 5, 6]), Job()))
    assert sorted(o.item for o in found if o.error is None) == [1, 2, 3, 4, 5, 6]
    assert [o.item for o in found if o.error is not None] == [DEADLY]
    assert [had for had in crew.had if DEADLY in had] == [[3, DEADLY]] * 2 + [[DEADLY]] * 3


def test_where_every_item_ends_its_worker_none_is_blamed(monkeypatch):
    monkeypatch.setattr(spreading, "POLL_S", 0.001)
    crew, found, items = Mortal(), [], chain([GONE], repeat(DEADLY, 20))
    with pytest.raises(FossilError, match="Each process ended, whatever it was given"):
        found.extend(spreading._blamed(spreading._handed_out(crew, items, Job())))
    assert len(crew.had) < 20
    assert [o.item for o in found] == [GONE]


def test_processes_that_end_at_once_are_not_started_for_ever():
    local = cluster._LocalWorkers.__new__(cluster._LocalWorkers)
    local._cluster = SimpleNamespace(scheduler=SimpleNamespace(workers={"one": "at work"}))
    local._command, local._environment = [sys.executable, "-S", "-c", "raise SystemExit(7)"], None
    local.in_vain = 0
    local._processes = [local._start()]

    def start_anew():
        for _ in range(4):
            local._processes[0].wait()
            local.keep()

    start_anew()
    local._cluster.scheduler.workers.clear()
    with pytest.raises(FossilError, match=r"cannot be started.*exit code 7 at once"):
        start_anew()


def test_a_scheduler_that_lost_its_workers_is_waited_for_in_words():
    crew, told = cluster.Workers.__new__(cluster.Workers), []
    crew._job, crew._local, crew._count = Job(lambda p: told.append(p.message)), None, 0
    crew._address = "tcp://there:8786"
    for threads, places in (({}, 1), ({"one": 2}, 3), ({}, 1), ({}, 1)):
        crew._asked = Future()
        crew._asked.set_result(threads)
        assert crew.places() == places
    assert told == ["Waiting for a worker of tcp://there:8786"]


def where(base):
    """Make what tells also which process handled an item, and in how many threads."""
    handle = squares(base)
    return lambda item: (handle(item), os.getpid(), [os.environ[n] for n in THREAD_LIMITS])


def test_processes_do_the_same_and_one_that_dies_takes_none_along(monkeypatch):
    monkeypatch.setattr(spreading, "_SUSPECT", 1)
    monkeypatch.setattr(spreading, "ENDED_ALONE", 1)
    for name, threads in zip(THREAD_LIMITS, ("1,2", "4"), strict=True):
        monkeypatch.setenv(name, threads)
    items = [0, 1, 2, DEADLY, 3, 4, 5, 6]
    found = {o.item: o for o in spread(where, (100,), items, how=Spread(2))}
    assert sorted(found) == sorted(items)
    done = {z: o.value for z, o in found.items() if o.error is None}
    assert {z: value for z, (value, _, _) in done.items()} == {
        0: 100, 1: 101, 2: 104, 4: 116, 6: 136,
    }  # fmt: skip
    assert os.getpid() not in {pid for _, pid, _ in done.values()}
    assert [limits for _, _, limits in done.values()] == [["1", "1"]] * len(done)
    assert found[3].error.advice == "Choose another."
    assert "ValueError: five (test_spread.py:" in str(found[5].error)
    assert "most likely the memory ran out" in str(found[DEADLY].error).lower()


def cancelled_in_a_daemon(*, job):
    """Cancel while a worker is busy; return what was done, how long it took, who and what is left.

    The last is what dask could not tidy up.
    """
    from distributed import diskutils

    asked, logged = [], []
    diskutils.logger.error = lambda *said: logged.append(said)
    how = Spread(1)
    found = spread(waiting, (0,), [0, 60, 60], how=how, job=Job(cancelled=lambda: bool(asked)))
    first = next(found).item
    workers = psutil.Process().children()
    asked.append(time.monotonic())
    with pytest.raises(CancelledError):
        next(found)
    return first, time.monotonic() - asked[0], [w.is_running() for w in workers], logged


def test_a_job_of_the_window_has_workers_and_cancel_ends_them():
    first, seconds, left, logged = run_in_process(cancelled_in_a_daemon)
    assert (first, left, logged) == (0, [False], [])
    # On a busy machine, too.
    assert seconds < 30


def refuse(_):
    raise FossilError("No model at models/a", advice="Train one.")


UNPACKED = []


def unpack():
    UNPACKED.append(threading.get_ident())
    return Packed()


class Packed:
    """An item that tells in which thread it was unpacked."""

    def __reduce__(self):
        return unpack, ()


def unpacked():
    return lambda _: ["here" if n == threading.get_ident() else "elsewhere" for n in UNPACKED]


def test_a_scheduler_that_is_unreachable_or_lost_is_named(monkeypatch, over):
    monkeypatch.setattr(cluster, "_ANSWER_S", 0.3)
    with pytest.raises(FossilError, match=r"scheduler tcp://127.0.0.1:1 does not answer.*dask sch"):
        list(spread(squares, (0,), [1], how=Spread(scheduler="tcp://127.0.0.1:1")))
    from distributed import LocalCluster

    monkeypatch.setattr(cluster, "_ANSWER_S", 30)
    with LocalCluster(
        n_workers=1,
        processes=False,
        protocol="tcp",
        dashboard_address="127.0.0.1:0",
        silence_logs=99,
    ) as others:
        how = Spread(scheduler=others.scheduler_address)
        with pytest.raises(FossilError, match=r"^On the worker .*: No model at models/a"):
            list(spread(refuse, (0,), range(9), how=how))
        # The scheduler, a loop in a thread here, imports nothing to learn what an item is.
        (found,) = spread(unpacked, (), [Packed()], how=how)
        assert found.value == ["here"]
        found = spread(waiting, (0,), [0, 1, 1, 1], how=how)
        assert next(found).item == 0
        threading.Thread(target=others.close).start()
        with pytest.raises(FossilError, match=f"{how.scheduler} is lost.*finished before is kept"):
            list(found)
        over.set()
