"""Perturbing slices of a project: regions, mud and texture as the project tells them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.masks import Mask
from napari_fossiledit.masks.rle import union
from napari_fossiledit.params.perturb import PerturbParams, Preset
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.perturb import SliceScene, measure_mud
from napari_fossiledit.progress import Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.shared import perturbed_slices as perturbing
from napari_fossiledit.workflows.shared.crops import default_crop, largest_square, read_crop
from napari_fossiledit.workflows.stack import new

CLASS = "archaeocyathid"


def custom(steps: str, **changes: object) -> PerturbParams:
    return PerturbParams(preset=Preset.CUSTOM, steps=steps, **changes)


@pytest.fixture(scope="module")
def reef_home(make_home):
    """A sample reef with pitted and mud-filled cups."""
    return make_home(slices=5, size=128, seed=1, cups_per_cm3=12, pixel_size_um=120.0)


@pytest.fixture
def project(reef_project):
    with Project.open(reef_project) as opened:
        yield opened


def fossils(made: perturbing.Prepared) -> np.ndarray:
    masks = [i.mask for i in made.instances if i.class_name == CLASS]
    return union(masks, made.changed.shape).to_array()


@pytest.mark.parametrize("preset", [p for p in Preset if p is not Preset.CUSTOM])
def test_every_preset_changes_what_it_says(project: Project, preset: Preset) -> None:
    made = perturbing.prepared(project, 2, PerturbParams(preset=preset))
    cups = fossils(made)
    expected = {
        Preset.BACKGROUND_TO_MUD: ~cups,
        Preset.FOSSILS_TO_TEXTURE: cups,
        Preset.BOTH: np.ones_like(cups),
        Preset.OCCLUDE_FOSSILS: cups,
        Preset.SOFTEN_BACKGROUND: ~cups,
    }[preset]
    np.testing.assert_array_equal(made.changed, expected)
    np.testing.assert_array_equal(made.perturbed[~expected], made.image[~expected])
    assert made.share == pytest.approx(expected.mean())
    if made.mud is not None:
        filled = ~cups if preset is Preset.BOTH else expected
        assert (made.perturbed[filled] == np.rint(made.mud)).all()


def test_the_steps_of_a_preset_can_be_told_again(project: Project) -> None:
    first = perturbing.prepared(project, 1, PerturbParams(preset=Preset.BOTH, seamless=True))
    again = perturbing.prepared(project, 1, custom(first.steps))
    np.testing.assert_array_equal(first.perturbed, again.perturbed)


def test_the_margin_fills_beyond_the_fossils(project: Project) -> None:
    params = PerturbParams(preset=Preset.OCCLUDE_FOSSILS, margin=2)
    made = perturbing.prepared(project, 2, params)
    cups = fossils(made)
    assert made.changed[cups].all()
    assert made.share > cups.mean()


def test_a_picked_colour_is_kept_and_follows_the_light(reef_project) -> None:
    picked = perturbing.pick_mud(reef_project, 1, 60, 48)
    assert picked.summary()["mud_colour"] == list(picked.mud_colour)
    with Project.open(reef_project) as project:
        assert project.settings.mud_colour == picked.mud_colour
        assert project.ledger.get_meta(perturbing.PICKED_ON) == 1
        colours = {z: perturbing.prepared(project, z, PerturbParams()).mud for z in (1, 3)}
        own = {z: measured(project, z) for z in (1, 3)}
        fixed = perturbing.prepared(project, 3, PerturbParams(relative=False)).mud
    assert colours[1] == pytest.approx(picked.mud_colour)
    shift = np.subtract(own[3], own[1])
    assert colours[3] == pytest.approx(np.clip(np.add(picked.mud_colour, shift), 0, 255))
    assert fixed == pytest.approx(picked.mud_colour)


def measured(project: Project, z: int):
    bodies = perturbing.region_instances(project, z, PerturbParams())
    return measure_mud(SliceScene(project.stack.read(z), tuple(bodies)))


def test_a_colour_set_without_a_slice_is_compared_with_the_traced_ones(project: Project) -> None:
    project.update(mud_colour=(90, 60, 50))
    mean = np.mean([measured(project, z) for z in range(5)], 0)
    made = perturbing.prepared(project, 2, PerturbParams())
    shift = np.subtract(measure_mud(SliceScene(made.image, made.instances)), mean)
    assert made.mud == pytest.approx(np.add((90, 60, 50), shift))


def test_the_colour_of_the_parameters_comes_first(project: Project) -> None:
    project.update(mud_colour=(90, 60, 50))
    assert perturbing.prepared(project, 2, PerturbParams(mud="9, 8,7")).mud == (9, 8, 7)
    made = perturbing.prepared(project, 2, PerturbParams(mud="auto"))
    assert made.mud == measure_mud(SliceScene(made.image, made.instances))
    assert perturbing.prepared(project, 2, custom(f"class {CLASS} -> blur 2")).mud is None


def test_everything_but_the_fossils_ends_where_the_tracing_ends(project: Project) -> None:
    half = np.zeros(project.slice_shape, bool)
    half[:, : half.shape[1] // 2] = True
    project.ledger.set_traced(2, Mask.from_array(half))
    made = perturbing.prepared(project, 2, PerturbParams())
    np.testing.assert_array_equal(made.changed, half & ~fossils(made))


def test_a_model_can_tell_the_regions(project: Project) -> None:
    cup = project.instances("annotations", 2, class_name=CLASS)[0]
    project.ledger.store("model:m:0", 2, [cup])
    made = perturbing.prepared(project, 2, PerturbParams(source="m"))
    np.testing.assert_array_equal(made.changed, ~cup.mask.to_array())
    with pytest.raises(FossilError, match="m has no prediction of slice 3; expected one of its"):
        perturbing.prepared(project, 3, PerturbParams(source="m"))


@pytest.mark.parametrize(("bits", "black", "white"), [(8, 0, 255), (12, 0, 4095), (16, 0, 65535)])
def test_noise_is_as_strong_as_what_is_between_black_and_white(
    tmp_path: Path, bits: int, black: int, white: int
) -> None:
    steps = np.linspace(black, white, 160 * 160).astype(np.uint8 if bits == 8 else np.uint16)
    tifffile.imwrite(tmp_path / "s.tif", steps.reshape(160, 160), photometric="minisblack")
    new.run(
        tmp_path / "p.fossil", tmp_path / "s.tif", NewParams(pixel_size=72.7, slice_spacing=500)
    )
    with Project.open(tmp_path / "p.fossil", read_only=True) as project:
        # Looked at when the project was made, because previews cannot write.
        assert (project.ledger.get_meta("stack_values") is None) == (bits == 8)
        made = perturbing.prepared(project, 0, custom("box 0:160,40:120 -> noise 8"))
    away = made.perturbed[40:120].astype(float) - made.image[40:120]
    assert away.std() == pytest.approx(8 * (white - black) / 255, rel=0.05)


def test_the_default_texture_is_a_square_of_a_pitted_fossil(project: Project) -> None:
    name = default_crop(project, CLASS)
    crop = read_crop(project, name)
    assert crop.shape[0] == crop.shape[1] >= 8
    mud = np.mean(measure_mud(SliceScene(project.stack.read(0))))
    assert crop.mean() > 1.5 * mud
    made = perturbing.prepared(project, 2, PerturbParams(preset=Preset.FOSSILS_TO_TEXTURE))
    named = PerturbParams(preset=Preset.FOSSILS_TO_TEXTURE, texture=name)
    np.testing.assert_array_equal(made.perturbed, perturbing.prepared(project, 2, named).perturbed)


def test_the_largest_square_is_found_among_all() -> None:
    rng = np.random.default_rng(4)
    free = rng.random((14, 17)) < 0.85
    edge, x, y = largest_square(free)
    assert free[y : y + edge, x : x + edge].all()
    larger = edge + 2
    windows = np.lib.stride_tricks.sliding_window_view(free, (larger, larger))
    assert not windows.all(axis=(2, 3)).any()


def test_a_picture_is_written(reef_project, tmp_path) -> None:
    reports = []
    out = tmp_path / "new" / "slice.png"
    result = perturbing.run(reef_project, 2, PerturbParams(), out, job=Job(reports.append))
    with Image.open(out) as picture:
        np.testing.assert_array_equal(np.asarray(picture), result.prepared.perturbed)
    summary = result.summary()
    assert summary["steps"] == f"other {CLASS} -> mud"
    assert summary["picture"] == str(out)
    assert reports[-1].done == reports[-1].total == 1


def test_a_cancelled_job_writes_nothing(reef_project, tmp_path) -> None:
    before = (reef_project / "project.json").read_bytes()
    with pytest.raises(CancelledError):
        perturbing.run(
            reef_project, 2, PerturbParams(), tmp_path / "a.png", job=Job(cancelled=lambda: True)
        )
    with pytest.raises(CancelledError):
        perturbing.pick_mud(reef_project, 1, 5, 5, job=Job(cancelled=lambda: True))
    assert not (tmp_path / "a.png").exists()
    assert (reef_project / "project.json").read_bytes() == before


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (PerturbParams(class_name="cup"), r"Slice 2 \(annotations\) has no instance of the class"),
        (PerturbParams(mud="red"), "mud colour cannot be read; expected r,g,b"),
        (PerturbParams(mud="1,2,nan"), "mud colour cannot be read"),
        (PerturbParams(mud="1,2,300"), "values from 0 to 255"),
        (PerturbParams(source="lost"), "no instances of 'lost'"),
        (PerturbParams(steps="all -> mud"), "preset is background-to-mud; expected the preset cus"),
        (custom(""), "There is no step"),
        (custom("all -> texture 9:0:9,0:9"), "lies outside the stack; expected slice 0 to 4"),
        (custom("all -> texture 0:0:999,0:9"), "lies outside the stack; expected .* x up to 128"),
        (custom("all -> texture 0:200:,0:9"), "lies outside the stack"),
        (custom("all -> texture 0:0:7,0:7"), "too small"),
        (custom("all -> texture", texture="here"), "The crop cannot be read; expected SLICE:x0"),
    ],
)
def test_bad_input_is_named(project: Project, params: PerturbParams, message: str) -> None:
    with pytest.raises(FossilError, match=message):
        perturbing.prepared(project, 2, params)


def test_slices_and_places_outside_are_refused(reef_project) -> None:
    for z in (-1, 5):
        with pytest.raises(FossilError, match=f"Slice {z} is not in the stack; expected 0 to 4"):
            perturbing.run(reef_project, z, PerturbParams())
        with pytest.raises(FossilError, match="is not in the stack"):
            perturbing.pick_mud(reef_project, z, 1, 1)
    with pytest.raises(FossilError, match="cannot be picked outside the slice"):
        perturbing.pick_mud(reef_project, 1, 128, 5)


def test_without_a_pitted_fossil_a_texture_must_be_named(project: Project) -> None:
    project.ledger.forget("annotations")
    with pytest.raises(FossilError, match=r"no pitted archaeocyathid.*found no traced instance"):
        default_crop(project, CLASS)
