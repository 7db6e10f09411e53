"""What a trained model looks at, and how unequally."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.io
import torch
from scipy.stats import spearmanr

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.models.files.places import SHIPPED
from napari_fossiledit.models.files.registry import load_model
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.backbones import first_convolution
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.training.initial import initial_network
from napari_fossiledit.params.saliency import LookParams, Method, Said
from napari_fossiledit.params.segment import InputMode, TrainParams
from napari_fossiledit.progress import Job
from napari_fossiledit.saliency.asymmetry import asymmetry, shares_of
from napari_fossiledit.saliency.looking import look, memory
from napari_fossiledit.stacks.window import Window

CLASS, PIXEL = "archaeocyathid", 72.7


def _box(y0, y1, x0, x1, shape):
    inside = np.zeros(shape, bool)
    inside[y0:y1, x0:x1] = True
    return Instance(0, CLASS, Mask.from_array(inside))


@pytest.fixture(scope="module")
def reef_lite():
    return load_model(SHIPPED / "reef-lite", "cpu")


@pytest.fixture(scope="module")
def sample(reef_home, reef_lite):
    """A small piece of a slice of the sample reef, and the best instance found in it."""
    file = sorted((reef_home / "reef" / "images").iterdir())[2]
    image = skimage.io.imread(file)
    y0, x0, y1, x1 = reef_lite.predict(image, pixel_size_um=PIXEL)[1].mask.box
    piece = image[max(y0 - 4, 0) : y1 + 4, max(x0 - 4, 0) : x1 + 4]
    return piece, reef_lite.predict(piece, pixel_size_um=PIXEL)[0]


def test_contributions_add_up_to_what_the_model_says(reef_lite, sample):
    piece, best = sample
    chosen = LookParams(method=Method.INTEGRATED, of=Said.MASK, steps=128)
    found = look(reef_lite, piece, [best], chosen, pixel_size_um=PIXEL)
    change = found.value - found.without
    assert abs(change) > 1
    assert abs(found.values.sum() / change - 1) <= 0.01


def test_a_network_of_chance_looks_elsewhere(reef_lite, sample):
    """Sanity check of Adebayo et al. 2018: the map depends on what was learned."""
    piece, best = sample
    torch.manual_seed(1)
    chance = MaskRcnnSegmenter(MaskRcnn(reef_lite.spec), reef_lite.preprocessing)
    maps = [
        np.abs(look(m, piece, [best], LookParams(), pixel_size_um=PIXEL).values).sum(0).ravel()
        for m in (reef_lite, chance)
    ]
    assert spearmanr(*maps)[0] < 0.7


def test_maps_of_instances_add_up(blank_segmenter):
    model, image = (
        blank_segmenter(),
        np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8),
    )
    two = [_box(5, 30, 5, 40, (64, 96)), _box(20, 60, 40, 90, (64, 96))]
    whole, *parts = (look(model, image, i, LookParams()) for i in (two, two[:1], two[1:]))
    np.testing.assert_allclose(whole.values, parts[0].values + parts[1].values, atol=1e-6)
    assert whole.value == pytest.approx(parts[0].value + parts[1].value, abs=1e-4)


def test_smaller_tiles_leave_out_what_holds_no_instance(blank_segmenter):
    model, image = blank_segmenter(), np.full((64, 200, 3), 90, np.uint8)
    image[10:40, 150:190] = 200
    asked = [_box(10, 40, 150, 190, (64, 200))]
    found = look(model, image, asked, LookParams(tile=96))
    assert 0 < found.seen < 0.6
    assert not found.values[:, :, :60].any()
    assert found.values[:, :, 110:].any()
    whole, small = (memory(model.held(image, asked, tile=n)) for n in (0, 96))
    assert 0 < small < whole


def test_memory_is_what_autograd_keeps(blank_segmenter):
    """Counted at full size, in place of the two small pieces that it is estimated from."""
    model, image = blank_segmenter(), np.zeros((256, 320, 3), np.uint8)
    (tile,) = model.held(image, [_box(50, 150, 50, 200, (256, 320))])
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        said = tile.logits(tile.pixels.clone().requires_grad_())
        true = sum(kept.values())
    assert said[0].requires_grad
    assert memory([tile]) == pytest.approx(true, rel=0.1)


def test_what_cannot_be_asked_says_why(blank_segmenter):
    model, image = blank_segmenter(), np.zeros((64, 64, 3), np.uint8)
    here = _box(5, 30, 5, 40, (64, 64))
    with pytest.raises(FossilError, match="nothing to explain"):
        look(model, image, [], LookParams())
    with pytest.raises(FossilError, match="does not know the class shell"):
        look(model, image, [Instance(0, "shell", here.mask)], LookParams())
    with pytest.raises(FossilError, match="does not tell slices and colours apart"):
        asymmetry(model, [(image, [here])], LookParams(method=Method.GRAD_CAM))
    with pytest.raises(FossilError, match="no slice to look at"):
        asymmetry(model, [])
    with pytest.raises(CancelledError):
        look(model, image, [here], LookParams(), job=Job(cancelled=lambda: True))
    with torch.no_grad():
        first_convolution(model.network.backbone).weight[:] = np.nan
    with pytest.raises(FossilError, match="cannot be computed"):
        look(model, image, [here], LookParams())


def test_shares_of_channels_by_hand():
    values = np.array([1, -2, 3, 0, 0, 4, -5, 0, 5], np.float32).reshape(9, 1, 1)
    shares = shares_of(values, Window(InputMode.RGB_WINDOW, 1))
    np.testing.assert_allclose(shares, np.array([[1, 2, 3], [0, 0, 4], [5, 0, 5]]) / 20)
    with pytest.raises(FossilError, match="looks at nothing"):
        shares_of(values * 0, Window(InputMode.RGB_WINDOW, 1))


@pytest.fixture(scope="module")
def starts(reef_lite):
    """Models of three grey slices before they are trained, by how their first layer starts."""
    settings = {"input": InputMode.GREY_WINDOW, "reach": 1}
    made = {}
    for how in ("uniform", "pretrained"):
        params = TrainParams(
            **settings, start=how, init=str(SHIPPED / "reef-lite"), classes=(CLASS,)
        )
        preprocessing = reef_lite.preprocessing.model_copy(update=settings)
        made[how] = MaskRcnnSegmenter(initial_network(params).network, preprocessing)
    return made


def test_a_uniform_start_looks_at_all_slices_alike(starts):
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)
    asked = [(noise, [_box(20, 70, 20, 80, (96, 96))])]
    found = asymmetry(starts["uniform"], asked, LookParams(method=Method.GRADIENT))
    np.testing.assert_allclose(found.by_slice, 1 / 3, atol=1e-6)
    noise[..., 2] = noise[..., 0]
    assert abs(asymmetry(starts["uniform"], asked).index).max() <= 1e-6
    # Weights that were trained on colours do not.
    assert abs(asymmetry(starts["pretrained"], asked).index).max() > 0.05


def test_what_is_visible_before_or_after_alone_is_looked_at_there(starts):
    """The planted case: z-1, then z+1 shows an object, and all else is the mean colour."""
    window = np.full((96, 96, 3), 128, np.uint8)
    window[25:65, 30:70, 0] = 250
    here = [_box(25, 65, 30, 70, (96, 96))]
    found = asymmetry(starts["uniform"], [(w, here) for w in (window, window[..., ::-1])])
    np.testing.assert_allclose(found.index, [-1, 1], atol=0.05)
    np.testing.assert_allclose(found.by_slice[:, [0, 2]], [[1, 0], [0, 1]], atol=0.05)
