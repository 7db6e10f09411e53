"""Slices as a model sees them, with their neighbours where it sees those, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fossiledit.project import Project
from napari_fossiledit.stacks.window import Window

if TYPE_CHECKING:
    from napari_fossiledit.models.inference.preprocessing import Image


def seen(project: Project, window: Window, z: int, changed: Image | None = None) -> Image:
    """Read what a model sees of slice `z`, see `Window.read`.

    Parameters
    ----------
    changed
        What the slice itself is to look like; its neighbours stay as they are.
    """

    def read(n: int) -> Image:
        return project.contents.read(n) if changed is None or n != z else changed

    return window.read(read, z, project.shape[0])
