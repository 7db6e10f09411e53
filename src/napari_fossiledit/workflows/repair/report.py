"""The page of a repair: what was wrong, why, what the edit does, what it costs, keep or not."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from napari_fossiledit.evaluation import Kind
from napari_fossiledit.evaluation.causes import CLEAR_EFFECT, Place
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.exchange.pages.html_page import Page, Value
from napari_fossiledit.exchange.pages.pictures import Picture
from napari_fossiledit.files import inside
from napari_fossiledit.masks import Mask
from napari_fossiledit.perturb.scene import Image
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.edit.report import decide, judged_sections, made_sections, words_of
from napari_fossiledit.workflows.repair.result import RepairResult
from napari_fossiledit.workflows.shared.report_folder import OVERLAYS, PAGE, drafted
from napari_fossiledit.workflows.shared.report_parts import (
    CHANGES_HEAD,
    GAINED,
    KEPT,
    LOST,
    change_row,
    draw_changes,
)

_PANEL = 300
_LEAST_AROUND = 24
_SHOWN_CHANGES = 15


def write_page(project: Project, result: RepairResult) -> Path:
    """Write the report of a repair into the project, and tell where it is.

    Raises
    ------
    FossilError
        Where it cannot be written.
    """
    place, edited = result.place, result.edited
    folder = inside(project.reports, f"repair-{result.edit}")
    with drafted(folder) as draft:
        page = Page(
            f"Repair of {edited.parent} on slice {place.slice}",
            f"{project.path.name}, {place}: "
            + (f"a missed {place.class_name}" if place.missed else "a wrong mask"),
        )
        words = " ".join([result.at_place, *words_of(edited)])
        page.verdict(result.verdict, words, result.tone)
        page.points(result.warnings)
        page.paragraph(decide(project, result.edit, edited.parent))
        _why(page, project, result)
        _mended(page, project, result, draft)
        page.heading("What it costs elsewhere")
        judged = edited.judged
        page.paragraph("Nobody knows: it was not judged." if judged is None else judged.words)
        judged_sections(page, project, edited, draft)
        made_sections(page, edited, project.edits.read(result.edit))
        page.write(draft / PAGE)
    return folder / PAGE


def _why(page: Page, project: Project, result: RepairResult) -> None:
    page.heading("What misled the model")
    page.paragraph(result.misled_by)
    before = result.before
    rows: list[list[Value]] = [["0. nothing", "", before.score, before.overlap, None, None]]
    rows += [
        [f"{n}. {t.words}", str(t.cause), t.found.score, t.found.overlap, t.effect, t.others]
        for n, t in enumerate(result.tests, 1)
    ]
    missed = result.place.missed
    effect = "the response won" if missed else "the share of the response that is gone"
    page.table(
        ("What was done", "Tells of", "Score", "Overlap", "Effect", "On the others"),
        rows,
        f"What the model finds at the place. Effect: {effect} (score times overlap), less what the"
        f" others of the slice suffer; from {CLEAR_EFFECT:g} on it names a cause",
    )
    _panels(page, project, result)


def _panels(page: Page, project: Project, result: RepairResult) -> None:
    """Show the place as it is and as it was changed."""
    y0, x0, y1, x1 = around(result.place)
    crops = [project.stack.read(result.place.slice)[y0:y1, x0:x1]]
    crops += [t.image for t in result.tests if t.image is not None]
    page.image(
        png(in_rows([panel_of(result.place, crop) for crop in crops])),
        f"The place with these changes, 0 to {len(crops) - 1}, row by row",
    )


def _mended(page: Page, project: Project, result: RepairResult, draft: Path) -> None:
    """Show the slice before and after."""
    z = result.place.slice
    page.heading("The slice before and after the edit")
    page.table(
        ("Strength", "Score at the place", "Overlap", "Score times overlap"),
        [
            [f"{s:g}" if s else "without the edit", f.score, f.overlap, f.response]
            for s, f in result.at_strengths.items()
        ],
        f"Strength {result.edited.strength:g} was chosen",
    )
    page.legend({"kept": KEPT, "lost": LOST, "gained": GAINED})
    file = draft / OVERLAYS / f"repaired_{z:04d}.png"
    picture = pictures.as_rgb(project.stack.read(z))
    draw_changes(picture, picture, result.changes, file)
    page.image(file, f"Slice {z} ({project.names[z]}), score from {result.shown_from:.2g} up")
    found = [c for c in result.changes if c.kind is not Kind.SAME][:_SHOWN_CHANGES]
    if found:
        page.table(CHANGES_HEAD, [change_row(c) for c in found], "What changed on the slice")


# ------------------------------------------------------------------------ pictures


def around(place: Place) -> tuple[int, int, int, int]:
    """Box (y0, x0, y1, x1) that is shown of a place."""
    return place.grown(max(_LEAST_AROUND, round(0.8 * place.size)))


def panel_of(place: Place, crop: Image) -> Picture:
    """Outline a place in the part of a slice that is shown of it (see `around`), enlarged."""
    mask = Mask.from_array(place.pixels.crop(around(place)))
    return _enlarged(pictures.outline(pictures.as_rgb(crop), [mask], KEPT))


def _enlarged(picture: Picture) -> Picture:
    """Bring a picture to the height of a panel."""
    scale = _PANEL / picture.shape[0]
    size = (max(1, round(picture.shape[1] * scale)), _PANEL)
    return np.asarray(PillowImage.fromarray(picture).resize(size, PillowImage.Resampling.LANCZOS))


def in_rows(panels: Sequence[Picture], most: int = 3) -> Picture:
    """Set pictures of one size in rows on white."""
    rows = [list(panels[i : i + most]) for i in range(0, len(panels), most)]
    blank = np.full_like(panels[0], 255)
    if len(rows) > 1:
        rows[-1] += [blank] * (most - len(rows[-1]))
    made = [pictures.beside(*row) for row in rows]
    gap = np.full((8, made[0].shape[1], 3), 255, dtype=np.uint8)
    return np.concatenate([part for row in made for part in (row, gap)][:-1])


def png(picture: Picture) -> bytes:
    """Encode a picture (y, x, 3)."""
    buffer = io.BytesIO()
    PillowImage.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()
