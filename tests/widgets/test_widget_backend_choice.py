"""The choice of backend and engine in the window, with and without what they need."""

from __future__ import annotations

import sys

import pytest

from napari_fossiledit.params.segment import Backend, Engine, PredictParams, TrainParams
from napari_fossiledit.widgets import backend_choice
from napari_fossiledit.widgets.backend_choice import only_what_is_installed
from napari_fossiledit.widgets.forms import ParamsForm


@pytest.fixture
def form(qtbot, monkeypatch):
    def made(installed, params=PredictParams):
        monkeypatch.setattr(backend_choice, "has_detectron2", lambda: installed)
        monkeypatch.setattr(backend_choice, "has_openvino", lambda: installed)
        form = only_what_is_installed(ParamsForm(params, advanced=("backend",)))
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


def test_without_openvino_the_engine_is_held_and_the_reason_told(form):
    made = form(False)
    row = made.rows["engine"]
    assert not row.native.isEnabled()
    assert row.value is Engine.EAGER
    assert "OpenVINO is not installed" in row.toolTip()
    assert "napari-fossiledit[openvino]" in row.native.toolTip()


def test_with_openvino_it_can_be_chosen(form):
    made = form(True)
    assert made.rows["engine"].native.isEnabled()
    made.fill(engine=Engine.OPENVINO)
    assert made.read().engine is Engine.OPENVINO
    assert "openvino" not in sys.modules


def test_a_form_without_an_engine_is_held_as_well(form):
    made = form(False, TrainParams)
    assert "engine" not in made.rows
    assert not made.rows["backend"].native.isEnabled()


def test_with_detectron2_it_can_be_chosen(form):
    made = form(True)
    assert made.rows["backend"].native.isEnabled()
    made.fill(backend=Backend.DETECTRON2)
    assert made.read().backend is Backend.DETECTRON2
    assert "detectron2" not in sys.modules
