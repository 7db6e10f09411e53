"""An edit judged: at several strengths on any traced slices, and on those that only judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_fossiledit.evaluation import Change, Comparison, JudgedSlice, Kind, changes
from napari_fossiledit.evaluation.compare import MATCHED_SHARE, compare, worse
from napari_fossiledit.evaluation.frontier import EqualRecall
from napari_fossiledit.evaluation.numbers import Spread
from napari_fossiledit.evaluation.weakness import Mistaken, mistaken
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Instance
from napari_fossiledit.masks.probability import MASK_CUT
from napari_fossiledit.params.editing import EditParams
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.progress import Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.edit.slices import region_of
from napari_fossiledit.workflows.segment.predict import predict_missing
from napari_fossiledit.workflows.shared.frontier import against_cuts
from napari_fossiledit.workflows.shared.ground_truth import (
    GroundTruth,
    find_instances,
    ground_of,
    judged_slice,
    read_ground_truth,
)

if TYPE_CHECKING:
    from napari_fossiledit.models.inference.protocol import Segmenter

SHOWN_SCORE = 0.5
"""Instances with a score >= this are shown and compared one by one, as the window does at first."""


def found_at_strengths(
    project: Project,
    model_at: Callable[[float], Segmenter],
    strengths: Sequence[float],
    slices: Sequence[int],
    job: Job,
    what: str,
    *,
    mask_cut: float = MASK_CUT,
) -> Iterator[tuple[float, int, list[Instance]]]:
    """Predict slices with a model at several strengths of an edit.

    Parameters
    ----------
    model_at
        Returns the model at a strength.
    what
        What it is done for, as the beginning of a sentence: the head of the progress messages.
    mask_cut
        Probability at which the masks end.

    Yields
    ------
    tuple
        Strength, slice, and the instances on it.
    """
    clock = job.clock(len(strengths) * len(slices))
    done = 0
    for strength in strengths:
        model = model_at(strength)
        for z in slices:
            job.check(what)
            clock.tick(done, f"{what}: strength {strength:g} on slice {z}")
            found = find_instances(model, project, z, job.cancelled, mask_cut=mask_cut)
            yield strength, z, found
            done += 1
    clock.tick(done, "Predicted at all strengths")


def judged_at_strengths(
    project: Project,
    model_at: Callable[[float], Segmenter],
    strengths: Sequence[float],
    truths: Sequence[GroundTruth],
    class_name: str,
    job: Job,
    what: str,
    *,
    mask_cut: float = MASK_CUT,
) -> dict[float, list[JudgedSlice]]:
    """Judge traced slices at several strengths of an edit, see `found_at_strengths`."""
    truth_of = {truth.slice: truth for truth in truths}
    judged: dict[float, list[JudgedSlice]] = {strength: [] for strength in strengths}
    predictions = found_at_strengths(
        project, model_at, strengths, list(truth_of), job, what, mask_cut=mask_cut
    )
    for strength, z, instances in predictions:
        judged[strength].append(judged_slice(project, truth_of[z], instances, class_name))
    return judged


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
        The same of predictions with a score >= `SHOWN_SCORE`.
    wrong
        Where predictions with a score >= `SHOWN_SCORE` were wrong, before and after.
    changes
        Instances with a score >= `SHOWN_SCORE` that were gained, lost, changed or stayed the same.
    warnings
        What got worse, in words.
    sources
        Names of the predictions in the ledger, before and after.
    at_equal_recall
        The same against the model before at the mask cut that gives the same recall; None where
        its predictions have no mask probabilities.
    """

    slices: tuple[int, ...]
    class_name: str
    comparison: Comparison
    seen: Comparison
    wrong: tuple[Mistaken, Mistaken]
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    sources: tuple[str, str]
    at_equal_recall: EqualRecall | None = None

    @property
    def earned(self) -> bool:
        """True where precision rose, and at equal recall by more than a moved mask cut gives."""
        rival = self._rival
        return self.comparison.rose("precision") and rival is not None and rival.better

    @property
    def is_cut(self) -> bool:
        """True where precision rose, but not clearly more than a moved mask cut gives."""
        rival = self._rival
        return self.comparison.rose("precision") and rival is not None and not rival.better

    @property
    def _rival(self) -> EqualRecall | None:
        """The comparison at equal recall, None where the model before never has this recall."""
        rival = self.at_equal_recall
        return rival if rival is not None and rival.within else None

    def summary(self) -> dict[str, Any]:
        """Return the judgement as JSON-able values; the figures of the protocol lie on top."""
        return {
            **self.comparison.summary(),
            "slices": format_slices(self.slices),
            "seen": self.seen.summary(),
            "at_equal_recall": self.at_equal_recall and self.at_equal_recall.summary(),
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
        """The figures in one sentence."""
        before, after = self.comparison.before, self.comparison.after
        figures = [_pair_text(self.comparison, name) for name in ("precision", "recall", "iou")]
        means = ", ".join(text for text in figures if text) or "nothing is matched"
        return (
            f"On the pinned slices {format_slices(self.slices)}: {means};"
            f" {after.matched} of {len(before.truths)} fossils are matched"
            f" ({before.matched} before)."
            + (f" {self.at_equal_recall.words}" if self.at_equal_recall else "")
        )


def _pair_text(comparison: Comparison, name: str) -> str:
    old, new = (getattr(r, name).mean for r in (comparison.before, comparison.after))
    if old is None or new is None:
        return ""
    delta: Spread = comparison.deltas[name]
    text = f"{'IoU' if name == 'iou' else name} {old:.3f} to {new:.3f}"
    if delta.interval is None:
        return text
    low, high = delta.interval
    return f"{text} ({new - old:+.3f}, 95 % interval {low:+.3f} to {high:+.3f})"


def judge_edit(
    project: Project,
    parent: str,
    edit: str,
    slices: Sequence[int],
    params: EditParams,
    score: float,
    job: Job,
) -> Judgement | None:
    """Predict slices with a model and with an edit of it, and judge both.

    The predictions stay in the ledger.

    Parameters
    ----------
    parent, edit
        Models as `find_model` takes them.
    params
        Its class is judged, in its region; its tolerance is how much a mean may fall without a
        warning, and the masks of both models end at its mask cut.
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
    truths = [read_ground_truth(project, z, region_of(params)) for z in slices]
    parent_source, edit_source = (
        predict_missing(
            project,
            PredictParams(model=model, device=params.device),
            slices,
            job=job.renamed(f"Judging {model}"),
        ).source
        for model in (parent, edit)
    )
    read = partial(project.instances, mask_cut=params.mask_cut)
    old, new = (
        [judged_slice(project, t, read(source, t.slice), params.class_name) for t in truths]
        for source in (parent_source, edit_source)
    )
    if not any(j.truths for j in old):
        return None
    comparison = compare(old, new, score_after=score)
    # The edit is never shown below the threshold it is used with.
    shown, ground = max(SHOWN_SCORE, score), ground_of(truths)
    all_changes: list[Change] = []
    for t in truths:
        before = read(parent_source, t.slice, min_score=SHOWN_SCORE)
        after = read(edit_source, t.slice, min_score=shown)
        all_changes += changes(before, after, truths=t.instances)
    wrong = []
    for judged, least in ((old, SHOWN_SCORE), (new, shown)):
        places = mistaken(judged, score=least)
        # Everything lies on the ground: that a mistake does so explains nothing.
        on = {name: area for name, area in places.on.items() if name not in ground}
        wrong.append(replace(places, on=on))
    return Judgement(
        slices=tuple(slices),
        class_name=params.class_name,
        comparison=comparison,
        seen=compare(old, new, score_before=SHOWN_SCORE, score_after=shown),
        wrong=(wrong[0], wrong[1]),
        changes=tuple(all_changes),
        warnings=tuple(worse(comparison, params.tolerance, MATCHED_SHARE)),
        sources=(parent_source, edit_source),
        at_equal_recall=against_cuts(
            project,
            parent_source,
            truths,
            params.class_name,
            comparison.after,
            scores=sorted({0.0, score}),
            job=job,
        ),
    )
