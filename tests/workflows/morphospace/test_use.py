"""What is done with the points of a project or a folder: sorted, mapped, compared, named."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.morphospace.crops import content_of_picture
from napari_fossiledit.morphospace.embedding import Embedding, Item, content_of
from napari_fossiledit.params.morphospace import (
    ClassifyParams,
    ClusterParams,
    DisparityParams,
    MapParams,
    NameParams,
    Naming,
    OutlierParams,
    PointsParams,
    Projection,
    SectionsParams,
    SimilarParams,
)
from napari_fossiledit.progress import Job
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.morphospace.alike import outliers, sections, similar
from napari_fossiledit.workflows.morphospace.lay_out import disparity, lay_out
from napari_fossiledit.workflows.morphospace.name import RUN, export_names, name
from napari_fossiledit.workflows.morphospace.points import read_points
from napari_fossiledit.workflows.morphospace.sort import classify, cluster
from tests.morphospace.clouds import clouds, unit

SHAPE = (96, 128)
CLASSES = ("cup", "sponge")
MODEL = "a1b2c3d4" * 8


def square(row: int, column: int, size: int = 8) -> Mask:
    pixels = np.zeros(SHAPE, bool)
    pixels[12 * row : 12 * row + size, 12 * column : 12 * column + size] = True
    return Mask.from_array(pixels)


def embed(project: Path, named_by: str = "class", source: str = ANNOTATIONS, seed: int = 0) -> None:
    """Write an embedding in which each class is a cloud, and each specimen a place in it."""
    rng = np.random.default_rng(seed)
    with Project.open(project, read_only=True) as opened:
        bodies = [i for i in opened.ledger.instances(source) if i.part is Part.BODY]
    items, vectors = [], []
    for i in bodies:
        own = i.texture if named_by == "texture" else i.class_name
        item = Item(
            f"{i.slice}/{i.id}", f"{i.slice}/{i.id}", own or None, i.slice, i.id, i.specimen,
            content_of(i.mask),
        )  # fmt: skip
        items.append(item)
        form = np.random.default_rng(i.mask.box[0]).normal(size=12) * 0.2
        form[10 + ("sponge" in i.class_name)] += 3
        vectors.append(form + 0.02 * rng.normal(size=12))
    points = Embedding(unit(np.array(vectors)), tuple(items), "lite", MODEL, (), named_by)
    (project / "morphospace").mkdir(exist_ok=True)
    points.save(project / "morphospace" / "embedding.npz")


@pytest.fixture
def project(reef_home: Path, tmp_path: Path) -> Path:
    """Five slices with four specimens of each of two classes, each cup with a cavity."""
    path = shutil.copytree(reef_home, tmp_path / "home") / "tiny.fossil"
    with Project.open(path) as opened:
        for z in range(5):
            found: list[Instance] = []
            for column, kind in enumerate(CLASSES):
                for row in range(4):
                    mask = square(2 * row + column, column)
                    texture = "" if (kind, row) == ("cup", 3) else ("pitted", "mud_filled")[column]
                    body = Instance(
                        z, kind, mask, texture=texture, specimen=row + 1, id=100 + len(found)
                    )
                    found.append(body)
                    if kind == "cup":
                        hole = square(2 * row, 0, 3)
                        cavity = replace(
                            body, mask=hole, part=Part.CAVITY, parent=body.id, id=200 + len(found)
                        )
                        found.append(cavity)
            opened.ledger.store(ANNOTATIONS, z, found)
    embed(path)
    return path


def bodies(path: Path, z: int | None = None) -> list[Instance]:
    with Project.open(path, read_only=True) as opened:
        slices = None if z is None else [z]
        return opened.ledger.instances(ANNOTATIONS, slices=slices, part=Part.BODY)


def ids_of(path: Path, kind: str, specimen: int) -> list[int]:
    return [i.id for i in bodies(path) if (i.class_name, i.specimen) == (kind, specimen)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of three kinds, those of the last one without a name."""
    source = tmp_path / "pictures"
    vectors, names = clouds([12, 12, 6])
    items = []
    for n, letter in enumerate(names):
        file = source / letter / f"{n}.png" if letter != "C" else source / f"{n}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(file)
        key = file.relative_to(source).as_posix()
        items.append(Item(key, key, letter if letter != "C" else None))
    target = tmp_path / "pictures-morphospace"
    target.mkdir()
    Embedding(vectors, tuple(items), "lite", MODEL).save(target / "embedding.npz")
    return source


