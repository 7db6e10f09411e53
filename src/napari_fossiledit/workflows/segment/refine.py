"""Fit a refiner: a second stage that draws the masks of a model again at native resolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fossiledit.evaluation.frontier import EqualRecall, at_equal_recall
from napari_fossiledit.evaluation.protocol import ProtocolResult, pooled, protocol
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Instance, cut_at
from napari_fossiledit.masks.rle import union
from napari_fossiledit.params.segment import RefineParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.shared.folds import folds_of, trained_on, what_to_fit
from napari_fossiledit.workflows.shared.ground_truth import (
    GroundTruth,
    find_instances,
    judged_slice,
)
from napari_fossiledit.workflows.shared.model_refs import ModelRef
from napari_fossiledit.workflows.shared.stale import stale_notes

if TYPE_CHECKING:
    from napari_fossiledit.models.inference.protocol import Segmenter
    from napari_fossiledit.models.refine.fit import Example

LEAST_TRACED = 8
"""Traced instances that were found, below which no gain could be told from chance."""
TYPICAL_SIDE = 128
"""Pixels of the refiner over a fossil of middle size: more are not needed to see its wall."""
CUTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Cuts of the unrefined masks that a gain is measured against."""

Draw = Callable[[int, Sequence[Instance]], list[Instance]]


@dataclass(frozen=True)
class RefineResult:
    """A fitted refiner.

    Attributes
    ----------
    model
        Name of the model.
    folder
        Where it was written.
    refiner_hash
        Of its weights; part of the name of what is predicted with it.
    slices
        Traced slices that it was fitted on.
    gains
        By class, what it gained out of fold at equal recall.
    off
        By class for which it turned itself off, why.
    """

    model: str
    folder: Path
    refiner_hash: str
    slices: tuple[int, ...]
    gains: dict[str, EqualRecall] = field(default_factory=dict)
    off: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {
            "model": self.model,
            "folder": str(self.folder),
            "refiner_hash": self.refiner_hash,
            "slices": format_slices(self.slices),
            "refined": {name: gain.words for name, gain in self.gains.items()},
            "off": self.off,
            "gains": {name: gain.summary() for name, gain in self.gains.items()},
            "notes": list(self.notes),
        }


def run(project_path: Path, params: RefineParams, *, job: Job = QUIET) -> RefineResult:
    """Fit a refiner of a model to traced slices, and write it where `predict` finds it.

    It is judged out of fold: slices are divided into folds (instances from left to right where
    there is one slice only), and what is traced in a fold is compared with what a refiner draws
    that was fitted on the others. Where that shows no gain in IoU over all truths whose 95 %
    interval lies above 0, at equal recall and over the best mask cut, the refiner of that class
    turns itself off.

    Raises
    ------
    FossilError
        Where no slice is traced, one that was named is not, or there is no such model.
    """
    with Project.open(project_path) as project:
        ref, truths = what_to_fit(project, params)
        slices = [t.slice for t in truths]
        full = params.model_copy(update={"model": ref.name, "slices": format_slices(slices)})
        with project.ledger.recorded("refine", full.model_dump(mode="json")) as summary:
            job.report(0, 0, "Loading the model")
            fitting = _Fitting(project, ref, ref.load(params.device), truths, params, job)
            result = fitting.result()
            summary.update(result.summary())
    return result


