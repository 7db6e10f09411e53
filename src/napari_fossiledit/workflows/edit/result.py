"""What an edit came to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.evaluation import Change, Comparison, Kind
from napari_fossiledit.exchange.pages.html_page import Tone
from napari_fossiledit.workflows.edit.choice import Trial
from napari_fossiledit.workflows.edit.judging import Judgement
from napari_fossiledit.workflows.edit.slices import EditSlices


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
    page
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
    losses: dict[str, Any]
    drift: dict[str, float]
    preservation: dict[str, float]
    seconds: float
    cancelled: bool = False
    judged: Judgement | None = None
    page: Path | None = None

    @property
    def comparison(self) -> Comparison | None:
        """Before and after by the paper's protocol on the pinned slices."""
        return None if self.judged is None else self.judged.comparison

    @property
    def warnings(self) -> tuple[str, ...]:
        """What got worse, and what could not be done, in words."""
        return (*(() if self.judged is None else self.judged.warnings), *self.notes)

    @property
    def changes(self) -> tuple[Change, ...]:
        """Instances gained, lost and changed on the pinned slices, and the same ones."""
        return () if self.judged is None else self.judged.changes

    @property
    def tone(self) -> Tone:
        """Whether it is meant well or ill."""
        if self.judged is None:
            return Tone.PLAIN
        if self.judged.warnings or self.judged.comparison.fell("precision"):
            return Tone.BAD
        return Tone.GOOD if self.judged.comparison.rose("precision") else Tone.PLAIN

    @property
    def verdict(self) -> str:
        """What to do with it, in one sentence."""
        if self.judged is None:
            return "The edit was not judged: look at what it does before you keep it."
        if self.judged.warnings:
            return "The edit costs more than is accepted: roll it back, or keep less of it."
        if self.judged.comparison.rose("precision"):
            return "Precision rose and nothing got much worse: keep the edit."
        if self.judged.comparison.fell("precision"):
            return "Precision fell: roll the edit back."
        return "No clear gain on the pinned slices: nothing got much worse either."

    def summary(self) -> dict[str, Any]:
        """Tell the result as JSON-able values."""
        return {
            "edit": self.name,
            "verdict": self.verdict,
            "folder": str(self.folder),
            "page": None if self.page is None else str(self.page),
            "parent": self.parent,
            "slices": self.slices.summary(),
            "strength": self.strength,
            "score": self.score,
            "tried": [t.summary() for t in self.tried],
            "judged": None if self.judged is None else self.judged.summary(),
            "warnings": list(self.warnings),
            "changes": len([c for c in self.changes if c.kind is not Kind.SAME]),
            "losses": self.losses,
            "drift": self.drift,
            "preservation": self.preservation,
            "seconds": round(self.seconds, 2),
            "cancelled": self.cancelled,
        }
