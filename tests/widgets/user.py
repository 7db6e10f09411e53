"""A user of the window: only clicks what can be seen, types, paints, and reads what is shown."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QPoint, QRect, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QLabel,
    QMenu,
    QScrollArea,
    QTabBar,
    QWidget,
)

from napari_fossiledit.masks import Instance
from napari_fossiledit.project import ANNOTATIONS
from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.common.compat import camera_of
from napari_fossiledit.widgets.common.forms import FieldRow
from napari_fossiledit.widgets.common.session import session_of
from napari_fossiledit.widgets.start.rail import rail_of
from tests.widgets.heartbeat import settle, wait_until

#: A folder for a picture of the window after each step.
_PICTURES = os.environ.get("FOSSILEDIT_PICTURES")
_LEFT, _NO_KEY = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


class User:
    """Real mouse and key events, sent to a window of the plugin.

    Parameters
    ----------
    viewer
        With the plugin's dock.
    size
        Of the window, in pixels.
    """

    def __init__(self, viewer: napari.Viewer, size: tuple[int, int] = (1280, 800)) -> None:
        self.viewer, self.session, self.rail = viewer, session_of(viewer), rail_of(viewer)
        self._pictures = 0
        viewer.window.resize(*size)
        settle(1)

    # ---------------------------------------------------------------- looking

    @property
    def page(self) -> Any:
        """The page on show."""
        return self.rail.stack.currentWidget()

    @property
    def canvas(self) -> QWidget:
        """What takes the mouse on the slice."""
        canvas: QWidget = self.viewer.window._qt_viewer.canvas.native
        return canvas

    @property
    def text(self) -> str:
        """All that can be read on the page and in the message below it, without markup."""
        labels = [w for w in self.rail.findChildren(QLabel) if w.isVisible() and w.text()]
        return re.sub(r"<[^>]+>", " ", "\n".join(label.text() for label in labels))

    def reads(self, pattern: str) -> re.Match[str]:
        """Check that a text can be read in the window; return the match of the pattern."""
        found = re.search(pattern, self.text)
        assert found is not None, f"{pattern!r} is not in:\n{self.text}"
        return found

    def own(self, z: int) -> list[Instance]:
        """Return the user's instances of a slice, as they are stored."""
        return list(self.session.current.ledger.instances(ANNOTATIONS, slices=[z]))

    def waits(self) -> None:
        """Wait for the jobs of all pages."""

        def idle() -> bool:
            running = any(page.jobs.runner.is_running for page in self.rail.pages.values())
            return not running and not self.session.is_settling

        wait_until(idle)
        settle()

    def pictures(self, name: str) -> None:
        """Save a picture where the environment names a folder for it."""
        if _PICTURES:
            self._pictures += 1
            path = Path(_PICTURES) / f"{self._pictures:02}-{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            self.viewer.screenshot(str(path), canvas_only=False, flash=False)

    # ---------------------------------------------------------------- buttons and fields

    def goes_to(self, title: str) -> None:
        """Click the icon of a page."""
        self.click(self.rail.buttons[title])
        assert self.page.title == title

    def click(self, widget: QWidget, place: QPoint | None = None) -> None:
        """Click a widget where it can be seen; scroll there first."""
        parent = widget.parentWidget()
        while parent is not None:
            if isinstance(parent, QScrollArea):
                parent.ensureWidgetVisible(widget)
            parent = parent.parentWidget()
        settle(0.02)
        place = place or widget.rect().center()
        assert widget.isEnabled(), f"cannot be clicked: {widget.toolTip()}"
        assert widget.visibleRegion().contains(place), f"hidden: {widget}"
        QTest.mouseClick(widget, _LEFT, _NO_KEY, place)
        settle(0.05)

    def button(self, text: str, within: QWidget | None = None) -> QAbstractButton:
        """Return the visible button with this text; there has to be exactly one."""
        buttons = (within or self.page).findChildren(QAbstractButton)
        found = [b for b in buttons if b.isVisible() and b.text().replace("&&", "&") == text]
        assert len(found) == 1, f"{len(found)} buttons {text!r} on the page {self.page.title}"
        return found[0]

    def presses(self, text: str, within: QWidget | None = None) -> None:
        """Click the button with this text, and wait for the job that it starts."""
        self.click(self.button(text, within))
        self.waits()
        for area in self.page.findChildren(QScrollArea):
            assert area.widget().width() <= area.viewport().width(), "cut off at the right"

    def tab(self, title: str) -> None:
        """Click a tab of the page."""
        bars = [bar for bar in self.page.findChildren(QTabBar) if bar.isVisible()]
        places = [(b, n) for b in bars for n in range(b.count()) if b.tabText(n) == title]
        assert len(places) == 1, f"{len(places)} tabs {title!r}"
        bar, number = places[0]
        self.click(bar, bar.tabRect(number).center())

    def types(self, name: str, text: str) -> None:
        """Type into the visible field of a parameter, or a named one, in place of its text."""
        rows = [r for r in self.page.findChildren(FieldRow) if r.isVisible() and r.name == name]
        named = [w for w in self.page.findChildren(QWidget) if w.accessibleName() == name]
        fields = [r.native for r in rows] or [w for w in named if w.isVisible()]
        assert len(fields) == 1, f"{len(fields)} fields {name!r} on the page {self.page.title}"
        (field,) = fields
        if isinstance(field, QComboBox):
            # A click would open its list: its keys choose without that.
            field.setFocus()
        else:
            self.click(field, QPoint(8, field.height() // 2))
            QTest.keyClick(field, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
        QTest.keyClicks(field, text)
        if not isinstance(field, QComboBox):
            QTest.keyClick(field, Qt.Key.Key_Tab)
        settle(0.05)

    def marks(self, z: int, entry: str) -> None:
        """Go to a slice by its cell in the strip, and choose an entry of the menu beside it."""
        self.to_slice(z)
        marks = attach(self.session).marks
        self.click(marks.mark)
        menu = QApplication.activePopupWidget()
        assert isinstance(menu, QMenu)
        (action,) = [a for a in menu.actions() if entry in a.text()]
        QTest.mouseClick(menu, _LEFT, _NO_KEY, menu.actionGeometry(action).center())
        wait_until(lambda: not marks.runner.is_running)
        settle()

    def to_slice(self, z: int) -> None:
        """Click the cell of a slice in the strip."""
        strip = attach(self.session).marks.strip
        self.click(strip, strip.cell(z).center())
        assert self.session.slice == z

    # ---------------------------------------------------------------- the slice

    def place(self, y: float, x: float, scale: Sequence[float] | None = None) -> QPoint:
        """Return where a pixel of the slice is on the canvas; it has to be in view."""
        if scale is None:
            scale = self.session.current.geometry.voxel_size.zyx[1:]
        camera = camera_of(self.viewer)
        away = (np.multiply((y, x), scale) - np.array(camera.center[-2:])) * camera.zoom
        point = QPoint(
            round(self.canvas.width() / 2 + away[1]), round(self.canvas.height() / 2 + away[0])
        )
        assert QRect(QPoint(), self.canvas.size()).contains(point)
        return point

    def clicks(self, y: float, x: float, scale: Sequence[float] | None = None) -> None:
        """Click a pixel of the slice."""
        place = self.place(y, x, scale)
        QTest.mouseMove(self.canvas, place)
        settle(0.05)
        QTest.mouseClick(self.canvas, _LEFT, _NO_KEY, place)
        settle()

    def clicks_on(self, instance: Instance) -> None:
        """Click a pixel in the midst of an instance."""
        self.clicks(*midst(instance))

    def drags(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at a pixel of the slice (y, x), move to another one, let go."""
        places = [self.place(*p) for p in np.linspace(start, end, 12)]
        QTest.mouseMove(self.canvas, places[0])
        settle(0.05)
        QTest.mousePress(self.canvas, _LEFT, _NO_KEY, places[0])
        for place in places[1:]:
            QTest.mouseMove(self.canvas, place)
            settle(0.02)
        QTest.mouseRelease(self.canvas, _LEFT, _NO_KEY, places[-1])
        settle()

    def key(self, key: Qt.Key, modifier: Qt.KeyboardModifier = _NO_KEY) -> None:
        """Press a key while the canvas has the focus."""
        self.canvas.setFocus()
        QTest.keyClick(self.canvas, key, modifier)
        settle()

    def until(self, done: Callable[[], Any]) -> None:
        """Wait for something that no page's job does."""
        wait_until(done)
        settle()


def midst(instance: Instance) -> tuple[int, int]:
    """Return the pixel (y, x) of a mask that is farthest from its edge."""
    from scipy.ndimage import distance_transform_edt

    y0, x0, _, _ = instance.mask.box
    depth = distance_transform_edt(np.pad(instance.mask.crop(), 1))
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return y0 + int(y) - 1, x0 + int(x) - 1
