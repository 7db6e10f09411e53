"""The user's set: take predictions over, correct single instances, mark slices as traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import Region, check_slice, format_slices, parse_slices
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.masks.rle import iou_matrix, union
from napari_fossiledit.params.annotations import (
    FillParams,
    TraceParams,
    UntraceParams,
)
from napari_fossiledit.params.review import CorrectParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import (
    ANNOTATIONS,
    DamagedError,
    Project,
    TakenOver,
)
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.shared.sources import (
    known_class,
    source_or_in_use,
    without_orphans,
)
from napari_fossiledit.workflows.shared.stale import look_at_photographs, stale_notes


@dataclass(frozen=True)
class FillResult(Summary):
    """Instances that were taken over.

    Attributes
    ----------
    source
        Where the instances are from.
    slices
        Slices that got instances.
    kept
        Slices that were left alone: they are traced, or hold instances already.
    mask_cut
        Probability at which the masks of predictions end.
    instances
        How many were taken over.
    replaced
        How many instances of the user's set they replaced.
    untraced
        Slices that were traced, and are not any more.
    left_out
        How many predictions were not taken over, as a reviewed mask lies there.
    problems
        Slices whose instances cannot be read, and why.
    notes
        Which of the instances were made from other photographs than are there now.
    """

    source: str
    slices: tuple[int, ...]
    kept: tuple[int, ...]
    mask_cut: float
    instances: int
    replaced: int
    untraced: tuple[int, ...]
    left_out: int = 0
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        listed = {n: format_slices(getattr(self, n)) for n in ("slices", "kept", "untraced")}
        return super().summary() | listed


@dataclass(frozen=True)
class CorrectResult(Summary):
    """What became of single instances of a slice.

    Attributes
    ----------
    slice
        Index of the slice.
    accepted
        Ids of the annotations that were accepted, and of those that predictions became; their
        cavities among them.
    reviewed
        Whether these are reviewed now.
    replaced
        Ids of annotations that accepted predictions replaced: they overlapped by more than half.
    deleted
        Ids of annotations that were thrown away, and of their cavities.
    rejected
        Ids of predictions that are noted as wrong, and of annotations of the slice below that are
        noted not to go on.
    merged
        Id of the annotation that several became, None where none were merged.
    """

    slice: int
    accepted: tuple[int, ...]
    reviewed: bool
    replaced: tuple[int, ...]
    deleted: tuple[int, ...]
    rejected: tuple[int, ...]
    merged: int | None


@dataclass(frozen=True)
class TraceResult(Summary):
    """Slices whose mark changed, and how many instances the user's set holds in them."""

    slices: tuple[int, ...]
    instances: int

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return super().summary() | {"slices": format_slices(self.slices)}


