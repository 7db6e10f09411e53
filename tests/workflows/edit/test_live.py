"""An edit at any strength without storing anything."""

import threading

import pytest
import torch

from napari_fossiledit.editing.edit import Edit
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.masks import cut_at
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.params.segment import Device, PredictParams
from napari_fossiledit.progress import Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.edit import live
from napari_fossiledit.workflows.edit.decide import save_edit
from napari_fossiledit.workflows.segment import predict
from napari_fossiledit.workflows.shared.model_refs import find_model


@pytest.fixture(autouse=True)
def _fresh_bench(monkeypatch):
    """A model that knows nothing finds as much as it may: five instances are enough."""
    whole = MaskRcnnSegmenter.predict

    def few(segmenter, image, **options):
        return whole(segmenter, image, **{**options, "max_detections": 5})

    monkeypatch.setattr(MaskRcnnSegmenter, "predict", few)
    live._bench.clear()
    yield
    live._bench.clear()


@pytest.fixture
def edited(reef_project, blank_model):
    """Name of an edit of the blank model: small random deltas on all levels."""
    with Project.open(reef_project) as project:
        ref = find_model(project, blank_model)
        segmenter = ref.load(Device.CPU)
        draw = torch.Generator().manual_seed(1)
        deltas = {
            name: 0.2
            * torch.randn(layer.weight.shape, generator=draw)
            * layer.weight.detach().std()
            for name, layer in segmenter.layers().items()
        }
        save_edit(project, ref, Edit(deltas), "shaken", {})
    return "shaken"


def masks(instances):
    return [(i.class_name, i.score, i.mask) for i in instances]


def test_full_strength_is_what_predicting_with_the_edit_finds(reef_project, edited):
    found = live.predicted(reef_project, edited, 1.0, 1, device=Device.CPU)
    stored = predict.run(
        reef_project, PredictParams(model=edited, slices="1", max_detections=5, device=Device.CPU)
    )
    with Project.open(reef_project) as project:
        expected = project.instances(stored.source, 1)
    assert masks(found.instances) == masks(expected)


def test_strength_zero_is_the_parent_to_the_bit(reef_project, blank_model, edited):
    live.predicted(reef_project, edited, 0.7, 1, device=Device.CPU)
    found = live.predicted(reef_project, edited, 0.0, 1, device=Device.CPU)
    with Project.open(reef_project) as project:
        parent = find_model(project, blank_model).load(Device.CPU)
        pixel_size = project.geometry.pixel_size_um
        expected = parent.predict(
            project.stack.read(1), slice_index=1, pixel_size_um=pixel_size, max_detections=5
        )
    assert masks(found.instances) == masks(expected)


def test_both_sides_are_cut_where_asked(reef_project, edited):
    options = {"score": 0.0, "device": Device.CPU}
    plain, cut = (
        live.compared(reef_project, edited, 0.5, 1, mask_cut=at, **options) for at in (0.5, 0.45)
    )
    for half, wide in ((plain.before, cut.before), (plain.after, cut.after)):
        expected = {(i.score, i.mask) for i in cut_at(half, 0.45, "")}
        assert expected <= {(i.score, i.mask) for i in wide}
        assert sum(i.mask.area for i in wide) > sum(i.mask.area for i in half) > 0


def test_another_strength_loads_nothing_again(reef_project, edited, monkeypatch):
    live.predicted(reef_project, edited, 0.5, 1, device=Device.CPU)
    monkeypatch.setattr(Edit, "from_bytes", lambda *_: pytest.fail("the edit was read again"))
    made = live.predicted(reef_project, edited, 0.6, 1, device=Device.CPU)
    assert 0 < made.apply_s < 5
    (held,) = live._bench.values()
    assert held.strength == 0.6


def test_an_edit_of_the_same_name_is_not_taken_for_the_old_one(reef_project, edited):
    live.predicted(reef_project, edited, 0.5, 1, device=Device.CPU)
    with Project.open(reef_project) as project:
        old = project.edits.read(edited)
        place = project.edits.place(edited)
        for file in place.iterdir():
            file.unlink()
        place.rmdir()
        (name,) = list(next(iter(live._bench.values())).edit.deltas)[:1]
        delta = Edit({name: torch.zeros(32, 32, 3, 3)}).to_bytes()
        fields = old.model_dump() | {"result_hash": old.parent_hash}
        project.edits.save(type(old).model_validate(fields), delta)
    live.predicted(reef_project, edited, 0.5, 1, device=Device.CPU)
    (held,) = live._bench.values()
    assert len(held.edit.deltas) == 1


def test_before_and_after_are_paired_by_id(reef_project, edited):
    made = live.compared(reef_project, edited, 0.0, 1, score=0.0, device=Device.CPU)
    assert masks(made.before) == masks(made.after)
    assert [i.id for i in made.before] == [i.id for i in made.after]
    assert (made.gained, made.lost) == (0, 0)
    other = live.compared(reef_project, edited, 1.0, 1, score=0.0, device=Device.CPU)
    before, after = ({i.id for i in side} for side in (other.before, other.after))
    assert len(before - after) == other.lost
    assert len(after - before) == other.gained
    assert len(other.before) + len(other.after) == len(before) + len(after)


def test_the_curve_judges_pinned_slices_at_each_strength(reef_project, edited):
    with Project.open(reef_project) as project:
        project.update(pinned_slices=(2, 3))
    reports = []
    made = live.curve(reef_project, edited, (1.0, 0.0), device=Device.CPU, job=Job(reports.append))
    assert made.slices == (2, 3)
    assert [p.strength for p in made.points] == [0.0, 1.0]
    assert made.truths > 0
    assert all(0 <= p.matched <= made.truths for p in made.points)
    assert all(p.recall_all <= p.recall for p in made.points if p.recall is not None)
    assert reports[-1].done == reports[-1].total == 4
    assert made.summary()["slices"] == "2-3"


def test_without_pinned_slices_the_curve_says_what_to_do(reef_project, edited):
    with pytest.raises(FossilError, match="or pin some"):
        live.curve(reef_project, edited, device=Device.CPU)


@pytest.mark.parametrize("strengths", [(), (0.5, 10.5), (float("nan"),), (-11,)])
def test_impossible_strengths_are_refused(reef_project, edited, strengths):
    with pytest.raises(FossilError, match="The strengths cannot be used"):
        live.curve(reef_project, edited, strengths, slices="2", device=Device.CPU)
    for strength in strengths:
        if abs(strength) <= 10:
            continue
        with pytest.raises(FossilError, match="from -10 to 10"):
            live.predicted(reef_project, edited, strength, 1, device=Device.CPU)


def test_an_unknown_edit_is_named(reef_project):
    with pytest.raises(FossilError, match="no edit 'gone'"):
        live.predicted(reef_project, "gone", 0.5, 1)


def test_a_parent_that_was_replaced_is_refused(reef_project, edited, blank_model, blank_segmenter):
    from napari_fossiledit.models.files.registry import save_model

    with Project.open(reef_project) as project:
        folder = project.model_folder(blank_model)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        save_model(blank_segmenter(seed=5), folder)
    with pytest.raises(FossilError, match="made from another 'blank'"):
        live.predicted(reef_project, edited, 1.0, 1, device=Device.CPU)


def test_cancel_stops_between_strengths(reef_project, edited):
    with Project.open(reef_project) as project:
        project.update(pinned_slices=(2,))
    stop = threading.Event()
    with pytest.raises(CancelledError):
        live.curve(
            reef_project,
            edited,
            device=Device.CPU,
            job=Job(lambda p: p.done and stop.set(), stop.is_set),
        )
