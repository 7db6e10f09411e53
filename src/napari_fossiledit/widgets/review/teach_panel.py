"""Corrected slices teach the model: train, read the verdict, keep or roll back."""

from __future__ import annotations

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_fossiledit.params.review import TeachParams
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import show_done
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, note
from napari_fossiledit.workflows.review import teach

HELP = (
    "Slices in which every mask is right, and traced ones, train the model further. Both models "
    "are then judged on the pinned slices; the new one is only used once you keep it."
)
_LABELS = {"slices": "Slices", "pin": "Pin as judges", "max_minutes": "Longest, minutes"}
_SHOWN = frozenset({"slices", "pin", "max_minutes", "version"})
_HIDDEN = tuple(TeachParams.model_fields.keys() - _SHOWN)


class TeachPanel(QWidget):
    """Goes on with the training of the model in use, and decides about the result."""

    def __init__(self, session: Session, jobs: JobPanel) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.form = ParamsForm(TeachParams, hidden=_HIDDEN, labels=_LABELS)
        self.verdict = note("")
        self.taught = ""
        self.decide = beside(
            button("Keep", "Use the new model from now on.", lambda: self._decide(keep=True)),
            button("Roll back", "Do without the new model.", lambda: self._decide(keep=False)),
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(note(HELP))
        column.addWidget(self.form)
        column.addWidget(
            button(
                "Teach the model", "Train in the background, then judge both models.", self.start
            )
        )
        column.addWidget(self.verdict)
        column.addWidget(self.decide)
        self.refresh()

    def refresh(self) -> None:
        """Show the project that is open now, without a verdict."""
        self._show("", "")

    def start(self) -> None:
        """Train further in a process of its own, and judge."""
        self.session.saving.emit()
        path, params = self.session.writable.path, self.form.read()
        then = self.session.while_open(self._on_taught)
        self.jobs.start("Teaching the model", teach.run, path, params, loads_first=True, then=then)

    def _on_taught(self, result: teach.TeachResult) -> None:
        decided = not result.model or result.cancelled
        self._show("" if decided else result.model, "\n".join((result.verdict, *result.notes)))
        self.session.annotations_changed.emit()
        self.session.models_changed.emit()

    def _decide(self, *, keep: bool) -> None:
        path = self.session.writable.path
        word = "keep" if keep else "roll_back"
        params = TeachParams(**{word: self.taught})

        def decided(result: teach.TaughtResult) -> None:
            self._show("", "")
            show_done(f"{result.in_use or 'No model'} is in use now.")
            self.session.models_changed.emit()

        then = self.session.while_open(decided)
        self.jobs.start("Deciding", teach.run, path, params, in_process=False, then=then)

    def _show(self, taught: str, said: str) -> None:
        self.taught = taught
        self.verdict.setText(said)
        self.verdict.setVisible(bool(said))
        self.decide.setVisible(bool(taught))
