"""The sample reef: its truth agrees with itself, with its pictures and with its files."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO
from pydantic import ValidationError

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.exchange.reef_files import CATEGORIES, write_reef
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.progress import Job
from napari_fossiledit.samples.reef import Reef, Shift

SMALL = ReefParams(
    slices=12, size=112, pixel_size_um=180.0, cups_per_cm3=4.0, clots_per_cm3=1.5, seed=5
)
LAYERS = ("specimens", "cavities", "calcimicrobes", "shells")


@pytest.fixture(scope="module")
def reef() -> Reef:
    return Reef(SMALL)


@pytest.fixture(scope="module")
def written(reef: Reef, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reef") / "sample"
    write_reef(reef, out)
    return out


def test_a_slice_is_the_same_whenever_it_is_made(reef: Reef) -> None:
    again = Reef(SMALL)
    for z in (9, 2):
        ours, theirs = reef.slice(z), again.slice(z)
        for name in ("rgb", "rock", *LAYERS):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_another_seed_gives_another_reef(reef: Reef) -> None:
    other = Reef(SMALL.model_copy(update={"seed": 6}))
    assert (other.slice(4).specimens != reef.slice(4).specimens).mean() > 0.05


def test_sections_go_on_from_slice_to_slice() -> None:
    fine = Reef(SMALL.model_copy(update={"slice_spacing_um": 250.0, "slices": 24}))
    overlaps = []
    before = fine.slice(0).specimens
    for z in range(1, 24):
        now = fine.slice(z).specimens
        overlaps += [
            ((before == i) & (now == i)).sum() / ((before == i) | (now == i)).sum()
            for i in np.intersect1d(before, now)
            if i and min((before == i).sum(), (now == i).sum()) > 60
        ]
        before = now
    assert len(overlaps) > 50
    assert np.median(overlaps) > 0.85
    assert np.min(overlaps) > 0.4


def test_every_specimen_is_drawn_whole(reef: Reef) -> None:
    """Specimens do not overlap: each drawn alone covers what it covers among the others."""
    scene, pixel = reef.scene, SMALL.pixel_size_um
    for z in (3, 8):
        z_um, labels = (z + 0.5) * SMALL.slice_spacing_um, reef.slice(z).specimens
        rows, columns = np.indices(labels.shape)
        x, y = (columns + 0.5) * pixel, (rows + 0.5) * pixel
        inside = scene.rock.share(x, y, z_um) < 1
        for cup in scene.cups:
            shares = [b.share(x, y, z_um) for b in cup.bodies if b.spans(z_um)]
            alone = inside & (np.min(shares, axis=0) < 1) if shares else np.zeros_like(inside)
            assert (alone != (labels == cup.id)).sum() <= 2


def test_truth_nests_and_excludes(reef: Reef) -> None:
    seen = np.zeros(4, int)
    for made in reef.slices():
        fossil = made.specimens > 0
        np.testing.assert_array_equal(
            made.cavities[made.cavities > 0], made.specimens[made.cavities > 0]
        )
        assert not (fossil & (made.calcimicrobes > 0)).any()
        assert not (made.shells.astype(bool) & (fossil | (made.calcimicrobes > 0))).any()
        for name in LAYERS:
            assert not (getattr(made, name)[~made.rock]).any()
        seen += [np.count_nonzero(getattr(made, name)) for name in LAYERS]
    assert seen.min() > 0


def test_volumes_by_formula_are_those_of_fine_voxels() -> None:
    fine = ReefParams(
        slices=60, size=160, pixel_size_um=126.0, slice_spacing_um=100.0,
        cups_per_cm3=4.0, clots_per_cm3=0, shells_per_cm3=3.0, seed=5,
    )  # fmt: skip
    reef = Reef(fine)
    whole, cavity, shells = np.zeros(100), np.zeros(100), np.zeros(100)
    for made in reef.slices():
        whole += np.bincount(made.specimens.ravel(), minlength=100)
        cavity += np.bincount(made.cavities.ravel(), minlength=100)
        shells += np.bincount(made.shells.ravel(), minlength=100)
    voxel = reef.geometry.voxel_size.volume_um3
    bands = [r for r in reef.volumes() if r.category == "shell"]
    assert shells[1:].sum() * voxel == pytest.approx(sum(b.volume_um3 for b in bands), rel=0.04)
    cups = [r for r in reef.volumes() if r.category == "archaeocyathid"]
    records = [r for r in cups if r.volume_um3 > 5e9]
    assert len(records) >= 4
    branched = {cup.id for cup in reef.scene.cups if len(cup.bodies) > 1}
    assert branched & {r.specimen for r in records}
    for record in records:
        assert whole[record.specimen] * voxel == pytest.approx(record.volume_um3, rel=0.02)
    total = sum(r.cavity_um3 for r in records)
    counted = sum(cavity[r.specimen] for r in records) * voxel
    assert counted == pytest.approx(total, rel=0.03)


def test_a_finer_picture_shows_the_same_rock(reef: Reef) -> None:
    finer = Reef(SMALL.model_copy(update={"size": 224, "pixel_size_um": 90.0}))
    coarse, fine = reef.slice(6).specimens, finer.slice(6).specimens
    assert (fine[1::2, 1::2] == coarse).mean() > 0.97


def test_misalignment_is_what_the_truth_says() -> None:
    params = SMALL.model_copy(update={"misalignment_px": 6.0, "misalignment_deg": 4.0})
    moved, aligned = Reef(params), Reef(SMALL)
    shift = moved.shift(7)
    assert abs(shift.dy) + abs(shift.dx) > 1
    truth, photo = aligned.slice(7).specimens, moved.slice(7).specimens
    middle = (np.array(truth.shape) - 1) / 2
    points = np.argwhere(truth > 0)
    angle = np.deg2rad(shift.angle_deg)
    y, x = (points - middle).T
    rows = np.rint(x * np.sin(angle) + y * np.cos(angle) + middle[0] + shift.dy).astype(int)
    columns = np.rint(x * np.cos(angle) - y * np.sin(angle) + middle[1] + shift.dx).astype(int)
    kept = (rows >= 0) & (rows < truth.shape[0]) & (columns >= 0) & (columns < truth.shape[1])
    same = photo[rows[kept], columns[kept]] == truth[tuple(points[kept].T)]
    assert same.mean() > 0.93


def test_an_aligned_reef_does_not_move(reef: Reef) -> None:
    assert reef.shift(3) == Shift(0.0, 0.0, 0.0)


def test_white_fossils_stand_out_and_muddy_ones_do_not(reef: Reef) -> None:
    white, muddy, mud = [], [], []
    for made in reef.slices():
        grey = made.rgb.mean(-1)
        pitted = np.isin(made.specimens, [i for i, t in reef.textures.items() if t == "pitted"])
        free = made.rock & ~(made.specimens.astype(bool) | made.calcimicrobes.astype(bool))
        white.append(grey[pitted])
        muddy.append(grey[(made.specimens > 0) & ~pitted])
        mud.append(grey[free])
    pale, dim, ground = (np.median(np.concatenate(g)) for g in (white, muddy, mud))
    assert pale > ground + 70
    assert abs(dim - ground) < 25


def test_a_slice_needs_memory_for_one_slice_only(reef: Reef) -> None:
    reef.slice(0)
    tracemalloc.start()
    for z in (2, 5, 7):
        size = reef.slice(z).rgb.size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * size


def test_a_slice_beyond_the_reef_is_refused(reef: Reef) -> None:
    with pytest.raises(IndexError, match="slice 12 is not in a reef of 12"):
        reef.slice(12)


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(ValidationError, match="must not exceed"):
        ReefParams(cup_diameter_min_um=9000.0)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        ReefParams(slices=0)


# ----------------------------------------------------------------------- files


def test_label_volumes_hold_the_slices(reef: Reef, written: Path) -> None:
    for file, name in (
        ("labels_archaeocyathid_zyx.tif", "specimens"),
        ("labels_archaeocyathid_cavity_zyx.tif", "cavities"),
        ("labels_calcimicrobe_zyx.tif", "calcimicrobes"),
        ("labels_shell_zyx.tif", "shells"),
    ):
        volume = tifffile.imread(written / file)
        assert volume.shape == SMALL.shape_zyx
        assert volume.dtype == np.uint16
        np.testing.assert_array_equal(volume[5], getattr(reef.slice(5), name))


def test_pictures_are_the_slices(reef: Reef, written: Path) -> None:
    names = sorted(p.name for p in (written / "images").iterdir())
    assert names == [f"slice_{z:04d}.png" for z in range(12)]
    with Image.open(written / "images/slice_0011.png") as image:
        np.testing.assert_array_equal(np.asarray(image), reef.slice(11).rgb)


def test_coco_paints_the_labels_again(reef: Reef, written: Path) -> None:
    data = COCO(str(written / "annotations.json"))
    assert {c["name"]: c["id"] for c in data.loadCats(data.getCatIds())} == CATEGORIES
    for z in (1, 6):
        made, (image,) = reef.slice(z), [i for i in data.imgs.values() if i["slice"] == z]
        painted = {name: np.zeros(made.rock.shape, int) for name in LAYERS}
        targets = {1: "specimens", 2: "calcimicrobes", 3: "shells"}
        for note in data.loadAnns(data.getAnnIds(imgIds=image["id"], catIds=[1, 2, 3])):
            layer = targets[note["category_id"]]
            if note["attributes"]["part"] == "cavity":
                layer = "cavities"
            mask = coco.decode(note["segmentation"]) > 0
            assert not painted[layer][mask].any()
            assert note["area"] == mask.sum()
            painted[layer][mask] = note["attributes"]["specimen"]
        for name in LAYERS:
            np.testing.assert_array_equal(painted[name], getattr(made, name))


def test_attributes_name_texture_part_and_confidence(reef: Reef, written: Path) -> None:
    notes = json.loads((written / "annotations.json").read_text())["annotations"]
    cups = [n for n in notes if n["category_id"] == 1]
    assert {n["attributes"]["part"] for n in cups} == {"body", "cavity"}
    assert {n["attributes"]["texture"] for n in cups} == {"pitted", "mud_filled"}
    assert all((n["attributes"]["confidence"] == "sure") == (n["area"] >= 25) for n in notes)
    assert len([n for n in notes if n["category_id"] == CATEGORIES["rock_face"]]) == 12


def test_truth_makes_the_same_reef_again(reef: Reef, written: Path) -> None:
    truth = json.loads((written / "truth.json").read_text())
    assert ReefParams.model_validate(truth["params"]) == SMALL
    assert truth["geometry"]["pixel_size_um"] == 180.0
    assert len(truth["misalignment"]) == 12
    scene = reef.scene
    ids = {item.id for item in (*scene.cups, *scene.microbes, *scene.shells)}
    assert {v["specimen"] for v in truth["volumes"]} == ids
    assert truth["complete"] is True


def test_a_folder_with_other_things_is_left_alone(reef: Reef, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FossilError, match=r"holds no sample reef; expected .* found thesis\.txt"):
        write_reef(reef, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_older_sample_is_replaced(tmp_path: Path) -> None:
    write_reef(Reef(SMALL.model_copy(update={"slices": 3})), tmp_path)
    summary = write_reef(Reef(SMALL.model_copy(update={"slices": 2})), tmp_path)
    assert summary["slices"] == 2
    assert len(list((tmp_path / "images").iterdir())) == 2


def test_stopping_leaves_a_sample_marked_incomplete(reef: Reef, tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        write_reef(reef, tmp_path / "out", job=Job(cancelled=lambda: True))
    assert json.loads((tmp_path / "out/truth.json").read_text())["complete"] is False
