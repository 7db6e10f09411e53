"""The form that makes a project of photographs; voxel size and z direction are asked once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QVBoxLayout, QWidget

from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.progress import Job
from napari_fossiledit.stacks import SuggestedGeometry, find_warnings
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import show_done
from napari_fossiledit.widgets.common.paths import PathRow, Pick
from napari_fossiledit.widgets.dock import button, note, section
from napari_fossiledit.workflows.stack import new

DIRECTION = (
    "Z direction: does slice 1 lie deeper in the rock than slice 0? Then slices count "
    "<b>into</b> the rock, as grinding goes. Otherwise they count <b>out of</b> it. "
    "The wrong answer mirrors every fossil in 3D."
)


@dataclass(frozen=True)
class StackLook:
    """Size, warnings and claimed voxel size of photographs that are no project yet."""

    slices: int
    rows: int
    columns: int
    warnings: tuple[str, ...]
    suggested: SuggestedGeometry | None

    def text(self) -> str:
        """Return a text for the user."""
        size = f"{self.slices} slices of {self.columns} x {self.rows} pixels."
        origin = f"Voxel size taken from {self.suggested.origin}." if self.suggested else ""
        return "\n".join(filter(None, [size, origin, *self.warnings]))


def look_at_stack(path: Path, *, job: Job) -> StackLook:
    """Open a stack and look at it; for a thread, as it reads every header."""
    del job
    stack = new.open_source(path)
    try:
        warnings = tuple(find_warnings(stack))
        slices, rows, columns = stack.shape[:3]
        return StackLook(slices, rows, columns, warnings, stack.suggested_geometry())
    finally:
        stack.close()


class NewProject(QWidget):
    """Paths and parameters of a new project.

    Signals
    -------
    created(Path)
        The folder of the project that was made.
    """

    created = Signal(object)

    def __init__(self, jobs: JobPanel) -> None:
        super().__init__()
        self.jobs = jobs
        self.photographs = PathRow(
            "photographs",
            Pick.FOLDER,
            "Folder with one image per slice, a multi-page TIFF, an OME-Zarr or an outline file.",
        )
        self.folder = PathRow(
            "project folder", Pick.SAVE_FILE, "New folder for the project, NAME.fossil."
        )
        self.form = ParamsForm(
            NewParams,
            labels={"pixel_size": "Pixel size (um)", "slice_spacing": "Slice spacing (um)"},
        )
        self.look = note("")
        self.make = button("Create project", "Make the project folder and open it.", self._create)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        inside = section(outer, "New project")
        paths = QFormLayout()
        paths.addRow("Photographs", self.photographs)
        paths.addRow(
            "",
            button(
                "Choose a single file instead ...",
                "A multi-page TIFF or an outline file.",
                self._browse_file,
            ),
        )
        paths.addRow("Project", self.folder)
        inside.addLayout(paths)
        for widget in (self.look, self.form, note(DIRECTION), self.make):
            inside.addWidget(widget)
        self.look.hide()
        self.photographs.changed.connect(self._on_photographs)

    def _browse_file(self) -> None:
        row = PathRow("stack file", Pick.OPEN_FILE)
        row.browse()
        if row.text:
            self.photographs.text = row.text
            self._on_photographs(row.text)

    def _on_photographs(self, text: str) -> None:
        if not text:
            return
        path = Path(text).expanduser()
        if not self.folder.text:
            self.folder.text = str(path.with_suffix("").with_suffix(".fossil"))
        self.look.hide()
        if not self.jobs.runner.is_running:
            self.jobs.start(
                "Looking at the photographs",
                look_at_stack,
                path,
                in_process=False,
                then=self._show_look,
            )

    def _show_look(self, look: StackLook) -> None:
        self.look.setText(look.text())
        self.look.show()
        if look.suggested is None:
            return
        pixel, spacing, _ = look.suggested
        sizes = {"pixel_size": pixel, "slice_spacing": spacing}
        self.form.fill(**{name: value for name, value in sizes.items() if value})

    def _create(self) -> None:
        params = self.form.read()
        stack, project = self.photographs.path(), self.folder.path()

        def opened(result: Any) -> None:
            for warning in getattr(result, "warnings", ()):
                show_done(warning)
            self.created.emit(project)

        self.jobs.start(
            "Making the project", new.run, project, stack, params, in_process=False, then=opened
        )
