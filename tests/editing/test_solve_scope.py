"""Edits of the masks alone: what is found stays, only outlines change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_fossiledit.editing.edit import Edit
from napari_fossiledit.editing.examples import Pair
from napari_fossiledit.editing.solve import solve
from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.files.checkpoint import from_bytes, to_bytes
from napari_fossiledit.params.editing import Pull, Scope, SolveParams, Solver

RIDGE = {"solver": Solver.RIDGE, "pull": 0.01, "pull_to": Pull.WEIGHTS, "levels": "0,2"}


def solved(segmenter, pairs, scope):
    return solve(segmenter, pairs, SolveParams(scope=scope, **RIDGE)).edit


@pytest.fixture
def pairs(slices):
    return [Pair(*slices[0])]


@pytest.fixture
def masks(segmenter, pairs):
    return solved(segmenter, pairs, Scope.MASKS)


def loud(edit: Edit) -> Edit:
    return edit.scaled(30.0)


def seen(segmenter, image):
    """Probabilities and boxes of all that is found."""
    rgb = segmenter.preprocessing.prepare(image)
    pixels = segmenter.preprocessing.normalise(rgb)
    from napari_fossiledit.models.network.heads import Limits

    network, size = segmenter.network, rgb.shape[:2]
    with torch.inference_mode():
        maps = network.maps(pixels)
        found = network.find(pixels, maps, size, Limits())
        return {**found, "masks": network.draw(maps, found["boxes"], found["labels"], size)}


def test_the_same_is_found_and_drawn_otherwise(segmenter, masks, slices):
    before, after = (seen(s, slices[1][0]) for s in (segmenter, loud(masks).apply(segmenter)))
    for name in ("boxes", "scores", "labels"):
        assert torch.equal(before[name], after[name])
    assert float((before["masks"] - after["masks"]).abs().max()) > 1e-4


def test_an_edit_of_all_moves_what_is_found(segmenter, pairs, slices):
    edit = loud(solved(segmenter, pairs, Scope.ALL))
    before, after = (seen(s, slices[1][0]) for s in (segmenter, edit.apply(segmenter)))
    assert not torch.equal(before["scores"], after["scores"])


def test_masks_see_what_an_edit_of_all_would_show_them(segmenter, pairs, masks, slices):
    everything = solved(segmenter, pairs, Scope.ALL)
    names = dict(zip(segmenter.layers(), segmenter.layers(Scope.MASKS), strict=True))
    assert set(masks.deltas) == {names[n] for n in everything.deltas}
    image = slices[1][0]
    drawn = masks.apply(segmenter).capture(image, scope=Scope.MASKS)
    found = everything.apply(segmenter).capture(image)
    for one, other in zip(drawn, found, strict=True):
        torch.testing.assert_close(one.value, other.value, atol=1e-5, rtol=1e-5)


def test_order_of_scopes_does_not_matter(segmenter, pairs, masks, slices):
    everything = loud(solved(segmenter, pairs, Scope.ALL))
    composed = everything.composed(loud(masks))
    ways = (
        composed.apply(segmenter),
        loud(masks).apply(everything.apply(segmenter)),
        everything.apply(loud(masks).apply(segmenter)),
    )
    first, *others = (seen(way, slices[1][0]) for way in ways)
    for other in others:
        for name, value in first.items():
            torch.testing.assert_close(value, other[name], atol=1e-5, rtol=1e-5)


def test_undone_it_is_the_parent_bit_by_bit(segmenter, masks, slices):
    edited = masks.apply(segmenter)
    undone = masks.inverted().apply(edited)
    before, after = (seen(s, slices[1][0]) for s in (segmenter, undone))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert segmenter.network.spec.mask_levels == ()
    assert edited.network.spec.mask_levels == (0, 2)


def test_a_second_one_begins_where_the_first_ended(segmenter, pairs, masks, slices):
    edited = masks.apply(segmenter)
    first = solve(segmenter, pairs, SolveParams(scope=Scope.MASKS, **RIDGE))
    fresh = [Pair(slices[0][0], slices[0][0])]
    again = solve(edited, fresh, SolveParams(scope=Scope.MASKS, **RIDGE))
    assert max(float(d.abs().max()) for d in again.edit.deltas.values()) < 1e-6
    assert set(first.before) == set(again.before)
    key = edited.capture(slices[0][0], scope=Scope.MASKS)[0]
    plain = edited.capture(slices[0][0])[0]
    change = torch.nn.functional.conv2d(key.key, masks.deltas["mask_outputs.0"], padding=1)
    torch.testing.assert_close(key.value, plain.value + change)


def test_adam_starts_from_what_masks_are_drawn_with(segmenter, pairs, masks):
    params = SolveParams(
        scope=Scope.MASKS, solver=Solver.ADAM, adam_steps=3, levels="0", fossil_weight=1
    )
    twice = solve(loud(masks).apply(segmenter), pairs, params)
    assert 0 < twice.drift["mask_outputs.0"] < 0.05


def test_a_network_that_cannot_draw_apart_is_refused(segmenter, pairs, monkeypatch):
    monkeypatch.setattr(type(segmenter.network), "draws_apart", False)
    with pytest.raises(FossilError, match=r"masks.*cannot be edited alone.*--scope all"):
        solved(segmenter, pairs, Scope.MASKS)
    assert solved(segmenter, pairs, Scope.ALL).deltas


def test_saved_and_read_again_it_is_the_same(segmenter, masks, slices):
    edited = loud(masks).apply(segmenter)
    weights, record = to_bytes(edited)
    again = from_bytes(weights, record, "weights")
    assert again.model_hash == edited.model_hash != segmenter.model_hash
    one, other = (seen(s, slices[2][0]) for s in (edited, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_models_without_one_keep_their_hash(segmenter):
    assert "mask_levels" not in segmenter.network.spec.hashed_json()
    assert "mask_levels" in segmenter.network.spec.model_dump_json()


@pytest.mark.parametrize("name", ["mask_outputs.9", "mask_outputs.x", "mask_outputs.-1"])
def test_a_level_that_is_not_there_is_refused(segmenter, name):
    edit = Edit({name: torch.zeros(8, 8, 3, 3)})
    with pytest.raises(FossilError, match="does not fit the model") as raised:
        edit.apply(segmenter)
    assert "no such layer" in str(raised.value)


def test_training_reaches_the_masks_alone_through_it(segmenter, masks, slices):
    network = masks.apply(segmenter).network
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith("mask_outputs"))
    network.train()
    rgb = slices[0][0][:64, :64]
    pixels = segmenter.preprocessing.normalise(rgb)
    body = torch.zeros(1, 64, 64)
    body[0, 10:50, 10:50] = 1
    target = {
        "boxes": torch.tensor([[10.0, 10, 50, 50]]),
        "labels": torch.ones(1, dtype=torch.int64),
        "masks": body.to(torch.uint8),
    }
    sum(network.losses(pixels, [target]).values()).backward()
    gradient = network.get_parameter("mask_outputs.0.weight").grad
    assert gradient is not None
    assert float(gradient.abs().max()) > 0
    assert np.isfinite(float(gradient.sum()))
