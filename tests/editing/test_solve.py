"""From pairs of slices to an edit: solvers, joint edits, preservation, cancelling, bad input."""

from __future__ import annotations

import copy
import importlib
from itertools import count

import numpy as np
import psutil
import pytest
import torch
from torch.nn import functional

from napari_fossiledit.editing import direct as direct_module
from napari_fossiledit.editing.direct import Factor, loss, ridge
from napari_fossiledit.editing.examples import Pair, examples_of
from napari_fossiledit.editing.level import Solved
from napari_fossiledit.editing.solve import solve
from napari_fossiledit.editing.system import accumulate
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.params.editing import Pull, SolveParams, Solver
from napari_fossiledit.progress import Job

DIRECT = SolveParams(pull_to=Pull.WEIGHTS)
RIDGE = SolveParams(solver=Solver.RIDGE, pull_to=Pull.WEIGHTS)
ADAM = SolveParams(solver=Solver.ADAM, adam_steps=30, learning_rate=1e-2)
SOLVERS = pytest.mark.parametrize("params", [DIRECT, RIDGE, ADAM], ids=lambda p: p.solver)


@pytest.fixture(scope="session")
def pairs(slices):
    return [Pair(*images) for images in slices]


@SOLVERS
def test_model_comes_to_see_the_perturbed_slice(segmenter, pairs, params):
    before = copy.deepcopy(segmenter.network.state_dict())
    found = solve(segmenter, pairs[:1], params)
    edited = found.edit.apply(segmenter)
    names = tuple(segmenter.layers())
    examples = examples_of(segmenter, pairs[0])
    seen = edited.capture(pairs[0].original)
    for name, example, level in zip(names, examples, seen, strict=True):
        off = float((level.value - example.target).abs().mean())
        assert found.after[name] == pytest.approx(off, rel=1e-3)
        assert found.before[name] == pytest.approx(loss([example], None), rel=1e-5)
        assert found.after[name] < found.before[name]
        assert found.curves[name][0] == (0, pytest.approx(found.before[name], rel=1e-5))
        assert found.curves[name][-1][1] < found.before[name]
    assert not found.cancelled
    assert found.preservation == {}
    assert found.drift == found.edit.drift(segmenter)
    for name, tensor in segmenter.network.state_dict().items():
        assert torch.equal(tensor, before[name])


@SOLVERS
def test_two_runs_are_bit_identical(segmenter, pairs, params):
    first, second = (solve(segmenter, pairs[:2], params) for _ in range(2))
    assert all(torch.equal(d, second.edit.deltas[n]) for n, d in first.edit.deltas.items())


def test_joint_edit_is_solved_from_summed_grams(segmenter, pairs):
    found = solve(segmenter, pairs, RIDGE)
    levels = [examples_of(segmenter, pair) for pair in pairs]
    for n, name in enumerate(segmenter.layers()):
        systems = [accumulate([level[n]], 8, 8, 512) for level in levels]
        gram = sum(s.gram for s in systems[1:]) + systems[0].gram
        cross = sum(s.cross for s in systems[1:]) + systems[0].cross
        factor = Factor.of(gram, torch.eye(72, dtype=torch.float64), RIDGE.pull)
        systems[0].cross = cross
        torch.testing.assert_close(
            found.edit.deltas[name], ridge(systems[0], factor), rtol=1e-3, atol=1e-5
        )


def test_slices_of_one_edit_may_differ_in_size(segmenter, pairs):
    small = Pair(pairs[1].original[:40, :70], pairs[1].perturbed[:40, :70])
    found = solve(segmenter, [pairs[0], small], DIRECT)
    assert all(found.after[n] < found.before[n] for n in found.before)


def test_direct_has_less_deviation_than_ridge_for_the_same_pull(segmenter, pairs):
    """Its objective is the deviation itself."""
    ridged, direct = (solve(segmenter, pairs[:1], p) for p in (RIDGE, DIRECT))
    for name, drift in direct.drift.items():
        if drift <= ridged.drift[name]:
            continue
        assert direct.after[name] < ridged.after[name]


@SOLVERS
def test_levels_that_were_not_asked_for_stay(segmenter, pairs, params):
    found = solve(segmenter, pairs[:1], params.model_copy(update={"levels": "1,3"}))
    names = tuple(segmenter.layers())
    assert list(found.edit.deltas) == list(found.curves) == [names[1], names[3]]


@SOLVERS
def test_rank_limits_the_directions(segmenter, pairs, params):
    found = solve(segmenter, pairs[:1], params.model_copy(update={"rank": 2}))
    for name, delta in found.edit.deltas.items():
        directions = delta.permute(0, 2, 3, 1).reshape(-1, 8)
        assert torch.linalg.matrix_rank(directions, rtol=1e-4) == 2
        assert found.after[name] < found.before[name]


