"""What the clicked mask is and what can be done with it, and what the colours mean."""

from __future__ import annotations

from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_fossiledit.widgets.canvas import correcting
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, fold, note

_HINT = "Click a mask to see what it is, and to take it over, delete it or merge it."
_MERGING = "Now click the mask to merge it with."
_LEGEND = (
    "{swatches}<br>Each fossil has one colour, as a prediction, as a mask of yours, before and "
    "after an edit, and in 3D. Neighbours have different ones.<br>"
    "<b>Thick outline:</b> your masks. <b>Thin outline:</b> predictions. <b>White outline:</b> the "
    "mask that you clicked.<br>Now shown: {shown}."
)


class PickedPanel(QWidget):
    """The mask that was clicked, its actions, and the legend."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.selection, self.colours = attach(session).selection, colours_of(session)
        self.text = note(_HINT)
        self.accept = button(
            "Take over",
            "Make this prediction a mask of yours.",
            self.selection.accept,
            shortcut="G",
        )
        self.delete = button(
            "Delete", "Delete this mask of yours.", self.selection.delete, shortcut="Delete"
        )
        self.merge = button(
            "Merge ...", "Then click the mask to merge it with.", self.selection.merge, shortcut="U"
        )
        self.undo = button(
            "Undo", "Undo the last change.", lambda: correcting.undo(session), shortcut="Ctrl-Z"
        )
        self.look = button("", "Fill masks, or outline them.", self.colours.toggle, shortcut="Q")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.text)
        self.actions_row = beside(self.accept, self.delete, self.merge, self.undo)
        column.addWidget(self.actions_row)
        column.addWidget(self.look)
        self.legend = note("")
        fold(column, "What the colours mean").addWidget(self.legend)
        self.selection.changed.connect(self._show)
        self.colours.changed.connect(self._show_legend)
        self.colours.mode_changed.connect(self._show_legend)
        self._show()
        self._show_legend()

    def _show(self) -> None:
        picked = self.selection.picked
        self.text.setText(_MERGING if self.selection.merging else self.selection.text or _HINT)
        self.actions_row.setVisible(picked is not None)
        is_own = picked is not None and picked.is_own
        _allow(self.accept, not is_own, "It is one of your masks already.")
        _allow(self.delete, is_own, "Predictions stay; only what you take over counts.")

    def _show_legend(self) -> None:
        outlined = self.colours.outlined
        self.look.setText("Fill the masks" if outlined else "Outline the masks")
        codes = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in (self.colours.rgb * 255).astype(int)]
        swatches = "".join(f'<span style="color:{code}">&#9632;</span>' for code in codes)
        shown = "outlines" if outlined else "fills"
        self.legend.setText(_LEGEND.format(swatches=swatches, shown=shown))


def _allow(made: QPushButton, allowed: bool, reason: str) -> None:
    """Enable a button, or disable it and say why in its tooltip."""
    made.setEnabled(allowed)
    tip = made.property("tip") or made.toolTip()
    made.setProperty("tip", tip)
    made.setToolTip(tip if allowed else reason)
