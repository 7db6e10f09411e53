"""Choices of what computes where it may not be installed; nothing of it is ever imported here."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel

from napari_fossiledit.models.backends import (
    HOW_TO_COMPILE,
    HOW_TO_INSTALL,
    has_detectron2,
    has_openvino,
)
from napari_fossiledit.widgets.forms import FieldRow, ParamsForm

P = TypeVar("P", bound=BaseModel)

FIELD, ENGINE = "backend", "engine"


def only_what_is_installed(form: ParamsForm[P]) -> ParamsForm[P]:
    """Hold backend and engine of a form to what is there, and tell what to install."""
    if not has_detectron2():
        _hold(form.rows[FIELD], f"detectron2 is not installed. {HOW_TO_INSTALL}")
    if ENGINE in form.rows and not has_openvino():
        _hold(form.rows[ENGINE], f"OpenVINO is not installed. {HOW_TO_COMPILE}")
    return form


def _hold(row: FieldRow, why: str) -> None:
    """Hold a field to its default."""
    row.native.setEnabled(False)
    # Qt shows the tooltip of a disabled input as that of what it lies in.
    for widget in (row, row.native):
        widget.setToolTip(why)
