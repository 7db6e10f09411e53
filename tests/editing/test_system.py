"""Gram matrices: the sums over positions, in blocks of any size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_fossiledit.editing import system as module
from napari_fossiledit.editing.system import (
    System,
    accumulate,
    flattened,
    kernel,
    shifted_gram,
    unfolded,
)
from napari_fossiledit.errors import CancelledError, FossilError


@pytest.mark.parametrize("weighted", [False, True])
def test_sums_are_those_of_the_unfolded_matrix(problem, weighted):
    made = problem(((9, 13), (4, 7)), weighted=weighted)
    a, r, w = made.unfolded
    found = accumulate(made.examples, 3, 2, 64)
    np.testing.assert_allclose(found.gram, (a * w[:, None]).T @ a, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(found.cross, (a * w[:, None]).T @ r, rtol=1e-5, atol=1e-3)
    assert found.positions == 9 * 13 + 4 * 7


@pytest.mark.parametrize("block", [1, 13, 26, 40, 10**6])
def test_blocks_of_any_size_give_the_same_sums(problem, block):
    made = problem(weighted=True)
    whole = accumulate(made.examples, 3, 2, 4096)
    found = accumulate(made.examples, 3, 2, block)
    torch.testing.assert_close(found.gram, whole.gram, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(found.cross, whole.cross, rtol=1e-6, atol=1e-4)


def test_joint_edit_is_the_sum_of_the_grams(problem):
    made = problem(((9, 13), (5, 6)))
    single = [accumulate([e], 3, 2, 64) for e in made.examples]
    joint = accumulate(made.examples, 3, 2, 64)
    torch.testing.assert_close(joint.gram, single[0].gram + single[1].gram)
    torch.testing.assert_close(joint.cross, single[0].cross + single[1].cross)


def test_gram_is_symmetric(problem):
    gram = accumulate(problem(weighted=True).examples, 3, 2, 64).gram
    assert torch.equal(gram, gram.T)


def test_slice_that_asks_for_no_change_adds_keys_alone(problem):
    made = problem()
    same = replace(made.examples[0], target=made.examples[0].value)
    found = accumulate([same], 3, 2, 64)
    assert torch.equal(found.gram, accumulate(made.examples, 3, 2, 64).gram)
    assert not found.cross.any()


def test_flattened_is_the_inverse_of_kernel():
    weights = torch.randn(4, 3, 3, 3)
    assert torch.equal(kernel(flattened(weights)), weights)


def _failing_above(limit, monkeypatch, error):
    """Let blocks of more than `limit` positions run out of memory."""
    plain, tried = module._sums, []

    def sums(example, start, block):
        tried.append(block)
        if block > limit:
            raise error
        return plain(example, start, block)

    monkeypatch.setattr(module, "_sums", sums)
    return tried


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
    ],
)
def test_out_of_memory_is_answered_with_smaller_blocks(problem, monkeypatch, error):
    made = problem(((30, 40),))
    whole = accumulate(made.examples, 3, 2, 4096)
    tried = _failing_above(200, monkeypatch, error)
    found = accumulate(made.examples, 3, 2, 1024)
    assert tried[:4] == [1024, 512, 256, 128]
    torch.testing.assert_close(found.gram, whole.gram, rtol=1e-6, atol=1e-3)


def test_smallest_block_that_does_not_fit_is_told(problem, monkeypatch):
    _failing_above(0, monkeypatch, MemoryError())
    with pytest.raises(FossilError, match=r"smallest block of positions.*Close other programs"):
        accumulate(problem().examples, 3, 2, 256)


def test_other_errors_are_not_taken_for_lack_of_memory(problem, monkeypatch):
    _failing_above(0, monkeypatch, RuntimeError("sizes do not match"))
    with pytest.raises(RuntimeError, match="sizes do not match"):
        accumulate(problem().examples, 3, 2, 256)


def test_summing_can_be_cancelled(problem):
    with pytest.raises(CancelledError):
        System.empty(3, 2).add(problem().examples[0], 64, lambda: True)


@pytest.mark.parametrize("rows", [(0, 9), (0, 4), (2, 5), (4, 9), (3, 4)])
@pytest.mark.parametrize("width", [1, 2, 3, 13])
def test_shifted_maps_give_the_gram_of_the_unfolded(rows, width):
    """Of the whole map, and of bands whose neighbours are not 0."""
    key = torch.randn(1, 3, 9, width) + 0.5
    a = unfolded(key, *rows).double()
    assert a.shape == ((rows[1] - rows[0]) * width, 27)
    torch.testing.assert_close(shifted_gram(key, *rows), a.T @ a, rtol=1e-6, atol=1e-4)