# ------------------------------------------------------------------- sorting


def test_items_without_a_name_are_answered_and_named_ones_held_out(project: Path) -> None:
    embed(project, "texture")
    found = classify(project, ClassifyParams(refused=0.1))
    assert (found.named, found.answers, found.unknown) == (35, {"pitted": 5}, 0)
    assert found.accuracy > 0.8
    assert found.differ == ()
    table = read_points(project, "embedding").table()
    unnamed = [n for n, given in enumerate(table["name"]) if given is None]
    assert {table["class"][n] for n in unnamed} == {"pitted"}
    assert all(0.5 < table["confidence"][n] <= 1 for n in unnamed)
    assert table["label"] == [i.id for i in bodies(project)]
    # Cups and sponges have the same numbers.
    assert sorted(set(table["specimen"])) == [1, 2, 3, 4]


def test_a_named_item_that_looks_otherwise_is_listed(project: Path) -> None:
    wrong = ids_of(project, "cup", 1)[0]
    with Project.open(project) as opened:
        opened.ledger.describe([wrong], class_name="sponge")
    assert classify(project, ClassifyParams()).differ == (f"0/{wrong}",)
    found = outliers(project, OutlierParams())
    assert [row["key"] for row in found.rows] == [f"0/{wrong}"]
    assert "It is named sponge, and most like it are cup." in found.rows[0]["why"]


def test_clusters_are_found_without_names(project: Path) -> None:
    found = cluster(project, ClusterParams(clusters=2))
    assert found.sizes == (20, 20)
    assert sorted(found.names, key=str) == [{"cup": 20}, {"sponge": 20}]
    assert set(read_points(project, "embedding").table()["cluster"]) == {0, 1}


def test_the_most_similar_are_of_another_specimen_unless_asked(project: Path) -> None:
    own = ids_of(project, "cup", 2)
    found = similar(project, SimilarParams(items=str(own[0]), count=4))
    assert {row["name"] for row in found.rows} == {"cup"}
    assert 2 not in {row["specimen"] for row in found.rows}
    found = similar(project, SimilarParams(items=str(own[0]), count=4, same_specimen=True))
    assert [row["specimen"] for row in found.rows] == [2] * 4
    with pytest.raises(FossilError, match="no item 99999; expected ids or keys"):
        similar(project, SimilarParams(items="99999"))


def test_the_same_specimen_is_found_in_the_next_slice(project: Path) -> None:
    found = sections(project, SectionsParams(count=10))
    assert len(found.rows) == 10
    assert all(row["linked"] for row in found.rows)
    assert "32 pairs were found; the first 10 are listed." in found.notes


# ---------------------------------------------------------------- map, disparity


def test_a_map_is_drawn_and_new_items_are_placed_on_it(project: Path) -> None:
    first = lay_out(project, MapParams(method=Projection.PCA))
    assert (first.items, first.placed) == (40, None)
    with Image.open(first.picture) as picture:
        assert picture.width > 500
    before = read_points(project, "embedding").table()
    with Project.open(project) as opened:
        opened.ledger.edit(4, put=[Instance(4, "cup", square(9, 5), specimen=9)])
    embed(project)
    again = lay_out(project, MapParams(method=Projection.PCA))
    assert (again.items, again.placed) == (41, 1)
    after = read_points(project, "embedding").table()
    places = dict(zip(after["key"], zip(after["x"], after["y"], strict=True), strict=True))
    for key, x, y in zip(before["key"], before["x"], before["y"], strict=True):
        assert places[key] == (x, y)
    assert lay_out(project, MapParams(method=Projection.PCA, anew=True)).placed is None


def test_a_map_that_is_cancelled_leaves_the_old_one(project: Path) -> None:
    lay_out(project, MapParams(method=Projection.PCA))
    file = project / "morphospace" / "embedding-map.npz"
    before = file.read_bytes()
    with pytest.raises(CancelledError):
        lay_out(project, MapParams(), job=Job(cancelled=lambda: True))
    assert file.read_bytes() == before


