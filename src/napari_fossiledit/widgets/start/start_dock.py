"""The page *Start here*: a project in three ways, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import napari
from qtpy.QtWidgets import QGridLayout, QLabel, QTextBrowser

import napari_fossiledit
from napari_fossiledit.errors import FossilError
from napari_fossiledit.project import EditState, Project
from napari_fossiledit.widgets.canvas.project_view import open_project, opens_made
from napari_fossiledit.widgets.canvas.shortcuts import (
    NAVIGATING,
    PAINTING,
    PROBING,
    UNDOING,
    Shortcut,
    help_text,
)
from napari_fossiledit.widgets.common.message_board import show_in_window
from napari_fossiledit.widgets.common.notices import counted
from napari_fossiledit.widgets.common.paths import Pick, ask_path
from napari_fossiledit.widgets.dock import Dock, button, fold, note, section
from napari_fossiledit.widgets.probe_edit.probe_edit_dock import TITLE as PROBE_EDIT
from napari_fossiledit.widgets.reef.reef_dock import TITLE as REEF
from napari_fossiledit.widgets.review.review_dock import TITLE as REVIEW
from napari_fossiledit.widgets.segment.segment_dock import TITLE as SEGMENT
from napari_fossiledit.widgets.stack.stack_dock import TITLE as STACK
from napari_fossiledit.workflows.sample.reef import make_sample_project
from napari_fossiledit.workflows.shared.model_refs import standing
from napari_fossiledit.workflows.shared.specimens import count_linked

TITLE = "Start here"
WELCOME = (
    "<h3>From ground-away slices to a reef in 3D</h3>"
    "Begin with your own photographs, or try everything on a small made-up reef first."
)
TUTORIAL = Path(napari_fossiledit.__file__).parent / "tutorial" / "tutorial.md"
_OTHER_KEYS = (Shortcut("Left / Right", "previous / next slice", lambda _: None),)


@dataclass(frozen=True)
class Step:
    """One line of the way from photographs to fossils.

    Attributes
    ----------
    title, state
        What is to be done, and how much of it is done.
    done
        Whether all of it is done.
    page
        Title of the page where it is done.
    """

    title: str
    state: str
    done: bool
    page: str


@dataclass(frozen=True)
class Advice:
    """The one thing to do next, why, and the title of the page where it is done."""

    what: str
    why: str
    page: str


def way_of(project: Project) -> tuple[Advice, list[Step]]:
    """Return what to do next in a project, and how far each step is.

    Trainings that were stopped are no models, edits that were rolled back no edits, and what
    either of them found does not count.
    """
    slices, ledger = project.shape[0], project.ledger
    traced, specimens = len(ledger.traced()), count_linked(project)
    models = [name for name in project.models() if not standing(project, name)]
    trusted = (s.slices for s in ledger.predictions() if not standing(project, s.source.model))
    predicted = max(trusted, default=0)
    states = [record.state for record in project.edits.sound()]
    kept, proposed = states.count(EditState.KEPT), states.count(EditState.PROPOSED)
    edits = [f"{kept} kept"] * (kept > 0) + [f"{proposed} to be judged"] * (proposed > 0)

    steps = [
        Step("Photographs", counted(slices, "slice"), True, STACK),
        Step("Found by a model", f"{predicted} of {slices}", predicted == slices, SEGMENT),
        Step("Traced by hand", f"{traced} of {slices}", traced > 0, REVIEW),
        Step("Own models", ", ".join(models) or "none yet", bool(models), SEGMENT),
        Step("Fossils in 3D", str(specimens) if specimens else "none yet", specimens > 0, REEF),
        Step("Edits", ", ".join(edits) or "none yet", kept > 0, PROBE_EDIT),
    ]
    if not predicted:
        advice = Advice(
            "let the model find the fossils",
            "A model outlines them on every slice; what is wrong can be corrected afterwards.",
            SEGMENT,
        )
    elif not traced:
        advice = Advice(
            "correct one slice by hand",
            "Slices on which every fossil is traced teach a model, and show how good it is.",
            REVIEW,
        )
    elif predicted < slices:
        advice = Advice(
            "let the model go on",
            f"{slices - predicted} of {slices} slices were not looked at yet.",
            SEGMENT,
        )
    elif not specimens:
        advice = Advice(
            "join the outlines to fossils",
            "Outlines that overlap from slice to slice become one fossil in 3D.",
            REEF,
        )
    elif not kept:
        advice = Advice(
            "judge the edit of the model" if proposed else "see what misleads the model",
            "A mistake that the model makes again and again can be mended without a new training.",
            PROBE_EDIT,
        )
    else:
        advice = Advice("measure and export the fossils", "Every step is done once.", REEF)
    return advice, steps


class StartHere(Dock):
    """Open, make or try a project, and see what to do next in it."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, TITLE, WELCOME)
        inside = section(self.column, "What to do next")
        self.why = note("")
        self.next = button("", "", lambda: self.session.page_requested.emit(self._page))
        self.next.setMinimumHeight(34)
        self._page = SEGMENT
        inside.addWidget(self.why)
        inside.addWidget(self.next)
        self.grid = QGridLayout()
        self.grid.setColumnStretch(1, 1)
        section(self.column, "How far it is").addLayout(self.grid)
        self.openers = [
            button(
                "New project from photographs ...",
                "Make a project of a folder with one photograph per slice.",
                self._new,
            ),
            button("Open project ...", "Open a folder NAME.fossil.", self._open),
            button(
                "Try the sample reef",
                "Make a small made-up reef in a folder of your choice and open it.",
                self._sample,
            ),
        ]
        for opener in self.openers:
            self.always.addWidget(opener)
        tip = "Read how photographs become fossils, step by step, with pictures."
        self.tutorial = button("Open tutorial", tip, self.open_tutorial)
        self.always.addWidget(self.tutorial)
        keys = fold(self.always, "Keys")
        keys.addWidget(note(help_text(NAVIGATING + PAINTING + UNDOING + PROBING + _OTHER_KEYS)))
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
        project = self.session.project
        for opener in self.openers:
            # They lead while nothing is open.
            opener.setMinimumHeight(0 if project else 40)
        while (item := self.grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        if project is None:
            return
        advice, steps = way_of(project)
        self._page = advice.page
        self.why.setText(advice.why)
        self.next.setText(f"Next: {advice.what}")
        self.next.setToolTip(f"Opens the page {advice.page}.")
        for row, step in enumerate(steps):
            self._add(row, step)

    def _add(self, row: int, step: Step) -> None:
        mark = QLabel("✓" if step.done else "○")
        mark.setAccessibleName("done" if step.done else "to do")
        # A single & would mark a key to press.
        go = button(
            step.page.replace("&", "&&"),
            f"Open the page {step.page}.",
            lambda: self.session.page_requested.emit(step.page),
        )
        self.grid.addWidget(mark, row, 0)
        self.grid.addWidget(note(f"<b>{step.title}</b>: {step.state}"), row, 1)
        self.grid.addWidget(go, row, 2)

    # ---------------------------------------------------------------- actions

    def open_tutorial(self) -> None:
        """Open the tutorial, which is part of the package: it is there without a network."""
        text = QTextBrowser()
        text.setOpenExternalLinks(True)
        text.setSearchPaths([str(TUTORIAL.parent)])
        text.setMarkdown(TUTORIAL.read_text("utf-8"))
        show_in_window(self, "Tutorial", text)

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
        open_made = opens_made(self.session)

        def made(project: Path) -> None:
            if open_made(project):
                self.session.soon(lambda: self.session.page_requested.emit(SEGMENT))

        self.jobs.start("Making the sample reef", make_sample_project, folder, then=made)
