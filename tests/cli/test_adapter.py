"""The adapter from parameter models to options, against a fake workflow."""

import inspect
import io
import json
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated
from unittest.mock import Mock

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from napari_fossiledit.cli.adapter import fossil_command, reported
from napari_fossiledit.cli.commands import COMMANDS
from napari_fossiledit.cli.console import ProgressPrinter, interruptible, progress_text
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.log import log_file
from napari_fossiledit.params.base import Params
from napari_fossiledit.params.segment import Architecture
from napari_fossiledit.progress import QUIET, Clock, Progress


class Fake(Params):
    architecture: Architecture = Field(Architecture.LITE, description="Backbone.")
    classes: tuple[str, ...] = Field(("a", "b"), description="Classes.")
    class_name: str = Field("a", description="Class.")
    minutes: float = Field(2.0, gt=0, description="Time.")
    relink: bool = Field(False, description="Again.")


class Result:
    def __init__(self, **values):
        self.values = values

    def summary(self):
        return self.values


def invoke(function, *arguments, names=None):
    app = typer.Typer()
    app.command()(fossil_command(Fake, names=names)(function))
    return CliRunner().invoke(app, list(arguments))


def echo(path: Annotated[Path, typer.Argument()], params, job):
    Clock(2, job.on_progress, "Working").tick(2)
    return Result(path=str(path), **params.model_dump(mode="json"))


def test_defaults_and_options_reach_the_model():
    run = invoke(
        echo, "x", "--architecture", "r50", "--classes", "c, d", "--relink", "--class", "c",
        "--json", names={"class_name": "class"},
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    told = json.loads(run.stdout)
    assert told == {
        "path": "x", "version": 1, "architecture": "r50", "classes": ["c", "d"],
        "class_name": "c", "minutes": 2.0, "relink": True,
    }  # fmt: skip
    assert "Working 2 of 2" in run.stderr


def test_a_bad_value_is_a_message_with_expected_and_found():
    run = invoke(echo, "x", "--minutes", "-1", "--json")
    assert run.exit_code == 1
    error = json.loads(run.stdout)["error"]
    assert "minutes" in error["message"]
    assert error["found"] == "-1.0"
    assert "Traceback" not in run.output


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (FossilError("slice 7 is broken", advice="Replace it."), 1, "slice 7 is broken. Replace"),
        (CancelledError("Training was cancelled"), 130, "Training was cancelled"),
        (KeyError("boom"), 1, "KeyError: 'boom'"),
        (MemoryError(), 1, "memory ran out"),
    ],
)
def test_failures_become_messages_and_exit_codes(raised, code, text):
    def fails(params, job):
        raise raised

    run = invoke(fails)
    assert run.exit_code == code
    assert text in run.stderr
    assert "Traceback" not in run.output


def test_a_cancelled_command_waits_for_no_thread_and_no_reader():
    script = """
import sys, threading, time, types
def app():
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("to nobody")
    print("to somebody", end="", file=sys.stderr)
    raise SystemExit(130)
sys.modules["napari_fossiledit.cli.commands"] = types.SimpleNamespace(app=app)
from napari_fossiledit.cli import main
main()
"""
    read, write = os.pipe()
    # As `tee` does, which Ctrl-C ends first.
    os.close(read)
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONUNBUFFERED": ""},
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
        timeout=50,
    )
    os.close(write)
    assert (run.returncode, run.stderr) == (130, b"to somebody")


@pytest.mark.parametrize("error", [BrokenPipeError("gone"), RuntimeError("reentrant call")])
def test_stderr_may_take_nothing_more(monkeypatch, error):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "write", Mock(side_effect=error), raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    ProgressPrinter()(Progress(1, 2, said="Two slices are left."))
    with interruptible() as cancel:
        signal.raise_signal(signal.SIGINT)
        assert cancel()
    with pytest.raises(typer.Exit) as ended, reported(as_json=False):
        raise CancelledError("The job was cancelled")
    assert ended.value.exit_code == 130


def test_progress_names_counts_time_and_values():
    report = Progress(12, 64, "Predicting", 80.4, {"loss": 0.3111})
    assert progress_text(report) == "Predicting 12 of 64, 1:20 left (loss 0.3111)"


def test_sentences_of_a_list_stand_on_lines_of_their_own():
    sentence = "annotation 1, annotation 2: It has a box only, which is no outline"
    lines = invoke(lambda params, job: Result(name=(sentence, "b"))).stdout.splitlines()
    assert lines == ["name:", f"  - {sentence}", "  - b"]
    assert invoke(lambda params, job: Result(name=("a", "b"))).stdout == "name: a, b\n"


def test_json_is_ascii_whatever_a_name_holds():
    result = invoke(lambda params, job: Result(name="\udcff \u00fc"), "--json")
    assert result.exit_code == 0
    assert result.stdout.isascii()
    assert json.loads(result.stdout) == {"name": "\udcff \u00fc"}


def test_a_full_stdout_is_a_message(monkeypatch):
    def refuse(text):
        raise OSError(28, "No space left on device")

    def run(params, job):
        monkeypatch.setattr(sys.stdout, "write", refuse)
        return Result(name="x")

    result = invoke(run, "--json")
    assert result.exit_code == 1
    assert "No space left" in result.stderr


def test_an_unexpected_error_leaves_its_traceback_in_the_log_that_the_message_names():
    def fails(params, job):
        raise KeyError("boom")

    run = invoke(fails)
    assert str(log_file()) in run.stderr
    logged = log_file().read_text()
    assert "Traceback" in logged
    assert "in fails" in logged


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_each_command_of_the_table_fits_its_workflow(command):
    module, name = command.workflow.split(":")
    workflow = getattr(import_module(f"napari_fossiledit.workflows.{module}"), name)
    given = [a.name for a in command.arguments if a.name not in command.skip]
    given += ["params"] if command.params else []
    inspect.signature(workflow).bind(*given, *(o.name for o in command.options), job=QUIET)


def test_verbose_prints_the_log():
    program = "from napari_fossiledit.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "info", "x", "--verbose"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "INFO napari_fossiledit.cli.adapter: Show what a project holds." in done.stderr
