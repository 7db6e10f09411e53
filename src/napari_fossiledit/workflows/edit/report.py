"""The report of an edit: what it gains, what it costs, how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_fossiledit.evaluation import Comparison, Kind
from napari_fossiledit.evaluation.changes import BACKGROUND
from napari_fossiledit.evaluation.compare import Trial
from napari_fossiledit.evaluation.numbers import percent
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.exchange.pages.charts import line_chart
from napari_fossiledit.exchange.pages.html_page import ReportTable, Value, write_html
from napari_fossiledit.files import inside
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.project import EditRecord, Project
from napari_fossiledit.workflows.edit.judging import SHOWN_SCORE, Judgement
from napari_fossiledit.workflows.edit.result import EditResult
from napari_fossiledit.workflows.shared.ground_truth import read_ground_truth
from napari_fossiledit.workflows.shared.report_parts import (
    CHANGES_HEAD,
    COLUMNS,
    DIFFERENCE_HEAD,
    FIGURES_HEAD,
    GAINED,
    KEPT,
    LOST,
    OVERLAYS,
    REPORT,
    TRUE,
    change_row,
    difference_row,
    drafted,
    draw_changes,
    figures_row,
    with_outline,
)

# More is not listed and drawn, so that a report stays short.
_MOST_CHANGES = 30
_MOST_OVERLAYS = 6
_CURVES = {"precision": "precision", "recall_all": "recall, all", "iou_all": "IoU, all"}
_SETTINGS = (
    "region",
    "mud",
    "scope",
    "solver",
    "levels",
    "pull",
    "pull_to",
    "fossil_weight",
    "tolerance",
)


def write_report(project: Project, result: EditResult) -> Path:
    """Write the report of an edit into the project, and return its file.

    Raises
    ------
    FossilError
        Where it cannot be written.
    """
    folder = inside(project.reports, f"edit-{result.name}")
    with drafted(folder) as draft:
        values = edit_values(project, result, draft)
        write_html(draft / REPORT, "edit.html", **values)
    return folder / REPORT


def edit_values(project: Project, result: EditResult, draft: Path) -> dict[str, Any]:
    """Return what the templates of an edit show; draw its overlays in the folder `draft`."""
    record = project.edits.read(result.name)
    judged = result.judged
    return {
        "project": project.path.name,
        "project_path": f'"{project.path}"' if " " in str(project.path) else project.path,
        "name": result.name,
        "parent": result.parent,
        "conclusion": result.verdict,
        "tone": result.tone,
        "warnings": result.warnings,
        "at_place": "",
        "slices": {use: format_slices(z) for use, z in vars(result.slices).items()},
        "strength": f"{result.strength:g}",
        "score": f"{result.score:g}" if result.score else "",
        "shown_score": f"{SHOWN_SCORE:g}",
        "judged": None if judged is None else _judged_values(project, judged, draft),
        "trials": _trials(result.tried),
        "trade_off": _trade_off(result.tried, result.strength),
        "losses": ReportTable(
            (
                "Layer",
                "Loss before",
                "Loss after",
                "Drift |dW| / |W|",
                "Change on preserved slices",
            ),
            [
                [name, *losses, result.drift.get(name), percent(result.preservation.get(name))]
                for name, losses in result.losses.items()
            ],
        ),
        "loss_curves": _loss_curves(record),
        "recipes": ReportTable(
            ("Edited with slice", "What was done to it", "Regions by"),
            [
                [str(r["slice"]), r["steps"] or r["preset"], r["source"]]
                for r in record.params.get("recipes", ())
            ],
        ),
        "settings": ReportTable(("Setting", "Value"), _settings(result, record)),
    }


# --------------------------------------------------------------------- judgement


def _judged_values(project: Project, judged: Judgement, draft: Path) -> dict[str, Any]:
    """Return what is shown of the pinned slices before and after."""
    order = list(Kind)
    changes = [c for c in judged.changes if c.kind is not Kind.SAME]
    changes.sort(key=lambda c: (order.index(c.kind), -c.shown.mask.area))
    before, after = judged.wrong
    return {
        "words": judged.words,
        "slices": format_slices(judged.slices),
        "class_name": judged.class_name,
        "paper": _compared(judged.comparison),
        "seen": _compared(judged.seen),
        "textures": _textures(judged.comparison.textures),
        "mistaken": ReportTable(
            ("Predicted area that lies on", "Before", "After"),
            [
                [n or "nothing annotated", percent(before.share(n)), percent(after.share(n))]
                for n in [*sorted({*before.on, *after.on}), BACKGROUND]
            ],
        ),
        "counts": ", ".join(f"{judged.count(kind)} {kind}" for kind in Kind),
        "changes": ReportTable(CHANGES_HEAD, [change_row(c) for c in changes[:_MOST_CHANGES]]),
        "unlisted": max(len(changes) - _MOST_CHANGES, 0),
        "colours": {
            "kept": KEPT,
            "lost": LOST,
            "gained": GAINED,
            f"true {judged.class_name}": TRUE,
        },
        "overlays": [
            {"z": z, "name": project.names[z], "file": _overlay(project, judged, z, draft)}
            for z in judged.slices[:_MOST_OVERLAYS]
        ],
        "undrawn": format_slices(judged.slices[_MOST_OVERLAYS:]),
    }


def _compared(comparison: Comparison) -> dict[str, ReportTable]:
    """Return the figures before and after, and their differences."""
    rows: list[list[Value]] = [
        ["before", *figures_row(comparison.before)],
        ["after", *figures_row(comparison.after)],
    ]
    difference = ["difference (95 % interval)", *difference_row(comparison)]
    return {
        "figures": ReportTable(("", *FIGURES_HEAD), rows),
        "differences": ReportTable(("", *DIFFERENCE_HEAD), [difference]),
    }


def _textures(textures: Mapping[str, Comparison]) -> dict[str, ReportTable] | None:
    """Return the same by texture of the fossils, None where no texture is known."""
    if not textures:
        return None
    rows: list[list[Value]] = []
    for name, part in textures.items():
        fossils = f"{name.replace('_', '-')} ({len(part.before.truths)})"
        for when, figures in (("before", part.before), ("after", part.after)):
            means = figures_row(figures)[: len(COLUMNS)]
            rows.append([fossils, when, *means, figures.matched])
    differences = [[n.replace("_", "-"), *difference_row(part)] for n, part in textures.items()]
    return {
        "figures": ReportTable(("Texture", "", *DIFFERENCE_HEAD), rows),
        "differences": ReportTable(("Difference (95 % interval)", *DIFFERENCE_HEAD), differences),
    }


def _overlay(project: Project, judged: Judgement, z: int, draft: Path) -> Path:
    """Draw slice `z` before and after, with the true fossils below."""
    path = draft / OVERLAYS / f"slice_{z:04d}.png"
    instances = read_ground_truth(project, z).instances
    true = [i.mask for i in instances if i.class_name == judged.class_name]
    picture = with_outline(pictures.as_rgb(project.stack.read(z)), true, TRUE)
    draw_changes(picture, picture, [c for c in judged.changes if c.slice == z], path)
    return path


# ------------------------------------------------------- strengths, losses, settings


def _trials(tried: Sequence[Trial]) -> ReportTable:
    rows: list[list[Value]] = [
        [
            f"{t.strength:g}" if t.strength else "without the edit",
            f"{t.score:g}",
            *figures_row(t.figures),
            "yes" if t.accepted else "no",
        ]
        for t in tried
    ]
    return ReportTable(("Strength", "Score >=", *FIGURES_HEAD, "Accepted"), rows)


def _trade_off(tried: Sequence[Trial], strength: float) -> bytes | None:
    """Draw figures over strengths at the lowest score, None where nothing is defined."""
    if len(tried) < 2:
        return None
    lowest = min(t.score for t in tried)
    points = {
        label: [
            (t.strength, mean)
            for t in tried
            if t.score == lowest and (mean := getattr(t.figures, name).mean) is not None
        ]
        for name, label in _CURVES.items()
    }
    curves = {label: defined for label, defined in points.items() if defined}
    return line_chart(curves, "strength", "mean over fossils", mark=strength) if curves else None


def _loss_curves(record: EditRecord) -> bytes | None:
    """Draw the losses of each level, None where the solver took no steps between two ends."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for layer, points in record.curves.items():
        # Losses of 0 have no place on a logarithmic axis.
        drawn = [(float(step), float(loss)) for step, loss in points if loss]
        if len(drawn) > 2:
            numbers = [part for part in layer.split(".") if part.isdigit()]
            curves[f"level {numbers[0]}" if numbers else layer] = drawn
    return line_chart(curves, "step", "loss", logarithmic=True) if curves else None


def _settings(result: EditResult, record: EditRecord) -> list[list[Value]]:
    settings = {name.replace("_", " "): record.params.get(name) for name in _SETTINGS}
    settings = {name: value for name, value in settings.items() if value not in (None, "")}
    settings["preserved slices"] = format_slices(result.slices.preserve) or "none"
    settings["time of solving"] = f"{result.seconds:.1f} s"
    settings["edit"] = result.folder
    return [[name, str(value)] for name, value in settings.items()]
