"""*Change the slice yourself*: the mud colour, the perturbation, its preview on the slice."""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QMenu,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_fossiledit.errors import FossilError
from napari_fossiledit.jobs import WarmProcess
from napari_fossiledit.params.editing import EditParams
from napari_fossiledit.params.perturb import PerturbParams, Preset
from napari_fossiledit.project import ANNOTATIONS, Source
from napari_fossiledit.widgets.canvas import regions
from napari_fossiledit.widgets.canvas.layers import Role, find, shown_source
from napari_fossiledit.widgets.canvas.pointing import Pointer
from napari_fossiledit.widgets.common.compat import is_drawing
from napari_fossiledit.widgets.common.debounced_call import DebouncedCall
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.common.notices import errors_shown, show_done
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button, note, section, slider
from napari_fossiledit.widgets.probe_edit.model_picker import ModelPicker
from napari_fossiledit.widgets.probe_edit.preview import (
    hide_perturbed,
    move_perturbed,
    show_perturbed,
)
from napari_fossiledit.workflows.shared.perturbed_slices import (
    PickResult,
    Preview,
    mud_picked_on,
    pick_mud,
    preview,
)

HELP = (
    "An edit teaches the model to treat a slice as if it had been changed in this way. Choose how, "
    "and look at it."
)
WORDS = {
    Preset.BACKGROUND_TO_MUD: "everything but the fossils is filled with mud",
    Preset.FOSSILS_TO_TEXTURE: "the fossils are filled with pitted texture",
    Preset.BOTH: "the fossils are filled with pitted texture and everything else with mud",
    Preset.OCCLUDE_FOSSILS: "the fossils are hidden under mud",
    Preset.SOFTEN_BACKGROUND: "everything but the fossils is blurred",
}
"""What each preset does to a slice, as the end of a sentence."""

CHOICES: dict[Enum, str] = {
    Preset.BACKGROUND_TO_MUD: "Fill all but the fossils with mud",
    Preset.FOSSILS_TO_TEXTURE: "Fill the fossils with pitted texture",
    Preset.BOTH: "Do both of these",
    Preset.OCCLUDE_FOSSILS: "Hide the fossils under mud",
    Preset.SOFTEN_BACKGROUND: "Blur all but the fossils",
    Preset.CUSTOM: "Change regions of my own",
}
"""The same as choices."""

NO_STEPS = "Nothing is changed yet: draw a region on the slice, or add one by name"
# Each kind of fill once, with a value to begin with: the box can be edited.
FILLS = (
    "mud",
    "real-mud",
    "texture",
    "seamless",
    "colour 150,90,60",
    "blur 3",
    "noise 20",
    "brightness -30",
    "hue 30",
)
_SHOWN = ("preset", "steps")
_LABELS = {
    "preset": "What to do",
    "source": "Outlines from",
    "source_score": "Least score of these",
    "class_name": "Fossils are",
    "mud": "Mud (r,g,b)",
    "relative": "Mud follows light",
    "texture": "Texture from",
    "seamless": "No seams in texture",
    "margin": "Rim (px)",
    "perturb_seed": "Random number",
}
_MEASURED = "No mud colour was picked: it is measured on each slice."
_PICK, _STOP = "Pick from slice", "Click on mud ..."
_HEADINGS = ("Region", "Fill")
_FILL_WIDTH = 110
_LATER_MS = 200


