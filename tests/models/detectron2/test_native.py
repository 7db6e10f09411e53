"""The same model in native detectron2 and here: every stage, an edit, and the way back.

Native detectron2 makes the model, saves it, and runs in a process of its own.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from napari_fossiledit.models.detectron2.read import read_detectron2
from napari_fossiledit.models.detectron2.write import write_detectron2
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import default_spec

# The first test waits for the download.
pytestmark = [pytest.mark.detectron2, pytest.mark.timeout(900)]

THREADS = 2
EDGES = {"short_edge": 160, "long_edge": 256}
EDITED = [4, 5]


@pytest.fixture(autouse=True)
def _two_threads(_one_thread):
    torch.set_num_threads(THREADS)


def _section(seed, shape=(240, 330)):
    """Rings and mud, blurred and noisy."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.full((*shape, 3), (120, 90, 80)) + 25 * np.sin(x / 9 + seed)[..., None]
    for _ in range(25):
        distance = np.hypot(y - draw.uniform(0, shape[0]), x - draw.uniform(0, shape[1]))
        radius = draw.uniform(8, 40)
        image[abs(distance - radius) < 4] = draw.uniform(60, 240, 3)
    return (image + draw.normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory, request):
    """Three sections by file; a Labrador crop among them where the data is at hand."""
    folder = tmp_path_factory.mktemp("sections")
    sections = [_section(0), _section(1, (330, 240)), _section(2, (200, 300))]
    try:
        real = request.getfixturevalue("shared_data") / "labrador" / "labrador_left.jpg"
        with Pillow.open(real) as photo:
            sections[2] = np.asarray(photo.crop((400, 900, 1000, 1300)))
    except pytest.skip.Exception:
        pass
    paths = [folder / f"{i}.npy" for i in range(len(sections))]
    for path, section in zip(paths, sections, strict=True):
        np.save(path, section)
    return dict(zip(paths, sections, strict=True))


@pytest.fixture(scope="module", params=[2, 80], ids=["2-classes", "80-classes"])
def both(native, images, tmp_path_factory, request):
    """A model in native detectron2 (open in its process) and its twin here."""
    folder = tmp_path_factory.mktemp(f"native{request.param}")
    options = {"architecture": "r50", "classes": request.param, **EDGES}
    seen = list(images)[: 3 if request.param == 2 else 1]
    native("create", images=seen, folder=folder, seed=request.param, **options)
    native("open", folder=folder)
    stages = {}
    for path in seen:
        out = folder / f"{path.stem}.npz"
        native("stages", image=path, out=out, maps=True)
        stages[path] = dict(np.load(out))
    twin = read_detectron2(folder / "model_final.pth")
    return SimpleNamespace(native=stages, twin=twin.segmenter("cpu"), folder=folder, images=images)


def _stages(segmenter, image):
    """Pyramid by detectron2's names, proposals."""
    rgb = segmenter.preprocessing.prepare(image)
    pixels, size = segmenter.preprocessing.normalise(rgb), rgb.shape[:2]
    with torch.inference_mode():
        maps = segmenter.network.backbone(pixels)
        proposals, _ = segmenter.network.rpn(ImageList(pixels, [size]), maps)
    named = dict(zip(("p2", "p3", "p4", "p5", "p6"), maps.values(), strict=True))
    return named, proposals[0]


def test_pyramid_and_proposals_are_the_same(both):
    for path, wanted in both.native.items():
        maps, proposals = _stages(both.twin, both.images[path])
        for name, found in maps.items():
            assert np.abs(found.numpy() - wanted[f"map_{name}"]).max() <= 1e-4
        theirs = torch.from_numpy(wanted["proposals"])
        assert len(proposals) == len(theirs)
        nearest = box_iou(proposals, theirs).argmax(1)
        assert len(set(nearest.tolist())) == len(theirs)
        assert float((proposals - theirs[nearest]).abs().max()) <= 1e-2


def _detected(segmenter, image):
    """Instances and, of the same pass, boxes (n, 4) in the image, scores and classes."""
    network, taken = segmenter.network, {}
    original = network.find

    def noted(*arguments, **options):
        taken.update(original(*arguments, **options))
        return dict(taken)

    network.find = noted
    try:
        instances = segmenter.predict(image)
    finally:
        del network.find
    size = segmenter.preprocessing.working_shape(image.shape[:2])
    scale = torch.tensor([image.shape[1] / size[1], image.shape[0] / size[0]] * 2)
    return (instances, taken["boxes"] * scale, taken["scores"].numpy(), taken["labels"].numpy() - 1)


