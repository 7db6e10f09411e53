"""The controls of the page *Review*."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QComboBox, QFormLayout, QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.params.annotations import FillParams, TraceParams
from napari_fossiledit.widgets.canvas import correcting
from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.canvas.shortcuts import HELPING, PAINTING, TOOLS
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import counted, errors_shown, show_done
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button
from napari_fossiledit.widgets.review.queue_panel import keyed
from napari_fossiledit.widgets.segment.score_picker import ScorePicker
from napari_fossiledit.workflows.annotate.corrections import FillResult, TraceResult, fill, trace

_TOOLS_A_ROW = 3
_TEXTURES = ("pitted", "mud_filled")


class CorrectTab(QWidget):
    """Take predictions over, correct them, and mark slices as traced."""

    def __init__(self, session: Session, jobs: JobPanel, picker: ScorePicker) -> None:
        super().__init__()
        self.session, self.jobs, self.picker = session, jobs, picker
        self.classes = QComboBox()
        self.classes.setToolTip("Class of the next instance.")
        self.classes.setAccessibleName("Class")
        self.classes.currentTextChanged.connect(self._on_class)
        session.trace_requested.connect(self._on_trace_key)
        form = QFormLayout()
        selection = attach(session).selection
        form.addRow(
            "Class",
            _row(
                self.classes,
                button(
                    "Give",
                    "Give the clicked mask this class.",
                    lambda: selection.describe(class_name=self.classes.currentText()),
                ),
            ),
        )
        self.textures = QComboBox()
        self.textures.setEditable(True)
        self.textures.addItems(["", *_TEXTURES])
        self.textures.setToolTip("How a fossil is preserved; empty: unknown.")
        self.textures.setAccessibleName("Texture")
        form.addRow(
            "Texture",
            _row(
                self.textures,
                button(
                    "Give",
                    "Give the clicked mask this texture.",
                    lambda: selection.describe(texture=self.textures.currentText().strip()),
                ),
            ),
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(
            beside(
                button(
                    "Take over this slice",
                    "Copy the predictions that are shown on this slice, to be corrected. They take "
                    "the place of what is there, but for masks that you found right.",
                    lambda: self.fill(str(self.session.slice)),
                ),
                button(
                    "... all slices",
                    "Copy the predictions of at least this score on all slices that are neither "
                    "traced nor corrected.",
                    lambda: self.fill("all"),
                ),
            )
        )
        column.addLayout(form)
        tools = QWidget()
        grid = QGridLayout(tools)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        for number, shortcut in enumerate(s for s in (*PAINTING, *TOOLS, *HELPING) if s.text):
            grid.addWidget(keyed(session, shortcut), *divmod(number, _TOOLS_A_ROW))
        column.addWidget(tools)
        column.addWidget(
            button(
                "Slice is traced",
                "Mark that every fossil of this slice is there; no mask changes by that.",
                self.trace,
                shortcut="Shift-T",
            )
        )
        column.addStretch(1)

    def refresh(self) -> None:
        """Offer the classes of the project that is open now."""
        project = self.session.project
        self.classes.clear()
        if project is not None:
            self.classes.addItems(list(project.settings.classes))

    def _on_class(self, name: str) -> None:
        self.session.paint_class = name

    def _on_trace_key(self) -> None:
        with errors_shown():
            self.trace()

    # ---------------------------------------------------------------- actions

    def fill(self, slices: str) -> None:
        """Take over the instances that are shown on `slices`."""
        if not self.picker.source:
            raise FossilError(
                "There is nothing to take over", advice="Predict this slice first, or show another."
            )
        params = FillParams(
            source=self.picker.source,
            slices=slices,
            class_name=self.picker.class_name,
            score=self.picker.score,
            mask_cut=self.picker.mask_cut,
            # One slice is replaced as the user sees it; on all slices no work may get lost.
            overwrite=slices != "all",
        )
        self._run("Taking over", fill, params, self._on_filled)

    def trace(self) -> None:
        """Mark the shown slice as traced."""
        params = TraceParams(slices=str(self.session.slice))
        self._run("Keeping the slice", trace, params, self._on_traced)

    def _run(
        self,
        title: str,
        function: Callable[..., object],
        params: FillParams | TraceParams,
        then: Callable[[Any], None],
    ) -> None:
        # A thread is enough: this touches no torch.
        path = self.session.writable.path
        then = self.session.while_open(then)
        self.jobs.start(title, function, path, params, in_process=False, then=then)

    def _on_filled(self, result: FillResult) -> None:
        correcting.reload(self.session)
        correcting.edit(self.session)
        layer = self.picker.layer
        if layer is not None:
            layer.visible = False
        where = f"on {counted(len(result.slices), 'slice')}"
        if len(result.slices) == 1:
            where = f"on slice {result.slices[0]}"
        undo = correcting.undo_of_newest(self.session) if result.slices else None
        show_done(f"{counted(result.instances, 'fossil')} outlined {where}.", undo)
        self.session.annotations_changed.emit()

    def _on_traced(self, result: TraceResult) -> None:
        if result.slices:
            show_done(f"Slice {format_slices(result.slices)} is traced: every fossil is there.")
        else:
            show_done("This slice was marked as traced before.")
        self.session.annotations_changed.emit()


def _row(field: QWidget, action: QWidget) -> QWidget:
    """Return a field with a small button behind it."""
    made = QWidget()
    row = QHBoxLayout(made)
    row.setContentsMargins(0, 0, 0, 0)
    row.addWidget(field, 1)
    row.addWidget(action)
    return made
