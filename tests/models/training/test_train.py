"""Training: it learns, it is repeatable, it can be stopped, killed and resumed."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.rle import iou_matrix
from napari_fossiledit.models.files.registry import load_model, read_record
from napari_fossiledit.models.network.spec import default_spec
from napari_fossiledit.models.training import train as training
from napari_fossiledit.models.training.loop import Budget, one_cycle
from napari_fossiledit.models.training.sampling import TrainingSlice
from napari_fossiledit.models.training.train import train
from napari_fossiledit.models.training.validation import panoptic_quality
from napari_fossiledit.params.segment import TrainParams
from napari_fossiledit.progress import Job

SHAPE = (128, 128)


@pytest.fixture(scope="module")
def small():
    """A narrow network, so that a step takes a tenth of a second."""
    changes = {"channels": 32, "box_width": 64, "mask_channels": 32, "roi_batch": 32}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "napari_fossiledit.models.training.initial.default_spec",
            lambda *a: default_spec(*a).model_copy(update=changes),
        )
        yield


class Discs:
    """Bright discs on a dark ground, the same on every slice."""

    slices = (0,)
    pixel_size_um = 5.0

    def __init__(self, validation=(1,)):
        self.validation = validation

    def read(self, z):
        random = np.random.default_rng(3)
        image = random.integers(20, 60, SHAPE).astype(np.uint8)
        y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
        masks = [
            (y - cy) ** 2 + (x - cx) ** 2 <= r**2
            for cy, cx, r in ((30, 35, 18), (90, 40, 14), (60, 95, 20))
        ]
        image[np.any(masks, axis=0)] += 150
        return TrainingSlice(image, [Instance(z, "disc", Mask.from_array(m)) for m in masks])


def _params(**changes):
    plain = {
        "classes": ("disc",),
        "max_minutes": 600.0,
        "max_steps": 5,
        "scale": 1.0,
        "crop": 64,
        "batch": 1,
        "device": "cpu",
        "precision": "full",
        "seed": 4,
    }
    return TrainParams(**(plain | changes))


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """A training of five steps that nothing stopped."""
    return train(Discs(), _params(), folder=tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def stopped(small, tmp_path_factory):
    """The same, stopped after three steps."""
    folder = tmp_path_factory.mktemp("stopped")
    return train(Discs(), _params(), folder=folder, job=Job(cancelled=_after(3)))


@pytest.fixture
def part(stopped, tmp_path):
    """A folder with what the stopped one left, to go on in."""
    return shutil.copytree(stopped.curve.parent, tmp_path / "part")


def test_learns_one_slice_by_heart(small, tmp_path):
    reports = []
    result = train(
        Discs(),
        _params(max_steps=60, crop=96, learning_rate=3e-3),
        folder=tmp_path,
        job=Job(reports.append),
    )
    traced = Discs().read(0)
    found = [i for i in load_model(tmp_path, "cpu").predict(traced.image) if i.score > 0.5]
    iou = iou_matrix([i.mask for i in traced.instances], [i.mask for i in found])
    assert (iou.max(axis=1) > 0.7).all()
    assert result.stopped == "steps"
    assert result.score > 0.3
    assert reports[-1].done == reports[-1].total
    assert reports[10].eta_s > 0
    lines = [json.loads(line) for line in result.curve.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 61))
    assert lines[-1]["loss"] < lines[0]["loss"] / 2
    assert sum("validation" in line for line in lines) == 12
    record = read_record(tmp_path)
    assert record.training["slices"] == [0]
    # Of the slice that judged, too.
    assert [len(look) for look in record.training["looks"]] == [9, 9]
    assert record.preprocessing.pixel_size_um == 5.0
    assert not (tmp_path / training.STATE).exists()


def test_same_seed_same_weights_and_another_seed_others(whole, tmp_path):
    same, other = (
        train(Discs(), _params(seed=seed), folder=tmp_path / str(seed)).segmenter.model_hash
        for seed in (4, 2)
    )
    assert same == whole.segmenter.model_hash
    assert other != same


def test_resumed_run_equals_an_uninterrupted_one(whole, stopped, part):
    assert (stopped.stopped, stopped.steps) == ("cancelled", 3)
    assert load_model(part, "cpu").model_hash == stopped.segmenter.model_hash
    rest = train(Discs(), _params(), folder=part, resume=True)
    assert rest.steps == 5
    assert rest.segmenter.model_hash == whole.segmenter.model_hash
    curves = [
        [(v["step"], v["loss"]) for v in map(json.loads, r.curve.read_text().splitlines())]
        for r in (whole, rest)
    ]
    assert curves[0] == curves[1]


def test_resume_refuses_other_parameters_and_broken_files(part):
    with pytest.raises(FossilError, match="expected crop = 96; found crop = 64"):
        train(Discs(), _params(crop=96), folder=part, resume=True)
    state = part / training.STATE
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(FossilError, match=r"training\.safetensors cannot be read.*Delete the file"):
        train(Discs(), _params(), folder=part, resume=True)


def _after(count):
    calls = iter(range(10**6))
    return lambda: next(calls) >= count


def test_cancel_before_the_first_step_keeps_nothing(small, tmp_path):
    with pytest.raises(CancelledError):
        train(Discs(), _params(), folder=tmp_path, job=Job(cancelled=lambda: True))
    assert not (tmp_path / "model.json").exists()


def test_without_validation_slices_a_part_judges(small, tmp_path):
    params = _params(max_steps=2, hold_back=3)
    result = train(Discs(validation=()), params, folder=tmp_path)
    assert 0 <= result.score <= 1
    assert result.held_back > 0


def test_of_few_instances_the_last_average_is_kept_also_after_a_resume(small, tmp_path):
    params = _params(max_steps=5, hold_back=4)
    whole = train(Discs(validation=()), params, folder=tmp_path / "whole")
    assert (whole.score, whole.held_back) == (None, 0)
    part = tmp_path / "part"
    stopped = train(Discs(validation=()), params, folder=part, job=Job(cancelled=_after(3)))
    assert stopped.score is None
    rest = train(Discs(validation=()), params, folder=part, resume=True)
    assert rest.segmenter.model_hash == whole.segmenter.model_hash
    assert rest.segmenter.model_hash != stopped.segmenter.model_hash


def test_diverged_training_says_so(small, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "napari_fossiledit.models.network.heads.fastrcnn_loss",
        lambda logits, *_: (logits.sum() * math.nan, logits.sum() * 0),
    )
    with pytest.raises(FossilError, match=r"diverged at step 0.*loss_classifier is not a number"):
        train(Discs(), _params(), folder=tmp_path)


@pytest.mark.parametrize(
    ("slices", "validation", "classes", "message"),
    [
        ((0,), (), (), "No class to learn"),
        ((), (), ("disc",), "No slice to train on"),
        ((0,), (0,), ("disc",), "both trains and validates"),
    ],
)
def test_bad_input(small, tmp_path, slices, validation, classes, message):
    samples = Discs(validation)
    samples.slices = slices
    with pytest.raises(FossilError, match=message):
        train(samples, _params(classes=classes), folder=tmp_path)


def test_learning_rate_rises_and_falls():
    rates = [one_cycle(share) for share in np.linspace(0, 1, 101)]
    top = int(np.argmax(rates))
    assert 3 < top < 10
    assert rates[top] == pytest.approx(1, abs=0.01)
    assert rates[0] < 0.1
    assert rates[-1] < 0.01
    assert all(a > b for a, b in zip(rates[top:], rates[top + 1 :], strict=False))


def test_budget_ends_by_time_or_steps_and_goes_on_after_a_restart(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("napari_fossiledit.models.training.loop.time.monotonic", lambda: now[0])
    budget = Budget(10, 50.0, _start=100.0)
    assert (budget.share, budget.eta_s) == (0.0, None)
    budget.step, now[0] = 2, 120.0
    assert (budget.share, budget.eta_s) == (0.4, pytest.approx(30.0))
    # Twenty seconds of fifty for two steps: five in all, although ten are allowed.
    report = budget.progress("Training, step", {})
    assert (report.done, report.total) == (2, 5)
    budget.restart(9, 25.0)
    assert budget.share == 0.9
    assert budget.progress("", {}).total == 10
    now[0] = 150.0
    assert budget.share == 1.0


def test_too_few_steps_in_the_time_are_told():
    short, long = Budget(1000, 300.0, step=106), Budget(1000, 300.0, step=400)
    (said,) = training.shortness(short, "time")
    assert said.startswith("5 minutes allowed 106 steps on this computer now; fewer than 250 are")
    assert training.shortness(long, "time") == ()
    # Who asked for few steps, or stopped, knows it.
    assert training.shortness(short, "steps") == training.shortness(short, "cancelled") == ()


def _square(y, x, edge, score=1.0, name="a"):
    mask = np.zeros((60, 60), dtype=bool)
    mask[y : y + edge, x : x + edge] = True
    return Instance(0, name, Mask.from_array(mask), score)


def test_panoptic_quality_by_hand():
    truth = [_square(0, 0, 10), _square(30, 30, 10)]
    found = [_square(0, 0, 10, 0.9), _square(0, 1, 10, 0.8), _square(30, 30, 10, 0.4)]
    # One match of IoU 1, one double, one missed (its score is too low): 1 / (1 + 1/2 + 1/2).
    assert panoptic_quality(truth, found, None) == pytest.approx(0.5)
    ignore = _square(0, 0, 30).mask
    assert panoptic_quality([], [_square(5, 5, 10)], ignore) == 1.0
    assert panoptic_quality(truth[:1], [_square(0, 0, 10, name="b")], None) == 0.0


def test_a_torn_line_of_the_curve_does_not_stop_a_resumed_training(tmp_path):
    path = tmp_path / "curve.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    assert training._curve(path, 2) == ['{"step": 1}', '{"step": 2}']
    assert training._curve(tmp_path / "none", 2) == []


def _precise(monkeypatch, gains):
    monkeypatch.setattr(training, "gains", lambda device: gains)


def test_mixed_precision_learns_alike_where_it_is_faster(whole, tmp_path, monkeypatch):
    _precise(monkeypatch, True)
    mixed = train(Discs(), _params(precision="mixed"), folder=tmp_path)
    losses = [
        [json.loads(line)["loss"] for line in r.curve.read_text().splitlines()]
        for r in (whole, mixed)
    ]
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.2)
    assert whole.segmenter.model_hash != mixed.segmenter.model_hash
    assert "bfloat16" in mixed.notes[-1]
    assert not any("bfloat16" in note for note in whole.notes)
    kept = [read_record(r.curve.parent).training["precision"] for r in (whole, mixed)]
    assert kept == ["full", "mixed"]


def test_mixed_precision_without_a_gain_is_full_and_said(whole, tmp_path, monkeypatch):
    _precise(monkeypatch, False)
    mixed = train(Discs(), _params(precision="mixed"), folder=tmp_path)
    assert mixed.segmenter.model_hash == whole.segmenter.model_hash
    assert "not faster so" in mixed.notes[-1]


def test_a_resumed_training_keeps_its_precision(whole, part, monkeypatch):
    _precise(monkeypatch, True)
    again = train(Discs(), _params(precision="mixed"), folder=part, resume=True)
    assert again.segmenter.model_hash == whole.segmenter.model_hash
    assert "goes on in the precision that it began with: full" in again.notes[-1]
