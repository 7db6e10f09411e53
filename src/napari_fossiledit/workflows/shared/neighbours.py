"""The order in which slices are predicted whose neighbours count.

The forward pass goes up through the stack and gives each slice the detections of the pass itself
in the slice before; the backward pass goes down likewise. Where both neighbours count, a third
pass gives each slice what the forward pass found in the slice before and what the backward pass
found in the slice after. As in the forward-backward algorithm on a chain, what comes from before
depends on the slices before only, and what comes from after on those after only: no slice gets what
was found in itself, by way of its neighbour, as it would if a second pass went on from the first.

Neighbours are slices next to each other that are predicted together; a gap ends the chain. What
a slice gets from its neighbours is always read from the ledger, so that a pass that was broken off
and resumed gives what it would have given in one go. Passes have sources of their own, which are
not listed: one may be broken off, and leaves out the slice at its end. Predictions of one direction
that a user asked for take the place of the pass where they are complete.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.params.segment import Direction, PredictParams
from napari_fossiledit.project import PASS, Project
from napari_fossiledit.workflows.shared.model_refs import ModelRef, prediction_source

if TYPE_CHECKING:
    from napari_fossiledit.models.network.prior import Prior

_STEP = {Direction.FORWARD: -1, Direction.BACKWARD: 1}


@dataclass(frozen=True)
class Visit:
    """One slice to predict.

    Attributes
    ----------
    source
        Name of its predictions in the ledger.
    near
        Source and slice of the detections that it gets as a prior.
    looked_at
        Whether it is one of those that tell whether the rock is one that the model knows.
    """

    source: str
    slice: int
    near: tuple[tuple[str, int], ...] = ()
    looked_at: bool = False

    def prior(self, project: Project, params: PredictParams) -> Prior | None:
        """Read the detections of the neighbours; None where there is none."""
        from napari_fossiledit.models.network.prior import Prior

        detections = [
            instance
            for source, z in self.near
            for instance in project.ledger.instances(
                source, slices=[z], min_score=params.neighbour_score
            )
        ]
        return Prior.of(detections, params.neighbour_weight) if detections else None


def visits(
    project: Project, ref: ModelRef, params: PredictParams, slices: Sequence[int]
) -> list[Visit]:
    """Return all visits that the predictions of `slices` need, each after those that it reads.

    Raises
    ------
    FossilError
        Where neighbours are to count and no two slices lie next to each other.
    """
    model_hash = ref.model_hash
    chosen = sorted(set(slices))
    if not params.neighbour_weight:
        return [Visit(str(prediction_source(ref, model_hash, params)), z) for z in chosen]
    if not any(after - before == 1 for before, after in pairwise(chosen)):
        raise FossilError(
            "No two of the slices lie next to each other, so none has a neighbour that counts",
            expected="adjacent slices such as 4-9",
            found=format_slices(chosen),
            advice="Predict adjacent slices together, or set the neighbour weight to 0.",
        )
    sources = {
        direction: prediction_source(
            ref, model_hash, params.model_copy(update={"neighbour_direction": direction}), chosen
        )
        for direction in Direction
    }
    for step in {*_STEP} - {params.neighbour_direction}:
        if not project.ledger.done(str(sources[step])).issuperset(chosen):
            sources[step] = replace(sources[step], kind=PASS)
    names = {direction: str(source) for direction, source in sources.items()}
    return plan(params.neighbour_direction, chosen, names)


def plan(direction: Direction, slices: Sequence[int], sources: dict[Direction, str]) -> list[Visit]:
    """Order the visits of one pass, or of the two passes and of their sum.

    Parameters
    ----------
    sources
        Name of the predictions of each direction in the ledger.
    """
    chosen = set(slices)
    if direction is not Direction.BOTH:
        return _pass(direction, chosen, sources[direction])
    steps = [(sources[d], step) for d, step in _STEP.items()]
    last = [Visit(sources[direction], z, _near(steps, z, chosen)) for z in sorted(chosen)]
    read = {pair for visit in last for pair in visit.near}
    passes = [visit for d in _STEP for visit in _pass(d, chosen, sources[d])]
    return [*(v for v in passes if (v.source, v.slice) in read), *last]


def _pass(direction: Direction, chosen: Set[int], source: str) -> list[Visit]:
    steps = [(source, _STEP[direction])]
    order = sorted(chosen, reverse=direction is Direction.BACKWARD)
    return [Visit(source, z, _near(steps, z, chosen)) for z in order]


def _near(
    steps: Sequence[tuple[str, int]], z: int, chosen: Set[int]
) -> tuple[tuple[str, int], ...]:
    return tuple((source, z + step) for source, step in steps if z + step in chosen)
