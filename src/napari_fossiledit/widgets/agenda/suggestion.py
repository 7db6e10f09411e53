"""A slice that is worth tracing: its picture, why, and a button that puts it on the agenda."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QHBoxLayout, QToolButton, QVBoxLayout, QWidget

from napari_fossiledit.exchange.pages.pictures import Picture
from napari_fossiledit.selection.agenda import Pick
from napari_fossiledit.widgets.common.notices import counted
from napari_fossiledit.widgets.dock import button, note

#: In pixels: the longest edge of a picture; twice as many are read, for sharp screens.
PICTURE = 76
_TIP = (
    "F is the F-score to expect of the model on this slice, with its 90 % interval; then how many "
    "fossils it probably shows, how long tracing takes, and what an hour of it may gain."
)


class Suggestion(QWidget):
    """Shows one suggested slice.

    Parameters
    ----------
    pick
        The slice, and what is known of it.
    go, mark
        Called where the picture, or the button, is clicked.
    """

    def __init__(self, pick: Pick, go: Callable[[], object], mark: Callable[[], object]) -> None:
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
        self.text.setToolTip(_TIP)
        self.mark = button("", "", mark)
        self.mark.setAccessibleDescription(f"Slice {pick.slice}")
        self.mark.setFixedWidth(self.picture.width())
        column = QVBoxLayout()
        column.setSpacing(2)
        column.addWidget(self.picture)
        column.addWidget(self.mark)
        column.addStretch(1)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addLayout(column)
        row.addWidget(self.text, 1, Qt.AlignmentFlag.AlignTop)
        self.tell(None)
        self.show_mark(traced=False, marked=False)

    def tell(self, expected: Mapping[str, Any] | None) -> None:
        """Say what is known of the slice; `expected` is its row of an expectation."""
        pick, told = self.pick, list[str]()
        row = vars(pick) if expected is None else expected
        if row["expected"] is not None:
            told.append("F {expected:.2f} ({low:.2f} to {high:.2f})".format(**row))
        if pick.fossils is not None:
            told.append(counted(round(pick.fossils), "fossil"))
        if pick.hours is not None:
            short = f"{60 * pick.hours:.0f} minutes"
            told.append(short if pick.hours < 1 else f"{pick.hours:.1f} hours")
        if pick.gain is not None:
            told.append(f"F {pick.gain:+.2f} an hour")
        known = f": {', '.join(told)}" if told else ""
        self.text.setText(f"<b>Slice {pick.slice}</b>{known}.<br>{pick.reason}")

    def show_picture(self, picture: Picture) -> None:
        """Show the slice (y, x, 3)."""
        height, width = picture.shape[:2]
        image = QImage(picture.tobytes(), width, height, width * 3, QImage.Format.Format_RGB888)
        self.picture.setIcon(QIcon(QPixmap.fromImage(image)))

    def show_mark(self, *, traced: bool, marked: bool) -> None:
        """Say whether the slice is traced, or marked to be."""
        self.mark.setEnabled(not traced)
        self.mark.setText("Traced" if traced else "✓ To trace" if marked else "To trace")
        self.mark.setToolTip(
            "This slice is traced already."
            if traced
            else "Take the mark away again."
            if marked
            else "Put this slice on the agenda: the strip below the slices shows it."
        )
