"""Turned and mirrored views: each is undone exactly, and masks are the mean of what all draw."""

import numpy as np
import pytest
import torch
from torch import nn

from napari_fossiledit.errors import CancelledError
from napari_fossiledit.models.inference.fast_kernels import fast
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.inference.views import VIEWS, View, batches, mean_of, united
from napari_fossiledit.models.network.heads import Limits
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.prior import Prior
from napari_fossiledit.models.network.spec import default_spec
from napari_fossiledit.params.editing import Scope

SIZE = (5, 7)
EACH = pytest.mark.parametrize("view", VIEWS)


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(3)
    spec = default_spec("lite", ("a", "b"))
    changes = {"channels": 16, "box_width": 32, "mask_channels": 32, "proposals_predict": (60, 12)}
    network = MaskRcnn(spec.model_copy(update=changes))
    # Masks of random weights are one half everywhere; none shall be empty.
    last = network.roi_heads.mask_predictor.mask_fcn_logits
    nn.init.normal_(last.weight, std=0.5)
    nn.init.constant_(last.bias, 3.0)
    return MaskRcnnSegmenter(network, Preprocessing())


@pytest.fixture(scope="module")
def image():
    """Of a shape that is not square and padded at both ends."""
    values = np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8)
    return values.repeat(10, axis=0).repeat(10, axis=1)


def pieces(instances):
    return [i.probability.pieces[0] for i in instances]


def found_in(instances):
    """What was found, whatever was drawn."""
    return [(i.class_name, i.score, i.probability.pieces[0].box) for i in instances]


def grids(instances):
    return np.stack([piece.grid for piece in pieces(instances)]).astype(int)


@EACH
def test_a_view_shows_boxes_where_they_are_and_its_inverse_undoes_it(view):
    rgb = np.arange(np.prod(SIZE) * 3, dtype=np.uint8).reshape(*SIZE, 3)
    box, size = torch.tensor([[1.0, 2.0, 4.0, 5.0]]), view.size(SIZE)
    seen = view.image(rgb)
    assert seen.shape[:2] == size
    np.testing.assert_array_equal(view.inverse.image(seen), rgb)
    there = view.boxes(box, SIZE)
    torch.testing.assert_close(view.inverse.boxes(there, size), box)
    x0, y0, x1, y1 = there[0].int().tolist()
    np.testing.assert_array_equal(seen[y0:y1, x0:x1], view.image(rgb[2:5, 1:4]))
    # Masks inside boxes turn as the slice does.
    masks = torch.from_numpy(rgb[2:5, 1:4, 0].copy())[None]
    np.testing.assert_array_equal(view.masks(masks)[0].numpy(), seen[y0:y1, x0:x1, 0])
    torch.testing.assert_close(view.inverse.masks(view.masks(masks)), masks)
    prior = view.prior(Prior(box.double().numpy(), np.ones(1), 1.0), SIZE)
    np.testing.assert_array_equal(prior.boxes, there.numpy())


def test_the_views_are_all_eight_and_the_first_four_have_the_shape_of_the_slice():
    corner = np.zeros((3, 3, 3), dtype=np.uint8)
    corner[0, 1] = 1
    corner[0, 0] = 2
    assert len({view.image(corner).tobytes() for view in VIEWS}) == 8
    assert VIEWS[0] == View()
    assert [view.size(SIZE) == SIZE for view in VIEWS] == [True] * 4 + [False] * 4


def test_views_of_one_shape_enter_together_as_far_as_memory_allows():
    others = VIEWS[1:]
    assert [len(group) for group in batches(others, (64, 64))] == [7]
    assert [len(group) for group in batches(others, (64, 96))] == [3, 4]
    assert [len(group) for group in batches(others, (1024, 2048))] == [1] * 7


def test_the_mean_is_that_of_logits_and_certainty_does_not_outvote():
    half, most = torch.full((1, 2, 2), 0.5), torch.full((1, 2, 2), 0.9)
    assert mean_of([most]) is most
    # Logits 0 and log 9: their mean is log 3.
    torch.testing.assert_close(mean_of([half, most]), torch.full((1, 2, 2), 0.75))
    certain = mean_of([torch.ones(1, 1, 1), torch.zeros(1, 1, 1)])
    assert float(certain) == pytest.approx(0.5, abs=0.02)


def detections(boxes, scores, labels):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor(scores),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def test_boxes_of_one_object_are_united_and_what_few_views_find_is_less_certain():
    first = detections([[0, 0, 10, 10], [50, 50, 60, 60]], [0.6, 0.5], [1, 1])
    other = detections([[0, 0, 10, 13], [0, 0, 10, 10], [0, 0, 10, 11]], [0.3, 0.2, 0.1], [1, 2, 1])
    found = united([first, other], Limits())
    # Two boxes of the second view are the first object: the better one is its score there.
    torch.testing.assert_close(found["scores"], torch.tensor([0.45, 0.25, 0.1]))
    assert found["labels"].tolist() == [1, 1, 2]
    assert found["boxes"][0].tolist() == pytest.approx([0, 0, 10, (6 + 3.9 + 1.1)])
    assert found["boxes"][1].tolist() == [50, 50, 60, 60]
    assert len(united([first, other], Limits(0.2, 100))["scores"]) == 2
    assert len(united([first, other], Limits(0.0, 1))["scores"]) == 1


