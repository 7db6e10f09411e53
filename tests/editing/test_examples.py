"""Pairs of slices as keys and values, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_fossiledit.editing.examples import Pair, examples_of, require_finite
from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter


@pytest.fixture
def pair(slices):
    return Pair(*slices[0])


def test_keys_are_the_originals_and_targets_the_perturbed(segmenter, pair):
    found = examples_of(segmenter, pair)
    before, after = (segmenter.capture(i) for i in (pair.original, pair.perturbed))
    for example, old, new in zip(found, before, after, strict=True):
        assert torch.equal(example.key, old.key)
        assert torch.equal(example.value, old.value)
        assert torch.equal(example.target, new.value)
        assert example.weight is None
        assert example.positions == old.key[0, 0].numel()


def test_padding_has_no_weight(segmenter, slices):
    """A slice of 80 x 112 becomes 96 x 128 pixels for the network."""
    weight = np.ones((80, 112), np.float32)
    for example, stride in zip(
        examples_of(segmenter, Pair(*slices[0], weight)), (4, 8, 16, 32), strict=True
    ):
        inside = example.weight[0, 0, : -(-80 // stride), : -(-112 // stride)]
        assert (inside > 0).all()
        assert float(example.weight.sum()) == pytest.approx(float(inside.sum()), rel=1e-6)
        assert float(example.weight.mean()) == pytest.approx(1, rel=1e-5)
        assert (inside == inside[0, 0]).all()


def test_weight_and_mask_multiply(segmenter, slices):
    weight = np.ones((80, 112), np.float32)
    weight[:40] = 3
    mask = np.zeros((80, 112), bool)
    mask[:, 32:64] = True
    fine = examples_of(segmenter, Pair(*slices[0], weight, mask))[0].weight[0, 0]
    assert not fine[:, :8].any()
    assert not fine[:, 16:].any()
    assert float(fine[0, 8]) == pytest.approx(3 * float(fine[15, 8]))


def test_a_single_pixel_of_a_mask_is_not_lost(segmenter, slices):
    mask = np.zeros((80, 112), bool)
    mask[50, 51] = True
    for example in examples_of(segmenter, Pair(*slices[0], None, mask)):
        assert np.count_nonzero(example.weight) == 1


def test_perturbed_of_another_size_is_refused(segmenter, pair):
    with pytest.raises(FossilError, match=r"another size.*\(80, 112, 3\).*\(80, 100, 3\)"):
        examples_of(segmenter, replace(pair, perturbed=pair.perturbed[:, :100]))


def test_perturbed_of_another_type_is_refused(segmenter, pair):
    with pytest.raises(FossilError, match=r"another type.*uint8.*uint16"):
        examples_of(segmenter, replace(pair, perturbed=pair.perturbed.astype(np.uint16)))


@pytest.mark.parametrize(
    ("field", "array", "told"),
    [
        ("weight", np.ones((80, 100), np.float32), r"weights.*\(80, 112\).*\(80, 100\)"),
        ("mask", np.ones((40, 112), bool), r"mask.*\(80, 112\).*\(40, 112\)"),
        ("mask", np.zeros((80, 112), bool), "No position is left to edit"),
        ("weight", np.zeros((80, 112), np.float32), "No position is left to edit"),
        ("weight", np.full((80, 112), np.nan, np.float32), "weights.*finite"),
        ("weight", np.full((80, 112), -1, np.float32), r"weights.*from 0 on.*-1"),
    ],
)
def test_weights_and_masks_that_do_not_suit_are_refused(segmenter, pair, field, array, told):
    with pytest.raises(FossilError, match=told):
        examples_of(segmenter, replace(pair, **{field: array}))


def test_keys_that_are_no_numbers_name_the_layer():
    with pytest.raises(FossilError, match=r"keys of fpn\.0.*NaN"):
        require_finite("fpn.0", torch.ones(2), torch.tensor([1.0, float("nan")]))


def test_damaged_weights_are_noticed(segmenter, pair):
    import copy

    network = copy.deepcopy(segmenter.network)
    damaged = MaskRcnnSegmenter(network, segmenter.preprocessing)
    list(damaged.layers().values())[1].weight.data[0, 0, 0, 0] = float("inf")
    with pytest.raises(FossilError, match="weights of the model are damaged"):
        examples_of(damaged, pair)
