"""The report of a repair: what was wrong, why, what the edit does, what it costs, keep or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from napari_fossiledit.evaluation import Kind
from napari_fossiledit.evaluation.causes import CLEAR_EFFECT, Place
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.exchange.pages.html_page import ReportTable, Value, write_html
from napari_fossiledit.files import inside
from napari_fossiledit.masks import Mask
from napari_fossiledit.perturb.scene import Image
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.edit.report import edit_values
from napari_fossiledit.workflows.repair.result import RepairResult
from napari_fossiledit.workflows.shared.report_parts import (
    CHANGES_HEAD,
    GAINED,
    KEPT,
    LOST,
    OVERLAYS,
    REPORT,
    change_row,
    drafted,
    draw_changes,
)

_PANEL = 300
"""Height of a picture of the place, in pixels."""
_PANELS_IN_ROW = 3
_LEAST_AROUND = 24
_MOST_CHANGES = 15


def write_report(project: Project, result: RepairResult) -> Path:
    """Write the report of a repair into the project, and return its file.

    Raises
    ------
    FossilError
        Where it cannot be written.
    """
    place, z = result.place, result.place.slice
    folder = inside(project.reports, f"repair-{result.edit}")
    with drafted(folder) as draft:
        overlay = draft / OVERLAYS / f"repaired_{z:04d}.png"
        image = project.stack.read(z)
        picture = pictures.as_rgb(image)
        draw_changes(picture, picture, result.changes, overlay)
        changes = [c for c in result.changes if c.kind is not Kind.SAME][:_MOST_CHANGES]
        y0, x0, y1, x1 = around(place)
        crops = [image[y0:y1, x0:x1]]
        crops += [t.image for t in result.tests if t.image is not None]
        values = edit_values(project, result.edited, draft) | {
            "conclusion": result.verdict,
            "tone": result.tone,
            "warnings": result.warnings,
            "at_place": result.at_place,
            "z": z,
            "slice_name": project.names[z],
            "place": str(place),
            "class_name": place.class_name,
            "missed": place.missed,
            "misled_by": result.misled_by,
            "tests": _tests(result),
            "clear_effect": f"{CLEAR_EFFECT:g}",
            "panels": _panels(place, crops),
            "panel_count": len(crops),
            "at_strengths": ReportTable(
                ("Strength", "Score at the place", "Overlap", "Score times overlap"),
                [
                    [f"{s:g}" if s else "without the edit", f.score, f.overlap, f.response]
                    for s, f in result.at_strengths.items()
                ],
            ),
            "colours": {"kept": KEPT, "lost": LOST, "gained": GAINED},
            "overlay": overlay,
            "shown_from": f"{result.shown_from:.2g}",
            "changes": ReportTable(CHANGES_HEAD, [change_row(c) for c in changes]),
        }
        write_html(draft / REPORT, "repair.html", **values)
    return folder / REPORT


def _tests(result: RepairResult) -> ReportTable:
    before = result.before
    rows: list[list[Value]] = [["0. nothing", "", before.score, before.overlap, None, None]]
    rows += [
        [f"{n}. {t.words}", str(t.cause), t.found.score, t.found.overlap, t.effect, t.others]
        for n, t in enumerate(result.tests, 1)
    ]
    head = ("What was done", "Possible cause", "Score", "Overlap", "Effect", "On the others")
    return ReportTable(head, rows)


def around(place: Place) -> tuple[int, int, int, int]:
    """Return the box (y0, x0, y1, x1) that is shown of a place."""
    return place.grown(max(_LEAST_AROUND, round(0.8 * place.size)))


def _panels(place: Place, crops: Sequence[Image]) -> bytes:
    """Draw a place in crops (y, x[, 3]) of the box `around` it, enlarged, in rows, as a PNG."""
    mask = Mask.from_array(place.pixels.crop(around(place)))
    panels = []
    for crop in crops:
        picture = pictures.outline(pictures.as_rgb(crop), [mask], KEPT)
        width = max(1, round(picture.shape[1] * _PANEL / picture.shape[0]))
        enlarged = PillowImage.fromarray(picture).resize(
            (width, _PANEL), PillowImage.Resampling.LANCZOS
        )
        panels.append(np.asarray(enlarged))
    rows = [panels[i : i + _PANELS_IN_ROW] for i in range(0, len(panels), _PANELS_IN_ROW)]
    if len(rows) > 1:
        # The last row is filled up with white, for rows of different widths cannot be stacked.
        blank = np.full_like(panels[0], 255)
        rows[-1] += [blank] * (_PANELS_IN_ROW - len(rows[-1]))
    drawn = [pictures.beside(*row) for row in rows]
    gap = np.full((8, drawn[0].shape[1], 3), 255, dtype=np.uint8)
    return pictures.encode_png(np.concatenate([p for row in drawn for p in (row, gap)][:-1]))
