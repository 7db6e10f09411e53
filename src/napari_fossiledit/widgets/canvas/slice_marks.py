"""A strip below the slices: which of them are traced, to be traced, pinned, predicted or stale."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QContextMenuEvent, QHelpEvent, QMouseEvent, QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QAction,
    QDockWidget,
    QHBoxLayout,
    QLabel,
    QMenu,
    QSizePolicy,
    QToolButton,
    QToolTip,
    QWidget,
)

from napari_fossiledit.params.agenda import MarkParams
from napari_fossiledit.params.annotations import TraceParams, UntraceParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.widgets.canvas.correcting import undo_of_newest
from napari_fossiledit.widgets.canvas.layers import shown_source
from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec
from napari_fossiledit.widgets.common.notices import errors_shown, show_done, show_error
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.workflows.agenda.marks import run as mark_slices
from napari_fossiledit.workflows.annotate.corrections import trace, untrace

# In pixels: the strip, its cells from which on a gap parts them, and the words beside it.
_HEIGHT, _PARTED, _WORDS = 22, 5, 270
# Okabe and Ito's colours, which the colour-blind tell apart; place and height differ as well.
_TRACED, _BEGUN, _PREDICTED = QColor("#009e73"), QColor("#7f7f7f"), QColor("#56b4e9")
_TO_TRACE = QColor("#e69f00")
_REVIEWED = QColor("#cc79a7")
_STALE, _PINNED = QColor("#d55e00"), QColor("#f0e442")
_LEGEND = "<br>".join(
    f'<span style="color: {colour.name()};">&#9632;</span> {text}'
    for colour, text in (
        (_TRACED, "above: traced, every fossil is annotated (half as high: in a part of it)"),
        (_TO_TRACE, "above, high: marked to be traced"),
        (_BEGUN, "above, low: begun; has masks of yours, and is not marked as traced"),
        (_REVIEWED, "above, low: all masks of yours are found right"),
        (_PREDICTED, "below: the predictions on show are there"),
        (_PINNED, "dot: pinned, only tests models"),
        (_STALE, "line at the top: the photograph was replaced since"),
    )
)


@dataclass(frozen=True)
class Marks:
    """Slices in each state."""

    traced: frozenset[int] = field(default_factory=frozenset)
    part: frozenset[int] = field(default_factory=frozenset)
    to_trace: frozenset[int] = field(default_factory=frozenset)
    begun: frozenset[int] = field(default_factory=frozenset)
    #: Masks of the user's that are found right, and all, of slices that are not traced.
    review: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    predicted: frozenset[int] = field(default_factory=frozenset)
    pinned: frozenset[int] = field(default_factory=frozenset)
    stale: frozenset[int] = field(default_factory=frozenset)

    def words(self, z: int) -> str:
        """Return the states of a slice, e.g. ``"traced, pinned"``."""
        states = {
            "traced": self.traced,
            "traced in a part": self.part,
            "to be traced": self.to_trace,
            "begun, not traced": self.begun,
            "predicted": self.predicted,
            "pinned": self.pinned,
            "photograph replaced since": self.stale,
        }
        words = [word for word, slices in states.items() if z in slices]
        if z in self.review:
            right, every = self.review[z]
            words.append(f"{right} of {every} masks right")
        return ", ".join(words) or "untouched"

    @property
    def reviewed(self) -> frozenset[int]:
        """Slices in which all masks are found right."""
        return frozenset(z for z, (right, every) in self.review.items() if right == every)


def read_marks(project: Project, source: str) -> Marks:
    """Read which slices are in which state; `source` is that of the predictions, empty: none."""
    traced, contents = project.ledger.traced(), project.contents
    stale = {*contents.stale(ANNOTATIONS), *(contents.stale(source) if source else ())}
    return Marks(
        frozenset(z for z, part in traced.items() if part is None),
        frozenset(z for z, part in traced.items() if part is not None),
        frozenset(project.ledger.to_trace()),
        frozenset(project.ledger.done(ANNOTATIONS) - traced.keys()),
        {z: state for z, state in project.ledger.reviewed().items() if z not in traced},
        frozenset(project.ledger.done(source) if source else ()),
        frozenset(project.settings.pinned_slices),
        frozenset(stale),
    )


class Strip(QWidget):
    """A cell for each slice; of long stacks, a column of pixels for several slices.

    Signals
    -------
    chosen(int)
        The user clicked, or dragged to, this slice.
    menu_wanted(int)
        The user asked what can be done with this slice.
    """

    chosen = Signal(int)
    menu_wanted = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.count, self.current, self.marks = 1, 0, Marks()
        self.name_of: Callable[[int], str] = str
        self.setFixedHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Slices and their marks")

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return the size of a short strip; the layout widens it."""
        return QSize(200, _HEIGHT)

    def slice_at(self, x: int) -> int:
        """Return the slice at a place along the strip."""
        return min(max(x * self.count // max(self.width(), 1), 0), self.count - 1)

    def cell(self, z: int) -> QRect:
        """Return where a slice is painted, at least a pixel wide."""
        (left,), (width,) = self._columns(np.array([z]))
        return QRect(left, 0, width, _HEIGHT)

    def _columns(self, z: NDArray[np.int64]) -> tuple[list[int], list[int]]:
        """Return left ends and widths of slices."""
        left, right = (n * self.width() // self.count for n in (z, z + 1))
        width = right - left - (right - left >= _PARTED)
        return left.tolist(), np.maximum(width, 1).tolist()

    def paintEvent(self, _: QPaintEvent | None) -> None:  # noqa: N802
        """Paint annotations above, predictions below, and a frame around the slice on show."""
        painter, marks = QPainter(self), self.marks
        painter.fillRect(self.rect(), self.palette().base())

        def fill(slices: Iterable[int], colour: QColor, top: int, height: int) -> None:
            # Several slices of a long stack share a column.
            for left, width in {*zip(*self._columns(np.fromiter(slices, np.int64)), strict=True)}:
                painter.fillRect(left, top, width, height, colour)

        fill(marks.traced, _TRACED, 3, 11)
        fill(marks.part, _TRACED, 9, 5)
        fill(marks.to_trace, _TO_TRACE, 3, 6)
        fill(marks.begun - marks.reviewed, _BEGUN, 11, 3)
        fill(marks.reviewed, _REVIEWED, 8, 6)
        fill(marks.predicted, _PREDICTED, 16, 4)
        fill(marks.stale, _STALE, 0, 3)
        painter.setPen(QColor("black"))
        painter.setBrush(_PINNED)
        for left, width in {*zip(*self._columns(np.fromiter(marks.pinned, np.int64)), strict=True)}:
            painter.drawEllipse(left + width // 2 - 3, 5, 6, 6)
        here = self.cell(self.current)
        if here.width() < _PARTED:
            here = QRect(here.center().x() - 2, 0, _PARTED, _HEIGHT)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(self.palette().text().color())
        painter.drawRect(here.adjusted(0, 0, -1, -1))

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Go to the slice under the mouse."""
        self.mouseMoveEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802
        """Go on to the slice that the mouse is dragged to."""
        if event is not None and event.buttons() == Qt.MouseButton.LeftButton:
            self.chosen.emit(self.slice_at(event.pos().x()))

    def contextMenuEvent(self, event: QContextMenuEvent | None) -> None:  # noqa: N802
        """Ask for the menu of the slice under the mouse."""
        if event is not None:
            self.menu_wanted.emit(self.slice_at(event.pos().x()))

    def event(self, event: QEvent | None) -> bool:
        """Tell the states of the slice under the mouse, and what the colours mean."""
        if not isinstance(event, QHelpEvent) or event.type() != QEvent.Type.ToolTip:
            return super().event(event)
        z = self.slice_at(event.pos().x())
        told = f"<b>Slice {z}</b> ({self.name_of(z)}): {self.marks.words(z)}<hr>{_LEGEND}"
        QToolTip.showText(event.globalPos(), told, self)
        return True


class SliceMarks(QWidget):
    """The strip, what the slice on show is in words, and a menu to mark it."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.strip, self.words, self.mark = Strip(), QLabel(), QToolButton()
        self.runner = JobRunner(self)
        self.runner.failed.connect(show_error)
        self._frame: QDockWidget | None = None
        self.words.setFixedWidth(_WORDS)
        self.mark.setText("Mark ...")
        self.mark.setToolTip("Mark the slice on show: traced, to be traced, pinned.")
        row = QHBoxLayout(self)
        row.setContentsMargins(4, 2, 4, 2)
        self.setFixedHeight(_HEIGHT + 4)
        row.addWidget(self.words)
        row.addWidget(self.strip, 1)
        row.addWidget(self.mark)
        self.strip.chosen.connect(session.go_to)
        self.strip.menu_wanted.connect(self._show_menu)
        self.mark.clicked.connect(lambda: self._show_menu(session.slice))
        session.slice_changed.connect(self._show_slice)
        session.annotations_changed.connect(self.refresh)
        session.predictions_changed.connect(self.refresh)
        session.source_shown.connect(self.refresh)

    def refresh(self) -> None:
        """Read the states of the slices again; show nothing while no project is open."""
        project = self.session.project
        if project is not None and self._frame is None:
            self._frame = self.session.viewer.window.add_dock_widget(
                self, name="Marks of the slices", area="bottom", add_vertical_stretch=False
            )
            self._frame.setFeatures(QDockWidget.DockWidgetFeature.NoDockWidgetFeatures)
            self._frame.setTitleBarWidget(QWidget())
        if self._frame is not None:
            self._frame.setVisible(project is not None)
        if project is None:
            return
        with errors_shown():
            self.strip.marks = read_marks(project, shown_source(self.session))
        self.strip.count, self.strip.name_of = project.shape[0], project.names.__getitem__
        self.mark.setEnabled(not project.read_only)
        self._show_slice(self.session.slice)

    def _show_slice(self, z: int) -> None:
        self.strip.current = z
        last = f" of 0-{self.strip.count - 1}" if self.strip.count > 1 else ""
        self.words.setText(f"Slice {z}{last}: {self.strip.marks.words(z)}")
        self.words.setToolTip(self.words.text())
        self.strip.update()

    def menu(self, z: int) -> QMenu:
        """Return what can be done with a slice."""
        made, marks = QMenu(self), self.strip.marks
        traced, planned = z in marks.traced, z in marks.to_trace
        for text, usable, action in (
            (f"Mark slice {z} as traced: every fossil is annotated", not traced, self.trace),
            ("Not traced", traced or z in marks.part, self.untrace),
            ("Not pinned" if z in marks.pinned else "Pin: only test models on it", True, self.pin),
            (
                "Not to be traced" if planned else "To be traced: put it on the agenda",
                not traced and z not in marks.part,
                self.plan,
            ),
        ):
            item = QAction(text, made)
            item.setEnabled(usable and not self.session.current.read_only)
            item.triggered.connect(partial(self._act, action, z))
            made.addAction(item)
        return made

    def _act(self, action: Callable[[int], None], z: int, _: bool) -> None:
        action(z)

    def _show_menu(self, z: int) -> None:
        if self.session.project is not None:
            menu = self.menu(z)
            menu.aboutToHide.connect(menu.deleteLater)
            menu.popup(self.cursor().pos())

    def trace(self, z: int) -> None:
        """Mark a slice as annotated completely."""
        said = f"Slice {z} is traced: models can be trained and judged on it."
        self._run(trace, TraceParams(slices=str(z)), said)

    def untrace(self, z: int) -> None:
        """Take that mark from a slice; what is annotated there stays."""
        said = f"Slice {z} is not traced any more; its annotations stay."
        self._run(untrace, UntraceParams(slices=str(z)), said)

    def plan(self, z: int) -> None:
        """Mark a slice to be traced, or take that mark from it."""
        if z in self.strip.marks.to_trace:
            self._run(
                mark_slices, MarkParams(unmark=str(z)), f"Slice {z} is not to be traced any more."
            )
            return
        said = f"Slice {z} is to be traced: outline every fossil on it, then mark it as traced."
        self._run(mark_slices, MarkParams(mark=str(z)), said)

    def _run(self, change: Callable[..., object], params: object, said: str) -> None:
        def changed(_: object) -> None:
            show_done(said, undo_of_newest(self.session))
            self.session.annotations_changed.emit()

        with errors_shown():
            project = self.session.writable
            # Not in this thread: the photograph is read, to notice later when it was replaced.
            job = JobSpec("Marking the slice", change, (project.path, params), False)
            self.runner.start(job, self.session.while_open(changed))

    def pin(self, z: int) -> None:
        """Pin a slice, or make it one like the others again."""
        with errors_shown():
            project = self.session.writable
            pinned = set(project.settings.pinned_slices) ^ {z}
            project.update(pinned_slices=tuple(sorted(pinned)))
            said = "tests models only" if z in pinned else "is not pinned any more"
            show_done(f"Slice {z} {said}.")
            self.session.annotations_changed.emit()
