"""An edit is a value: applied, inverted, scaled, composed, saved; a model never changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save

from napari_fossiledit.editing.edit import Edit
from napari_fossiledit.errors import FossilError


@pytest.fixture
def edit(segmenter):
    random = torch.Generator().manual_seed(0)
    return Edit(
        {
            name: torch.randn(layer.weight.shape, generator=random) * 0.1
            for name, layer in segmenter.layers().items()
        }
    )


def state(segmenter):
    return {name: tensor.clone() for name, tensor in segmenter.network.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_names_are_those_of_the_state(segmenter):
    names = tuple(segmenter.layers())
    known = segmenter.network.state_dict()
    for name, layer in zip(names, segmenter.layers().values(), strict=True):
        assert torch.equal(known[f"{name}.weight"], layer.weight)


def test_apply_changes_its_layers_alone(segmenter, edit):
    before = state(segmenter)
    edited = edit.apply(segmenter, 0.5)
    after = edited.network.state_dict()
    changed = {f"{name}.weight" for name in edit.deltas}
    for name, tensor in before.items():
        if name in changed:
            expected = tensor + 0.5 * edit.deltas[name.removesuffix(".weight")]
            assert torch.equal(after[name], expected)
        else:
            assert torch.equal(after[name], tensor)


def test_parent_is_bit_identical_afterwards(segmenter, edit, slices):
    before, image = state(segmenter), slices[0][0]
    digest, found = segmenter.model_hash, segmenter.predict(image, max_detections=3)
    edited = edit.apply(segmenter)
    edited.predict(image, max_detections=3)
    assert same(state(segmenter), before)
    assert segmenter.predict(image, max_detections=3) == found
    assert edited.model_hash != digest
    assert type(segmenter)(segmenter.network, segmenter.preprocessing).model_hash == digest


def test_strength_nought_is_the_parent(segmenter, edit):
    assert edit.apply(segmenter, 0.0).model_hash == segmenter.model_hash


def test_applied_twice_adds_twice(segmenter, edit):
    twice = edit.apply(edit.apply(segmenter))
    once = edit.scaled(2).apply(segmenter)
    for one, other in zip(twice.layers().values(), once.layers().values(), strict=True):
        torch.testing.assert_close(one.weight, other.weight)


def test_inverse_undoes_up_to_rounding(segmenter, edit):
    back = edit.inverted().apply(edit.apply(segmenter))
    for one, other in zip(back.layers().values(), segmenter.layers().values(), strict=True):
        torch.testing.assert_close(one.weight, other.weight, rtol=0, atol=1e-6)
    nothing = edit.composed(edit.inverted())
    assert not any(delta.any() for delta in nothing.deltas.values())


def test_composed_keeps_layers_of_either(edit):
    names = list(edit.deltas)
    first = Edit({n: edit.deltas[n] for n in names[:3]})
    second = Edit({n: edit.deltas[n] for n in names[2:]})
    both = first.composed(second)
    assert set(both.deltas) == set(names)
    assert torch.equal(both.deltas[names[2]], 2 * edit.deltas[names[2]])
    assert torch.equal(both.deltas[names[0]], edit.deltas[names[0]])


def test_drift_is_relative_to_the_weights(segmenter, edit):
    for name, layer in segmenter.layers().items():
        expected = np.linalg.norm(edit.deltas[name]) / np.linalg.norm(layer.weight.detach())
        assert edit.drift(segmenter)[name] == pytest.approx(expected, rel=1e-5)


def test_other_architecture_is_refused(other_segmenter, segmenter, edit):
    with pytest.raises(FossilError, match=r"does not fit.*\.weight.*\(8, 8, 3, 3\).*\(16, 16, 3"):
        edit.apply(other_segmenter)
    with pytest.raises(FossilError, match=r"elsewhere\.weight.*no such layer"):
        Edit({"elsewhere": torch.zeros(8, 8, 3, 3)}).apply(segmenter)


def test_edits_of_other_shapes_do_not_compose(edit):
    name = next(iter(edit.deltas))
    with pytest.raises(FossilError, match=rf"do not fit each other: {name}"):
        edit.composed(Edit({name: torch.zeros(4, 8, 3, 3)}))


def test_bytes_and_back(edit):
    found = Edit.from_bytes(edit.to_bytes({"parent": "abc"}), "delta.safetensors")
    assert same(dict(found.deltas), dict(edit.deltas))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_bytes_are_refused(edit, share):
    data = edit.to_bytes()
    with pytest.raises(FossilError, match=r"delta\.safetensors cannot be read.*another copy"):
        Edit.from_bytes(data[: int(share * len(data))], "delta.safetensors")


@pytest.mark.parametrize("data", [b"\xff" * 64, b"PK\x03\x04" + b"0" * 100, b"8" * 7])
def test_other_files_are_refused(data):
    with pytest.raises(FossilError, match="cannot be read"):
        Edit.from_bytes(data, "delta.safetensors")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.full((2, 2, 3, 3), float("nan")),
        torch.full((2, 2, 3, 3), float("inf")),
        torch.zeros(2, 2),
        torch.zeros(2, 2, 1, 1),
        torch.zeros(2, 2, 3, 3, dtype=torch.int32),
    ],
)
def test_tensors_that_are_no_deltas_are_refused(tensor):
    with pytest.raises(FossilError, match=r"holds no edit: fpn\.0.*finite weights"):
        Edit.from_bytes(save({"fpn.0": tensor}), "delta.safetensors")


def test_file_without_layers_is_refused():
    with pytest.raises(FossilError, match="holds no edit"):
        Edit.from_bytes(save({}), "delta.safetensors")


def test_half_precision_is_read_as_single():
    data = save({"fpn.0": torch.ones(2, 2, 3, 3, dtype=torch.float16)})
    assert Edit.from_bytes(data, "x").deltas["fpn.0"].dtype == torch.float32