def test_disparity_compares_classes_and_slices_at_equal_numbers(project: Path) -> None:
    lay_out(project, MapParams(method=Projection.PCA))
    found = disparity(project, DisparityParams(least=4, window=2, draws=50))
    assert [(g.name, g.items, g.specimens) for g in found.classes] == [
        ("cup", 20, 4),
        ("sponge", 20, 4),
    ]
    assert (found.specimens, found.window_specimens) == (4, 8)
    assert [g.name for g in found.windows] == ["1", "2", "3", "4"]
    for group in (*found.classes, *found.windows):
        figure = group.figures["sum_of_variances"]
        assert figure.interval[0] <= figure.value <= figure.interval[1]
        assert 0 < group.figures["occupied"].value <= 1
    assert len(found.pictures) == 6
    assert all(picture.exists() for picture in found.pictures)
    stored = json.loads(found.file.read_text())
    assert stored["model_hash"] == MODEL
    assert [*stored["curves"]["sum_of_variances"]["cup"]] == ["2", "3", "4"]


def test_disparity_of_too_few_specimens_is_refused(project: Path) -> None:
    with pytest.raises(FossilError, match="found 40 items of 8 specimens, 2 classes"):
        disparity(project, DisparityParams(least=9))


# -------------------------------------------------------------------- naming


def test_a_name_is_one_action_with_its_provenance_that_is_undone(project: Path) -> None:
    before = [(i.id, i.class_name, i.specimen) for i in bodies(project)]
    two = [*ids_of(project, "cup", 1), *ids_of(project, "cup", 2)[:1]]
    found = name(project, NameParams(name="chancelloriid", items=",".join(map(str, two))))
    assert (found.naming, found.given, found.reviewed) == ("class", {"chancelloriid": 6}, 0)
    assert found.notes == (
        "1 specimens got another class in a part of their sections, which are a specimen of their"
        " own now.",
    )
    with Project.open(project) as opened:
        now = opened.ledger.instances(ANNOTATIONS)
        named = [i for i in now if i.class_name == "chancelloriid"]
        # Sections of a specimen stay together under a number of the new class, with their cavities.
        assert sorted((i.part.value, i.specimen) for i in named) == [
            *[("body", 1)] * 5, ("body", 2), *[("cavity", 1)] * 5, ("cavity", 2),
        ]  # fmt: skip
        (action, *_) = opened.ledger.history()
        assert action.what == "name 6 masks: chosen, lite a1b2c3d4"
        run = opened.ledger.runs()[-1]
        assert (run.kind, run.status, run.summary["action"]) == (RUN, "done", action.id)
        assert run.params["model_hash"] == MODEL
        assert run.summary["names"] == {str(id_): ["chancelloriid", None] for id_ in two}
        opened.ledger.undo()
    assert [(i.id, i.class_name, i.specimen) for i in bodies(project)] == before


def test_the_name_of_a_cluster_may_be_a_texture(project: Path) -> None:
    found = cluster(project, ClusterParams(clusters=2))
    label = found.names.index({"cup": 20})
    given = name(project, NameParams(name="pale", cluster=label, naming=Naming.TEXTURE))
    assert given.given == {"pale": 20}
    assert {(i.class_name, i.texture) for i in bodies(project)} == {
        ("cup", "pale"),
        ("sponge", "mud_filled"),
    }


def test_reviewed_items_are_left_alone_and_counted(project: Path) -> None:
    own = ids_of(project, "sponge", 1)
    with Project.open(project) as opened:
        opened.ledger.set_reviewed(own[:2])
        # A reviewed cavity locks its body.
        cavity = next(i for i in opened.ledger.instances(ANNOTATIONS) if i.part is Part.CAVITY)
        opened.ledger.set_reviewed([cavity.id])
    asked = ",".join(map(str, [*own, cavity.parent]))
    found = name(project, NameParams(name="sphinctozoan", items=asked))
    assert (found.given, found.reviewed) == ({"sphinctozoan": 3}, 3)
    with pytest.raises(FossilError, match="3 have the name already, 3 are reviewed"):
        name(project, NameParams(name="sphinctozoan", items=asked))
    found = name(project, NameParams(name="sphinctozoan", items=asked, reviewed_too=True))
    assert (found.given, found.unchanged) == ({"sphinctozoan": 3}, 3)


