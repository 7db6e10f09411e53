"""The page and the pictures of a probe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from napari_fossiledit.evaluation import Change
from napari_fossiledit.evaluation.hallucinated import Hallucinated, worded
from napari_fossiledit.evaluation.numbers import percent
from napari_fossiledit.evaluation.protocol import ProtocolResult
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.exchange.pages.html_page import Page, Value
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Mask
from napari_fossiledit.params.probe import ProbeParams
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.probe.result import ProbeResult
from napari_fossiledit.workflows.shared.perturbed_slices import Prepared
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

_WHERE = "All figures are in probe.json beside this page."
_SHOWN_CHANGES = 30


def draw(made: Prepared, found: Sequence[Change], truth: Mask, path: Path) -> None:
    """Draw a slice as it is and perturbed, with the instances before and after.

    Parameters
    ----------
    found
        All changes of the slice, the same ones too.
    truth
        Union of the true fossils; outlined where no instance is known before.
    """
    # Scaled together: a brighter pixel on one side must not darken the other.
    left, right = np.split(pictures.as_rgb(np.concatenate([made.image, made.perturbed])), 2)
    if not any(c.before for c in found):
        left = with_outline(left, [truth], TRUE)
    draw_changes(left, right, found, path)


def page(result: ProbeResult, project: Project, params: ProbeParams, folder: Path) -> Page:
    """Lay out the report; its pictures are read from `folder`."""
    made = Page(
        f"Probe of {result.model}",
        f"{project.path.name}, slices {format_slices(result.slices)}: what the model takes for"
        f" {result.class_name}, and what it misses.",
    )
    _conclude(made, result)
    _figures(made, result, params)
    _hidden(made, result)
    _textures(made, result, params)
    _changes(made, result, params)
    _overlays(made, result, project, folder)
    _made(made, result, params)
    return made


def _conclude(made: Page, result: ProbeResult) -> None:
    first = result.findings[0] if result.findings else None
    made.verdict(result.weakness, first.words if first else "")
    if first is not None:
        made.paragraph(f"What to do next: {first.advice}")
    made.heading("All weaknesses")
    rows = [(f.title, percent(f.cost), f.reason) for f in result.findings]
    made.table(("Weakness", "Cost", "Because"), rows)
    made.paragraph(
        "Cost is what a weakness takes: area found without reason, as a share of all that is found"
        " or of the fossils, or recall that is missing."
    )
    for finding in result.findings[1:]:
        made.paragraph(f"{finding.title[0].upper()}{finding.title[1:]}. {finding.words}")
        made.paragraph(f"What to do about it: {finding.advice}")


def _figures(made: Page, result: ProbeResult, params: ProbeParams) -> None:
    compared = [(t, t.protocol) for t in result.tried if t.protocol is not None]
    if not compared:
        return
    made.heading("Figures by the paper's protocol")
    head = ["Slices", *FIGURES_HEAD]
    rows = [["as they are", *figures_row(compared[0][1].before)]]
    for tried, comparison in compared:
        rows.append([str(tried.preset), *figures_row(comparison.after)])
    made.table(head, rows, f"Predictions with a score from {params.score:g} up")
    made.table(
        ["Difference (95 % interval)", *COLUMNS.values(), "Matched"],
        [[str(t.preset), *difference_row(c)] for t, c in compared],
    )
    made.paragraph(ABOUT_FIGURES)


def _hidden(made: Page, result: ProbeResult) -> None:
    hidden = result.known.hidden
    if hidden is None:
        return
    made.heading(f"What is found with every {result.class_name} hidden")
    if not hidden.area:
        made.paragraph("Nothing: the model finds no fossil where there is none.")
        return
    made.paragraph(
        f"{len(hidden.instances)} instances, with {percent(hidden.ratio)} of the area of the"
        f" hidden ones. {result.confusion} A find on the fill itself counts for what frames it:"
        " the fill shows nothing."
    )
    made.shares(worded(hidden.shares), "Share of the area found on a class or framed by it")
    made.table(
        ("Sits on", "Instances", "Pixels on it", "Pixels on fill framed by it", "Share"),
        _hidden_rows(hidden),
    )


def _hidden_rows(hidden: Hallucinated) -> list[list[Value]]:
    names = list(dict.fromkeys([*hidden.shares, *hidden.counts]))
    return [
        [
            name or "background",
            hidden.counts.get(name, 0),
            hidden.on.get(name, 0),
            hidden.framed.get(name, 0),
            percent(hidden.shares.get(name, 0.0)),
        ]
        for name in names
    ]


def _textures(made: Page, result: ProbeResult, params: ProbeParams) -> None:
    compared = [(t, t.found.textures) for t in result.tried if t.found is not None]
    if not compared or not compared[0][1]:
        return
    made.heading("Textures")
    first = compared[0][1]
    rows = [["as they are", *_recalls(part.before for part in first.values())]]
    for tried, parts in compared:
        rows.append([str(tried.preset), *_recalls(part.after for part in parts.values())])
    names = [f"{name} ({len(part.before.truths)})" for name, part in first.items()]
    made.table(
        ["Recall over all true fossils", *names, "Gap"],
        rows,
        f"Predictions with a score from {params.detection_score:g} up",
    )


def _recalls(parts: Iterable[ProtocolResult]) -> list[Value]:
    recalls = [part.recall_all.mean for part in parts]
    known = [recall for recall in recalls if recall is not None]
    return [*recalls, max(known) - min(known) if len(known) > 1 else None]


def _changes(made: Page, result: ProbeResult, params: ProbeParams) -> None:
    if not result.changes:
        return
    made.heading("What changed")
    shown = result.changes[:_SHOWN_CHANGES]
    rest = len(result.changes) - len(shown)
    more = f"; {rest} more, changed ones and smaller ones, are in probe.json" if rest else ""
    made.table(
        ("Perturbation", *CHANGES_HEAD),
        [[preset, *change_row(change)] for preset, change in shown],
        f"Predictions with a score from {params.detection_score:g} up, largest first{more}",
    )


def _overlays(made: Page, result: ProbeResult, project: Project, folder: Path) -> None:
    made.heading("Slices as they are and perturbed")
    made.legend({"kept": KEPT, "lost": LOST, "gained": GAINED, "hidden fossils": TRUE})
    for tried in result.tried:
        for z, name in zip(tried.slices, tried.overlays, strict=True):
            caption = f"{tried.preset}: slice {z} ({project.names[z]}), as it is and perturbed"
            made.image(folder / name, caption)


def _made(made: Page, result: ProbeResult, params: ProbeParams) -> None:
    made.heading("How it was made")
    made.table(
        ("Perturbation", "Steps", "Filled"),
        [(str(t.preset), t.steps, percent(t.share)) for t in result.tried],
    )
    made.points(result.skipped)
    made.paragraph(
        f"Regions by {params.source}; scores from {params.score:g} up for the paper's protocol and"
        f" from {params.detection_score:g} up for all else. {_WHERE}"
    )
