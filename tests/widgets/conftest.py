"""A tiny project, and workflows that do nothing but tell that they were called."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import napari
import numpy as np
import pytest
from PIL import Image
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication, QWidget

from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.masks import Instance, Mask, Origin
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.progress import QUIET
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.stacks import open_stack
from napari_fossiledit.widgets.canvas.project_view import open_project
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.session import Session, session_of

SHAPE = (5, 40, 60)
SOURCE = "model:first:0123456789ab"


def disk(row: int, column: int, radius: int) -> np.ndarray:
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    return np.hypot(y - row, x - column) < radius


def found(z: int) -> list[Instance]:
    """Two instances a slice: a sure one, and one that the model doubts."""
    masks = [disk(15, 15 + z, 8), disk(25, 45, 6)]
    return [
        Instance(z, "archaeocyathid", Mask.from_array(m), score=s, origin=Origin.MODEL, id=-1 - n)
        for n, (m, s) in enumerate(zip(masks, (0.9, 0.3), strict=True))
    ]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for z in range(SHAPE[0]):
        pixels = np.full((*SHAPE[1:], 3), 40 + z, np.uint8)
        pixels[disk(15, 15 + z, 8)] = (220, 200, 180)
        Image.fromarray(pixels).save(folder / f"slice_{z:02}.png")
    return folder


@pytest.fixture
def project_path(photographs: Path, tmp_path: Path) -> Path:
    """A project with predictions on all slices but the last, slices 1 and 3 traced."""
    path = tmp_path / "toy.fossil"
    params = NewParams(pixel_size=70, slice_spacing=500)
    with Project.create(path, open_stack(photographs), params) as project:
        for z in range(SHAPE[0] - 1):
            project.ledger.store(SOURCE, z, found(z))
        for z in (1, 3):
            project.ledger.store(ANNOTATIONS, z, found(z))
            project.ledger.set_traced(z, None)
    return path


class Calls:
    """Takes the place of `JobPanel.start`: notes the workflow and hands a result over at once.

    Attributes
    ----------
    made
        Name below ``workflows``, and arguments, of each job.
    in_process
        Which of them were to run in a process of their own.
    result
        What every job comes to.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[tuple[str, Any]] = []
        self.in_process: list[bool] = []
        self.result: Any = SimpleNamespace(summary=dict)
        monkeypatch.setattr(JobPanel, "start", self._start)

    def _start(self, title, function, *args, in_process=True, then=None, **_):
        if getattr(function, "__self__", None).__class__ is WarmProcess:
            function, *args = args
        inspect.signature(function).bind(*args, job=QUIET)
        name = f"{function.__module__}.{function.__name__}"
        self.made.append((name.removeprefix("napari_fossiledit.").removeprefix("workflows."), args))
        self.in_process.append(in_process)
        if then is not None:
            then(self.result)
        return True


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@pytest.fixture(autouse=True)
def _no_dialogs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dialog would wait for a user for ever."""
    from qtpy.QtWidgets import QFileDialog, QMessageBox

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("", ""))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: ("", ""))
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton.Yes)


@pytest.fixture
def qtbot(qtbot: QtBot) -> QtBot:
    """pytest-qt's own, with more patience than any busy machine needs."""
    for name in ("waitSignal", "waitUntil"):
        setattr(qtbot, name, partial(getattr(qtbot, name), timeout=120_000))
    return qtbot


@pytest.fixture(scope="module")
def viewer(qapp: QApplication) -> Iterator[napari.Viewer]:
    """One viewer for the tests of a module; each of them leaves it empty."""
    made = napari.Viewer(show=False)
    yield made
    made.close()
    del made
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()


def settled(session: Session) -> None:
    """Let the steps run that were put off until the window has answered."""
    while session.is_settling:
        QApplication.processEvents()


@pytest.fixture
def session(viewer: napari.Viewer, project_path: Path) -> Iterator[Session]:
    """The toy project, open in the viewer."""
    made = session_of(viewer)
    open_project(made, project_path)
    settled(made)
    yield made
    made.close()
    viewer.dims.ndisplay = 2
    viewer.layers.clear()


@pytest.fixture
def made(viewer: napari.Viewer) -> Iterator[Callable[[type[QWidget]], QWidget]]:
    """Make docks that are gone after the test, and no longer follow the session."""
    docks: list[QWidget] = []

    def make(kind: type[QWidget]) -> QWidget:
        docks.append(kind(viewer))
        return docks[-1]

    yield make
    for dock in docks:
        dock.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