def fill(
    project_path: Path,
    params: FillParams,
    *,
    job: Job = QUIET,
) -> FillResult:
    """Copy instances of a source into the user's set, where they can be corrected.

    Each slice is one transaction, all slices together are one action of the journal. A slice that
    is traced or holds instances already is kept, unless `params.overwrite`.

    Raises
    ------
    FossilError
        Where there are no such instances, or the ledger cannot be written.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        ledger = project.ledger
        source = _foreign(project, params.source)
        known_class(project, params.class_name)
        chosen = set(parse_slices(params.slices, project.shape[0]))
        there = sorted(ledger.done(source) & chosen)
        action, name = ledger.begin(f"take over {source}"), params.class_name or None
        done: dict[int, TakenOver | None] = {}
        bodies = dict[int, int]()
        problems: list[str] = []
        for z in job.tracked(there, len(there), "Taking over"):
            try:
                found = project.instances(
                    source, z, class_name=name, min_score=params.score, mask_cut=params.mask_cut
                )
            except DamagedError as error:
                problems.append(str(error))
                continue
            new = without_orphans(found)
            bodies[z] = sum(i.part is Part.BODY for i in new)
            done[z] = ledger.take_over(
                z,
                new,
                source,
                class_name=name,
                overwrite=params.overwrite,
                reviewed_too=params.replace_reviewed,
                action=action,
            )
        taken = {z: result for z, result in done.items() if result is not None}
        notes = stale_notes(project, {source: taken})
    return FillResult(
        source,
        tuple(taken),
        tuple(z for z in done if z not in taken),
        params.mask_cut,
        sum(bodies[z] for z in taken),
        sum(t.replaced for t in taken.values()),
        tuple(z for z, t in taken.items() if t.untraced),
        sum(t.left_out for t in taken.values()),
        tuple(problems),
        notes,
    )


def correct(
    project_path: Path,
    params: CorrectParams,
    *,
    job: Job = QUIET,
) -> CorrectResult:
    """Accept single instances, throw them away, or merge them, as one change.

    A prediction that is accepted is taken over; an annotation that overlaps it by more than half is
    replaced by it, unless it is reviewed. Predictions themselves never change: one that is rejected
    is noted as wrong.

    Raises
    ------
    FossilError
        Where the slice does not hold such instances, or the ledger cannot be written.
    """
    merge = parse_ids(params.merge)
    with Project.open(project_path) as project:
        project.require_writable()
        z, ledger = check_slice(params.slice, project.shape[0]), project.ledger
        own = {i.id or 0: i for i in ledger.instances(ANNOTATIONS, slices=[z])}
        every = params.accept.strip() == "all"
        accept, reject = [*own] if every else parse_ids(params.accept), parse_ids(params.reject)
        if not (accept or reject or merge) or len(merge) == 1:
            raise FossilError(
                "There is nothing to correct",
                expected="ids to accept, ids to reject, or at least two ids to merge",
                found="one id to merge" if merge else "none",
            )
        predicted: dict[int, Instance] = {}
        # Of the slice below: they end there, and are not missing here.
        below = ledger.instances(ANNOTATIONS, slices=[z - 1], ids=reject)
        ending = {i.id or 0 for i in below}
        asked_for = {*accept, *reject, *merge} - ending
        if not asked_for <= own.keys() and (params.source or ledger.predictions()):
            source = _foreign(project, params.source)
            found = project.instances(source, z, mask_cut=params.mask_cut)
            predicted = {i.id or 0: i for i in found}
        deleted = [id_ for id_ in reject if id_ not in ending]
        correction = _Correction(z, predicted, accept, deleted, merge, params.reviewed)
        words = {"accept": accept, "reject": reject, "merge": merge}
        done = ", ".join(f"{word} {counted(ids)}" for word, ids in words.items() if ids)
        action = ledger.begin(done)
        with ledger.transaction():
            ids = ledger.revise(z, correction.change, action=action)
            new = dict(zip(correction.put, ids, strict=True))
            taken = {new[id_]: predicted[id_] for id_ in correction.taken}
            if taken:
                ledger.note_taken(source, taken)
            wrong = [id_ for id_ in reject if id_ in predicted or id_ in ending]
            if wrong:
                ledger.reject(z, wrong, action)
    return CorrectResult(
        z,
        tuple(new[id_] for id_ in correction.accepted),
        params.reviewed and bool(correction.accepted),
        tuple(sorted(correction.replaced)),
        tuple(correction.deleted),
        tuple(wrong),
        new[correction.merged] if merge else None,
    )


def _foreign(project: Project, text: str) -> str:
    """Return the source to take over from, which the annotations cannot be."""
    source = source_or_in_use(project, text)
    if source == ANNOTATIONS:
        raise FossilError(
            "The annotations cannot be taken over into themselves",
            expected="predictions",
            found=ANNOTATIONS,
        )
    return source


def counted(ids: Sequence[int]) -> str:
    """Return how many masks ids are, in words."""
    return "a mask" if len(ids) == 1 else f"{len(ids)} masks"


@dataclass
class _Correction:
    """A change of a slice of the user's set; `put` and the others are known once it was called."""

    z: int
    predicted: dict[int, Instance]
    accept: list[int]
    reject: list[int]
    merge: list[int]
    reviewed: bool
    put: dict[int, Instance] = field(default_factory=dict)
    #: Predictions that become annotations.
    taken: set[int] = field(default_factory=set)
    accepted: list[int] = field(default_factory=list)
    replaced: set[int] = field(default_factory=set)
    deleted: list[int] = field(default_factory=list)
    merged: int = 0

    def change(self, now: list[Instance]) -> tuple[list[Instance], list[int]]:
        """Return what is put and what is removed, as `Ledger.revise` asks."""
        own = {i.id or 0: i for i in now}
        every = self.predicted | own
        self._check(every)
        self.accepted = [*self._with_cavities(self.accept, every)]
        self.taken = {*self.accepted} & self.predicted.keys()
        for id_ in self.accepted:
            item = every[id_]
            if id_ in self.taken:
                item = replace(item, score=1.0, specimen=None)
            self.put[id_] = replace(item, reviewed=self.reviewed)
        self._replace(now)
        if self.merge:
            self._merge(own)
        thrown = self._with_cavities([id_ for id_ in self.reject if id_ in own], own)
        self.deleted = [id_ for id_ in thrown if id_ not in self.put]
        gone = {*self.reject, *self.merge} & own.keys() - {self.merged}
        for id_, item in self.put.items():
            # It would go with its body when the predictions are replaced.
            if item.parent is not None and item.parent not in self.put.keys() | own.keys():
                raise FossilError(
                    f"The prediction {id_} is a cavity",
                    expected="the fossil around it",
                    advice=f"Accept {item.parent}: its cavities come with it.",
                )
        return list(self.put.values()), [*(gone | self.replaced - self.put.keys())]

    def _replace(self, now: list[Instance]) -> None:
        """Find the annotations in whose place predictions come."""
        bodies = [self.predicted[id_] for id_ in self.accept if id_ in self.taken]
        families = {i.family for i in now if i.reviewed}
        there = [i for i in now if i.part is Part.BODY and i.id not in families]
        if not bodies or not there:
            return
        overlaps = iou_matrix([i.mask for i in bodies], [i.mask for i in there])
        for n, m in zip(*np.nonzero(overlaps > 0.5), strict=True):
            if bodies[n].class_name == there[m].class_name:
                self.replaced.add(there[m].id or 0)

    def _merge(self, own: dict[int, Instance]) -> None:
        """Put one instance in place of several: the first annotation among them, if any."""
        every = self.predicted | own
        self.merged = next((id_ for id_ in self.merge if id_ in own), self.merge[0])
        masks = [every[id_].mask for id_ in self.merge]
        kept = every[self.merged]
        if self.merged not in own:
            kept = replace(kept, score=1.0, specimen=None)
        mask = union(masks, masks[0].shape)
        self.put[self.merged] = replace(kept, mask=mask, origin=Origin.HUMAN)
        for id_ in self._with_cavities(self.merge, every).keys() - {*self.merge}:
            self.put[id_] = replace(every[id_], parent=self.merged)

    def _with_cavities(self, ids: Sequence[int], of: Mapping[int, Instance]) -> dict[int, None]:
        """Return ids with those of their cavities, in this order."""
        return dict.fromkeys([*ids, *(id_ for id_, i in of.items() if i.parent in ids)])

    def _check(self, every: Mapping[int, Instance]) -> None:
        asked = [*self.accept, *self.reject, *self.merge]
        if missing := [str(id_) for id_ in asked if id_ not in every]:
            raise FossilError(
                f"Slice {self.z} has no masks {', '.join(missing)}",
                expected=f"ids among {', '.join(map(str, sorted(every))) or 'none'}",
            )
        words = {"accepted": self.accept, "rejected": self.reject, "merged": self.merge}
        for (one, ids), (other, others) in combinations(words.items(), 2):
            if both := {*ids} & {*others}:
                raise FossilError(
                    f"Masks {', '.join(map(str, sorted(both)))} are to be {one} and {other}",
                    expected="either",
                )
        kinds = {(every[id_].class_name, every[id_].part) for id_ in self.merge}
        if len(kinds) > 1:
            raise FossilError(
                "Masks of unlike kinds cannot be one",
                expected="one class, and fossils or cavities alone",
                found=", ".join(sorted(f"{name} ({part})" for name, part in kinds)),
                advice="Give them one class first.",
            )


