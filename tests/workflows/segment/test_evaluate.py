"""What an evaluation asks for before it predicts."""

import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.segment import Device, EvaluateParams
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.segment import evaluate


@pytest.mark.parametrize(
    ("against", "message"),
    [("nope", "There is no model 'nope'"), ("other", "other has no prediction of slices 0-1")],
)
def test_nothing_is_predicted_where_there_is_nothing_to_compare_with(
    reef_project, blank_model, against, message
):
    with Project.open(reef_project) as project:
        project.ledger.store("other", 2, [])
    params = EvaluateParams(model=blank_model, slices="0,1", against=against, device=Device.CPU)
    with pytest.raises(FossilError, match=message):
        evaluate.run(reef_project, params)
    with Project.open(reef_project, read_only=True) as project:
        assert project.ledger.predictions(blank_model) == []
