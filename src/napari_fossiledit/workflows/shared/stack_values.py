"""The values of a project's stack, and what of them its models are shown as black and white."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING

from napari_fossiledit.models.inference.values import EIGHT_BIT, Range, Shown, Values, shown_to

if TYPE_CHECKING:
    from napari_fossiledit.project import Project

_KEY = "stack_values"
_LOOKED_AT = 5
# Every 49th pixel is enough for percentiles.
_STEP = 7


class StackValues:
    """The values of a stack; looked at when they are first needed, and then kept in the ledger."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def shown_to(self, learned: Range) -> Shown | None:
        """Return what a model is to be shown as black and white, see `values.shown_to`."""
        if learned == EIGHT_BIT and self._project.settings.stack.dtype == "uint8":
            return None
        return shown_to(learned, self._values, str(self._project.stack_path))

    @property
    def coloured(self) -> bool:
        """Return whether the slices have colours."""
        return self._project.settings.stack.rgb

    @property
    def span(self) -> Range:
        """Return what is black and white in the stack, see `Values.span`."""
        eight = self._project.settings.stack.dtype == "uint8"
        return EIGHT_BIT if eight else self._values.span

    @cached_property
    def _values(self) -> Values:
        """Values of a few slices over the stack.

        Kept, because predictions that belong together must be shown the same.
        """
        project = self._project
        known = project.ledger.get_meta(_KEY)
        if isinstance(known, dict) and known.keys() == Values.__annotations__.keys():
            return Values(**known)
        last = project.shape[0] - 1
        slices = sorted({round(n * last / (_LOOKED_AT - 1)) for n in range(_LOOKED_AT)})
        found = Values.of([project.stack.read(z)[::_STEP, ::_STEP].copy() for z in slices])
        if not project.read_only:
            project.ledger.set_meta(_KEY, asdict(found))
        return found