def test_whole_specimens_are_named(project: Path) -> None:
    with pytest.raises(FossilError, match="Specimens of several classes have these numbers"):
        name(project, NameParams(name="pale", specimens="4", naming=Naming.TEXTURE))
    with Project.open(project) as opened:
        for id_ in ids_of(project, "sponge", 4):
            opened.ledger.set_specimens(ANNOTATIONS, {id_: 7})
        # A section that the embedding has not.
        opened.ledger.edit(4, put=[Instance(4, "cup", square(9, 5), specimen=4)])
    found = name(project, NameParams(name="pale", specimens="4", naming=Naming.TEXTURE))
    assert found.given == {"pale": 6}
    found = name(project, NameParams(name="tabulate", specimens="4"))
    assert (found.given, found.notes) == ({"tabulate": 6}, ())


def test_sure_answers_become_names_with_their_confidence(project: Path) -> None:
    embed(project, "texture")
    with pytest.raises(FossilError, match=r"nothing to name.*Classify or cluster first"):
        name(project, NameParams(confidence=0.5))
    classify(project, ClassifyParams())
    found = name(project, NameParams(confidence=0.5))
    assert (found.given, found.rule) == ({"pitted": 5}, "logistic, confidence from 0.5")
    with Project.open(project) as opened:
        names = opened.ledger.runs()[-1].summary["names"]
    assert all(given == "pitted" and 0.5 <= sure <= 1 for given, sure in names.values())


def test_a_point_for_each_specimen_names_all_its_sections(project: Path) -> None:
    sections = read_points(project, "embedding").embedding
    found = sections.by_specimen()
    assert [len(item.sections) for item in found.items] == [5] * 8
    assert {item.slice for item in found.items} == {2}
    rows = [n for n, item in enumerate(sections.items) if item.group == "sponge 2"]
    mean = sections.vectors[rows].mean(axis=0)
    at = [item.group for item in found.items].index("sponge 2")
    np.testing.assert_allclose(found.vectors[at], mean / np.linalg.norm(mean), rtol=1e-5)
    found.save(project / "morphospace/embedding.npz")
    given = name(project, NameParams(name="tabulate", items=found.items[at].key))
    assert given.given == {"tabulate": 5}
    assert len(ids_of(project, "tabulate", 1)) == 5
    now = read_points(project, "embedding")
    assert sorted(i.name for i in now.embedding.items) == ["cup"] * 4 + ["sponge"] * 3 + [
        "tabulate"
    ]
    # Another section of it than the one that stands for it.
    with Project.open(project) as opened:
        other = next(i for i in bodies(project, 0) if i.specimen == 3)
        opened.ledger.edit(0, put=[replace(other, mask=square(0, 7))])
    points = read_points(project, "embedding")
    assert len(points.embedding.items) == 7
    assert any(note.startswith("1 masks were changed") for note in points.notes)


def test_names_travel_through_a_table(project: Path, tmp_path: Path) -> None:
    embed(project, "texture")
    classify(project, ClassifyParams())
    out = tmp_path / "names.csv"
    assert export_names(project, out, PointsParams()).rows == 40
    with out.open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["key", "slice", "specimen", "name", "confidence", "model"]
    told = [row for row in rows if row["confidence"]]
    assert {row["name"] for row in told} == {"pitted"}
    assert {row["model"] for row in told} == {"lite a1b2c3d4a1b2"}
    rows[0]["name"] = "=odd"
    rows.append(rows[0] | {"key": "9/99"})
    with out.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = name(project, NameParams(file=out))
    assert found.given == {"pitted": 5, "=odd": 1}
    assert found.unchanged == 34
    assert "1 rows of names.csv name what is not in the embedding." in found.notes
    export_names(project, out, PointsParams())
    assert name_in(out, rows[0]["key"]) == "'=odd"
    with pytest.raises(FossilError, match="No item gets another name"):
        name(project, NameParams(file=out))
    with pytest.raises(FossilError, match="is a part of the project"):
        export_names(project, project / "morphospace" / "names.csv", PointsParams())


