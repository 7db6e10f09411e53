"""What a repair came to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.evaluation import Change, Comparison, Kind
from napari_fossiledit.exchange.pages.html_page import Tone
from napari_fossiledit.workflows.edit.judging import SEEN
from napari_fossiledit.workflows.edit.result import EditResult
from napari_fossiledit.workflows.repair.causes import Outcome
from napari_fossiledit.workflows.repair.place import Found, Place


@dataclass(frozen=True)
class RepairResult:
    """A place where a model was wrong, why it was, and the edit that is to mend it.

    Attributes
    ----------
    place
        Where it was wrong.
    misled_by
        What misled it, in words.
    tests
        What was tried on the place, the largest effect first.
    before, after
        What was found there without the edit and with it.
    at_strengths
        What is found there by strength; 0 is without the edit.
    edited
        The edit, as it was judged.
    changes
        What changed on the slice itself.
    skipped
        What could not be tried or done, in words.
    page
        The report.
    """

    place: Place
    misled_by: str
    tests: tuple[Outcome, ...]
    before: Found
    after: Found
    at_strengths: dict[float, Found]
    edited: EditResult
    changes: tuple[Change, ...]
    skipped: tuple[str, ...]
    page: Path | None = None

    @property
    def edit(self) -> str:
        """Name of the edit."""
        return self.edited.name

    @property
    def comparison(self) -> Comparison | None:
        """Before and after on the pinned slices."""
        return self.edited.comparison

    @property
    def warnings(self) -> tuple[str, ...]:
        """What got worse, and what could not be done, in words."""
        return (*self.edited.warnings, *self.skipped)

    @property
    def repaired(self) -> bool:
        """Whether the place is mended."""
        return mended(self.place, self.before, self.after)

    @property
    def shown_from(self) -> float:
        """Score from which on the instances of the slice are compared: a wrong mask is shown."""
        return SEEN if self.place.missed else min(SEEN, self.before.score)

    @property
    def tone(self) -> Tone:
        """Whether it is meant well or ill."""
        if not self.repaired or self.edited.tone is Tone.BAD:
            return Tone.BAD
        return Tone.PLAIN if self.edited.judged is None else Tone.GOOD

    @property
    def verdict(self) -> str:
        """What to do with it, in one sentence."""
        done = "The place is repaired" if self.repaired else "The place is not repaired"
        if self.edited.judged is None:
            return f"{done}; what that costs elsewhere is not known: look before you keep it."
        costs = self.edited.tone is Tone.BAD
        if self.repaired and costs:
            return f"{done}, but it costs more than is accepted elsewhere: roll it back."
        if self.repaired and self.edited.tone is Tone.GOOD:
            return f"{done}, and the pinned slices gained as well: keep the edit."
        if self.repaired:
            return f"{done}, and nothing got much worse elsewhere: keep the edit if that matters."
        if costs:
            return f"{done}, and it costs more than is accepted elsewhere: roll it back."
        return f"{done}: roll the edit back, or trace this slice and train on it."

    @property
    def at_place(self) -> str:
        """What became of the place, in words."""
        what = "missed fossil" if self.place.missed else "wrong mask"
        return f"At the {what}: {self.before} before, {self.after} after the edit."

    def summary(self) -> dict[str, Any]:
        """Tell the result as JSON-able values."""
        return {
            "edit": self.edit,
            "verdict": self.verdict,
            "misled_by": self.misled_by,
            "at_place": self.at_place,
            "page": None if self.page is None else str(self.page),
            "repaired": self.repaired,
            "place": {
                "slice": self.place.slice,
                "what": str(self.place),
                "class_name": self.place.class_name,
                "box": list(self.place.pixels.box),
                "area": self.place.pixels.area,
            },
            "before": vars(self.before),
            "after": vars(self.after),
            "at_strengths": {f"{s:g}": vars(f) for s, f in self.at_strengths.items()},
            "tests": [test.summary() for test in self.tests],
            "changes_on_slice": {
                str(kind): sum(c.kind is kind for c in self.changes) for kind in Kind
            },
            "warnings": list(self.warnings),
            "edited": self.edited.summary(),
        }


HALF = 0.5


def mended(place: Place, before: Found, after: Found) -> bool:
    """Whether a place is mended.

    A wrong mask is when half of its response (score times overlap) or more is gone; a missed
    fossil when it is found with a score and an overlap of a half or more.
    """
    if place.missed:
        return after.score >= HALF and after.overlap >= HALF
    return after.response <= HALF * before.response
