"""The dock *Stack*: photographs, traced slices, import and export of annotations."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import napari
from qtpy.QtCore import QFileSystemWatcher, QTimer
from qtpy.QtWidgets import QFormLayout, QPushButton, QSpinBox, QVBoxLayout, QWidget

from napari_fossiledit.geometry import parse_slices
from napari_fossiledit.params.annotations import (
    Crowd,
    ExportParams,
    Holes,
    ImportParams,
    OutlinePart,
)
from napari_fossiledit.params.stack import ConvertParams
from napari_fossiledit.stacks import find_warnings
from napari_fossiledit.stacks.listing import enumerated
from napari_fossiledit.widgets.canvas import navigation
from napari_fossiledit.widgets.canvas.correcting import show_labels
from napari_fossiledit.widgets.canvas.regions import draw_area, drawn_area
from napari_fossiledit.widgets.common.fold import Fold
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec
from napari_fossiledit.widgets.common.notices import (
    counted,
    errors_shown,
    show_done,
    show_error,
    show_result,
)
from napari_fossiledit.widgets.common.paths import PathRow, Pick, ask_path
from napari_fossiledit.widgets.dock import Dock, beside, button, fold, note, section
from napari_fossiledit.widgets.stack.align_panel import AlignPanel
from napari_fossiledit.widgets.stack.new_project import NewProject
from napari_fossiledit.widgets.stack.scale_bar_panel import ScaleBarCheck
from napari_fossiledit.workflows.annotate.files import (
    ExportResult,
    ImportResult,
    export_annotations,
    import_annotations,
)
from napari_fossiledit.workflows.shared.stale import left_to_convert
from napari_fossiledit.workflows.stack import append, convert
from napari_fossiledit.workflows.stack.append import new_photographs

TITLE = "Stack"
EMPTY = (
    "<b>No project is open.</b><br>A project holds the photographs of one rock, what you traced, "
    'the models and the fossils in 3D. Make one below, or open one on the page "Start here".'
)
PART = (
    "A slice that is completely annotated is marked below the slices: right-click its cell there. "
    "Where only a part of it is, draw around that part."
)
TO_ANNOTATE = (
    "<b>Show the program some fossils.</b> Import what was traced in another program, below, or "
    "trace a slice by hand."
)
TO_TRAIN = (
    "<b>Train a model</b> on what is traced; it then finds the fossils in all other slices. Mark "
    "the slices on which every fossil is annotated: right-click their cell below the slices."
)
NO_CHANGES = "The project is read-only: you can look at everything, and change nothing."
REVIEW, SEGMENT = "Review", "Segment"
_CONVERT = "Convert for quick stepping"
#: So long a folder has to rest before it is looked into again.
_REST_MS = 1000
IMPORT_LABELS = {
    "class_name": "Only this kind",
    "slices": "Only these slices",
    "unsure": "All are unsure",
    "part": "Masks cover",
    "crowd": "Crowds (iscrowd)",
    "holes": "Inner outlines",
    "split_parts": "Split parts apart",
}
# Three fields have an "auto" of their own, which stays as it is.
IMPORT_WORDS: dict[Enum, str] = {
    OutlinePart.BODY: "whole fossils",
    OutlinePart.CAVITY: "cavities",
    Crowd.INSTANCES: "are fossils",
    Crowd.UNSURE: "are unsure",
    Holes.FILL: "are filled",
}
_FILES = "Annotations (*.json *.mat *.tif *.tiff *.png *.zip);;All files (*)"


class StackDock(Dock):
    """Create a project, look at its stack, mark and exchange annotated slices."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, TITLE, EMPTY)
        self.new = NewProject(self.session, self.jobs)
        self.empty_column.addWidget(self.new)
        self._build_info()
        self._build_next()
        self._build_exchange()
        self._build_navigation()
        self._build_tracing()
        self._build_check()
        self.jobs.runner.stopped.connect(self._show_convert)
        self.session.slice_changed.connect(self._show_slice)
        self.session.annotations_changed.connect(self._show_next)
        self.session.models_changed.connect(self._show_next)
        self._on_project()

    # ----------------------------------------------------------------- layout

    def _build_info(self) -> None:
        self.info = note("")
        self.convert = button(
            _CONVERT,
            "Copy the photographs into the project as a pyramid; large slices then show at once.",
            self._convert,
        )
        inside = section(self.column, "Stack")
        self.added = note("")
        self.append = button(
            "Add the new photographs",
            "Take them in as slices behind those that are there, which keep their numbers.",
            self._append,
        )
        for widget in (self.info, self.added, self.append, self.convert):
            inside.addWidget(widget)
        self.looking = JobRunner(self)
        self.looking.done.connect(self._show_added)
        self.looking.failed.connect(show_error)
        self._folder = QFileSystemWatcher(self)
        # Copying many photographs changes their folder as often.
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self._look)
        self._folder.directoryChanged.connect(self._rest.start)

    def _build_check(self) -> None:
        self.check = ScaleBarCheck(self.session)
        fold(self.column, "Check the pixel size").addWidget(self.check)
        self.align = AlignPanel(self.session, self.jobs)
        fold(self.column, "Lay the slices over each other").addWidget(self.align)

    def _build_navigation(self) -> None:
        inside = section(self.column, "Go to")
        self.slice = QSpinBox()
        self.slice.setAccessibleName("Slice")
        self.slice.setToolTip("Slice to show, counted from 0.")
        self.slice.setKeyboardTracking(False)
        self.slice.valueChanged.connect(self.session.go_to)
        self.name = note("")
        form = QFormLayout()
        form.addRow("Slice", self.slice)
        form.addRow("Photograph", self.name)
        inside.addLayout(form)
        inside.addWidget(
            beside(self._step_button("Previous traced", -1), self._step_button("Next traced", 1))
        )

    def _step_button(self, text: str, direction: int) -> QPushButton:
        return button(
            text,
            "Show the nearest slice that is traced or annotated.",
            lambda: navigation.step(self.session, direction),
            shortcut="Shift-Right" if direction > 0 else "Shift-Left",
        )

    def _build_next(self) -> None:
        self.next = note("")
        self.by_hand = button(
            "Trace by hand", "Paint fossils on the slice on show.", lambda: self._go(REVIEW)
        )
        self.train = button("Train a model", "On the traced slices.", lambda: self._go(SEGMENT))
        inside = section(self.column, "Next")
        for widget in (self.next, self.by_hand, self.train):
            inside.addWidget(widget)
        self.next_box = self.next.parentWidget()

    def _go(self, page: str) -> None:
        self.session.page_requested.emit(page)

    def _build_tracing(self) -> None:
        inside = fold(self.column, "Trace only a part of a slice")
        inside.addWidget(note(PART))
        inside.addWidget(
            beside(
                button(
                    "Draw area",
                    "Draw rectangles or polygons around the part that is completely annotated.",
                    lambda: draw_area(self.session),
                ),
                button("Use drawn area", "Mark the drawn part as traced.", self._trace_drawn),
            )
        )

    def _build_exchange(self) -> None:
        content = QWidget()
        inside = QVBoxLayout(content)
        inside.setContentsMargins(4, 0, 0, 0)
        self.exchange = Fold("Import and export annotations", content)
        self.column.addWidget(self.exchange)
        self.file = PathRow(
            "annotation file", Pick.OPEN_FILE, "COCO, label image or outlines.", _FILES
        )
        self.importing = ParamsForm(
            ImportParams,
            hidden=("file",),
            advanced=("texture", "unsure", "part", "crowd", "holes"),
            labels=IMPORT_LABELS,
            words=IMPORT_WORDS,
        )
        inside.addWidget(self.file)
        inside.addWidget(self.importing)
        inside.addWidget(
            beside(
                button("Import", "Read annotations of one or more slices.", self._import),
                button("Export ...", "Write all annotations as COCO with RLE.", self._export),
            )
        )

    # ---------------------------------------------------------------- showing

    def refresh(self) -> None:
        """Show the project that is open now."""
        project = self.session.project
        for folder in self._folder.directories():
            self._folder.removePath(folder)
        self._look()
        if project is None:
            return
        if project.photographs.kind == "folder":
            self._folder.addPath(str(project.photographs.path))
        z, y, x = project.shape
        size = project.geometry.voxel_size
        extent = [n * s for n, s in zip((x, y, z), (size.x, size.y, size.z), strict=True)]
        scale, unit = (1, "um") if max(extent) < 1000 else (1000, "mm")
        lengths = " x ".join(f"{length / scale:.4g}" for length in extent)
        lines = [
            f"<b>{project.path.name}</b>{' (read-only)' if project.read_only else ''}",
            f"{z} slice{'s' * (z > 1)} of {x} x {y} pixels",
            f"Voxel {size.x:g} x {size.y:g} x {size.z:g} um, slices count "
            f"{project.geometry.z_direction.replace('_', ' ')} the rock",
            f"Rock of {lengths} {unit}",
            f"Classes: {', '.join(project.settings.classes)}",
        ]
        self.info.setText("<br>".join(lines))
        self._show_convert()
        self.slice.setRange(0, z - 1)
        self._show_next()
        self._show_slice(self.session.slice)
        # Last: photographs that are gone keep nothing else from being shown.
        self.info.setText("<br>".join(lines + [f"! {w}" for w in find_warnings(project.stack)]))

    def _show_convert(self) -> None:
        """Offer to convert, to go on where that was stopped, and to add what could not be read."""
        project = self.session.project
        if project is None:
            return
        left, in_use = left_to_convert(project), project.settings.stack.kind == "zarr"
        photographs = project.photographs.path.exists() and not project.read_only
        self.convert.setVisible(photographs and (bool(left) or not in_use))
        missing = f"the {len(left)} slices that are" if len(left) > 1 else "the slice that is"
        self.convert.setText(
            _CONVERT if not left else f"Convert {missing} {'missing' if in_use else 'left'}"
        )

    def _look(self) -> None:
        """Look for photographs that were added, in a thread: a folder may be far away."""
        self.looking.abandon()
        self._show_added([])
        if self.session.project is not None:
            path = self.session.project.path
            job = JobSpec("Looking for new photographs", new_photographs, (path,), False)
            self.looking.start(job)

    def _show_added(self, names: list[str]) -> None:
        count = f"{len(names)} new photographs lie" if len(names) > 1 else "A new photograph lies"
        listed = enumerated(names) if names else ""
        self.added.setText(f"<b>{count} beside those of the project</b>: {listed}")
        self.added.setVisible(bool(names))
        self.append.setVisible(bool(names) and not self.session.current.read_only)

    def _show_slice(self, z: int) -> None:
        project = self.session.project
        if project is None:
            return
        # Else the box would send the viewer to the slice that it shows already.
        self.slice.blockSignals(True)
        self.slice.setValue(z)
        self.slice.blockSignals(False)
        self.name.setText(project.names[z])

    def _show_next(self) -> None:
        """Say what to do next: fossils to learn from, then a model; nothing once there is one."""
        project = self.session.project
        if project is None:
            return
        annotated, models = project.ledger.annotated(), project.models()
        self.next.setText(
            NO_CHANGES if project.read_only else TO_TRAIN if annotated else TO_ANNOTATE
        )
        self.by_hand.setVisible(not annotated and not project.read_only)
        self.train.setVisible(bool(annotated) and not project.read_only)
        if self.next_box is not None:
            self.next_box.setVisible(project.read_only or not models)
        if not annotated and not project.read_only:
            self.exchange.open()

    # ---------------------------------------------------------------- actions

    def _trace_drawn(self) -> None:
        z = self.session.slice
        self.session.writable.ledger.set_traced(z, drawn_area(self.session, z))
        self.session.annotations_changed.emit()

    def _convert(self) -> None:
        project = self.session.writable
        then = self.session.while_open(self._converted)
        self.jobs.start(
            "Converting", convert.run, project.path, ConvertParams(), pausable=True, then=then
        )

    def _converted(self, result: convert.ConvertResult) -> None:
        held = counted(result.slices - len(result.failed), "slice")
        missing = f" {len(result.failed)} could not be read." if result.failed else ""
        show_result(f"The copy holds {held}: they now show at once.{missing}", result)
        self._reopen()

    def _append(self) -> None:
        project = self.session.writable
        then = self.session.while_open(self._appended)
        self.jobs.start("Adding photographs", append.run, project.path, then=then)

    def _appended(self, result: append.AppendResult) -> None:
        added = enumerated(result.added) if result.added else "Nothing"
        show_done("\n".join((f"{added} added: {result.slices} slices.", *result.warnings)))
        self._reopen()

    def _reopen(self) -> None:
        """Read the photographs from where the project has them now, and stay at the slice."""
        z = self.session.slice
        with errors_shown():
            self.session.open(self.session.current.path)
        self.session.go_to(z)

    def _import(self) -> None:
        project = self.session.writable
        self.importing.fix(file=self.file.path())
        params = self.importing.read()
        if params.slices:
            parse_slices(params.slices, project.shape[0])
        self.jobs.start(
            "Importing annotations",
            import_annotations,
            project.path,
            params,
            in_process=False,
            then=self.session.while_open(self._imported),
        )

    def _imported(self, result: ImportResult) -> None:
        fossils, slices = counted(result.instances, "fossil"), counted(len(result.slices), "slice")
        show_done("\n".join((f"{fossils} imported on {slices}.", *result.notes)))
        show_labels(self.session)
        self.session.annotations_changed.emit()

    def _export(self) -> None:
        project = self.session.current
        proposed = str(project.path.parent / f"{project.path.stem}.json")
        chosen = ask_path(self, Pick.SAVE_FILE, "Write annotations", proposed, "COCO (*.json)")
        if not chosen:
            return
        self.jobs.start(
            "Exporting annotations",
            export_annotations,
            project.path,
            ExportParams(file=Path(chosen)),
            in_process=False,
            then=self._exported,
        )

    def _exported(self, result: ExportResult) -> None:
        first = f"{counted(result.instances, 'fossil')} written to {result.file}."
        show_done("\n".join((first, *result.notes)))
