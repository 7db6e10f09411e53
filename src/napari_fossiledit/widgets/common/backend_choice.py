"""The choice of a backend where detectron2 may not be installed; it is never imported here."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel

from napari_fossiledit.models.native.backends import HOW_TO_INSTALL, has_detectron2
from napari_fossiledit.widgets.common.forms import ParamsForm

P = TypeVar("P", bound=BaseModel)

FIELD = "backend"


def only_what_is_installed(form: ParamsForm[P]) -> ParamsForm[P]:
    """Hold the backend of a form to the twin where there is no other, and tell what to install."""
    row = form.rows[FIELD]
    if not has_detectron2():
        row.native.setEnabled(False)
        # Qt shows the tooltip of a disabled input as that of what it lies in.
        for widget in (row, row.native):
            widget.setToolTip(f"detectron2 is not installed. {HOW_TO_INSTALL}")
    return form
