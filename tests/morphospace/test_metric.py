"""What is learned tells classes apart, keeps the rest, and is read back as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.morphospace.backbones import (
    changed,
    features,
    lite,
    open_backbone,
    pooled,
)
from napari_fossiledit.morphospace.embedding import Item
from napari_fossiledit.morphospace.figures import recall_at
from napari_fossiledit.morphospace.metric import closed_form, fit_head, points_of
from napari_fossiledit.morphospace.model import Model
from napari_fossiledit.morphospace.training import train
from napari_fossiledit.params.morphospace import MetricParams
from napari_fossiledit.progress import Job

EDGE = 64


def clouds(each: int = 30, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Three classes that differ in two of twenty numbers, and are spread far in all others."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), each)
    points = rng.standard_normal((3 * each, 20)) * np.r_[1, 1, np.full(18, 8)]
    points[:, :2] += np.array([[4, 0], [0, 4], [-4, -4]])[labels]
    return points, [f"class {n}" for n in labels]


def test_the_closed_form_finds_the_plane_of_the_discriminant() -> None:
    points, names = clouds(200)
    labels = np.unique(names, return_inverse=True)[1]
    params = MetricParams(shrinkage=1e-9, dimensions=12)
    centre, found = closed_form(points, labels, params)
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(points, labels).scalings_[:, :2]
    assert found.shape == (11, 20)
    mine, other = (np.linalg.qr(plane)[0] for plane in (found[:2].T, theirs))
    np.testing.assert_allclose(np.linalg.svd(mine.T @ other)[1], 1, atol=1e-6)
    # Shares of the two parts, each of unit size.
    mapped = (points - centre) @ found.T
    sizes = [(part**2).sum(axis=1).mean() for part in (mapped[:, :2], mapped[:, 2:])]
    np.testing.assert_allclose(sizes, [params.share, 1 - params.share], rtol=1e-6)


def test_new_items_lie_near_those_of_their_class() -> None:
    known, names = clouds(seed=1)
    fresh, others = clouds(seed=2)
    raw = fresh / np.linalg.norm(fresh, axis=1, keepdims=True)
    before = recall_at(raw, others)[1]
    head = fit_head(known[:, None], names, MetricParams())
    after = recall_at(points_of(head, fresh), others)[1]
    assert before < 0.5
    assert after > 0.9


def test_training_lowers_its_loss_and_repeats_itself() -> None:
    points, names = clouds()
    losses: list[float] = []
    job = Job(on_progress=lambda p: losses.append(p.values["loss"]))
    heads = [fit_head(points[:, None], names, MetricParams(epochs=30), j) for j in (job, Job())]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    torch.testing.assert_close(heads[0].weight, heads[1].weight, rtol=0, atol=0)


def test_training_stops_where_asked() -> None:
    points, names = clouds()
    with pytest.raises(CancelledError):
        fit_head(points[:, None], names, MetricParams(), Job(cancelled=lambda: True))


def test_a_number_that_never_differs_does_no_harm() -> None:
    points, names = clouds()
    points = np.c_[points, np.full(len(points), 7.0)]
    head = fit_head(points[:, None], names, MetricParams())
    points[:, -1] = 9
    assert np.isfinite(points_of(head, points)).all()
    assert head.unit[-1] == 0


# ------------------------------------------------------------------ with a backbone


def pictures(seed: int = 0) -> list[np.ndarray]:
    """Eight pictures with stripes across or along, of different widths."""
    rng = np.random.default_rng(seed)
    made = []
    for n in range(8):
        wave = np.sin(np.arange(EDGE) * (0.5 + 0.1 * n))
        image = np.tile(wave, (EDGE, 1)) if n % 2 else np.tile(wave[:, None], (1, EDGE))
        noisy = 128 + 90 * image + rng.normal(0, 5, image.shape)
        made.append(np.repeat(noisy.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2))
    return made


ITEMS = [
    Item(f"{n}.png", f"{n}", "along" if n % 2 else "across", content=f"c{n}") for n in range(8)
]
PARAMS = MetricParams(edge=EDGE, copies=4, epochs=2)


def test_mirrored_copies_are_mirrored() -> None:
    image = torch.arange(12.0).reshape(1, 1, 3, 4).expand(1, 3, 3, 4)
    assert torch.equal(changed(image, 0), image)
    assert torch.equal(changed(image, 1), image.flip(3))
    assert torch.equal(changed(image, 2), image.flip(2))
    assert torch.equal(changed(image, 3), image.flip(2, 3))
    assert not torch.equal(changed(image, 4), changed(image, 8))


@pytest.mark.parametrize("fine_tune", [False, True])
def test_a_saved_model_gives_the_same_points(tmp_path: Path, fine_tune: bool) -> None:
    params = PARAMS.model_copy(update={"fine_tune": fine_tune, "outline": not fine_tune})
    backbone = lite(EDGE)
    before = backbone.late.state_dict()["blocks.5.0.conv_pw.weight"].clone()
    model = train(backbone, ITEMS, pictures, params)
    record = model.save(tmp_path / "m")
    again = Model.load(tmp_path / "m")
    np.testing.assert_array_equal(again.points(pictures())[0], model.points(pictures())[0])
    assert again.hash == record.model_hash == model.hash
    assert record.items == {f"{n}.png": f"c{n}" for n in range(8)}
    assert record.classes == ("across", "along")
    after = again.backbone.late.state_dict()["blocks.5.0.conv_pw.weight"]
    assert torch.equal(before, after) is not fine_tune
    # The early layers are shared with every project: they are never written.
    assert (tmp_path / "m/weights.safetensors").stat().st_size < (10e6 if fine_tune else 1e6)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        train(lite(EDGE), ITEMS, lambda s=seed: pictures(s), PARAMS).save(tmp_path / name)
    (tmp_path / "b/weights.safetensors").replace(tmp_path / "a/weights.safetensors")
    with pytest.raises(FossilError, match=r"does not belong to its model\.json"):
        Model.load(tmp_path / "a")


def test_one_class_cannot_be_trained() -> None:
    with pytest.raises(FossilError, match="Training needs at least two classes"):
        train(lite(EDGE), ITEMS[::2], pictures, PARAMS)


# ------------------------------------------------------------------ backbones from files


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_torchvision_and_timm_take_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    import timm
    from torchvision import models

    made = {
        "torchvision:resnet18": models.resnet18(weights=None).eval(),
        "timm:resnet18": timm.create_model("resnet18", pretrained=False).eval(),
    }
    for name, network in made.items():
        file = tmp_path / f"{name[:4]}.{suffix}"
        state = network.state_dict()
        save_file(state, file) if suffix == "safetensors" else torch.save(state, file)
        found = features(open_backbone(name, file, EDGE), pictures()[:2], [0])[:, 0]
        assert found.shape == (2, 512)
        image = (torch.from_numpy(pictures()[0]).permute(2, 0, 1) / 255)[None]
        shift = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        scale = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        network.fc = torch.nn.Identity()
        with torch.inference_mode():
            expected = network((image - shift) / scale).numpy()[0]
        np.testing.assert_allclose(found[0], expected, rtol=1e-3, atol=1e-4)
    model = train(open_backbone(name, file, EDGE), ITEMS, pictures, PARAMS)
    model.save(tmp_path / "m")
    again = Model.load(tmp_path / "m")
    np.testing.assert_array_equal(again.points(pictures())[0], model.points(pictures())[0])
    params = PARAMS.model_copy(update={"fine_tune": True})
    with pytest.raises(FossilError, match="cannot be fine-tuned; expected lite"):
        train(model.backbone, ITEMS, pictures, params)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("resnet18", None, "There is no backbone 'resnet18'"),
        ("timm:resnet_18", b"", "Do you mean 'resnet18'"),
        ("timm:resnet18", None, "has no weights"),
        ("timm:resnet18", b"no tensors at all", "holds no weights"),
        ("timm:resnet18", {"a": 1}, "holds no weights"),
        ("timm:resnet18", {"conv1.weight": torch.zeros(1)}, "lacks layer"),
    ],
)
def test_other_backbones_and_files_are_refused(
    tmp_path: Path, name: str, content: object, message: str
) -> None:
    file = None if content is None else tmp_path / "weights.pth"
    if isinstance(content, bytes):
        file.write_bytes(content or b"")
        if not content:
            torch.save({}, file)
    elif file is not None:
        torch.save(content, file)
    with pytest.raises(FossilError, match=message):
        open_backbone(name, file)


@pytest.mark.parametrize("size", range(1, 25))
def test_maps_of_all_sizes_have_three_zones(size):
    assert pooled(torch.rand(2, 3, size, size)).isfinite().all()
