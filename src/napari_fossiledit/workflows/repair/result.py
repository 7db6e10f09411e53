"""Result of a repair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.evaluation import Change, Comparison, Kind
from napari_fossiledit.evaluation.causes import Found, Outcome, Place, mended
from napari_fossiledit.exchange.pages.html_page import Tone
from napari_fossiledit.summary import plain
from napari_fossiledit.workflows.edit.judging import SHOWN_SCORE
from napari_fossiledit.workflows.edit.result import Advice, EditResult


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
    report
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
    report: Path | None = None

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
        """Sentences on what got worse, and on what could not be done."""
        return (*self.edited.warnings, *self.skipped)

    @property
    def repaired(self) -> bool:
        """True where the place is mended."""
        return mended(self.place, self.before, self.after)

    @property
    def shown_from(self) -> float:
        """Score from which on the instances of the slice are compared: a wrong mask is shown."""
        return shown_from(self.place, self.before)

    @property
    def tone(self) -> Tone:
        """Colour of the verdict: good, bad, or neither where nothing is clear."""
        if not self.repaired or self.edited.tone is Tone.BAD:
            return Tone.BAD
        return Tone.PLAIN if self.edited.judged is None else Tone.GOOD

    @property
    def advice(self) -> Advice:
        """What to do with the edit."""
        if self.tone is Tone.BAD:
            return Advice.ROLL_BACK
        return Advice.LOOK if self.edited.judged is None else Advice.KEEP

    @property
    def verdict(self) -> str:
        """Advice to keep the edit or to roll it back, in one sentence."""
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
        """The model's answer at the place before and after, in one sentence."""
        what = "missed fossil" if self.place.missed else "wrong mask"
        return f"At the {what}: {self.before} before, {self.after} after the edit."

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        values: dict[str, Any] = plain(
            {
                "edit": self.edit,
                "verdict": self.verdict,
                "misled_by": self.misled_by,
                "at_place": self.at_place,
                "page": self.report,
                "repaired": self.repaired,
                "place": {
                    "slice": self.place.slice,
                    "what": str(self.place),
                    "class_name": self.place.class_name,
                    "box": self.place.pixels.box,
                    "area": self.place.pixels.area,
                },
                "before": self.before,
                "after": self.after,
                "at_strengths": {f"{s:g}": there for s, there in self.at_strengths.items()},
                "tests": self.tests,
                "changes_on_slice": {
                    str(kind): sum(c.kind is kind for c in self.changes) for kind in Kind
                },
                "warnings": self.warnings,
                "edited": self.edited,
            }
        )
        return values


def shown_from(place: Place, before: Found) -> float:
    """Return the score from which on instances of the slice are shown: a wrong mask is."""
    return SHOWN_SCORE if place.missed else min(SHOWN_SCORE, before.score)
