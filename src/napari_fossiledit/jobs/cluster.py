"""Work in other processes, by dask: started here for one run, or those of a scheduler.

Workers of this machine are started as programs of their own and not by `multiprocessing`: a job of
the window runs in a daemonic process, which may have no children, and a script without a guard must
not run again in each. They watch a pipe that this process holds and so end when it does, however
that happens.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

from napari_fossiledit import __version__
from napari_fossiledit.errors import FossilError
from napari_fossiledit.jobs.process import THREAD_LIMITS
from napari_fossiledit.jobs.spread import (
    ENDED_ALONE,
    POLL_S,
    Outcome,
    Spread,
    WorkerEndedError,
    outcome_of,
)
from napari_fossiledit.log import start_logging, unexpected
from napari_fossiledit.progress import Job

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")
R = TypeVar("R")

#: A scheduler that does not answer for so long is not there ...
_ANSWER_S = 10.0
#: ... or is lost: a busy one is silent for a while.
_SILENT_S = 60.0
#: How often a scheduler is asked for its workers.
_ASK_S = 1.0
#: A process of this machine that cannot be reached for so long has ended.
_FETCH_S = 5.0
#: What is running may end in this time, before it is ended.
_CLOSE_S = 0.3
_SERVE = "from napari_fossiledit.jobs.cluster import serve; serve()"


@dataclass(frozen=True)
class _Run(Generic[T, R]):
    """What a worker must know to handle the items of a run.

    Attributes
    ----------
    scheduler
        Empty where the workers are of this machine.
    versions
        Of what must be the same in a worker.
    """

    make: Callable[..., Callable[[T], R]]
    args: tuple[Any, ...]
    scheduler: str
    token: str
    versions: str


def _versions() -> str:
    # Fixes of Python change nothing in what travels between processes.
    python = ".".join(platform.python_version_tuple()[:2])
    return f"napari-fossiledit {__version__}, Python {python}"


class Workers(Generic[T, R]):
    """Processes that do the work, a `spread.Crew`.

    What is needed is made once before any item is given, so that no item is blamed for it.

    Raises
    ------
    FossilError
        Where it cannot be made, or no scheduler answers.
    """

    def __init__(
        self, make: Callable[..., Callable[[T], R]], args: tuple[Any, ...], how: Spread, job: Job
    ) -> None:
        if find_spec("distributed") is None:
            raise FossilError(
                "Work in several processes needs the package distributed",
                expected="distributed",
                found="no such package",
                advice='Install it with: pip install "napari-fossiledit[cluster]"',
            )
        self._how, self._address = how, how.scheduler
        self._run = _Run(make, args, how.scheduler, uuid4().hex, _versions())
        self._local: _LocalWorkers | None = None
        self._job, self._count, self._since = job, 0, time.monotonic()
        self._asked: Future[dict[str, int]] | None = None
        with ExitStack() as stack:
            stack.enter_context(_silence())
            if how.workers:
                job.report(0, 0, f"Starting {how.workers} processes")
                self._local = _LocalWorkers(how.workers, how.threads)
                stack.callback(self._local.close)
                self._address = self._local.address
            self._client = _client(self._address)
            stack.callback(self._close_client)
            self._executor = self._client.get_executor(pure=False)
            if how.scheduler:
                self._wait_for_worker()
            self._make_once(job)
            self._opened = stack.pop_all()

    def _wait_for_worker(self) -> None:
        self._job.report(0, 0, f"Waiting for a worker of {self._address}")

    def _make_once(self, job: Job) -> None:
        ended = 0
        while True:
            made = self._executor.submit(_ready, _packed(self._run))
            while not wait([made], POLL_S).done:
                job.check()
                self.places()
            try:
                self._result(made)
            except WorkerEndedError as error:
                ended += error.times
                if ended >= ENDED_ALONE:
                    error.message = "Each worker ended while it loaded what the work needs"
                    raise
            else:
                return

    def places(self) -> int:
        """Return how many items may be on their way at once: one waits in each process.

        Starts a process of this machine anew where it ended.
        """
        if self._local is not None:
            self._local.keep()
            return self._how.workers * (self._how.threads + 1)
        now = time.monotonic()
        if self._asked is None:
            if now - self._since > _ASK_S:
                # Not waited for, so that Cancel works while a scheduler is silent.
                client: Any = self._client
                # Nobody asks during a pause, which is no silence of the scheduler.
                self._since = now
                self._asked = asyncio.run_coroutine_threadsafe(
                    client.scheduler.ncores(), client.loop.asyncio_loop
                )
        elif self._asked.done():
            try:
                threads = self._asked.result()
            except (OSError, CancelledError) as error:
                raise self._lost(error) from error
            if self._count and not threads:
                self._wait_for_worker()
            self._count = sum(threads.values()) + len(threads)
            self._asked, self._since = None, now
        elif now - self._since > _SILENT_S:
            raise self._lost(f"no answer for {_SILENT_S:.0f} s")
        return max(1, self._count)

    def submit(self, item: T) -> Future[Outcome[T, R]]:
        """Begin with an item."""
        done: Future[Outcome[T, R]] = self._executor.submit(_work, _packed((self._run, item)))
        return done

    def fetch(self, done: Future[Outcome[T, R]]) -> Outcome[T, R]:
        """Return the outcome.

        Raises
        ------
        WorkerEndedError
            Where the process ended that had the item.
        FossilError
            Where what is needed could not be made there, or the scheduler is lost.
        """
        outcome: Outcome[T, R] = self._result(done)
        return outcome

    def _result(self, done: Future[Any]) -> Any:
        from distributed import KilledWorker

        try:
            return done.result()
        except KilledWorker as error:
            if self._local is not None:
                # It had come, however short it was there.
                self._local.in_vain = 0
            ended = WorkerEndedError(
                "The process that computed this ended each time",
                expected="a result",
                found=f"{ENDED_ALONE} processes that ended, with nothing else to do",
                advice="Most likely the memory ran out: take fewer workers, or a machine with more"
                " of it.",
            )
            # A scheduler of others may have tried it on several workers already.
            ended.times = error.allowed_failures + 1
            raise ended from error
        except CancelledError as error:
            raise self._lost("its connection closed") from error
        except FossilError:
            raise
        # Whatever a worker answers that cannot even begin.
        except Exception as error:
            unexpected(error)
            raise FossilError(
                "A worker could not do its work",
                expected=f"workers with {self._run.versions}",
                found=f"{type(error).__name__}: {error}",
                advice="Start the workers with the same programs as this one.",
            ) from error

    def _lost(self, found: object) -> FossilError:
        return FossilError(
            f"The scheduler {self._address} is lost",
            expected="a scheduler that runs until all is done",
            found=str(found) or type(found).__name__,
            advice="What was finished before is kept: start it and this again to go on.",
        )

    def _close_client(self) -> None:
        # What is running is forgotten by the scheduler; it may be gone itself.
        with suppress(OSError, TimeoutError, RuntimeError):
            self._client.close(timeout=_CLOSE_S)

    def close(self) -> None:
        """Let go of what runs; end the processes of this machine."""
        self._opened.close()


def _packed(value: object) -> bytes:
    """Return what only a worker unpacks.

    A scheduler unpacks what it is given: while it imports half of this program for that, it answers
    nobody, for ten seconds on a busy machine.
    """
    from distributed.protocol.pickle import dumps

    packed: bytes = dumps(value)
    return packed


def _client(address: str) -> Client:
    from distributed import Client
    from distributed.comm.core import connect
    from distributed.security import Security

    async def greet() -> None:
        # Certificates for tls:// stand in the configuration of dask.
        arguments = Security().get_connection_args("client")
        connecting = connect(address, timeout=_ANSWER_S, **arguments)
        (await asyncio.wait_for(connecting, _ANSWER_S)).abort()

    try:
        # A client waits for ever where another program listens, such as the dashboard of dask. In
        # a thread, as this one may have a loop of its own.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, greet()).result()
        with warnings.catch_warnings():
            # Our own check of versions names the worker.
            warnings.simplefilter("ignore")
            return Client(address, timeout=_ANSWER_S, set_as_default=False)
    # ValueError: no address at all, or of a protocol that dask does not know.
    except (OSError, TimeoutError, ValueError) as error:
        raise FossilError(
            f"The scheduler {address} does not answer",
            expected="a dask scheduler that is running, such as tcp://host:8786",
            found=str(error) or "no answer that dask understands",
            advice="Start it with: dask scheduler",
        ) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep dask's own reports, which say less than ours, out of stderr."""
    # It makes the handlers that are silenced when it is imported.
    from distributed.utils import silence_logging_cmgr

    with ExitStack() as stack:
        for name in ("distributed", "distributed.client", "tornado", "tornado.application"):
            stack.enter_context(silence_logging_cmgr(logging.CRITICAL + 1, name))
        yield