def test_nothing_found_by_any_view_is_nothing():
    nothing = detections([], [], [])
    assert len(united([nothing, nothing], Limits())["boxes"]) == 0


@pytest.mark.parametrize("views", [2, 4, 8])
def test_views_change_the_masks_of_what_one_view_finds(segmenter, image, views):
    one, more = (segmenter.predict(image, views=n) for n in (1, views))
    assert found_in(one) == found_in(more) != []
    assert np.abs(grids(one) - grids(more)).max() > 5


def test_each_view_counts_the_same(segmenter, image):
    """The mean over all views, from the masks that each view draws by itself."""
    more = grids(segmenter.predict(image, views=8))
    network, size = segmenter.network, image.shape[:2]
    one = segmenter.predict(image)
    boxes = torch.tensor([piece.box for piece in pieces(one)])
    labels = torch.tensor([" ab".index(i.class_name) for i in one])
    drawn = []
    with torch.inference_mode():
        for view in VIEWS:
            maps = network.maps(segmenter.preprocessing.normalise(view.image(image)))
            masks = network.draw(maps, view.boxes(boxes, size), labels, view.size(size))
            drawn.append(view.inverse.masks(masks).logit(1e-6))
    wanted = torch.stack(drawn).mean(0).sigmoid().numpy() * 255
    assert np.abs(wanted - more).max() <= 1


@pytest.mark.parametrize("view", VIEWS[1:])
def test_a_turned_slice_has_the_turned_masks(segmenter, view):
    """Where all views find and draw: of whole strides, so that padding falls on no side."""
    values = np.random.default_rng(1).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    image = values.repeat(8, axis=0).repeat(8, axis=1)
    size, every = image.shape[:2], {"views": 8, "views_find": True, "max_detections": 5}
    here = segmenter.predict(image, **every)
    there = segmenter.predict(np.ascontiguousarray(view.image(image)), **every)
    boxes = view.boxes(torch.tensor([p.box for p in pieces(here)]), size)
    turned = view.masks(torch.from_numpy(grids(here))).numpy()
    assert len(here) == len(there) == 5
    for one, box, grid in zip(here, boxes, turned, strict=True):
        gaps = [(box - torch.tensor(p.box)).abs().max() for p in pieces(there)]
        near = int(torch.stack(gaps).argmin())
        assert gaps[near] < 1e-2
        assert there[near].score == pytest.approx(one.score, abs=1e-5)
        assert np.abs(grid - grids(there)[near]).max() <= 2


def test_grey_slices_of_16_bit_in_tiles(segmenter, image):
    tiled = MaskRcnnSegmenter(segmenter.network, Preprocessing(tile=64, overlap=16, high=65535.0))
    grey = image[..., 0].astype(np.uint16) * 257
    one, four = (tiled.predict(grey, tiles=True, max_detections=4, views=n) for n in (1, 4))
    scores = {i.score for i in one}
    assert len(one) > 4
    # Tiles are merged by their masks, which differ.
    assert {i.score for i in four} & scores
    assert [i.mask for i in one] != [i.mask for i in four]


def test_masks_that_were_edited_apart_are_drawn_apart_in_every_view(segmenter, image):
    name, layer = next(iter(segmenter.layers(Scope.MASKS).items()))
    delta = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0))
    edited = segmenter.edited({name: delta * 0.02})
    plain, changed = (s.predict(image, views=4) for s in (segmenter, edited))
    assert found_in(plain) == found_in(changed)
    assert np.abs(grids(plain) - grids(changed)).max() > 5


def test_the_fast_engine_draws_the_same_views(segmenter, image):
    exact, quick = (s.predict(image, views=8) for s in (segmenter, fast(segmenter)))
    assert np.abs(grids(exact) - grids(quick)).max() <= 2


def test_neighbours_count_in_every_view_that_finds(segmenter, image):
    every = {"views": 8, "views_find": True, "max_detections": 3}
    last = segmenter.predict(image, views=8, views_find=True)[-1]
    prior = Prior.of([last], 20.0)
    assert segmenter.predict(image, **every) != segmenter.predict(image, **every, prior=prior)


def test_a_prediction_is_cancelled_between_views(segmenter, image):
    asked = iter([False, True])
    with pytest.raises(CancelledError):
        segmenter.predict(image, views=8, cancel=lambda: next(asked))


def test_where_nothing_is_found_no_further_view_is_looked_at(segmenter, image):
    asked = []
    assert segmenter.predict(image, score_floor=1.0, views=8, cancel=lambda: asked.append(0)) == []
    assert len(asked) == 1
