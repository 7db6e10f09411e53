"""Attributions against captum, an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, LayerGradCam, NoiseTunnel
from captum.attr import Saliency as CaptumGradient
from torch.nn.functional import interpolate

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.params.saliency import LookParams, Method
from napari_fossiledit.saliency import methods
from napari_fossiledit.saliency.looking import look

CLASS = "archaeocyathid"


@pytest.fixture(scope="module")
def asked(blank_segmenter):
    """A model, a slice and an instance, with what captum needs: the pixels and the logit."""
    model = blank_segmenter()
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    inside = np.zeros((64, 64), bool)
    inside[10:40, 20:60] = True
    instance = Instance(0, CLASS, Mask.from_array(inside))
    (tile,) = model.held(image, [instance])
    return model, image, instance, tile.pixels, lambda pixels: tile.logits(pixels)[0][:, 1]


def _values(asked, method, **changes):
    model, image, instance, *_ = asked
    return torch.from_numpy(
        look(model, image, [instance], LookParams(method=method, **changes)).values
    )


def _close(ours, theirs):
    assert theirs.abs().max() > 0
    assert (ours - theirs.detach()).abs().max() <= 1e-4 * theirs.abs().max()


def test_gradients_are_those_of_captum(asked):
    *_, pixels, number = asked
    theirs = CaptumGradient(number).attribute(pixels.clone().requires_grad_(), abs=False)[0]
    _close(_values(asked, Method.GRADIENT), theirs)
    _close(_values(asked, Method.INPUT_X_GRADIENT), theirs * pixels[0])


def test_smoothgrad_is_that_of_captum(asked):
    *_, pixels, number = asked
    spread = 0.15 * float(pixels.max() - pixels.min())
    # captum draws from torch's own generator, one image after the other.
    torch.manual_seed(3)
    theirs = NoiseTunnel(CaptumGradient(number)).attribute(
        pixels, nt_samples=4, nt_samples_batch_size=1, stdevs=spread, abs=False
    )
    _close(_values(asked, Method.SMOOTHGRAD, samples=4, seed=3), theirs[0])


def test_integrated_gradients_are_those_of_captum(asked, monkeypatch):
    # No step is halved: captum has even steps.
    monkeypatch.setattr(methods, "_LOOSE", np.inf)
    *_, pixels, number = asked
    ends = [
        IntegratedGradients(number).attribute(
            pixels, n_steps=6, method=f"riemann_{end}", internal_batch_size=1
        )[0]
        for end in ("left", "right")
    ]
    _close(_values(asked, Method.INTEGRATED, steps=6), sum(ends) / 2)


def test_grad_cam_is_that_of_captum(asked):
    model, *_, pixels, number = asked
    maps = [
        interpolate(
            LayerGradCam(number, layer).attribute(pixels, relu_attributions=True),
            size=(64, 64),
            mode="bilinear",
        )[0]
        for layer in model.layers().values()
    ]
    # One region is pooled from one level.
    assert sum(bool(m.any()) for m in maps) == 1
    _close(_values(asked, Method.GRAD_CAM), sum(maps))


def test_steps_are_halved_where_they_miss_what_the_number_changes_by():
    """A number that jumps up near the zeros, where even steps see nothing of it."""
    pixels = torch.ones(1, 1, 1, 1)
    seen = []

    def number(x):
        seen.append(x.item())
        return (torch.relu(x - 0.02) - torch.relu(x - 0.03)).sum() * 100

    found = methods.integrated(number, pixels, steps=8)
    assert float(found) == pytest.approx(1, abs=0.25)
    assert len(seen) <= 2 * 8 + 1
