"""A report as one HTML file: text, tables and pictures, with nothing to load from elsewhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.numbers import percent
from napari_fossiledit.files import explained, write_whole

_PNG = b"\x89PNG\r\n\x1a\n"
_DASH = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"


class Tone(StrEnum):
    """How a figure or a sentence is meant."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True)
class Cell:
    """A value in a table that is meant well or ill."""

    value: str | float | None
    tone: Tone = Tone.PLAIN


Value = str | float | Cell | None
Colour = tuple[int, int, int]


class Page:
    """A page that is built from top to bottom; every method adds one thing below.

    All text is escaped, so that it may come from anywhere.

    Parameters
    ----------
    title
        Heading of the page.
    under
        A line below it, smaller.
    """

    def __init__(self, title: str, under: str = "") -> None:
        self._title = title
        self._parts = [f"<header><h1>{_text(title)}</h1>{_element('p', under)}</header>"]

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(_element("h2", text))

    def paragraph(self, text: str) -> None:
        """Add a paragraph of plain text."""
        self._parts.append(_element("p", text))

    def points(self, items: Sequence[str]) -> None:
        """Add a list of sentences; nothing where there is none."""
        if items:
            self._parts.append(f"<ul>{''.join(_element('li', item) for item in items)}</ul>")

    def verdict(self, text: str, more: str = "", tone: Tone = Tone.PLAIN) -> None:
        """Add what matters most, set off from the rest, and what explains it."""
        inner = _element("strong", text) + _element("p", more)
        self._parts.append(f'<div class="verdict {tone}">{inner}</div>')

    def table(
        self, head: Sequence[str], rows: Sequence[Sequence[Value]], caption: str = ""
    ) -> None:
        """Add a table; numbers are set right, what is undefined is a dash.

        Raises
        ------
        FossilError
            Where a row has not one value a column.
        """
        for row in rows:
            if len(row) != len(head):
                raise FossilError(
                    f"A table of the page {self._title!r} cannot be drawn",
                    expected=f"{len(head)} values in a row",
                    found=len(row),
                )
        top = "".join(
            f'<th scope="col" class="{_aligned([row[i] for row in rows])}">{_text(name)}</th>'
            for i, name in enumerate(head)
        )
        body = "".join(f"<tr>{''.join(_cell(v) for v in row)}</tr>" for row in rows)
        self._parts.append(
            f'<div class="wide"><table>{_element("caption", caption)}'
            f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def shares(self, parts: Mapping[str, float], caption: str = "") -> None:
        """Add a bar a part, its length the share (0 to 1), the largest first."""
        rows = sorted(parts.items(), key=lambda part: -part[1])
        bars = "".join(_bar(name, share) for name, share in rows)
        self._parts.append(f'<figure class="bars">{bars}{_element("figcaption", caption)}</figure>')

    def legend(self, colours: Mapping[str, Colour]) -> None:
        """Explain the colours (red, green, blue in 0 to 255) of the pictures below."""
        keys = "".join(
            f'<span><i style="background:rgb({r},{g},{b})"></i>{_text(name)}</span>'
            for name, (r, g, b) in colours.items()
        )
        self._parts.append(f'<p class="legend">{keys}</p>')

    def image(self, source: bytes | Path, caption: str = "") -> None:
        """Embed a PNG picture, given as its bytes or as a file.

        Raises
        ------
        FossilError
            Where it is no PNG, or the file cannot be read.
        """
        data = _read(source) if isinstance(source, Path) else source
        if not data.startswith(_PNG):
            name = str(source) if isinstance(source, Path) else "A picture"
            raise FossilError(f"{name} cannot be shown", expected="a PNG picture")
        code = base64.b64encode(data).decode("ascii")
        picture = f'<img alt="{_text(caption)}" src="data:image/png;base64,{code}">'
        self._parts.append(f"<figure>{picture}{_element('figcaption', caption)}</figure>")

    def html(self) -> str:
        """Return the whole page."""
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"{_element('title', self._title)}<style>{_STYLE}</style></head>\n<body>\n"
            + "\n".join(self._parts)
            + "\n</body></html>\n"
        )

    def write(self, path: Path) -> None:
        """Write the page in one step.

        Raises
        ------
        FossilError
            Where the file cannot be written.
        """
        # A file name may hold bytes that are no text; a page must not fail on them.
        write_whole(path, self.html().encode("utf-8", "replace"))


def number(value: float | None, *, signed: bool = False) -> str:
    """Write a figure: three digits after the point, whole numbers plain, undefined as a dash."""
    if value is None:
        return _DASH
    text = f"{value:+,}" if isinstance(value, int) else f"{value:+.3f}"
    return (text if signed else text.lstrip("+")).replace("-", _MINUS)


def _read(path: Path) -> bytes:
    with explained(path, "Reading"):
        return path.read_bytes()


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _element(tag: str, text: str) -> str:
    """Write an element with text in it; nothing where there is no text."""
    return f"<{tag}>{_text(text)}</{tag}>" if text else ""


def _plain(value: Value) -> str | float | None:
    return value.value if isinstance(value, Cell) else value


def _aligned(column: Sequence[Value]) -> str:
    """Set the head of a column of numbers as they are."""
    return "text" if any(isinstance(_plain(value), str) for value in column) else "number"


def _cell(value: Value) -> str:
    cell = value if isinstance(value, Cell) else Cell(value)
    if isinstance(cell.value, str):
        return f'<td class="{cell.tone}">{_text(cell.value)}</td>'
    return f'<td class="number {cell.tone}">{_text(number(cell.value))}</td>'


def _bar(name: str, share: float) -> str:
    width = 100 * min(max(share, 0.0), 1.0)
    return (
        f'<div><span class="name">{_text(name)}</span><span class="bar">'
        f'<i style="width:{width:.2f}%"></i></span><span>{percent(share)}</span></div>'
    )


_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light; --ink: #2b2522; --soft: #6f655f; --line: #ddd5cf; --mud: #8c4a35; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: var(--ink);
  background: #fff; max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
header { border-bottom: 3px solid var(--mud); margin-bottom: 1.8rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; }
header p { color: var(--soft); margin: .3rem 0 .9rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; }
p, ul { max-width: 48rem; margin: .6rem 0; }
.verdict { border-left: 6px solid var(--mud); background: #f8f4f1; padding: .9rem 1.2rem;
  margin: 1rem 0; }
.verdict.good { border-color: #2f7d4f; background: #f0f7f2; }
.verdict.bad { border-color: #b3261e; background: #fbf1f0; }
.verdict strong { font-size: 1.1rem; }
.verdict p { margin-bottom: 0; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; }
th, td { padding: .32rem .8rem; text-align: left; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
th.number, td.number { text-align: right; }
td.good { color: #22663f; font-weight: 600; }
td.bad { color: #b3261e; font-weight: 600; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; border: 1px solid var(--line); }
figcaption { color: var(--soft); font-size: .92rem; margin-top: .3rem; }
.bars div { display: grid; grid-template-columns: 14rem minmax(4rem, 22rem) 4rem; gap: .8rem;
  align-items: center; padding: .12rem 0; font-size: .92rem; }
.bars .bar { background: #f1ece8; height: .95rem; }
.bars .bar i { display: block; height: 100%; background: var(--mud); }
.legend span { margin-right: 1.4rem; white-space: nowrap; }
.legend i { display: inline-block; width: 1.1rem; height: .7rem; margin-right: .4rem;
  border: 1px solid #0004; }
@media print { body { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } }
"""
