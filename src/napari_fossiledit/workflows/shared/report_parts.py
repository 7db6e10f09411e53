"""Common parts of the reports of probes, edits and repairs: folder, figures, changes, overlays."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from napari_fossiledit.evaluation import Change, Comparison
from napari_fossiledit.evaluation.numbers import percent
from napari_fossiledit.evaluation.protocol import ProtocolResult
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.exchange.pages.html_page import Cell, Colour, Tone, Value, number
from napari_fossiledit.exchange.pages.pictures import Picture
from napari_fossiledit.files import appearing, explained
from napari_fossiledit.masks import Mask

REPORT, OVERLAYS = "index.html", "overlays"
"""Name of the report in its folder, and of the folder of its pictures."""

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
DIFFERENCE_HEAD = (*COLUMNS.values(), "Matched")
CHANGES_HEAD = ("What", "Slice", "At (x, y)", "Pixels", "Score", "IoU", "Sits on")

_PANEL = 640
"""Longest edge of one of two pictures side by side, in pixels."""


@contextmanager
def drafted(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder to write a report to; at the end it takes the place of `folder`.

    It has a folder for overlays. Where something fails, nothing of it is left, and an older report
    in `folder` stays.

    Raises
    ------
    FossilError
        Where the folder cannot be written.
    """
    with appearing(folder) as draft:
        with explained(draft, "Making"):
            (draft / OVERLAYS).mkdir()
        yield draft
        shutil.rmtree(folder, ignore_errors=True)


def figures_row(figures: ProtocolResult) -> list[Value]:
    """Return the values of one row below `FIGURES_HEAD`."""
    means: list[Value] = [getattr(figures, name).mean for name in COLUMNS]
    return [*means, figures.matched, figures.missed, figures.spurious]


def difference_row(comparison: Comparison) -> list[Value]:
    """Return differences with their intervals: the values of one row below `DIFFERENCE_HEAD`."""
    row: list[Value] = []
    for name in COLUMNS:
        delta = comparison.deltas[name]
        text = number(delta.mean, signed=True)
        if delta.interval is not None:
            low, high = (number(bound, signed=True) for bound in delta.interval)
            text = f"{text} ({low} to {high})"
        gained = Tone.GOOD if comparison.rose(name) else Tone.PLAIN
        row.append(Cell(text, Tone.BAD if comparison.fell(name) else gained))
    matched = comparison.after.matched - comparison.before.matched
    return [*row, number(matched, signed=True)]


def change_row(change: Change) -> list[Value]:
    """Return the values of one row below `CHANGES_HEAD`."""
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


def draw_changes(left: Picture, right: Picture, changes: Sequence[Change], path: Path) -> None:
    """Draw the instances before on one picture (y, x, 3) and after on another, side by side.

    Parameters
    ----------
    changes
        All changes of the slice, the same ones too.
    """
    before = [c.before.mask for c in changes if c.before and c.after]
    after = [c.after.mask for c in changes if c.before and c.after]
    lost = [c.before.mask for c in changes if c.before and not c.after]
    gained = [c.after.mask for c in changes if c.after and not c.before]
    left = with_outline(with_outline(left, before, KEPT), lost, LOST)
    right = with_outline(with_outline(right, after, KEPT), gained, GAINED)
    panels = (pictures.fitted(panel, _PANEL) for panel in (left, right))
    pictures.write_png(path, pictures.beside(*panels))
