"""What is painted where, on every kind of slice, against independent computations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.perturb import SliceScene, parse_steps, perturb

SHAPE = (48, 64)
KINDS = [(np.uint8, True), (np.uint8, False), (np.uint16, True), (np.uint16, False)]


def picture(dtype: type, rgb: bool, seed: int = 0) -> np.ndarray:
    """Reddish noise in the middle of what the dtype holds."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.3, 0.5, (*SHAPE, 3)) * [1.0, 0.7, 0.5]
    image = (values * np.iinfo(dtype).max).astype(dtype)
    return image if rgb else image[..., 0].copy()


def scene_of(dtype: type = np.uint8, rgb: bool = True) -> SliceScene:
    crop = picture(dtype, rgb, seed=9)[:12, :12]
    return SliceScene(picture(dtype, rgb), mud=(70.0, 45.0, 35.0), crops=lambda _: crop)


BOX = np.zeros(SHAPE, bool)
BOX[10:30, 20:50] = True
FILLS = [
    "mud",
    "colour 9,8,7",
    "texture",
    "seamless",
    "real-mud",
    "real-mud 0:0:12,0:12",
    "blur 2",
    "noise 9",
    "brightness 6",
    "hue 50",
]


@pytest.mark.parametrize(("dtype", "rgb"), KINDS)
@pytest.mark.parametrize("fill", FILLS)
def test_only_the_region_changes_and_the_same_seed_repeats(
    dtype: type, rgb: bool, fill: str
) -> None:
    scene = scene_of(dtype, rgb)
    if fill.startswith("hue") and not rgb:
        with pytest.raises(FossilError, match="no hue"):
            perturb(scene, parse_steps(f"box 20:50,10:30 -> {fill}"))
        return
    before = scene.image.copy()
    steps = parse_steps(f"box 20:50,10:30 -> {fill}")
    done = perturb(scene, steps, seed=3)
    assert (done.image.dtype, done.image.shape) == (scene.image.dtype, scene.image.shape)
    np.testing.assert_array_equal(done.changed, BOX)
    assert done.share == pytest.approx(BOX.mean())
    np.testing.assert_array_equal(scene.image, before)
    np.testing.assert_array_equal(done.image[~BOX], before[~BOX])
    assert (done.image[BOX] != before[BOX]).mean() > 0.5
    np.testing.assert_array_equal(perturb(scene, steps, seed=3).image, done.image)


@pytest.mark.parametrize("fill", ["noise 9", "seamless", "real-mud"])
def test_another_seed_gives_other_pixels(fill: str) -> None:
    steps = parse_steps(f"all -> {fill}")
    first, second = (perturb(scene_of(), steps, seed=seed).image for seed in (0, 1))
    assert (first != second).any()


def test_a_solid_colour_is_that_colour() -> None:
    done = perturb(scene_of(), parse_steps("box 20:50,10:30 -> colour 9,8,7"))
    assert (done.image[BOX] == [9, 8, 7]).all()
    grey = perturb(scene_of(rgb=False), parse_steps("all -> colour 40,40,40"))
    assert (grey.image == 40).all()


def test_the_mud_of_the_scene_is_used_and_measured_where_it_is_unknown() -> None:
    steps = parse_steps("all -> mud")
    assert (perturb(scene_of(), steps).image == [70, 45, 35]).all()
    flat = np.full((*SHAPE, 3), (90, 60, 40), np.uint8)
    flat[:10] = (220, 225, 220)
    measured = perturb(SliceScene(flat), steps).image
    assert (measured == [90, 60, 40]).all()


def test_tiles_are_counted_from_the_corner_of_the_slice() -> None:
    scene = scene_of()
    crop = scene.crops("")
    whole = np.tile(crop, (4, 6, 1))[: SHAPE[0], : SHAPE[1]]
    done = perturb(scene, parse_steps("box 20:50,10:30 -> texture")).image
    np.testing.assert_array_equal(done[BOX], whole[BOX])


