"""The mud's colour and its patches, and the rock face, on pictures whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.perturb import SliceScene, measure_mud, parse_steps, perturb, pick_colour
from napari_fossiledit.perturb.mud import mud_patches, rock_face
from napari_fossiledit.samples.reef import Reef

MUD, GROUND, WHITE = (80, 50, 38), (40, 48, 66), (215, 222, 220)
ROCK = (slice(30, 170), slice(50, 250))


@pytest.fixture
def block() -> np.ndarray:
    """A block of mud with white fossils on a bluish ground, with grain."""
    image = np.empty((200, 300, 3))
    image[:] = GROUND
    image[ROCK] = MUD
    y, x = np.ogrid[:200, :300]
    for row, column in ((60, 90), (120, 140), (90, 210)):
        image[(y - row) ** 2 + (x - column) ** 2 < 20**2] = WHITE
    grain = np.random.default_rng(0).normal(0, 4, image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def test_the_rock_is_told_from_the_ground_and_holds_its_fossils(block: np.ndarray) -> None:
    truth = np.zeros(block.shape[:2], bool)
    truth[ROCK] = True
    face = rock_face(SliceScene(block))
    assert (face & truth).sum() / (face | truth).sum() > 0.95
    np.testing.assert_array_equal(rock_face(SliceScene(block.astype(np.uint16) * 257)), face)


def test_a_white_fossil_at_the_rim_is_rock_and_a_white_ground_is_not(block: np.ndarray) -> None:
    truth = np.zeros(block.shape[:2], bool)
    truth[ROCK] = True
    block[80:120, 225:250] = WHITE
    assert rock_face(SliceScene(block))[truth].mean() > 0.98
    block[~truth] = (240, 242, 245)
    assert rock_face(SliceScene(block))[~truth].mean() < 0.05


def test_grey_rock_is_told_from_black_and_else_is_everywhere(block: np.ndarray) -> None:
    grey = np.zeros(block.shape[:2], np.uint16)
    grey[ROCK] = 256 * block[ROCK][..., 0].astype(np.uint16)
    face = rock_face(SliceScene(grey))
    assert face[ROCK].mean() > 0.98
    assert face.mean() == pytest.approx(grey.astype(bool).mean(), rel=0.1)
    assert rock_face(SliceScene(block[ROCK][..., 0])).all()
    assert rock_face(SliceScene(block[ROCK][:, :20])).all()


@pytest.mark.parametrize(
    ("dtype", "level", "values"),
    [(np.uint8, 1, None), (np.uint16, 257, None), (np.uint16, 16, (0.0, 4095.0))],
)
def test_mud_is_measured_whether_fossils_are_known_or_not(
    block: np.ndarray, dtype: type, level: int, values: tuple[float, float] | None
) -> None:
    image = block.astype(dtype) * dtype(level)
    fossils = Instance(0, "cup", Mask.from_array(block[..., 2] > 150))
    for known in ((), (fossils,)):
        found = measure_mud(SliceScene(image, known, values=values))
        assert np.divide(found, level) == pytest.approx(MUD, abs=1.5)


def test_values_of_fewer_bits_are_no_darker_rock(block: np.ndarray) -> None:
    twelve = SliceScene(block.astype(np.uint16) * 16, values=(0.0, 4095.0))
    np.testing.assert_array_equal(rock_face(twelve), rock_face(SliceScene(block)))
    patches = mud_patches(twelve, np.random.default_rng(0))
    assert patches.mean(axis=(0, 1, 2)) / 16 == pytest.approx(MUD, abs=2)


def test_mud_follows_the_light_of_the_slice(block: np.ndarray) -> None:
    dim = (block * 0.8).astype(np.uint8)
    assert measure_mud(SliceScene(dim)) == pytest.approx(np.multiply(MUD, 0.8), abs=2)


def test_a_covered_rock_has_no_mud_to_measure(block: np.ndarray) -> None:
    cover = Instance(0, "cup", Mask.from_array(np.ones(block.shape[:2], bool)))
    with pytest.raises(FossilError, match="no mud to measure"):
        measure_mud(SliceScene(block, (cover,)))
    with pytest.raises(FossilError, match="no piece of mud to copy on the slice"):
        mud_patches(SliceScene(block, (cover,)), np.random.default_rng(0))


def test_the_eyedropper_takes_a_median_and_stays_in_the_slice(block: np.ndarray) -> None:
    assert pick_colour(block, 60, 40, radius=4) == pytest.approx(MUD, abs=3)
    assert pick_colour(block, 0, 0) == pytest.approx(GROUND, abs=6)
    assert pick_colour(block[..., 1], 299, 199, radius=0) == (float(block[199, 299, 1]),) * 3
    for x, y in ((300, 5), (-1, 5), (5, 200), (float("nan"), 5)):
        with pytest.raises(FossilError, match="x 0 to 299, y 0 to 199"):
            pick_colour(block, x, y)


def test_real_mud_looks_like_the_mud_and_shows_no_light_of_its_own(block: np.ndarray) -> None:
    shade = np.linspace(0.93, 1.07, 300)[:, None]
    shaded = np.clip(block * shade, 0, 255).astype(np.uint8)
    done = perturb(SliceScene(shaded), parse_steps("all -> real-mud")).image.astype(np.float64)
    assert done.mean(axis=(0, 1)) == pytest.approx(MUD, abs=3)
    assert done.std(axis=(0, 1)) == pytest.approx((4, 4, 4), abs=1)
    assert abs(done[:, :100].mean() - done[:, 200:].mean()) < 0.5


def test_mud_is_found_on_the_sample_reef() -> None:
    made = Reef(ReefParams(slices=4, size=256, seed=3)).slice(1)
    muddy = made.rock & (made.specimens == 0) & (made.calcimicrobes == 0) & (made.shells == 0)
    truth = np.median(made.rgb[muddy], axis=0)
    assert measure_mud(SliceScene(made.rgb)) == pytest.approx(truth, abs=4)
    face = rock_face(SliceScene(made.rgb))
    assert (face & made.rock).sum() / made.rock.sum() > 0.95
    assert face.mean() < 1.3 * made.rock.mean()


@pytest.mark.real_data
def test_mud_and_rock_are_found_on_a_photograph(shared_data) -> None:
    with Image.open(shared_data / "labrador" / "labrador_r02103406.jpg") as opened:
        image = np.asarray(opened.reduce(8))
    face = rock_face(SliceScene(image))
    assert 0.5 < face.mean() < 0.65
    assert not face[:8].any()
    red, green, blue = measure_mud(SliceScene(image))
    assert (red, green, blue) == pytest.approx((66, 44, 34), abs=6)
