"""What a model sees of a stack when it looks at one slice: the slice, or its neighbours as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.segment import InputMode

Image = NDArray[np.integer[Any]]
D = TypeVar("D", bound=np.integer[Any])

# Luma of ITU-R BT.601 in thousandths; whole numbers, so that grey saved as colour stays as it was.
_LUMA = np.array([299, 587, 114], dtype=np.uint32)


class Window(NamedTuple):
    """Channels of one array (y, x, C): slices in stack order, the slice itself in the middle.

    Attributes
    ----------
    mode
        Colours of the slice alone, or a window in grey or in colour.
    reach
        Slices on either side; 0 without a window.
    """

    mode: InputMode = InputMode.RGB
    reach: int = 0

    @classmethod
    def of(cls, mode: InputMode, reach: int) -> Window:
        """Return the window of a mode; the slice alone has no reach."""
        return cls(mode, 0 if mode is InputMode.RGB else reach)

    @property
    def slices(self) -> int:
        """Slices that are seen together."""
        return 2 * self.reach + 1

    @property
    def colours(self) -> int:
        """Channels of one slice."""
        return 1 if self.mode is InputMode.GREY_WINDOW else 3

    @property
    def channels(self) -> int:
        """Channels of all slices."""
        return self.slices * self.colours

    @property
    def mirrored(self) -> list[int]:
        """Channels in the order in which they show the stack from its other end."""
        order = np.arange(self.channels).reshape(self.slices, self.colours)[::-1]
        return [int(n) for n in order.ravel()]

    def notes(self, coloured: bool) -> tuple[str, ...]:
        """Return in a sentence that the model does not see the colours of a coloured stack."""
        if not coloured or self.colours == 3:
            return ()
        return ("The photographs are coloured, and the model sees them in grey.",)

    def read(self, read: Callable[[int], Image], z: int, count: int) -> Image:
        """Return what is seen of slice `z` of a stack of `count` slices.

        Beyond an end of the stack lies its mirror image, the slice at the end counted once.

        Parameters
        ----------
        read
            Gives a slice (y, x) or (y, x, 3); one that keeps the last few reads each slice once on
            a walk through the stack.

        Returns
        -------
        array (y, x, C) of the dtype of the stack; without a window, the slice as it is

        Raises
        ------
        FossilError
            Where the stack has fewer slices than the window.
        """
        near = self.near(z, count)
        if not self.reach:
            return read(z)
        return np.concatenate([self._coloured(read(n)) for n in near], axis=2)

    def near(self, z: int, count: int) -> list[int]:
        """Return the slices that are seen with `z`, see `read`."""
        if count < self.slices:
            raise FossilError(
                f"The stack is too short for a model that sees {self.slices} slices at once",
                expected=f"{self.slices} slices or more",
                found=count,
                advice="Use a model that sees single slices, or train one with a smaller reach.",
            )
        last = count - 1
        return [last - abs(last - abs(n)) for n in range(z - self.reach, z + self.reach + 1)]

    def centre(self, planes: NDArray[D]) -> NDArray[D]:
        """Return the slice itself out of (y, x, C), as (y, x, 3)."""
        first = self.reach * self.colours
        here = planes[..., first : first + self.colours]
        return here if self.colours == 3 else np.repeat(here, 3, axis=2)

    def _coloured(self, pixels: Image) -> Image:
        """Return a slice as (y, x, colours)."""
        if pixels.ndim == 3 and self.colours == 1:
            # One colour after the other: all at once take four bytes for each.
            grey = np.full(pixels.shape[:2], 500, np.uint32)
            for colour, weight in enumerate(_LUMA):
                grey += pixels[..., colour] * weight
            return (grey // 1000).astype(pixels.dtype)[..., None]
        return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], self.colours, axis=2)


ALONE: Final = Window()
"""The slice and nothing else."""
