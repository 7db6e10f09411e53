"""The choice of the backend in the window, with and without detectron2."""

from __future__ import annotations

import sys

import pytest

from napari_fossiledit.params.segment import Backend, PredictParams
from napari_fossiledit.widgets.common import model_choices
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.model_choices import only_installed_backends


@pytest.fixture
def form(qtbot, monkeypatch):
    def made(installed):
        monkeypatch.setattr(model_choices, "has_detectron2", lambda: installed)
        form = only_installed_backends(ParamsForm(PredictParams, advanced=("backend",)))
        qtbot.addWidget(form)
        return form

    return made


def test_without_detectron2_the_twin_is_held_and_the_reason_told(form):
    made = form(False)
    row = made.rows["backend"]
    assert not row.native.isEnabled()
    assert row.value is Backend.TWIN
    assert "not installed" in row.toolTip()
    assert "docs/detectron2.md" in row.native.toolTip()


def test_with_detectron2_it_can_be_chosen(form):
    made = form(True)
    assert made.rows["backend"].native.isEnabled()
    made.fill(backend=Backend.DETECTRON2)
    assert made.read().backend is Backend.DETECTRON2
    assert "detectron2" not in sys.modules