def name_in(table: Path, key: str) -> str:
    with table.open() as stream:
        return next(row["name"] for row in csv.DictReader(stream) if row["key"] == key)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n", "columns key and name.*found a, b"),
        ("", "found no row"),
        ("key,name\n77/7,x\n", "names nothing of the embedding embedding.*found 77/7"),
        (b"key,name\n\xff,x\n", "expected a table"),
    ],
)
def test_a_table_of_something_else_is_refused(
    project: Path, tmp_path: Path, content: str | bytes, words: str
) -> None:
    file = tmp_path / "names.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FossilError, match=words):
        name(project, NameParams(file=file))


@pytest.mark.parametrize(
    "params",
    [
        NameParams(name="x"),
        NameParams(items="1"),
        NameParams(name="x", confidence=0.5),
        NameParams(name="x", items="1", cluster=0),
    ],
)
def test_a_name_needs_to_know_whose_it_is(project: Path, params: NameParams) -> None:
    with pytest.raises(FossilError, match="not clear what gets which name"):
        name(project, params)


def test_a_class_is_a_plain_name(project: Path) -> None:
    with pytest.raises(FossilError, match=r"The name of a class cannot be used.*\.\./cup"):
        name(project, NameParams(name="../cup", items=str(ids_of(project, "cup", 1)[0])))


def test_predictions_are_named_where_they_were_taken_over(project: Path) -> None:
    source = "model:tiny@abc"
    with Project.open(project) as opened:
        ledger = opened.ledger
        ledger.store(
            source, 0, [Instance(0, "cup", square(0, 6)), Instance(0, "cup", square(2, 6))]
        )
        first, second = ledger.instances(source)
    embed(project, source=source)
    params = NameParams(name="tabulate", items=f"{first.id},{second.id}")
    with pytest.raises(FossilError, match="2 items are predictions, which never change"):
        name(project, params)
    with Project.open(project) as opened:
        opened.ledger.take_over(0, [first], source, overwrite=True)
    found = name(project, params)
    assert found.given == {"tabulate": 1}
    assert found.notes[-1].startswith("1 items are predictions")


# ------------------------------------------------------------- older than the project


def test_masks_that_were_changed_or_deleted_since_are_left_out_and_said(project: Path) -> None:
    first, second, *_ = bodies(project, 0)
    with Project.open(project) as opened:
        changed = replace(first, mask=square(0, 7))
        opened.ledger.edit(0, put=[changed], remove=[second.id])
    points = read_points(project, "embedding")
    assert len(points.embedding.items) == 38
    assert points.notes == (
        "1 instances were deleted since the embedding was made: left out.",
        "1 masks were changed since the embedding was made: they are left out. Make it again with"
        " `fossiledit morphospace embed`.",
    )
    with Project.open(project) as opened:
        opened.ledger.forget(ANNOTATIONS)
    with pytest.raises(FossilError, match=r"Nothing of the embedding .* is left.*embed"):
        read_points(project, "embedding")


def test_what_was_said_of_another_model_is_forgotten(project: Path) -> None:
    cluster(project, ClusterParams(clusters=2))
    lay_out(project, MapParams(method=Projection.PCA))
    file = project / "morphospace" / "embedding.npz"
    replace(Embedding.load(file), model_hash="f" * 64).save(file)
    points = read_points(project, "embedding")
    assert set(points.column("cluster")) == {None}
    assert points.map() is None
    assert lay_out(project, MapParams(method=Projection.PCA)).placed is None


def test_unlinked_instances_are_said(project: Path) -> None:
    with Project.open(project) as opened:
        everyone = {i.id: None for i in opened.ledger.instances(ANNOTATIONS)}
        opened.ledger.set_specimens(ANNOTATIONS, everyone)
    (note,) = read_points(project, "embedding").notes
    assert "No instance is linked" in note


