"""Colours of points or specimens by what is known of them, and what they mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from napari.utils.colormaps import ensure_colormap
from numpy.typing import NDArray
from qtpy.QtGui import QColor

#: Told apart by people who lack cones of any kind (Okabe and Ito 2008), without black and yellow,
#: which are lost on the dark page or on the light one.
SAFE = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#0072b2", "#cc79a7")
_OTHERS, _NONE = "#8c6d46", "#8f8f8f"
#: Columns of amounts, and their units; all others are kinds.
AMOUNTS = {"Slice": "", "Confidence": "", "Volume": "mm3", "Interval of the volume": "% of it"}
#: Those of which a few are many times as large as the others.
_FACTORS = ("mm3",)
_STEPS = 12


@dataclass(frozen=True)
class Colouring:
    """Colours of points.

    Attributes
    ----------
    kinds
        (n,) index of each point in the palette.
    palette
        Colours.
    legend
        What they mean, as HTML.
    """

    kinds: NDArray[np.intp]
    palette: Sequence[QColor]
    legend: str


def coloured(
    heading: str, values: Sequence[Any], of_specimen: Callable[[Any], tuple[float, float, float]]
) -> Colouring:
    """Return colours of points by their values, None where there is none.

    Parameters
    ----------
    of_specimen
        Returns the colour, from 0 to 1, that a value of the column of specimens has elsewhere.
    """
    if heading in AMOUNTS:
        return _amounts(values, AMOUNTS[heading])
    counts = Counter(value for value in values if value is not None)
    kinds: list[Any] = [value for value, _ in counts.most_common()]
    if heading == "Specimen":
        palette = [QColor.fromRgbF(*of_specimen(kind)) for kind in kinds]
        told = [("", f"{len(kinds)} fossils, in their colours of the slices and of 3D")]
    else:
        shown = kinds if len(kinds) <= len(SAFE) else kinds[: len(SAFE) - 1]
        palette = [QColor(SAFE[n] if n < len(shown) else _OTHERS) for n in range(len(kinds))]
        words = [f"{kind} ({counts[kind]})".replace("_", " ") for kind in shown]
        told = list(zip(SAFE, words, strict=False))
        if rest := kinds[len(shown) :]:
            told.append((_OTHERS, f"{len(rest)} others ({sum(counts[kind] for kind in rest)})"))
    if nothing := len(values) - sum(counts.values()):
        told.append((_NONE, f"none ({nothing})"))
    at = {kind: n for n, kind in enumerate(kinds)} | {None: len(kinds)}
    return Colouring(
        np.array([at[value] for value in values], np.intp),
        [*palette, QColor(_NONE)],
        _legend(told),
    )


def _amounts(values: Sequence[float | None], unit: str) -> Colouring:
    known = np.array([np.nan if value is None else float(value) for value in values])
    there = known[~np.isnan(known)]
    low, high = (float(there.min()), float(there.max())) if there.size else (0.0, 0.0)
    scale, note = (np.log, ", by factors") if unit in _FACTORS and low > 0 else (np.array, "")
    span = max(float(scale(high) - scale(low)), 1e-9) if there.size else 1.0
    share = np.nan_to_num((scale(known) - scale(low)) / span)
    kinds = np.where(np.isnan(known), _STEPS, (share * (_STEPS - 1)).round()).astype(np.intp)
    rgb = ensure_colormap("viridis").map(np.linspace(0.1, 1, _STEPS))[:, :3]
    palette = [QColor.fromRgbF(*map(float, each)) for each in rgb]
    ends = "".join(f'<span style="color:{colour.name()}">●</span>' for colour in palette)
    told = [("", f"{low:.3g} {ends} {high:.3g} {unit}{note}")] if there.size else []
    if nothing := int(np.isnan(known).sum()):
        told.append((_NONE, f"none ({nothing})"))
    return Colouring(kinds, [*palette, QColor(_NONE)], _legend(told, is_html=True))


def _legend(told: Sequence[tuple[str, str]], *, is_html: bool = False) -> str:
    parts = []
    for colour, text in told:
        dot = f'<span style="color:{colour}">●</span>&nbsp;' if colour else ""
        parts.append(dot + (text if is_html else escape(text).replace(" ", "&nbsp;")))
    return " &nbsp; ".join(parts)