class Perturbation(QWidget):
    """Choose a perturbation, and see it on the shown slice.

    Signals
    -------
    changed
        Another perturbation is chosen.
    """

    changed = Signal()

    def __init__(
        self, session: Session, jobs: JobPanel, warm: WarmProcess, model: ModelPicker
    ) -> None:
        super().__init__()
        self.session, self.model = session, model
        # What had to be assumed for the preview, in words.
        self._said = ""
        self.debounced = DebouncedCall(warm, self)
        self.mud = MudRow(session, jobs)
        rest = [name for name in PerturbParams.model_fields if name not in _SHOWN]
        self.form = ParamsForm(
            PerturbParams, hidden=("steps",), advanced=rest, labels=_LABELS, words=CHOICES
        )
        # Begin with what edits gain most from.
        self.form.fill(preset=EditParams.model_fields["preset"].default)
        self.steps = StepsTable(session)
        self.live = QCheckBox("Preview on the shown slice")
        self.live.setToolTip("Perturb the shown slice again whenever something changes.")
        self.where = QComboBox()
        self.where.addItems(["over the photograph", "beside the photograph"])
        self.where.setToolTip("Where the changed slice is shown.")
        self.where.setAccessibleName("Place of the preview")
        self.opacity = slider(1, "Opacity of the changed slice; at 0 only the photograph is seen.")
        self.state = note("")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(note(HELP))
        column.addWidget(self.form)
        column.addWidget(self.steps)
        section(column, "Mud colour").addWidget(self.mud)
        inside = section(column, "Preview")
        rows = QFormLayout()
        rows.addRow(self.live)
        rows.addRow("Shown", self.where)
        rows.addRow("Opacity", self.opacity)
        inside.addLayout(rows)
        inside.addWidget(self.state)
        column.addStretch(1)
        self.form.changed.connect(self._on_changed)
        self.steps.changed.connect(self._on_changed)
        session.slice_changed.connect(self._ask)
        session.mud_changed.connect(self._on_changed)
        session.annotations_changed.connect(self._ask)
        self.debounced.follow(self.live, self._ask, self._hide)
        self.where.currentIndexChanged.connect(self._on_where)
        self.opacity.valueChanged.connect(self._on_opacity)
        self.debounced.answered.connect(self._show)
        self.debounced.failed.connect(self._on_failed)
        self._on_changed()

    # ------------------------------------------------------------------ content

    def read(self) -> PerturbParams:
        """Return the perturbation that is chosen.

        Raises
        ------
        FossilError
            Where a value does not fit; its field then shows what is wrong.
        """
        self.form.fix(steps=self.steps.steps if self.is_custom else "")
        return self.form.read()

    @property
    def is_custom(self) -> bool:
        """True where the steps of the table are the perturbation."""
        return bool(self.form.rows["preset"].value == Preset.CUSTOM)

    def values(self) -> dict[str, Any]:
        """Return the values of the perturbation, for the parameters of what applies it.

        Raises
        ------
        FossilError
            See `read`.
        """
        return self.read().model_dump(exclude={"version"})

    @property
    def words(self) -> str:
        """What is done to a slice, as the end of a sentence; empty where it is nothing yet."""
        if self.is_custom:
            return self.steps.words
        return WORDS[Preset(self.form.rows["preset"].value)]

    def refresh(self) -> None:
        """Show the project that is open now."""
        self.debounced.drop()
        self.live.setChecked(False)
        self.mud.refresh()
        self.form.refresh()
        self.steps.named = []
        self.steps.refresh()
        self.changed.emit()

    def toggle(self) -> None:
        """Show or hide the changed slice; make it where there is none."""
        layer = find(self.session.viewer, Role.PERTURBED)
        if layer is None:
            self.live.setChecked(True)
        else:
            layer.visible = not layer.visible

    # ------------------------------------------------------------------- events

    def _on_changed(self) -> None:
        self.steps.setVisible(self.is_custom)
        self.changed.emit()
        self._ask()

    def _hide(self) -> None:
        self.state.setText("")
        if self.session.project is not None:
            hide_perturbed(self.session)

    def _ask(self) -> None:
        project = self.session.project
        if project is None or not self.live.isChecked():
            return
        try:
            params = self.read()
            if self.is_custom and not params.steps:
                raise FossilError(NO_STEPS)
        except FossilError as error:
            self._on_failed(error)
            return
        z, self._said = self.session.slice, ""
        if params.source == ANNOTATIONS and not project.instances(ANNOTATIONS, z):
            source = shown_source(self.session) or project.ledger.latest(self.model.name)
            if z in project.ledger.done(source):
                params = params.model_copy(update={"source": source})
                title = Source.parse(source).title
                self._said = f" Nothing is traced here: the outlines are those found by {title}."
        self.state.setText("Changing the slice ...")
        self.debounced.request("Perturbing", preview, project.path, z, params)

    def _show(self, made: Preview) -> None:
        # The user may have moved on while the slice was computed.
        if self.session.project is None or made.slice != self.session.slice:
            return
        if is_drawing(find(self.session.viewer, Role.REGIONS)):
            # A new layer would end the shape that is being drawn; the picture can wait for it.
            QTimer.singleShot(_LATER_MS, lambda: self._show(made))
            return
        show_perturbed(
            self.session,
            made.slice,
            made.image,
            beside=self._is_beside,
            opacity=self.opacity.value(),
        )
        self.state.setText(
            f"Slice {made.slice}: {made.share:.0%} of the pixels are changed.{self._said}"
        )

    def _on_failed(self, error: FossilError) -> None:
        hide_perturbed(self.session)
        self.state.setText(str(error))

    @property
    def _is_beside(self) -> bool:
        return self.where.currentIndex() == 1

    def _on_where(self) -> None:
        if self.session.project is not None:
            move_perturbed(self.session, self.session.slice, beside=self._is_beside)

    def _on_opacity(self, opacity: float) -> None:
        layer = find(self.session.viewer, Role.PERTURBED)
        if layer is not None:
            layer.opacity = opacity


