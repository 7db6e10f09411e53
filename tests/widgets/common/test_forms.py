"""A form shows a parameter model and gives it back; the model judges the values."""

from __future__ import annotations

from enum import StrEnum

import pytest
from pydantic import Field
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QComboBox

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.annotations import FillParams
from napari_fossiledit.params.base import Params
from napari_fossiledit.params.reconstruct import LinkParams, MeshParams
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.params.segment import EvaluateParams, PredictParams, TrainParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.widgets.common.forms import (
    ParamsForm,
    bounds_of,
    label_of,
    number_text,
    words_of,
)

MODELS = (
    EvaluateParams,
    FillParams,
    LinkParams,
    MeshParams,
    NewParams,
    PredictParams,
    ReefParams,
    TrainParams,
)

VOXEL = {"pixel_size": 72.7, "slice_spacing": 500}


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Sample(Params):
    name: str = Field("a", min_length=1, description="What it is called, e.g. first.")
    colour: Colour = Field(Colour.GREEN, description="Which colour.")
    count: int = Field(3, gt=0, lt=10, description="How many.")
    share: float = Field(0.5, ge=0, le=1)
    words: tuple[str, ...] = Field(("x",), min_length=1)
    flag: bool = False


@pytest.mark.parametrize(
    ("name", "label"),
    [("slice_spacing_um", "Slice spacing (um)"), ("name", "Name"), ("um", "Um")],
)
def test_label(name, label):
    assert label_of(name) == label


def test_bounds_of_whole_numbers_exclude_open_ends():
    assert bounds_of(Sample.model_fields["count"]) == (1, 9)
    assert bounds_of(Sample.model_fields["share"]) == (0, 1)
    assert bounds_of(Sample.model_fields["name"]) == (None, None)


def test_words():
    assert words_of(" a, b c,, ") == ("a", "b c")


@pytest.mark.parametrize("model", MODELS)
def test_an_untouched_form_gives_the_defaults(qtbot, model):
    form = ParamsForm(model)
    qtbot.addWidget(form)
    needed = VOXEL if model is NewParams else {}
    form.fill(**needed)
    assert form.read() == model(**needed)


def test_values_go_in_and_come_out(qtbot):
    form = ParamsForm(Sample)
    qtbot.addWidget(form)
    values = {"name": "b", "colour": Colour.RED, "count": 7, "share": 0.25, "words": ("p", "q")}
    form.fill(**values, flag=True)
    assert form.read() == Sample(**values, flag=True)


def test_small_numbers_keep_their_digits(qtbot):
    form = ParamsForm(TrainParams)
    qtbot.addWidget(form)
    form.fill(learning_rate=0.00037)
    assert form.read().learning_rate == pytest.approx(0.00037)


def test_descriptions_are_tooltips_and_enumerations_combo_boxes(qtbot):
    form = ParamsForm(Sample)
    qtbot.addWidget(form)
    assert form.rows["count"].native.toolTip() == "How many."
    box = form.rows["colour"].native
    assert isinstance(box, QComboBox)
    assert box.count() == 2
    assert form.rows["name"].native.placeholderText() == "e.g. first"
    assert form.rows["flag"].native.text() == ""


def test_what_is_wrong_is_told_at_the_field(qtbot):
    form = ParamsForm(Sample, advanced=("words",))
    qtbot.addWidget(form)
    form.fill(name="", words=())
    with pytest.raises(FossilError, match="settings do not fit"):
        form.read()
    assert "at least 1 character" in form.rows["name"].error.text()
    assert "at least 1 item" in form.rows["words"].error.text()
    assert form.advanced.head.isChecked()
    assert form.rows["count"].error.text() == ""
    form.fill(name="ok")
    assert form.rows["name"].error.text() == ""


def test_what_no_field_is_guilty_of_is_told_below(qtbot):
    form = ParamsForm(ReefParams)
    qtbot.addWidget(form)
    form.fill(cup_diameter_min_um=9000.0, cup_diameter_max_um=100.0)
    with pytest.raises(FossilError):
        form.read()
    assert "must not exceed" in form._general.text()


def test_choices_are_offered_and_asked_again(qtbot):
    models = ["one"]
    form = ParamsForm(PredictParams, choices={"model": lambda: models})
    qtbot.addWidget(form)
    assert form.read().model == "one"
    models[:] = ["two", "one"]
    form.refresh()
    assert form.read().model == "one"
    form.fill(model="two")
    assert form.read().model == "two"


def test_hidden_fields_keep_their_default_or_what_is_fixed(qtbot):
    form = ParamsForm(Sample, hidden=("flag",))
    qtbot.addWidget(form)
    assert "flag" not in form.rows
    form.fix(flag=True)
    assert form.read().flag is True


@pytest.mark.parametrize("size", [0.005, 25400 / 2400, 72.725, 123456.5])
def test_a_voxel_size_is_not_rounded(qtbot, size):
    form = ParamsForm(NewParams)
    qtbot.addWidget(form)
    form.fill(pixel_size=size, slice_spacing=500)
    assert form.read().pixel_size == pytest.approx(size, rel=1e-8)


@pytest.mark.parametrize(("typed", "size"), [("0,05", 0.05), ("0.0052", 0.0052), ("1 250", 1250)])
def test_a_number_has_a_point_or_a_comma_in_every_language(qtbot, typed, size):
    form = ParamsForm(NewParams)
    qtbot.addWidget(form)
    form.fill(slice_spacing=500)
    assert form.problem() == "Enter: Pixel size."
    QTest.keyClicks(form.rows["pixel_size"].native, typed)
    assert form.problem() == ""
    assert form.read().pixel_size == size


@pytest.mark.parametrize("typed", ["", "1.000,5", "5 um", "0", "-3", "1e99", "nan"])
def test_what_is_no_size_is_told_at_the_field(qtbot, typed):
    form = ParamsForm(NewParams)
    qtbot.addWidget(form)
    form.fill(slice_spacing=500)
    QTest.keyClicks(form.rows["pixel_size"].native, typed)
    with pytest.raises(FossilError, match="settings do not fit"):
        form.read()
    assert form.problem().startswith("Pixel size: " if typed else "Enter: Pixel size")
    assert "number" in form.rows["pixel_size"].error.text() or "than" in form.problem()


@pytest.mark.parametrize(
    ("value", "text"), [(20.0, "20"), (6e-7, "0.0000006"), (25400 / 2400, "10.58333333")]
)
def test_a_number_is_shown_with_its_digits_and_no_others(value, text):
    assert number_text(value) == text
