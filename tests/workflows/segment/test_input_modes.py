"""Models that see the neighbours of a slice, in everything that takes a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_fossiledit.cli.commands import app
from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.files.registry import load_model, read_record
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.backbones import first_convolution
from napari_fossiledit.params.agenda import DistanceParams
from napari_fossiledit.params.editing import EditParams
from napari_fossiledit.params.probe import ProbeParams
from napari_fossiledit.params.segment import Device, InputMode, PredictParams, RefineParams, Views
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import Project
from napari_fossiledit.stacks.window import Window
from napari_fossiledit.workflows.agenda import distance
from napari_fossiledit.workflows.edit import run as edit
from napari_fossiledit.workflows.probe import run as probe
from napari_fossiledit.workflows.segment import predict, refine
from napari_fossiledit.workflows.shared.model_refs import find_model
from napari_fossiledit.workflows.shared.seen import seen
from napari_fossiledit.workflows.stack import new

IN_GREY = "The photographs are coloured, and the model sees them in grey."


def _trained(project, *options):
    command = ["train", str(project), "--name", "m", "--slices", "0,2", "--device", "cpu", *options]
    few = ["--init", "blank", "--max-steps", "2", "--crop", "64", "--batch", "1"]
    done = CliRunner().invoke(app, [*command, *few])
    assert done.exit_code == 0, done.output
    return read_record(project / "models" / "m"), done.output


@pytest.fixture(scope="module")
def grey_home(reef_home, tmp_path_factory):
    """A project with a model "m" of grey windows, to be read only."""
    home = shutil.copytree(reef_home, tmp_path_factory.mktemp("grey") / "home") / "tiny.fossil"
    options = ("--input", "grey-window", "--reach", "1", "--start", "symmetric", "--z-flip")
    return home, _trained(home, *options)


@pytest.fixture
def grey_project(grey_home, tmp_path):
    return shutil.copytree(grey_home[0].parent, tmp_path / "home") / "tiny.fossil"


@pytest.fixture
def watched(monkeypatch):
    """What models were given to predict."""
    given, really = [], MaskRcnnSegmenter.predict

    def watch(self, image, **options):
        given.append(image)
        return really(self, image, **options)

    monkeypatch.setattr(MaskRcnnSegmenter, "predict", watch)
    return given


def test_a_training_is_recorded_and_a_symmetric_start_stays_symmetric(grey_home):
    home, (record, said) = grey_home
    assert (record.preprocessing.input, record.preprocessing.reach) == ("grey-window", 1)
    assert (record.network.inputs, record.network.first_layer) == (3, "symmetric")
    assert record.training["z_flip"] is True
    assert IN_GREY in said
    weight = first_convolution(load_model(home / "models" / "m").network.backbone).weight
    start = load_model(Path(record.training["init"])).network.backbone
    assert torch.equal(weight, weight.flip(1))
    assert not torch.equal(weight.sum(1), first_convolution(start).weight.sum(1))


def test_predictions_and_views_see_the_neighbours_in_grey(grey_project, watched):
    params = PredictParams(model="m", slices="0,1", views=Views.TWO, device=Device.CPU)
    result = predict.run(grey_project, params)
    assert IN_GREY in result.notes
    with Project.open(grey_project, read_only=True) as project:
        slices = [project.stack.read(z).astype(float) @ [0.299, 0.587, 0.114] for z in range(3)]
    assert len(watched) == 2
    # Two threads overtake each other.
    for near in ((1, 0, 1), (0, 1, 2)):
        expected = np.stack([slices[z] for z in near], axis=2)
        assert sum(np.abs(image - expected).max() <= 0.51 for image in watched) == 1


def test_a_probe_changes_the_slice_and_not_its_neighbours(grey_project, watched):
    params = ProbeParams(model="m", slices="2", presets="occlude-fossils", device=Device.CPU)
    result = probe.run(grey_project, params)
    before, after = watched
    assert np.array_equal(before[..., [0, 2]], after[..., [0, 2]])
    assert (before[..., 1] != after[..., 1]).mean() == pytest.approx(result.tried[0].share, rel=0.1)


def test_a_refiner_an_edit_and_features_take_the_model(grey_project):
    refined = refine.run(grey_project, RefineParams(model="m", device=Device.CPU))
    assert refined.slices == (0, 1, 2, 3, 4)
    few = {"tuning": "1", "pinned": "2", "preserve": "3", "levels": "2-3", "strengths": "1"}
    solver = {"scope": "all", "solver": "direct", "iterations": 2, "device": Device.CPU}
    params = EditParams(model="m", name="mud", slices="0", **few, **solver)
    assert edit.run(grey_project, params).name == "mud"
    with Project.open(grey_project, read_only=True) as project:
        ref = find_model(project, "mud")
        assert ref.window == Window(InputMode.GREY_WINDOW, 1)
        assert ref.load(Device.CPU).preprocessing.window == ref.window
    looked = DistanceParams(model="mud", known="0,1", device=Device.CPU)
    assert distance.run(grey_project, looked).slices == (2, 3, 4)


def test_windows_in_colour_take_all_colours(reef_project, blank_model):
    options = ("--input", "rgb-window", "--start", "uniform-z")
    record, said = _trained(reef_project, *options)
    assert (record.network.inputs, record.network.first_layer) == (9, "uniform-z")
    assert IN_GREY not in said
    params = PredictParams(model="m", slices="4", device=Device.CPU)
    assert predict.run(reef_project, params).predicted == (4,)
    with Project.open(reef_project, read_only=True) as project:
        image = seen(project, record.preprocessing.window, 4)
        assert np.array_equal(image, np.dstack([project.stack.read(z) for z in (3, 4, 3)]))


def test_a_model_of_windows_needs_a_stack_that_is_as_long(grey_project, tiny_reef, tmp_path):
    for z, file in enumerate(sorted((tiny_reef / "images").iterdir())):
        if z > 1:
            file.unlink()
    short = tmp_path / "short.fossil"
    new.run(short, tiny_reef / "images", NewParams(pixel_size=72.7, slice_spacing=500))
    shutil.copytree(grey_project / "models" / "m", short / "models" / "m")
    with pytest.raises(FossilError, match="too short for a model that sees 3 slices at once"):
        predict.run(short, PredictParams(model="m", slices="0", device=Device.CPU))
