"""The window of the command line: open until the user closes it, or long enough for a picture."""

from __future__ import annotations

import time
from pathlib import Path

import napari
from napari.qt import get_qapp
from OpenGL.platform import GetCurrentContext
from qtpy.QtCore import QTimer
from qtpy.QtGui import QOffscreenSurface, QOpenGLContext
from qtpy.QtWidgets import QApplication

from napari_fossiledit.errors import FossilError
from napari_fossiledit.widgets.canvas.layers import show_predictions
from napari_fossiledit.widgets.canvas.project_view import open_project
from napari_fossiledit.widgets.common.session import session_of
from napari_fossiledit.widgets.start.opening import show_dock
from napari_fossiledit.widgets.start.start_dock import TITLE

_SIZE = (1500, 950)
_SETTLE_S = 1.5


def open_window(path: Path | None = None) -> napari.Viewer:
    """Open a window with the dock of the plugin, and a project in it.

    Raises
    ------
    FossilError
        Where `path` is no project, or nothing can be drawn.
    """
    require_opengl()
    viewer = napari.Viewer()
    start = show_dock(session_of(viewer), TITLE)
    if path is not None:
        open_project(start.session, path)
        # The docks take their room from the canvas once the window is laid out.
        QTimer.singleShot(0, viewer.reset_view)
    return viewer


def require_opengl() -> None:
    """Raise where napari could draw nothing; it would end in a traceback, or abort.

    Raises
    ------
    FossilError
        Where there is no OpenGL.
    """
    get_qapp()
    context, surface = QOpenGLContext(), QOffscreenSurface()
    surface.create()
    if context.create() and context.makeCurrent(surface):
        try:
            # A context that Qt makes is of no use where PyOpenGL looks for one of another kind.
            if GetCurrentContext():
                return
        finally:
            context.doneCurrent()
    raise FossilError(
        "The window cannot be drawn",
        expected="OpenGL 2.1 or newer",
        found="none that works",
        advice=(
            "Install the driver of the graphics card. On Linux, LIBGL_ALWAYS_SOFTWARE=1 lets the"
            " processor draw. All commands of fossiledit but this one work without a window."
        ),
    )


def show(project: Path) -> None:
    """Open a window with a project and stay until it is closed.

    Raises
    ------
    FossilError
        Where `project` is no project.
    """
    open_window(project)
    napari.run()


def picture(project: Path, source: str, path: Path) -> None:
    """Save a picture of the window with the predictions of `source` over the middle slice.

    Raises
    ------
    FossilError
        Where `project` is no project.
    """
    viewer = open_window(project)
    try:
        session = session_of(viewer)
        viewer.window.resize(*_SIZE)
        session.go_to(session.current.shape[0] // 2)
        show_predictions(session, source, 0.5)
        _settle()
        viewer.reset_view()
        _settle()
        path.parent.mkdir(parents=True, exist_ok=True)
        viewer.screenshot(str(path), canvas_only=False, flash=False)
    finally:
        viewer.close()


def _settle() -> None:
    """Process events until the window has drawn itself."""
    end = time.monotonic() + _SETTLE_S
    while time.monotonic() < end:
        QApplication.processEvents()
