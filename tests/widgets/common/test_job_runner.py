"""A job runs away from the window; whatever it comes to arrives as a signal."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.progress import Progress
from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec, progress_text, time_text


def add(a, b, *, job):
    job.on_progress(Progress(1, 2, "Adding", 80.0))
    return a + b


def break_down(*, job):
    raise RuntimeError("CUDA out of memory")


def refuse(*, job):
    raise FossilError("The file is empty", advice="Choose another.")


def wait_for_stop(*, job):
    while True:
        job.check()
        time.sleep(0.01)


@pytest.fixture
def runner(qtbot):
    made = JobRunner()
    yield made
    made.cancel()


def run(qtbot, runner, function, *args, in_process=False):
    """Run a job to its end; return its result or its error."""
    outcome = []
    runner.done.connect(outcome.append)
    runner.failed.connect(outcome.append)
    with qtbot.waitSignal(runner.stopped):
        runner.start(JobSpec("Trying", function, args, in_process))
    return outcome[0]


def test_a_result_and_its_progress_arrive(qtbot, runner):
    reports = []
    runner.progressed.connect(reports.append)
    assert run(qtbot, runner, add, 2, 3) == 5
    assert reports == [Progress(1, 2, "Adding", 80.0)]
    assert not runner.is_running


def test_a_job_in_a_process_arrives_the_same_way(qtbot, runner):
    assert run(qtbot, runner, add, 2, 3, in_process=True) == 5


def test_a_runtime_error_is_not_swallowed(qtbot, runner):
    error = run(qtbot, runner, break_down)
    assert isinstance(error, FossilError)
    assert "memory ran out" in str(error)


def test_an_error_keeps_its_advice(qtbot, runner):
    assert run(qtbot, runner, refuse).advice == "Choose another."


def test_a_second_job_is_refused(qtbot, runner):
    runner.start(JobSpec("Training", wait_for_stop, (), in_process=False))
    with pytest.raises(FossilError, match="Training is still running"):
        runner.start(JobSpec("Predicting", add, (1, 2), in_process=False))
    with qtbot.waitSignal(runner.stopped):
        runner.cancel()


def test_cancelling_ends_a_job_as_cancelled(qtbot, runner):
    with qtbot.waitSignal(runner.failed) as caught:
        runner.start(JobSpec("Waiting", wait_for_stop, (), in_process=False))
        runner.cancel()
    assert isinstance(caught.args[0], CancelledError)


def test_an_abandoned_job_says_nothing_and_makes_room(qtbot, runner):
    said = []
    runner.failed.connect(said.append)
    runner.start(JobSpec("Waiting", wait_for_stop, (), in_process=False))
    runner.abandon()
    assert run(qtbot, runner, add, 1, 1) == 2
    qtbot.wait(50)
    assert said == []


def test_the_result_is_handed_over_in_the_windows_thread(qtbot, runner):
    threads = []
    with qtbot.waitSignal(runner.stopped):
        runner.start(
            JobSpec("Adding", add, (1, 2), in_process=False),
            lambda _: threads.append(threading.current_thread()),
        )
    assert threads == [threading.main_thread()]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (80, "1:20"), (3725, "1:02:05")])
def test_time_text(seconds, text):
    assert time_text(seconds) == text


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(12, 64, "Predicting", 80), "Predicting: 12 of 64, 1:20 left"),
        (Progress(64, 64, "Predicting", 0), "Predicting: 64 of 64"),
        (Progress(7, 0, "", None, {"loss": 0.1234, "loss_mask": 1}), "7, loss 0.123"),
    ],
)
def test_progress_text(progress, text):
    assert progress_text(progress) == text


def test_an_error_of_who_gets_the_result_ends_the_job_as_failed(qtbot, runner):
    def take(_):
        raise FossilError("The project is gone", advice="Open another.")

    failed = []
    runner.failed.connect(failed.append)
    with qtbot.waitSignal(runner.stopped):
        runner.start(JobSpec("Adding", add, (1, 2), in_process=False), take)
    assert [error.advice for error in failed] == ["Open another."]


_ENDS = """
import sys, time
from pathlib import Path
from qtpy.QtWidgets import QApplication
from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec

def write(path, *, job):
    time.sleep(0.5)
    Path(path).write_text("all of it")
    return path

application = QApplication([])
runner = JobRunner()
runner.start(JobSpec("Writing", write, (sys.argv[1],), in_process=False))
runner.abandon()
"""


def test_a_program_that_ends_lets_its_job_write_what_it_is_at(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", _ENDS, str(tmp_path / "written")],
        check=False,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "written").read_text() == "all of it"
