"""What a model sees with a slice, and how its first convolution starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save as save_tensors

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.detectron2.write import to_detectron2
from napari_fossiledit.models.files.places import SHIPPED
from napari_fossiledit.models.files.registry import load_model, read_record, save_model
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.backbones import first_convolution
from napari_fossiledit.models.training.initial import first_kernel, initial_network
from napari_fossiledit.params.segment import FirstLayer, InputMode, TrainParams
from napari_fossiledit.stacks.window import ALONE, Window

GREY, COLOUR = Window(InputMode.GREY_WINDOW, 1), Window(InputMode.RGB_WINDOW, 1)
WIDE = Window(InputMode.GREY_WINDOW, 2)
REEF_LITE = str(SHIPPED / "reef-lite")
KERNEL = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(0))


def _start(**changes):
    chosen = {"input": "grey-window", "init": REEF_LITE, "classes": ("archaeocyathid",)}
    return initial_network(TrainParams(**{**chosen, **changes}))


def _first(start):
    return first_convolution(start.network.backbone).weight.detach()


@pytest.fixture(scope="module")
def chloroplast(shared_data):
    """Three windows (1, 3, 256, 256) of real grey slices, normalised."""
    files = sorted((shared_data / "chloroplast" / "images").iterdir())[:5]
    stack = [np.asarray(Image.open(f).convert("L"))[:256, :256] for f in files]
    settings = Preprocessing(input=GREY.mode, reach=1)
    return [settings.normalise(GREY.read(stack.__getitem__, z, 5)) for z in (1, 2, 3)]


@pytest.mark.parametrize("init", [REEF_LITE, ""])
def test_uniform_channels_have_one_gradient_whatever_they_show(init):
    network = _start(start="uniform", init=init).network.eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    images.requires_grad_()
    network.backbone(images)["0"].square().mean().backward()
    gradient = images.grad[0]
    largest = gradient.abs().max()
    assert largest > 0
    assert (gradient - gradient[:1]).abs().max() <= 1e-6 * largest
    # The same of weights as they were trained on colours tells the channels apart.
    images.grad = None
    _start(init=init).network.eval().backbone(images)["0"].square().mean().backward()
    assert (images.grad[0] - images.grad[0, :1]).abs().max() > 0.1 * images.grad.abs().max()


@pytest.mark.parametrize("how", ["uniform", "symmetric"])
def test_what_shows_the_same_before_and_after_counts_the_same(how):
    network = _start(start=how).network.eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    images[:, 2] = images[:, 0]
    images.requires_grad_()
    network.backbone(images)["1"].square().mean().backward()
    before, _, after = (images.grad * images)[0].abs().sum((1, 2))
    assert before > 0
    assert abs(after - before) <= 1e-6 * (after + before)


def test_activations_of_real_slices_keep_their_scale(chloroplast):
    spreads = {}
    for how in ("pretrained", "uniform", "symmetric"):
        body = _start(start=how).network.eval().backbone
        with torch.no_grad():
            first = [first_convolution(body)(images) for images in chloroplast]
            deep = [body(images)["2"] for images in chloroplast]
        spreads[how] = [float(torch.stack(maps).std()) for maps in (first, deep)]
    for how in ("uniform", "symmetric"):
        assert spreads[how] == pytest.approx(spreads["pretrained"], rel=0.05)


@pytest.mark.parametrize("window", [GREY, WIDE, COLOUR, ALONE])
@pytest.mark.parametrize("how", [FirstLayer.PRETRAINED, FirstLayer.UNIFORM, FirstLayer.SYMMETRIC])
def test_equal_channels_give_what_they_gave_before(window, how):
    made = first_kernel(KERNEL, ALONE, window, how)
    assert made.shape == (8, window.channels, 3, 3)
    if window == WIDE and how is not FirstLayer.UNIFORM:
        # Red and green come twice, blue once, all times 3/5.
        repeated = torch.cat([KERNEL, KERNEL[:, :2]], 1) * 0.6
        expected = repeated if how is FirstLayer.PRETRAINED else (repeated + repeated.flip(1)) / 2
        torch.testing.assert_close(made, expected)
    else:
        torch.testing.assert_close(made.sum(1), KERNEL.sum(1))


def test_kernels_by_their_rules():
    by_slice = first_kernel(KERNEL, ALONE, COLOUR, FirstLayer.UNIFORM_Z).unflatten(1, (3, 3))
    for one in by_slice.unbind(1):
        torch.testing.assert_close(one, KERNEL / 3)
    assert torch.equal(first_kernel(KERNEL, ALONE, GREY, FirstLayer.PRETRAINED), KERNEL)
    tied = first_kernel(torch.randn(8, 9, 3, 3), COLOUR, COLOUR, FirstLayer.SYMMETRIC)
    assert torch.equal(tied, tied[:, COLOUR.mirrored])
    assert not torch.equal(tied, tied.flip(1))
    # A window of grey slices becomes colours that show the same grey, and the other way round.
    back = first_kernel(KERNEL, GREY, ALONE, FirstLayer.PRETRAINED)
    torch.testing.assert_close(back, KERNEL.mean(1, keepdim=True).expand_as(KERNEL))
    wide = first_kernel(KERNEL, GREY, WIDE, FirstLayer.PRETRAINED)
    torch.testing.assert_close(wide.sum(1), KERNEL.sum(1))
    chance = first_kernel(KERNEL, ALONE, GREY, FirstLayer.RANDOM)
    assert chance.std() == pytest.approx(float(KERNEL.std()), rel=0.2)
    assert not torch.allclose(chance, KERNEL)


def test_a_start_is_recorded_and_says_what_it_did():
    start = _start(input="rgb-window", start="uniform-z")
    spec = start.network.spec
    assert (spec.inputs, spec.first_layer, spec.frozen_stages) == (9, FirstLayer.UNIFORM_Z, 0)
    assert first_convolution(start.network.backbone).weight.requires_grad
    assert start.notes[-1] == (
        "The model sees 3 slices at once, its own in the middle. Its first layer, which learns as"
        " well, starts with the mean of its weights over the slices, colours as they were."
    )
    same = _start(input="rgb")
    assert same.network.spec == read_record(SHIPPED / "reef-lite").network
    assert torch.equal(_first(same), _first(_start()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "rgb", "start": "symmetric"}, "rgb-window or grey-window"),
        ({"start": "uniform-z"}, "expected --input rgb-window; found grey-window"),
        ({"input": "rgb", "z_flip": True}, "--z-flip"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(FossilError, match=message):
        _start(**changes)


def test_a_resnet_sees_windows_as_well(tmp_path):
    from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
    from napari_fossiledit.models.network.spec import default_spec

    torch.manual_seed(0)
    twin = MaskRcnnSegmenter(MaskRcnn(default_spec("r50", ("a",))), Preprocessing(bgr=True))
    save_model(twin, tmp_path / "r50")
    start = _start(
        architecture="r50", init=str(tmp_path / "r50"), input="rgb-window", classes=("a",)
    )
    assert _first(start).shape == (64, 9, 7, 7)
    torch.testing.assert_close(
        _first(start).unflatten(1, (3, 3)).sum(1), twin.weights()["backbone.body.conv1.weight"]
    )
    settings = start.preprocessing.model_copy(update={"input": COLOUR.mode, "reach": 1})
    with pytest.raises(FossilError, match=r"sees 3 slices at once \(rgb-window\)"):
        to_detectron2(MaskRcnnSegmenter(start.network, settings))


def test_weights_of_another_input_are_refused_where_nothing_says_what_they_saw(tmp_path):
    weights = _start(input="rgb-window").network.state_dict()
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes(save_tensors({name: value.contiguous() for name, value in weights.items()}))
    with pytest.raises(FossilError, match=r"conv_stem.weight .* wrong shape[\s\S]*or input"):
        _start(init=str(bare))


def test_a_model_comes_back_from_its_files_with_its_mode_and_goes_on_from_there(tmp_path):
    start = _start(start="symmetric")
    settings = start.preprocessing.model_copy(update={"input": GREY.mode, "reach": 1})
    segmenter = MaskRcnnSegmenter(start.network, settings)
    save_model(segmenter, tmp_path / "m")
    read = load_model(tmp_path / "m")
    assert read.preprocessing.window == GREY
    assert read.spec.first_layer is FirstLayer.SYMMETRIC
    assert read.model_hash == segmenter.model_hash
    # Nothing was asked for: it stays tied.
    again = _start(init=str(tmp_path / "m"))
    assert again.network.spec == read.spec
    assert torch.equal(_first(again), _first(start))
    with pytest.raises(FossilError, match=r"expected \(y, x, 3\): 3 slices"):
        read.predict(np.zeros((64, 64), np.uint8))
    window = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    turned = [read.predict(planes, views=2) for planes in (window, window[..., ::-1])]
    assert turned[0]
    assert [i.score for i in turned[0]] == pytest.approx([i.score for i in turned[1]], abs=1e-5)


def test_models_of_single_slices_keep_their_files_and_hash():
    record = read_record(SHIPPED / "reef-lite")
    assert {"input", "reach"}.isdisjoint(record.preprocessing.model_dump())
    assert record.preprocessing.window == ALONE
    assert load_model(SHIPPED / "reef-lite").model_hash == record.model_hash


def test_planes_are_normalised_like_colours_and_grey_by_their_mean():
    planes = np.random.default_rng(0).integers(0, 255, (32, 32, 9), np.uint8)
    settings = Preprocessing(mean=(10, 20, 30), std=(1, 2, 3), bgr=True)
    seen = settings.model_copy(update={"input": COLOUR.mode, "reach": 1}).normalise(planes)
    apart = [settings.normalise(planes[..., n : n + 3]) for n in (0, 3, 6)]
    assert torch.equal(seen, torch.cat(apart, 1))
    grey = settings.model_copy(update={"input": GREY.mode, "reach": 1}).normalise(planes[..., :3])
    expected = (planes[..., :3].astype(np.float32) - 20) / 2
    assert np.allclose(grey[0].permute(1, 2, 0), expected)


@pytest.mark.parametrize("channels", [5, 9])
def test_every_plane_is_resized_alike(channels):
    planes = np.random.default_rng(0).integers(0, 255, (60, 40, channels), np.uint8)
    mode = InputMode.GREY_WINDOW if channels == 5 else InputMode.RGB_WINDOW
    settings = Preprocessing(input=mode, reach=2 if channels == 5 else 1, scale=0.5)
    made = settings.prepare(planes)
    assert made.shape == (30, 20, channels)
    for n in range(channels):
        alone = Preprocessing(scale=0.5).prepare(planes[..., n])
        assert np.array_equal(made[..., n], alone[..., 0])
