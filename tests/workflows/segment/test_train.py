"""Training in a project: what is learned, what is left out, names that are taken."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import Region
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.models.files.registry import read_record
from napari_fossiledit.params.segment import Device, PredictParams, TrainParams
from napari_fossiledit.progress import Job
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.segment import predict, train
from napari_fossiledit.workflows.shared.ground_truth import ProjectSamples, read_ground_truth


def quick(**values):
    fixed = {"name": "quick", "slices": "0,2", "max_steps": 2, "crop": 64, "batch": 1}
    return TrainParams(device=Device.CPU, **{**fixed, **values})


def test_a_model_is_trained_recorded_and_predicts(reef_project, blank_model):
    reports = []
    made = train.run(reef_project, quick(init=blank_model, hold_back=0), job=Job(reports.append))
    assert made.steps == 2
    assert {"loss", "loss_mask"} <= set(reports[-1].values)
    assert (reports[-1].done, reports[-1].total) == (2, 2)
    assert made.summary()["held_back_instances"] > 0
    assert made.notes[-1].startswith("Slices 1,3-4 are traced, and the model did not learn")
    with Project.open(reef_project) as project:
        assert project.models() == [blank_model, "quick"]
        (run,) = [r for r in project.ledger.runs() if r.kind == "train"]
        assert run.params["slices"] == "0,2"
        assert run.summary["steps"] == 2
    found = predict.run(reef_project, PredictParams(model="quick", slices="1", device=Device.CPU))
    assert found.predicted == (1,)


def test_a_finished_model_is_not_overwritten(reef_project, blank_model):
    train.run(reef_project, quick(init=blank_model, max_steps=1))
    with pytest.raises(FossilError, match="has a model 'quick' already"):
        train.run(reef_project, quick(init=blank_model, max_steps=1))


def test_one_name_is_trained_by_one_process(reef_project, blank_model):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from napari_fossiledit.project import Project\n"
        "with Project.open(Path(sys.argv[1])) as p, p.training('quick'):\n"
        "    print('locked', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(reef_project)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(FossilError, match=r"'quick' of .* is being trained by another process"):
            train.run(reef_project, quick(init=blank_model, max_steps=1))
        other.kill()
    # A process that was killed keeps nothing.
    assert train.run(reef_project, quick(init=blank_model, max_steps=1)).steps == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slices": "0-9"}, "not in the stack"),
        (
            {"classes": ("brachiopod",)},
            r"nothing to learn.*expected traced instances of brachiopod",
        ),
        ({"region": "500:600"}, "region lies outside the traced area"),
        ({"name": "../out"}, "leads out of"),
        ({"init": "no/such.pth"}, "no model 'no/such.pth'"),
    ],
)
def test_impossible_trainings_are_refused(reef_project, values, message):
    with pytest.raises(FossilError, match=message):
        train.run(reef_project, quick(**values))
    with Project.open(reef_project) as project:
        assert project.models() == []


def test_an_untraced_slice_is_refused(reef_project):
    with Project.open(reef_project) as project:
        project.ledger.unset_traced(2)
    with pytest.raises(FossilError, match=r"Slice 2 is not traced; expected one of .*0-1,3-4"):
        train.run(reef_project, quick())


def test_region_and_traced_area_are_cut_together(reef_project):
    area = np.zeros((96, 128), dtype=bool)
    area[:, :100] = True
    with Project.open(reef_project) as project:
        project.ledger.set_traced(1, Mask.from_array(area))
        cup = Mask.from_crop(np.ones((9, 9), dtype=bool), (3, 70), (96, 128))
        project.ledger.store(ANNOTATIONS, 1, [Instance(1, "archaeocyathid", cup)])
        truth = read_ground_truth(project, 1, Region.parse("60:"))
        counted = truth.area.to_array()
        assert counted[:, 60:100].all()
        assert counted.sum() == 96 * 40
        samples = ProjectSamples(project, [1], [], ("archaeocyathid",), Region.parse("60:"))
        assert (samples.read(1).ignore == ~counted).all()


def test_unsure_instances_alone_teach_nothing(reef_project):
    mask = Mask.from_crop(np.ones((9, 9), dtype=bool), (3, 3), (96, 128))
    with Project.open(reef_project) as project:
        project.ledger.store(ANNOTATIONS, 4, [Instance(4, "archaeocyathid", mask, unsure=True)])
        with pytest.raises(FossilError, match="nothing to learn"):
            ProjectSamples(project, [4], [], ("archaeocyathid",))


def test_instances_outside_the_region_teach_nothing(reef_project):
    mask = Mask.from_crop(np.ones((9, 9), dtype=bool), (3, 3), (96, 128))
    with Project.open(reef_project) as project:
        project.ledger.store(ANNOTATIONS, 4, [Instance(4, "archaeocyathid", mask)])
        ProjectSamples(project, [4], [], ("archaeocyathid",), Region.parse("5:"))
        with pytest.raises(FossilError, match="nothing to learn"):
            ProjectSamples(project, [4], [], ("archaeocyathid",), Region.parse("12:"))


def test_pinned_slices_are_not_trained_on_unless_named(reef_project, blank_model):
    with Project.open(reef_project) as project:
        project.update(pinned_slices=(1, 2))
    made = train.run(reef_project, quick(init=blank_model, slices="", max_steps=1))
    assert made.slices == (0, 3, 4)
    assert not any("calibrating" in note for note in made.notes)


@pytest.mark.parametrize(
    ("init", "recorded", "told"),
    [
        ("", "reef-lite", "go on from those of the classes of reef-lite, in order"),
        ("reef-lite", "reef-lite", "go on from those of the classes of reef-lite, in order"),
        ("imagenet", "", "The backbone starts from ImageNet, all else from chance."),
    ],
)
def test_what_a_training_starts_from_is_told_and_recorded(reef_project, init, recorded, told):
    made = train.run(reef_project, quick(max_steps=1, init=init))
    assert told in made.notes[0]
    with Project.open(reef_project) as project:
        (run,) = [r for r in project.ledger.runs() if r.kind == "train"]
    assert Path(run.params["init"]).name == recorded
    record = read_record(made.folder).training
    assert Path(record["init"]).name == recorded
    assert told in record["start"][0]


def test_few_instances_are_all_learned_and_nothing_is_said_to_judge(reef_project, blank_model):
    made = train.run(reef_project, quick(init=blank_model))
    assert (made.held_back, made.summary()["validation_score"]) == (0, None)
    assert "all are learned and none is held back to judge (--hold-back)" in " ".join(made.notes)
    assert read_record(made.folder).training["score"] is None
    other = train.run(reef_project, quick(init=blank_model, name="judged", validation="1"))
    assert other.held_back > 0
    assert other.score >= 0
