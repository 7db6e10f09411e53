"""An edit at any strength, at once: for a slider, in a process that stays.

What a call loaded is kept for the next one (the parent model, the edit, the model of the last
strength), so that a slider pays for adding the weights and predicting one slice, and for nothing
else. Nothing here is stored in the project.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.changes import changes
from napari_fossiledit.evaluation.protocol import protocol
from napari_fossiledit.geometry import Region, format_slices
from napari_fossiledit.masks import Instance, cut_at
from napari_fossiledit.masks.probability import MASK_CUT
from napari_fossiledit.params.segment import Device
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.project.edit_record import STRONGEST
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.edit.decide import find_edit
from napari_fossiledit.workflows.edit.judging import judged_at_strengths
from napari_fossiledit.workflows.shared.ground_truth import (
    find_instances,
    read_ground_truth,
    slices_to_judge,
)

if TYPE_CHECKING:
    from napari_fossiledit.editing.edit import Edit
    from napari_fossiledit.models.inference.protocol import Segmenter

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Strengths at which the curve over strengths is taken."""


@dataclass(frozen=True)
class LivePrediction:
    """Prediction of one slice at one strength of an edit.

    Attributes
    ----------
    edit, slice, strength
        As they were given.
    instances
        Instances above the score, highest score first, without ids.
    apply_s, predict_s
        Seconds to re-apply the edit, and to read and predict the slice.
    """

    edit: str
    slice: int
    strength: float
    instances: tuple[Instance, ...]
    apply_s: float
    predict_s: float


@dataclass(frozen=True)
class StrengthPoint:
    """Figures of the paper's protocol at one strength; None where undefined.

    Attributes
    ----------
    precision, recall, iou
        Means over matched instances.
    recall_all, iou_all
        Means over all true instances, a missed one counting 0.
    matched
        Number of true instances that any prediction overlaps.
    """

    strength: float
    precision: float | None
    recall: float | None
    iou: float | None
    recall_all: float | None
    iou_all: float | None
    matched: int


@dataclass(frozen=True)
class StrengthCurve(Summary):
    """Figures of an edit over its strengths.

    Attributes
    ----------
    slices
        Slices that were judged.
    truths
        True instances on them.
    points
        One a strength, in rising order.
    """

    edit: str
    slices: tuple[int, ...]
    truths: int
    points: tuple[StrengthPoint, ...]

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return super().summary() | {"slices": format_slices(self.slices)}


@dataclass(frozen=True)
class LiveComparison:
    """One slice before an edit and with it, at one strength and above one score.

    Attributes
    ----------
    before, after
        Instances, highest score first. Two that are one and the same share their id, which is
        made up: nothing here is stored.
    gained, lost
        Instances without a partner.
    apply_s, predict_s
        Seconds to re-apply the edit, and to read the slice and predict it with the edit.
    """

    edit: str
    slice: int
    strength: float
    score: float
    before: tuple[Instance, ...]
    after: tuple[Instance, ...]
    gained: int
    lost: int
    apply_s: float
    predict_s: float


@dataclass
class _Loaded:
    """A parent model and an edit of it, and what was made of them for the last calls."""

    parent: Segmenter
    edit: Edit
    strength: float = 0.0
    edited: Segmenter | None = None
    parent_found: tuple[int, list[Instance]] | None = None

    def at(self, strength: float) -> Segmenter:
        """Return the edited model; at strength 0 that is the parent itself."""
        require_strengths([strength])
        if strength == 0:
            return self.parent
        if self.edited is None or self.strength != strength:
            self.edited = self.edit.apply(self.parent, strength)
            self.strength = strength
        return self.edited


#: Kept from call to call in the process that stays; see `_loaded`.
_bench: dict[tuple[str, ...], _Loaded] = {}


def predicted(
    project_path: Path,
    edit: str,
    strength: float,
    z: int,
    score: float = 0.0,
    device: Device = Device.AUTO,
    mask_cut: float = MASK_CUT,
    *,
    job: Job = QUIET,
) -> LivePrediction:
    """Predict slice `z` with an edit at `strength`; 0 is the model before the edit.

    Raises
    ------
    FossilError
        Where there is no such edit or slice, or the edit does not fit its parent.
    """
    with Project.open(project_path, read_only=True) as project:
        loaded = _loaded(project, edit, device)
        job.check("The strength")
        began = time.perf_counter()
        segmenter = loaded.at(strength)
        applied = time.perf_counter()
        instances = find_instances(segmenter, project, z, job.cancelled, mask_cut=mask_cut)
    ended = time.perf_counter()
    above = tuple(i for i in instances if i.score >= score)
    return LivePrediction(edit, z, strength, above, applied - began, ended - applied)


