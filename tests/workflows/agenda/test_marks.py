"""Slices that are marked to be traced."""

import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.agenda import MarkParams
from napari_fossiledit.params.annotations import TraceParams
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.agenda import marks
from napari_fossiledit.workflows.annotate.corrections import trace


@pytest.fixture
def untraced(reef_project):
    with Project.open(reef_project) as project:
        for z in range(1, 5):
            project.ledger.unset_traced(z)
    return reef_project


def marked(path, **values):
    return marks.run(path, MarkParams(**values)).to_trace


def test_slices_are_marked_until_they_are_traced(untraced):
    a, b, c = 1, 2, 4
    assert marked(untraced) == ()
    assert marked(untraced, mark=f"{c},{a}") == (a, c)
    assert marked(untraced, mark=str(b), unmark=str(a)) == (b, c)
    with Project.open(untraced) as project:
        ledger = project.ledger
        newest = [action.what for action in ledger.history(2)]
        assert newest == ["change marks of slice 1-2 to trace", "mark slice 1,4 to trace"]
        ledger.undo()
        assert ledger.to_trace() == [a, c]
        ledger.redo()
    trace(untraced, TraceParams(slices=str(b)))
    assert marked(untraced) == (c,)
    result = marks.run(untraced, MarkParams(mark=str(b)))
    assert (result.to_trace, len(result.notes)) == ((c,), 1)
    assert "traced already" in result.notes[0]
    with Project.open(untraced) as project:
        project.ledger.undo()
    assert marked(untraced) == (b, c)


def test_a_slice_that_is_not_there_is_not_marked(untraced):
    with pytest.raises(FossilError, match="999"):
        marked(untraced, mark="999")
    assert marked(untraced) == ()
