"""The step *History*: all models and edits, and what can be done with one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QDialog,
    QHeaderView,
    QInputDialog,
    QPlainTextEdit,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_fossiledit.errors import FossilError
from napari_fossiledit.project.history import HistoryEntry
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import errors_shown, show_done
from napari_fossiledit.widgets.common.paths import Pick, ask_path
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, note
from napari_fossiledit.widgets.probe_edit.judge import MEASURES
from napari_fossiledit.workflows.edit import decide as edits
from napari_fossiledit.workflows.shared.model_refs import history_of, in_use, set_in_use

HELP = (
    "Every edit is stored beside its model, which it never changes. Choose one to use it, to roll "
    "it back, or to make another edit from it."
)
_HEADINGS = ("Model or edit", "State", "IoU gain")
_FIGURES = ("precision", "recall", "iou")
_NAME = int(Qt.ItemDataRole.UserRole)
_RECORD_SIZE = (620, 640)
# Names of edits have at most 64 characters.
_LONGEST_PROPOSAL = 60


class History(QWidget):
    """All models and edits as a tree, and what can be done with one.

    Signals
    -------
    chosen(str)
        The user opened this edit.
    """

    chosen = Signal(str)

    def __init__(self, session: Session, jobs: JobPanel) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.tree = QTreeWidget()
        self.about = note("")
        self.tree.setHeaderLabels(list(_HEADINGS))
        # Little indentation and no arrows: the dock is narrow.
        self.tree.setRootIsDecorated(False)
        self.tree.setIndentation(12)
        self.tree.setMinimumHeight(200)
        self.tree.setSelectionMode(QTreeWidget.SelectionMode.ExtendedSelection)
        self.tree.setAccessibleName("Models and edits")
        head = self.tree.header()
        if head is not None:
            head.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            head.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
            head.setStretchLastSection(False)
        self.tree.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        column = QVBoxLayout(self)
        column.addWidget(note(HELP))
        column.addWidget(self.tree)
        column.addWidget(self.about)
        column.addWidget(
            beside(
                button("Use this", "Use the edit, or the model, from now on.", self.use),
                button("Roll back", "Use what it was made from again.", self.roll_back),
            )
        )
        column.addWidget(
            beside(
                button("Look at it", "Show its figures and its strength slider.", self._look),
                button("Show record", "Show everything that is stored about it.", self.show_record),
            )
        )
        column.addWidget(
            beside(
                button("Export ...", "Write the model with its edits as a folder.", self.export),
                button("Invert ...", "Make an edit that cancels this one.", self.invert),
                button("Compose ...", "Make one edit, the sum of the chosen ones.", self.compose),
            )
        )
        column.addStretch(1)
        self.tree.currentItemChanged.connect(
            lambda item, _: self.about.setText("" if item is None else item.toolTip(0))
        )
        self.tree.itemDoubleClicked.connect(self._on_double_click)
        session.edits_changed.connect(self.refresh)
        session.models_changed.connect(self.refresh)

    # ------------------------------------------------------------------ content

    def refresh(self) -> None:
        """Show the models and edits of the project that is open now."""
        project = self.session.project
        chosen = self.names
        self.tree.clear()
        self.about.setText("")
        if project is None:
            return
        used = in_use(project)
        # The items from the top down to the one before, of which the next one may be a child.
        path: list[QTreeWidgetItem] = []
        for entry in history_of(project):
            item = _item(entry, is_used=entry.name == used)
            del path[entry.depth :]
            if path:
                path[-1].addChild(item)
            else:
                self.tree.addTopLevelItem(item)
            path.append(item)
            item.setSelected(entry.name in chosen)
        self.tree.expandAll()

    @property
    def names(self) -> list[str]:
        """Names of the chosen models and edits, in the order in which they were chosen."""
        return [item.data(0, _NAME) for item in self.tree.selectedItems()]

    def one(self) -> str:
        """Return the name of the one edit that is chosen.

        Raises
        ------
        FossilError
            Where none, or several, or a model is chosen.
        """
        names = self.names
        if len(names) != 1 or names[0] not in self.session.current.edits.names():
            raise FossilError(
                "This needs one edit",
                expected="one edit, chosen in the tree",
                found=", ".join(names) or "nothing chosen",
            )
        return names[0]

    # ------------------------------------------------------------------ actions

    def use(self) -> None:
        """Use the chosen edit, or a model without any."""
        names = self.names
        if not names or names[0] in self.session.current.edits.names():
            self._run("Keeping", f"{self.one()} is kept and in use.", edits.apply, self.one())
            return
        set_in_use(self.session.writable, names[0])
        self.session.models_changed.emit()
        show_done(f"{names[0]} is in use.")

    def roll_back(self) -> None:
        """Use what the chosen edit was made from again."""
        self._run("Rolling back", f"{self.one()} is rolled back.", edits.rollback, self.one())

    def export(self) -> None:
        """Write the model with the chosen edit to a folder."""
        name = self.one()
        chosen = ask_path(self, Pick.FOLDER, f"Folder to put the model {name} into")
        if chosen:
            folder = Path(chosen) / name
            done = f"{name} is written as a model into {folder}."
            self._run("Exporting", done, edits.export, name, folder)

    def invert(self) -> None:
        """Make an edit that cancels the chosen one."""
        name = self.one()
        new = self._ask_name(f"{name}-inverse")
        if new:
            done = f"The edit {new} is made: it cancels {name}."
            self._run("Inverting", done, edits.invert, name, new)

    def compose(self) -> None:
        """Make one edit of the chosen ones, their sum."""
        names = self.names or [self.one()]
        new = self._ask_name("+".join(names)[:_LONGEST_PROPOSAL])
        if new:
            done = f"The edit {new} is made: the sum of {' and '.join(names)}."
            self._run("Adding up edits", done, edits.compose, names, new)

    def show_record(self) -> None:
        """Show the record of the chosen edit in a window."""
        record = edits.show(self.session.current.path, self.one()).summary()
        window = QDialog(self)
        window.setWindowTitle(f"Edit {record['name']}")
        window.resize(*_RECORD_SIZE)
        text = QPlainTextEdit(json.dumps(record, indent=2, default=str))
        text.setReadOnly(True)
        QVBoxLayout(window).addWidget(text)
        # Else every record that was shown stays in memory as long as the page.
        window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        window.show()

    def _ask_name(self, proposed: str) -> str:
        text, accepted = QInputDialog.getText(
            self, "New edit", "Name of the new edit", text=proposed
        )
        return text.strip() if accepted else ""

    def _run(self, title: str, done: str, function: Callable[..., object], *args: object) -> None:
        def told(_: object) -> None:
            show_done(done)
            self.session.models_changed.emit()
            self.session.edits_changed.emit()

        path = self.session.current.path
        self.jobs.start(title, function, path, *args, then=self.session.while_open(told))

    def _look(self) -> None:
        self.chosen.emit(self.one())

    def _on_double_click(self) -> None:
        with errors_shown():
            self._look()


def _item(entry: HistoryEntry, *, is_used: bool) -> QTreeWidgetItem:
    """Return a row of the tree; its tooltip holds what the columns have no room for."""
    state = "" if entry.state is None else str(entry.state).replace("_", " ")
    before, after = entry.figures.get("iou", (None, None))
    gain = "" if before is None or after is None else f"{after - before:+.3f}"
    title = f"{'● ' if is_used else ''}{'⚠ ' if entry.problem else ''}{entry.name}"
    row = [title, state or ("in use" if is_used else ""), gain]
    item = QTreeWidgetItem(row)
    item.setData(0, _NAME, entry.name)
    about = ["In use."] if is_used else []
    if entry.figures:
        pairs = (f"{MEASURES[name]} {_pair_text(entry, name)}" for name in _FIGURES)
        about.append(f"On the pinned slices, at strength {entry.judged_at:g}: {', '.join(pairs)}.")
    if entry.strength is not None:
        about.append(f"Its strength is {entry.strength:g}.")
    created = entry.created[:16].replace("T", " ")
    about += filter(None, (entry.problem, entry.note, created))
    for column in range(len(_HEADINGS)):
        item.setToolTip(column, " ".join(about))
    return item


def _pair_text(entry: HistoryEntry, name: str) -> str:
    """Return a figure before and after the edit, empty where it was not judged."""
    pair = entry.figures.get(name)
    if pair is None:
        return ""
    return " → ".join("-" if value is None else f"{value:.3f}" for value in pair)
