"""The steps of a perturbation of one's own: each region with its fill."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHeaderView,
    QMenu,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_fossiledit.project import ANNOTATIONS
from napari_fossiledit.widgets.canvas import regions
from napari_fossiledit.widgets.canvas.layers import Role, find
from napari_fossiledit.widgets.common.session import Session
from napari_fossiledit.widgets.dock import beside, button

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
_HEADINGS = ("Region", "Fill")
_FILL_WIDTH = 110


class StepsTable(QWidget):
    """Regions that are drawn on the shown slice or told in words, and what each is filled with.

    Signals
    -------
    changed
        Another region, or another fill.
    """

    changed = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.told: list[tuple[str, str]] = []
        self.drawn: list[regions.DrawnRegion] = []
        self.table = QTableWidget(0, len(_HEADINGS))
        self.words = QToolButton()
        self._filling = False
        self._dress()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(beside(*(self._tool(name) for name in regions.TOOLS)))
        column.addWidget(self.table)
        remove = button("Remove", "Remove the chosen row.", self.remove_chosen)
        column.addWidget(beside(self.words, remove))
        self.table.itemChanged.connect(self._on_item)
        session.slice_changed.connect(self.refresh)

    def _dress(self) -> None:
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
        self.words.setText("Add in words")
        self.words.setToolTip("Add a region that need not be drawn.")
        self.words.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.words.setSizePolicy(
            self.table.sizePolicy().Policy.Expanding, self.words.sizePolicy().verticalPolicy()
        )

    def _tool(self, name: str) -> QWidget:
        tip = f"Draw a region on the slice: {name.lower()}."
        return button(name, tip, lambda: self.draw(name))

    # ------------------------------------------------------------------ content

    @property
    def steps(self) -> str:
        """The steps as the parameter of a perturbation takes them."""
        rows = [*((d.region, d.fill) for d in self.drawn), *self.told]
        return "; ".join(f"{region} -> {fill}" for region, fill in rows)

    def draw(self, tool: str) -> None:
        """Ready a tool; what is drawn becomes a row."""
        before = find(self.session.viewer, Role.REGIONS)
        layer = regions.draw(self.session, Role.REGIONS, tool, self._latest_fill())
        if layer is not before:
            layer.events.data.connect(self._on_drawn)

    def add(self, region: str, fill: str = "") -> None:
        """Add a region in words."""
        self.told.append((region, fill or self._latest_fill()))
        self._tell()

    def remove_chosen(self) -> None:
        """Take the chosen rows away, and the shapes they stand for."""
        rows = sorted({index.row() for index in self.table.selectedIndexes()})
        split = len(self.drawn)
        gone = [self.drawn[row].index for row in rows if row < split]
        dropped = {row - split for row in rows if row >= split}
        self.told = [step for n, step in enumerate(self.told) if n not in dropped]
        regions.erase(self.session, Role.REGIONS, gone)
        self._tell()

    def refresh(self) -> None:
        """Show what is drawn on the slice on show, and what may be added in words."""
        self._filling = True
        project = self.session.project
        self.drawn = []
        if project is not None:
            self.drawn = regions.drawn_regions(self.session, self.session.slice)
        rows = [*((d.region, d.fill) for d in self.drawn), *self.told]
        self.table.setRowCount(len(rows))
        for row, (region, fill) in enumerate(rows):
            self._show_row(row, region, fill)
        self._filling = False
        self._offer()

    def _show_row(self, row: int, region: str, fill: str) -> None:
        item = QTableWidgetItem(region)
        item.setToolTip(region)
        if row < len(self.drawn):
            item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
        self.table.setItem(row, 0, item)
        fills = QComboBox()
        fills.setEditable(True)
        fills.addItems(list(FILLS))
        fills.setCurrentText(fill)
        fills.setToolTip("What the region is filled with; several are joined by ' + '.")
        fills.setAccessibleName(f"Fill of {region}")
        fills.currentTextChanged.connect(lambda text: self._on_fill(row, text))
        self.table.setCellWidget(row, 1, fills)

    def _offer(self) -> None:
        menu = QMenu(self.words)
        for region in self._words():
            action = menu.addAction(region)
            if action is not None:
                action.triggered.connect(lambda _=False, r=region: self.add(r))
        self.words.setMenu(menu)

    def _words(self) -> Sequence[str]:
        project = self.session.project
        if project is None:
            return ()
        names = {*project.settings.classes, *project.ledger.classes(ANNOTATIONS)}
        quoted = [f'"{n}"' if " " in n else n for n in sorted(names)]
        of_classes = [f"{kind} {name}" for name in quoted for kind in ("class", "other")]
        return ("all", "rock", *of_classes, "texture pitted", "texture mud_filled")

    def _latest_fill(self) -> str:
        rows = [*(d.fill for d in self.drawn), *(fill for _, fill in self.told)]
        return rows[-1] if rows and rows[-1] else FILLS[0]

    # ------------------------------------------------------------------- events

    def _on_drawn(self, event: object) -> None:
        """Take a shape once it is finished, not while it is dragged."""
        if str(getattr(event, "action", "")) in ("added", "changed", "removed"):
            self._tell()

    def _on_fill(self, row: int, fill: str) -> None:
        if row < len(self.drawn):
            regions.set_fill(self.session, self.drawn[row].index, fill)
            self.drawn = regions.drawn_regions(self.session, self.session.slice)
        else:
            place = row - len(self.drawn)
            self.told[place] = (self.told[place][0], fill)
        self.changed.emit()

    def _on_item(self, item: QTableWidgetItem) -> None:
        place = item.row() - len(self.drawn)
        if self._filling or item.column() != 0 or place < 0:
            return
        self.told[place] = (item.text().strip(), self.told[place][1])
        self.changed.emit()

    def _tell(self) -> None:
        self.refresh()
        self.changed.emit()
