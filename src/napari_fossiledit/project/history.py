"""The history of a project's edits: a tree, one entry a model or edit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.project.edits import LONGEST_CHAIN, EditRecord, EditState, EditStore
from napari_fossiledit.summary import Summary

MEASURES = ("precision", "recall", "iou", "recall_all", "iou_all", "matched")

Pair = tuple[float | None, float | None]


@dataclass(frozen=True)
class HistoryEntry(Summary):
    """A model or an edit in the tree.

    Attributes
    ----------
    name
        As it is to be named anywhere.
    is_edit
        True for an edit, False for a model.
    depth
        0 for a model, 1 for an edit of a model, 2 for an edit of that edit; 0 where no model leads
        to it.
    parent
        Empty for a model.
    state
        None for a model.
    strength, score
        Share of the edit that is applied, and score threshold; None for a model.
    judged_at
        Strength the figures belong to, where they were taken.
    figures
        Before and after, by name.
    created, note
        When, and what a person or the program noted.
    problem
        What is wrong with it; empty: nothing.
    """

    name: str
    is_edit: bool = False
    depth: int = 0
    parent: str = ""
    state: EditState | None = None
    strength: float | None = None
    score: float | None = None
    judged_at: float | None = None
    figures: Mapping[str, Pair] = field(default_factory=dict)
    created: str = ""
    note: str = ""
    problem: str = ""

    def summary(self) -> dict[str, Any]:
        """Return the entry as JSON-able values."""
        figures = {
            name: {"before": before, "after": after}
            for name, (before, after) in self.figures.items()
        }
        return super().summary() | {"figures": figures}


def history(store: EditStore, models: Mapping[str, str]) -> tuple[HistoryEntry, ...]:
    """List models and edits, each below what it was made from.

    Parameters
    ----------
    models
        Hash of each model by its name; those that edits name and are not here are missing.

    Returns
    -------
    tuple of HistoryEntry
        Depth first. Edits that no model leads to (a damaged record, parents in a circle) come last.
    """
    looked = {name: store.look(name) for name in store.names()}
    edits = {name: record for name, record in looked.items() if isinstance(record, EditRecord)}
    hashes = {**models, **{name: record.result_hash for name, record in edits.items()}}
    children: defaultdict[str, list[EditRecord]] = defaultdict(list)
    # Newest first: they wait on a stack, from which the last one is taken next.
    for record in sorted(edits.values(), key=lambda r: (r.created, r.name), reverse=True):
        children[record.parent].append(record)
    entries: list[HistoryEntry] = []
    seen: set[str] = set()
    for root in sorted(models.keys() | (children.keys() - edits.keys())):
        problem = "" if root in models else "It is not there any more."
        entries.append(HistoryEntry(root, problem=problem))
        waiting = [(record, 1) for record in children.get(root, [])]
        while waiting:
            record, depth = waiting.pop()
            if record.name in seen or depth > LONGEST_CHAIN:
                continue
            seen.add(record.name)
            entries.append(_entry(record, depth, _problem(record, hashes)))
            waiting += [(child, depth + 1) for child in children.get(record.name, [])]
    for name, look in looked.items():
        if isinstance(look, FossilError):
            entries.append(HistoryEntry(name, is_edit=True, problem=str(look)))
        elif name not in seen:
            problem = f"No model leads to it: its parent is {look.parent!r}."
            entries.append(_entry(look, 0, problem))
    return tuple(entries)


def _problem(record: EditRecord, hashes: Mapping[str, str]) -> str:
    parent_hash = hashes.get(record.parent)
    if parent_hash is None:
        return f"The model {record.parent!r} it was made from is not there any more."
    if parent_hash != record.parent_hash:
        return f"It was made from another {record.parent!r} than the one that is there now."
    return ""


def _entry(record: EditRecord, depth: int, problem: str) -> HistoryEntry:
    judged = record.judged
    pairs = {m: (_at(judged, ("before", m)), _at(judged, ("after", m))) for m in MEASURES}
    return HistoryEntry(
        name=record.name,
        is_edit=True,
        depth=depth,
        parent=record.parent,
        state=record.state,
        strength=record.strength,
        score=record.score,
        judged_at=_number(judged.get("strength", record.strength)),
        figures={name: pair for name, pair in pairs.items() if pair != (None, None)},
        created=record.created,
        note=record.note,
        problem=problem,
    )


def _at(values: Any, path: Sequence[str]) -> float | None:
    """Return a figure, whether it was written as a number or with its spread."""
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return _number(values.get("mean") if isinstance(values, Mapping) else values)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
