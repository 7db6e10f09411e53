"""Expected quality of slices, and of models on another rock, on the small sample reef."""

from napari_fossiledit.params.agenda import ExpectParams
from napari_fossiledit.params.annotations import UntraceParams
from napari_fossiledit.params.segment import Device
from napari_fossiledit.workflows.agenda import expected
from napari_fossiledit.workflows.annotate import corrections


def told(path, **values):
    return expected.run(path, ExpectParams(device=Device.CPU, **values))


def test_each_slice_gets_an_interval(reef_project):
    corrections.untrace(reef_project, UntraceParams(slices="1-4"))
    result = told(reef_project, model="reef-lite")
    assert result.model == "reef-lite"
    assert "sample reefs" in result.calibrated_on
    rows = result.rows()
    assert [row["slice"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["f_score"] is None for row in rows] == [False, True, True, True, True]
    assert all(0 <= row["low"] <= row["expected"] <= row["high"] <= 1 for row in rows)
    assert {row["distance"] for row in rows} >= {0.0, 1.0}
    assert result.choice is None


def test_candidates_are_compared(reef_project, blank_model):
    result = told(reef_project, candidates=f"{blank_model},reef-lite")
    assert [c.model for c in result.candidates] == ["reef-lite", blank_model]
    assert "on the traced slices" in result.choice
