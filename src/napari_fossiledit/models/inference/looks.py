"""How slices look: a model finds what it can on rock it never saw, so that has to be told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from napari_fossiledit.models.inference.preprocessing import Rgb

Look = tuple[float, ...]

#: Mean and deviation of brightness, of red and of blue against it (levels of 0 to 255), in each
#: the difference that does not matter yet; see docs/results.md.
_COLOURS: Final = (15.0, 12.0, 6.0, 4.0, 6.0, 4.0)
#: The same of the texture: the logarithm of the mean step from one block of pixels to the next.
_TEXTURE: Final = 0.12
#: Edges of the blocks in network pixels: a fossil has about 64.
_BLOCKS: Final = (1, 4, 16)
#: Times such a difference from which on slices look unlike others: slices of sample reefs are at
#: most 3.6 from those that `reef-lite` learned from, real rock and chloroplasts 5.2 and more.
UNLIKE: Final = 4.0


def look_of(rgb: Rgb) -> Look:
    """Return nine figures of a slice (y, x, 3) at working scale, see `_COLOURS` and `_TEXTURE`."""
    values = rgb.astype(np.float32)
    grey = values.mean(axis=2)
    parts = (grey, values[..., 0] - grey, values[..., 2] - grey)
    look = [figure for part in parts for figure in (part.mean(), part.std())]
    for edge in _BLOCKS:
        rows, columns = (max(1, n // edge) for n in grey.shape)
        whole = grey[: rows * edge, : columns * edge]
        # Means of blocks, or the noise of single pixels would be every texture.
        blocks = whole.reshape(rows, whole.shape[0] // rows, columns, -1).mean(axis=(1, 3))
        steps = np.concatenate([np.diff(blocks, axis=axis).ravel() for axis in (0, 1)])
        look.append(np.log1p(np.abs(steps).mean() if steps.size else 0.0))
    return tuple(round(float(figure), 3) for figure in look)


def unlikeness(look: Look, learned: Sequence[Look]) -> float:
    """Return the largest difference of a look from all that were learned, in tolerances.

    Between the least and the most of what was learned the difference is 0.
    """
    known = np.asarray(learned)
    outside = np.maximum(known.min(axis=0) - look, look - known.max(axis=0)).clip(min=0)
    return float((outside / (*_COLOURS, *[_TEXTURE] * len(_BLOCKS))).max())
