"""An edit at any strength, at once: for a slider, in a process that stays.

What a call loaded is kept for the next one (the parent model, the edit, the model of the last
strength), so that a slider pays for adding the weights and predicting one slice, and for nothing
else. Nothing here is stored in the project.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation import JudgedSlice
from napari_fossiledit.evaluation.changes import changes
from napari_fossiledit.evaluation.protocol import ProtocolResult, protocol
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.masks import Instance
from napari_fossiledit.params.segment import Device
from napari_fossiledit.progress import QUIET, Cancel, Job, check
from napari_fossiledit.project import Project
from napari_fossiledit.project.edit_record import STRONGEST
from napari_fossiledit.workflows.edit.decide import find_edit
from napari_fossiledit.workflows.shared.judging import find_instances, judged_slice
from napari_fossiledit.workflows.shared.truth import read_truth

if TYPE_CHECKING:
    from napari_fossiledit.editing.edit import Edit
    from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Strengths at which the curve over strengths is taken."""


@dataclass(frozen=True)
class LivePrediction:
    """What a model finds in one slice at one strength of an edit.

    Attributes
    ----------
    edit, slice, strength
        What was asked for.
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

    def summary(self) -> dict[str, Any]:
        """Tell the result as JSON-able values."""
        return {
            "edit": self.edit,
            "slice": self.slice,
            "strength": self.strength,
            "instances": len(self.instances),
            "apply_s": self.apply_s,
            "predict_s": self.predict_s,
        }


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
class StrengthCurve:
    """The trade-off that the strength of an edit chooses from.

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
        """Tell the result as JSON-able values."""
        return {
            "edit": self.edit,
            "slices": format_slices(self.slices),
            "truths": self.truths,
            "points": [vars(point) for point in self.points],
        }


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

    parent: MaskRcnnSegmenter
    edit: Edit
    strength: float = 0.0
    edited: MaskRcnnSegmenter | None = None
    parent_found: tuple[int, list[Instance]] | None = None

    def at(self, strength: float) -> MaskRcnnSegmenter:
        """Return the edited model; at strength 0 that is the parent itself."""
        require_strengths([strength])
        if strength == 0:
            return self.parent
        if self.edited is None or self.strength != strength:
            self.edited = self.edit.apply(self.parent, strength)
            self.strength = strength
        return self.edited

    def before(self, project: Project, z: int, cancel: Cancel) -> list[Instance]:
        """Return what the parent finds in slice `z`, predicted once."""
        if self.parent_found is None or self.parent_found[0] != z:
            self.parent_found = (z, find_instances(self.parent, project, z, cancel))
        return self.parent_found[1]


_bench: dict[tuple[str, ...], _Loaded] = {}


def reapply(
    project_path: Path,
    edit: str,
    strength: float,
    device: Device = Device.AUTO,
    *,
    job: Job = QUIET,
) -> float:
    """Make the model of an edit at `strength`; return the seconds it took without loading.

    Raises
    ------
    FossilError
        Where there is no such edit, or it does not fit its parent.
    """
    with Project.open(project_path, read_only=True) as project:
        return _timed(_loaded(project, edit, device), strength, job.cancelled)[1]