class _LocalWorkers:
    """A scheduler in this process, and processes of this machine that work for it."""

    def __init__(self, count: int, threads: int) -> None:
        import dask
        from distributed import Scheduler, SpecCluster

        self._folder = tempfile.mkdtemp(prefix="fossiledit-workers-")
        settings = {
            # Given again by `spread`, which sees who else was on the worker.
            "distributed.scheduler.allowed-failures": 0,
            # A laptop that slept, or a clock that was set, is no reason to end a worker.
            "distributed.scheduler.worker-ttl": None,
            # A result is fetched from its process, which may just have ended.
            "distributed.comm.timeouts.connect": f"{_FETCH_S}s",
        }
        self._settings = dask.config.set(settings)
        # LocalCluster would want the port 8787 also for no dashboard at all.
        here = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
        # A folder of the scheduler's own would be gone before it, with that of the workers.
        there = {"local_directory": self._folder, "needs_workdir": False}
        self._cluster: Any = SpecCluster(
            workers={},
            scheduler={"cls": Scheduler, "options": here | there | {"port": 0}},
            silence_logs=logging.CRITICAL + 1,
        )
        self.address: str = self._cluster.scheduler_address
        limits = [max(1, (os.cpu_count() or 1) // count)]
        # OpenMP takes a list, too: the first is for what is not nested.
        given = (os.environ.get(name, "").partition(",")[0] for name in THREAD_LIMITS)
        limits += [int(limit) for limit in given if limit]
        self._command = [sys.executable, "-P", "-c", _SERVE, self.address, str(threads)]
        self._command.append(self._folder)
        self._environment = os.environ | {
            **dict.fromkeys(THREAD_LIMITS, str(min(limits))),
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        }
        self.in_vain = 0
        self._processes = [self._start() for _ in range(count)]

    def _start(self) -> subprocess.Popen[bytes]:
        self.in_vain += 1
        return subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE,
            # Nothing but results belongs there.
            stdout=subprocess.DEVNULL,
        )

    def keep(self) -> None:
        """Start each process anew that ended.

        Raises
        ------
        FossilError
            Where one after the other ends before it comes to work.
        """
        if self._cluster.scheduler.workers:
            self.in_vain = 0
        for n, process in enumerate(self._processes):
            if process.poll() is None:
                continue
            if self.in_vain >= ENDED_ALONE * len(self._processes):
                raise FossilError(
                    "Processes for the work cannot be started",
                    expected="processes that wait for work",
                    found=f"exit code {process.returncode} at once",
                    advice="Do without workers (0), or report it with the log.",
                )
            self._end(process)
            self._processes[n] = self._start()

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End the processes and the scheduler."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in self._processes:
            self._end(process)
        with suppress(OSError, TimeoutError):
            self._cluster.close(timeout=_CLOSE_S)
        self._settings.__exit__(None, None, None)
        shutil.rmtree(self._folder, ignore_errors=True)


# ------------------------------------------------------------------------- in a worker


def serve() -> None:
    """Work for the scheduler of the process that started this one, until that ends."""
    address, threads, folder = sys.argv[1:]
    # Ctrl-C reaches every process of a terminal, and is for the one that began the run.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_starter, args=(folder,), daemon=True).start()
    start_logging()
    with _silence():
        asyncio.run(_serve(address, int(threads), folder))


def _end_with_starter(folder: str) -> None:
    sys.stdin.buffer.read()
    # The others remove it as well, and one that has just begun may still write there.
    for _ in range(5):
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.02)
        if not Path(folder).exists():
            break
    os._exit(0)


