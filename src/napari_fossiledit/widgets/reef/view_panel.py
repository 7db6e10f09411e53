"""How specimens are shown in 3D: their colours, what is cut away, pictures and movies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget
from superqt import QLabeledSlider

from napari_fossiledit.widgets.canvas.joined_mesh import RGB
from napari_fossiledit.widgets.canvas.surfaces import Cut, ReefSurfaces
from napari_fossiledit.widgets.canvas.turntable import Turntable
from napari_fossiledit.widgets.common.colouring import coloured
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import show_done
from napari_fossiledit.widgets.common.paths import Pick, ask_path
from napari_fossiledit.widgets.dock import beside, button, fold, note
from napari_fossiledit.workflows.shared.specimens import SpecimenKey

_OWN = "Specimen"
_CUTS = {
    "All of the fossils": Cut.NOTHING,
    "Cut away what lies before the slice": Cut.BEFORE,
    "Cut away what lies after the slice": Cut.AFTER,
}


def key_of(row: Mapping[str, Any]) -> SpecimenKey:
    """Return the specimen that a row of the table is of."""
    return SpecimenKey(str(row.get("class_name", "")), int(row["specimen"]))


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return what specimens can be coloured by, None where it is not known."""

    def width(row: Mapping[str, Any]) -> float | None:
        """Width of the interval, in % of the volume."""
        volume, low, high = (row.get(f"volume{part}_um3") for part in ("", "_low", "_high"))
        return 100 * (high - low) / volume if volume and low is not None else None

    return {
        _OWN: [key_of(row) for row in rows],
        "Class": [row.get("class_name") or None for row in rows],
        "Volume": [row.get("volume_mm3") for row in rows],
        "Texture": [row.get("texture") or None for row in rows],
        "Reviewed": [row.get("review") for row in rows],
        "Interval of the volume": [width(row) for row in rows],
    }


class ViewPanel(QWidget):
    """Colours, a cut, pictures and movies of the specimens in 3D.

    Signals
    -------
    coloured
        The specimens have other colours.
    """

    coloured = Signal()

    def __init__(self, surfaces: ReefSurfaces, jobs: JobPanel) -> None:
        super().__init__()
        self.surfaces, self.session = surfaces, surfaces.session
        self.turntable = Turntable(self.session, jobs, self)
        self._rows: Sequence[Mapping[str, Any]] = ()
        self._rgb: dict[SpecimenKey, RGB] = {}
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        self.by = QComboBox()
        self.by.addItems(list(_columns(())))
        self.by.setToolTip("What the colours of the fossils in 3D mean.")
        self.by.currentTextChanged.connect(self._colour)
        self.legend = note("")
        column.addWidget(beside(QLabel("Colour by"), self.by))
        column.addWidget(self.legend)
        inside = fold(column, "Cut open, pictures and movies")
        self.cut = QComboBox()
        self.cut.addItems(list(_CUTS))
        self.cut.setToolTip(
            "Look into the fossils. The eye of its layer hides the photograph of the slice. Fossils"
            " are only shown cut, as bare surfaces: tables and exported files have them whole."
        )
        self.cut.currentTextChanged.connect(lambda text: surfaces.cut(_CUTS[text]))
        self.slice = QLabeledSlider(Qt.Orientation.Horizontal)
        self.slice.setToolTip("Slice whose photograph lies among the fossils, and of the cut.")
        self.slice.valueChanged.connect(self._on_slice)
        self.session.slice_changed.connect(self._show_slice)
        inside.addWidget(self.cut)
        inside.addWidget(note("Slice"))
        inside.addWidget(self.slice)
        inside.addWidget(
            beside(
                button("Picture ...", "Write what the canvas shows (PNG).", self.picture),
                button("Movie ...", "Write one turn of the fossils (GIF).", self.movie),
            )
        )

    def show_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Colour other specimens."""
        self._rows = rows
        self.setVisible(bool(rows))
        project = self.session.project
        if project is not None:
            with QSignalBlocker(self.slice):
                self.slice.setRange(0, project.shape[0] - 1)
            self._show_slice(self.session.slice)
        self._colour()

    def colour(self, key: SpecimenKey) -> RGB:
        """Return the colour of a specimen."""
        return self._rgb.get(key) or self.surfaces.own_colour(key)

    def _colour(self, _: str = "") -> None:
        heading = self.by.currentText()
        columns = _columns(self._rows)
        made = coloured(heading, columns[heading], self.surfaces.own_colour)
        self._rgb = {}
        if heading != _OWN:
            for row, kind in zip(self._rows, made.kinds, strict=True):
                red, green, blue, _ = made.palette[kind].getRgbF()
                self._rgb[key_of(row)] = (red or 0.0, green or 0.0, blue or 0.0)
        self.legend.setText(made.legend)
        self.legend.setVisible(heading != _OWN)
        self.surfaces.colour_by(self.colour)
        self.coloured.emit()

    # ------------------------------------------------------------------ slices

    def _on_slice(self, z: int) -> None:
        if self.session.project is not None:
            self.session.go_to(z)

    def _show_slice(self, z: int) -> None:
        with QSignalBlocker(self.slice):
            self.slice.setValue(z)

    # ---------------------------------------------------------------- pictures

    def picture(self) -> None:
        """Write what the canvas shows."""
        self._write("Write the picture", ".png", "Picture (*.png)")

    def movie(self) -> None:
        """Write one turn of the fossils around the axis that stands upright."""
        self._write("Write the movie", ".gif", "Movie (*.gif)")

    def _write(self, title: str, suffix: str, kinds: str) -> None:
        proposed = self.session.current.path.with_suffix(suffix)
        chosen = ask_path(self, Pick.SAVE_FILE, title, str(proposed), kinds)
        if chosen:
            file = Path(chosen)
            file = file if file.suffix else file.with_suffix(suffix)
            self.turntable.start(file, lambda path: show_done(f"Written: {path}."))
