"""A small sample reef as a project, and a model that knows nothing."""

import shutil

import pytest

from napari_fossiledit.params.annotations import ImportParams
from napari_fossiledit.params.reef import ReefParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.annotate.files import import_annotations
from napari_fossiledit.workflows.sample import reef as sample
from napari_fossiledit.workflows.stack import new


@pytest.fixture(scope="session")
def written_reef(tmp_path_factory):
    """Folder of a sample reef of 5 slices of 128 x 96 pixels, made once."""
    folder = tmp_path_factory.mktemp("reef")
    sample.run(folder, ReefParams(slices=5, size=128, seed=3, cups_per_cm3=6))
    return folder


@pytest.fixture
def tiny_reef(written_reef, tmp_path):
    """A copy of that folder which a test may damage."""
    return shutil.copytree(written_reef, tmp_path / "reef")


@pytest.fixture
def reef_project(tiny_reef, tmp_path):
    """A project of the sample reef in which every slice is traced."""
    path = tmp_path / "tiny.fossil"
    new.run(path, tiny_reef / "images", NewParams())
    import_annotations(path, ImportParams(file=tiny_reef / "annotations.json"))
    return path


@pytest.fixture
def blank_model(reef_project):
    """Name of a model of the project with random weights, the same every time."""
    import torch

    from napari_fossiledit.models.files.registry import build, save_model

    torch.manual_seed(0)
    torch.set_num_threads(1)
    segmenter = build("lite", ("archaeocyathid",), pretrained=False, device="cpu")
    with Project.open(reef_project) as project:
        save_model(segmenter, project.model_folder("blank"))
    return "blank"
