"""Figures before and after an edit, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qtpy.QtCore import Qt

from napari_fossiledit.widgets.common.tables import Table

MEASURES = {
    "precision": "Precision",
    "recall": "Recall",
    "iou": "IoU",
    "recall_all": "Recall (all)",
    "iou_all": "IoU (all)",
    "matched": "Matched",
    "missed": "Missed",
    "spurious": "Spurious",
}
_HEIGHT = 200
_TOOLTIP = (
    "By the paper's protocol, means over matched instances; (all): over all true instances, "
    "missed ones as 0."
)
_HEADINGS = {
    "name": "Figure",
    "before": "Before",
    "after": "After",
    "change": "Change",
    "interval": "95 % interval",
}


def judged_rows(judged: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Make rows of figures before and after.

    Parameters
    ----------
    judged
        ``"before"`` and ``"after"`` with the figures of the paper's protocol, and where there are
        any, ``"deltas"`` with their 95 % intervals.

    Examples
    --------
    >>> rows = judged_rows({"before": {"matched": 4}, "after": {"matched": 5}})
    >>> rows[0]["name"], rows[0]["change"]
    ('Matched', '+1')
    """
    return list(_rows(judged))


def _rows(judged: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, title in MEASURES.items():
        before, after = (_number(judged.get(when, {}).get(key)) for when in ("before", "after"))
        if before is None and after is None:
            continue
        interval = _mapping(_mapping(judged.get("deltas")).get(key)).get("interval_95")
        yield {
            "name": title,
            "before": _text(before),
            "after": _text(after),
            "change": _change(before, after),
            "interval": "" if not interval else f"{interval[0]:+.3f} to {interval[1]:+.3f}",
        }


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _change(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return ""
    difference = after - before
    return f"{difference:+d}" if isinstance(difference, int) else f"{difference:+.3f}"


def _number(value: Any) -> float | None:
    """Value of a figure, whether it comes alone or with its spread."""
    found = value.get("mean") if isinstance(value, Mapping) else value
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


class JudgedTable(Table):
    """Precision, recall, IoU and counts before and after."""

    def __init__(self) -> None:
        super().__init__(_HEADINGS)
        self.setSortingEnabled(False)
        self.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
        self.setMinimumHeight(_HEIGHT)
        self.setToolTip(_TOOLTIP)
        self.setAccessibleName("Figures before and after")

    def show_judged(self, judged: Mapping[str, Any]) -> None:
        """Show figures of an edit; an empty mapping empties the table."""
        self.show_rows(judged_rows(judged))
