"""Predicting with the neighbour prior: order, gaps, directions, and going on after a stop."""

import numpy as np
import pytest
from pydantic import ValidationError

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.params.segment import Device, Direction, PredictParams
from napari_fossiledit.progress import Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.segment import predict
from napari_fossiledit.workflows.shared.neighbours import Visit, plan
from napari_fossiledit.workflows.shared.sources import find_source
from napari_fossiledit.workflows.stack import info

FORWARD, BACKWARD, BOTH = Direction.FORWARD, Direction.BACKWARD, Direction.BOTH
NAMES = {FORWARD: "f", BACKWARD: "b", BOTH: "x"}


def params(**values):
    fixed = {"model": "blank", "device": Device.CPU, "max_detections": 5, "neighbour_score": 0.0}
    return PredictParams(**{**fixed, "neighbour_weight": 20.0, **values})


def told(project_path, source):
    """What is stored, without the ids, which tell when it was stored."""
    with Project.open(project_path, read_only=True) as project:
        done = sorted(project.ledger.done(source))
        found = {z: project.ledger.instances(source, slices=[z]) for z in done}
        return {z: [(i.score, i.mask) for i in here] for z, here in found.items()}


@pytest.fixture
def priors(monkeypatch):
    """Slice and boxes of every prior that a model is given, in order."""
    seen = []
    original = MaskRcnnSegmenter.predict

    def watched(self, image, *, prior=None, slice_index=0, **options):
        seen.append((slice_index, None if prior is None else prior.boxes.tolist()))
        return original(self, image, prior=prior, slice_index=slice_index, **options)

    monkeypatch.setattr(MaskRcnnSegmenter, "predict", watched)
    return seen


def made(project):
    """All sources of predictions, also those that nobody is offered."""
    rows = project.ledger._rows("SELECT DISTINCT source FROM done")
    return sorted(name for (name,) in rows if name != "annotations")


def boxes(found):
    return [[x0, y0, x1, y1] for _, mask in found for y0, x0, y1, x1 in [mask.box]]


def test_forward_goes_up_and_looks_at_the_slice_before():
    assert plan(FORWARD, [3, 1, 2], NAMES) == [
        Visit("f", 1),
        Visit("f", 2, (("f", 1),)),
        Visit("f", 3, (("f", 2),)),
    ]


def test_backward_goes_down_and_looks_at_the_slice_after():
    assert plan(BACKWARD, [1, 2, 3], NAMES) == [
        Visit("b", 3),
        Visit("b", 2, (("b", 3),)),
        Visit("b", 1, (("b", 2),)),
    ]


def test_a_gap_ends_the_chain():
    near = {v.slice: v.near for v in plan(FORWARD, [1, 2, 4, 7, 8], NAMES)}
    assert near == {1: (), 2: (("f", 1),), 4: (), 7: (), 8: (("f", 7),)}


def test_both_directions_tell_a_slice_nothing_of_itself():
    visits = plan(BOTH, range(4), NAMES)
    known: dict[tuple[str, int], set[int]] = {}
    for visit in visits:
        sources = [known[near] for near in visit.near]
        known[visit.source, visit.slice] = {visit.slice}.union(*sources)
        assert not any(visit.slice in slices for slices in sources)
    assert all(known["x", z] == {0, 1, 2, 3} for z in range(4))
    # The ends of the passes tell nobody anything.
    assert [(v.source, v.slice) for v in visits] == [
        *(("f", z) for z in (0, 1, 2)),
        *(("b", z) for z in (3, 2, 1)),
        *(("x", z) for z in range(4)),
    ]


def test_each_pass_is_told_what_it_found(reef_project, blank_model, priors):
    done = predict.run(reef_project, params(slices="0-2", neighbour_direction=FORWARD))
    found = told(reef_project, done.source)
    assert priors == [(0, None), (1, boxes(found[0])), (2, boxes(found[1]))]
    priors.clear()
    done = predict.run(reef_project, params(slices="0-2", neighbour_direction=BACKWARD))
    found = told(reef_project, done.source)
    assert priors == [(2, None), (1, boxes(found[2])), (0, boxes(found[1]))]


def test_both_neighbours_count_and_passes_are_not_made_twice(reef_project, blank_model, priors):
    before = predict.run(reef_project, params(slices="0-2", neighbour_direction=FORWARD))
    after = predict.run(reef_project, params(slices="0-2", neighbour_direction=BACKWARD))
    priors.clear()
    both = predict.run(reef_project, params(slices="0-2"))
    assert len({before.source, after.source, both.source}) == 3
    assert both.predicted == (0, 1, 2)
    up, down = told(reef_project, before.source), told(reef_project, after.source)
    assert priors == [
        (0, boxes(down[1])),
        (1, boxes(up[0]) + boxes(down[2])),
        (2, boxes(up[1])),
    ]


