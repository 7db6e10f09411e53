"""The report of a probe and its overlays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_fossiledit.evaluation import Change, Comparison
from napari_fossiledit.evaluation.hallucinated import Hallucinated, with_background_named
from napari_fossiledit.evaluation.numbers import percent
from napari_fossiledit.evaluation.protocol import ProtocolResult
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.exchange.pages.html_page import ReportTable, Value, write_html
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Mask
from napari_fossiledit.params.probe import ProbeParams
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.probe.result import ProbeResult
from napari_fossiledit.workflows.shared.perturbed_slices import Prepared
from napari_fossiledit.workflows.shared.report_parts import (
    CHANGES_HEAD,
    DIFFERENCE_HEAD,
    FIGURES_HEAD,
    GAINED,
    KEPT,
    LOST,
    REPORT,
    TRUE,
    change_row,
    difference_row,
    draw_changes,
    figures_row,
    with_outline,
)

# All of them are in probe.json.
_MOST_CHANGES = 30


def draw_overlay(made: Prepared, changes: Sequence[Change], truth: Mask, path: Path) -> None:
    """Draw a slice as it is and perturbed, with the instances before and after.

    Parameters
    ----------
    changes
        All changes of the slice, the same ones too.
    truth
        Union of the true fossils; outlined where no instance is known before.
    """
    # Scaled together: a brighter pixel on one side must not darken the other.
    left, right = np.split(pictures.as_rgb(np.concatenate([made.image, made.perturbed])), 2)
    if not any(c.before for c in changes):
        left = with_outline(left, [truth], TRUE)
    draw_changes(left, right, changes, path)


def write_report(result: ProbeResult, project: Project, params: ProbeParams, folder: Path) -> None:
    """Write the report into `folder`, where its pictures are already.

    Raises
    ------
    FossilError
        Where it cannot be written, or a picture is missing.
    """
    figures, differences = _figures(result)
    write_html(
        folder / REPORT,
        "probe.html",
        project=project.path.name,
        model=result.model,
        class_name=result.class_name,
        slices=format_slices(result.slices),
        weakness=result.weakness,
        findings=[
            {"title": f.title, "words": f.words, "advice": f.advice} for f in result.findings
        ],
        weaknesses=ReportTable(
            ("Weakness", "Cost", "Because"),
            [(f.title, percent(f.cost), f.reason) for f in result.findings],
        ),
        score=f"{params.score:g}",
        detection_score=f"{params.detection_score:g}",
        figures=figures,
        differences=differences,
        confusion=result.confusion,
        hidden=None if result.evidence.hidden is None else _hidden(result.evidence.hidden),
        textures=_textures(result),
        changes=ReportTable(
            ("Perturbation", *CHANGES_HEAD),
            [[preset, *change_row(change)] for preset, change in result.changes[:_MOST_CHANGES]],
        ),
        unlisted=max(len(result.changes) - _MOST_CHANGES, 0),
        colours={"kept": KEPT, "lost": LOST, "gained": GAINED, "hidden fossils": TRUE},
        overlays=[
            {"preset": str(t.preset), "z": z, "name": project.names[z], "file": folder / name}
            for t in result.tried
            for z, name in zip(t.slices, t.overlays, strict=True)
        ],
        perturbations=ReportTable(
            ("Perturbation", "Steps", "Filled"),
            [(str(t.preset), t.steps, percent(t.share)) for t in result.tried],
        ),
        skipped=result.skipped,
        source=params.source,
    )


def _figures(result: ProbeResult) -> tuple[ReportTable, ReportTable]:
    """Return figures by the paper's protocol for each perturbation, and their differences."""
    compared = [(str(t.preset), t.protocol) for t in result.tried if t.protocol is not None]
    rows: list[list[Value]] = [
        ["as they are", *figures_row(comparison.before)] for _, comparison in compared[:1]
    ]
    rows += [[preset, *figures_row(comparison.after)] for preset, comparison in compared]
    return (
        ReportTable(("Slices", *FIGURES_HEAD), rows),
        ReportTable(
            ("Difference (95 % interval)", *DIFFERENCE_HEAD),
            [[preset, *difference_row(comparison)] for preset, comparison in compared],
        ),
    )


def _hidden(hidden: Hallucinated) -> dict[str, Any]:
    """Return what is shown of instances that are found although no fossil is there."""
    classes: list[list[Value]] = [
        [
            name or "background",
            hidden.counts.get(name, 0),
            hidden.on.get(name, 0),
            hidden.framed.get(name, 0),
            percent(hidden.shares.get(name, 0.0)),
        ]
        for name in dict.fromkeys([*hidden.shares, *hidden.counts])
    ]
    return {
        "area": hidden.area,
        "count": len(hidden.instances),
        "ratio": hidden.ratio,
        "shares": with_background_named(hidden.shares),
        "classes": ReportTable(
            ("Sits on", "Instances", "Pixels on it", "Pixels on fill framed by it", "Share"),
            classes,
        ),
    }


def _textures(result: ProbeResult) -> ReportTable:
    """Return the recall of each texture and the gap between them; no rows where none is known."""
    compared = [
        (str(t.preset), t.detected.textures) for t in result.tried if t.detected is not None
    ]
    first: Mapping[str, Comparison] = compared[0][1] if compared else {}
    rows: list[list[Value]] = []
    if first:
        rows = [["as they are", *_recalls(part.before for part in first.values())]]
        rows += [[preset, *_recalls(p.after for p in parts.values())] for preset, parts in compared]
    names = [f"{name} ({len(part.before.truths)})" for name, part in first.items()]
    return ReportTable(["Recall over all true fossils", *names, "Gap"], rows)


def _recalls(parts: Iterable[ProtocolResult]) -> list[Value]:
    recalls = [part.recall_all.mean for part in parts]
    defined = [recall for recall in recalls if recall is not None]
    return [*recalls, max(defined) - min(defined) if len(defined) > 1 else None]
