"""Ridge against least squares, least absolute deviations against linear programming."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch.nn import functional

from napari_fossiledit.editing.direct import (
    Factor,
    LeastDeviations,
    loss,
    ridge,
)
from napari_fossiledit.editing.examples import Example, residual_alone
from napari_fossiledit.editing.system import accumulate, flattened
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.params.editing import SolveParams
from napari_fossiledit.progress import Job

ITERATIONS = SolveParams().iterations


def summed(made):
    return accumulate(made.examples, 3, 2, 4096)


def eye(size=27):
    return torch.eye(size, dtype=torch.float64)


def least_deviations(examples, factor, start, iterations, **hooks):
    """Iterate and keep the best: the edit and the loss at each iteration."""
    solver = LeastDeviations(examples, factor, start)
    solver.run(iterations, **hooks)
    return solver.best, solver.curve


# ------------------------------------------------------------------ ridge


@pytest.mark.parametrize("pull", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_is_least_squares_with_the_pull_as_rows(problem, keep, pull, weighted):
    made = problem(((9, 13), (6, 7)), weighted=weighted)
    system = summed(made)
    factor = Factor.of(system.gram, keep(27), pull)
    a, r, w = made.unfolded
    # C comes with the trace of A'wA.
    c = keep(27).numpy() * (np.sum(w[:, None] * a * a) / float(keep(27).trace()))
    rows = np.concatenate([a * np.sqrt(w)[:, None], np.sqrt(pull) * np.linalg.cholesky(c).T])
    right = np.concatenate([r * np.sqrt(w)[:, None], np.zeros((27, 2))])
    expected = np.linalg.lstsq(rows, right, rcond=None)[0]
    np.testing.assert_allclose(flattened(ridge(system, factor)), expected, atol=2e-5)


def test_ridge_finds_an_edit_that_exists(problem):
    made = problem(((20, 20),), noise=0.0)
    system = summed(made)
    found = ridge(system, Factor.of(system.gram, eye(), 0.0))
    assert loss(made.examples, found) < 1e-4 * loss(made.examples, None)


def test_ridge_is_bit_reproducible(problem):
    system = summed(problem())
    first, second = (ridge(system, Factor.of(system.gram, eye(), 0.1)) for _ in range(2))
    assert torch.equal(first, second)


def test_drift_falls_and_loss_grows_with_the_pull(problem):
    made = problem()
    system = summed(made)
    pulls = (1e-3, 0.1, 1.0, 10.0)
    found = [ridge(system, Factor.of(system.gram, eye(), pull)) for pull in pulls]
    a, r, _ = made.unfolded
    squares = [float(((a @ flattened(f).double().numpy() - r) ** 2).mean()) for f in found]
    sizes = [float(f.norm()) for f in found]
    assert sizes == sorted(sizes, reverse=True)
    assert squares == sorted(squares)
    assert squares[-1] < (r**2).mean()


def test_pull_holds_what_it_is_told_to(problem):
    """An edit that is held to unchanged output of some keys changes their output less."""
    made, quiet = problem(((12, 12),)), problem(((12, 12),), inputs=3)
    quiet.examples[0].key[:, 1:] = 0
    system = summed(made)
    known = accumulate(quiet.examples, 3, 2, 4096).gram
    change = [
        float(functional.conv2d(quiet.examples[0].key, delta, padding=1).abs().mean())
        for delta in (ridge(system, Factor.of(system.gram, c, 0.5)) for c in (known, eye()))
    ]
    assert change[0] < 0.7 * change[1]


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e12])
def test_keys_of_any_size_are_solved(problem, scale):
    """Dead layers among them: no edit can do anything, and none is made."""
    made = problem()
    made.examples[0] = replace(made.examples[0], key=made.examples[0].key * scale)
    system = summed(made)
    found = ridge(system, Factor.of(system.gram, eye(), 0.1))
    assert found.isfinite().all()


def test_keys_that_overflow_are_refused(problem):
    made = problem()
    made.examples[0] = replace(made.examples[0], key=made.examples[0].key * 1e30)
    with pytest.raises(FossilError, match="keys of the edit cannot be used"):
        Factor.of(summed(made).gram, eye(), 0.1)


# ------------------------------------------------------------------ loss


def test_loss_is_the_weighted_mean_deviation(problem):
    made = problem(((9, 13), (6, 7)), weighted=True)
    a, r, w = made.unfolded
    delta = torch.randn(2, 3, 3, 3)
    off = np.abs(a @ flattened(delta).double().numpy() - r) * w[:, None]
    assert loss(made.examples, delta) == pytest.approx(off.mean(), rel=1e-5)
    assert loss(made.examples, None) == pytest.approx((np.abs(r) * w[:, None]).mean(), rel=1e-5)


def test_residual_alone_is_the_same_problem(problem):
    made = problem(weighted=True)
    alone = [residual_alone(e) for e in made.examples]
    delta = torch.randn(2, 3, 3, 3)
    assert loss(alone, delta) == pytest.approx(loss(made.examples, delta), rel=1e-6)
    torch.testing.assert_close(
        summed(made).cross, accumulate(alone, 3, 2, 64).cross, rtol=1e-5, atol=1e-4
    )


# ------------------------------------------------------------------ least absolute deviations


def least(made):
    """Mean deviation of the best edit by linear programming, one output channel at a time."""
    a, r, w = made.unfolded
    count, size = a.shape
    above = np.block([[a, -np.eye(count)], [-a, -np.eye(count)]])
    cost = np.concatenate([np.zeros(size), w])
    bounds = [(None, None)] * size + [(0, None)] * count
    total = sum(
        linprog(cost, above, np.concatenate([column, -column]), bounds=bounds).fun for column in r.T
    )
    return total / r.size


@pytest.mark.parametrize("weighted", [False, True])
def test_admm_reaches_the_optimum(problem, weighted):
    made = problem(((8, 9), (5, 6)), weighted=weighted)
    optimum = least(made)
    system = summed(made)
    factor = Factor.of(system.gram, eye(), 1e-7)
    solver = LeastDeviations(made.examples, factor, ridge(system, factor))
    assert solver.curve[0][1] > 1.05 * optimum
    for _ in range(300):
        solver.step()
    assert loss(made.examples, solver.best) == pytest.approx(optimum, rel=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_default_iterations_come_close(problem, weighted):
    made = problem(((8, 9), (5, 6)), weighted=weighted)
    system = summed(made)
    factor = Factor.of(system.gram, eye(), 1e-7)
    found, curve = least_deviations(made.examples, factor, ridge(system, factor), ITERATIONS)
    assert loss(made.examples, found) < 1.02 * least(made)
    assert len(curve) <= ITERATIONS + 1


def penalised(made, factor, delta):
    """Objective in double precision, from the unfolded matrix."""
    a, r, w = made.unfolded
    flat = flattened(delta).double().numpy()
    rho = 1 / (0.3 * float((np.abs(r) * w[:, None]).mean()))
    pulled = float(np.sum(flat * (factor.hold.numpy() @ flat)))
    off = np.abs(a @ flat - r) * w[:, None]
    return (off.sum() + rho / 2 * pulled) / r.size


@pytest.mark.parametrize("pull", [1e-3, 0.1, 1.0])
def test_objective_is_what_is_minimised(problem, keep, pull):
    """It falls from ridge's, and no step aside from the end lowers it."""
    made = problem(((8, 9), (5, 6)), weighted=True)
    system = summed(made)
    factor = Factor.of(system.gram, keep(27), pull)
    start = ridge(system, factor)
    solver = LeastDeviations(made.examples, factor, start)
    first = solver.objective
    assert first == pytest.approx(penalised(made, factor, start), rel=1e-4)
    for _ in range(300):
        solver.step()
    end = penalised(made, factor, solver.best)
    assert end < 0.99 * first
    random = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-2, 0.1):
        aside = solver.best + size * torch.randn(start.shape, generator=random)
        assert penalised(made, factor, aside) > end