class MudRow(QWidget):
    """The mud colour of the project: shown, picked with a click on the slice, forgotten."""

    def __init__(self, session: Session, jobs: JobPanel) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.pointer = Pointer(session, self)
        self.swatch = QFrame()
        self.swatch.setFixedSize(34, 34)
        self.swatch.setAccessibleName("Mud colour")
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.pick = button(
            _PICK, "Click on the canvas where the slice shows plain red mud.", self.toggle
        )
        self.forget = button("Forget", "Measure the mud on each slice instead.", self.clear)
        row = QHBoxLayout()
        row.addWidget(self.swatch)
        row.addWidget(self.text, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        column.addWidget(beside(self.pick, self.forget))
        self.pointer.clicked.connect(self._on_click)
        self.pointer.active.connect(lambda waits: self.pick.setText(_STOP if waits else _PICK))

    def refresh(self) -> None:
        """Show the colour that the project holds."""
        project = self.session.project
        colour = None if project is None else project.settings.mud_colour
        self.forget.setEnabled(colour is not None)
        if project is None or colour is None:
            self.swatch.setStyleSheet("border: 1px dashed gray;")
            self.text.setText(_MEASURED)
            return
        # The colour has the values of the stack, a style sheet takes 8 bits.
        full = 255 if project.settings.stack.dtype == "uint8" else 65535
        rgb = ", ".join(str(value * 255 // full) for value in colour)
        self.swatch.setStyleSheet(f"background: rgb({rgb}); border: 1px solid gray;")
        picked_on = mud_picked_on(project)
        where = "" if picked_on is None else f", picked on slice {picked_on}"
        self.text.setText(f"{', '.join(map(str, colour))}{where}")

    def toggle(self) -> None:
        """Start to wait for a click on the canvas, or stop."""
        if self.pointer.is_active:
            self.pointer.stop()
            return
        self.session.writable  # noqa: B018 # raises for a read-only project, before the click
        self.pointer.start()

    def clear(self) -> None:
        """Forget the picked colour."""
        self.session.writable.update(mud_colour=None)
        self.refresh()
        self.session.mud_changed.emit()

    def _on_click(self, z: int, x: int, y: int) -> None:
        with errors_shown():
            path = self.session.writable.path
            then = self.session.while_open(self._on_picked)
            self.jobs.start(
                "Picking the mud colour", pick_mud, path, z, x, y, in_process=False, then=then
            )

    def _on_picked(self, picked: PickResult) -> None:
        # The colour was written through another opened project: read it from the file.
        self.session.writable.update()
        self.refresh()
        show_done(f"The mud colour is picked on slice {picked.slice}.")
        self.session.mud_changed.emit()


class StepsTable(QWidget):
    """The steps of the user's own perturbation: regions, drawn or named, each with its fill.

    Signals
    -------
    changed
        Another region, or another fill.

    Attributes
    ----------
    drawn
        Regions drawn on the shown slice: the first rows.
    named
        Regions and fills that were added by name, for all slices: the rows below.
    """

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.drawn: list[regions.DrawnRegion] = []
        self.named: list[tuple[str, str]] = []
        # Rows that are filled by `refresh` are no corrections by the user.
        self._is_filling = False
        self.table = QTableWidget(0, len(_HEADINGS))
        self.table.setHorizontalHeaderLabels(list(_HEADINGS))
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setMinimumHeight(110)
        self.table.setAccessibleName("Regions and their fills")
        heads, numbers = self.table.horizontalHeader(), self.table.verticalHeader()
        if heads is not None and numbers is not None:
            heads.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
            heads.setSectionResizeMode(1, QHeaderView.ResizeMode.Interactive)
            heads.resizeSection(1, _FILL_WIDTH)
            numbers.hide()
        self.names = QToolButton()
        self.names.setText("Add by name")
        self.names.setToolTip(
            "Add a region that need not be drawn, such as all fossils of a class or the rock."
        )
        self.menu = QMenu(self.names)
        self.names.setMenu(self.menu)
        self.names.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.names.setSizePolicy(
            self.table.sizePolicy().Policy.Expanding, self.names.sizePolicy().verticalPolicy()
        )
        tools = [
            button(tool, f"Draw a region on the slice: {tool.lower()}.", partial(self.draw, tool))
            for tool in regions.TOOLS
        ]
        remove = button("Remove", "Remove the chosen row.", self.remove_chosen)
        self.empty = note("")
        self.example = button("Insert the example", "Add this change.", self._add_example)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(beside(*tools))
        column.addWidget(self.empty)
        column.addWidget(self.example)
        column.addWidget(self.table)
        column.addWidget(beside(self.names, remove))
        self.table.itemChanged.connect(self._on_item)
        session.slice_changed.connect(self.refresh)

    # ------------------------------------------------------------------ content

    @property
    def steps(self) -> str:
        """The steps as the parameter of a perturbation takes them."""
        return "; ".join(f"{region} -> {fill}" for region, fill in self._rows())

    @property
    def words(self) -> str:
        """The steps as the end of a sentence; empty where there is none."""
        done = zip(self._titles(), self._rows(), strict=True)
        return ", ".join(f"{title} is filled with {fill}" for title, (_, fill) in done)

    def _titles(self) -> list[str]:
        z = self.session.slice
        drawn = [f"region {n} on slice {z}: {d.words}" for n, d in enumerate(self.drawn, 1)]
        return [*drawn, *(region for region, _ in self.named)]

    def _rows(self) -> list[tuple[str, str]]:
        return [*((d.region, d.fill) for d in self.drawn), *self.named]

    def draw(self, tool: str) -> None:
        """Select a drawing tool; each shape becomes a row."""
        before = find(self.session.viewer, Role.REGIONS)
        layer = regions.draw(self.session, Role.REGIONS, tool, self._next_fill())
        if layer is not before:
            layer.events.data.connect(self._on_drawn)

    def add(self, region: str, fill: str = "") -> None:
        """Add a region by its name."""
        self.named.append((region, fill or self._next_fill()))
        self._on_rows()

    def remove_chosen(self) -> None:
        """Remove the chosen rows, and the shapes of those that were drawn."""
        rows = {index.row() for index in self.table.selectedIndexes()}
        count = len(self.drawn)
        shapes = [drawn.index for row, drawn in enumerate(self.drawn) if row in rows]
        self.named = [step for row, step in enumerate(self.named, count) if row not in rows]
        regions.erase(self.session, Role.REGIONS, shapes)
        self._on_rows()

    def refresh(self) -> None:
        """Show the regions drawn on the shown slice, and offer the names of others."""
        project = self.session.project
        self.drawn = []
        if project is not None:
            self.drawn = regions.drawn_regions(self.session, self.session.slice)
        self._is_filling = True
        rows = self._rows()
        self.table.setRowCount(len(rows))
        for row, (title, (_, fill)) in enumerate(zip(self._titles(), rows, strict=True)):
            self._show_row(row, title, fill)
        self._is_filling = False
        self.empty.setText(f"{NO_STEPS}. For example: {self._example} is filled with mud.")
        for widget in (self.empty, self.example):
            widget.setVisible(not rows)
        self.table.setVisible(bool(rows))
        self.menu.clear()
        for region in self._region_names():
            action = self.menu.addAction(region)
            if action is not None:
                action.triggered.connect(lambda _=False, r=region: self.add(r))

    def _show_row(self, row: int, region: str, fill: str) -> None:
        item = QTableWidgetItem(region)
        item.setToolTip(region)
        if row < len(self.drawn):
            # Its text follows the shape.
            item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
        self.table.setItem(row, 0, item)
        fills = QComboBox()
        fills.setEditable(True)
        fills.addItems(list(FILLS))
        fills.setCurrentText(fill)
        fills.setToolTip("What the region is filled with; join several fills with ' + '.")
        fills.setAccessibleName(f"Fill of {region}")
        fills.currentTextChanged.connect(lambda text: self._on_fill(row, text))
        self.table.setCellWidget(row, 1, fills)

    def _region_names(self) -> list[str]:
        project = self.session.project
        if project is None:
            return []
        names = {*project.settings.classes, *project.ledger.classes(ANNOTATIONS)}
        # The language of perturbations reads a name with spaces only in quotes.
        quoted = [f'"{n}"' if " " in n else n for n in sorted(names)]
        of_classes = [f"{kind} {name}" for name in quoted for kind in ("class", "other")]
        return ["all", "rock", *of_classes, "texture pitted", "texture mud_filled"]

    @property
    def _example(self) -> str:
        """The region of another class than the fossils' where there is one, else the rock."""
        project = self.session.project
        first = "" if project is None else project.settings.classes[0]
        classes = (n for n in self._region_names() if n.startswith("class "))
        return next((n for n in classes if n.removeprefix("class ").strip('"') != first), "rock")

    def _add_example(self) -> None:
        self.add(self._example, FILLS[0])

    def _next_fill(self) -> str:
        """Return the fill of the last row, with which the next one begins."""
        rows = self._rows()
        return rows[-1][1] if rows and rows[-1][1] else FILLS[0]

    # ------------------------------------------------------------------- events

    def _on_drawn(self, event: object) -> None:
        # napari also reports each move of a shape that is being dragged: wait for the end.
        if str(getattr(event, "action", "")) in ("added", "changed", "removed"):
            self._on_rows()

    def _on_fill(self, row: int, fill: str) -> None:
        count = len(self.drawn)
        if row < count:
            regions.set_fill(self.session, self.drawn[row].index, fill)
            self.drawn = regions.drawn_regions(self.session, self.session.slice)
        else:
            self.named[row - count] = (self.named[row - count][0], fill)
        self.changed.emit()

    def _on_item(self, item: QTableWidgetItem) -> None:
        index = item.row() - len(self.drawn)
        if self._is_filling or item.column() != 0 or index < 0:
            return
        self.named[index] = (item.text().strip(), self.named[index][1])
        self.changed.emit()

    def _on_rows(self) -> None:
        self.refresh()
        self.changed.emit()
