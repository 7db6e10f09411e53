"""Reports as one HTML file: text, tables and pictures, with nothing to load from elsewhere.

The layout of each report is a template in ``templates/``, which knows only the values that it is
given; ``parts.html`` holds tables, pictures and the like for all of them.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.numbers import percent
from napari_fossiledit.files import explained, write_whole

if TYPE_CHECKING:
    from jinja2 import Environment

_PNG = b"\x89PNG\r\n\x1a\n"
_DASH = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"


class Tone(StrEnum):
    """Colour of a figure or a sentence."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True)
class Cell:
    """A value in a table with its colour."""

    value: str | float | None
    tone: Tone = Tone.PLAIN


Value = str | float | Cell | None
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ReportTable:
    """Rows of values below the names of their columns.

    Raises
    ------
    FossilError
        Where a row has not one value for each column.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Value]]

    def __post_init__(self) -> None:
        """Check the lengths of the rows."""
        for row in self.rows:
            if len(row) != len(self.head):
                raise FossilError(
                    f"A table with the columns {', '.join(self.head)} cannot be drawn",
                    expected=f"{len(self.head)} values in a row",
                    found=len(row),
                )

    @property
    def cells(self) -> list[list[Cell]]:
        """All values as cells."""
        return [[v if isinstance(v, Cell) else Cell(v) for v in row] for row in self.rows]

    @property
    def alignment(self) -> list[str]:
        """Class of the head of each column: ``text`` where the column has one, else ``number``."""
        columns = [[row[i].value for row in self.cells] for i in range(len(self.head))]
        return ["text" if any(isinstance(v, str) for v in c) else "number" for c in columns]


def render_html(template: str, /, **values: Any) -> str:
    """Fill in a template; all text is escaped, so that it may come from anywhere.

    Parameters
    ----------
    template
        Its name in ``templates/``.
    values
        What it shows; one that is missing is an error.

    Raises
    ------
    FossilError
        Where a picture is no PNG or cannot be read.
    """
    return environment().get_template(template).render(values)


def write_html(path: Path, template: str, /, **values: Any) -> None:
    """Write a page in one step (see `render_html`).

    Raises
    ------
    FossilError
        Where the file cannot be written, or a picture is no PNG or cannot be read.
    """
    # A file name may hold bytes that are no text; a page must not fail on them.
    write_whole(path, render_html(template, **values).encode("utf-8", "replace"))


@cache
def environment() -> Environment:
    """Return the templates with the filters that they use."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(base64=_base64, number=number, percent=percent)
    return made


def number(value: float | None, *, signed: bool = False) -> str:
    """Return a figure as text: three decimals, whole numbers plain, undefined as a dash."""
    if value is None:
        return _DASH
    text = f"{value:+,}" if isinstance(value, int) else f"{value:+.3f}"
    return (text if signed else text.lstrip("+")).replace("-", _MINUS)


def _base64(source: bytes | Path) -> str:
    """Return a PNG, given as its bytes or as a file, in the letters of a data URL."""
    if isinstance(source, Path):
        with explained(source, "Reading"):
            data = source.read_bytes()
    else:
        data = source
    if not data.startswith(_PNG):
        name = str(source) if isinstance(source, Path) else "A picture"
        raise FossilError(f"{name} cannot be shown", expected="a PNG picture")
    return base64.b64encode(data).decode("ascii")
