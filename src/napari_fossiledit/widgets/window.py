"""The window of the command line: open until the user closes it."""

from __future__ import annotations

from pathlib import Path

import napari

from napari_fossiledit.widgets.opening import open_window


def show(project: Path) -> None:
    """Open a window with a project and stay until it is closed.

    Raises
    ------
    FossilError
        Where `project` is no project.
    """
    open_window(project)
    napari.run()
