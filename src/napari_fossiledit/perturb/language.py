"""The little language of perturbations: ``REGION -> FILL; REGION -> FILL``.

Regions: ``rock and not (class archaeocyathid or box 10:40,5:25)``. Fills: ``mud``,
``colour 90,52,40``, ``texture 3:10:74,20:84``, ``blur 2 + noise 5``. The classes of `regions`,
`fills` and `steps` write themselves so that they are read back as they were.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from napari_fossiledit.errors import FossilError
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
from napari_fossiledit.perturb.regions import (
    OPERATORS,
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
    shortened,
)
from napari_fossiledit.perturb.steps import ARROW, FILL_SEPARATOR, STEP_SEPARATOR, Step

_TOKEN = re.compile(r'("[^"]*"|[()]|[^\s()"]+)\s*')
#: Seven digits are far beyond any slice, and within what Pillow draws.
_NUMBER = r"-?\d{1,7}(?:\.\d+)?(?:e-\d{1,3})?"
_POINT = re.compile(rf"({_NUMBER}),({_NUMBER})")
_SIDES = re.compile(rf"({_NUMBER})?:({_NUMBER})?(?:,({_NUMBER})?:({_NUMBER})?)?")
_CLOSED = re.compile(rf"({_NUMBER}):({_NUMBER}),({_NUMBER}):({_NUMBER})")
_PIXELS = re.compile(r"\d{1,2}(?:\.\d+)?(?:e-\d{1,3})?")
_IDS = re.compile(r"\d{1,18}(?:\+\d{1,18})*")
_COLOUR = re.compile(r"\d+(?:\.\d+)?,\d+(?:\.\d+)?,\d+(?:\.\d+)?")
_CROP = re.compile(r"\d+:\d*:\d*,\d*:\d*")
_JOINING = OPERATORS | {"grow", "("}
#: Terms are read and painted by recursion: deeper nesting could exhaust Python's stack.
_MOST_JOINED = 100


def parse_steps(text: str) -> tuple[Step, ...]:
    """Read ``"REGION -> FILL; REGION -> FILL"``; see `parse_region` and `parse_fills`.

    Raises
    ------
    FossilError
        Where a step cannot be read, or there is none.
    """
    steps = []
    for part in split_outside_quotes(text, STEP_SEPARATOR):
        if not part.strip():
            continue
        sides = split_outside_quotes(part, ARROW)
        if len(sides) != 2:
            raise FossilError(
                f"The step {shortened(part)} cannot be read",
                expected=f"REGION {ARROW} FILL, steps separated by {STEP_SEPARATOR}",
                found=f"{len(sides) - 1} arrows",
            )
        steps.append(Step(parse_region(sides[0]), parse_fills(sides[1])))
    if not steps:
        raise FossilError(
            "There is no step", expected="REGION -> FILL, e.g. class calcimicrobe -> mud"
        )
    return tuple(steps)


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
    reader = _Reader(text, "region")
    joining = [token for token in reader.tokens if token.text in _JOINING]
    if len(joining) > _MOST_JOINED:
        expected = f"{_MOST_JOINED} of {', '.join(sorted(_JOINING))} at most"
        raise reader.error(expected, joining[_MOST_JOINED])
    term = _either(reader)
    if reader.next is not None:
        raise reader.error("and, or, or the end of the region", reader.next)
    return term


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
    fills = []
    expected = f"one of {', '.join(_FILLS)}"
    for part in split_outside_quotes(text, FILL_SEPARATOR):
        reader = _Reader(part, "fill")
        word = reader.take(expected)
        if word.text not in _FILLS:
            raise reader.error(expected, word)
        fills.append(_FILLS[word.text](reader))
        if reader.next is not None:
            raise reader.error("the end of the fill, or + and another one", reader.next)
    return tuple(fills)


def split_outside_quotes(text: str, mark: str) -> list[str]:
    """Split a text at each `mark` that stands outside of quotes."""
    parts, start = [], 0
    for match in re.finditer(rf'"[^"]*"?|{re.escape(mark)}', text):
        if match[0] == mark:
            parts.append(text[start : match.start()])
            start = match.end()
    return [*parts, text[start:]]


# ----------------------------------------------------------------------- tokens


@dataclass(frozen=True)
class _Token:
    """A word, a quoted name or a parenthesis, and the place of its first character."""

    text: str
    start: int


@dataclass
class _Reader:
    """Steps through the tokens of a text; `what` names it in messages."""

    text: str
    what: str
    tokens: list[_Token] = field(default_factory=list)
    place: int = 0

    def __post_init__(self) -> None:
        end = len(self.text) - len(self.text.lstrip())
        while end < len(self.text):
            match = _TOKEN.match(self.text, end)
            if match is None:
                raise self.error("a closed quote", _Token(self.text[end:], end))
            self.tokens.append(_Token(match[1], match.start(1)))
            end = match.end()

    @property
    def next(self) -> _Token | None:
        """The token that comes next, None at the end."""
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def accepts(self, word: str) -> bool:
        """Step over the next token where it is `word`; return whether it was."""
        accepted = self.next is not None and self.next.text == word
        self.place += accepted
        return accepted

    def take(self, expected: str) -> _Token:
        """Return the next token and step over it."""
        token = self.next
        if token is None:
            raise self.error(expected)
        self.place += 1
        return token

    def matching(self, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
        """Return the match of the next token as a whole and step over it."""
        token = self.take(expected)
        match = pattern.fullmatch(token.text)
        if match is None:
            raise self.error(expected, token)
        return match

    def error(self, expected: str, token: _Token | None = None) -> FossilError:
        """Return an error that names what was expected where, and what was found there."""
        place = len(self.text) if token is None else token.start
        return FossilError(
            f"The {self.what} {shortened(self.text)} cannot be read at character {place + 1}",
            expected=expected,
            found="its end" if token is None else shortened(token.text),
        )


# ---------------------------------------------------------------------- regions


def _either(reader: _Reader) -> Term:
    term = _both(reader)
    while reader.accepts("or"):
        term = Or(term, _both(reader))
    return term


def _both(reader: _Reader) -> Term:
    term = _one(reader)
    while reader.accepts("and"):
        term = And(term, _one(reader))
    return term


def _one(reader: _Reader) -> Term:
    expected = f"not, a parenthesis or one of {', '.join(_TERMS)}"
    token = reader.take(expected)
    if token.text == "not":
        return Not(_one(reader))
    if token.text == "(":
        term = _either(reader)
        closing = reader.take("a closing parenthesis")
        if closing.text != ")":
            raise reader.error("and, or, or a closing parenthesis", closing)
        return term
    if token.text not in _TERMS:
        raise reader.error(expected, token)
    return _TERMS[token.text](reader)


def _name(reader: _Reader) -> str:
    token = reader.take("a name")
    name = token.text.strip('"')
    if not name or token.text in {*OPERATORS, "(", ")"}:
        raise reader.error("a name, in quotes where it has several words", token)
    return name


def _instances(reader: _Reader) -> Term:
    ids = reader.matching(_IDS, "ids of instances such as 17 or 17+23")[0]
    return OfInstances(tuple(int(id_) for id_ in ids.split("+")))


def _grow(reader: _Reader) -> Term:
    pixels = reader.matching(_PIXELS, "a number of pixels up to 99, and a region")[0]
    return Grow(float(pixels), _one(reader))


def _box(reader: _Reader) -> Term:
    sides = _ordered_sides(reader, _SIDES, "sides such as 10:40,5:25").groups()
    return Box(*(None if side is None else float(side) for side in sides))


def _ellipse(reader: _Reader) -> Term:
    sides = _ordered_sides(reader, _CLOSED, "four sides such as 10:40,5:25").groups()
    return Ellipse(*map(float, sides))


def _ordered_sides(reader: _Reader, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
    """Read x0:x1,y0:y1 and check that each pair grows; an open side matches as None."""
    match = reader.matching(pattern, expected)
    x0, x1, y0, y1 = match.groups()
    for low, high in ((x0, x1), (y0, y1)):
        if low is not None and high is not None and float(low) >= float(high):
            token = reader.tokens[reader.place - 1]
            raise reader.error(f"x0 < x1 and y0 < y1, not {match[0]}", token)
    return match


def _polygon(reader: _Reader) -> Term:
    corners = []
    while (token := reader.next) is not None and (match := _POINT.fullmatch(token.text)):
        reader.place += 1
        corners.append((float(match[1]), float(match[2])))
    if len(corners) < 3:
        raise reader.error("three or more corners x,y", reader.next)
    return Polygon(tuple(corners))


_TERMS: dict[str, Callable[[_Reader], Term]] = {
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


# ------------------------------------------------------------------------ fills


def _solid(reader: _Reader) -> Fill:
    colour = reader.matching(_COLOUR, "a colour r,g,b such as 90,52,40")[0]
    red, green, blue = map(float, colour.split(","))
    return Solid((red, green, blue))


def _crop(reader: _Reader) -> str:
    if reader.next is None:
        return ""
    return reader.matching(_CROP, "a crop SLICE:x0:x1,y0:y1")[0]


def _number(reader: _Reader, low: float, high: float) -> float:
    """Read a number above `low` and up to `high`."""
    expected = f"a number above {low:g}, {high:g} at most"
    token = reader.take(expected)
    try:
        value = float(token.text)
    except ValueError:
        value = math.nan
    if not low < value <= high:
        raise reader.error(expected, token)
    return value


_FILLS: dict[str, Callable[[_Reader], Fill]] = {
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
