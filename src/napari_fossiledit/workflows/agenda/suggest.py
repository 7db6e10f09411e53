"""Suggest which slices to trace next, and say why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.params.agenda import Rule, SuggestParams
from napari_fossiledit.params.segment import IMAGENET
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.selection.agenda import (
    Pick,
    by_chance,
    by_distance,
    evenly_spaced,
    farthest_first,
    typical,
)
from napari_fossiledit.selection.distances import distances
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.agenda.features import (
    Eye,
    all_blank,
    blank_note,
    is_blank,
    look_at,
)
from napari_fossiledit.workflows.agenda.worth import (
    last_gain,
    stop_signal,
    with_gains,
    with_hours,
)
from napari_fossiledit.workflows.shared.model_refs import find_model
from napari_fossiledit.workflows.shared.sources import predictions_in_use


@dataclass(frozen=True)
class SuggestResult(Summary):
    """Slices to trace next.

    Attributes
    ----------
    rule
        By which they were chosen.
    picks
        The slices with the reason of each, the first one first.
    candidates, traced
        How many they were chosen from, and how many slices are traced.
    gained
        What the last training brought, in words; None: no model of the project is in use, or it was
        not asked for.
    stop
        That more slices may not be worth their time, in words; None: nothing says so.
    notes
        What was assumed or left out, in sentences.
    """

    rule: Rule
    picks: tuple[Pick, ...]
    candidates: int
    traced: int
    gained: str | None = None
    stop: str | None = None
    notes: tuple[str, ...] = ()


def run(project_path: Path, params: SuggestParams, *, job: Job = QUIET) -> SuggestResult:
    """Choose slices to trace next by a rule.

    Raises
    ------
    FossilError
        Where every slice is traced, there is no such model or slice, or the rule needs predictions
        and there are none.
    """
    with Project.open(project_path) as project:
        depth, traced = project.shape[0], sorted(project.ledger.traced())
        chosen = parse_slices(params.slices, depth) if params.slices.strip() else range(depth)
        slices = [z for z in chosen if z not in traced]
        if not slices:
            raise FossilError(
                "There is no slice left to suggest",
                expected="slices that are not traced",
                found=f"{format_slices(list(chosen))}, all traced",
            )
        picks, notes = _picks(project, slices, traced, params, job)
        # Features of ImageNet tell where to look; what is there the predictions in use tell.
        counting = _source(project, "" if params.model == IMAGENET else params.model)
        picks, more = with_hours(project, counting, picks, params)
        notes += more
        related = None
        if params.gain:
            picks, related, more = with_gains(project, picks, params, job)
            notes += more
        if len(picks) < params.count:
            notes += (f"{len(picks)} in place of {params.count}: there are no more slices.",)
        gained, gain = last_gain(project, params, job)
        return SuggestResult(
            params.rule,
            tuple(picks),
            len(slices),
            len(traced),
            gained,
            stop_signal(gain, related),
            tuple(dict.fromkeys(notes)),
        )


def _source(project: Project, model: str) -> str | None:
    """Return the predictions of a model, or those in use; None where there are none to choose."""
    if model == IMAGENET:
        return None
    if model:
        return project.ledger.latest(find_model(project, model).name)
    try:
        return predictions_in_use(project)
    except FossilError:
        return None


def _picks(
    project: Project, slices: list[int], traced: list[int], params: SuggestParams, job: Job
) -> tuple[list[Pick], tuple[str, ...]]:
    rng, count, depth = np.random.default_rng(params.seed), params.count, project.shape[0]
    if params.rule is Rule.EVEN:
        return _shown(project, slices, lambda left: evenly_spaced(left, count, depth, traced), job)
    if params.rule is Rule.RANDOM:
        return _shown(project, slices, lambda left: by_chance(left, count, rng), job)
    if params.rule is Rule.FOREGROUND:
        weights, notes = _foreground(project, slices, params.model, job)
        if weights is None:
            raise FossilError(
                "None of the slices to choose from has a prediction",
                expected="predictions of one model that tell where fossils are",
                advice="Predict them first, name the model, or choose another rule.",
            )
        return by_chance(slices, count, rng, weights), notes
    eye = Eye.of(project, project, params)
    seen = look_at(project, eye, slices, job)
    if not seen.slices:
        raise all_blank(slices)
    known = look_at(project, eye, traced, job)
    notes = (*eye.notes, *seen.notes)
    if not known.slices:
        if params.rule is not Rule.TYPICAL:
            notes += ("Nothing is traced yet: typical slices are suggested.",)
        # Distances from themselves: the same principal components without a set P.
        places = distances(seen.features, seen.features, params.components).secondary
        return typical(seen.slices, places, count, depth), notes
    found = distances(known.features, seen.features, params.components)
    notes += found.notes
    if params.rule is Rule.DISTANCE:
        return by_distance(seen.slices, found.scaled, count, rng), notes
    if params.rule is Rule.TYPICAL:
        weights, more = _foreground(project, seen.slices, params.model, job)
        places, there = found.secondary, found.primary
        picks = typical(seen.slices, places, count, depth, there, known.slices, weights)
        return picks, (*notes, *more)
    picks = farthest_first(
        seen.slices,
        found.scaled,
        found.secondary,
        found.primary,
        count,
        known_slices=known.slices,
        depth=depth,
    )
    return picks, notes


def _shown(
    project: Project, slices: list[int], choose: Callable[[list[int]], list[Pick]], job: Job
) -> tuple[list[Pick], tuple[str, ...]]:
    """Choose slices by a rule that looks at no photograph; others in place of blank ones."""
    blank: set[int] = set()
    looked: set[int] = set()
    while left := [z for z in slices if z not in blank]:
        picks = choose(left)
        fresh = [pick.slice for pick in picks if pick.slice not in looked]
        for z in job.tracked(fresh, len(fresh), "Looking at slice"):
            looked.add(z)
            if is_blank(project.stack.read(z)):
                blank.add(z)
        if blank.isdisjoint(fresh):
            return picks, (blank_note(blank),) if blank else ()
    raise all_blank(slices)


def _foreground(
    project: Project, slices: Sequence[int], model: str, job: Job
) -> tuple[NDArray[np.float64] | None, tuple[str, ...]]:
    """Return the predicted fossil area of each slice, the mean where nothing was predicted yet.

    None where nothing was predicted on any of them.
    """
    ledger, source = project.ledger, _source(project, model)
    done = ledger.done(source) & set(slices) if source else set()
    if not source or not done:
        return None, ()
    areas = {}
    for z in job.tracked(sorted(done), len(done), "Looking at predictions of slice"):
        # A mask counts by its score: at score 0 models predict as much as they may.
        areas[z] = float(sum(i.score * i.mask.area for i in ledger.instances(source, slices=[z])))
    mean = float(np.mean([*areas.values()]))
    notes = [f"Fossil areas are those of {source}."]
    if missing := sorted(set(slices) - done):
        notes.append(f"Slices {format_slices(missing)} have no prediction and count as mean ones.")
    return np.array([areas.get(z, mean) for z in slices]), tuple(notes)
