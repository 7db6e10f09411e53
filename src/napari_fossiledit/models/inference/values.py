"""Which values of a stack a model sees as black and as white.

A model learned from slices in which black and white stood for certain values. Another stack, of
another depth or exposure, is brought to the same black and white, or it looks all white or all
black to the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError

Range = tuple[float, float]

EIGHT_BIT: Range = (0.0, 255.0)
#: Nearly all values lie between: single hot or dead pixels do not count.
_USED = (0.1, 99.9)
_SIXTEEN_BIT: Range = (0.0, 65535.0)
# 8 bit saved as 16: 255 becomes 65535.
_COPIED = 257
# From half of the range on, another exposure is likelier than values of fewer bits. Ranges of 12
# and of 16 bit have a sixteenth in common.
_BRIGHT, _COMMON = 2**15, 0.5


@dataclass(frozen=True)
class Values:
    """Values that occur in a stack.

    Attributes
    ----------
    dtype
        ``"uint8"`` or ``"uint16"``.
    low, high
        The range that nearly all of them lie in.
    largest
        The largest one.
    copied
        Whether they are 8 bit saved as 16: multiples of 257.
    """

    dtype: str
    low: float
    high: float
    largest: int
    copied: bool

    @classmethod
    def of(cls, images: Sequence[NDArray[np.integer[Any]]]) -> Values:
        """Look at the values of slices that have one dtype."""
        values = np.concatenate([image.ravel() for image in images])
        low, high = (float(v) for v in np.percentile(values, _USED))
        copied = values.dtype == np.uint16 and not bool((values % _COPIED).any())
        return cls(values.dtype.name, low, high, int(values.max()), copied)

    @property
    def span(self) -> Range:
        """What is black and white among them, as 0 and 255 are in slices of 8 bit."""
        if self.largest <= EIGHT_BIT[1]:
            return EIGHT_BIT
        if self.high >= _BRIGHT or self.copied or not self.high > self.low:
            return _SIXTEEN_BIT
        return self.low, self.high


@dataclass(frozen=True)
class Shown:
    """Values of a stack that a model is shown as 0 and 255, and why these, for the user."""

    low: float
    high: float
    note: str


def shown_to(learned: Range, stack: Values, name: str) -> Shown | None:
    """Return what a model is to be shown as black and white; None: what it learned with.

    Parameters
    ----------
    learned
        Values of its training slices that were shown as 0 and 255; `EIGHT_BIT`: those of 8 bit.
    stack
        What occurs in the stack that it is to predict.
    name
        The stack, for messages.

    Raises
    ------
    FossilError
        Where the slices show nothing that tells black from white.
    """
    eight = learned == EIGHT_BIT
    if eight and stack.dtype == "uint8":
        return None
    if not stack.high > stack.low:
        raise FossilError(
            f"Which values of {name} are black and white cannot be known",
            expected="slices that show something",
            found=f"nearly everywhere the value {stack.low:g}",
            advice="Take a model that was trained on slices of this kind"
            + ("." if stack.dtype == "uint8" else ", or convert the stack to 8 bit first."),
        )
    if eight and stack.span == EIGHT_BIT:
        note = f"The stack has 16 bit, but no value above {stack.largest}: it is taken for 8 bit."
        return Shown(*EIGHT_BIT, note)
    if eight and stack.span == _SIXTEEN_BIT:
        note = (
            "The model learned from 8 bit and the stack has 16: its values from 0 to 65535 are"
            " shown to the model as 0 to 255."
        )
        return Shown(*stack.span, note)
    if stack.dtype == "uint16" and _in_common(learned, (stack.low, stack.high)) >= _COMMON:
        return None
    depths = "from 8 bit" if eight else f"with values from {learned[0]:g} to {learned[1]:g}"
    note = (
        f"The model learned {depths}. The stack has {8 if stack.dtype == 'uint8' else 16} bit: its"
        f" values from {stack.low:g} to {stack.high:g}, nearly all that occur, are shown to the"
        " model as 0 to 255."
    )
    return Shown(stack.low, stack.high, note)


def _in_common(one: Range, other: Range) -> float:
    """Return the share that two ranges have in common of all that they cover."""
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return max(shared, 0.0) / max(one[1] - one[0] + other[1] - other[0] - shared, 1e-9)
