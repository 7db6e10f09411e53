"""A slice that is worth tracing: its picture, why, and a button that puts it on the agenda."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QHBoxLayout, QToolButton, QVBoxLayout, QWidget

from napari_fossiledit.exchange.pages.pictures import Picture
from napari_fossiledit.widgets.dock import button, note

#: In pixels: the longest edge of a picture; twice as many are read, for sharp screens.
PICTURE = 76


class Suggestion(QWidget):
    """Shows one suggested slice.

    Parameters
    ----------
    pick
        The slice; its ``reason``, ``hours``, ``fossils``, ``gain`` where it has them.
    go, mark
        Called where the picture, or the button, is clicked.
    """

    def __init__(self, pick: Any, go: Callable[[], object], mark: Callable[[], object]) -> None:
        super().__init__()
        self.pick = pick
        self.picture = QToolButton()
        self.picture.setFixedSize(PICTURE + 8, PICTURE - 10)
        self.picture.setIconSize(QSize(PICTURE, PICTURE - 16))
        self.picture.setText(str(pick.slice))
        self.picture.setToolTip(f"Go to slice {pick.slice}.")
        self.picture.setAccessibleName(f"Go to slice {pick.slice}")
        # Qt hands over whether it is pressed in.
        self.picture.clicked.connect(lambda _: go())
        self.text = note("")
        self.mark = button("", "", mark)
        self.mark.setAccessibleDescription(f"Slice {pick.slice}")
        column = QVBoxLayout()
        column.setSpacing(2)
        column.addWidget(self.text)
        column.addWidget(self.mark, 0, Qt.AlignmentFlag.AlignLeft)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.picture, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(column, 1)
        self.tell(None)
        self.show_mark(traced=False, marked=False)

    def tell(self, expected: Mapping[str, Any] | None) -> None:
        """Say what is known of the slice; `expected` is its row of an expectation."""
        told = [f"<b>Slice {self.pick.slice}</b>"]
        if expected is not None and expected.get("expected") is not None:
            told.append("F {expected:.2f} ({low:.2f} to {high:.2f}) expected".format(**expected))
        hours, fossils, gain = (getattr(self.pick, n, None) for n in ("hours", "fossils", "gain"))
        if fossils is not None:
            told.append(f"about {fossils:.0f} fossils")
        if hours is not None:
            told.append(f"{hours:.1f} hours to trace")
        if gain is not None:
            told.append(f"F {gain:+.2f} an hour")
        self.text.setText(f"{', '.join(told)}.<br>{self.pick.reason}")

    def show_picture(self, picture: Picture) -> None:
        """Show the slice (y, x, 3)."""
        height, width = picture.shape[:2]
        image = QImage(picture.tobytes(), width, height, width * 3, QImage.Format.Format_RGB888)
        self.picture.setIcon(QIcon(QPixmap.fromImage(image)))

    def show_mark(self, *, traced: bool, marked: bool) -> None:
        """Say whether the slice is traced, or marked to be."""
        self.mark.setEnabled(not traced)
        self.mark.setText("Traced" if traced else "✓ To be traced" if marked else "Mark to trace")
        self.mark.setToolTip(
            "This slice is traced already."
            if traced
            else "Take the mark away again."
            if marked
            else "Put this slice on the agenda: the strip below the slices shows it."
        )
