"""What the pages of probes, edits and repairs share: tables of figures, changes, overlays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_fossiledit.evaluation import Change, Comparison
from napari_fossiledit.evaluation.numbers import Spread, percent
from napari_fossiledit.evaluation.protocol import ProtocolResult
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.exchange.pages.html_page import Cell, Colour, Tone, Value, number
from napari_fossiledit.exchange.pages.pictures import Picture
from napari_fossiledit.masks import Mask

GAINED: Colour = (255, 0, 170)
LOST: Colour = (70, 150, 255)
KEPT: Colour = pictures.PREDICTED
TRUE: Colour = (255, 255, 255)

COLUMNS = {
    "precision": "Precision",
    "recall": "Recall",
    "iou": "IoU",
    "recall_all": "Recall, all",
    "iou_all": "IoU, all",
}
"""Figures of the paper's protocol, and those over all true instances."""

FIGURES_HEAD = (*COLUMNS.values(), "Matched", "Missed", "Spurious")
CHANGES_HEAD = ("What", "Slice", "At (x, y)", "Pixels", "Score", "IoU", "Sits on")
ABOUT_FIGURES = (
    "Precision, recall and IoU are means over matched fossils, as the paper tells them;"
    " 'all' are means over all true ones, a missed one counting 0. An interval that leaves out"
    " 0 is not explained by the choice of the fossils."
)

_PANEL = 640


def figures_row(figures: ProtocolResult) -> list[Value]:
    """Values of one row below `FIGURES_HEAD`."""
    means: list[Value] = [getattr(figures, name).mean for name in COLUMNS]
    return [*means, figures.matched, figures.missed, figures.spurious]


def difference_row(comparison: Comparison) -> list[Value]:
    """Differences with their intervals, one a figure of `COLUMNS`, and that of the matched."""
    told = [_difference(comparison, name, comparison.deltas[name]) for name in COLUMNS]
    matched = comparison.after.matched - comparison.before.matched
    return [*told, number(matched, signed=True)]


def _difference(comparison: Comparison, name: str, delta: Spread) -> Cell:
    tone = Tone.GOOD if comparison.rose(name) else Tone.PLAIN
    tone = Tone.BAD if comparison.fell(name) else tone
    text = number(delta.mean, signed=True)
    if delta.interval is None:
        return Cell(text, tone)
    low, high = (number(bound, signed=True) for bound in delta.interval)
    return Cell(f"{text} ({low} to {high})", tone)


def change_row(change: Change) -> list[Value]:
    """Values of one row below `CHANGES_HEAD`."""
    y0, x0, y1, x1 = change.box
    return [
        str(change.kind),
        change.slice,
        f"{(x0 + x1) // 2}, {(y0 + y1) // 2}",
        change.shown.mask.area,
        change.shown.score,
        change.iou if change.before and change.after else None,
        f"{change.sits_on or 'background'} ({percent(change.share_on)})",
    ]


def with_outline(picture: Picture, masks: Sequence[Mask], colour: Colour) -> Picture:
    """Outline masks so that the lines are still seen when the picture is shrunk to a panel."""
    width = max(1, round(max(picture.shape[:2]) / _PANEL * 1.5))
    return pictures.outline(picture, masks, colour, width)


def draw_changes(left: Picture, right: Picture, found: Sequence[Change], path: Path) -> None:
    """Draw what was found before on one picture (y, x, 3) and after on another, side by side.

    Parameters
    ----------
    found
        All changes of the slice, the same ones too.
    """
    before = [c.before.mask for c in found if c.before and c.after]
    after = [c.after.mask for c in found if c.before and c.after]
    lost = [c.before.mask for c in found if c.before and not c.after]
    gained = [c.after.mask for c in found if c.after and not c.before]
    left = with_outline(with_outline(left, before, KEPT), lost, LOST)
    right = with_outline(with_outline(right, after, KEPT), gained, GAINED)
    panels = (pictures.fitted(panel, _PANEL) for panel in (left, right))
    pictures.write_png(path, pictures.beside(*panels))
