"""The model that the whole page is about."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox

from napari_fossiledit.widgets.common.model_choices import model_choices
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.workflows.shared.model_refs import in_use, standing


class ModelPicker(QComboBox):
    """A choice of models and edits that follows the model in use."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._used = ""
        # Who chooses one that is off already, chooses so knowing it.
        self._off: set[str] = set()
        self.setToolTip("The model to look at and to mend. The one in use is chosen by itself.")
        self.setAccessibleName("Model")
        # The longest name would make the page as wide.
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        session.models_changed.connect(self.refresh)
        session.edits_changed.connect(self.refresh)

    @property
    def name(self) -> str:
        """Name of the chosen model."""
        return str(self.currentData() or "")

    def refresh(self) -> None:
        """Offer the models of now; choose the one in use where another one came into use."""
        project = self.session.project
        kept, self._used, before = self.name, in_use(project) if project else "", self._used
        names = model_choices(self.session)()
        marks = {n: standing(project, n) for n in names} if project else {}
        self.blockSignals(True)
        self.clear()
        for name in names:
            mark = marks.get(name)
            # Qt finds no data of a subclass of `str`.
            self.addItem(f"{name} ({mark})" if mark else name, str(name))
        is_kept = self._used == before and (not marks.get(kept) or kept in self._off)
        self._off = {name for name, mark in marks.items() if mark}
        # The first is the one in use; without a decision of the user never an edit.
        self.setCurrentIndex(max(self.findData(kept) if is_kept else 0, 0))
        self.blockSignals(False)
        if self.name != kept:
            self.currentIndexChanged.emit(self.currentIndex())
