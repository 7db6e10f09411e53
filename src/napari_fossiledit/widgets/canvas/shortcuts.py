"""Keys that work while the canvas has the focus: what they do, and how they are bound."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import napari
from napari.layers import Labels

from napari_fossiledit.errors import FossilError
from napari_fossiledit.widgets.canvas import correcting, navigation
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.selection import Selection
from napari_fossiledit.widgets.common.notices import errors_shown
from napari_fossiledit.widgets.common.session import Session

Action = Callable[[Session], object]


def _selection(session: Session) -> Selection:
    selection = getattr(session.view, "selection", None)
    if not isinstance(selection, Selection):
        raise FossilError("No mask is picked", advice="Click one first.")
    return selection


@dataclass(frozen=True)
class Shortcut:
    """A key, what it does for the user, and the function that does it."""

    key: str
    what: str
    action: Action


NAVIGATING = (
    Shortcut("Shift-Left", "previous traced slice", lambda s: navigation.step(s, -1)),
    Shortcut("Shift-Right", "next traced slice", lambda s: navigation.step(s, 1)),
    Shortcut("Shift-T", "this slice is traced", lambda s: s.trace_requested.emit()),
)
PAINTING = (
    Shortcut("N", "new instance with the brush", correcting.new_instance),
    Shortcut("Shift-D", "delete the instance under the mouse", correcting.delete_under_cursor),
)
# napari's own key for that, in the Labels layer alone.
NEW_LABEL = (Shortcut("M", "new instance with the brush", correcting.new_instance),)
PICKING = (
    Shortcut("Q", "outlines or fills", lambda s: colours_of(s).toggle()),
    Shortcut("G", "take the clicked prediction over", lambda s: _selection(s).accept()),
    Shortcut("U", "merge the clicked mask with the next one", lambda s: _selection(s).merge()),
    Shortcut("Delete", "delete the clicked mask", lambda s: _selection(s).delete()),
)
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
