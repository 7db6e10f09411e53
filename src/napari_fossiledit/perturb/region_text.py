"""Regions as text: ``rock and not (class archaeocyathid or box 10:40,5:25)``."""

from __future__ import annotations

import re
from collections.abc import Callable

from napari_fossiledit.errors import FossilError
from napari_fossiledit.perturb.reading import KEYWORDS, Reader
from napari_fossiledit.perturb.regions import (
    All,
    And,
    Box,
    Ellipse,
    Grow,
    Not,
    OfClass,
    OfInstances,
    OfTexture,
    Or,
    Other,
    Polygon,
    Rock,
    Term,
)

#: Far beyond any slice, and within what Pillow draws.
_NUMBER = r"-?\d{1,7}(?:\.\d+)?(?:e-\d{1,3})?"
_POINT = re.compile(rf"({_NUMBER}),({_NUMBER})")
_SIDES = re.compile(rf"({_NUMBER})?:({_NUMBER})?(?:,({_NUMBER})?:({_NUMBER})?)?")
_CLOSED = re.compile(rf"({_NUMBER}):({_NUMBER}),({_NUMBER}):({_NUMBER})")
_PIXELS = re.compile(r"\d{1,2}(?:\.\d+)?(?:e-\d{1,3})?")
_IDS = re.compile(r"\d{1,18}(?:\+\d{1,18})*")
_JOINING = KEYWORDS | {"grow", "("}
_MOST_JOINED = 100


def parse_region(text: str) -> Term:
    """Read a region.

    ``not`` and ``grow PIXELS`` bind closest, then ``and``, then ``or``. Terms are ``all``,
    ``rock``, ``class NAME``, ``other NAME``, ``texture WORD``, ``instance ID[+ID...]``,
    ``box x0:x1,y0:y1``, ``ellipse x0:x1,y0:y1`` and ``polygon x,y x,y x,y ...``; a name of several
    words is quoted.

    Raises
    ------
    FossilError
        Where the text is no region, with the place.
    """
    reader = Reader(text, "region")
    _check_joined(reader)
    term = _either(reader)
    if reader.next is not None:
        raise reader.error("and, or, or the end of the region", reader.next)
    return term


def _check_joined(reader: Reader) -> None:
    """Refuse what is nested so deeply that reading or painting it would run out of stack."""
    joining = [token for token in reader.tokens if token.text in _JOINING]
    if len(joining) > _MOST_JOINED:
        expected = f"{_MOST_JOINED} of {', '.join(sorted(_JOINING))} at most"
        raise reader.error(expected, joining[_MOST_JOINED])


def _either(reader: Reader) -> Term:
    term = _both(reader)
    while reader.accepts("or"):
        term = Or(term, _both(reader))
    return term


def _both(reader: Reader) -> Term:
    term = _one(reader)
    while reader.accepts("and"):
        term = And(term, _one(reader))
    return term


def _one(reader: Reader) -> Term:
    expected = f"not, a parenthesis or one of {', '.join(_TERMS)}"
    token = reader.take(expected)
    if token.text == "not":
        return Not(_one(reader))
    if token.text == "(":
        return _enclosed(reader)
    if token.text not in _TERMS:
        raise reader.error(expected, token)
    return _TERMS[token.text](reader)


def _enclosed(reader: Reader) -> Term:
    term = _either(reader)
    closing = reader.take("a closing parenthesis")
    if closing.text != ")":
        raise reader.error("and, or, or a closing parenthesis", closing)
    return term


def _name(reader: Reader) -> str:
    token = reader.take("a name")
    if not token.name or token.text in {*KEYWORDS, "(", ")"}:
        raise reader.error("a name, in quotes where it has several words", token)
    return token.name


def _instances(reader: Reader) -> Term:
    found = reader.matching(_IDS, "ids of instances such as 17 or 17+23")
    return OfInstances(tuple(int(id_) for id_ in found[0].split("+")))


def _grow(reader: Reader) -> Term:
    found = reader.matching(_PIXELS, "a number of pixels up to 99, and a region")
    return Grow(float(found[0]), _one(reader))


def _box(reader: Reader) -> Term:
    found = reader.matching(_SIDES, "sides such as 10:40,5:25")
    x0, x1, y0, y1 = (None if side is None else float(side) for side in found.groups())
    if _crossed(x0, x1) or _crossed(y0, y1):
        raise _empty(reader, found)
    return Box(x0, x1, y0, y1)


def _ellipse(reader: Reader) -> Term:
    found = reader.matching(_CLOSED, "four sides such as 10:40,5:25")
    x0, x1, y0, y1 = (float(side) for side in found.groups())
    if _crossed(x0, x1) or _crossed(y0, y1):
        raise _empty(reader, found)
    return Ellipse(x0, x1, y0, y1)


def _crossed(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and low >= high


def _empty(reader: Reader, found: re.Match[str]) -> FossilError:
    token = reader.tokens[reader.place - 1]
    return reader.error(f"x0 < x1 and y0 < y1, not {found[0]}", token)


def _polygon(reader: Reader) -> Term:
    corners = []
    while (token := reader.next) is not None and _POINT.fullmatch(token.text):
        x, y = reader.take("a corner").text.split(",")
        corners.append((float(x), float(y)))
    if len(corners) < 3:
        raise reader.error("three or more corners x,y", reader.next)
    return Polygon(tuple(corners))


_TERMS: dict[str, Callable[[Reader], Term]] = {
    "all": lambda _: All(),
    "rock": lambda _: Rock(),
    "class": lambda reader: OfClass(_name(reader)),
    "other": lambda reader: Other(_name(reader)),
    "texture": lambda reader: OfTexture(_name(reader)),
    "instance": _instances,
    "grow": _grow,
    "box": _box,
    "polygon": _polygon,
    "ellipse": _ellipse,
}
