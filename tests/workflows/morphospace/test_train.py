"""Trained, embedded and judged, from a folder of pictures and from a project."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.morphospace.embedding import Embedding, Item
from napari_fossiledit.morphospace.judging import Way, on_unseen
from napari_fossiledit.params.morphospace import (
    ClassifyParams,
    EmbedParams,
    ItemParams,
    JudgeParams,
    MetricParams,
    NamedBy,
    Per,
)
from napari_fossiledit.progress import QUIET
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.morphospace import train as training
from napari_fossiledit.workflows.morphospace.judge import _unseen, evaluate
from napari_fossiledit.workflows.morphospace.sort import classify
from napari_fossiledit.workflows.morphospace.sources import opened
from napari_fossiledit.workflows.morphospace.train import embed, find_model, train

QUICK = {"edge": 64, "copies": 2, "epochs": 1}


def draw(file: Path, kind: str, seed: int) -> None:
    """Write a picture of a ring or a bar, at another place and of another width each time."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96] - 48 + rng.integers(-6, 7, (2, 1, 1))
    radius = np.hypot(y, x)
    shapes = {
        "ring": (radius < 36) & (radius > 26),
        "bar": (abs(y) < rng.integers(8, 13)) & (abs(x) < 40),
        "disc": radius < rng.integers(30, 40),
        "cross": ((abs(y) < 6) | (abs(x) < 6)) & (radius < 40),
    }
    # Ground of its own: else two pictures of a kind are all but the same.
    ground = gaussian_filter(rng.standard_normal((96, 96)), 14)
    ground = 160 + 90 * ground / np.abs(ground).max()
    picture = np.where(shapes[kind], 20, ground)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pictures") / "forms"
    for n in range(6):
        for kind in ("ring", "bar", "disc", "cross"):
            draw(made / kind / f"{n}.png", kind, n)
    return made


def test_a_folder_is_learned_embedded_and_judged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = train(folder, MetricParams(name="forms", **QUICK))
    results = folder.with_name("forms-morphospace")
    assert made.folder == results / "models/forms"
    assert made.classes == {"ring": 6, "bar": 6, "disc": 6, "cross": 6}
    assert made.notes == ()
    found = embed(folder, EmbedParams(model="forms"))
    again = Embedding.load(results / "embedding.npz", made.model_hash)
    np.testing.assert_array_equal(again.vectors, found.vectors)
    assert [item.name for item in again.items] == sorted(["ring", "bar", "disc", "cross"] * 6)
    with pytest.raises(FossilError, match="that of a map"):
        embed(folder, EmbedParams(embedding="raw-map"))
    raw = embed(folder, EmbedParams(embedding="raw", edge=128))
    assert "nothing was learned" in raw.notes[-1]
    with pytest.raises(FossilError, match="made by another model"):
        Embedding.load(results / "raw.npz", made.model_hash)
    with pytest.raises(FossilError, match="cannot take a model"):
        train(folder, MetricParams(name="forms", **QUICK))
    with pytest.raises(FossilError, match=r"There is no model 'form'.*imagenet, forms"):
        find_model(folder, "form")
    with pytest.raises(FossilError, match=r"No specimen is linked yet; .*found 24 sections"):
        embed(folder, EmbedParams(per=Per.SPECIMEN))
    # What it learned from is told apart by a cross-check that learns again.
    said = classify(folder, ClassifyParams(embedding="embedding"))
    assert "Named items were judged after learning again without them." in said.notes
    assert found.learned == {"shrinkage": 0.3, "share": 0.8, "dimensions": 128}
    assert raw.looks is None
    # A network that has seen the pictures cannot be made to forget them.
    model = find_model(folder, "forms")
    tuned = replace(model, record=model.record.model_copy(update={"fine_tuned": True}))
    monkeypatch.setattr(training, "find_model", lambda *_: tuned)
    embed(folder, EmbedParams(model="forms", embedding="tuned"))
    notes = classify(folder, ClassifyParams(embedding="tuned")).notes
    assert any(note.startswith("The network itself was trained on some") for note in notes)


