"""Which models there are to choose from."""

from __future__ import annotations

from collections.abc import Callable

from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.workflows.shared.model_refs import in_use, model_names


def model_choices(session: Session) -> Callable[[], list[str]]:
    """Give a function that lists models and edits of the open project, then those that come along.

    The model in use comes first: it is what most people want.
    """

    def listed() -> list[str]:
        names = model_names(session.project)
        used = "" if session.project is None else in_use(session.project)
        return sorted(names, key=lambda name: name != used)

    return listed
