"""Keys that work while the canvas has the focus: what they do, and how they are bound."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import napari
from napari.layers import Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.review import Tool
from napari_fossiledit.widgets.canvas import correcting, navigation
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.review_queue import ReviewQueue
from napari_fossiledit.widgets.canvas.selection import Selection
from napari_fossiledit.widgets.common.notices import errors_shown
from napari_fossiledit.widgets.common.session import Session

Action = Callable[[Session], object]


def _selection(session: Session) -> Selection:
    selection = getattr(session.view, "selection", None)
    if not isinstance(selection, Selection):
        raise FossilError("No mask is picked", advice="Click one first.")
    return selection


def _queue(session: Session) -> ReviewQueue:
    queue = getattr(session.view, "queue", None)
    if not isinstance(queue, ReviewQueue):
        raise FossilError("No place is shown", advice="Open the page Review first.")
    return queue


def _tidy(tool: Tool) -> Action:
    return lambda session: _selection(session).reshape(tool)


def _paint(session: Session, mode: str) -> None:
    """Ready napari's brush for the clicked mask."""
    session.current.require_writable()
    picked = _selection(session).picked
    layer = correcting.edit(session)
    if picked is not None and picked.is_own:
        layer.selected_label = picked.instance.id
    layer.mode = mode


@dataclass(frozen=True)
class Shortcut:
    """A key, what it does for the user, the function that does it, and the words of its button."""

    key: str
    what: str
    action: Action
    text: str = ""


NAVIGATING = (
    Shortcut("Shift-Left", "previous traced slice", lambda s: navigation.step(s, -1)),
    Shortcut("Shift-Right", "next traced slice", lambda s: navigation.step(s, 1)),
    Shortcut("Shift-T", "this slice is traced", lambda s: s.trace_requested.emit()),
)
PAINTING = (
    Shortcut("N", "paint a new mask", correcting.new_instance, "New mask"),
    Shortcut("P", "paint into the clicked mask", lambda s: _paint(s, "paint"), "Paint"),
    Shortcut("E", "erase from the masks", lambda s: _paint(s, "erase"), "Erase"),
    Shortcut("Shift-D", "delete the mask under the mouse", correcting.delete_under_cursor),
)
# napari's own key for that, in the Labels layer alone.
NEW_LABEL = (Shortcut("M", "new instance with the brush", correcting.new_instance),)
PICKING = (
    Shortcut("Q", "outlines or fills", lambda s: colours_of(s).toggle()),
    Shortcut("G", "take the clicked prediction over", lambda s: _selection(s).accept()),
    Shortcut("U", "merge the clicked mask with the next one", lambda s: _selection(s).merge()),
    Shortcut("Delete", "delete the clicked mask", lambda s: _selection(s).delete()),
)
REVIEWING = (
    Shortcut("J", "go to the next doubtful place", lambda s: _queue(s).step(), "Next"),
    Shortcut("K", "go to the place before", lambda s: _queue(s).step(-1), "Previous"),
    Shortcut(
        "A", "the mask, or what is outlined, is right; once more: not yet",
        lambda s: _queue(s).accept(), "Right",
    ),
    Shortcut("R", "the mask, or what is outlined, is wrong", lambda s: _queue(s).reject(), "Wrong"),
    Shortcut(
        "Shift-A", "all masks of this slice are right", lambda s: _queue(s).accept_slice(),
        "All are right",
    ),
    Shortcut("Escape", "end a tool, or pick nothing", lambda s: _selection(s).escape()),
)  # fmt: skip
TOOLS = (
    Shortcut(
        "B", "outline the fossil in a box of two clicks",
        lambda s: _selection(s).propose(), "Outline",
    ),
    Shortcut(
        "S", "split the clicked mask along a line of two clicks",
        lambda s: _selection(s).split(along_line=True), "Split along",
    ),
    Shortcut(
        "D", "split the clicked mask between two clicks, one in each fossil",
        lambda s: _selection(s).split(along_line=False), "Split between",
    ),
    Shortcut("Shift-F", "fill the holes of the clicked mask", _tidy(Tool.FILL), "Fill holes"),
    Shortcut("Shift-S", "smooth the outline of the clicked mask", _tidy(Tool.SMOOTH), "Smooth"),
    Shortcut("Shift-G", "let the clicked mask grow by two pixels", _tidy(Tool.GROW), "Grow"),
    Shortcut("Shift-K", "shrink the clicked mask by two pixels", _tidy(Tool.SHRINK), "Shrink"),
    Shortcut("Shift-I", "keep the clicked mask's largest part", _tidy(Tool.ISLANDS), "Islands"),
)  # fmt: skip
COPYING = (
    Shortcut(
        "C", "copy the clicked mask to the next slice",
        lambda s: _selection(s).copy("next"), "Copy to next",
    ),
    Shortcut(
        "Shift-C", "copy the clicked mask to the slice before",
        lambda s: _selection(s).copy("previous"), "Copy to previous",
    ),
)  # fmt: skip
EDITING = REVIEWING + TOOLS + COPYING
_COMMAND = "Meta" if sys.platform == "darwin" else "Control"
# In the Labels layer, too, in place of napari's own.
UNDOING = (
    Shortcut(f"{_COMMAND}-Z", "undo the last change, also after a restart", correcting.undo),
    Shortcut(f"{_COMMAND}-Shift-Z", "redo it", correcting.redo),
)
PROBING = (
    Shortcut("H", "show or hide the perturbed slice", lambda s: s.preview_requested.emit()),
    Shortcut("Shift-B", "before or after the edit", lambda s: s.swap_requested.emit()),
)


def bind(target: napari.Viewer | Labels, session: Session, shortcuts: tuple[Shortcut, ...]) -> None:
    """Bind keys to a viewer, or to a layer where they have to go before the layer's own.

    Errors of an action become messages.
    """
    # napari keeps bound functions as long as the window: they must not keep the session alive.
    weak = weakref.ref(session)

    def pressed(action: Action) -> None:
        live = weak()
        if live is not None and live.project is not None:
            with errors_shown():
                action(live)

    for shortcut in shortcuts:
        target.bind_key(
            shortcut.key, lambda _, action=shortcut.action: pressed(action), overwrite=True
        )


def help_text(shortcuts: tuple[Shortcut, ...]) -> str:
    """List keys for the user, as rich text."""
    rows = (f"<tr><td><b>{s.key}</b>&nbsp;&nbsp;</td><td>{s.what}</td></tr>" for s in shortcuts)
    return f"<table>{''.join(rows)}</table>"


def show_keys(session: Session) -> None:
    """List all keys in a window of their own."""
    box = QMessageBox(getattr(session.viewer.window, "_qt_window", None))
    box.setWindowTitle("Keys while the picture has the focus")
    half = (NAVIGATING + PAINTING + PICKING + PROBING + HELPING, EDITING + UNDOING)
    cells = "".join(f"<td>{help_text(part)}</td>" for part in half)
    box.setText(f"<table><tr>{cells}</tr></table>")
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.open()


HELPING = (Shortcut("F1", "show this list", show_keys, "Keys ..."),)
