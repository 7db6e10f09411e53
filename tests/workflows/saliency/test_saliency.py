"""What a model of a project looks at, as files, figures and sentences."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.files.places import SHIPPED
from napari_fossiledit.models.files.registry import read_record, save_model
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.backbones import first_convolution
from napari_fossiledit.models.training.initial import before_training, initial_network
from napari_fossiledit.params.saliency import AsymmetryParams, Method, SaliencyParams
from napari_fossiledit.params.segment import InputMode, TrainParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.saliency.asymmetry import Asymmetry
from napari_fossiledit.stacks.window import Window
from napari_fossiledit.workflows.saliency import look, report
from napari_fossiledit.workflows.saliency.report import Seen


@pytest.fixture
def windowed(reef_project, blank_segmenter):
    """Name of a model of three grey slices of which only the one before counts."""
    made = blank_segmenter()
    with torch.no_grad():
        weight = first_convolution(made.network.backbone).weight
        weight[:, 0] = weight.sum(1)
        weight[:, 1:] = 0
    settings = Preprocessing(input=InputMode.GREY_WINDOW, reach=1)
    save_model(MaskRcnnSegmenter(made.network, settings), reef_project / "models" / "before")
    return "before"


def _some_id(project_path, z):
    with Project.open(project_path) as project:
        return project.instances(ANNOTATIONS, z)[0].id


def test_a_map_over_the_slice_and_its_neighbours_is_written(reef_project, windowed):
    asked = SaliencyParams(model=windowed, z=0, instance=_some_id(reef_project, 0), device="cpu")
    result = look.run(reef_project, asked)
    # Beyond the first slice lies its mirror image.
    assert result.near == (1, 0, 1)
    np.testing.assert_allclose(result.shares, (1, 0, 0))
    with np.load(result.folder / look.ARRAY) as file:
        assert file["values"].dtype == np.float32
        np.testing.assert_allclose(np.abs(file["values"]), result.maps)
    assert (result.folder / look.PICTURE).stat().st_size > 5000
    told = json.loads((result.folder / look.FIGURES).read_text())
    assert told["instances"] == [asked.instance]
    assert told["params"]["method"] == "input-x-gradient"
    coarse = look.run(reef_project, asked.model_copy(update={"method": Method.GRAD_CAM}))
    assert (coarse.near, coarse.shares, len(coarse.maps)) == ((0,), (), 1)


def test_a_model_that_sees_the_slice_before_alone_is_told_by_the_report(reef_project, windowed):
    """The planted case, from the weights to the sentence."""
    result = report.run(reef_project, AsymmetryParams(model=windowed, slices="1,2", device="cpu"))
    (seen,) = result.models
    assert seen.index.mean == pytest.approx(-1)
    assert seen.slices["-1"].mean == pytest.approx(1)
    assert "the slices before it count most, more than the slice itself" in result.sentences[0]
    assert result.hue is None
    assert json.loads((result.folder / report.FIGURES).read_text())["sentences"]
    assert (result.folder / report.PICTURE).is_file()


def test_a_model_of_colours_is_judged_with_other_hues(reef_project, blank_model):
    result = report.run(
        reef_project,
        AsymmetryParams(model=blank_model, slices="1", device="cpu", score=0, before=False),
    )
    (seen,) = result.models
    assert seen.index is None
    assert sum(s.mean for s in seen.colours.values()) == pytest.approx(1)
    assert "with all hues turned by 90 degrees" in result.sentences[-1]
    # A model that finds nothing has nothing to lose.
    assert "it finds too little of them to tell" in result.sentences[-1]
    assert {*result.summary()["hue"]} == {"iou_all", "recall_all"}


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ([0.01, -0.02, 0.02], "both sides count about alike"),
        ([-0.3, -0.2, -0.25], "the slices before it count more (index"),
        ([0.9, -0.5, 0.1], "the slices after it count more, but not on all slices"),
    ],
)
def test_words_of_an_index(index, words):
    sides = np.array([[0.25 * (1 - i), 0.5, 0.25 * (1 + i)] for i in index])
    found = Asymmetry(Window(InputMode.GREY_WINDOW, 1), sides[..., None])
    np.testing.assert_allclose(found.index, index, atol=1e-12)
    assert words in Seen.of("m", found, 0).sentences[0]


def test_the_side_in_words_is_that_of_the_index():
    """Where one slice looks at its neighbours much, and others a little at the other side."""
    sides = np.array([[0.5, 0.2, 0.3], [0, 0.9, 0.1], [0, 0.9, 0.1]])
    found = Asymmetry(Window(InputMode.GREY_WINDOW, 1), sides[..., None])
    sentence = Seen.of("m", found, 0).sentences[0]
    assert "the slices after it count more" in sentence
    assert "index +0.5" in sentence


def test_what_cannot_be_looked_at_says_why(reef_project, windowed, blank_segmenter):
    with pytest.raises(FossilError, match="has no instance 99999"):
        look.run(reef_project, SaliencyParams(model=windowed, instance=99999, device="cpu"))
    with pytest.raises(FossilError, match="no class 'trilobite'"):
        look.run(reef_project, SaliencyParams(model=windowed, class_name="trilobite"))
    with pytest.raises(FossilError, match="What this model began with is not known"):
        report.run(reef_project, AsymmetryParams(model=windowed, before=True, slices="1"))
    wide = Preprocessing(input=InputMode.GREY_WINDOW, reach=3)
    network = blank_segmenter(inputs=7).network
    save_model(MaskRcnnSegmenter(network, wide), reef_project / "models" / "wide")
    for run, params in ((look.run, SaliencyParams), (report.run, AsymmetryParams)):
        with pytest.raises(FossilError, match="too short for a model that sees 7 slices"):
            run(reef_project, params(model="wide", device="cpu"))


def test_what_a_training_began_with_is_built_again(tmp_path, blank_segmenter):
    init = str(SHIPPED / "reef-lite")
    params = TrainParams(
        input="grey-window", start="uniform", init=init, classes=("archaeocyathid",), seed=4
    )
    began = initial_network(params).network
    settings = Preprocessing(input=InputMode.GREY_WINDOW, reach=1)
    expected = {name: value.clone() for name, value in began.state_dict().items()}
    with torch.no_grad():
        first_convolution(began.backbone).weight += 1
    # The record of a training has notes where the parameters have the start of the first layer.
    training = {**params.model_dump(mode="json"), "start": ["Some note."], "slices": [1]}
    save_model(MaskRcnnSegmenter(began, settings), tmp_path / "m", training=training)
    again = before_training(read_record(tmp_path / "m")).weights()
    assert all(torch.equal(again[name], value) for name, value in expected.items())
