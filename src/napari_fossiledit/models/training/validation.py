"""The part of the traced slices that judges checkpoints and is not learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.labels import masks_of_labels
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.training.quality import panoptic_quality
from napari_fossiledit.models.training.sampling import BoolArray, Prepared

_BAND = 4
_MARGIN = 96
_MOSTLY = 0.5


@dataclass(frozen=True)
class Judged:
    """A piece of a slice at working scale with what should be found in it."""

    rgb: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    truth: tuple[Instance, ...]
    ignore: Mask

    @classmethod
    def of(cls, source: Prepared, classes: Sequence[str]) -> Judged:
        """Cut out what counts, with some surroundings."""
        window = _window(~source.ignore)
        ignore = source.ignore[window]
        truth: list[Instance] = []
        for layer in source.layers:
            for number, mask in masks_of_labels(layer[window]).items():
                if _share(mask, ignore) <= _MOSTLY:
                    truth.append(Instance(0, classes[source.labels[number - 1] - 1], mask))
        return cls(source.rgb[window], tuple(truth), Mask.from_array(ignore))


def _share(mask: Mask, ignore: BoolArray) -> float:
    y0, x0, y1, x1 = mask.box
    return float((mask.crop() & ignore[y0:y1, x0:x1]).sum()) / mask.area


def _window(counts: BoolArray) -> tuple[slice, slice]:
    """Box around what counts, with a margin."""
    if not counts.any():
        return (slice(0, counts.shape[0]), slice(0, counts.shape[1]))
    rows, columns = (np.flatnonzero(counts.any(axis=a)) for a in (1, 0))
    return (_wide(rows, counts.shape[0]), _wide(columns, counts.shape[1]))


def _wide(used: np.ndarray[tuple[int, ...], np.dtype[np.intp]], length: int) -> slice:
    return slice(max(int(used[0]) - _MARGIN, 0), min(int(used[-1]) + 1 + _MARGIN, length))


def split(source: Prepared) -> tuple[Prepared, Prepared]:
    """Split one slice into what is learned from and a quarter that judges.

    The quarter is the band across the longer side in which most instances have their centre, of
    equal ones the first.
    """
    axis = int(np.argmax(source.ignore.shape))
    length = source.ignore.shape[axis]
    centres = np.array([(b[axis] + b[axis + 2]) / 2 for b in source.boxes])
    counts = np.histogram(centres, bins=_BAND, range=(0, length))[0]
    band = int(counts.argmax())
    judged = np.zeros_like(source.ignore)
    edges = slice(band * length // _BAND, (band + 1) * length // _BAND)
    judged[edges if axis == 0 else (slice(None), edges)] = True
    return without(source, judged), replace(source, ignore=source.ignore | ~judged)


def without(source: Prepared, area: BoolArray) -> Prepared:
    """Take an area (y, x) out of what is learned from, with every instance mostly in it.

    Ignored ground alone would not do: it keeps nothing from being a positive example.
    """
    if not source.layers:
        return replace(source, ignore=source.ignore | area)
    count = len(source.labels) + 1
    inside, all_ = (
        sum(np.bincount(layer[where].ravel(), minlength=count) for layer in source.layers)
        for where in (area, np.ones_like(area))
    )
    lost = np.asarray(2 * inside > all_)
    lost[0] = False
    kept = [n for n in range(1, count) if not lost[n]]
    renumbered = np.zeros(count, dtype=np.int32)
    renumbered[kept] = np.arange(1, len(kept) + 1)
    gone = np.any([lost[layer] for layer in source.layers], axis=0)
    return replace(
        source,
        layers=tuple(renumbered[layer] for layer in source.layers),
        labels=tuple(source.labels[n - 1] for n in kept),
        areas=tuple(source.areas[n - 1] for n in kept),
        boxes=tuple(source.boxes[n - 1] for n in kept),
        ignore=source.ignore | area | gone,
    )


def judge(segmenter: MaskRcnnSegmenter, pieces: Sequence[Judged]) -> float:
    """Mean panoptic quality of a model over the pieces, 0 to 1."""
    scores = [
        panoptic_quality(piece.truth, segmenter.predict_prepared(piece.rgb), piece.ignore)
        for piece in pieces
    ]
    return float(np.mean(scores))
