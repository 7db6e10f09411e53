"""Edits of low rank stay in the directions of the keys that they are about."""

from __future__ import annotations

import pytest
import torch

from napari_fossiledit.editing.direct import loss
from napari_fossiledit.editing.examples import Example
from napari_fossiledit.editing.level import directions, expanded, reduced
from napari_fossiledit.errors import FossilError


def test_directions_are_orthonormal(problem):
    turn = directions(problem(inputs=6, outputs=2).examples, 3)
    assert turn.shape == (6, 3)
    torch.testing.assert_close(turn.T @ turn, torch.eye(3), atol=1e-5, rtol=0)


def test_full_rank_is_no_limit(problem):
    made = problem(inputs=4)
    turn = directions(made.examples, 4)
    delta = torch.randn(2, 4, 3, 3)
    small = [reduced(e, turn) for e in made.examples]
    turned = torch.einsum("ocyx,cr->oryx", delta, turn)
    assert loss(small, turned) == pytest.approx(loss(made.examples, delta), rel=1e-4)
    torch.testing.assert_close(expanded(turned, turn), delta, atol=1e-5, rtol=1e-4)


def test_expanded_does_the_same_as_reduced(problem):
    made = problem(inputs=5, weighted=True)
    turn = directions(made.examples, 2)
    delta = torch.randn(2, 2, 3, 3)
    whole = expanded(delta, turn)
    assert whole.shape == (2, 5, 3, 3)
    small = [reduced(e, turn) for e in made.examples]
    assert loss(made.examples, whole) == pytest.approx(loss(small, delta), rel=1e-4)


def test_direction_is_that_of_the_keys_whose_output_changes():
    """Independent channels of other sizes: one alone is active where the output has to change."""
    random = torch.Generator().manual_seed(0)
    sizes = torch.tensor([10.0, 1.0, 5.0, 0.2])[:, None, None]
    key = torch.randn(4, 30, 30, generator=random) * sizes
    residual = torch.zeros(1, 2, 30, 30)
    strong = key[1].abs() > 1.5
    residual[:, :, strong] = 1
    turn = directions([Example(key[None], torch.zeros_like(residual), residual)], 1)
    assert float(turn[1].abs()) > 0.95


def test_rank_above_the_channels_is_refused(problem):
    with pytest.raises(FossilError, match=r"rank.*at most 3 channels.*found 4"):
        directions(problem().examples, 4)
