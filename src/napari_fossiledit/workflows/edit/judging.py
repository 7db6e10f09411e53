"""What an edit does on slices that only judge."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from napari_fossiledit.evaluation import Change, Comparison, JudgedSlice, Kind, changes
from napari_fossiledit.evaluation.compare import compare, worse
from napari_fossiledit.evaluation.numbers import Spread
from napari_fossiledit.evaluation.weakness import Mistaken, mistaken
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.params.segment import Device, PredictParams
from napari_fossiledit.progress import Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.edit.choice import MATCHED_SHARE
from napari_fossiledit.workflows.segment.predict import predict_missing
from napari_fossiledit.workflows.shared.judging import judged_slice
from napari_fossiledit.workflows.shared.truth import Truth, ground_of, read_truth

SEEN = 0.5
"""Instances from this score up are shown and compared one by one, as the window does at first."""


@dataclass(frozen=True)
class Judgement:
    """A model before and after an edit, on the same slices.

    Attributes
    ----------
    slices
        That judged.
    class_name
        Class that was judged.
    comparison
        By the paper's protocol, at the scores that were chosen.
    seen
        The same of predictions from `SEEN` up.
    wrong
        Where predictions from `SEEN` up were wrong, before and after.
    changes
        Instances from `SEEN` up that were gained, lost, changed or stayed the same.
    warnings
        What got worse, in words.
    sources
        Names of the predictions in the ledger, before and after.
    """

    slices: tuple[int, ...]
    class_name: str
    comparison: Comparison
    seen: Comparison
    wrong: tuple[Mistaken, Mistaken]
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    sources: tuple[str, str]

    def summary(self) -> dict[str, Any]:
        """Tell the judgement as JSON-able values; the figures of the protocol lie on top."""
        return {
            **self.comparison.summary(),
            "slices": format_slices(self.slices),
            "seen": self.seen.summary(),
            "wrong_before": self.wrong[0].summary(),
            "wrong_after": self.wrong[1].summary(),
            "changes": {str(kind): self.count(kind) for kind in Kind},
            "warnings": list(self.warnings),
        }

    def count(self, kind: Kind) -> int:
        """Count the instances that became something."""
        return sum(c.kind is kind for c in self.changes)

    @property
    def words(self) -> str:
        """What came out of it, in one sentence."""
        told = [_told(self.comparison, name) for name in ("precision", "recall", "iou")]
        matched = [r.matched for r in (self.comparison.before, self.comparison.after)]
        total = len(self.comparison.before.truths)
        figures = ", ".join(text for text in told if text)
        return (
            f"On the pinned slices {format_slices(self.slices)}: {figures or 'nothing is matched'};"
            f" {matched[1]} of {total} fossils are matched ({matched[0]} before)."
        )


def _told(comparison: Comparison, name: str) -> str:
    old, new = (getattr(r, name).mean for r in (comparison.before, comparison.after))
    if old is None or new is None:
        return ""
    delta: Spread = comparison.deltas[name]
    spoken = "IoU" if name == "iou" else name
    text = f"{spoken} {old:.3f} to {new:.3f}"
    if delta.interval is None:
        return text
    low, high = delta.interval
    return f"{text} ({new - old:+.3f}, 95 % interval {low:+.3f} to {high:+.3f})"


@dataclass(frozen=True)
class Judging:
    """Judges edits of one model on slices of a project.

    Attributes
    ----------
    tolerance
        A mean may fall by this much without a warning.
    """

    project: Project
    class_name: str
    tolerance: float
    device: Device
    job: Job

    def judge(
        self, parent: str, edit: str, slices: Sequence[int], score: float
    ) -> Judgement | None:
        """Predict slices before and after; both predictions stay in the ledger.

        Parameters
        ----------
        score
            Threshold that was chosen for the edit; its parent is judged at 0, as in the paper.

        Returns
        -------
        None where the slices show nothing of the class.

        Raises
        ------
        FossilError
            Where a slice is not traced.
        CancelledError
            What was predicted up to then is kept.
        """
        truths = [read_truth(self.project, z) for z in slices]
        sources = (self._predicted(parent, slices), self._predicted(edit, slices))
        old, new = ([self._of_ledger(s, t) for t in truths] for s in sources)
        if not any(j.truths for j in old):
            return None
        comparison = compare(old, new, score_after=score)
        seen, ground = max(SEEN, score), ground_of(truths)
        return Judgement(
            tuple(slices),
            self.class_name,
            comparison,
            compare(old, new, score_before=SEEN, score_after=seen),
            (_wrong(old, SEEN, ground), _wrong(new, seen, ground)),
            tuple(c for t in truths for c in self.changes(sources, t, seen)),
            tuple(worse(comparison, self.tolerance, MATCHED_SHARE)),
            sources,
        )

    def changes(
        self, sources: tuple[str, str], truth: Truth, score_after: float = SEEN
    ) -> tuple[Change, ...]:
        """Compare the instances of one slice before and after."""
        pair = zip(sources, (SEEN, score_after), strict=True)
        old, new = (self.project.instances(s, truth.slice, min_score=m) for s, m in pair)
        return changes(old, new, truths=truth.instances)

    def _predicted(self, model: str, slices: Sequence[int]) -> str:
        """Source of the predictions of slices, made where they are missing."""
        params = PredictParams(model=model, device=self.device)
        job = self.job.renamed(f"Judging {model}")
        done = predict_missing(self.project, params, slices, job=job)
        return done.source

    def _of_ledger(self, source: str, truth: Truth) -> JudgedSlice:
        found = self.project.instances(source, truth.slice)
        return judged_slice(self.project, truth, found, self.class_name)


def _wrong(slices: Sequence[JudgedSlice], score: float, ground: Collection[str]) -> Mistaken:
    """Where predictions are wrong; that they lie on the rock face tells nothing."""
    found = mistaken(slices, score=score)
    on = {name: count for name, count in found.on.items() if name not in ground}
    return replace(found, on=on)
