"""Configurations of detectron2 that are broken or made to harm end with a `FossilError`."""

from __future__ import annotations

from itertools import pairwise

import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.detectron2.config import (
    DEFAULTS,
    check_config,
    config_of,
    cut_of,
    read_config,
)
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.network.spec import default_spec

STEPS = list(pairwise("abcdefghijkl"))
LEVELS = "".join(f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in STEPS)
MERGED = "".join(f"{b}: &{b}\n  <<: [*{a}, *{a}, *{a}, *{a}]\n" for a, b in STEPS)


def _said(function, *arguments):
    with pytest.raises(FossilError) as error:
        function(*arguments)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("MODEL: {X: 2020-13-45}", "month must be in"),
        ("MODEL: {X: !!int abc}", "invalid literal"),
        ("MODEL: {X: !!int ''}", "index out of range"),
        ("MODEL: {X: !!bool abc}", "'abc'"),
        ("MODEL: {X: !!timestamp abc}", "NoneType"),
        ("MODEL: {X: !!float abc}", "could not convert"),
        ("MODEL: {X: !!binary é}", "base64"),
        (f"MODEL: {{X: 0x{'f' * 5000}}}", "more than 1000 characters"),
        ("MODEL: &a {X: *a}", "more than 32 deep"),
        ("MODEL: &a [*a]", "more than 32 deep"),
        ("MODEL: " + "{X: " * 60 + "1" + "}" * 60, "more than 32 deep"),
        ("MODEL: " + "[" * 1500, "recursion"),
        ("a: &a [1, 2, 3]\n" + LEVELS + "MODEL: {X: *l}", "more than 100000 values"),
        ("a: &a {X: 1}\n" + MERGED + "MODEL: {X: *l}", "more than 100000 values"),
        ("MODEL: {X: 1}\n" + "#" * 2**20, "more than 1048576 bytes"),
        ("MODEL: \x00", "not allowed"),
    ],
)
def test_configurations_that_are_none_are_named(tmp_path, text, found):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    said = _said(read_config, path)
    assert f"{path} cannot be read; expected a detectron2 configuration (YAML); found" in said
    assert found in said.partition("found")[2]
    assert len(said) < 800


def test_a_base_of_an_impossible_name_is_named(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(f"_BASE_: {'a' * 400}\n")
    assert "aaa failed: " in _said(read_config, path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "abc"),
        ("TEST.DETECTIONS_PER_IMAGE", float("inf")),
        ("TEST.DETECTIONS_PER_IMAGE", None),
    ],
)
def test_cuts_that_are_no_numbers_are_named(key, value):
    said = _said(cut_of, {**DEFAULTS, key: value}, "c.yaml")
    assert said.startswith("c.yaml holds a value that cannot be used; expected")


def test_sigmoid_scores_are_refused():
    key = "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE"
    check_config({key: False}, "c.yaml")
    # detectron2 0.6 knows no such key, and refuses it.
    assert key not in config_of(default_spec("r50", ("a",)), Preprocessing())
    said = _said(check_config, {key: True}, "c.yaml")
    assert f"expected {key} = False" in said
    assert f"found {key} = True" in said