@pytest.mark.parametrize(("dtype", "rgb"), KINDS)
def test_a_blurred_part_is_that_part_of_the_blurred_slice(dtype: type, rgb: bool) -> None:
    scene = scene_of(dtype, rgb)
    sigma = (1.5, 1.5, 0) if rgb else 1.5
    whole = ndimage.gaussian_filter(scene.image.astype(np.float64), sigma)
    done = perturb(scene, parse_steps("box 20:50,10:30 -> blur 1.5")).image
    assert np.abs(done[BOX] - whole[BOX]).max() < 0.51 * max(1, np.iinfo(dtype).max / 65535)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_noise_has_the_deviation_asked_for(dtype: type) -> None:
    scene = scene_of(dtype)
    done = perturb(scene, parse_steps("all -> noise 8")).image
    level = np.iinfo(dtype).max / 255
    away = (done.astype(np.float64) - scene.image) / level
    assert away.std() == pytest.approx(8, rel=0.05)
    assert away.mean() == pytest.approx(0, abs=0.3)


def test_six_decibels_double_and_values_stay_in_range() -> None:
    image = np.array([[10, 100, 200]], np.uint8)
    done = perturb(SliceScene(image), parse_steps("all -> brightness 6.0206")).image
    assert done.tolist() == [[20, 200, 255]]


def test_hue_moves_colours_and_leaves_grey() -> None:
    image = np.array([[[200, 40, 30], [90, 90, 90]]], np.uint8)
    done = perturb(SliceScene(image), parse_steps("all -> hue 120")).image
    assert done.tolist() == [[[30, 200, 40], [90, 90, 90]]]


def test_later_steps_and_fills_see_what_earlier_ones_left() -> None:
    scene = scene_of()
    done = perturb(scene, parse_steps("all -> colour 8,8,8; box 20:50,10:30 -> blur 3 + hue 90"))
    assert (done.image == 8).all()
    assert done.share == 1


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_drawn_region_is_all_that_changes(data: st.DataObject) -> None:
    x0, y0 = data.draw(st.integers(0, 62)), data.draw(st.integers(0, 46))
    x1, y1 = data.draw(st.integers(x0 + 1, 64)), data.draw(st.integers(y0 + 1, 48))
    scene = scene_of()
    done = perturb(scene, parse_steps(f"box {x0}:{x1},{y0}:{y1} -> seamless"))
    assert done.changed.sum() == (x1 - x0) * (y1 - y0)
    np.testing.assert_array_equal(done.image[~done.changed], scene.image[~done.changed])


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        (np.zeros((7, 7, 3), np.uint8), "too small; expected 8 x 8 pixels or more; found 7 x 7"),
        (np.zeros((9, 12, 3), np.uint8), "not square; expected equal sides; found 12 x 9"),
        (np.zeros((9, 9), np.uint8), "expected RGB, uint8; found grey, uint8"),
        (np.zeros((9, 9, 3), np.uint16), "expected RGB, uint8; found RGB, uint16"),
    ],
)
@pytest.mark.parametrize("fill", ["texture", "seamless", "real-mud 0:0:9,0:9"])
def test_unfit_crops_are_refused(crop: np.ndarray, message: str, fill: str) -> None:
    scene = replace(scene_of(), crops=lambda _: crop)
    with pytest.raises(FossilError, match=message):
        perturb(scene, parse_steps(f"all -> {fill}"))


def test_other_impossible_fills_are_refused() -> None:
    with pytest.raises(FossilError, match="values from 0 to 255; found 300, 0, 0"):
        perturb(scene_of(), parse_steps("all -> colour 300,0,0"))
    with pytest.raises(FossilError, match="no texture to fill with"):
        perturb(SliceScene(picture(np.uint8, True)), parse_steps("all -> texture"))
    with pytest.raises(FossilError, match="nothing to perturb with"):
        perturb(scene_of(), ())


def test_a_perturbation_can_be_stopped() -> None:
    with pytest.raises(CancelledError):
        perturb(scene_of(), parse_steps("all -> mud"), cancel=lambda: True)
