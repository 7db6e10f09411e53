"""The tutorial of the window: its pictures are there, and what it names can be found."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from qtpy.QtWidgets import QTextBrowser

import napari_fossiledit
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.widgets.common.forms import label_of
from napari_fossiledit.widgets.start.rail import PAGES
from napari_fossiledit.widgets.start.start_dock import TUTORIAL, StartHere

_LARGEST = 150 * 1024
TEXT = TUTORIAL.read_text("utf-8")
PICTURES = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)


def test_it_has_pictures():
    assert len(PICTURES) >= 8
    assert {f.name for f in TUTORIAL.parent.iterdir()} == {TUTORIAL.name, *PICTURES}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_small_and_shows_something(name):
    file = TUTORIAL.parent / name
    assert file.stat().st_size <= _LARGEST
    pixels = np.asarray(Image.open(file).convert("RGB"))
    assert min(pixels.shape[:2]) >= 300
    # Letters, buttons and rock: neither of one colour nor a frame around nothing.
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    assert len(colours) > 40
    assert counts.max() < 0.8 * counts.sum()


def test_what_it_prints_in_bold_can_be_read_in_the_window():
    folder = Path(napari_fossiledit.__file__).parent / "widgets"
    written = {label_of(name) for name in PredictParams.model_fields} | set(PAGES)
    for file in folder.rglob("*.py"):
        nodes = ast.walk(ast.parse(file.read_text("utf-8")))
        written |= {n.value for n in nodes if isinstance(n, ast.Constant) and type(n.value) is str}
    named = set(re.findall(r"\*\*([^*]+)\*\*", " ".join(TEXT.split()))) - {"bold"}
    assert len(named) > 20
    # Numbers of steps, and keys, are put around a title by the program.
    assert {n for n in named if not any(n in text for text in written)} == set()


def test_the_window_opens_it(session, made):
    start = made(StartHere)
    assert not start.tutorial.isHidden()
    start.tutorial.click()
    browser = start.findChild(QTextBrowser)
    assert "From photographs to a reef in 3D" in browser.toPlainText()
    # Else the pictures are sought in the folder that the program was started in.
    assert browser.document().resource(2, browser.source().fromLocalFile(PICTURES[0])) is not None
    browser.window().close()
