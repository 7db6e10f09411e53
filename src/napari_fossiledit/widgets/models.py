"""Which models there are to choose from."""

from __future__ import annotations

from collections.abc import Callable

from napari_fossiledit.models.places import shipped_models
from napari_fossiledit.widgets.session import Session


def model_choices(session: Session) -> Callable[[], list[str]]:
    """Give a function that lists the models of the open project, then those that come along."""

    def listed() -> list[str]:
        own = session.project.models() if session.project is not None else []
        return [*own, *(name for name in shipped_models() if name not in own)]

    return listed