def test_detections_are_the_same(both):
    for path, wanted in both.native.items():
        image = both.images[path]
        found, boxes, scores, classes = _detected(both.twin, image)
        theirs = torch.from_numpy(wanted["boxes"])
        assert len(found) == len(scores) == len(theirs) == 100
        # Two scores that differ by rounding only may change places.
        alike = torch.from_numpy(classes[:, None] == wanted["classes"])
        near = (box_iou(boxes, theirs) * alike).argmax(1).numpy()
        assert sorted(near) == list(range(100))
        assert (classes == wanted["classes"][near]).all()
        assert np.abs(scores - wanted["scores"][near]).max() <= 1e-4
        assert np.abs(boxes.numpy() - wanted["boxes"][near]).max() <= 0.05
        assert np.allclose([i.score for i in found], scores)
        masks = np.unpackbits(wanted["masks"], axis=2, count=image.shape[1]).astype(bool)
        for instance, mask in zip(found, masks[near], strict=True):
            ours = instance.mask.to_array()
            assert (ours & mask).sum() >= 0.999 * (ours | mask).sum()


def _ridge(layer, captured, wanted, pull=1e-3):
    """Change of a convolution that makes it give `wanted` for its key, in double precision."""
    rows = F.unfold(captured.key.double(), 3, padding=1)[0].T.numpy()
    lacking = wanted - F.conv2d(captured.key, layer.weight.detach(), layer.bias, padding=1)
    target = lacking.detach().double().flatten(2)[0].T.numpy()
    gram = rows.T @ rows
    gram[np.diag_indices_from(gram)] += pull * np.trace(gram) / len(gram)
    return np.linalg.solve(gram, rows.T @ target).T.reshape(layer.weight.shape)


def test_an_edit_is_the_same(both, native, images):
    if len(both.twin.classes) != 2:
        pytest.skip("the classes do not reach the pyramid")
    first = next(iter(images))
    mud = both.folder / "mud.npy"
    perturbed = images[first].copy()
    perturbed[:120] = (150, 60, 50)
    np.save(mud, perturbed)
    native("open", folder=both.folder)
    native("ridge", image=first, wanted=mud, levels=EDITED, out=both.folder / "edit.npz")
    wanted = np.load(both.folder / "edit.npz")
    keys, values = both.twin.capture(images[first]), both.twin.capture(perturbed)
    for level in EDITED:
        layer = list(both.twin.layers().values())[level - 2]
        found = _ridge(layer, keys[level - 2], values[level - 2].value)
        assert np.abs(wanted[str(level)]).max() > 1e-3
        assert np.abs(found - wanted[str(level)]).max() <= 1e-5


def test_what_was_edited_here_goes_back(both, native, images, tmp_path):
    if len(both.twin.classes) != 2:
        pytest.skip("once is enough")
    edited = read_detectron2(both.folder / "model_final.pth").segmenter("cpu")
    with torch.no_grad():
        next(iter(edited.layers().values())).weight.mul_(1.5)
    write_detectron2(edited, tmp_path)
    answer = native("open", folder=tmp_path)
    assert answer == {"missing": [], "unknown": []}
    first = next(iter(images))
    native("stages", image=first, out=tmp_path / "out.npz")
    wanted, found = np.load(tmp_path / "out.npz"), edited.predict(images[first])
    assert np.abs(np.array([i.score for i in found]) - wanted["scores"]).max() <= 1e-4
    assert np.abs(wanted["scores"] - both.native[first]["scores"]).max() > 1e-4


def test_what_was_made_here_is_loaded_strictly(native, images, tmp_path):
    torch.manual_seed(0)
    network = MaskRcnn(default_spec("r50", ("archaeocyathid",)))
    made = MaskRcnnSegmenter(network, Preprocessing())
    write_detectron2(made, tmp_path)
    assert native("open", folder=tmp_path) == {"missing": [], "unknown": []}
    again = read_detectron2(tmp_path / "model_final.pth").segmenter("cpu")
    assert again.model_hash == made.model_hash


def test_nothing_of_detectron2_is_imported_here(both):
    assert not {"detectron2", "cv2", "fvcore"} & set(sys.modules)
