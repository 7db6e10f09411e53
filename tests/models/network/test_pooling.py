"""Regions pooled by matrix products, against torchvision's RoIAlign."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import roi_align

from napari_fossiledit.models.network.pooling import PyramidRoIAlign, pool_by_axes

WIDE, HIGH = 96.0, 64.0


def _regions(count, seed=0):
    """Boxes of all sizes, some over the edge of the picture, thin ones and empty ones."""
    torch.manual_seed(seed)
    centre = torch.rand(count, 2) * torch.tensor([WIDE, HIGH])
    half = torch.rand(count, 2) * torch.rand(count, 1) * 40
    boxes = torch.cat([centre - half, centre + half], dim=1)
    boxes[0, 2:] = boxes[0, :2]
    boxes[1, 3] = boxes[1, 1]
    boxes[2] = torch.tensor([-200.0, -200.0, -150.0, -150.0])
    boxes[3] = torch.tensor([0.0, 0.0, WIDE, HIGH])
    return torch.cat([torch.zeros(count, 1), boxes], dim=1)


@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("edge", [7, 14])
def test_the_same_as_torchvision(samples, aligned, edge):
    feature = torch.randn(1, 5, 16, 24)
    regions = _regions(60)
    with torch.inference_mode():
        found = pool_by_axes(feature, regions, edge, 0.25, samples, aligned)
    wanted = roi_align(feature, regions, edge, 0.25, samples, aligned)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=2e-6)


def test_positions_far_from_the_origin_are_rounded_alike():
    feature = torch.randn(1, 2, 4, 400) * 10
    regions = _regions(40) + torch.tensor([0.0, 1500.0, 0.0, 1500.0, 0.0])
    regions = regions.clamp(max=1599)
    with torch.inference_mode():
        found = pool_by_axes(feature, regions, 7, 0.25, 0, True)
    assert torch.allclose(found, roi_align(feature, regions, 7, 0.25, 0, True), atol=2e-5)


def test_levels_come_back_in_the_order_of_the_boxes():
    pool = PyramidRoIAlign(7, 0, aligned=True)
    maps = {str(i): torch.randn(1, 3, 128 >> i, 128 >> i) for i in range(4)}
    edges = torch.tensor([400.0, 30.0, 150.0, 260.0, 31.0])
    boxes = torch.stack([torch.zeros(5), torch.zeros(5), edges, edges], dim=1)
    learned = pool(maps, [boxes], [(512, 512)])
    with torch.inference_mode():
        assert torch.allclose(pool(maps, [boxes], [(512, 512)]), learned, atol=2e-6)
    order = torch.tensor([4, 2, 0, 1, 3])
    assert torch.equal(pool(maps, [boxes[order]], [(512, 512)]), learned[order])


def test_no_boxes_give_nothing():
    pool = PyramidRoIAlign(7, 0, aligned=True)
    maps = {str(i): torch.randn(1, 3, 32 >> i, 32 >> i) for i in range(4)}
    with torch.inference_mode():
        assert pool(maps, [torch.zeros(0, 4)], [(128, 128)]).shape == (0, 3, 7, 7)


def test_gradients_pass_where_something_is_learned():
    pool = PyramidRoIAlign(7, 2, aligned=False)
    maps = {str(i): torch.randn(1, 3, 32 >> i, 32 >> i, requires_grad=True) for i in range(4)}
    pool(maps, [torch.tensor([[0.0, 0.0, 60.0, 60.0]])], [(128, 128)]).sum().backward()
    assert float(maps["0"].grad.abs().sum()) > 0
