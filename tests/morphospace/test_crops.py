"""Specimens are cut out whole, and their outlines measured whatever their place and size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import rotate

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Mask
from napari_fossiledit.morphospace.crops import IMAGENET_MEAN, PictureFolder, cut_out, squared
from napari_fossiledit.morphospace.outlines import outline_numbers, silhouette


def ellipse(height: float, width: float, shape: tuple[int, int] = (240, 240)) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    middle = np.array(shape) / 2
    return ((y - middle[0]) / height) ** 2 + ((x - middle[1]) / width) ** 2 <= 1


def test_a_picture_keeps_its_ratio() -> None:
    made = squared(np.full((20, 40), 200, np.uint8), (10, 10, 10), edge=80)
    assert made.shape == (80, 80, 3)
    assert (made[25:55] == 200).all()
    assert (made[:15] == 10).all()
    assert (made[-15:] == 10).all()


@pytest.mark.parametrize("own_mean", [True, False])
def test_what_is_around_a_specimen_is_not_seen(own_mean: bool) -> None:
    inside = ellipse(30, 50, (100, 140))
    image = np.where(inside[..., None], (200, 100, 50), (0, 255, 0)).astype(np.uint8)
    made = cut_out(image, Mask.from_array(inside), own_mean=own_mean, edge=96)
    around = (200, 100, 50) if own_mean else IMAGENET_MEAN
    np.testing.assert_array_equal(made[48, 48], (200, 100, 50))
    np.testing.assert_array_equal(made[2, 2], around)
    assert made[..., 1].max() <= max(100, around[1]) + 20


def test_a_folder_names_its_pictures_and_leaves_out_what_cannot_be_read(tmp_path: Path) -> None:
    for name in ("Zellia/b 1.png", "Zellia/a.png", "loose.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((30, 40), len(name), np.uint8)).save(tmp_path / name)
    (tmp_path / "Zellia/broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    (tmp_path / "notes.txt").write_text("no picture")
    found = PictureFolder.open(tmp_path)
    names = {"Zellia/a.png": "Zellia", "Zellia/b 1.png": "Zellia", "loose.png": None}
    assert {item.key: item.name for item in found.items} == names
    assert found.notes == ("Left out because they cannot be read: Zellia/broken.jpg.",)
    assert [p.shape for p in found.pictures(64)] == [(64, 64, 3)] * 3


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"")
    with pytest.raises(FossilError, match=r"holds no picture.*found 1 that cannot be read"):
        PictureFolder.open(tmp_path)


def test_outline_numbers_of_an_ellipse_are_those_of_its_harmonics() -> None:
    # Points at equal steps along the outline, as complex numbers: coefficient k and -k together
    # are an ellipse, whose semi-axes are the sum and the difference of their sizes.
    angles = np.linspace(0, 2 * np.pi, 100_000)
    outline = 60 * np.cos(angles) + 30j * np.sin(angles)
    along = np.r_[0, np.cumsum(np.abs(np.diff(outline)))]
    even = np.linspace(0, along[-1], 4096, endpoint=False)
    sizes = np.abs(np.fft.fft(np.interp(even, along, outline)))
    pairs = [(sizes[k] + sizes[-k], abs(sizes[k] - sizes[-k])) for k in range(1, 9)]
    expected = np.ravel(pairs) / pairs[0][0]
    found = outline_numbers(ellipse(30, 60))
    np.testing.assert_allclose(found, [np.log(0.5), *expected], atol=0.01)


def test_outline_numbers_stay_where_a_specimen_is_turned_mirrored_moved_or_scaled() -> None:
    shape = ellipse(40, 80) | np.roll(ellipse(55, 30), (10, -20), (0, 1))
    expected = outline_numbers(shape)
    assert np.abs(expected[3:]).max() > 0.03
    turned = rotate(shape.astype(float), 37, reshape=False, order=1) > 0.5
    scaled = np.asarray(Image.fromarray(shape).resize((480, 480)))
    for same in (turned, shape[:, ::-1], np.roll(shape, 15, 0), scaled):
        np.testing.assert_allclose(outline_numbers(same), expected, atol=0.02)


def test_a_speck_has_no_outline() -> None:
    assert not outline_numbers(np.zeros((9, 9), bool)).any()
    assert not outline_numbers(np.eye(2, dtype=bool)).any()


def test_a_specimen_on_plain_ground_is_found() -> None:
    rings = ellipse(40, 60) & ~ellipse(36, 56) | ellipse(10, 10)
    picture = np.where(rings[..., None], 60, 250).repeat(3, axis=2).astype(np.uint8)
    found = silhouette(picture)
    assert np.mean(found ^ ellipse(40, 60)) < 0.005
