"""Reading the little language of regions and fills, telling where it goes wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from napari_fossiledit.errors import FossilError

_TOKEN = re.compile(r'("[^"]*"|[()]|[^\s()"]+)\s*')
_PLAIN = re.compile(r"[^\s()\";]+")
_LONGEST = 200
KEYWORDS = frozenset({"and", "or", "not"})


@dataclass(frozen=True)
class Token:
    """A word, a quoted name or a parenthesis, and the place of its first character."""

    text: str
    start: int

    @property
    def name(self) -> str:
        """The word without its quotes."""
        return self.text.strip('"')


@dataclass
class Reader:
    """Walks through the tokens of a text.

    Raises
    ------
    FossilError
        Where a quote is not closed.
    """

    text: str
    what: str
    tokens: list[Token] = field(default_factory=list)
    place: int = 0

    def __post_init__(self) -> None:
        end = len(self.text) - len(self.text.lstrip())
        while end < len(self.text):
            found = _TOKEN.match(self.text, end)
            if found is None:
                raise self.error("a closed quote", Token(self.text[end:], end))
            self.tokens.append(Token(found[1], found.start(1)))
            end = found.end()

    @property
    def next(self) -> Token | None:
        """The token that comes next, None at the end."""
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def accepts(self, *words: str) -> bool:
        """Step over the next token where it is one of `words`."""
        there = self.next is not None and self.next.text in words
        self.place += there
        return there

    def take(self, expected: str) -> Token:
        """Step over the next token, whatever it is.

        Raises
        ------
        FossilError
            At the end of the text.
        """
        token = self.next
        if token is None:
            raise self.error(expected)
        self.place += 1
        return token

    def matching(self, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
        """Step over the next token, which must match `pattern` as a whole."""
        token = self.take(expected)
        found = pattern.fullmatch(token.text)
        if found is None:
            raise self.error(expected, token)
        return found

    def error(self, expected: str, token: Token | None = None) -> FossilError:
        """Say what was expected where, and what was found there."""
        place = len(self.text) if token is None else token.start
        return FossilError(
            f"The {self.what} {told(self.text)} cannot be read at character {place + 1}",
            expected=expected,
            found="its end" if token is None else told(token.text),
        )


def told(text: str) -> str:
    """Quote a text for a message, the end of a long one left out."""
    text = text.strip()
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def quoted(name: str) -> str:
    """Write a name so that `Reader` reads it back as one word."""
    plain = _PLAIN.fullmatch(name) and name not in KEYWORDS and "->" not in name
    return name if plain else f'"{name}"'


def split(text: str, mark: str) -> list[str]:
    """Split a text at each `mark` that stands outside of quotes."""
    parts, start = [], 0
    for found in re.finditer(rf'"[^"]*"?|{re.escape(mark)}', text):
        if found[0] == mark:
            parts.append(text[start : found.start()])
            start = found.end()
    return [*parts, text[start:]]
