"""The dock *Start here*: a project in three ways, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import napari
from qtpy.QtCore import Qt
from qtpy.QtGui import QTextCursor
from qtpy.QtWidgets import QDialog, QGridLayout, QLabel, QPlainTextEdit, QVBoxLayout

from napari_fossiledit.errors import FossilError
from napari_fossiledit.log import log_file, read_log
from napari_fossiledit.models.files.places import shipped_models
from napari_fossiledit.project import EditState, Project
from napari_fossiledit.widgets.canvas.project_view import open_project
from napari_fossiledit.widgets.canvas.shortcuts import (
    NAVIGATING,
    PAINTING,
    PROBING,
    UNDOING,
    Shortcut,
    help_text,
)
from napari_fossiledit.widgets.common.paths import Pick, ask_path
from napari_fossiledit.widgets.dock import Dock, button, note, section
from napari_fossiledit.widgets.probe_edit.probe_edit_dock import TITLE as PROBE_EDIT
from napari_fossiledit.widgets.reef.reef_dock import TITLE as REEF
from napari_fossiledit.widgets.segment.segment_dock import TITLE as SEGMENT
from napari_fossiledit.widgets.stack.stack_dock import TITLE as STACK
from napari_fossiledit.workflows.sample.reef import make_sample_project
from napari_fossiledit.workflows.shared.specimens import count_linked

TITLE = "Start here"
WELCOME = (
    "<h3>From ground-away slices to a reef in 3D</h3>"
    "Begin with your own photographs, or try everything on a small made-up reef first."
)
_OTHER_KEYS = (Shortcut("Left / Right", "previous / next slice", lambda _: None),)


@dataclass(frozen=True)
class ChecklistStep:
    """One line of the checklist.

    Attributes
    ----------
    title, state
        What is to be done, and how much of it is done.
    done
        Whether all of it is done.
    dock
        Title of the dock where it is done.
    """

    title: str
    state: str
    done: bool
    dock: str


def steps_of(project: Project | None) -> list[ChecklistStep]:
    """Return how far a project is on the way from photographs to specimens."""
    if project is None:
        state = "Make a project of a folder of photographs."
        return [ChecklistStep("Photographs", state, False, STACK)]
    slices, ledger = project.shape[0], project.ledger
    traced, models = len(ledger.traced()), project.models()
    predicted = max((source.slices for source in ledger.predictions()), default=0)
    edits = [record.state for record in project.edits.sound()]
    kept = edits.count(EditState.KEPT)
    specimens = count_linked(project)

    return [
        ChecklistStep("Photographs", f"{slices} slices", True, STACK),
        ChecklistStep(
            "Traced slices",
            f"{traced} slices" if traced else "Import annotations, or trace a slice by hand.",
            traced > 0,
            STACK,
        ),
        ChecklistStep(
            "Model",
            ", ".join(models) or f"Train one, or use {', '.join(shipped_models())} as it is.",
            bool(models),
            SEGMENT,
        ),
        ChecklistStep(
            "Predictions",
            f"{predicted} of {slices} slices" if predicted else "Let a model find the fossils.",
            predicted == slices,
            SEGMENT,
        ),
        ChecklistStep(
            "Edits",
            f"{kept} of {len(edits)} kept" if edits else "See what misleads the model; rewrite it.",
            kept > 0,
            PROBE_EDIT,
        ),
        ChecklistStep(
            "Reef in 3D",
            f"{specimens} specimens" if specimens else "Link instances through the slices.",
            specimens > 0,
            REEF,
        ),
    ]


class StartHere(Dock):
    """Open, make or try a project, and see what to do next in it."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, TITLE, WELCOME)
        for opener in (
            button(
                "New project from photographs ...",
                "Make a project of a folder with one photograph per slice.",
                self._new,
            ),
            button("Open project ...", "Open a folder NAME.fossil.", self._open),
            button(
                "Try the sample reef",
                "Make a small procedural reef in a folder of your choice and open it.",
                self._sample,
            ),
        ):
            opener.setMinimumHeight(34)
            self.always.addWidget(opener)
        self.grid = QGridLayout()
        self.grid.setColumnStretch(1, 1)
        section(self.always, "What to do next").addLayout(self.grid)
        keys = section(self.always, "Keys")
        keys.addWidget(note(help_text(NAVIGATING + PAINTING + UNDOING + PROBING + _OTHER_KEYS)))
        section(self.always, "Help").addWidget(
            button("Show log", "Show what the program did, also after an error.", self.show_log)
        )
        for signal in (
            self.session.annotations_changed,
            self.session.models_changed,
            self.session.predictions_changed,
            self.session.specimens_changed,
            self.session.edits_changed,
        ):
            signal.connect(self.refresh)
        self._on_project()

    def refresh(self) -> None:
        """Show how far the open project is."""
        while (item := self.grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        for row, step in enumerate(steps_of(self.session.project)):
            self._add(row, step)

    def _add(self, row: int, step: ChecklistStep) -> None:
        mark = QLabel("✓" if step.done else "○")
        mark.setAccessibleName("done" if step.done else "to do")
        mark.setStyleSheet("font-size: 18px;" + ("color: #5fd38d;" if step.done else ""))
        # A single & would mark a key to press.
        go = button(
            step.dock.replace("&", "&&"),
            f"Open the dock {step.dock}.",
            lambda: self.session.page_requested.emit(step.dock),
        )
        self.grid.addWidget(mark, row, 0)
        self.grid.addWidget(note(f"<b>{step.title}</b><br>{step.state}"), row, 1)
        self.grid.addWidget(go, row, 2)

    # ---------------------------------------------------------------- actions

    def show_log(self) -> QDialog:
        """Open a window with the end of the log file."""
        dialog = QDialog(self)
        dialog.setWindowTitle(f"Log: {log_file()}")
        text = QPlainTextEdit(read_log())
        text.setReadOnly(True)
        text.moveCursor(QTextCursor.MoveOperation.End)
        QVBoxLayout(dialog).addWidget(text)
        dialog.resize(900, 600)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.show()
        return dialog

    def _new(self) -> None:
        self.session.close()
        self.session.page_requested.emit(STACK)

    def _open(self) -> None:
        chosen = ask_path(self, Pick.FOLDER, "Open a project (a folder NAME.fossil)")
        if chosen:
            open_project(self.session, Path(chosen))

    def _sample(self) -> None:
        chosen = ask_path(self, Pick.FOLDER, "Choose a folder for the sample reef")
        if chosen:
            self.make_sample(Path(chosen) / "sample-reef")

    def make_sample(self, folder: Path) -> None:
        """Make the sample reef in `folder`, which must not exist yet, and open its project.

        Raises
        ------
        FossilError
            Where the folder exists already.
        """
        if folder.exists():
            raise FossilError(
                f"{folder} exists already",
                advice="Open the project in it, or choose another folder.",
            )
        self.jobs.start("Making the sample reef", make_sample_project, folder, then=self._made)

    def _made(self, project: Path) -> None:
        open_project(self.session, project)
        self.session.page_requested.emit(SEGMENT)
