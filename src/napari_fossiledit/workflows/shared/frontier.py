"""The unedited model at every mask cut: what anything that claims to be better has to beat."""

from __future__ import annotations

from collections.abc import Sequence

from napari_fossiledit.evaluation.frontier import CUTS, EqualRecall, at_equal_recall
from napari_fossiledit.evaluation.protocol import ProtocolResult, pooled, protocol
from napari_fossiledit.masks import cut_at
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.shared.ground_truth import GroundTruth, judged_slice

NO_PROBABILITIES = (
    "nothing is known at equal recall, because it was predicted before mask probabilities were"
    " kept. Predict again with 'fossiledit predict PROJECT --again'."
)
"""Sentence for the user where there is nothing to cut."""


def against_cuts(
    project: Project,
    source: str,
    truths: Sequence[GroundTruth],
    class_name: str,
    after: ProtocolResult,
    *,
    scores: Sequence[float] = (0.0,),
    job: Job = QUIET,
) -> EqualRecall | None:
    """Compare figures with the predictions of the unedited model at equal recall.

    Parameters
    ----------
    source
        Predictions of the unedited model on the same slices.
    truths
        Of these slices, in the order of `after`.
    after
        What is compared with it.
    scores
        Score thresholds that the unedited model may take.

    Returns
    -------
    None where these predictions were stored before mask probabilities were kept.
    """
    parts: dict[tuple[float, float], list[ProtocolResult]] = {}
    for truth in job.tracked(truths, len(truths), "Cutting the unedited masks of slice"):
        found = project.ledger.instances(source, slices=[truth.slice], with_probability=True)
        if any(instance.probability is None for instance in found):
            return None
        for cut in CUTS:
            judged = judged_slice(project, truth, cut_at(found, cut, source), class_name)
            for score in scores:
                parts.setdefault((cut, score), []).append(protocol([judged], score=score))
    before = {place: pooled(results) for place, results in parts.items()}
    return at_equal_recall(before, after)
