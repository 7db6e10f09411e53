"""Corrected slices teach: which ones do, what judges, keeping and rolling back, going on."""

import pytest
import torch

from napari_fossiledit.editing.edit import Edit
from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.frontier import EqualRecall
from napari_fossiledit.evaluation.numbers import Spread
from napari_fossiledit.models.files.places import STATE
from napari_fossiledit.models.files.registry import read_record
from napari_fossiledit.params.review import TeachParams
from napari_fossiledit.params.segment import Device
from napari_fossiledit.progress import Job, Progress
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.edit import decide as edits
from napari_fossiledit.workflows.edit.judging import Judgement
from napari_fossiledit.workflows.edit.result import Advice
from napari_fossiledit.workflows.review import teach
from napari_fossiledit.workflows.shared.folds import trained_on
from napari_fossiledit.workflows.shared.model_refs import (
    find_model,
    in_use,
    set_in_use,
    standing,
)
from napari_fossiledit.workflows.shared.taught import TEACHING


def quick(**values):
    fixed = {"model": "reef-lite", "max_steps": 1, "crop": 64, "batch": 1}
    return TeachParams(device=Device.CPU, **{**fixed, **values})


@pytest.fixture
def reviewed(reef_project):
    """The project with slice 0 traced, all of slices 1 and 2 reviewed, and one mask of slice 3."""
    with Project.open(reef_project) as project:
        ledger = project.ledger
        for z in range(1, 5):
            ledger.unset_traced(z)
        ids = {z: [i.id for i in ledger.instances(ANNOTATIONS, slices=[z])] for z in range(5)}
        ledger.set_reviewed([*ids[1], *ids[2], ids[3][0]])
    return reef_project


def test_reviewed_slices_teach_and_pinned_ones_judge(reviewed):
    made = teach.run(reviewed, quick(pin="2"))
    assert (made.model, made.parent) == ("reef-lite-2", "reef-lite")
    assert (made.slices, made.new, made.traced, made.pinned) == ((0, 1), (0, 1), (1, 2), (2,))
    assert made.notes[0] == "Marked as traced: slices 1-2."
    assert made.judged.slices == (2,)
    assert made.gain is not None
    assert None not in made.found
    assert "reef-lite" in made.verdict
    with Project.open(reviewed) as project:
        assert project.settings.pinned_slices == (2,)
        assert (in_use(project), standing(project, made.model)) == ("", "undecided")
        assert trained_on(project, find_model(project, made.model)) == {0, 1}
        assert project.ledger.undo().slices == (1, 2)  # one action
        assert sorted(project.ledger.traced()) == [0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slices": "3"}, r"Slices 3 are not corrected yet.*found 1 of \d+ masks reviewed"),
        ({"pin": "4"}, r"Slices 4 are not corrected yet.*found 0 of \d+ masks"),
        ({"slices": "1,2", "pin": "2"}, r"Slices 2 are pinned: they only judge"),
        ({"slices": "9"}, "not in the stack"),
        ({"name": "blank"}, "The name 'blank' is taken"),
        ({"name": "reef-lite"}, "The name 'reef-lite' is taken"),
        ({"model": "gone"}, "no model 'gone'"),
        ({"class_name": "brachiopod"}, "no class 'brachiopod'"),
        ({"keep": "a", "roll_back": "b"}, "One thing is decided at a time"),
        ({"keep": "blank"}, "No model 'blank' was taught"),
        ({"roll_back": "blank"}, "No model 'blank' was taught"),
    ],
)
def test_impossible_teachings_are_refused_and_change_nothing(
    reviewed, blank_model, values, message
):
    with pytest.raises(FossilError, match=message):
        teach.run(reviewed, quick(**values))
    with Project.open(reviewed) as project:
        assert project.models() == [blank_model]
        assert project.settings.pinned_slices == ()


def test_nothing_reviewed_is_refused(reef_project):
    with Project.open(reef_project) as project:
        for z in range(5):
            project.ledger.unset_traced(z)
    with pytest.raises(FossilError, match=r"No corrected slice is new.*reviewed or traced: none"):
        teach.run(reef_project, quick())


def test_slices_can_be_pinned_alone(reviewed):
    made = teach.run(reviewed, quick(pin="0-2"))
    assert (made.model, made.slices, made.pinned) == ("", (), (0, 1, 2))
    assert made.verdict.startswith("Nothing was left to learn from")
    with pytest.raises(FossilError, match=r"No corrected slice is new.*pinned: 0-2"):
        teach.run(reviewed, quick())


def test_without_a_pinned_slice_it_trains_and_says_that_nothing_judges(reviewed):
    made = teach.run(reviewed, quick())
    assert made.steps == 1
    assert made.judged is None
    assert "no traced slice is pinned" in made.notes[-1]
    assert (made.advice, made.gain) == (Advice.LOOK, None)
    assert made.verdict.startswith("Nothing judges the new model")


