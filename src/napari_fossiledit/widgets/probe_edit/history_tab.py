"""The page *History* of the dock *Probe & Edit*."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
from napari_fossiledit.widgets.common.notices import errors_shown, show_done, summary_text
from napari_fossiledit.widgets.common.paths import Pick, ask_path
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, note
from napari_fossiledit.widgets.probe_edit.judged_table import MEASURES
from napari_fossiledit.workflows.edit import decide as edits
from napari_fossiledit.workflows.shared.model_refs import history_of, in_use, set_in_use

HELP = (
    "Every edit is kept beside its model, which it never changes. Choose one to use it, to take it "
    "back, or to make another one of it."
)
_HEADINGS = ("Model or edit", "State", "P", "R", "IoU", "Strength")
_FIGURES = ("precision", "recall", "iou")
_NAME = int(Qt.ItemDataRole.UserRole)
_SIZE = (620, 640)


class HistoryPage(QWidget):
    """All models and edits as a tree, and what can be done with one.

    Signals
    -------
    chosen(str)
        The user wants to look at this edit.
    """

    chosen = Signal(str)

    def __init__(self, session: Session, jobs: JobPanel) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.tree = QTreeWidget()
        self.about = note("")
        self._dress()
        column = QVBoxLayout(self)
        column.addWidget(note(HELP))
        column.addWidget(self.tree)
        column.addWidget(self.about)
        for row in self._rows():
            column.addWidget(beside(*row))
        column.addStretch(1)
        self.tree.currentItemChanged.connect(self._tell)
        self.tree.itemDoubleClicked.connect(self._on_double_click)
        session.edits_changed.connect(self.refresh)
        session.models_changed.connect(self.refresh)

    def _dress(self) -> None:
        self.tree.setHeaderLabels(list(_HEADINGS))
        self.tree.setRootIsDecorated(False)
        self.tree.setIndentation(12)
        self.tree.setMinimumHeight(200)
        self.tree.setSelectionMode(QTreeWidget.SelectionMode.ExtendedSelection)
        self.tree.setAccessibleName("Models and edits")
        head = self.tree.header()
        if head is not None:
            head.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            head.setStretchLastSection(False)

    def _rows(self) -> Sequence[Sequence[QWidget]]:
        def made(text: str, tip: str, action: Callable[[], object]) -> QWidget:
            return button(text, tip, action)

        return (
            (
                made("Use this", "Use the edit, or the model, from now on.", self.use),
                made("Roll back", "Use what it was made from again.", self.roll_back),
            ),
            (
                made("Look at it", "Show its figures and its strength slider.", self._look),
                made("Show record", "Show all that is known of it.", self.show_record),
            ),
            (
                made("Export ...", "Write the model with its edits as a folder.", self.export),
                made("Invert ...", "Make an edit that takes this one away.", self.invert),
                made("Compose ...", "Add up the chosen edits to a new one.", self.compose),
            ),
        )

    # ------------------------------------------------------------------ content

    def refresh(self) -> None:
        """Show the models and edits of the project that is open now."""
        project = self.session.project
        kept = self.names
        self.tree.clear()
        self.about.setText("")
        if project is None:
            return
        used = in_use(project)
        path: list[QTreeWidgetItem] = []
        for entry in history_of(project):
            item = _item(entry, is_used=entry.name == used)
            del path[entry.depth :]
            if path:
                path[-1].addChild(item)
            else:
                self.tree.addTopLevelItem(item)
            path.append(item)
            item.setSelected(entry.name in kept)
        self.tree.expandAll()

    @property
    def names(self) -> list[str]:
        """Names of what is chosen, in the order it was chosen."""
        return [item.data(0, _NAME) for item in self.tree.selectedItems()]

    def one(self) -> str:
        """Name of the one edit that is chosen.

        Raises
        ------
        FossilError
            Where none, or several, or a model is chosen.
        """
        names, known = self.names, self.session.current.edits.names()
        if len(names) != 1 or names[0] not in known:
            raise FossilError(
                "This needs one edit",
                expected="one edit, chosen in the tree",
                found=", ".join(names) or "nothing chosen",
            )
        return names[0]

    # ------------------------------------------------------------------ actions

    def use(self) -> None:
        """Use the chosen edit, or a model without any."""
        if self.names and self.names[0] not in self.session.current.edits.names():
            self._use_model(self.names[0])
            return
        self._run("Keeping", edits.apply, self.one())

    def _use_model(self, name: str) -> None:
        set_in_use(self.session.writable, name)
        self.session.models_changed.emit()
        show_done(f"{name} is in use.")

    def roll_back(self) -> None:
        """Take the chosen edit back."""
        self._run("Rolling back", edits.rollback, self.one())

    def export(self) -> None:
        """Write the model with the chosen edit to a folder."""
        name = self.one()
        chosen = ask_path(self, Pick.FOLDER, f"Folder to put the model {name} into")
        if chosen:
            self._run("Exporting", edits.export, name, Path(chosen) / name)

    def invert(self) -> None:
        """Make an edit that takes the chosen one away."""
        name = self.one()
        new = self._ask_name(f"{name}-inverse")
        if new:
            self._run("Inverting", edits.invert, name, new)

    def compose(self) -> None:
        """Add up the chosen edits."""
        names = self.names
        new = self._ask_name("+".join(names)[:60]) if names else ""
        if not names:
            self.one()
        if new:
            self._run("Adding up edits", edits.compose, names, new)

    def show_record(self) -> None:
        """Show all that is known of the chosen edit."""
        record = edits.show(self.session.current.path, self.one()).summary()
        window = QDialog(self)
        window.setWindowTitle(f"Edit {record['name']}")
        window.resize(*_SIZE)
        text = QPlainTextEdit(json.dumps(record, indent=2, default=str))
        text.setReadOnly(True)
        QVBoxLayout(window).addWidget(text)
        window.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        window.show()

    def _ask_name(self, proposed: str) -> str:
        text, wanted = QInputDialog.getText(self, "New edit", "Name of the new edit", text=proposed)
        return text.strip() if wanted else ""

    def _run(self, title: str, function: Callable[..., object], *args: object) -> None:
        path = self.session.current.path
        then = self.session.while_open(self._on_done)
        self.jobs.start(title, function, path, *args, then=then)

    def _on_done(self, result: object) -> None:
        show_done(summary_text("Done", result))
        self.session.models_changed.emit()
        self.session.edits_changed.emit()

    def _look(self) -> None:
        self.chosen.emit(self.one())

    def _on_double_click(self) -> None:
        with errors_shown():
            self._look()

    def _tell(self) -> None:
        item = self.tree.currentItem()
        self.about.setText("" if item is None else item.toolTip(0))


def _item(entry: HistoryEntry, *, is_used: bool) -> QTreeWidgetItem:
    """One row of the tree; all that is known of it is its tooltip."""
    strength = "" if entry.strength is None else f"{entry.strength:g}"
    state = "" if entry.state is None else str(entry.state).replace("_", " ")
    figures = [_pair_text(entry, name, 2) for name in _FIGURES]
    title = f"{'● ' if is_used else ''}{'⚠ ' if entry.problem else ''}{entry.name}"
    row = [title, state or ("in use" if is_used else ""), *figures, strength]
    item = QTreeWidgetItem(row)
    item.setData(0, _NAME, entry.name)
    text = _about(entry, is_used=is_used)
    for column in range(len(_HEADINGS)):
        item.setToolTip(column, text)
    return item


def _about(entry: HistoryEntry, *, is_used: bool) -> str:
    """Tell what is known of a model or edit."""
    told = ["In use."] if is_used else []
    if entry.figures:
        pairs = (f"{MEASURES[name]} {_pair_text(entry, name, 3)}" for name in _FIGURES)
        told.append(f"On the pinned slices, at strength {entry.judged_at:g}: {', '.join(pairs)}.")
    created = entry.created[:16].replace("T", " ")
    return " ".join([*told, *filter(None, (entry.problem, entry.note, created))])


def _pair_text(entry: HistoryEntry, name: str, digits: int) -> str:
    """Before and after of a figure."""
    pair = entry.figures.get(name)
    if pair is None:
        return ""
    return " → ".join("-" if value is None else f"{value:.{digits}f}" for value in pair)