class _Fitting:
    """What was found and traced on all slices, and what is made of it."""

    def __init__(
        self,
        project: Project,
        ref: ModelRef,
        segmenter: Segmenter,
        truths: Sequence[GroundTruth],
        params: RefineParams,
        job: Job,
    ) -> None:
        self.project, self.ref, self.segmenter = project, ref, segmenter
        self.truths, self.params, self.job = truths, params, job
        tracked = job.tracked(truths, len(truths), "Predicting slice")
        self.found = {
            t.slice: find_instances(segmenter, project, t.slice, job.cancelled) for t in tracked
        }

    def result(self) -> RefineResult:
        """Fit and judge each class, and write what gained."""
        from napari_fossiledit.models.refine.files import save_refiner
        from napari_fossiledit.models.refine.fit import fit_network, samples
        from napari_fossiledit.models.refine.refiner import Refiner, RefinerRecord

        scale = self._scale()
        record = RefinerRecord(
            model_hash=self.ref.model_hash,
            classes=(),
            pixel_size_um=self.project.geometry.pixel_size_um,
            scale=scale,
            smallest=max(round(self.params.smallest * scale**2), 1),
        )
        networks, gains, off = {}, {}, {}
        for name in self.segmenter.classes:
            pairs = [pair for example in self._examples(name) for pair in example.pairs()]
            traced = len({id(truth) for _, truth, _ in pairs})
            if traced < LEAST_TRACED:
                off[name] = f"{traced} traced instances were found, {LEAST_TRACED} are needed"
                continue
            data = samples(
                self._examples(name), len(pairs), record.scale, cancel=self.job.cancelled
            )
            if len(set(data.group.tolist())) < 2:
                off[name] = "too little of what was found lies where it is known what is there"
                continue
            folds = sorted({fold for _, _, fold in pairs})
            fitted = [
                fit_network(data.without(fold), cancel=self.job.cancelled)
                for fold in self.job.tracked(folds, len(folds), f"Fitting {name}, fold")
            ]
            one = record.model_copy(update={"classes": (name,)})
            gain = self._judged(
                name, {f: Refiner(one, {name: n}) for f, n in zip(folds, fitted, strict=True)}
            )
            spreads = (gain.gains["iou_all"], gain.iou_gain)
            if any(s.interval is None or s.interval[0] <= 0 for s in spreads):
                off[name] = (
                    "on slices that it had not seen, the refiner showed no certain gain in IoU"
                    f" over every mask cut ({_figures(gain)})"
                )
                continue
            gains[name] = gain
            networks[name] = fit_network(data, cancel=self.job.cancelled)
        slices = tuple(t.slice for t in self.truths)
        record = record.model_copy(
            update={
                "classes": tuple(networks),
                "fitted": {
                    "slices": list(slices),
                    "region": self.params.region,
                    "gains": {name: gain.summary() for name, gain in gains.items()},
                    "off": off,
                },
            }
        )
        folder = self.ref.refiner_folder
        written = save_refiner(Refiner(record, networks), folder)
        notes = self._notes(gains) + stale_notes(self.project, {ANNOTATIONS: slices})
        return RefineResult(self.ref.name, folder, written.refiner_hash, slices, gains, off, notes)

    def _notes(self, gains: dict[str, EqualRecall]) -> tuple[str, ...]:
        notes = tuple(f"{name}: {_figures(gain)}." for name, gain in gains.items())
        learned = trained_on(self.project, self.ref) & {t.slice for t in self.truths}
        if learned:
            notes += (
                f"The model learned from slices {format_slices(sorted(learned))} too, and draws"
                " better there than elsewhere: what the refiner gains on other slices may differ.",
            )
        return notes

    def _scale(self) -> float:
        """Return the refiner's pixels per pixel of the slices."""
        areas = [i.mask.area for t in self.truths for i in t.instances if not i.unsure]
        side = math.sqrt(float(np.median(areas))) if areas else 1.0
        return min(1.0, TYPICAL_SIDE / max(side, 1.0))

    def _examples(self, name: str) -> Iterator[Example]:
        """Read one slice after the other with what is known of a class."""
        from napari_fossiledit.models.refine.fit import Example, matches

        shape = self.project.slice_shape
        found = [[i for i in self.found[t.slice] if i.class_name == name] for t in self.truths]
        # Those outside of the area count no more than they are judged.
        bodies = [
            [i.mask for i in t.instances if i.id in counting]
            for t in self.truths
            for counting in [{i.id for i in judged_slice(self.project, t, [], name).truths}]
        ]
        matched = [matches(some, masks) for some, masks in zip(found, bodies, strict=True)]
        groups = folds_of(found, [numbers >= 0 for numbers in matched])
        for number, truth in enumerate(self.truths):
            counted = None if truth.area is None else truth.area.to_array()
            unsure = [i.mask for i in truth.instances if i.unsure]
            if unsure:
                known = ~union(unsure, shape).to_array()
                counted = known if counted is None else counted & known
            yield Example(
                self._rgb(truth.slice),
                found[number],
                bodies[number],
                counted,
                matched[number],
                groups[number],
            )

    def _rgb(self, z: int) -> Any:
        return self.segmenter.preprocessing.shown_rgb(self.project.contents.read(z))

    def _judged(self, name: str, refiners: dict[int, Any]) -> EqualRecall:
        """Compare what refiners draw that did not see it with the unrefined masks."""
        before: dict[tuple[float, float], list[ProtocolResult]] = {}
        after = []
        tracked = self.job.tracked(self._examples(name), len(self.truths), "Judging slice")
        for truth, example in zip(self.truths, tracked, strict=True):
            drawn: list[Instance] = []
            for fold, refiner in refiners.items():
                pairs = zip(example.found, example.groups, strict=True)
                ours = [i for i, group in pairs if group == fold]
                drawn += refiner.refine(example.rgb, ours, cancel=self.job.cancelled)
            after.append(protocol([judged_slice(self.project, truth, drawn, name)]))
            for cut in CUTS:
                judged = judged_slice(
                    self.project, truth, cut_at(example.found, cut, self.ref.name), name
                )
                before.setdefault((cut, 0.0), []).append(protocol([judged]))
        return at_equal_recall({p: pooled(r) for p, r in before.items()}, pooled(after))


def _figures(gain: EqualRecall) -> str:
    parts = []
    figures = {
        "IoU over all": (gain.iou_gain, " over the best mask cut"),
        "precision": (gain.gains["precision"], " at equal recall" if gain.within else ""),
    }
    for words, (spread, against) in figures.items():
        if spread.mean is not None:
            low, high = spread.interval or (math.nan, math.nan)
            interval = f"95 % interval {low:+.3f} to {high:+.3f}"
            parts.append(f"{words} {spread.mean:+.3f}{against}, {interval}")
    return "; ".join(parts) or "nothing matched"
