"""From one annotated slice to the next."""

from __future__ import annotations

from collections.abc import Iterable

from napari_fossiledit.errors import FossilError
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.widgets.common.session import Session


def annotated(project: Project) -> list[int]:
    """Slices that are traced, wholly or in part, or hold imported instances."""
    ledger = project.ledger
    return sorted(set(ledger.traced()) | set(ledger.done(ANNOTATIONS)))


def neighbour(slices: Iterable[int], z: int, direction: int) -> int | None:
    """Nearest of `slices` after `z` (direction +1) or before it (-1), None where none is."""
    beyond = [s for s in slices if (s - z) * direction > 0]
    return min(beyond, key=lambda s: abs(s - z), default=None)


def step(session: Session, direction: int) -> int:
    """Show the next (+1) or previous (-1) annotated slice; return its index.

    Raises
    ------
    FossilError
        Where no slice is annotated, or none lies in that direction.
    """
    slices = annotated(session.current)
    if not slices:
        raise FossilError(
            "No slice is annotated yet",
            advice='Import annotations in the dock "Stack", or trace a slice by hand in "Segment".',
        )
    z = neighbour(slices, session.slice, direction)
    if z is None:
        raise FossilError(
            f"This is the {'last' if direction > 0 else 'first'} annotated slice",
            advice="Go the other way.",
        )
    session.go_to(z)
    return z
