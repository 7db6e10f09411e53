"""A table that sorts, from rows that a workflow returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qtpy.QtCore import (
    QAbstractTableModel,
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

Row = Mapping[str, Any]
RGB = tuple[float, float, float]
Index = QModelIndex
_NOWHERE = QModelIndex()


def cell_text(value: Any) -> str:
    """Return a value as the text of a cell: real numbers with four digits, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.3e}"
    return str(value)


class RowsModel(QAbstractTableModel):
    """Rows of equal keys; sorting uses the values, the view shows them as text.

    The tooltip of a row holds all its values, for a view may hide columns.

    Parameters
    ----------
    colour_of
        Returns the colour, from 0 to 1, of the swatch in front of a row; None: no swatches.
    """

    def __init__(
        self, headings: Mapping[str, str], colour_of: Callable[[Row], RGB] | None = None
    ) -> None:
        super().__init__()
        self._colour_of = colour_of
        self.keys, self.headings = list(headings), list(headings.values())
        self.rows: list[Row] = []

    def show(self, rows: Sequence[Row]) -> None:
        """Replace all rows."""
        self.beginResetModel()
        self.rows = list(rows)
        self.endResetModel()

    def rowCount(self, parent: Index = _NOWHERE) -> int:  # noqa: N802
        """Return the number of rows."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: Index = _NOWHERE) -> int:  # noqa: N802
        """Return the number of columns."""
        return 0 if parent.isValid() else len(self.keys)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return text to show, the value to sort by, the swatch or the alignment of a cell."""
        if role == Qt.ItemDataRole.DecorationRole:
            if self._colour_of is None or index.column():
                return None
            return QColor.fromRgbF(*self._colour_of(self.rows[index.row()]))
        row = self.rows[index.row()]
        if role == Qt.ItemDataRole.ToolTipRole:
            told = zip(self.headings, map(cell_text, map(row.get, self.keys)), strict=True)
            return "\n".join(f"{heading}: {text}" for heading, text in told if text)
        value = row.get(self.keys[index.column()])
        if role == Qt.ItemDataRole.DisplayRole:
            return cell_text(value)
        if role == Qt.ItemDataRole.UserRole:
            return value
        if role == Qt.ItemDataRole.TextAlignmentRole and isinstance(value, int | float):
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(  # noqa: N802
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        """Return the heading of a column."""
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return self.headings[section]
        return None


class Table(QTableView):
    """A table whose rows are chosen whole and sorted by a click on a heading.

    Signals
    -------
    chosen(object)
        The row that the user clicked or moved to, as it was given.
    opened(object)
        The row that the user double-clicked.
    """

    chosen = Signal(object)
    opened = Signal(object)

    def __init__(
        self,
        headings: Mapping[str, str],
        parent: QWidget | None = None,
        colour_of: Callable[[Row], RGB] | None = None,
    ) -> None:
        super().__init__(parent)
        self.rows = RowsModel(headings, colour_of)
        self._sorted = QSortFilterProxyModel(self)
        self._sorted.setSourceModel(self.rows)
        self._sorted.setSortRole(Qt.ItemDataRole.UserRole)
        self.setModel(self._sorted)
        self.setSortingEnabled(True)
        self.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setMinimumHeight(140)
        numbers, heads = self.verticalHeader(), self.horizontalHeader()
        if numbers is not None:
            numbers.hide()
            numbers.setDefaultSectionSize(20)
        if heads is not None:
            heads.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            heads.setStretchLastSection(True)
        selection = self.selectionModel()
        if selection is not None:
            selection.currentRowChanged.connect(lambda index, _: self._emit(self.chosen, index))
        self.doubleClicked.connect(lambda index: self._emit(self.opened, index))

    def show_rows(self, rows: Sequence[Row]) -> None:
        """Replace all rows, keeping the order the user chose."""
        self.rows.show(rows)

    def repaint_rows(self) -> None:
        """Draw the rows again, after their colours changed."""
        viewport = self.viewport()
        if viewport is not None:
            viewport.update()

    def mark(self, which: Callable[[Row], bool]) -> None:
        """Show some rows as chosen; nothing is emitted."""
        chosen, last = QItemSelection(), len(self.rows.keys) - 1
        for number, row in enumerate(self.rows.rows):
            if which(row):
                ends = (self.rows.index(number, 0), self.rows.index(number, last))
                chosen.select(*map(self._sorted.mapFromSource, ends))
        selection = self.selectionModel()
        if selection is not None:
            selection.select(chosen, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        if not chosen.isEmpty():
            self.scrollTo(chosen.indexes()[0])

    def _emit(self, signal: Any, index: Index) -> None:
        """Emit the row at an index of the sorted table; a cleared selection has none."""
        row = self._sorted.mapToSource(index).row()
        if 0 <= row < len(self.rows.rows):
            signal.emit(self.rows.rows[row])