async def _serve(address: str, threads: int, folder: str) -> None:
    from distributed import Worker

    async with Worker(
        address,
        nthreads=threads,
        local_directory=folder,
        # A slice is nothing that could be written to disk to make room.
        memory_limit=0,
        dashboard=False,
    ) as worker:
        await worker.finished()


#: What this worker made for the run that it works for.
_made: dict[str, Callable[[Any], Any]] = {}
_making = threading.Lock()


def _handle(run: _Run[T, R]) -> Callable[[T], R]:
    """Return what handles an item of a run, made when it is first asked for."""
    with _making:
        if run.token not in _made:
            start_logging()
            # What another run needed, whose end nobody told.
            _made.clear()
            try:
                if run.versions != _versions():
                    raise FossilError(
                        "This worker has other versions than the run",
                        expected=run.versions,
                        found=_versions(),
                        advice="Install the same on both.",
                    )
                _made[run.token] = run.make(*run.args)
            # The end of a process: the reason has to reach the caller, and the log has all of it.
            except Exception as error:  # noqa: BLE001
                raise _told_where(error, run.scheduler) from None
        return _made[run.token]


def _told_where(error: Exception, scheduler: str) -> FossilError:
    """Return what a worker has to say, with its name where it is not of this machine."""
    told = error if isinstance(error, FossilError) else unexpected(error)
    if not scheduler:
        return told
    from distributed import get_worker

    return FossilError(
        f"On the worker {socket.gethostname()} ({get_worker().address}): {told.message}",
        expected=told.expected,
        found=told.found,
        advice=told.advice,
    )


def _ready(packed: bytes) -> None:
    _handle(pickle.loads(packed))


def _work(packed: bytes) -> Outcome[Any, Any]:
    run, item = pickle.loads(packed)
    return outcome_of(_handle(run), item)
