"""The neighbour prior: what moves up among the proposals, and that weight 0 changes nothing."""

import dataclasses

import numpy as np
import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.heads import Limits, raised
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.prior import Prior
from napari_fossiledit.models.network.spec import default_spec

SIZE = (64, 96)


def prior(*boxes, scores=None, weight=1.0):
    values = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return Prior(values, np.ones(len(values)) if scores is None else np.array(scores), weight)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    spec = default_spec("lite", ("a",))
    changes = {"channels": 16, "box_width": 32, "mask_channels": 16, "proposals_predict": (6, 3)}
    return MaskRcnn(spec.model_copy(update=changes)).eval()


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def segmenter(network):
    return MaskRcnnSegmenter(network, Preprocessing(scale=0.5, tile=64, overlap=16))


def test_gain_is_weight_times_the_best_scored_overlap():
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 20], [40, 40, 50, 50.0]])
    near = prior([0, 0, 10, 10], [0, 0, 10, 20], scores=[1.0, 0.6], weight=2.0)
    # The second box: IoU 0.5 with a certain detection, 1 with one of score 0.6.
    torch.testing.assert_close(raised(boxes, SIZE, near), torch.tensor([2.0, 1.2, 0.0]))


def test_gain_does_not_add_up_over_detections_of_one_place():
    boxes = torch.tensor([[0, 0, 10, 10.0]])
    many = prior(*[[0, 0, 10, 10]] * 5)
    assert float(raised(boxes, SIZE, many)) == pytest.approx(1)


def test_gain_sees_what_lies_inside_the_image_only():
    outside = torch.tensor([[80, 0, 200, 64.0]])
    assert float(raised(outside, SIZE, prior([80, 0, 96, 64]))) == pytest.approx(1)


def test_gain_is_the_same_in_pieces(monkeypatch):
    corner = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 50
    boxes = torch.cat([corner, corner + 14], dim=1)
    near = prior([5, 5, 20, 20], [30, 20, 44, 40], scores=[0.9, 0.7])
    whole = raised(boxes, SIZE, near)
    monkeypatch.setattr("napari_fossiledit.models.network.heads._CHUNK", 7)
    assert torch.equal(raised(boxes, SIZE, near), whole)


