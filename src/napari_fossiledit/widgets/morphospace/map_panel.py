"""The map, what its colours mean, and its way to the canvas and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.morphospace.crops import Picture
from napari_fossiledit.project import ANNOTATIONS
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.correcting import show_labels
from napari_fossiledit.widgets.canvas.layers import Role, find
from napari_fossiledit.widgets.canvas.pointing import look_at
from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.common.colouring import coloured
from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec
from napari_fossiledit.widgets.common.notices import counted, errors_shown, show_error
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import note
from napari_fossiledit.widgets.morphospace.reading import EDGE, NOTHING, Mapped, read_pictures
from napari_fossiledit.widgets.morphospace.scatter import Rows, Scatter
from napari_fossiledit.widgets.segment.score_picker import picker_of

HELP = "Drag around points to choose them; click one to see it in its slice. Esc chooses none."
# So many slices have the pictures of their items kept, 28 kB each.
_KEPT = 24


class MapPanel(QWidget):
    """Shows the items on the map; what is chosen on it is outlined in the canvas.

    Signals
    -------
    chosen_changed
        Other items are chosen.

    Attributes
    ----------
    mapped
        What is on show, `NOTHING` where nothing is.
    by
        Chooses what the colours tell.
    ringed
        Row of the item that was clicked here or in the canvas, -1 where none was.
    """

    chosen_changed = Signal()

    def __init__(self, session: Session, by: QComboBox) -> None:
        super().__init__()
        self.session, self.by = session, by
        self.mapped = NOTHING
        self.ringed = -1
        self._colours, self._selection = colours_of(session), attach(session).selection
        self._rows: dict[int, int] = {}
        self._pictures: dict[int, dict[int, QImage]] = {}
        self._under, self._choosing, self._unreadable = -1, False, False
        self._runner = JobRunner(self)
        self._runner.failed.connect(self._on_unreadable)
        self.scatter = Scatter()
        self.scatter.setAccessibleName("Map")
        self.legend, self.text = note(""), note(HELP)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.scatter, self.legend, self.text):
            column.addWidget(widget)
        by.currentTextChanged.connect(self._colour)
        self.scatter.lassoed.connect(self.choose)
        self.scatter.clicked.connect(self._on_clicked)
        self.scatter.hovered.connect(self._on_hovered)
        self._colours.changed.connect(self._colour)
        self._colours.chosen_changed.connect(self._on_chosen_elsewhere)
        self._selection.changed.connect(self._on_picked)

    @property
    def chosen(self) -> Rows:
        """Rows of the chosen items."""
        return np.flatnonzero(self.scatter.chosen)

    def ids(self, rows: Rows) -> str:
        """Return items as workflows take them."""
        return ",".join(self.mapped.keys[row] for row in rows)

    def show_mapped(self, mapped: Mapped, *, by: str = "") -> None:
        """Show other items, keeping those chosen that are still there.

        Parameters
        ----------
        by
            What the colours are to tell; empty: what they tell now.
        """
        before = self.mapped
        kept = {before.keys[row] for row in self.chosen}
        self._runner.abandon()
        self.mapped, self._pictures, self._unreadable = mapped, {}, False
        self.setVisible(bool(mapped.keys))
        self._rows = {i.id or 0: row for row, i in enumerate(mapped.instances)}
        if not np.array_equal(before.places, mapped.places):
            self.ringed = -1
            self.scatter.show_points(mapped.places)
        by = by or self.by.currentText()
        self.by.blockSignals(True)
        self.by.clear()
        self.by.addItems(list(mapped.columns))
        self.by.setCurrentText(by)
        self.by.blockSignals(False)
        self._colour()
        self.choose(np.array([n for n, key in enumerate(mapped.keys) if key in kept], np.intp))
        self._on_picked()

    def _colour(self) -> None:
        heading = self.by.currentText()
        if heading not in self.mapped.columns:
            return
        made = coloured(heading, self.mapped.columns[heading], self._colours.specimen)
        self.scatter.colour(made.kinds, made.palette)
        self.legend.setText(made.legend)

    # --------------------------------------------------------------- choosing

    def choose(self, rows: Rows) -> None:
        """Choose items: they are outlined in the canvas, and their specimens stand out in 3D."""
        self._choosing = True
        self._colours.choose([self.mapped.instances[row] for row in rows])
        self._choosing = False
        self._show_chosen(rows)

    def _on_chosen_elsewhere(self) -> None:
        """Choose all items of the specimens that were chosen in a table, or none."""
        if self._choosing:
            return
        numbers = self._colours.chosen_specimens
        of = self._colours.linked_specimen
        rows = [n for n, i in enumerate(self.mapped.instances) if of(i) in numbers]
        self._show_chosen(np.array(rows, np.intp))

    def _show_chosen(self, rows: Rows) -> None:
        self.scatter.choose(rows)
        self._tell()
        self.chosen_changed.emit()

    def _tell(self) -> None:
        rows, said = self.chosen, []
        if len(rows):
            instances = [self.mapped.instances[row] for row in rows]
            slices = counted(len({i.slice for i in instances}), "slice")
            fossils = {(i.class_name, i.specimen) for i in instances if i.specimen is not None}
            linked = f", of {counted(len(fossils), 'fossil')}" if fossils else ""
            said.append(f"{len(rows)} of {len(self.mapped.keys)} chosen, in {slices}{linked}.")
        if self.ringed >= 0:
            said.append(f"Ringed: {self._words(self.ringed)}.")
        if self.mapped.missing:
            said.append(f"{self.mapped.missing} are not on the map yet.")
        self.text.setText(" ".join(said) or HELP)

    def _words(self, row: int, join: str = ", ") -> str:
        item = self.mapped.instances[row]
        specimen = "" if item.specimen is None else f", specimen {item.specimen}"
        what = ", ".join(filter(None, (item.class_name, item.texture)))
        return f"slice {item.slice}{specimen}{join}{what}"

    # ----------------------------------------------------------------- canvas

    def _on_clicked(self, row: int) -> None:
        """Go to the slice of an item and pick it there; in 3D choose it."""
        self._ring(row)
        if self.session.viewer.dims.ndisplay == 3:
            self.choose(np.array([row]))
            return
        item = self.mapped.instances[row]
        with errors_shown():
            look_at(self.session, item.slice, item.mask.box, fitting=True)
            self.session.soon(lambda: self._pick(row))

    def _pick(self, row: int) -> None:
        source, item = self.mapped.sources[row], self.mapped.instances[row]
        with errors_shown():
            if source == ANNOTATIONS:
                layer: Layer | None = show_labels(self.session)
            else:
                picker_of(self.session).reveal(source, item.class_name, item.score)
                layer = find(self.session.viewer, Role.PREDICTIONS)
            if not isinstance(layer, Labels) or not self._selection.pick(layer, item.id or 0):
                raise FossilError(
                    "The mask of this point is not there any more",
                    advice="Compare the fossils again, then make the map again.",
                )

    def _on_picked(self) -> None:
        """Ring the mask that is picked in the canvas."""
        picked = self._selection.picked
        if picked is not None:
            self._ring(self._rows.get(picked.instance.id or 0, -1))

    def _ring(self, row: int) -> None:
        self.ringed = row
        self.scatter.ring(row)
        self._tell()

    # --------------------------------------------------------------- pictures

    def _on_hovered(self, row: int) -> None:
        self._under = row
        if row < 0:
            return
        z = self.mapped.instances[row].slice
        self.scatter.tell(self._pictures.get(z, {}).get(row), self._words(row, "\n"))
        if z not in self._pictures and not self._unreadable and not self._runner.is_running:
            rows = [n for n, i in enumerate(self.mapped.instances) if i.slice == z]
            masks = [self.mapped.instances[n].mask for n in rows]
            args = (self.session.current.path, z, masks)
            job = JobSpec("Reading pictures", read_pictures, args, in_process=False)
            self._runner.start(job, lambda found: self._on_pictures(z, rows, found))

    def _on_pictures(self, z: int, rows: list[int], pictures: list[Picture]) -> None:
        while len(self._pictures) >= _KEPT:
            del self._pictures[next(iter(self._pictures))]
        self._pictures[z] = {n: _image(p) for n, p in zip(rows, pictures, strict=True)}
        # Another slice may have been asked for meanwhile.
        self._on_hovered(self._under)

    def _on_unreadable(self, error: FossilError) -> None:
        # Once, not at each point.
        self._unreadable = True
        show_error(error)


def _image(picture: NDArray[Any]) -> QImage:
    # A copy: Qt does not keep the pixels.
    data = np.ascontiguousarray(picture).tobytes()
    return QImage(data, EDGE, EDGE, 3 * EDGE, QImage.Format.Format_RGB888).copy()
