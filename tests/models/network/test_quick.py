"""Less work for a CPU: the same maps, in any number of threads, under the same names."""

import pytest
import torch

from napari_fossiledit.models.network.backbones import LiteBody


@pytest.fixture(scope="module")
def network(blank_segmenter):
    return blank_segmenter(channels=8).network


# Large enough for oneDNN: of small maps torch always computes the sums itself.
IMAGE = torch.linspace(-1, 1, 3 * 192 * 224).sin().mul(40).sin().view(1, 3, 192, 224)


def test_maps_are_those_that_are_learned_from(network):
    learned = network.maps(IMAGE).finding
    with torch.no_grad():
        found = network.maps(IMAGE).finding
    for name, level in found.items():
        near = 1e-5 * float(learned[name].detach().abs().max())
        assert torch.allclose(level, learned[name], rtol=0, atol=near)
    assert not torch.equal(found["0"], learned["0"])


def test_threads_change_no_convolution(network):
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        with torch.no_grad():
            found.append(network.maps(IMAGE).finding)
    torch.set_num_threads(before)
    assert all(torch.equal(each[n], found[0][n]) for each in found[1:] for n in found[0])


def test_weights_keep_their_names(network):
    names = {f"backbone.body.{name}" for name in LiteBody(pretrained=False).state_dict()}
    assert {n for n in network.state_dict() if n.startswith("backbone.body.")} == names
