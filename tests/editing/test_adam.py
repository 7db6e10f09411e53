"""Adam against a plain loop that was written from the paper's section 4.2 alone."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from napari_fossiledit.editing import adam as module
from napari_fossiledit.editing.adam import descend
from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.editing import SolveParams
from napari_fossiledit.progress import Job


def plain_loop(examples, weight, bias, steps, rate):
    """Train a convolution layer by hand: bias frozen, mean absolute error of all slices."""
    layer = torch.nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
    layer.weight.data.copy_(weight)
    layer.bias.data.copy_(bias)
    optimiser = torch.optim.Adam([layer.weight], lr=rate)
    losses = []
    for _ in range(steps):
        off = torch.cat([(layer(e.key) - e.target).flatten() for e in examples])
        mean = functional.l1_loss(off, torch.zeros_like(off))
        layer.zero_grad()
        mean.backward()
        optimiser.step()
        losses.append(float(mean.detach()))
    return layer.weight.detach(), losses


@pytest.mark.parametrize("sizes", [((9, 13),), ((9, 13), (6, 5), (4, 4))])
def test_equals_a_plain_loop(problem, sizes):
    made = problem(sizes)
    params = SolveParams(adam_steps=300, learning_rate=1e-3)
    found = descend(made.examples, made.weight, made.bias, params)
    weight, losses = plain_loop(made.examples, made.weight, made.bias, 300, 1e-3)
    torch.testing.assert_close(found.weight, weight, rtol=0, atol=1e-6)
    steps = [step for step, _ in found.curve]
    assert [loss for _, loss in found.curve] == pytest.approx([losses[s] for s in steps], abs=1e-6)
    assert found.curve[-1][1] < 0.8 * found.curve[0][1]


@pytest.mark.parametrize("batch", [0, 20])
def test_two_runs_are_bit_identical(problem, batch):
    made = problem(((9, 13), (6, 5)), weighted=True)
    params = SolveParams(adam_steps=50, batch=batch, seed=3)
    first, second = (descend(made.examples, made.weight, made.bias, params) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert first.curve == second.curve


def test_seed_changes_the_batches(problem):
    made = problem()
    one, other = (
        descend(made.examples, made.weight, made.bias, SolveParams(adam_steps=9, batch=20, seed=s))
        for s in (0, 1)
    )
    assert not torch.equal(one.weight, other.weight)


def test_batches_approach_the_whole(problem):
    """The loss of a batch is that of its positions: large batches come close to all."""
    made = problem(((20, 20), (20, 10)), weighted=True)
    params = SolveParams(adam_steps=1)
    whole = descend(made.examples, made.weight, made.bias, params).curve[0][1]
    many = params.model_copy(update={"batch": 20000})
    batch = descend(made.examples, made.weight, made.bias, many).curve[0][1]
    assert batch == pytest.approx(whole, rel=0.05)


def test_weights_count(problem):
    """A position of weight 0 has no say."""
    made = problem(weighted=True)
    example = made.examples[0]
    example.weight[..., :6] = 0
    example.target[..., :6] += 100
    params = SolveParams(adam_steps=30, learning_rate=1e-2)
    found = descend([example], made.weight, made.bias, params).weight
    example.target[..., :6] -= 300
    assert torch.equal(descend([example], made.weight, made.bias, params).weight, found)


def test_parent_weight_is_left_as_it_is(problem):
    made = problem()
    before = made.weight.clone()
    descend(made.examples, made.weight, made.bias, SolveParams(adam_steps=3))
    assert torch.equal(made.weight, before)


def _bands_above(limit, monkeypatch):
    """Let bands of more than `limit` rows run out of memory."""
    plain, rows = module._Objective._band_loss, []

    def band(self, example, weight, first):
        rows.append(self._rows)
        if self._rows > limit:
            raise RuntimeError("DefaultCPUAllocator: not enough memory")
        return plain(self, example, weight, first)

    monkeypatch.setattr(module._Objective, "_band_loss", band)
    return rows


def test_out_of_memory_is_answered_with_bands(problem, monkeypatch):
    made = problem(((9, 13), (16, 5)), weighted=True)
    params = SolveParams(adam_steps=20, learning_rate=1e-3)
    whole = descend(made.examples, made.weight, made.bias, params)
    rows = _bands_above(2, monkeypatch)
    found = descend(made.examples, made.weight, made.bias, params)
    assert sorted(set(rows), reverse=True) == [16, 8, 4, 2]
    torch.testing.assert_close(found.weight, whole.weight, rtol=0, atol=1e-5)


def test_a_row_that_does_not_fit_is_told(problem, monkeypatch):
    _bands_above(0, monkeypatch)
    made = problem()
    with pytest.raises(FossilError, match="a row of positions"):
        descend(made.examples, made.weight, made.bias, SolveParams(adam_steps=1))


def test_cancelled_gives_the_best_so_far(problem):
    made = problem()
    params = SolveParams(adam_steps=1000, learning_rate=0.3)
    calls = iter(range(1000))
    found = descend(
        made.examples, made.weight, made.bias, params, job=Job(cancelled=lambda: next(calls) >= 40)
    )
    assert found.cancelled
    assert len(found.curve) == 20
    best = min(loss for _, loss in found.curve)
    off = functional.conv2d(made.examples[0].key, found.weight, made.bias, padding=1)
    assert float((off - made.examples[0].target).abs().mean()) <= best + 1e-6
