"""What of a model's predictions a review has left as it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.masks.rle import iou_matrix
from napari_fossiledit.params.review import AgreementParams
from napari_fossiledit.perturb.mud import ROCK_CLASS
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.shared.sources import source_or_in_use

_MATCHED = 0.5
"""IoU from which on a prediction and a reviewed mask are the same fossil."""


@dataclass(frozen=True)
class ClassAgreement(Summary):
    """Predictions of a class against the reviewed masks.

    Attributes
    ----------
    kept, changed
        Predictions that are a reviewed mask, to the pixel or with another outline.
    wrong
        Predictions that are none.
    missed
        Reviewed masks that were not predicted.
    iou
        Mean IoU of those that match; None where none does.
    area_bias
        Predicted area less reviewed area of those that match, as a share of the latter.
    """

    class_name: str
    kept: int = 0
    changed: int = 0
    wrong: int = 0
    missed: int = 0
    iou: float | None = None
    area_bias: float | None = None


@dataclass(frozen=True)
class AgreementResult(Summary):
    """Predictions against the review, by class.

    Attributes
    ----------
    source
        Whose predictions.
    slices
        Slices that are traced or in which every mask is reviewed, and that are predicted.
    """

    source: str
    slices: tuple[int, ...]
    classes: tuple[ClassAgreement, ...]

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        classes = [each.summary() for each in self.classes]
        return super().summary() | {"slices": format_slices(self.slices), "classes": classes}


def run(project_path: Path, params: AgreementParams, *, job: Job = QUIET) -> AgreementResult:
    """Compare the predictions of a model with the masks that a person has found right.

    Raises
    ------
    FossilError
        Where there are no predictions, or none of their slices is reviewed.
    """
    with Project.open(project_path, read_only=True) as project:
        ledger = project.ledger
        source = source_or_in_use(project, params.source)
        reviewed = {z for z, (done, every) in ledger.reviewed().items() if done == every > 0}
        whole = {z for z, area in ledger.traced().items() if area is None}
        chosen = {*parse_slices(params.slices, project.shape[0])} & ledger.done(source)
        slices = sorted(chosen & (reviewed | whole))
        if not slices:
            raise FossilError(
                "There is nothing to compare",
                expected="slices that are predicted, and traced or wholly reviewed",
                found="none",
                advice="Say of all masks of a slice that they are right, then compare.",
            )
        tallies: dict[str, _Tally] = {}
        for z in job.tracked(slices, len(slices), "Comparing"):
            found = project.instances(source, z, min_score=params.score, mask_cut=params.mask_cut)
            own = ledger.instances(ANNOTATIONS, slices=[z], part=Part.BODY)
            bodies = [i for i in found if i.part is Part.BODY]
            for name in sorted({i.class_name for i in (*bodies, *own)} - {ROCK_CLASS}):
                tallies.setdefault(name, _Tally()).add(
                    [i for i in bodies if i.class_name == name],
                    [i for i in own if i.class_name == name and not i.unsure],
                )
    classes = tuple(tally.result(name) for name, tally in sorted(tallies.items()))
    return AgreementResult(source, tuple(slices), classes)


class _Tally:
    """Adds up one class over slices."""

    def __init__(self) -> None:
        self.kept = self.changed = self.wrong = self.missed = 0
        self.ious: list[float] = []
        self.areas = np.zeros(2)

    def add(self, found: list[Instance], own: list[Instance]) -> None:
        overlaps = iou_matrix([i.mask for i in found], [i.mask for i in own])
        pairs = [
            (n, m)
            for n, m in zip(*linear_sum_assignment(-overlaps), strict=True)
            if overlaps[n, m] >= _MATCHED
        ]
        same = sum(found[n].mask == own[m].mask for n, m in pairs)
        self.kept += same
        self.changed += len(pairs) - same
        self.wrong += len(found) - len(pairs)
        self.missed += len(own) - len(pairs)
        self.ious += [float(overlaps[n, m]) for n, m in pairs]
        self.areas += [
            sum(found[n].mask.area for n, _ in pairs),
            sum(own[m].mask.area for _, m in pairs),
        ]

    def result(self, name: str) -> ClassAgreement:
        predicted, right = self.areas
        return ClassAgreement(
            name,
            self.kept,
            self.changed,
            self.wrong,
            self.missed,
            float(np.mean(self.ious)) if self.ious else None,
            float(predicted / right - 1) if right else None,
        )
