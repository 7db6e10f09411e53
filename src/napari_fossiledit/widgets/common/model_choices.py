"""Choices of forms: the model, and the backend that computes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel

from napari_fossiledit.models.native.backends import HOW_TO_INSTALL, has_detectron2
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.workflows.shared.model_refs import in_use, model_names

P = TypeVar("P", bound=BaseModel)

FIELD = "backend"
"""Name of the field that chooses the backend."""


def model_choices(session: Session) -> Callable[[], list[str]]:
    """Return a function that lists models and edits of the open project, then the shipped ones.

    The model in use comes first, so that a form offers it without a choice.
    """

    def listed() -> list[str]:
        names = model_names(session.project)
        used = "" if session.project is None else in_use(session.project)
        return sorted(names, key=lambda name: name != used)

    return listed


def only_installed_backends(form: ParamsForm[P]) -> ParamsForm[P]:
    """Disable the choice of a backend where detectron2 is not installed; return the form.

    detectron2 itself is never imported here: that would load torch into the window.
    """
    row = form.rows[FIELD]
    if not has_detectron2():
        row.native.setEnabled(False)
        # Qt shows the tooltip of a disabled input as that of what it lies in.
        for widget in (row, row.native):
            widget.setToolTip(f"detectron2 is not installed. {HOW_TO_INSTALL}")
    return form