def compared(
    project_path: Path,
    edit: str,
    strength: float,
    z: int,
    score: float = 0.5,
    device: Device = Device.AUTO,
    mask_cut: float = MASK_CUT,
    *,
    job: Job = QUIET,
) -> LiveComparison:
    """Predict slice `z` before an edit and with it at `strength`, and pair the instances.

    Raises
    ------
    FossilError
        See `predicted`.
    """
    with Project.open(project_path, read_only=True) as project:
        loaded = _loaded(project, edit, device)
        if loaded.parent_found is None or loaded.parent_found[0] != z:
            instances = find_instances(loaded.parent, project, z, job.cancelled)
            loaded.parent_found = (z, instances)
        # Filtered here: score and cut may change between calls, what the parent found does not.
        old = [i for i in loaded.parent_found[1] if i.score >= score]
        old = cut_at(old, mask_cut, "this model")
    new = predicted(
        project_path,
        edit,
        strength,
        z,
        score,
        device,
        mask_cut,
        job=Job(cancelled=job.cancelled),
    )
    sides: tuple[list[Instance], list[Instance]] = ([], [])
    for number, change in enumerate(changes(old, new.instances), 1):
        for side, instance in zip(sides, (change.before, change.after), strict=True):
            if instance is not None:
                side.append(replace(instance, id=number))
    before, after = (tuple(sorted(side, key=lambda i: -i.score)) for side in sides)
    old_ids, new_ids = ({i.id for i in side} for side in sides)
    return LiveComparison(
        edit=edit,
        slice=z,
        strength=strength,
        score=score,
        before=before,
        after=after,
        gained=len(new_ids - old_ids),
        lost=len(old_ids - new_ids),
        apply_s=new.apply_s,
        predict_s=new.predict_s,
    )


def curve(
    project_path: Path,
    edit: str,
    strengths: Sequence[float] = STRENGTHS,
    slices: str = "",
    class_name: str = "",
    score: float = 0.0,
    device: Device = Device.AUTO,
    mask_cut: float = MASK_CUT,
    *,
    job: Job = QUIET,
) -> StrengthCurve:
    """Judge an edit at several strengths by the paper's protocol, in the region it was made on.

    Parameters
    ----------
    slices
        Traced slices to judge on; empty: the pinned ones.
    class_name
        Class to judge; empty: the project's first.

    Raises
    ------
    FossilError
        Where no slice is chosen or pinned, one is not traced, there is no such edit, or no
        strength or an impossible one is given.
    """
    require_strengths(strengths)
    with Project.open(project_path, read_only=True) as project:
        made = project.edits.read(edit).params.get("region")
        region = Region.parse(made) if made else None
        truths = [read_ground_truth(project, z, region) for z in slices_to_judge(project, slices)]
        judged = judged_at_strengths(
            project,
            _loaded(project, edit, device).at,
            sorted(set(strengths)),
            truths,
            class_name or project.settings.classes[0],
            job,
            "Trying strengths",
            mask_cut=mask_cut,
        )
    count, points = 0, []
    for strength, judged_slices in judged.items():
        figures = protocol(judged_slices, score=score)
        count = len(figures.truths)
        points.append(
            StrengthPoint(
                strength,
                figures.precision.mean,
                figures.recall.mean,
                figures.iou.mean,
                figures.recall_all.mean,
                figures.iou_all.mean,
                figures.matched,
            )
        )
    return StrengthCurve(edit, tuple(t.slice for t in truths), count, tuple(points))


def require_strengths(strengths: Sequence[float]) -> None:
    """Raise where strengths are none that an edit can have, or none at all."""
    if not strengths or not all(abs(strength) <= STRONGEST for strength in strengths):
        raise FossilError(
            "The strengths cannot be used",
            expected=f"one number or more from {-STRONGEST:g} to {STRONGEST:g}",
            found=", ".join(f"{strength:g}" for strength in strengths) or "none",
        )


def _loaded(project: Project, name: str, device: Device) -> _Loaded:
    """Return parent and edit, loaded again only where either is another one than at last call."""
    ref = find_edit(project, name)
    record = ref.record
    key = (str(project.path.resolve()), name, record.parent_hash, record.delta_hash, str(device))
    if key not in _bench:
        # One at a time: memory is for one model, and a slider has one edit.
        _bench.clear()
        # Reading the hash raises where the parent is not the one the edit was made from.
        ref.model_hash  # noqa: B018
        _bench[key] = _Loaded(ref.parent.load(device), ref.edit)
    return _bench[key]
