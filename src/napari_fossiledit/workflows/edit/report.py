"""The page of an edit: what it brought, what it cost, how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_fossiledit.evaluation import Comparison, Kind
from napari_fossiledit.evaluation.changes import BACKGROUND
from napari_fossiledit.evaluation.numbers import percent
from napari_fossiledit.evaluation.strength import Trial
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.exchange.pages.charts import line_chart
from napari_fossiledit.exchange.pages.html_page import Page, Value
from napari_fossiledit.files import inside
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.project import EditRecord, Project
from napari_fossiledit.workflows.edit.judging import SHOWN_SCORE, Judgement
from napari_fossiledit.workflows.edit.result import EditResult
from napari_fossiledit.workflows.shared.ground_truth import read_ground_truth
from napari_fossiledit.workflows.shared.report_folder import OVERLAYS, PAGE, drafted
from napari_fossiledit.workflows.shared.report_parts import (
    ABOUT_FIGURES,
    CHANGES_HEAD,
    COLUMNS,
    FIGURES_HEAD,
    GAINED,
    KEPT,
    LOST,
    TRUE,
    change_row,
    difference_row,
    draw_changes,
    figures_row,
    with_outline,
)

_SHOWN_CHANGES = 30
_MOST_OVERLAYS = 6
_LEAST_POINTS = 2
_CURVES = {"precision": "precision", "recall_all": "recall, all", "iou_all": "IoU, all"}


def write_page(project: Project, result: EditResult) -> Path:
    """Write the report of an edit into the project, and tell where it is.

    Raises
    ------
    FossilError
        Where it cannot be written.
    """
    folder = inside(project.reports, f"edit-{result.name}")
    with drafted(folder) as draft:
        page = Page(
            f"Edit {result.name} of {result.parent}",
            f"{project.path.name}: {_used(result)}",
        )
        page.verdict(result.verdict, " ".join(words_of(result)), result.tone)
        page.points(result.warnings)
        page.paragraph(decide(project, result.name, result.parent))
        judged_sections(page, project, result, draft)
        made_sections(page, result, project.edits.read(result.name))
        page.write(draft / PAGE)
    return folder / PAGE


def words_of(result: EditResult) -> list[str]:
    """Tell in words what the judgement and the choice of the strength came to."""
    told = [] if result.judged is None else [result.judged.words]
    where = format_slices(result.slices.tuning)
    chosen = f"chosen on the slices {where}" if result.tried else "not chosen on any slice"
    return [*told, f"Strength {result.strength:g}, {chosen}."]


def decide(project: Project, name: str, parent: str) -> str:
    """Tell how the edit is kept or rolled back."""
    quoted = f'"{project.path}"' if " " in str(project.path) else project.path
    return (
        f"Keep it with 'fossiledit edits apply {quoted} {name}', or roll it back with"
        f" 'fossiledit edits rollback {quoted} {name}'; in the window with the buttons below the"
        f" table. {parent} itself was not changed: rolling back gives the very same predictions."
    )


def _used(result: EditResult) -> str:
    slices = result.slices
    parts = [
        f"edited with slices {format_slices(slices.edit)}",
        f"strength chosen on {format_slices(slices.tuning) or 'none'}",
        f"judged on {format_slices(slices.pinned) or 'none'}",
    ]
    return ", ".join(parts)


# --------------------------------------------------------------------- judgement


def judged_sections(page: Page, project: Project, result: EditResult, draft: Path) -> None:
    """Add figures, the trade-off and the overlays of the pinned slices."""
    judged = result.judged
    if judged is not None:
        _figures(page, result, judged)
        _textures(page, judged)
        _classes(page, judged)
    _trade_off(page, result.tried, result.strength)
    if judged is not None:
        _changes(page, judged)
        _overlays(page, project, judged, draft)


def _figures(page: Page, result: EditResult, judged: Judgement) -> None:
    page.heading(f"Before and after on the pinned slices {format_slices(judged.slices)}")
    after = f"; after the edit those with a score from {result.score:g} up" * bool(result.score)
    _compared(page, judged.comparison, f"Paper's protocol: all predictions{after}")
    _compared(page, judged.seen, f"The same for predictions with a score from {SHOWN_SCORE:g} up")
    page.paragraph(ABOUT_FIGURES)


def _compared(page: Page, comparison: Comparison, caption: str) -> None:
    page.table(
        ("", *FIGURES_HEAD),
        [
            ["before", *figures_row(comparison.before)],
            ["after", *figures_row(comparison.after)],
        ],
        caption,
    )
    page.table(
        ("", *COLUMNS.values(), "Matched"),
        [["difference (95 % interval)", *difference_row(comparison)]],
    )


def _textures(page: Page, judged: Judgement) -> None:
    textures = judged.comparison.textures
    if not textures:
        return
    page.heading("By texture of the fossils")
    rows: list[list[Value]] = []
    for name, part in textures.items():
        total = len(part.before.truths)
        for when, figures in (("before", part.before), ("after", part.after)):
            told = figures_row(figures)[: len(COLUMNS)]
            rows.append([f"{_spoken(name)} ({total})", when, *told, figures.matched])
    page.table(("Texture", "", *COLUMNS.values(), "Matched"), rows)
    page.table(
        ("Difference (95 % interval)", *COLUMNS.values(), "Matched"),
        [[_spoken(name), *difference_row(part)] for name, part in textures.items()],
    )


def _spoken(word: str) -> str:
    return word.replace("_", "-")


def _classes(page: Page, judged: Judgement) -> None:
    before, after = judged.wrong
    names = [*sorted({*before.on, *after.on}), BACKGROUND]
    page.heading(f"What is taken for {judged.class_name}")
    page.table(
        ("Predicted area that lies on", "Before", "After"),
        [
            [n or "nothing annotated", *(percent(w.share(n)) for w in (before, after))]
            for n in names
        ],
        f"Share of the predicted area, score from {SHOWN_SCORE:g} up; classes may overlap."
        " On nothing annotated: of predictions that are less than half true.",
    )


def _trade_off(page: Page, tried: Sequence[Trial], strength: float) -> None:
    if len(tried) < 2:
        return
    page.heading("Trade-off over strengths on the tuning slices")
    rows: list[list[Value]] = [
        [
            f"{t.strength:g}" if t.strength else "without the edit",
            f"{t.score:g}",
            *figures_row(t.figures),
            "yes" if t.accepted else "no",
        ]
        for t in tried
    ]
    page.table(("Strength", "Score from", *FIGURES_HEAD, "Accepted"), rows)
    known = _curves(tried)
    if known:
        chart = line_chart(known, "strength", "mean over fossils", mark=strength)
        page.image(chart, f"The dashed line is the strength that was chosen, {strength:g}.")


def _curves(tried: Sequence[Trial]) -> dict[str, list[tuple[float, float]]]:
    """Figures over strengths at the lowest score; without those that are never defined."""
    least = min(t.score for t in tried)
    points = {
        told: [
            (t.strength, mean)
            for t in tried
            if t.score == least and (mean := getattr(t.figures, name).mean) is not None
        ]
        for name, told in _CURVES.items()
    }
    return {told: found for told, found in points.items() if found}


def _changes(page: Page, judged: Judgement) -> None:
    found = [c for c in judged.changes if c.kind is not Kind.SAME]
    page.heading("What changed on the pinned slices")
    counts = ", ".join(f"{judged.count(kind)} {kind}" for kind in Kind)
    page.paragraph(f"Instances with a score from {SHOWN_SCORE:g} up: {counts}.")
    if not found:
        return
    order = list(Kind)
    found.sort(key=lambda c: (order.index(c.kind), -c.shown.mask.area))
    more = len(found) - _SHOWN_CHANGES
    caption = f"The largest ones first; {more} more are not listed" if more > 0 else ""
    page.table(CHANGES_HEAD, [change_row(c) for c in found[:_SHOWN_CHANGES]], caption)


def _overlays(page: Page, project: Project, judged: Judgement, draft: Path) -> None:
    page.heading("Pinned slices before and after")
    page.legend({"kept": KEPT, "lost": LOST, "gained": GAINED, f"true {judged.class_name}": TRUE})
    for z in judged.slices[:_MOST_OVERLAYS]:
        file = draft / OVERLAYS / f"slice_{z:04d}.png"
        overlay(project, judged, z, file)
        page.image(file, f"Slice {z} ({project.names[z]}), before and after")
    rest = judged.slices[_MOST_OVERLAYS:]
    if rest:
        page.paragraph(f"Slices {format_slices(rest)} were judged as well and are not drawn.")


def overlay(project: Project, judged: Judgement, z: int, file: Path) -> None:
    """Draw slice `z` before and after, with the true fossils below."""
    truth = read_ground_truth(project, z)
    true = [i.mask for i in truth.instances if i.class_name == judged.class_name]
    found = [c for c in judged.changes if c.slice == z]
    picture = with_outline(pictures.as_rgb(project.stack.read(z)), true, TRUE)
    draw_changes(picture, picture, found, file)


# --------------------------------------------------------------- how it was made


def made_sections(page: Page, result: EditResult, record: EditRecord) -> None:
    """Add the solver's losses and what the edit was made with."""
    page.heading("How it was solved")
    page.table(
        ("Layer", "Loss before", "Loss after", "Drift |dW| / |W|", "Change on preserved slices"),
        [
            [name, *losses, result.drift.get(name), percent(result.preservation.get(name))]
            for name, losses in result.losses.items()
        ],
        "Loss: mean absolute deviation from what the model sees on the perturbed slices; all at"
        " strength 1",
    )
    _loss_curves(page, record)
    page.heading("How it was made")
    page.table(
        ("Edited with slice", "What was done to it", "Regions by"),
        [
            [str(r["slice"]), r["steps"] or r["preset"], r["source"]]
            for r in record.params.get("recipes", ())
        ],
    )
    page.table(("Setting", "Value"), list(_settings(result, record).items()))


def _loss_curves(page: Page, record: EditRecord) -> None:
    """Draw the curves that have more than a beginning and an end."""
    curves = {
        name: [(float(step), float(loss)) for step, loss in points if loss]
        for name, points in record.curves.items()
    }
    known = {_level(n): points for n, points in curves.items() if len(points) > _LEAST_POINTS}
    if known:
        page.image(line_chart(known, "step", "loss", logarithmic=True), "Loss by level")


def _level(layer: str) -> str:
    """Name the level of the pyramid that a layer belongs to, as the window does."""
    numbers = [part for part in layer.split(".") if part.isdigit()]
    return f"level {numbers[0]}" if numbers else layer


def _settings(result: EditResult, record: EditRecord) -> dict[str, str]:
    shown = ("mud", "scope", "solver", "levels", "pull", "pull_to", "fossil_weight", "tolerance")
    told = {name.replace("_", " "): record.params.get(name) for name in shown}
    return {
        **{name: str(value) for name, value in told.items() if value not in (None, "")},
        "preserved slices": format_slices(result.slices.preserve) or "none",
        "time of solving": f"{result.seconds:.1f} s",
        "edit": str(result.folder),
    }
