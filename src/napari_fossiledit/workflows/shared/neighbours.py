"""The order in which slices are predicted whose neighbours count.

The forward pass goes up through the stack and gives each slice the detections of the pass itself
in the slice before; the backward pass goes down likewise. Where both neighbours count, a third
pass gives each slice what the forward pass found in the slice before and what the backward pass
found in the slice after. As in the forward-backward algorithm on a chain, what comes from before
knows the slices before only, and what comes from after those after only: no slice is told what was
seen in itself, by way of its neighbour, as it would be if a second pass went on from the first.

Neighbours are slices next to each other that are predicted together; a gap ends the chain. What
a slice is told is always read from the ledger, so that a pass that was broken off and resumed
gives what it would have given in one go. Passes have sources of their own, which nobody is
offered: one may be broken off, and leaves out the slice at its end. Predictions of one direction
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
        Source and slice of the detections that it is told.
    """

    source: str
    slice: int
    near: tuple[tuple[str, int], ...] = ()

    def prior(self, project: Project, params: PredictParams) -> Prior | None:
        """Read what the slice is told; None where it has no neighbour."""
        from napari_fossiledit.models.network.prior import Prior

        found = [
            instance
            for source, z in self.near
            for instance in project.ledger.instances(
                source, slices=[z], min_score=params.neighbour_score
            )
        ]
        return Prior.of(found, params.neighbour_weight) if found else None


def visits(
    project: Project, ref: ModelRef, params: PredictParams, slices: Sequence[int]
) -> list[Visit]:
    """All visits that the predictions of `slices` need, each one after those that it reads.

    Raises
    ------
    FossilError
        Where neighbours are to count and no two slices lie next to each other.
    """
    model_hash = ref.model_hash
    wanted = sorted(set(slices))
    if not params.neighbour_weight:
        return [Visit(str(prediction_source(ref, model_hash, params)), z) for z in wanted]
    _require_neighbours(wanted)
    sources = {
        direction: prediction_source(
            ref, model_hash, params.model_copy(update={"neighbour_direction": direction}), wanted
        )
        for direction in Direction
    }
    for step in {*_STEP} - {params.neighbour_direction}:
        if not project.ledger.done(str(sources[step])).issuperset(wanted):
            sources[step] = replace(sources[step], kind=PASS)
    names = {direction: str(source) for direction, source in sources.items()}
    return plan(params.neighbour_direction, wanted, names)


def _require_neighbours(slices: Sequence[int]) -> None:
    if not any(after - before == 1 for before, after in pairwise(slices)):
        raise FossilError(
            "No two of the slices lie next to each other, so none has a neighbour that counts",
            expected="adjacent slices such as 4-9",
            found=format_slices(slices),
            advice="Predict adjacent slices together, or set the neighbour weight to 0.",
        )


def plan(direction: Direction, slices: Sequence[int], sources: dict[Direction, str]) -> list[Visit]:
    """Order the visits of one pass, or of the two passes and of their sum.

    Parameters
    ----------
    sources
        Name of the predictions of each direction in the ledger.
    """
    wanted = set(slices)
    if direction is not Direction.BOTH:
        return _pass(direction, wanted, sources[direction])
    told = [(sources[d], step) for d, step in _STEP.items()]
    last = [Visit(sources[direction], z, _near(told, z, wanted)) for z in sorted(wanted)]
    read = {pair for visit in last for pair in visit.near}
    passes = [visit for d in _STEP for visit in _pass(d, wanted, sources[d])]
    return [*(v for v in passes if (v.source, v.slice) in read), *last]


def _pass(direction: Direction, wanted: Set[int], source: str) -> list[Visit]:
    told = [(source, _STEP[direction])]
    order = sorted(wanted, reverse=direction is Direction.BACKWARD)
    return [Visit(source, z, _near(told, z, wanted)) for z in order]


def _near(told: Sequence[tuple[str, int]], z: int, wanted: Set[int]) -> tuple[tuple[str, int], ...]:
    return tuple((source, z + step) for source, step in told if z + step in wanted)
