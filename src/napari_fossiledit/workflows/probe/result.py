"""Result of a probe: the evidence, the weaknesses, and where to look."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.evaluation import Change, Comparison
from napari_fossiledit.evaluation.changes import Kind
from napari_fossiledit.evaluation.hallucinated import Hallucinated
from napari_fossiledit.evaluation.numbers import percent, ratio
from napari_fossiledit.evaluation.weakness import NOTEWORTHY, Evidence, Finding, Topic, verdict
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.params.editing import Scope
from napari_fossiledit.params.perturb import Preset
from napari_fossiledit.summary import plain
from napari_fossiledit.workflows.probe.places import WrongPlace


@dataclass(frozen=True)
class Tried:
    """Findings of one perturbation.

    Attributes
    ----------
    preset
        The perturbation.
    steps
        What was done, as a perturbation is written.
    slices
        Slices it was tried on.
    share
        Mean share of a slice that was filled.
    protocol, detected
        Before and after by the paper's protocol, at the two score thresholds of the parameters;
        None where the fossils were hidden.
    hidden
        What was found with all fossils hidden; None where they were not.
    changes
        Instances that appeared, vanished or changed; with hidden fossils all that were found.
    overlays
        Names of the pictures, one a slice.
    """

    preset: Preset
    steps: str
    slices: tuple[int, ...]
    share: float
    protocol: Comparison | None
    detected: Comparison | None
    hidden: Hallucinated | None
    changes: tuple[Change, ...]
    overlays: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """Return the perturbation as JSON-able values."""
        values: dict[str, Any] = plain(
            {
                "steps": self.steps,
                "slices": self.slices,
                "share_filled": self.share,
                "protocol": self.protocol,
                "at_detection_score": self.detected,
                "hidden": self.hidden,
                "changes": self.changes,
                "overlays": self.overlays,
            }
        )
        return values


@dataclass(frozen=True)
class ProbeResult:
    """Where a model is weak.

    Attributes
    ----------
    model, class_name, slices
        What was probed.
    evidence
        All evidence, at the detection score.
    findings
        Weaknesses, the costliest first.
    tried
        What each perturbation showed.
    skipped
        Perturbations that do not suit a slice, and why.
    report
        The HTML report; ``probe.json`` and the overlays lie beside it.
    notes
        What had to be assumed of the model and the stack, in sentences for the user.
    places
        Where the model is wrong on the slices as they are.
    """

    model: str
    class_name: str
    slices: tuple[int, ...]
    evidence: Evidence
    findings: tuple[Finding, ...]
    tried: tuple[Tried, ...]
    skipped: tuple[str, ...]
    report: Path
    notes: tuple[str, ...] = ()
    places: tuple[WrongPlace, ...] = ()

    @property
    def is_false(self) -> bool:
        """True where masks that should not be there are worth mending."""
        false = sum((*self.evidence.mistaken.on.values(), self.evidence.mistaken.background))
        return (ratio(false, self.evidence.mistaken.predicted) or 0.0) >= NOTEWORTHY

    @property
    def sentence(self) -> str:
        """What is wrong, in one sentence, without technical terms where it can be said so."""
        if not self.is_false:
            return self.weakness
        name, share = self.evidence.mistaken.main
        if not name:
            return (
                f"Finds {self.class_name} where nothing is traced: {percent(share)} of the false"
                " area."
            )
        return f"Takes {name} for {self.class_name}: {percent(share)} of the false area."

    @property
    def edit(self) -> dict[str, Any]:
        """Settings of an edit that may mend it; where they are none, the default is as good."""
        if not self.is_false:
            return {}
        # An edit of the masks alone could not take a wrong one away.
        return {"preset": Preset.BACKGROUND_TO_MUD, "scope": Scope.ALL}

    @property
    def worst(self) -> tuple[int, ...]:
        """Slices with wrong masks, else with missed fossils; most wrong pixels first."""
        areas: Counter[int] = Counter()
        for place in [p for p in self.places if not p.missed] or self.places:
            areas[place.instance.slice] += place.pixels
        return tuple(z for z, _ in areas.most_common())

    @property
    def weakness(self) -> str:
        """The largest weakness in words, with the figure that makes it so; then the confusion."""
        words = verdict(self.findings)
        between = bool(self.findings) and self.findings[0].topic is Topic.CLASSES
        return words if between or not self.confusion else f"{words} {self.confusion}"

    @property
    def confusion(self) -> str:
        """Which other class is taken for fossils most, in words; empty where hardly any is."""
        hidden = self.evidence.hidden
        if hidden is None or not hidden.main or hidden.on_class(hidden.main) < NOTEWORTHY:
            return ""
        return (
            f"The class taken for {self.class_name} most is {hidden.main}: with the fossils hidden,"
            f" {percent(hidden.shares[hidden.main])} of the area found comes from it,"
            f" {percent(hidden.main_share)} of what comes from other classes."
        )

    @property
    def changes(self) -> tuple[tuple[str, Change], ...]:
        """Perturbation and instance, of all that appeared, vanished or changed.

        Gained ones first, then lost and changed ones, the largest first.
        """
        pairs = [(str(t.preset), change) for t in self.tried for change in t.changes]
        order = list(Kind)
        pairs.sort(key=lambda p: (order.index(p[1].kind), -p[1].shown.mask.area))
        return tuple(pairs)

    def summary(self) -> dict[str, Any]:
        """Return the result in short as JSON-able values."""
        hidden = self.evidence.hidden
        values: dict[str, Any] = plain(
            {
                "model": self.model,
                "class_name": self.class_name,
                "slices": format_slices(self.slices),
                "weakness": self.weakness,
                "advice": self.findings[0].advice if self.findings else "",
                "findings": self.findings,
                "main_confusion": hidden
                and {"class_name": hidden.main, "share": hidden.main_share},
                "hidden": hidden,
                "changes": len(self.changes),
                "skipped": self.skipped,
                "report": self.report,
                **({"notes": self.notes} if self.notes else {}),
            }
        )
        return values

    def figures(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {
            **self.summary(),
            "original": self.evidence.original.summary(),
            "mistaken": self.evidence.mistaken.summary(),
            "perturbations": {str(t.preset): t.summary() for t in self.tried},
        }
