"""The form that makes a project of photographs; voxel size and z direction are asked once."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from napari.layers import Layer
from qtpy.QtWidgets import QFormLayout, QPushButton, QVBoxLayout, QWidget

from napari_fossiledit.geometry import ZDirection
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.progress import Job
from napari_fossiledit.stacks import SuggestedGeometry, find_warnings
from napari_fossiledit.widgets.canvas.project_view import opens_made
from napari_fossiledit.widgets.canvas.readers import PHOTOGRAPHS, LayerTuple, stack_layer
from napari_fossiledit.widgets.common.forms import ParamsForm, number_text
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import show_done
from napari_fossiledit.widgets.common.paths import PathRow, Pick
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import button, note, section
from napari_fossiledit.widgets.stack.scale_bar_panel import ScaleBarPanel
from napari_fossiledit.workflows.stack import new

DIRECTION = (
    "Z direction: does slice 1 lie deeper in the rock than slice 0? Then slices count "
    "<b>into</b> the rock, as grinding goes. Otherwise they count <b>out of</b> it. "
    "The wrong answer mirrors every fossil in 3D."
)
LABELS = {
    "pixel_size": "Size of a pixel (um)",
    "slice_spacing": "Between slices (um)",
    "z_direction": "Slices go",
    "classes": "Kinds of fossils",
}
WORDS: dict[Enum, str] = {
    ZDirection.INTO: "into the rock",
    ZDirection.OUT_OF: "out of the rock",
}
#: Names of folders that say nothing of what is on the photographs in them.
_ANY = re.compile(
    r"(images?|imgs?|photos?|photographs?|pictures?|pics?|slices?|sections?|stacks?|scans?|raw|data"
    r"|tiffs?|tif|png|jpe?g|aligned|registered|cropped|input|frames?)[ _-]*\d*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class StackLook:
    """Size, warnings and claimed voxel size of photographs that are no project yet.

    Attributes
    ----------
    layer
        What shows them, in pixels.
    """

    path: Path
    slices: int
    rows: int
    columns: int
    warnings: tuple[str, ...]
    suggested: SuggestedGeometry | None
    layer: LayerTuple

    def text(self) -> str:
        """Return a text for the user."""
        slices = "1 slice" if self.slices == 1 else f"{self.slices} slices"
        return "\n".join((f"{slices} of {self.columns} x {self.rows} pixels.", *self.warnings))


def project_name(photographs: Path) -> str:
    """Return a name for a project of photographs: that of their file or folder.

    Examples
    --------
    >>> project_name(Path("reef/slab 3")), project_name(Path("labrador/images"))
    ('slab 3', 'labrador')
    """
    for each in (photographs, *photographs.parents):
        name = each.with_suffix("").stem
        if name and not _ANY.fullmatch(name):
            return name
    return photographs.stem


def look_at_stack(path: Path, *, job: Job) -> StackLook:
    """Open a stack and look at it; for a thread, as it reads every header."""
    del job
    stack = new.open_source(path)
    slices, rows, columns = stack.shape[:3]
    layer = stack_layer(stack, None, path.stem)
    layer[1]["metadata"][PHOTOGRAPHS] = str(path)
    warnings, suggested = tuple(find_warnings(stack)), stack.suggested_geometry()
    return StackLook(path, slices, rows, columns, warnings, suggested, layer)


class NewProject(QWidget):
    """Paths and parameters of a new project, which is opened once it is made."""

    def __init__(self, session: Session, jobs: JobPanel) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self._look: StackLook | None = None
        # Chosen while another job was running.
        self._waiting: Path | None = None
        self.photographs = PathRow(
            "photographs",
            Pick.FOLDER,
            "Folder with one image per slice, a multi-page TIFF, an OME-Zarr or an outline file.",
        )
        self.folder = PathRow(
            "project folder", Pick.SAVE_FILE, "New folder for the project, NAME.fossil."
        )
        self.form = ParamsForm(NewParams, labels=LABELS, words=WORDS)
        self.look = note("")
        self.offers = {name: QPushButton() for name in ("pixel_size", "slice_spacing")}
        self.scale_bar = ScaleBarPanel(session)
        self.scale_bar.measured.connect(self._take_measured)
        self.direction, self.missing = note(DIRECTION), note("")
        self.make = button("Create project", "Make the project folder and open it.", self._create)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        inside = section(outer, "New project")
        paths = QFormLayout()
        paths.addRow("Photographs", self.photographs)
        paths.addRow(
            "",
            button(
                "Choose one file ...",
                "A photograph, a multi-page TIFF or an outline file.",
                self._browse_file,
            ),
        )
        paths.addRow("Project", self.folder)
        inside.addLayout(paths)
        for widget in (
            self.look,
            self.form,
            *self.offers.values(),
            self.scale_bar,
            self.direction,
            self.missing,
            self.make,
        ):
            inside.addWidget(widget)
        for name, offer in self.offers.items():
            offer.clicked.connect(partial(self._take_offer, name))
            offer.hide()
        self.look.hide()
        self.photographs.changed.connect(self._on_photographs)
        self.folder.line.textChanged.connect(self._show_missing)
        self.form.changed.connect(self._show_missing)
        jobs.runner.stopped.connect(self._look_at_chosen)
        session.photographs_dropped.connect(self.take_dropped)
        self.take_dropped()
        self._show_missing()

    def take_dropped(self) -> None:
        """Fill in the photographs that lie in the viewer, where none were chosen so."""
        dropped = self.session.photographs
        if dropped is not None and str(dropped) != self.photographs.text:
            self._choose(str(dropped))

    def _choose(self, photographs: str) -> None:
        self.photographs.text = photographs
        self._on_photographs(photographs)

    def _browse_file(self) -> None:
        row = PathRow("stack file", Pick.OPEN_FILE)
        row.browse()
        if row.text:
            self._choose(row.text)

    def _on_photographs(self, text: str) -> None:
        path = Path(text).expanduser()
        if not text or (self._look is not None and self._look.path == path):
            return
        proposed = path.with_name(f"{project_name(path)}.fossil")
        writable = os.access(proposed.parent, os.W_OK)
        self.folder.text = str(proposed if writable else Path.home() / proposed.name)
        self._look, self._waiting = None, path
        for each in (self.look, *self.offers.values()):
            each.hide()
        self.form.fill(pixel_size="", slice_spacing="")
        self._look_at_chosen()

    def _look_at_chosen(self) -> None:
        if self._waiting is not None and not self.jobs.runner.is_running:
            path, self._waiting = self._waiting, None
            self.jobs.start(
                "Looking at the photographs",
                look_at_stack,
                path,
                in_process=False,
                then=self._show_look,
            )
        self._show_missing()

    def _show_look(self, look: StackLook) -> None:
        if self._waiting is not None:
            return
        self._look = look
        self._show_photographs(look)
        self.look.setText(look.text())
        self.look.show()
        # Of one slice, whatever stands here changes nothing that can be measured in it.
        for name in ("slice_spacing", "z_direction"):
            self.form.show_row(name, look.slices > 1)
        self.direction.setVisible(look.slices > 1)
        self.form.fill(slice_spacing="" if look.slices > 1 else 1.0)
        pixel, spacing, origin = look.suggested or (None, None, "")
        sizes = {"pixel_size": ("pixels", pixel), "slice_spacing": ("slice spacing", spacing)}
        for name, (what, size) in sizes.items():
            if size:
                text = f"The file says {what} of {number_text(float(f'{size:.6g}'))} um: use it"
                self.offers[name].setText(text)
                self.offers[name].setToolTip(f"By {origin}.")
                self.offers[name].show()
        self._show_missing()

    def _show_photographs(self, look: StackLook) -> None:
        """Show the photographs in pixels, in place of others that were chosen before."""
        self.session.photographs = look.path
        layers, data = self.session.viewer.layers, look.layer
        old = {lay.metadata[PHOTOGRAPHS]: lay for lay in layers if PHOTOGRAPHS in lay.metadata}
        there = old.pop(str(look.path), None)
        for layer in old.values():
            layers.remove(layer)
        if there is None and self.session.project is None:
            layers.append(Layer.create(*data))
            self.session.viewer.reset_view()

    def _take_offer(self, name: str) -> None:
        if self._look is not None and self._look.suggested is not None:
            self.form.fill(**{name: getattr(self._look.suggested, f"{name}_um")})

    def _take_measured(self, size: float) -> None:
        # Two clicks are not more exact than that.
        self.form.fill(pixel_size=float(f"{size:.4g}"))

    def _show_missing(self) -> None:
        """Enable the button once nothing is missing; else say what is."""
        missing = self.form.problem()
        if not self.folder.text:
            missing = "Choose where the project is to lie."
        if self._look is None:
            missing = "Choose photographs, or drop their folder on the window."
            if self.photographs.text:
                missing = "These photographs cannot be used."
        if self.jobs.runner.is_running:
            missing = "Please wait."
        self.missing.setText(missing)
        self.missing.setVisible(bool(missing))
        self.make.setEnabled(not missing)

    def _create(self) -> None:
        params = self.form.read()
        stack, project = self.photographs.path(), self.folder.path()
        open_made = opens_made(self.session)

        def opened(result: Any) -> None:
            for warning in getattr(result, "warnings", ()):
                show_done(warning)
            # Its marks are in pixels, and the rock will be in um.
            self.scale_bar.stop()
            open_made(project)

        self.jobs.start(
            "Making the project", new.run, project, stack, params, in_process=False, then=opened
        )