def test_a_saved_model_is_judged_on_what_it_has_not_learned(folder: Path, tmp_path: Path) -> None:
    made = train(folder, MetricParams(name="to judge", **QUICK))
    for n in range(10, 14):
        for kind in ("ring", "bar"):
            draw(tmp_path / f"new/{kind}/{n}.png", kind, n)
    shutil.copy(folder / "ring/0.png", tmp_path / "new/ring/0.png")
    darker = Image.open(folder / "bar/1.png").point(lambda v: v * 0.95)
    darker.save(tmp_path / "new/bar/1.png")
    params = JudgeParams(model=str(made.folder), folds=2, repeats=1)
    found = evaluate(tmp_path / "new", params)
    assert any(note.startswith("2 of 10 are left out: the model learned") for note in found.notes)
    assert sum(map(sum, found.naming.confusion)) == 8
    assert found.accuracy.mean > 0.8
    with pytest.raises(FossilError, match=r"at least two classes; .*found no item with a name"):
        evaluate(folder, params)


def test_judged_on_what_was_not_learned(folder: Path) -> None:
    found = evaluate(folder, JudgeParams(folds=3, repeats=1, **QUICK))
    assert found.accuracy.mean > 0.8
    assert found.recall[1].mean > 0.7
    assert 0 <= found.refused.mean < 0.5
    assert 0.5 < found.confidence.mean <= 1
    assert len(found.pairs) == 6
    assert found.unseen["recall"].mean > 0.7
    report = json.loads(
        (folder.with_name("forms-morphospace") / "metric-evaluation.json").read_text()
    )
    assert report["accuracy"]["mean"] == found.accuracy.mean
    assert len(report["pairs"]) == 6


def test_odd_folders_are_told_of(tmp_path: Path) -> None:
    for n in range(3):
        draw(tmp_path / f"p/ring/{n}.png", "ring", n)
        draw(tmp_path / f"p/bar/{n}.png", "bar", n)
    draw(tmp_path / "p/disc/0.png", "disc", 0)
    draw(tmp_path / "p/loose.png", "disc", 0)
    (tmp_path / "p/bar/copy.png").write_bytes((tmp_path / "p/bar/1.png").read_bytes())
    (tmp_path / "p/bar/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    notes = train(tmp_path / "p", MetricParams(**QUICK)).notes
    assert notes == (
        "Left out because they cannot be read: bar/broken.png.",
        "1 of 9 have no name and are not learned from.",
        "Of disc there is one specimen or picture only: it can be learned, but not judged.",
        "Pictures that are all but the same, though of different groups: bar/1.png = bar/copy.png.",
    )
    found = evaluate(tmp_path / "p", JudgeParams(folds=5, repeats=1, **QUICK))
    assert found.duplicates == (("bar/1.png", "bar/copy.png"),)
    assert "Judged on 3 parts: no class has more specimens or pictures." in found.notes
    assert found.unseen == {}


def test_all_of_one_class_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "p/ring/0.png", "ring", 0)
    for run, params in ((train, MetricParams()), (evaluate, JudgeParams())):
        with pytest.raises(FossilError, match=r"at least two classes.*found all of 'ring'"):
            run(tmp_path / "p", params)


def test_classes_that_a_model_said_are_told_of(reef_home: Path, tmp_path: Path) -> None:
    path = shutil.copytree(reef_home, tmp_path / "home") / "tiny.fossil"
    sections = [Instance(0, "cup", disc(30, 30, 12)), Instance(0, "cup", disc(80, 30, 15))]
    with Project.open(path) as project:
        project.ledger.store("model:net@abc", 0, sections)
        project.ledger.store(ANNOTATIONS, 0, sections)
    told = "2 of 2 are predictions: their class is what a model said"
    for source, expected in (("model:net@abc", True), (ANNOTATIONS, False)):
        with opened(path, ItemParams(instances=source)) as found:
            assert any(note.startswith(told) for note in found.notes) == expected