class Flat(torch.nn.Module):
    """A proposal head that says what it is told, of anchors that stay where they are."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, levels):
        return [self.logits], [torch.zeros(1, 4 * self.logits.shape[1], *self.logits.shape[2:])]


@pytest.fixture
def constructed(network):
    """Propose with one level of 4 x 6 anchors of 16 pixels, logits 0, -0.95, ... row by row."""
    rpn = MaskRcnn(network.spec).eval().rpn
    rpn.anchor_generator = AnchorGenerator(((16,),), ((1.0,),))
    rpn.head = Flat(-0.95 * torch.arange(24.0).reshape(1, 1, 4, 6))
    images = ImageList(torch.zeros(1, 3, *SIZE), [SIZE])
    return lambda near: rpn.propose(images, {"0": torch.zeros(1, 16, 4, 6)}, near)


def test_a_proposal_below_the_cut_comes_in_and_moves_up(constructed):
    plain = constructed(None)
    assert plain.tolist() == [[0, 0, 8, 8], [8, 0, 24, 8], [24, 0, 40, 8]]
    place = [56.0, 40.0, 72.0, 56.0]  # row 3, column 4: logit -20.9
    assert torch.equal(constructed(prior(place, weight=15.0)), plain)
    late = constructed(prior(place, weight=20.0))
    assert late.tolist() == [[0, 0, 8, 8], place, [8, 0, 24, 8]]


def test_a_raised_proposal_wins_the_suppression(constructed, network):
    boxes = torch.tensor([[[0, 0, 20, 20], [0, 0, 20, 18], [50, 0, 70, 20.0]]])
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    near = prior([0, 0, 20, 18], weight=20.0)
    lifted = logits + raised(boxes[0], SIZE, near)
    first, _ = network.rpn.filter_proposals(boxes, logits, [SIZE], [3])
    second, _ = network.rpn.filter_proposals(boxes, lifted, [SIZE], [3])
    assert first[0].tolist() == [[0, 0, 20, 20], [50, 0, 70, 20]]
    assert second[0].tolist() == [[0, 0, 20, 18], [50, 0, 70, 20]]


def test_proposing_with_a_prior_far_away_is_proposing_without(network):
    torch.manual_seed(1)
    pixels = torch.randn(1, 3, *SIZE)
    images = ImageList(pixels, [SIZE])
    with torch.no_grad():
        maps = network.backbone(pixels)
        plain = network.rpn(images, maps)[0][0]
        tiny = prior([0, 0, 1e-4, 1e-4], scores=[0.0])
        assert torch.equal(network.rpn.propose(images, maps), plain)
        assert torch.equal(network.rpn.propose(images, maps, tiny), plain)


@pytest.mark.parametrize("tiles", [False, True])
def test_weight_0_and_no_detection_are_bit_identical(segmenter, image, tiles):
    plain = segmenter.predict(image, tiles=tiles)
    assert plain
    for near in (prior([5, 5, 60, 60], weight=0.0), prior(weight=5.0)):
        assert segmenter.predict(image, tiles=tiles, prior=near) == plain


def test_a_prior_changes_regions_and_nothing_about_those_that_stay(network, image):
    pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None] / 128 - 1
    near = prior([60, 20, 90, 50], weight=20.0)
    with torch.no_grad():
        maps = network.maps(pixels)
        plain = network.find(pixels, maps, SIZE, Limits())
        found = network.find(pixels, maps, SIZE, Limits(), near)
    assert not torch.equal(found["boxes"], plain["boxes"])
    same = (found["boxes"][:, None] == plain["boxes"][None]).all(-1).nonzero().tolist()
    for one, other in same:
        assert found["scores"][one] == pytest.approx(float(plain["scores"][other]))


def test_boxes_come_from_masks_and_go_to_network_pixels_and_tiles():
    painted = np.zeros((100, 200), dtype=bool)
    painted[10:30, 40:80] = True
    near = Prior.of([Instance(3, "a", Mask.from_array(painted), score=0.7)], 2.0)
    assert near.boxes.tolist() == [[40, 10, 80, 30]]
    assert near.scores.tolist() == [0.7]
    small = near.scaled((100, 200), (50, 50))
    assert small.boxes.tolist() == [[10, 5, 20, 15]]
    cut = small.inside((8, 12, 50, 50))
    assert cut is not None
    assert cut.boxes.tolist() == [[0, 0, 8, 7]]
    assert small.inside((15, 0, 50, 50)) is None
    assert dataclasses.replace(small, weight=0.0).inside((0, 0, 50, 50)) is None


def test_a_whole_slice_and_its_prior_share_their_pixels(segmenter, image, monkeypatch):
    seen = []
    find = segmenter.network.find

    def watched(pixels, maps, size, limits, near):
        seen.append((size, near))
        return find(pixels, maps, size, limits)

    monkeypatch.setattr(segmenter.network, "find", watched)
    segmenter.predict(image, prior=prior([20, 10, 60, 40]))
    ((size, near),) = seen
    assert size == (32, 48)
    assert near.boxes.tolist() == [[10, 5, 30, 20]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            (np.zeros((2, 4)), np.ones(3), 1.0),
            r"boxes for n scores; found \(2, 4\), \(3,\)",
        ),
        ((np.zeros((2, 5)), np.ones(2), 1.0), r"found \(2, 5\)"),
        ((np.zeros((1, 4)), np.ones(1), -1.0), r"weight from 0 to 20; found -1"),
        ((np.zeros((1, 4)), np.ones(1), 1e6), r"weight from 0 to 20; found 1000000"),
        ((np.zeros((1, 4)), np.ones(1), float("nan")), r"found nan"),
        ((np.full((1, 4), np.inf), np.ones(1), 1.0), r"finite boxes"),
        ((np.zeros((1, 4)), np.full(1, 1.5), 1.0), r"scores from 0 to 1"),
        ((np.zeros((1, 4)), np.full(1, np.nan), 1.0), r"scores from 0 to 1"),
    ],
)
def test_absurd_priors_are_refused(values, message):
    with pytest.raises(FossilError, match=message):
        Prior(*values)
