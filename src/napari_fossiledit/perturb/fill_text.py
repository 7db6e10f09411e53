"""Fills as text: ``mud``, ``colour 90,52,40``, ``texture 3:10:74,20:84``, ``blur 2 + noise 5``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from napari_fossiledit.perturb.fills import (
    Blur,
    Brightness,
    Fill,
    Hue,
    Mud,
    Noise,
    RealMud,
    Seamless,
    Solid,
    Texture,
)
from napari_fossiledit.perturb.reading import Reader, split

_COLOUR = re.compile(r"\d+(?:\.\d+)?,\d+(?:\.\d+)?,\d+(?:\.\d+)?")
_CROP = re.compile(r"\d+:\d*:\d*,\d*:\d*")
JOINED = " + "


def parse_fills(text: str) -> tuple[Fill, ...]:
    """Read fills joined by `` + ``, each of which changes what the one before left.

    ``mud``, ``colour r,g,b``, ``texture [SLICE:x0:x1,y0:y1]``, ``seamless [...]``,
    ``real-mud [...]``, ``blur SIGMA``, ``noise DEVIATION``, ``brightness DECIBELS``,
    ``hue DEGREES``.

    Raises
    ------
    FossilError
        Where the text is no fill, with the place.
    """
    return tuple(_fill(part) for part in split(text, JOINED))


def _fill(text: str) -> Fill:
    reader = Reader(text, "fill")
    expected = f"one of {', '.join(_FILLS)}"
    word = reader.take(expected)
    if word.text not in _FILLS:
        raise reader.error(expected, word)
    fill = _FILLS[word.text](reader)
    if reader.next is not None:
        raise reader.error("the end of the fill, or + and another one", reader.next)
    return fill


def _solid(reader: Reader) -> Fill:
    found = reader.matching(_COLOUR, "a colour r,g,b such as 90,52,40")
    red, green, blue = map(float, found[0].split(","))
    return Solid((red, green, blue))


def _crop(reader: Reader) -> str:
    if reader.next is None:
        return ""
    return reader.matching(_CROP, "a crop SLICE:x0:x1,y0:y1")[0]


def _number(reader: Reader, low: float, high: float) -> float:
    """Take a number above `low` and up to `high`."""
    expected = f"a number above {low:g}, {high:g} at most"
    token = reader.take(expected)
    try:
        value = float(token.text)
    except ValueError:
        value = math.nan
    if not low < value <= high:
        raise reader.error(expected, token)
    return value


_FILLS: dict[str, Callable[[Reader], Fill]] = {
    "mud": lambda _: Mud(),
    "colour": _solid,
    "texture": lambda reader: Texture(_crop(reader)),
    "seamless": lambda reader: Seamless(_crop(reader)),
    "real-mud": lambda reader: RealMud(_crop(reader)),
    "blur": lambda reader: Blur(_number(reader, 0, 50)),
    "noise": lambda reader: Noise(_number(reader, 0, 255)),
    "brightness": lambda reader: Brightness(_number(reader, -60, 60)),
    "hue": lambda reader: Hue(_number(reader, -360, 360)),
}
