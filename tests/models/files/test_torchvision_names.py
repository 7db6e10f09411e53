"""torchvision's Mask R-CNNs with random weights, stage by stage against torchvision itself."""

import hashlib

import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.misc import FrozenBatchNorm2d

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.detectron2.write import to_detectron2
from napari_fossiledit.models.files import published
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.network.heads import Limits
from napari_fossiledit.models.training import initial
from napari_fossiledit.params.segment import CocoWeights, TrainParams

CLASSES = ("a", "b", "c")
EDGE = 128


def randomised(model):
    """Give every layer, the statistics too, values that keep the maps at their size."""
    generator = torch.Generator().manual_seed(3)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            # Some far below torchvision's epsilon, as in its first COCO weights.
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            value[::7] = 1e-7
        elif name.endswith(("running_mean", "bias")):
            value.normal_(std=0.1, generator=generator)
        elif value.ndim == 1 and name.endswith("weight"):
            value.uniform_(0.2, 0.4, generator=generator)
            value[::7] *= 1e-3
    return model.eval()


def theirs(version):
    torch.manual_seed(2)
    make = maskrcnn_resnet50_fpn if version == 1 else maskrcnn_resnet50_fpn_v2
    model = make(weights=None, weights_backbone=None, num_classes=len(CLASSES) + 1)
    if version == 1:
        for parent in list(model.backbone.body.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, torch.nn.BatchNorm2d):
                    # With its COCO weights: frozen, and nothing is added to the variances.
                    parent.add_module(name, FrozenBatchNorm2d(child.num_features, eps=0.0))
    return randomised(model)


def old(name):
    """Return a name of the published file of version 1, which is older than torchvision 0.13."""
    for part in ("inner_blocks", "layer_blocks"):
        for n in range(4):
            name = name.replace(f"{part}.{n}.0.", f"{part}.{n}.")
    for n in range(4):
        name = name.replace(f"mask_head.{n}.0.", f"mask_head.mask_fcn{n + 1}.")
    return name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")


def start(model, version, path, monkeypatch):
    state = model.state_dict()
    if version == 1:
        state = {old(name): value for name, value in state.items()}
    torch.save(state, path)
    if version == 1:
        digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
        known = published.COCO[CocoWeights.TORCHVISION_R50]
        changed = type(known)(known.url, known.size, digest, known.licence)
        monkeypatch.setitem(published.COCO, CocoWeights.TORCHVISION_R50, changed)
    params = TrainParams(classes=CLASSES, init=str(path), architecture="r50")
    try:
        return initial.initial_network(params)
    finally:
        path.unlink()


def close(ours, others):
    torch.testing.assert_close(ours, others, rtol=1e-4, atol=1e-5 * float(others.abs().max()))


@pytest.mark.parametrize("version", [1, 2])
def test_every_stage_computes_what_torchvision_computes(version, tmp_path, monkeypatch):
    model = theirs(version)
    network, preprocessing, notes = start(model, version, tmp_path / "w.pth", monkeypatch)
    network.eval()
    assert preprocessing.mean[0] == pytest.approx(0.485 * 255)
    assert preprocessing.std[2] == pytest.approx(0.225 * 255)
    assert len(notes) == 1
    assert "go on from those of the classes" in notes[0]
    image = torch.randn(1, 3, EDGE, EDGE, generator=torch.Generator().manual_seed(1))
    sizes = [(EDGE, EDGE)]
    with torch.no_grad():
        maps = model.backbone(image)
        own = network.backbone(image)
        assert list(own) == list(maps)
        for name in maps:
            close(own[name], maps[name])
        objectness, offsets = model.rpn.head(list(maps.values()))
        own_objectness, own_offsets = network.rpn.head(list(maps.values()))
        for ours, others in zip(own_objectness + own_offsets, objectness + offsets, strict=True):
            close(ours, others)
        (proposals,), _ = model.rpn(ImageList(image, sizes), maps)
        proposed = network.rpn.propose(ImageList(image, sizes), maps)
        # Logits that differ in the last digit change places, and who suppresses whom.
        apart = torch.cdist(proposed.double(), proposals.double()).min(1).values
        assert abs(len(proposed) - len(proposals)) <= 0.01 * len(proposals)
        assert float((apart < 0.01).float().mean()) > 0.99
        # Far apart, so that scores that differ in the last digit decide on nothing.
        regions = torch.tensor([[0, 0, 50, 40], [70, 10, 128, 60], [10, 80, 60, 120.0]])
        heads, own_heads = model.roi_heads, network.roi_heads
        pooled = heads.box_roi_pool(maps, [regions], sizes)
        close(own_heads.box_roi_pool(maps, [regions], sizes), pooled)
        close(own_heads.box_head(pooled), heads.box_head(pooled))
        masks = heads.mask_roi_pool(maps, [regions], sizes)
        close(own_heads.mask_head(masks), heads.mask_head(masks))
        (expected,), _ = heads(maps, [regions], sizes)
        found = own_heads.find(maps, regions, sizes[0], Limits(0.05, 100))
        drawn = own_heads.draw(maps, found["boxes"], found["labels"], sizes[0])
    assert len(expected["scores"]) == len(found["scores"]) == len(CLASSES) * len(regions)
    place = [
        torch.cat([200.0 * d["labels"][:, None], d["boxes"]], dim=1) for d in (expected, found)
    ]
    order = torch.cdist(*(p.double() for p in place)).argmin(1)
    assert sorted(order.tolist()) == list(range(len(order)))
    close(place[1][order], place[0])
    close(found["scores"][order], expected["scores"])
    close(drawn[order], expected["masks"][:, 0])


def test_other_files_of_version_1_say_what_is_assumed(tmp_path):
    torch.save(theirs(1).state_dict(), tmp_path / "w.pth")
    params = TrainParams(classes=CLASSES, init=str(tmp_path / "w.pth"), architecture="r50")
    assert "add 1e-5 to the variance" in initial.initial_network(params).notes[0]
    with pytest.raises(FossilError, match="expected r101; found r50") as caught:
        initial.initial_network(params.model_copy(update={"architecture": "r101"}))
    assert "--architecture r50" in caught.value.advice
    (tmp_path / "w.pth").unlink()


def test_version_2_trains_and_is_saved_but_detectron2_has_no_such_heads(tmp_path, monkeypatch):
    network, preprocessing, _ = start(theirs(2), 2, tmp_path / "w.pth", monkeypatch)
    image = torch.randn(1, 3, 64, 64)
    target = {
        "boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]),
        "labels": torch.tensor([1]),
        "masks": torch.ones(1, 64, 64, dtype=torch.uint8),
    }
    losses = network.train().losses(image, [target])
    assert all(bool(torch.isfinite(v)) for v in losses.values())
    model = MaskRcnnSegmenter(network, preprocessing or Preprocessing())
    assert '"box_convolutions":4' in network.spec.hashed_json()
    with pytest.raises(FossilError, match="heads that detectron2's models do not have"):
        to_detectron2(model)