def parse_ids(text: str) -> list[int]:
    """Read ids as a user writes them, e.g. ``"12,15"``, each once."""
    try:
        return list(dict.fromkeys(int(part) for part in text.split(",") if part.strip()))
    except ValueError as error:
        raise FossilError(
            "Ids cannot be read", expected="whole numbers, e.g. 12,15", found=text
        ) from error


def trace(
    project_path: Path,
    params: TraceParams,
    *,
    job: Job = QUIET,
) -> TraceResult:
    """Mark slices, or a region of them, as annotated completely; nothing else changes.

    That nothing is there is a finding, too: a slice without instances can be marked.

    Raises
    ------
    FossilError
        Where slices or region cannot be read, or the project cannot be written.
    """
    with Project.open(project_path) as project:
        area = _area(params.region, project.slice_shape) if params.region else None
        mark = partial(project.ledger.add_traced, area=area)
        return _mark(project, params.slices, job, "trace", mark)


def untrace(
    project_path: Path,
    params: UntraceParams,
    *,
    job: Job = QUIET,
) -> TraceResult:
    """Take the mark from slices that they are annotated completely; their instances stay.

    Raises
    ------
    FossilError
        Where the slices cannot be read, or the project cannot be written.
    """
    with Project.open(project_path) as project:
        return _mark(project, params.slices, job, "untrace", project.ledger.unset_traced)


def _mark(
    project: Project, text: str, job: Job, what: str, change: Callable[..., None]
) -> TraceResult:
    project.require_writable()
    slices = parse_slices(text, project.shape[0])
    look_at_photographs(project, slices)
    action = project.ledger.begin(what)
    for z in job.tracked(slices, len(slices), "Marking slices"):
        change(z, action=action)
    counts = project.ledger.counts(ANNOTATIONS)
    return TraceResult(tuple(slices), sum(counts.get(z, 0) for z in slices))


def _area(region: str, shape: tuple[int, int]) -> Mask:
    """Return the mask of a rectangle."""
    rows, columns = Region.parse(region).slices(shape)
    crop = np.ones((rows.stop - rows.start, columns.stop - columns.start), dtype=np.bool_)
    if not crop.size:
        raise FossilError(
            "The region lies outside the slice",
            expected=f"within {shape[1]} x {shape[0]} pixels",
            found=region,
        )
    return Mask.from_crop(crop, (rows.start, columns.start), shape)
