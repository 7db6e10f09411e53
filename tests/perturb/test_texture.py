"""Stitched textures: made of the crop alone, without seams, and quick enough."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from napari_fossiledit.perturb.texture import _seam, quilt, seamless, tile


def pits(edge: int, period: float = 9.0) -> np.ndarray:
    """A crop of a hexagonal pattern of pores whose edges do not fit each other."""
    y, x = np.mgrid[:edge, :edge] * 2 * np.pi / period
    waves = np.cos(x) + np.cos(0.5 * x + 0.866 * y) + np.cos(0.5 * x - 0.866 * y)
    return np.clip(150 + 30 * waves, 0, 255).astype(np.uint8)


def jumps(image: np.ndarray) -> float:
    """Largest step between neighbouring rows or columns, on the whole of the picture."""
    values = image.astype(np.float64)
    across, down = np.abs(np.diff(values, axis=1)), np.abs(np.diff(values, axis=0))
    return max(across.mean(axis=0).max(), down.mean(axis=1).max())


@pytest.mark.parametrize("shape", [(1, 1), (5, 90), (64, 64), (70, 31)])
@pytest.mark.parametrize("edge", [8, 40])
@pytest.mark.parametrize("rgb", [True, False])
def test_any_window_is_filled_with_pixels_of_the_crop(
    shape: tuple[int, int], edge: int, rgb: bool
) -> None:
    rng = np.random.default_rng(1)
    crop = rng.integers(1, 2**16, (edge, edge, 3) if rgb else (edge, edge)).astype(np.uint16)
    made = seamless(crop, shape, 0)
    assert made.shape == (*shape, *crop.shape[2:])
    assert made.dtype == crop.dtype
    pixels = {tuple(np.atleast_1d(p)) for p in crop.reshape(edge * edge, -1)}
    assert {tuple(np.atleast_1d(p)) for p in made.reshape(shape[0] * shape[1], -1)} <= pixels


def test_stitching_shows_less_seam_than_tiles() -> None:
    crop = pits(40)
    inside = jumps(crop)
    tiled, stitched = tile(crop, (160, 160)), seamless(crop, (160, 160), 0)
    assert jumps(tiled) > 1.2 * inside
    assert jumps(stitched) < 1.1 * inside


def test_stitching_keeps_the_distribution_and_the_period() -> None:
    crop = pits(48)
    made = seamless(crop, (200, 200), 2).astype(np.float64)
    assert made.mean() == pytest.approx(crop.mean(), abs=5)
    assert made.std() == pytest.approx(crop.std(), rel=0.1)
    power = np.abs(np.fft.rfft(made - made.mean(), axis=0)).mean(axis=1)
    assert 200 / (power[5:].argmax() + 5) == pytest.approx(9.0 / 0.866, rel=0.15)


def test_the_seam_is_the_cheapest_of_all() -> None:
    cost = np.random.default_rng(0).random((3, 5, 4)).astype(np.float32)
    paths = [p for p in np.ndindex(*[4] * 5) if (np.abs(np.diff(p)) <= 1).all()]
    for strip, found in zip(cost, _seam(cost), strict=True):
        best = min(paths, key=lambda path: strip[np.arange(5), path].sum())
        assert tuple(found) == best


def test_patches_lie_over_each_other_without_gaps() -> None:
    bank = np.full((4, 12, 12, 3), 77, np.uint8)
    assert (quilt(bank, (103, 59), np.random.default_rng(0)) == 77).all()


def test_memory_is_that_of_the_window_and_a_few_patches() -> None:
    crop = ndimage.zoom(pits(48), 2, order=1)
    tracemalloc.start()
    made = seamless(crop, (600, 800), 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * made.nbytes + 30e6


@pytest.mark.parametrize("origin", [(0, 0), (5, 13)])
def test_tiles_of_neighbouring_windows_fit(origin: tuple[int, int]) -> None:
    crop = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    whole = np.tile(crop, (5, 6, 1))
    y, x = origin
    np.testing.assert_array_equal(tile(crop, (20, 30), origin), whole[y : y + 20, x : x + 30])