def test_a_prior_changes_what_is_found(reef_project, blank_model):
    plain = predict.run(reef_project, params(slices="0-2", neighbour_weight=0.0))
    raised = predict.run(reef_project, params(slices="0-2", neighbour_direction=FORWARD))
    before, after = told(reef_project, plain.source), told(reef_project, raised.source)
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_weight_0_is_predicted_and_named_as_ever(reef_project, blank_model, priors):
    plain = predict.run(reef_project, PredictParams(model="blank", slices="0,2"))
    options = params(
        neighbour_weight=0.0, neighbour_direction=BACKWARD, max_detections=100, slices="0-2"
    )
    again = predict.run(reef_project, options)
    assert again.source == plain.source
    assert again.predicted == (1,)
    assert [prior for _, prior in priors] == [None] * 3


def test_neighbours_below_the_score_do_not_count(reef_project, blank_model, priors):
    predict.run(reef_project, params(slices="0-1", neighbour_score=1.0))
    assert [prior for _, prior in priors] == [None] * 4


@pytest.mark.parametrize(
    ("direction", "stop", "total"), [(BACKWARD, 1, 3), (BOTH, 1, 7), (BOTH, 3, 7), (BOTH, 5, 7)]
)
def test_going_on_after_cancelling_gives_the_same(
    reef_project, blank_model, direction, stop, total
):
    options = params(slices="0-2", neighbour_direction=direction)
    whole = predict.run(reef_project, options)
    wanted = told(reef_project, whole.source)
    with Project.open(reef_project) as project:
        for source in made(project):
            project.ledger.forget(source)
    reports = []
    with pytest.raises(CancelledError):
        predict.run(
            reef_project,
            options,
            job=Job(reports.append, lambda: bool(reports) and reports[-1].done >= stop),
        )
    assert reports[-1].total == total
    again = predict.run(reef_project, options)
    assert again.source == whole.source
    assert told(reef_project, again.source) == wanted


@pytest.mark.parametrize("stop", [1, 3])
def test_nobody_is_offered_a_pass(reef_project, blank_model, stop):
    options, reports = params(slices="0-2"), []
    with pytest.raises(CancelledError):
        predict.run(
            reef_project,
            options,
            job=Job(reports.append, lambda: bool(reports) and reports[-1].done >= stop),
        )
    with Project.open(reef_project) as project:
        passes = made(project)
        assert passes
        assert [s.name for s in project.ledger.sources()] == ["annotations"]
        for text in (blank_model, *passes):
            with pytest.raises(FossilError, match=r"no instances of .*expected one of annotations"):
                find_source(project, text)
    assert [s["name"] for s in info.run(reef_project).content["sources"]] == ["annotations"]
    whole = predict.run(reef_project, options)
    with Project.open(reef_project) as project:
        assert find_source(project, blank_model) == whole.source
        assert [s.name for s in project.ledger.sources()] == ["annotations", whole.source]
        assert set(passes) < set(made(project))


def test_a_prediction_of_one_direction_that_was_broken_off_is_no_pass(
    reef_project, blank_model, priors
):
    forward = predict.run(reef_project, params(slices="0-2", neighbour_direction=FORWARD))
    with Project.open(reef_project) as project:
        project.ledger.forget(forward.source, [2])
    priors.clear()
    predict.run(reef_project, params(slices="0-2"))
    assert [z for z, _ in priors] == [0, 1, 2, 1, 0, 1, 2]
    with Project.open(reef_project) as project:
        assert project.ledger.done(forward.source) == {0, 1}


def test_other_slices_are_other_predictions(reef_project, blank_model):
    some = predict.run(reef_project, params(slices="1-2", neighbour_direction=FORWARD))
    more = predict.run(reef_project, params(slices="0-2", neighbour_direction=FORWARD))
    assert some.source != more.source
    assert more.predicted == (0, 1, 2)


def test_tiles_and_prior_together(reef_project, blank_model):
    options = {"slices": "0-1", "tiles": True, "neighbour_direction": FORWARD}
    done = predict.run(reef_project, params(**options))
    assert done.predicted == (0, 1)


@pytest.mark.parametrize("slices", ["2", "0,2,4"])
def test_slices_without_neighbours_are_refused(reef_project, blank_model, slices):
    with pytest.raises(FossilError, match=rf"next to each other.*such as 4-9; found {slices}\."):
        predict.run(reef_project, params(slices=slices))
    with Project.open(reef_project) as project:
        assert [s.name for s in project.ledger.sources()] == ["annotations"]


@pytest.mark.parametrize("weight", [-0.1, 21, float("nan"), float("inf"), "much"])
def test_absurd_weights_are_refused(weight):
    with pytest.raises(ValidationError, match="neighbour_weight"):
        PredictParams(neighbour_weight=weight)


@pytest.mark.parametrize("score", [-0.1, 1.1, np.nan])
def test_absurd_scores_are_refused(score):
    with pytest.raises(ValidationError, match="neighbour_score"):
        PredictParams(neighbour_score=score)
