"""Keys that work while the canvas has the focus."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import napari
from napari.layers import Labels

from napari_fossiledit.widgets.common.notices import told
from napari_fossiledit.widgets.common.session import Session

Action = Callable[[Session], object]


@dataclass(frozen=True)
class Shortcut:
    """A key, what it does for the user, and the function that does it."""

    key: str
    what: str
    action: Action


def _bound(shortcut: Shortcut, session: Session) -> Callable[[Any], None]:
    """Wrap an action so that its errors become messages and the window stays free to close."""
    weak = weakref.ref(session)

    def pressed(_: Any) -> None:
        live = weak()
        if live is not None and live.project is not None:
            with told():
                shortcut.action(live)

    return pressed


def bind(target: napari.Viewer | Labels, session: Session, shortcuts: tuple[Shortcut, ...]) -> None:
    """Bind keys to a viewer, or to a layer where they have to go before the layer's own."""
    for shortcut in shortcuts:
        target.bind_key(shortcut.key, _bound(shortcut, session), overwrite=True)


def help_text(shortcuts: tuple[Shortcut, ...]) -> str:
    """List keys for the user, as rich text."""
    rows = (f"<tr><td><b>{s.key}</b>&nbsp;&nbsp;</td><td>{s.what}</td></tr>" for s in shortcuts)
    return f"<table>{''.join(rows)}</table>"