def test_loss_of_a_masked_edit_is_that_of_the_mask(segmenter, slices):
    mask = np.zeros((80, 112), bool)
    mask[:, 56:] = True
    pair = Pair(*slices[0], None, mask)
    found = solve(segmenter, [pair], DIRECT)
    for name, example in zip(segmenter.layers(), examples_of(segmenter, pair), strict=True):
        off = example.residual - functional.conv2d(example.key, found.edit.deltas[name], padding=1)
        inside = (off.abs() * example.weight).mean()
        assert found.after[name] == pytest.approx(float(inside), rel=1e-3, abs=1e-6)
        assert not example.weight[..., : example.weight.shape[-1] // 3].any()


def test_heavy_positions_are_fitted_better(segmenter, slices):
    weight = np.ones((80, 112), np.float32)
    weight[:, :56] = 100
    plain, heavy = (
        solve(segmenter, [Pair(*slices[0], w)], DIRECT).edit.deltas for w in (None, weight)
    )
    name, example = next(iter(segmenter.layers())), examples_of(segmenter, Pair(*slices[0]))[0]

    def deviation(delta):
        off = example.residual - functional.conv2d(example.key, delta, padding=1)
        return float(off[..., :12].abs().mean())

    assert deviation(heavy[name]) < deviation(plain[name])


# ------------------------------------------------------------------ preservation


def root_mean_square_change(segmenter, edit, images):
    """Change of the output on slices, by capturing both models."""
    edited = edit.apply(segmenter)
    shares = {}
    for n, name in enumerate(segmenter.layers()):
        old = torch.cat([segmenter.capture(i)[n].value.flatten() for i in images]).double()
        new = torch.cat([edited.capture(i)[n].value.flatten() for i in images]).double()
        shares[name] = float((new - old).norm() / old.norm())
    return shares


@pytest.mark.parametrize(
    "params",
    [SolveParams(), SolveParams(solver=Solver.RIDGE), DIRECT, ADAM],
    ids=lambda p: f"{p.solver}-{p.pull_to}",
)
def test_change_of_preserved_slices_is_told(segmenter, pairs, slices, params):
    preserve = [slices[1][0], slices[2][0][:60]]
    found = solve(segmenter, pairs[:1], params, preserve=preserve)
    expected = root_mean_square_change(segmenter, found.edit, preserve)
    assert found.preservation == pytest.approx(expected, rel=1e-3, abs=3e-5)


def test_pull_to_output_preserves_better_at_equal_loss(segmenter, pairs):
    """A slice without structure is kept; the other is edited."""
    quiet = np.full((80, 112, 3), 200, np.uint8)
    at = {}
    for pull_to in Pull:
        for pull in (0.01, 0.1, 1.0, 10.0):
            params = RIDGE.model_copy(update={"pull_to": pull_to, "pull": pull, "levels": "0"})
            found = solve(segmenter, pairs[:1], params, preserve=[quiet])
            (after,), (change,) = found.after.values(), found.preservation.values()
            at.setdefault(pull_to, []).append((after, change))
    held = np.array(sorted(at[Pull.OUTPUT]))
    for after, change in at[Pull.WEIGHTS]:
        if held[0, 0] <= after <= held[-1, 0]:
            assert np.interp(after, held[:, 0], held[:, 1]) < change


def test_preserved_slices_are_needed_for_the_pull(segmenter, pairs):
    with pytest.raises(FossilError, match=r"no slice whose output could be preserved.*hold to the"):
        solve(segmenter, pairs[:1], SolveParams())
    found = solve(segmenter, pairs[:1], SolveParams(pull=0.0))
    assert all(delta.isfinite().all() for delta in found.edit.deltas.values())


# ------------------------------------------------------------------ bad input


def test_no_pair_is_refused(segmenter):
    with pytest.raises(FossilError, match="No slice to edit with"):
        solve(segmenter, [], DIRECT)


@pytest.mark.parametrize("levels", ["4", "0-7", "fine", ""])
def test_levels_that_do_not_exist_are_refused(segmenter, pairs, levels):
    with pytest.raises(FossilError, match=r"levels of the edit.*from 0 to 3"):
        solve(segmenter, pairs[:1], DIRECT.model_copy(update={"levels": levels}))


@pytest.mark.parametrize("where", ["edit", "preserve"])
def test_keys_that_are_no_numbers_are_refused(segmenter, pairs, slices, where):
    damaged = MaskRcnnSegmenter(copy.deepcopy(segmenter.network), segmenter.preprocessing)
    damaged.network.backbone.fpn.inner_blocks[0][0].bias.data[0] = float("nan")
    preserve = [slices[1][0]] if where == "preserve" else []
    with pytest.raises(FossilError, match=r"keys of .*layer_blocks\.0.*NaN"):
        solve(damaged, pairs[:1], SolveParams(pull=0.0), preserve=preserve)


def test_edit_that_would_not_fit_is_refused_before_it_starts(segmenter, pairs, monkeypatch):
    memory = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(FossilError, match=r"memory does not suffice for an edit of 2 slices.*GB"):
        solve(segmenter, pairs[:2], DIRECT)


def test_memory_that_runs_out_later_is_told(segmenter, pairs, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(direct_module, "_adjoint", fail)
    with pytest.raises(FossilError, match="memory does not suffice for this edit"):
        solve(segmenter, pairs[:1], DIRECT)


# ------------------------------------------------------------------ progress and cancelling


@SOLVERS
def test_progress_only_grows(segmenter, pairs, slices, params):
    told = []
    solve(segmenter, pairs[:2], params, preserve=[slices[2][0]], job=Job(told.append))
    assert all(p.total == 1000 for p in told)
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert any("GB of memory" in p.message for p in told)
    if params.solver is not Solver.RIDGE:
        steps = [p for p in told if "loss" in p.values]
        assert {p.values["level"] for p in steps} == {0.0, 1.0, 2.0, 3.0}
        assert all(p.eta_s >= 0 for p in steps)


def cancelled_after(calls):
    counter = count()
    return lambda: next(counter) >= calls


def calls_of(segmenter, pairs, preserve, params):
    counter = count()
    solve(segmenter, pairs, params, preserve=preserve, job=Job(cancelled=lambda: next(counter) < 0))
    return next(counter)


CANCELLED = [p.model_copy(update={"levels": "1,2"}) for p in (DIRECT, RIDGE, ADAM)]
CANCELLED.append(SolveParams(levels="1,2"))


@pytest.mark.parametrize("params", CANCELLED, ids=lambda p: f"{p.solver}-{p.pull_to}")
def test_cancelled_at_any_moment_leaves_nothing(segmenter, pairs, slices, params):
    preserve = [slices[2][0]]
    total = calls_of(segmenter, pairs[:1], preserve, params)
    for calls in sorted({0, 1, 2, 3, total // 2, total - 2, total - 1}):
        with pytest.raises(CancelledError):
            solve(
                segmenter,
                pairs[:1],
                params,
                preserve=preserve,
                job=Job(cancelled=cancelled_after(calls)),
            )


@pytest.mark.parametrize("params", CANCELLED, ids=lambda p: f"{p.solver}-{p.pull_to}")
def test_cancelled_keeps_the_best_where_asked(segmenter, pairs, slices, params):
    """First nothing is there to keep; from then on every moment leaves a sound edit."""
    preserve, params = [slices[2][0]], params.model_copy(update={"keep_partial": True})
    total = calls_of(segmenter, pairs[:1], preserve, params)
    kept = []
    for calls in sorted({*range(0, total, max(1, total // 8)), total - 1}):
        try:
            found = solve(
                segmenter,
                pairs[:1],
                params,
                preserve=preserve,
                job=Job(cancelled=cancelled_after(calls)),
            )
        except CancelledError:
            kept.append(0)
            continue
        assert found.cancelled
        assert found.edit.deltas.keys() == found.before.keys() == found.after.keys()
        assert all(found.after[n] <= found.before[n] for n in found.before)
        found.edit.apply(segmenter)
        kept.append(len(found.edit.deltas))
    assert kept[0] == 0
    assert kept == sorted(kept)
    assert kept[-1] == 2


def test_best_iterate_is_kept_not_the_start(segmenter, pairs):
    params = DIRECT.model_copy(update={"levels": "0", "keep_partial": True})
    total = calls_of(segmenter, pairs[:1], [], params)
    early, late = (
        solve(segmenter, pairs[:1], params, job=Job(cancelled=cancelled_after(calls)))
        for calls in (total - 6, total - 1)
    )
    (first,), (second,) = (list(f.edit.deltas.values()) for f in (early, late))
    assert early.cancelled
    assert late.cancelled
    assert not torch.equal(first, second)


def test_weights_that_ran_away_are_refused(segmenter, pairs, monkeypatch):
    def ran_away(layer, *_):
        return Solved(torch.full_like(layer.weight, float("nan")), 1.0, float("nan"), [])

    module = importlib.import_module("napari_fossiledit.editing.solve")
    monkeypatch.setattr(module, "solve_level", ran_away)
    with pytest.raises(FossilError, match=r"layer_blocks\.0\.0 diverged.*smaller learning rate"):
        solve(segmenter, pairs[:1], ADAM)
