"""The one dock of the plugin: a column of steps, and the page of the step on show."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files

import napari
from napari.utils.theme import get_theme
from qtpy.QtCore import QByteArray, QEvent, QObject, QRectF, QSize, Qt, QTimer, SignalInstance
from qtpy.QtGui import QColor, QKeySequence, QPainter, QPaintEvent, QShowEvent
from qtpy.QtSvg import QSvgRenderer
from qtpy.QtWidgets import (
    QApplication,
    QButtonGroup,
    QHBoxLayout,
    QMessageBox,
    QShortcut,
    QStackedLayout,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.widgets.agenda.agenda_dock import TITLE as AGENDA
from napari_fossiledit.widgets.agenda.agenda_dock import AgendaDock
from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.common.compat import ask_before_closing
from napari_fossiledit.widgets.common.message_board import MessageBoard
from napari_fossiledit.widgets.common.session import session_of
from napari_fossiledit.widgets.dock import WIDTH, Dock
from napari_fossiledit.widgets.morphospace.morphospace_dock import TITLE as MORPHOSPACE
from napari_fossiledit.widgets.morphospace.morphospace_dock import MorphospaceDock
from napari_fossiledit.widgets.probe_edit.probe_edit_dock import TITLE as PROBE_EDIT
from napari_fossiledit.widgets.probe_edit.probe_edit_dock import ProbeEditDock
from napari_fossiledit.widgets.reef.reef_dock import TITLE as REEF
from napari_fossiledit.widgets.reef.reef_dock import ReefDock
from napari_fossiledit.widgets.review.review_dock import TITLE as REVIEW
from napari_fossiledit.widgets.review.review_dock import ReviewDock
from napari_fossiledit.widgets.segment.score_picker import picker_of
from napari_fossiledit.widgets.segment.segment_dock import TITLE as SEGMENT
from napari_fossiledit.widgets.segment.segment_dock import SegmentDock
from napari_fossiledit.widgets.stack.stack_dock import TITLE as STACK
from napari_fossiledit.widgets.stack.stack_dock import StackDock
from napari_fossiledit.widgets.start.start_dock import TITLE as START
from napari_fossiledit.widgets.start.start_dock import StartHere

#: In pixels.
_WIDTH, _HEIGHT, _ICON = 64, 62, 24
#: In pixels: so little do the middles of widgets of one row differ.
_SAME_ROW = 8
#: napari shows the focus nowhere. A grey that is seen on the light page and on the dark one.
_FOCUS = """
QPushButton:focus, QToolButton:focus, QComboBox:focus, QLineEdit:focus, QSpinBox:focus,
QTabBar::tab:selected:focus, QAbstractItemView:focus, QCheckBox::indicator:focus, QSlider:focus
{ border: 1px solid #8f8f8f; }
"""


@dataclass(frozen=True)
class Page:
    """A step of the way, and what makes its page.

    Attributes
    ----------
    word, icon
        Below its icon, and the name of the icon's file.
    """

    make: Callable[[napari.Viewer], Dock]
    word: str
    icon: str
    tip: str


PAGES: dict[str, Page] = {
    START: Page(StartHere, "Start", "start", "What to do next, and how far the project is."),
    STACK: Page(StackDock, "Stack", "stack", "The photographs, and which of them are traced."),
    SEGMENT: Page(SegmentDock, "Segment", "segment", "A model learns and finds the fossils."),
    AGENDA: Page(
        AgendaDock, "Agenda", "agenda", "Which slice to trace next, and how far to trust a model."
    ),
    REVIEW: Page(ReviewDock, "Review", "review", "Correct what was found; trace slices by hand."),
    PROBE_EDIT: Page(
        ProbeEditDock, "Probe\n& Edit", "probe", "See what misleads a model, and mend it."
    ),
    MORPHOSPACE: Page(
        MorphospaceDock, "Morpho-\nspace", "morphospace", "Map and name fossils by their looks."
    ),
    REEF: Page(ReefDock, "Reef", "reef", "The fossils in 3D: look, measure, export."),
}


class RailButton(QToolButton):
    """Icon and word of a page, and a mark for its job.

    It is painted here: so an icon is sharp on any screen and has the colour of the theme.
    """

    def __init__(self, page: Page, keys: QKeySequence, theme: Callable[[], str]) -> None:
        super().__init__()
        self.page, self._theme = page, theme
        self._tip = f"{page.tip} ({keys.toString(QKeySequence.SequenceFormat.NativeText)})"
        self.setText(page.word)
        self.setCheckable(True)
        self.setFixedSize(_WIDTH, _HEIGHT)
        self.tell("")

    def tell(self, mark: str, what: str = "") -> None:
        """Show a mark in the corner, and say in the tooltip what it means."""
        self.mark = mark
        self.setAccessibleDescription(what)
        self.setToolTip(f"{self._tip}<br><b>{what}</b>" if what else self._tip)
        self.update()

    def paintEvent(self, _: QPaintEvent | None) -> None:  # noqa: N802
        """Paint background, icon, word and mark."""
        theme = get_theme(self._theme())
        ink, back = QColor(theme.text.as_hex()), QColor(theme.foreground.as_hex())
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.isChecked() or self.underMouse():
            painter.fillRect(self.rect(), back)
        if self.isChecked():
            painter.fillRect(0, 0, 3, self.height(), ink)
        if self.hasFocus():
            painter.setPen(ink)
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
        place = QRectF((_WIDTH - _ICON) / 2, 7, _ICON, _ICON)
        _icon(self.page.icon, ink.name()).render(painter, place)
        font = painter.font()
        font.setPixelSize(11)
        painter.setFont(font)
        painter.setPen(ink)
        below = QRectF(0, 33, _WIDTH, _HEIGHT - 33)
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter, self.page.word)
        if self.mark:
            painter.setBrush(QColor(theme.current.as_hex()))
            painter.setPen(Qt.PenStyle.NoPen)
            corner = QRectF(_WIDTH - 22, 4, 16, 16)
            painter.drawEllipse(corner)
            painter.setPen(ink)
            painter.drawText(corner, Qt.AlignmentFlag.AlignCenter, self.mark)


@cache
def _icon(name: str, colour: str) -> QSvgRenderer:
    svg = (files(__package__) / "icons" / f"{name}.svg").read_bytes()
    return QSvgRenderer(QByteArray(svg.replace(b"currentColor", colour.encode())))


class Rail(QWidget):
    """A button for each page, and the page on show; a page is made when it is shown first."""

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self.session = session = session_of(viewer)
        self.setStyleSheet(_FOCUS)
        attach(session)
        # It shows what was found, also while no page with it was looked at.
        picker = picker_of(session)
        picker.setParent(self)
        picker.hide()
        self._closing: QWidget | None = None
        self.pages: dict[str, Dock] = {}
        self.buttons: dict[str, RailButton] = {}
        # No QStackedWidget: napari's style gives it a border.
        host = QWidget()
        self.stack = QStackedLayout(host)
        group = QButtonGroup(self)
        column = QVBoxLayout()
        column.setSpacing(0)
        for number, (title, page) in enumerate(PAGES.items(), 1):
            show = partial(self.show_page, title)
            keys = QKeySequence(f"Ctrl+{number}")
            button = RailButton(page, keys, lambda: str(session.viewer.theme))
            button.setAccessibleName(title)
            button.clicked.connect(lambda _, show=show: show())
            QShortcut(keys, self, show)
            group.addButton(button)
            column.addWidget(button)
            self.buttons[title] = button
        column.addStretch(1)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addLayout(column)
        right = QVBoxLayout()
        right.setSpacing(0)
        self.board = MessageBoard()
        right.addWidget(host, 1)
        right.addWidget(self.board)
        row.addLayout(right, 1)
        session.page_requested.connect(self.show_page)
        session.trace_requested.connect(self._on_trace_key)
        session.preview_requested.connect(self._on_preview_key)
        self.show_page(START)

    def show_page(self, title: str) -> Dock:
        """Show the page of a title; make it where there is none yet."""
        page = self._page(title)
        left = self.stack.currentWidget()
        if isinstance(left, Dock) and left is not page:
            left.jobs.forget()
        self.stack.setCurrentWidget(page)
        self.buttons[title].setChecked(True)
        if not page.jobs.runner.is_running:
            self.buttons[title].tell("")
        return page

    def _page(self, title: str) -> Dock:
        page = self.pages.get(title)
        if page is None:
            page = self.pages[title] = PAGES[title].make(self.session.viewer)
            self.stack.addWidget(page)
            runner, button = page.jobs.runner, self.buttons[title]
            runner.started.connect(lambda job: button.tell("…", f"{job.title} is running."))
            runner.done.connect(lambda _: self._on_ended(title, "✓", "A job is done."))
            runner.failed.connect(lambda error: self._on_failed(title, error))
        return page

    def _on_ended(self, title: str, mark: str, what: str) -> None:
        """Keep a mark for a job that ended on a page that is not looked at."""
        looked_at = self.stack.currentWidget() is self.pages[title]
        self.buttons[title].tell(*("", "") if looked_at else (mark, what))

    def _on_failed(self, title: str, error: FossilError) -> None:
        # Who cancelled a job knows that it ended.
        self._on_ended(title, *("", "") if isinstance(error, CancelledError) else ("!", f"{error}"))

    def _on_trace_key(self) -> None:
        self._hear(REVIEW, self.session.trace_requested)

    def _on_preview_key(self) -> None:
        self._hear(PROBE_EDIT, self.session.preview_requested)

    def _hear(self, title: str, signal: SignalInstance) -> None:
        """Make the page that a key is for, and let it hear of the key."""
        if title not in self.pages:
            self._page(title)
            signal.emit()

    def focusNextPrevChild(self, forward: bool) -> bool:  # noqa: N802
        """Walk with Tab from the icons through what is seen of the page, then on in the window.

        Qt's order is that in which widgets were made: a page comes behind widgets of napari that
        hand the focus on past it.
        """
        page = self.stack.currentWidget()

        def place(widget: QWidget) -> tuple[bool, bool, int, int]:
            middle = widget.mapTo(self, widget.rect().center())
            # Also while it is scrolled so that the rest of the page lies further down.
            is_below = self.board.isAncestorOf(widget) or (
                isinstance(page, Dock) and page.jobs.isAncestorOf(widget)
            )
            is_icon = isinstance(widget, RailButton)
            return not is_icon, is_below, middle.y() // _SAME_ROW, middle.x()

        order = sorted(filter(_takes_focus, self.findChildren(QWidget)), key=place)
        here = QApplication.focusWidget()
        at = order.index(here) + (1 if forward else -1) if here in order else -1
        if not 0 <= at < len(order):
            return bool(super().focusNextPrevChild(forward))
        order[at].setFocus(
            Qt.FocusReason.TabFocusReason if forward else Qt.FocusReason.BacktabFocusReason
        )
        return True

    def sizeHint(self) -> QSize:  # noqa: N802
        """Return the least width: the canvas gets the rest."""
        return QSize(_WIDTH + WIDTH, super().sizeHint().height())

    # ---------------------------------------------------------------- closing

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802
        """Let the session and the rail know when the window closes."""
        super().showEvent(event)
        window = self.window()
        if window is not None:
            if self._closing is not window and hasattr(window, "_qt_viewer"):
                self._closing, rail = window, weakref.ref(self)
                ask_before_closing(window, lambda: live._stop_jobs() if (live := rail()) else None)
            # The filter that was installed last is asked first: strokes are saved in any case.
            window.installEventFilter(self)
            window.installEventFilter(self.session)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Ask once before the window closes on running jobs."""
        if event is None or event.type() != QEvent.Type.Close:
            return False
        stopped = self._stop_jobs()
        if stopped is False:
            event.ignore()
            return True
        # Nothing is lost with what was only to be looked at.
        attach(self.session).reducing.abandon()
        window = self.window()
        if window is None or not stopped or not event.spontaneous():
            return False
        # napari asks a question of its own where the user closes a window, but not where we do.
        event.ignore()
        QTimer.singleShot(0, window.close)
        return True

    def _stop_jobs(self) -> bool | None:
        """Ask whether the running jobs may be stopped, and stop them; None where none runs."""
        runners = [page.jobs.runner for page in self.pages.values()]
        running = {runner: runner.job.title for runner in runners if runner.job is not None}
        if not running:
            return None
        answer = QMessageBox.question(
            self.window(),
            "Close the window?",
            f"Still running: {', '.join(running.values())}. Stop and close? "
            "What is finished is kept.",
        )
        if answer != QMessageBox.StandardButton.Yes:
            return False
        for runner in running:
            runner.abandon()
        return True


def _takes_focus(widget: QWidget) -> bool:
    """Return whether Tab stops at a widget; of the icons it does at the one on show."""
    return (
        bool(widget.focusPolicy() & Qt.FocusPolicy.TabFocus)
        and widget.focusProxy() is None
        and widget.isVisible()
        and widget.isEnabled()
        and not (isinstance(widget, RailButton) and not widget.isChecked())
    )


def rail_of(viewer: napari.Viewer) -> Rail:
    """Return the rail of a viewer; the first call makes it."""
    session = session_of(viewer)
    if not isinstance(session.rail, Rail):
        session.rail = rail = Rail(session.viewer)
        rail.destroyed.connect(partial(setattr, session, "rail", None))
    return session.rail