def test_a_missing_embedding_is_named(project: Path, tmp_path: Path) -> None:
    with pytest.raises(FossilError, match="no embedding 'other'; expected embedding"):
        read_points(project, "other")
    with pytest.raises(FossilError, match="nothing of that name"):
        read_points(tmp_path / "absent", "embedding")


# ------------------------------------------------------------------- folders


def test_pictures_of_a_folder_are_sorted_and_named(folder: Path, tmp_path: Path) -> None:
    found = classify(folder, ClassifyParams())
    assert (found.named, found.answers, found.unknown) == (24, {}, 6)
    new = [f"{n}.png" for n in range(24, 29)]
    given = name(folder, NameParams(name="C", items=",".join(new)))
    assert (given.naming, given.given) == ("picture", {"C": 5})
    assert (folder / "24.png").exists()
    found = classify(folder, ClassifyParams(method="centroids", refused=0.01))
    assert (found.named, found.answers) == (29, {"C": 1})
    out = tmp_path / "names.csv"
    export_names(folder, out, PointsParams())
    assert (name_in(out, "24.png"), name_in(out, "A/0.png")) == ("C", "A")
    (folder / "A" / "0.png").unlink()
    assert (
        "1 pictures are not there any more: they are left out."
        in similar(folder, SimilarParams(items="A/1.png")).notes
    )
    with pytest.raises(FossilError, match="pictures of a folder"):
        sections(folder, SectionsParams())


def test_pictures_that_were_changed_are_left_out(folder: Path) -> None:
    file = folder.with_name("pictures-morphospace") / "embedding.npz"
    points = Embedding.load(file)
    content = content_of_picture(np.zeros((4, 4), np.uint8))
    replace(points, items=tuple(replace(i, content=content) for i in points.items)).save(file)
    # Written again, but the same.
    Image.new("L", (4, 4)).save(folder / "A/1.png")
    assert similar(folder, SimilarParams(items="A/1.png")).notes == ()
    Image.new("L", (4, 4), 9).save(folder / "A/0.png")
    (folder / "A/2.png").write_bytes(b"no picture")
    (note,) = similar(folder, SimilarParams(items="A/1.png")).notes
    assert note.startswith("2 pictures were changed since the embedding was made")
    assert note.endswith("Make it again with `fossiledit morphospace embed`.")


def test_copies_of_a_picture_are_held_out_together(folder: Path) -> None:
    file = folder.with_name("pictures-morphospace") / "embedding.npz"
    points = Embedding.load(file)
    looks = [("0" if item.name == "A" else "f") * 16 for item in points.items]
    items = [replace(i, picture=p) for i, p in zip(points.items[:14], looks, strict=False)]
    replace(points, items=(*items, *points.items[14:])).save(file)
    notes = classify(folder, ClassifyParams()).notes
    assert any(note.startswith("67 pairs of pictures are all but the same") for note in notes)
    assert read_points(folder, "embedding").made["classify"]["notes"] == list(notes)


def test_two_pictures_have_no_silhouette(folder: Path) -> None:
    file = folder.with_name("pictures-morphospace") / "embedding.npz"
    Embedding.load(file).of([0, 29]).save(file)
    found = cluster(folder, ClusterParams())
    assert (found.sizes, found.silhouette) == ((1, 1), None)
    assert found.notes == ("2 clusters: too few items to choose the number by a silhouette.",)


@pytest.mark.parametrize("content", ["{", '{"items": 3}', "[]"])
def test_a_damaged_file_of_answers_is_named(folder: Path, content: str) -> None:
    file = folder.with_name("pictures-morphospace") / "embedding-said.json"
    file.write_text(content)
    with pytest.raises(
        FossilError,
        match=r"embedding-said\.json cannot be read; expected what was said of items; found .+"
        r"Remove it, with the names it gave to pictures",
    ):
        classify(folder, ClassifyParams())


def test_no_name_at_all_is_refused(folder: Path) -> None:
    file = folder.with_name("pictures-morphospace") / "embedding.npz"
    points = Embedding.load(file)
    nameless = tuple(replace(item, name=None) for item in points.items)
    replace(points, items=nameless).save(file)
    with pytest.raises(FossilError, match="at least two classes; found no named item"):
        classify(folder, ClassifyParams())
