"""Photographs and projects that come to the window from outside while no project is open."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QEvent, QObject
from qtpy.QtGui import QDropEvent

from napari_fossiledit.stacks.listing import is_image_name
from napari_fossiledit.widgets.canvas.readers import get_reader, read_project, read_stack
from napari_fossiledit.widgets.common.compat import drop_area_of, take_folders
from napari_fossiledit.widgets.common.notices import errors_shown
from napari_fossiledit.widgets.common.session import Session

_OUTLINES = ".mat"


class Drops(QObject):
    """Takes drops, and folders of napari's menu, before napari asks which reader is meant."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.session = session
        area = drop_area_of(session.viewer)
        if area is not None:
            area.installEventFilter(self)
        take_folders(session.viewer, lambda folder: self.take([folder]))

    def eventFilter(self, _: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Open a dropped project, or have a project made of dropped photographs."""
        if not isinstance(event, QDropEvent) or event.type() != QEvent.Type.Drop:
            return False
        data = event.mimeData()
        urls = [] if data is None else data.urls()
        if not self.take([Path(url.toLocalFile()) for url in urls if url.isLocalFile()]):
            return False
        event.accept()
        return True

    def take(self, paths: list[Path]) -> bool:
        """Open a project, or have one made of photographs; return whether either was done."""
        if self.session.project is not None:
            return False
        if len(paths) == 1 and get_reader(str(paths[0])) is read_project:
            with errors_shown():
                self.session.open(paths[0])
        elif (photographs := photographs_of(paths)) is not None:
            self.session.take_photographs(photographs)
        else:
            return False
        return True


def photographs_of(paths: list[Path]) -> Path | None:
    """Return the stack that dropped paths mean; of several photographs, their folder."""
    if len(paths) > 1:
        alike = len({path.parent for path in paths}) == 1
        return paths[0].parent if alike and all(is_image_name(p.name) for p in paths) else None
    for path in paths:
        is_file = is_image_name(path.name) or path.suffix.lower() == _OUTLINES
        if get_reader(str(path)) is read_stack or (is_file and path.is_file()):
            return path
    return None
