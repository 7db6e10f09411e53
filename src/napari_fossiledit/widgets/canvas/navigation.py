"""Steps from one annotated slice to the next."""

from __future__ import annotations

from napari_fossiledit.errors import FossilError
from napari_fossiledit.widgets.common.session import Session


def step(session: Session, direction: int) -> int:
    """Show the next (+1) or previous (-1) annotated slice; return its index.

    Raises
    ------
    FossilError
        Where no slice is annotated, or none lies in that direction.
    """
    slices = session.current.ledger.annotated()
    if not slices:
        raise FossilError(
            "No slice is annotated yet",
            advice='Import annotations on the page "Stack", or trace by hand on the page "Review".',
        )
    beyond = [z for z in slices if (z - session.slice) * direction > 0]
    if not beyond:
        raise FossilError(
            f"This is the {'last' if direction > 0 else 'first'} annotated slice",
            advice="Go the other way.",
        )
    z = min(beyond) if direction > 0 else max(beyond)
    session.go_to(z)
    return z
