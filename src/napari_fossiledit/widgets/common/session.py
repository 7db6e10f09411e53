"""The open project of a viewer, and signals when it changes."""

from __future__ import annotations

import functools
import logging
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QEvent, QObject, QTimer, Signal

from napari_fossiledit.errors import FossilError
from napari_fossiledit.log import start_logging
from napari_fossiledit.project import Project
from napari_fossiledit.widgets.common.prewarm import prewarm

_log = logging.getLogger(__name__)

#: Between two steps of `Session.soon`: mouse and keys come in, and the window draws.
_BREATH_MS = 1


class Session(QObject):
    """The project that the docks of one viewer share, and signals when it changes.

    Signals
    -------
    project_changed
        Another project was opened, or the project was closed.
    annotations_changed, models_changed, predictions_changed, specimens_changed, mud_changed,
    edits_changed
        That part of the project folder changed; whoever shows it reads it again.
    slice_changed(int)
        The viewer shows another slice.
    saving
        Whoever holds changes of the project has to write them now.
    trace_requested
        The user pressed the key that marks the shown slice as traced.
    source_shown
        The predictions of a source, maybe another one, were put over the photographs.
    photographs_dropped
        A project is to be made of `photographs`.
    preview_requested, swap_requested
        The user pressed the key that shows or hides the perturbed slice, or that swaps the
        instances before an edit and with it.
    page_requested(str)
        The page of this title is to be shown.

    Attributes
    ----------
    paint_class
        Class of the next instance that is painted; empty: the first of the project.
    photographs
        Photographs of which a project is to be made, where there are any.
    view
        What shows the project in the viewer, once it is attached.
    rail, picker
        The dock of the plugin, and what chooses the predictions shown, as long as they exist.
    colours
        Colours of its instances, once something asked for them.
    docks
        Pages of the dock by their title, as long as they exist.
    """

    project_changed = Signal()
    annotations_changed = Signal()
    models_changed = Signal()
    predictions_changed = Signal()
    specimens_changed = Signal()
    mud_changed = Signal()
    edits_changed = Signal()
    slice_changed = Signal(int)
    saving = Signal()
    trace_requested = Signal()
    source_shown = Signal()
    photographs_dropped = Signal()
    preview_requested = Signal()
    swap_requested = Signal()
    page_requested = Signal(str)

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        start_logging()
        _log_errors()
        prewarm()
        # A session is kept for its window: a strong reference would keep both alive for ever.
        self._viewer = weakref.ref(viewer)
        self._project: Project | None = None
        self.paint_class = ""
        self.photographs: Path | None = None
        self.view: object | None = None
        self.rail: object | None = None
        self.picker: object | None = None
        self.colours: object | None = None
        self._later: deque[Callable[[], object]] = deque()
        self.docks: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        viewer.dims.events.current_step.connect(self._on_step)

    @property
    def viewer(self) -> napari.Viewer:
        """The viewer that shows the project."""
        viewer = self._viewer()
        if viewer is None:
            raise FossilError("The window is closed", advice="Open the project in a new window.")
        return viewer

    @property
    def project(self) -> Project | None:
        """The open project, or None."""
        return self._project

    @property
    def current(self) -> Project:
        """The open project.

        Raises
        ------
        FossilError
            Where none is open.
        """
        if self._project is None:
            raise FossilError(
                "No project is open", advice='Open or create one on the page "Start here".'
            )
        return self._project

    @property
    def writable(self) -> Project:
        """The open project, where it may be changed.

        Raises
        ------
        FossilError
            Where none is open or its folder is read-only.
        """
        project = self.current
        project.require_writable()
        return project

    def open(self, path: Path) -> None:
        """Open a project folder in place of the one that is open.

        Raises
        ------
        FossilError
            Where it cannot be opened; the open project then stays open.
        """
        project = Project.open(path)
        self.close()
        self._project = project
        self.project_changed.emit()

    def close(self) -> None:
        """Close the project, if one is open."""
        if self._project is None:
            return
        self.saving.emit()
        project, self._project = self._project, None
        self.project_changed.emit()
        project.close()

    def take_photographs(self, path: Path) -> None:
        """Have a project made of photographs that were dropped on the window."""
        self.photographs = path
        self.page_requested.emit("Stack")
        self.photographs_dropped.emit()

    def while_open(self, then: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return `then`, to do nothing once another project is open: a job may end after that."""
        project = self._project

        def called(result: Any) -> None:
            if self._project is project:
                then(result)

        return called

    def soon(self, do: Callable[[], object]) -> None:
        """Call `do` after all that waits in the window; nothing once another project is open.

        A project is shown in several such steps, between which the window answers.
        """
        project = self._project
        self._later.append(lambda: do() if self._project is project else None)
        if len(self._later) == 1:
            QTimer.singleShot(_BREATH_MS, self._next)

    def _next(self) -> None:
        try:
            self._later[0]()
        finally:
            self._later.popleft()
            if self._later:
                QTimer.singleShot(_BREATH_MS, self._next)

    @property
    def is_settling(self) -> bool:
        """True while steps of `soon` are still to come."""
        return bool(self._later)

    @property
    def slice(self) -> int:
        """Index of the slice that the viewer shows, from 0."""
        # Steps of the slider are no slice indices where a layer of another spacing is shown.
        point, project = self.viewer.dims.point, self._project
        if project is None or len(point) < 3:
            return 0
        z = round(float(point[-3]) / project.geometry.slice_spacing_um)
        return min(max(z, 0), project.shape[0] - 1)

    def go_to(self, z: int) -> None:
        """Show slice `z`."""
        dims = self.viewer.dims
        dims.set_point(dims.ndim - 3, z * self.current.geometry.slice_spacing_um)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Have strokes saved before a window closes, also one whose mouse is still pressed."""
        if event is not None and event.type() == QEvent.Type.Close:
            self.saving.emit()
        return super().eventFilter(watched, event)

    def _on_step(self, _: Any) -> None:
        if self._project is not None:
            self.slice_changed.emit(self.slice)


@functools.cache
def _log_errors() -> None:
    """Log what reaches napari as an error: an exception in a slot of ours would be lost."""

    def log(notification: Any) -> None:
        error = getattr(notification, "exception", None)
        if error is not None:
            _log.error("Unexpected error in the window", exc_info=error)

    notification_manager.notification_ready.connect(log)


_sessions: weakref.WeakKeyDictionary[Any, Session] = weakref.WeakKeyDictionary()


def session_of(viewer: napari.Viewer) -> Session:
    """Return the session of a viewer's window; the first call makes it.

    napari hands plugins a proxy of the viewer, which would not live long enough.
    """
    real: napari.Viewer = getattr(viewer, "__wrapped__", viewer)
    if real.window not in _sessions:
        _sessions[real.window] = Session(real)
    return _sessions[real.window]
