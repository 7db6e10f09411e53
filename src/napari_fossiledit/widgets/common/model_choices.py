"""Choices of forms: the model, and the backend that computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel
from qtpy.QtCore import QObject

from napari_fossiledit.models.native.backends import HOW_TO_INSTALL, has_detectron2
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.workflows.shared.model_refs import in_use, model_names, standing

P = TypeVar("P", bound=BaseModel)

FIELD = "backend"
"""Name of the field that chooses the backend."""


class Choice(str):
    """A choice that a combo box shows as another text.

    Attributes
    ----------
    label
        That text.
    """

    label: str

    @classmethod
    def of(cls, name: str, mark: str) -> Choice:
        """Return a choice that is shown with a mark, where there is one."""
        return cls.named(name, f"{name} ({mark})" if mark else name)

    @classmethod
    def named(cls, name: str, label: str) -> Choice:
        """Return a choice that is shown as `label`."""
        made = cls(name)
        made.label = label
        return made


def model_choices(session: Session) -> Callable[[], Sequence[str]]:
    """Return a function that lists models and edits of the open project, then the shipped ones.

    The model in use comes first, so that a form offers it without a choice. Edits that nobody
    decided for come after all models: nobody looked at what they do. What was rolled back or never
    finished comes last, and says so.
    """

    def listed() -> Sequence[str]:
        project = session.project
        if project is None:
            return model_names(None)
        used = in_use(project)
        named = [Choice.of(name, standing(project, name)) for name in model_names(project)]
        edits = project.edits.names()
        return sorted(named, key=lambda c: (c.label != c, c != used, c in edits))

    return listed


class FollowedModel(QObject):
    """Offers the models of now in a form whenever they change.

    Chooses the one that came into use, or the first one where the chosen one was rolled back.

    It goes with the form: a function that is connected to the session would outlive it.
    """

    def __init__(self, form: ParamsForm[Any], session: Session) -> None:
        super().__init__(form)
        self._form, self._session, self._seen = form, session, ""
        # Who chooses one that is off already, chooses so knowing it.
        self._off: set[str] = set()
        for signal in (session.project_changed, session.models_changed, session.edits_changed):
            signal.connect(self._follow)
        self._follow()

    def _follow(self) -> None:
        self._form.refresh()
        project = self._session.project
        used = "" if project is None else in_use(project)
        choices = model_choices(self._session)()
        off = {str(c) for c in choices if getattr(c, "label", c) != c}
        if used and used != self._seen:
            self._form.fill(model=used)
        if self._form.rows["model"].value in off - self._off:
            self._form.fill(model=str(choices[0]))
        self._seen, self._off = used, off


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
