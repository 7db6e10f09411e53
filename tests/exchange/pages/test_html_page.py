"""A page holds everything it shows, and nothing of what it is given becomes markup."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from PIL import Image

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.exchange.pages.html_page import (
    Cell,
    ReportTable,
    Tone,
    environment,
    number,
    render_html,
    write_html,
)

EVIL = "<script>alert('1')</script> & \"quoted\" </style>"
VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Checks that tags are closed in order, and gathers text and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def png(shape=(4, 6, 3)):
    buffer = io.BytesIO()
    Image.fromarray(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)).save(buffer, "PNG")
    return buffer.getvalue()


PAGE = """{% extends "base.html" %}
{% from "parts.html" import image, legend, points, shares, table, verdict %}
{% block body %}
"""
PARTS = (
    PAGE
    + """<h2>{{ text }}</h2><p>{{ text }}</p>
{{ points([text]) }}{{ verdict(text, text, tone) }}{{ table(values, text) }}
{{ shares({text: 0.5}, text) }}{{ legend({text: (1, 2, 3)}) }}{{ image(png, text) }}
{% endblock %}"""
)


def full(text):
    return (
        environment()
        .from_string(PARTS)
        .render(
            title=text,
            under=text,
            text=text,
            tone=Tone.BAD,
            values=ReportTable([text], [[text], [Cell(text, Tone.GOOD)]]),
            png=png(),
        )
    )


def page(part, **values):
    """A page titled 't' with one part."""
    return (
        environment()
        .from_string(f"{PAGE}{part}{{% endblock %}}")
        .render(title="t", under="", **values)
    )


def test_text_stays_text():
    tags = {tag for tag, _ in read(full("x")).tags}

    @given(st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1))
    def stays(text):
        reader = read(full(text))
        assert "".join(reader.text).count(text) >= 13
        assert {tag for tag, _ in reader.tags} == tags

    stays()


def test_markup_in_text_is_escaped():
    html = full(EVIL)
    assert "<script" not in html
    assert html.count("</style>") == 1


def test_nothing_is_loaded_from_elsewhere():
    html = full("plain")
    assert not re.search(r"https?:|//|url\(|@import|<link|<script", html.replace("data:", ""))
    sources = [a["src"] for tag, a in read(html).tags if tag == "img"]
    assert all(s.startswith("data:image/png;base64,") for s in sources)
    assert "default-src 'none'" in html


def test_pictures_come_back_pixel_for_pixel(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    pictures.write_png(tmp_path / "a.png", picture)
    html = page("{{ image(file) }}", file=tmp_path / "a.png")
    (code,) = re.findall(r"base64,([^\"]+)", html)
    shown = Image.open(io.BytesIO(base64.b64decode(code)))
    assert np.array_equal(np.asarray(shown), picture)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.12345, "0.123"), (-0.5, "−0.500"), (12345, "12,345"), (0, "0")],  # noqa: RUF001
)
def test_numbers_are_written_alike(value, text):
    assert number(value) == text


def test_signs_are_shown_where_they_matter():
    assert number(0.05, signed=True) == "+0.050"
    assert number(3, signed=True) == "+3"


def test_figures_stand_right_and_undefined_ones_are_dashes():
    html = page(
        "{{ table(values) }}", values=ReportTable(["name", "IoU"], [["a", 0.5], ["b", None]])
    )
    cells = [a["class"] for tag, a in read(html).tags if tag in ("td", "th")]
    assert cells == ["text", "number", "plain", "number plain", "plain", "number plain"]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(FossilError, match=r"columns a, b.*expected 2 values.*found 1"):
        ReportTable(["a", "b"], [["1"]])


def test_what_is_no_picture_is_refused(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"no picture")
    with pytest.raises(FossilError, match=r"a\.png cannot be shown; expected a PNG"):
        page("{{ image(file) }}", file=file)
    with pytest.raises(FossilError, match=r"Reading .*gone\.png failed"):
        page("{{ image(file) }}", file=tmp_path / "gone.png")


def test_names_that_are_no_text_do_not_stop_a_page(tmp_path):
    write_html(tmp_path / "deep" / "index.html", "base.html", title="slice_\udcff.png", under="")
    assert b"slice_?.png" in (tmp_path / "deep" / "index.html").read_bytes()


def test_a_value_that_is_missing_is_an_error():
    with pytest.raises(UndefinedError, match="'under' is undefined"):
        render_html("base.html", title="t")
