"""The history of a project's edits as a tree, told line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.project.edits import LONGEST_CHAIN, EditRecord, EditShelf, EditState

MEASURES = ("precision", "recall", "iou", "recall_all", "iou_all", "matched")

Pair = tuple[float | None, float | None]


@dataclass(frozen=True)
class HistoryEntry:
    """A model or an edit in the tree.

    Attributes
    ----------
    name
        As it is to be named anywhere.
    is_edit
        Whether it is an edit and no model.
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
        What is wrong with it; empty where nothing is known to be.
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
        """Tell it as JSON-able values."""
        figures = {
            name: {"before": before, "after": after}
            for name, (before, after) in self.figures.items()
        }
        return {**vars(self), "state": self.state and str(self.state), "figures": figures}


def history(shelf: EditShelf, models: Mapping[str, str]) -> tuple[HistoryEntry, ...]:
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
    found = {name: shelf.look(name) for name in shelf.names()}
    tree = _Tree({n: r for n, r in found.items() if isinstance(r, EditRecord)}, models)
    entries = list(tree.walk())
    seen = {entry.name for entry in entries if entry.is_edit}
    entries += [_lost(name, found[name]) for name in found if name not in seen]
    return tuple(entries)


class _Tree:
    """Edits by their parent."""

    def __init__(self, edits: Mapping[str, EditRecord], models: Mapping[str, str]) -> None:
        self._edits = edits
        self._hashes = {**models, **{name: record.result_hash for name, record in edits.items()}}
        self._models = models
        self._seen: set[str] = set()

    def walk(self) -> Iterator[HistoryEntry]:
        """Go through everything a model leads to, each edit once."""
        parents = {r.parent for r in self._edits.values()}
        for name in sorted(self._models.keys() | (parents - self._edits.keys())):
            problem = "" if name in self._models else "It is not there any more."
            yield HistoryEntry(name, problem=problem)
            yield from self._below(name)

    def _below(self, root: str) -> Iterator[HistoryEntry]:
        waiting = self._children(root, 1)
        while waiting:
            record, depth = waiting.pop()
            if record.name in self._seen or depth > LONGEST_CHAIN:
                continue
            self._seen.add(record.name)
            yield _entry(record, depth, self._problem(record))
            waiting += self._children(record.name, depth + 1)

    def _children(self, name: str, depth: int) -> list[tuple[EditRecord, int]]:
        """Find the children of a model or edit, the oldest one last."""
        found = [r for r in self._edits.values() if r.parent == name]
        return [(r, depth) for r in sorted(found, key=lambda r: (r.created, r.name), reverse=True)]

    def _problem(self, record: EditRecord) -> str:
        known = self._hashes.get(record.parent)
        if known is None:
            return f"The model {record.parent!r} it was made from is not there any more."
        if known != record.parent_hash:
            return f"It was made from another {record.parent!r} than the one that is there now."
        return ""


def _entry(record: EditRecord, depth: int, problem: str) -> HistoryEntry:
    return HistoryEntry(
        name=record.name,
        is_edit=True,
        depth=depth,
        parent=record.parent,
        state=record.state,
        strength=record.strength,
        score=record.score,
        judged_at=_number(record.judged.get("strength", record.strength)),
        figures=_figures(record.judged),
        created=record.created,
        note=record.note,
        problem=problem,
    )


def _lost(name: str, record: EditRecord | FossilError) -> HistoryEntry:
    if isinstance(record, FossilError):
        return HistoryEntry(name, is_edit=True, problem=str(record))
    return _entry(record, 0, f"No model leads to it: its parent is {record.parent!r}.")


def _figures(judged: Mapping[str, Any]) -> dict[str, Pair]:
    """Before and after of the measures, whether given as numbers or with their spread."""
    pairs = {m: (_at(judged, ("before", m)), _at(judged, ("after", m))) for m in MEASURES}
    return {name: pair for name, pair in pairs.items() if pair != (None, None)}


def _at(values: Any, path: Sequence[str]) -> float | None:
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return _number(values.get("mean") if isinstance(values, Mapping) else values)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