def test_pictures_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "p/ring/0.png", "ring", 0)
    draw(tmp_path / "p/bar/0.png", "ring", 0)
    with pytest.raises(FossilError, match="All pictures look the same"):
        train(tmp_path / "p", MetricParams(**QUICK))


def test_classes_of_few_specimens_are_not_left_out() -> None:
    # Twelve sections, but two specimens: a fold would have none to test on.
    items = [Item(f"{n}", f"{n % 8}", "abcd"[n % 4]) for n in range(48)]
    assert _unseen(items, (), Way(np.empty), JudgeParams(), QUIET) == ()


def test_classes_that_a_saved_model_has_learned_are_not_called_unseen() -> None:
    items = [Item(f"{n}", f"{n}", "abcd"[n % 4]) for n in range(48)]
    points = np.eye(4)[np.arange(48) % 4]
    (found,) = _unseen(items, ("a", "b"), Way(lambda _: points), JudgeParams(), QUIET)
    assert found.classes == ("c", "d")


def test_unseen_sections_are_not_found_by_their_own_specimen() -> None:
    # Sections of a specimen are the same; nearest of another specimen is one of the other class.
    angles = [10, 10, 30, 30, 12, 12, 32, 32, *np.linspace(100, 250, 20)]
    names = [*"aaaabbbb", *"cd" * 10]
    groups = [*"11223344", *map(str, range(5, 25))]
    items = [Item(str(n), g, c) for n, (g, c) in enumerate(zip(groups, names, strict=True))]
    points = np.array([[np.cos(a), np.sin(a)] for a in np.radians(angles)])
    assert on_unseen(items, ("a", "b"), Way(lambda _: points)).recall == 0


def disc(y: int, x: int, radius: int) -> Mask:
    rows, columns = np.mgrid[:96, :128]
    return Mask.from_array(np.hypot(rows - y, columns - x) < radius)


def test_instances_of_a_project_are_cut_out(reef_home: Path, tmp_path: Path) -> None:
    path = shutil.copytree(reef_home, tmp_path / "home") / "tiny.fossil"
    with Project.open(path) as project:
        for z in range(project.shape[0]):
            sections = (
                []
                if z > 1
                else [
                    Instance(z, "cup", disc(30, 30, 12), texture="pitted", specimen=1 + z),
                    Instance(z, "cup", disc(80, 30, 15), texture="mud_filled"),
                    Instance(z, "cup", disc(30, 70, 4), texture="pitted"),
                    Instance(z, "sponge", disc(80, 70, 14), texture="", unsure=z == 0),
                ]
            )
            project.ledger.store(ANNOTATIONS, z, sections)
    params = EmbedParams(instances=ANNOTATIONS, named_by=NamedBy.TEXTURE)
    found = embed(path, params)
    assert (path / "morphospace/embedding.npz").is_file()
    assert found.named_by == "texture"
    seen = [(item.slice, item.name, item.group) for item in found.items]
    own = [f"{item.slice}/{item.instance}" for item in found.items]
    assert own == [item.key for item in found.items]
    assert sorted(seen[:2]) == [(0, "mud_filled", own[1]), (0, "pitted", "cup 1")]
    rest = {(1, None, own[4]), (1, "mud_filled", own[3]), (1, "pitted", "cup 2")}
    assert len(seen) == 5
    assert set(seen[2:]) == rest
    assert "Left out 2 instances of less than 16 pixels across." in found.notes
    assert "Left out 1 instances that are marked as unsure." in found.notes
    assert any(note.startswith("3 are not linked") for note in found.notes)
    one = embed(path, params.model_copy(update={"class_name": "sponge"}))
    assert [item.slice for item in one.items] == [1]
    assert any(note.startswith("No specimen is linked yet") for note in one.notes)
    # The same instance has the same point, whatever is looked at beside it.
    same = [n for n, item in enumerate(found.items) if item.key == one.items[0].key]
    np.testing.assert_allclose(one.vectors[0], found.vectors[same[0]], atol=1e-5)
    with pytest.raises(FossilError, match=r"no specimens to look at.*found 8 smaller ones"):
        embed(path, params.model_copy(update={"smallest": 200}))
