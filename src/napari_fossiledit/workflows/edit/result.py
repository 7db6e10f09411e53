"""Results of the workflows about edits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from napari_fossiledit.evaluation import Change, Comparison, Kind
from napari_fossiledit.evaluation.compare import Trial
from napari_fossiledit.exchange.pages.html_page import Tone
from napari_fossiledit.project import EditRecord
from napari_fossiledit.project.history import HistoryEntry
from napari_fossiledit.summary import Summary, plain
from napari_fossiledit.workflows.edit.judging import Judgement
from napari_fossiledit.workflows.edit.slices import EditSlices


class Advice(StrEnum):
    """What to do with an edit that was judged."""

    KEEP = "keep"
    ROLL_BACK = "roll back"
    CUT = "move the mask cut"
    """It is no better than a tighter mask cut."""
    LOOK = "look"
    """The figures decide nothing."""


@dataclass(frozen=True)
class EditResult:
    """A proposed edit and what it does.

    Attributes
    ----------
    name, folder, parent
        Of the edit, and the model or edit it rewrites.
    slices
        Which slices were used for what.
    strength, score
        Chosen on the tuning slices.
    tried
        The trade-off on the tuning slices; the first one is without the edit.
    notes
        What could not be done as asked, in words.
    losses, drift, preservation
        Of the solver, by layer; losses before and after.
    seconds
        Time of solving.
    cancelled
        Whether it was broken off and is not complete.
    judged
        Before and after on the pinned slices; None where it was not judged.
    report
        The report; None where none was written.
    """

    name: str
    folder: Path
    parent: str
    slices: EditSlices
    strength: float
    score: float
    tried: tuple[Trial, ...]
    notes: tuple[str, ...]
    losses: dict[str, tuple[float, float | None]]
    drift: dict[str, float]
    preservation: dict[str, float]
    seconds: float
    cancelled: bool = False
    judged: Judgement | None = None
    report: Path | None = None

    @property
    def comparison(self) -> Comparison | None:
        """Before and after by the paper's protocol on the pinned slices."""
        return None if self.judged is None else self.judged.comparison

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what got worse, and on what could not be done."""
        return (*(() if self.judged is None else self.judged.warnings), *self.notes)

    @property
    def changes(self) -> tuple[Change, ...]:
        """Instances gained, lost and changed on the pinned slices, and the same ones."""
        return () if self.judged is None else self.judged.changes

    @property
    def tone(self) -> Tone:
        """Colour of the verdict: good, bad, or neither where nothing is clear."""
        if self.judged is None:
            return Tone.PLAIN
        if self.judged.warnings or self.judged.comparison.fell("precision"):
            return Tone.BAD
        return Tone.GOOD if self.judged.earned else Tone.PLAIN

    @property
    def advice(self) -> Advice:
        """What to do with the edit."""
        if self.judged is None:
            return Advice.LOOK
        if self.tone is Tone.BAD:
            return Advice.ROLL_BACK
        if self.judged.earned:
            return Advice.KEEP
        return Advice.CUT if self.judged.is_cut else Advice.LOOK

    @property
    def verdict(self) -> str:
        """Advice to keep the edit or to roll it back, in one sentence."""
        if self.judged is None:
            return "The edit was not judged: look at what it does before you keep it."
        if self.judged.warnings:
            return "The edit costs more than is accepted: roll it back, or keep less of it."
        if self.judged.earned:
            return "Precision rose and nothing got much worse: keep the edit."
        if self.judged.is_cut:
            return (
                "Precision rose, but not clearly more than a tighter mask cut gives for nothing:"
                " move the cut, or predict with several views or a refiner."
            )
        if self.judged.comparison.rose("precision"):
            return (
                "Precision rose, but the model before cannot be compared at equal recall: nobody"
                " can tell whether a tighter mask cut gives as much. Look before you keep it."
            )
        if self.judged.comparison.fell("precision"):
            return "Precision fell: roll the edit back."
        return "No clear gain on the pinned slices: nothing got much worse either."

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        values: dict[str, Any] = plain(
            {
                "edit": self.name,
                "verdict": self.verdict,
                "folder": self.folder,
                "page": self.report,
                "parent": self.parent,
                "slices": self.slices,
                "strength": self.strength,
                "score": self.score,
                "tried": self.tried,
                "judged": self.judged,
                "warnings": self.warnings,
                "changes": sum(c.kind is not Kind.SAME for c in self.changes),
                "losses": self.losses,
                "drift": self.drift,
                "preservation": self.preservation,
                "seconds": round(self.seconds, 2),
                "cancelled": self.cancelled,
            }
        )
        return values


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
        """Return the result as JSON-able values: each entry in the one it was made from."""
        tree: dict[str, Any] = {}
        above: list[dict[str, Any]] = []
        for entry in self.entries:
            values = {
                key: value
                for key, value in entry.summary().items()
                # The place in the tree says the first ones; the others are left out where empty.
                if key not in ("name", "is_edit", "depth", "parent") and value not in (None, "", {})
            }
            del above[entry.depth :]
            here = above[-1].setdefault("edits", {}) if above else tree
            here[entry.name] = values
            above.append(values)
        return {"model_in_use": self.in_use, "history": tree}


@dataclass(frozen=True)
class ShowResult:
    """All that is known of one edit."""

    record: EditRecord
    folder: Path
    children: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values; of a loss curve, where it begins and ends."""
        values = self.record.model_dump(mode="json")
        values["curves"] = {
            layer: [curve[0], curve[-1]] if isinstance(curve, list) and len(curve) > 2 else curve
            for layer, curve in self.record.curves.items()
        }
        return {**values, "children": list(self.children), "folder": str(self.folder)}


@dataclass(frozen=True)
class DecisionResult:
    """A decision about an edit.

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
        """Return the result as JSON-able values."""
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
class ModelExport(Summary):
    """A model that was written out."""

    model: str
    folder: Path
    model_hash: str


@dataclass(frozen=True)
class NewEditResult:
    """An edit that was made of others."""

    record: EditRecord
    folder: Path

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {
            "edit": self.record.name,
            "parent": self.record.parent,
            "note": self.record.note,
            "drift": self.record.drift,
            "folder": str(self.folder),
        }
