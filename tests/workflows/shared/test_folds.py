"""Which slices a model was made with."""

import json
from shutil import copytree

import pytest

from napari_fossiledit.project import Project
from napari_fossiledit.workflows.shared.folds import trained_on
from napari_fossiledit.workflows.shared.model_refs import find_model


def made_with(folder, **training):
    record = json.loads((folder / "model.json").read_text())
    record["training"] = {**(record["training"] or {}), **training}
    (folder / "model.json").write_text(json.dumps(record))


# The folder is written down as it was called then: the project may have been moved since.
@pytest.mark.parametrize("place", ["", "/gone"])
def test_a_model_knows_what_those_that_it_went_on_from_had_seen(reef_project, blank_model, place):
    first = reef_project / "models" / blank_model
    second, third = (copytree(first, first.with_name(name)) for name in ("second", "third"))
    here = f"{place}/{reef_project.name}/models" if place else str(first.parent)
    made_with(first, slices=[1], validation="2")
    made_with(second, slices="0", init=f"{here}/{blank_model}")
    made_with(third, slices=[4], init=f"{here}/second")

    def seen(name):
        with Project.open(reef_project) as project:
            return trained_on(project, find_model(project, name))

    assert (seen(blank_model), seen("second"), seen("third")) == ({1, 2}, {0, 1, 2}, {0, 1, 2, 4})
    # The first one was made anew from the last.
    made_with(first, init=f"{here}/third")
    assert seen("third") == {0, 1, 2, 4}
    # Slices of another project are others.
    made_with(third, init=f"/elsewhere/other.fossil/models/{blank_model}")
    assert seen("third") == {4}
