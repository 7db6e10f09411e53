"""Which predictions a user means by a name, a folder or a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.files.places import STATE
from napari_fossiledit.project import EditRecord, EditState, Project
from napari_fossiledit.workflows.shared.model_refs import find_model
from napari_fossiledit.workflows.shared.sources import (
    default_source,
    find_source,
    marked,
    predictions_in_use,
    shown_sources,
)


@pytest.fixture
def project(reef_project):
    with Project.open(reef_project) as opened:
        yield opened


@pytest.fixture
def checkpoint(tmp_path):
    """A file of another program, in a folder named as many are."""
    file = tmp_path / "output" / "model_final.pth"
    file.parent.mkdir()
    file.touch()
    return file


def test_a_checkpoint_stands_for_its_own_predictions(project, checkpoint, monkeypatch):
    for name in ("output", "output.pth", "r50.pkl"):
        project.ledger.store(f"model:{name}:0123456789ab", 0, [])
    assert find_source(project, str(checkpoint)) == "model:output.pth:0123456789ab"
    monkeypatch.chdir(checkpoint.parent)
    assert find_source(project, "model_final.pth") == "model:output.pth:0123456789ab"
    Path("r50.pkl").touch()
    assert find_source(project, "r50.pkl") == "model:r50.pkl:0123456789ab"


def test_a_checkpoint_never_stands_for_those_of_a_model_named_alike(project, checkpoint):
    project.ledger.store("model:output:0123456789ab", 0, [])
    with pytest.raises(FossilError, match=r"no instances of .*model_final\.pth"):
        find_source(project, str(checkpoint))


def test_a_model_folder_and_its_files_stand_for_the_model(project, blank_model):
    project.ledger.store(f"model:{blank_model}:0123456789ab", 0, [])
    folder = project.model_folder(blank_model)
    for path in (folder, folder / "model.json", folder / "weights.safetensors"):
        assert find_source(project, str(path)) == f"model:{blank_model}:0123456789ab"


@pytest.mark.parametrize("name", ["model_final.pth", "model_0000999.pth", "mask_rcnn_R_50.pkl"])
def test_predictions_of_a_file_are_looked_for_as_they_are_named(project, tmp_path, name):
    file = tmp_path / name
    file.touch()
    source = f"model:{find_model(project, str(file)).name}:0123456789ab"
    project.ledger.store(source, 0, [])
    assert find_source(project, str(file)) == source


@pytest.fixture
def project_with_edit(project, blank_model):
    """Predictions of a model, and of an edit of it that was rolled back and comes first by name."""
    record = EditRecord(
        name="an-edit",
        parent=blank_model,
        parent_hash="0" * 64,
        result_hash="1" * 64,
        model=blank_model,
        state=EditState.ROLLED_BACK,
    )
    project.edits.save(record, b"weights")
    for model in ("an-edit", blank_model):
        project.ledger.store(f"model:{model}:0123456789ab", 0, [])
    return project


def test_a_rolled_back_edit_is_never_a_default(project_with_edit, blank_model):
    project, sound = project_with_edit, f"model:{blank_model}:0123456789ab"
    assert marked(project, "model:an-edit:0123456789ab") == "rolled back"
    assert shown_sources(project)[0] == default_source(project) == sound
    assert predictions_in_use(project) == sound
    assert find_source(project, "an-edit") == "model:an-edit:0123456789ab"


def test_a_training_that_was_stopped_is_never_a_default(project, blank_model):
    source = f"model:{blank_model}:0123456789ab"
    project.ledger.store(source, 0, [])
    assert default_source(project) == source
    state = project.model_folder(blank_model) / STATE
    state.touch()
    try:
        assert marked(project, source) == "unfinished"
        assert default_source(project) == ""
        with pytest.raises(FossilError, match=rf"but for those of {blank_model} \(unfinished\)"):
            predictions_in_use(project)
    finally:
        state.unlink()