def test_a_taught_model_is_kept_taught_again_and_rolled_back(reviewed):
    with Project.open(reviewed) as project:
        set_in_use(project, "reef-lite")
    first = teach.run(reviewed, quick(model="", slices="1", others=False, name="mine-7"))
    kept = teach.run(reviewed, TeachParams(keep="mine-7"))
    assert kept.summary() == {"model": "mine-7", "state": "kept", "in_use": "mine-7"}
    # Slice 1 is known: 0 and 2 are new, and 1, traced by then, is not forgotten.
    second = teach.run(reviewed, quick(model=""))
    assert (second.model, second.parent) == ("mine-2", "mine-7")
    assert (second.new, second.slices, second.traced) == ((0, 2), (0, 1, 2), (2,))
    scales = [
        read_record(reviewed / "models" / name).preprocessing.scale
        for name in (first.model, second.model)
    ]
    assert scales[0] == scales[1]
    assert teach.decide(reviewed, "mine-2", keep=True).in_use == "mine-2"
    assert teach.decide(reviewed, "mine-2", keep=False).in_use == "mine-7"
    with Project.open(reviewed) as project:
        assert standing(project, "mine-2") == "rolled back"
        assert trained_on(project, find_model(project, "mine-2")) == {0, 1, 2}
        set_in_use(project, "reef-lite")
    assert teach.decide(reviewed, "mine-7", keep=False).in_use == "reef-lite"


def test_an_interrupted_teaching_goes_on_under_its_name(reviewed, monkeypatch):
    stop = []
    job = Job(lambda p: stop.append(p) if isinstance(p, Progress) else None, lambda: bool(stop))
    cancelled = teach.run(reviewed, quick(max_steps=3), job=job)
    assert (cancelled.cancelled, cancelled.steps) == (True, 1)
    assert cancelled.verdict.startswith("Stopped")
    with pytest.raises(FossilError, match="was not trained to its end"):
        teach.decide(reviewed, cancelled.model, keep=True)
    # Killed between training and judging: the next call only judges.
    monkeypatch.setattr(teach, "_judged", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        teach.run(reviewed, quick(max_steps=3))
    assert not (reviewed / "models" / cancelled.model / STATE).exists()
    with pytest.raises(FossilError, match="not judged yet"):
        teach.decide(reviewed, cancelled.model, keep=True)
    monkeypatch.undo()
    done = teach.run(reviewed, quick(max_steps=3))
    assert (done.model, done.steps) == (cancelled.model, 0)
    assert teach.decide(reviewed, done.model, keep=True).in_use == done.model
    # Decided: the same slices make another model only where they are named.
    assert teach.run(reviewed, quick(max_steps=3, slices="1")).model == "reef-lite-3"


def test_an_edit_in_use_is_what_the_training_goes_on_from(reviewed):
    with Project.open(reviewed) as project:
        ref = find_model(project, "reef-lite")
        layers = ref.load(Device.CPU).layers()
        deltas = {name: torch.full_like(layer.weight, 0.01) for name, layer in layers.items()}
        edits.save_edit(project, ref, Edit(deltas), "clean", {})
        set_in_use(project, "clean")
        edited = find_model(project, "clean").load(Device.CPU).layers()
    made = teach.run(reviewed, quick(model="", learning_rate=1e-12))
    assert (made.model, made.parent) == ("clean-2", "clean")
    assert not (reviewed / "models" / "clean-2" / "start").exists()
    with Project.open(reviewed) as project:
        taught = find_model(project, "clean-2").load(Device.CPU).layers()
    for name, layer in edited.items():
        assert torch.allclose(taught[name].weight, layer.weight, atol=1e-6)
    assert teach.decide(reviewed, "clean-2", keep=True).in_use == "clean-2"
    assert teach.decide(reviewed, "clean-2", keep=False).in_use == "clean"


def test_a_damaged_record_is_no_default_and_said(reviewed):
    made = teach.run(reviewed, quick())
    (reviewed / "models" / made.model / TEACHING).write_text('{"parent": 1}')
    with Project.open(reviewed) as project:
        assert standing(project, made.model) == "damaged"
    with pytest.raises(FossilError, match=r"teaching.json is not the record of a taught model"):
        teach.decide(reviewed, made.model, keep=True)


def result(gain, interval, found, *, within=True):
    spread, other = Spread(gain, 0.01, interval), Spread(None, None)
    equal = EqualRecall(
        0.8,
        0.5,
        0.0,
        {},
        {},
        {"iou_all": spread if within else other},
        other if within else spread,
        within,
        (1.0, 1.0),
        (0, 0),
    )
    judged = Judgement((7,), "cup", None, None, (None, None), (), (), ("a", "b"), equal)
    return teach.TeachResult("new", "old", (1,), (1,), (), (), judged=judged, found=found)


@pytest.mark.parametrize(
    ("gain", "interval", "found", "advice"),
    [
        (0.03, (0.01, 0.05), (0.7, 0.7), Advice.KEEP),
        (0.03, (0.01, 0.05), (0.7, 0.6), Advice.LOOK),
        (0.01, (-0.01, 0.05), (0.7, 0.7), Advice.LOOK),
        (0.01, (-0.01, 0.05), (0.7, 0.6), Advice.ROLL_BACK),
        (-0.03, (-0.05, -0.01), (0.7, 0.9), Advice.ROLL_BACK),
    ],
)
@pytest.mark.parametrize("within", [True, False])
def test_the_advice_follows_the_interval_and_the_detections(gain, interval, found, advice, within):
    made = result(gain, interval, found, within=within)
    assert made.advice is advice
    assert f"IoU over all fossils {gain:+.3f}" in made.verdict
    assert ("at equal recall" in made.verdict) is within
