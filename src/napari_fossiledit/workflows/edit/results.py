"""What the workflows about edits return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.project import EditRecord
from napari_fossiledit.project.history import HistoryEntry

_SHAPE = ("name", "is_edit", "depth", "parent")
_EMPTY: tuple[object, ...] = (None, "", {})


@dataclass(frozen=True)
class HistoryResult:
    """Models and edits of a project.

    Attributes
    ----------
    entries
        The history tree, depth first.
    in_use
        Model that was decided for last; empty: none.
    """

    entries: tuple[HistoryEntry, ...]
    in_use: str

    def summary(self) -> dict[str, Any]:
        """Tell the result as JSON-able values."""
        return {"model_in_use": self.in_use, "history": _nested(self.entries)}


@dataclass(frozen=True)
class ShowResult:
    """All that is known of one edit."""

    record: EditRecord
    folder: Path
    children: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """Tell the result as JSON-able values; of a loss curve, where it begins and ends."""
        told = self.record.model_dump(mode="json")
        told["curves"] = {layer: _ends(curve) for layer, curve in self.record.curves.items()}
        return {**told, "children": list(self.children), "folder": str(self.folder)}


@dataclass(frozen=True)
class DecisionResult:
    """What was decided about an edit.

    Attributes
    ----------
    record
        Of the edit, as it is now.
    in_use
        Model in use now; empty: none.
    also
        Other edits whose state changed with it.
    """

    record: EditRecord
    in_use: str
    also: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """Tell the result as JSON-able values."""
        return {
            "edit": self.record.name,
            "parent": self.record.parent,
            "state": str(self.record.state),
            "strength": self.record.strength,
            "score": self.record.score,
            "model_in_use": self.in_use,
            "also": list(self.also),
        }


@dataclass(frozen=True)
class ExportResult:
    """A model that was written out."""

    name: str
    folder: Path
    model_hash: str

    def summary(self) -> dict[str, Any]:
        """Tell the result as JSON-able values."""
        return {"model": self.name, "folder": str(self.folder), "model_hash": self.model_hash}


@dataclass(frozen=True)
class NewEditResult:
    """An edit that was made of others."""

    record: EditRecord
    folder: Path

    def summary(self) -> dict[str, Any]:
        """Tell the result as JSON-able values."""
        return {
            "edit": self.record.name,
            "parent": self.record.parent,
            "note": self.record.note,
            "drift": self.record.drift,
            "folder": str(self.folder),
        }


def _nested(entries: Sequence[HistoryEntry]) -> dict[str, Any]:
    """Put each entry into the one it was made from; what is empty is left out."""
    tree: dict[str, Any] = {}
    above: list[dict[str, Any]] = []
    for entry in entries:
        told = {k: v for k, v in entry.summary().items() if k not in _SHAPE and v not in _EMPTY}
        del above[entry.depth :]
        here = above[-1].setdefault("edits", {}) if above else tree
        here[entry.name] = told
        above.append(told)
    return tree


def _ends(curve: Any) -> Any:
    return [curve[0], curve[-1]] if isinstance(curve, list) and len(curve) > 2 else curve