def at_drift(drift, found):
    """Bisect the pull until an edit has a norm."""
    low, high = -8.0, 6.0
    for _ in range(40):
        middle = (low + high) / 2
        too_large = float(found(10**middle).norm()) > drift
        low, high = (middle, high) if too_large else (low, middle)
    return found(10**middle)


@pytest.mark.parametrize("drift", [0.4, 0.8, 1.2])
@pytest.mark.parametrize("sizes", [((20, 30),), ((5, 6), (4, 5))])
def test_least_deviations_beat_ridge_at_equal_drift(problem, drift, sizes):
    """Over- and underdetermined, with the default number of iterations."""
    made = problem(sizes)
    system = summed(made)

    def ridged(pull):
        return ridge(system, Factor.of(system.gram, eye(), pull))

    def deviating(pull):
        factor = Factor.of(system.gram, eye(), pull)
        return least_deviations(made.examples, factor, ridge(system, factor), ITERATIONS)[0]

    one, other = at_drift(drift, deviating), at_drift(drift, ridged)
    assert float(one.norm()) == pytest.approx(float(other.norm()), rel=0.02)
    assert loss(made.examples, one) < loss(made.examples, other)


@pytest.mark.parametrize("pull", [1e-5, 1e-3])
def test_weak_pull_fits_every_position_where_it_can(problem, pull):
    """Fewer positions than weights: single precision must not drown the weak directions."""
    made = problem(((4, 5),))
    system = summed(made)
    factor = Factor.of(system.gram, eye(), pull)
    found, _ = least_deviations(made.examples, factor, ridge(system, factor), 60)
    assert loss(made.examples, found) < 1e-2 * pull**0.5 * loss(made.examples, None)


def test_nothing_to_change_gives_no_edit(problem):
    made = problem()
    same = [replace(made.examples[0], target=made.examples[0].value)]
    system = accumulate(same, 3, 2, 64)
    factor = Factor.of(system.gram, eye(), 0.1)
    found, curve = least_deviations(same, factor, ridge(system, factor), ITERATIONS)
    assert not found.any()
    assert all(value == 0 for _, value in curve)


def test_positions_without_weight_have_no_say(problem):
    made = problem(weighted=True)
    example: Example = made.examples[0]
    example.weight[..., :6] = 0

    def found():
        system = summed(made)
        factor = Factor.of(system.gram, eye(), 0.1)
        return least_deviations(made.examples, factor, ridge(system, factor), ITERATIONS)[0]

    first = found()
    example.target[..., :6] += 50
    assert torch.equal(found(), first)


def test_iterations_are_told_and_can_be_cancelled(problem):
    made = problem()
    system = summed(made)
    factor = Factor.of(system.gram, eye(), 0.1)
    start, told = ridge(system, factor), []
    with pytest.raises(CancelledError):
        least_deviations(
            made.examples,
            factor,
            start,
            50,
            job=Job(told.append, lambda: len(told) >= 2),
        )
    assert [(p.done, p.total) for p in told] == [(1, 50), (2, 50)]
    assert told[1].values["loss"] > 0