def predicted(
    project_path: Path,
    edit: str,
    strength: float,
    z: int,
    score: float = 0.0,
    device: Device = Device.AUTO,
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
        segmenter, apply_s = _timed(_loaded(project, edit, device), strength, job.cancelled)
        began = time.perf_counter()
        found = find_instances(segmenter, project, z, job.cancelled)
    predict_s = time.perf_counter() - began
    above = tuple(i for i in found if i.score >= score)
    return LivePrediction(edit, z, strength, above, apply_s, predict_s)


def compared(
    project_path: Path,
    edit: str,
    strength: float,
    z: int,
    score: float = 0.5,
    device: Device = Device.AUTO,
    *,
    job: Job = QUIET,
) -> LiveComparison:
    """Predict slice `z` before an edit and with it at `strength`, and pair what was found.

    Raises
    ------
    FossilError
        See `predicted`.
    """
    with Project.open(project_path, read_only=True) as project:
        old = _loaded(project, edit, device).before(project, z, job.cancelled)
    job.check("The strength")
    new = predicted(
        project_path, edit, strength, z, score, device, job=Job(cancelled=job.cancelled)
    )
    before, after = _paired([i for i in old if i.score >= score], new.instances)
    gained, lost = (
        len({i.id for i in here} - {i.id for i in there})
        for here, there in ((after, before), (before, after))
    )
    times = (new.apply_s, new.predict_s)
    return LiveComparison(edit, z, strength, score, before, after, gained, lost, *times)


def curve(
    project_path: Path,
    edit: str,
    strengths: Sequence[float] = STRENGTHS,
    slices: str = "",
    class_name: str = "",
    score: float = 0.0,
    device: Device = Device.AUTO,
    *,
    job: Job = QUIET,
) -> StrengthCurve:
    """Judge an edit at several strengths by the paper's protocol.

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
    rising = sorted(set(strengths))
    with Project.open(project_path, read_only=True) as project:
        truths = [read_truth(project, z) for z in _chosen(project, slices)]
        loaded = _loaded(project, edit, device)
        wanted = class_name or project.settings.classes[0]
        jobs = [(strength, truth) for strength in rising for truth in truths]
        judged: dict[float, list[JudgedSlice]] = {strength: [] for strength in rising}
        for strength, truth in job.tracked(jobs, len(jobs), "Trying strengths"):
            found = find_instances(loaded.at(strength), project, truth.slice, job.cancelled)
            judged[strength].append(judged_slice(project, truth, found, wanted))
    results = {strength: protocol(judged[strength], score=score) for strength in rising}
    points = tuple(_point(strength, result) for strength, result in results.items())
    count = len(results[rising[0]].truths)
    return StrengthCurve(edit, tuple(t.slice for t in truths), count, points)


def require_strengths(strengths: Sequence[float]) -> None:
    """Refuse strengths that no edit can have, or none at all."""
    if not strengths or not all(abs(strength) <= STRONGEST for strength in strengths):
        raise FossilError(
            "The strengths cannot be used",
            expected=f"one number or more from {-STRONGEST:g} to {STRONGEST:g}",
            found=", ".join(f"{strength:g}" for strength in strengths) or "none",
        )


def _loaded(project: Project, name: str, device: Device) -> _Loaded:
    """Parent and edit, loaded again only where either is another one than in the call before."""
    ref = find_edit(project, name)
    record = ref.record
    key = (str(project.path.resolve()), name, record.parent_hash, record.delta_hash, str(device))
    if key not in _bench:
        # One at a time: memory is for one model, and a slider has one edit.
        _bench.clear()
        # Refuses a parent that is not the one the edit was made from.
        ref.model_hash  # noqa: B018
        _bench[key] = _Loaded(ref.parent.load(device), ref.edit)
    return _bench[key]


def _timed(loaded: _Loaded, strength: float, cancel: Cancel) -> tuple[MaskRcnnSegmenter, float]:
    """Model at a strength, and the seconds it took to make it."""
    check(cancel, "The strength")
    began = time.perf_counter()
    return loaded.at(strength), time.perf_counter() - began


def _paired(
    before: Sequence[Instance], after: Sequence[Instance]
) -> tuple[tuple[Instance, ...], tuple[Instance, ...]]:
    """Give both sides ids, equal ones where they are one and the same instance."""
    pairs = [
        tuple(side and replace(side, id=number) for side in (change.before, change.after))
        for number, change in enumerate(changes(before, after), 1)
    ]
    return _by_score(old for old, _ in pairs), _by_score(new for _, new in pairs)


def _by_score(instances: Iterable[Instance | None]) -> tuple[Instance, ...]:
    return tuple(sorted((i for i in instances if i is not None), key=lambda i: -i.score))


def _chosen(project: Project, slices: str) -> list[int]:
    chosen = parse_slices(slices, project.shape[0]) if slices.strip() else []
    chosen = chosen or list(project.settings.pinned_slices)
    if not chosen:
        raise FossilError(
            "No slices to judge on were chosen",
            expected="traced slices, or pinned ones",
            found=f"no pinned slices in {project.path}",
            advice='Pin traced slices in the dock "Stack": they only judge.',
        )
    return chosen


def _point(strength: float, result: ProtocolResult) -> StrengthPoint:
    return StrengthPoint(
        strength,
        result.precision.mean,
        result.recall.mean,
        result.iou.mean,
        result.recall_all.mean,
        result.iou_all.mean,
        result.matched,
    )
