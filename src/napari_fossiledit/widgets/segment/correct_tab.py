"""The page *Correct* of the dock *Segment*."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QComboBox, QFormLayout, QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.annotations import FillParams, TraceParams
from napari_fossiledit.widgets.canvas import correcting
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import errors_shown, show_done, summary_text
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, note
from napari_fossiledit.widgets.segment.score_picker import ScorePicker
from napari_fossiledit.workflows.annotate.files import fill_labels, trace_slice

HELP = (
    "Take over what is right, paint what is missing. Painting is saved at once; Ctrl+Z takes "
    "strokes back. Then mark the slice as traced: it can be trained on and judged by."
)


class CorrectPage(QWidget):
    """Turn predictions into labels, correct them, and make annotations of them."""

    def __init__(self, session: Session, jobs: JobPanel, picker: ScorePicker) -> None:
        super().__init__()
        self.session, self.jobs, self.picker = session, jobs, picker
        self.classes = QComboBox()
        self.classes.setToolTip("Class of the next instance.")
        self.classes.setAccessibleName("Class")
        self.classes.currentTextChanged.connect(self._on_class)
        session.trace_requested.connect(self._on_trace_key)
        column = QVBoxLayout(self)
        column.addWidget(note(HELP))
        self._build_filling(column)
        self._build_painting(column)
        column.addWidget(
            button(
                "Slice is traced",
                "Make annotations of this slice's labels: every fossil of it is now traced.",
                self.trace,
                shortcut="Shift-T",
            )
        )
        column.addStretch(1)

    def _build_filling(self, column: QVBoxLayout) -> None:
        column.addWidget(
            beside(
                button(
                    "Take over this slice",
                    "Copy what is shown on this slice, above the score, into the labels.",
                    lambda: self.fill(str(self.session.slice)),
                ),
                button(
                    "... all slices",
                    "Copy predictions above the score on all slices that hold no labels yet.",
                    lambda: self.fill("all"),
                ),
            )
        )

    def _build_painting(self, column: QVBoxLayout) -> None:
        form = QFormLayout()
        form.addRow("Class", self.classes)
        column.addLayout(form)
        column.addWidget(
            beside(
                button("New instance", "Paint a fossil.", self.new_instance, shortcut="M"),
                button("Edit labels", "Choose the layer of the labels.", self._edit),
            )
        )
        column.addWidget(
            beside(
                button(
                    "Delete instance",
                    "Delete the selected label from this slice; the key deletes the one under "
                    "the mouse.",
                    self._delete_selected,
                    shortcut="Shift-D",
                ),
                button("Undo taking over", "Bring back the labels before.", self._undo_fill),
            )
        )

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

    def new_instance(self) -> None:
        """Ready the brush for a fossil that no label holds yet."""
        correcting.new_instance(self.session)

    def fill(self, slices: str) -> None:
        """Copy the instances that are shown into the labels of `slices`."""
        if not self.picker.source:
            raise FossilError(
                "There is nothing to take over", advice="Predict this slice first, or show another."
            )
        params = FillParams(
            source=self.picker.source,
            slices=slices,
            class_name=self.picker.class_name,
            score=self.picker.score,
            overwrite=slices != "all",
        )
        self._run("Taking over", fill_labels, params, self._filled)

    def trace(self) -> None:
        """Make annotations of the labels of the shown slice."""
        params = TraceParams(slices=str(self.session.slice))
        self._run("Keeping the slice", trace_slice, params, self._traced)

    def _run(
        self,
        title: str,
        function: Callable[..., object],
        params: FillParams | TraceParams,
        then: Callable[[object], None],
    ) -> None:
        path = self.session.writable.path
        self.jobs.start(
            title,
            function,
            path,
            params,
            in_process=False,
            then=self.session.while_open(then),
        )

    def _filled(self, result: object) -> None:
        correcting.reload(self.session)
        correcting.edit(self.session)
        layer = self.picker.layer
        if layer is not None:
            layer.visible = False
        show_done(summary_text("Taken over", result))

    def _traced(self, result: object) -> None:
        show_done(summary_text("Traced", result))
        self.session.annotations_changed.emit()

    def _edit(self) -> None:
        correcting.edit(self.session)

    def _delete_selected(self) -> None:
        correcting.delete(self.session, int(correcting.edit(self.session).selected_label))

    def _undo_fill(self) -> None:
        slices = self.session.writable.labels.undo_last()
        correcting.reload(self.session)
        show_done(f"Brought back the labels of {len(slices)} slices.")
