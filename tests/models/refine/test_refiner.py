"""A refiner finds borders that the coarse masks miss, at every cut and pixel size."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Origin
from napari_fossiledit.masks.probability import Piece, ProbabilityMask
from napari_fossiledit.models.refine.files import load_refiner, read_refiner_record, save_refiner
from napari_fossiledit.models.refine.fit import Example, fit_network, matches, samples
from napari_fossiledit.models.refine.refiner import (
    MOST_PIXELS,
    Refiner,
    RefinerRecord,
    _enlarged,
    cleaned,
    exclusive,
)

SHAPE = (300, 400)
CLASS = "archaeocyathid"


def scene(seed):
    """Return RGB, the true masks of bright lobed discs, and coarse masks that miss their lobes."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    truths, found = [], []
    for row in (60, 150, 240):
        for column in (60, 160, 260, 350):
            angle = np.arctan2(y - row, x - column) + random.uniform(0, 6)
            edge = random.uniform(22, 30) * (1 + 0.2 * np.sin(5 * angle))
            truths.append(np.hypot(y - row, x - column) < edge)
            grid = np.hypot(*(np.mgrid[:28, :28] - 13.5)) < 11
            grid = ndimage.gaussian_filter(grid.astype(float), 2)
            box = (column - 36.0, row - 36.0, column + 36.0, row + 36.0)
            piece = Piece(box, np.rint(grid * 255).astype(np.uint8))
            probability = ProbabilityMask((piece,))
            mask = probability.cut(0.5, SHAPE)
            found.append(
                Instance(0, CLASS, mask, 0.9, origin=Origin.MODEL, probability=probability)
            )
    light = np.where(np.any(truths, axis=0), 150, 90)[..., None] + random.normal(0, 15, (*SHAPE, 3))
    return light.clip(0, 255).astype(np.uint8), truths, found


def iou(mask, truth):
    array = mask.to_array()
    return (array & truth).sum() / (array | truth).sum()


def example_of(rgb, found, masks, counted=None, fold=0):
    groups = np.full(len(found), fold, np.intp)
    return Example(rgb, found, masks, counted, matches(found, masks), groups)


@pytest.fixture(scope="module")
def refiner():
    examples = []
    for seed in (1, 2):
        rgb, truths, found = scene(seed)
        masks = [Mask.from_array(t) for t in truths]
        examples.append(example_of(rgb, found, masks, fold=seed))
    data = samples(examples, 24, 1.0)
    record = RefinerRecord(model_hash="abc", classes=(CLASS,), pixel_size_um=50.0)
    return Refiner(record, {CLASS: fit_network(data, steps=150)})


def test_masks_are_closer_to_the_truth_than_before(refiner):
    rgb, truths, found = scene(3)
    refined = refiner.refine(rgb, found)
    before = np.mean([iou(i.mask, t) for i, t in zip(found, truths, strict=True)])
    after = np.mean([iou(i.mask, t) for i, t in zip(refined, truths, strict=True)])
    assert before < 0.85
    assert after > 0.93


def test_no_hole_and_no_island_is_small_at_any_cut(refiner):
    rgb, _, found = scene(4)
    for instance in refiner.refine(rgb, found):
        for cut in (0.2, 0.5, 0.8):
            mask = instance.probability.cut(cut, SHAPE).to_array()
            islands = np.bincount(ndimage.label(mask, np.ones((3, 3)))[0].ravel())[1:]
            holes = np.bincount(ndimage.label(~mask)[0].ravel())[1:]
            assert min([*islands, *holes]) >= refiner.record.smallest


def test_the_stored_mask_is_the_one_of_the_cut_one_half(refiner):
    rgb, _, found = scene(5)
    for instance in refiner.refine(rgb, found):
        again = ProbabilityMask.from_bytes(instance.probability.to_bytes())
        assert again.cut(0.5, SHAPE) == instance.mask


def test_islands_and_holes_that_hold_no_square_go_and_thin_branches_stay():
    grid = np.zeros((20, 30), dtype=np.uint8)
    grid[2:12, 2:12] = 200
    grid[5:7, 5:8] = 90
    grid[8, 12:20] = 120
    grid[15:17, 3:20] = 80
    expected = grid.copy()
    expected[5:7, 5:8] = 200
    expected[15:17] = 0
    np.testing.assert_array_equal(cleaned(grid, 3), expected)
    assert cleaned(grid[:2, :2], 3).max() == 0


def test_large_windows_have_no_small_hole_nor_island_either(refiner):
    rgb, _, found = scene(14)
    large = rgb.repeat(4, axis=0).repeat(4, axis=1)
    shape = large.shape[:2]
    (piece,) = found[5].probability.pieces
    probability = ProbabilityMask((Piece(tuple(4 * v for v in piece.box), piece.grid),))
    grown = dataclasses.replace(found[5], mask=probability.cut(0.5, shape), probability=probability)
    (refined,) = refiner.refine(large, [grown])
    (new,) = refined.probability.pieces
    assert new.grid.shape[0] > 2 * MOST_PIXELS**0.5
    for cut in range(5, 255, 10):
        islands = np.bincount(ndimage.label(new.grid > cut, np.ones((3, 3)))[0].ravel())[1:]
        holes = np.bincount(ndimage.label(new.grid <= cut)[0].ravel())[1:]
        assert min([*islands, *holes]) >= refiner.record.smallest


def test_slices_of_other_pixels_are_seen_at_the_size_it_learned(refiner):
    rgb, truths, found = scene(6)
    half = rgb[::2, ::2]
    shape = half.shape[:2]
    coarse = []
    for instance in found:
        (piece,) = instance.probability.pieces
        small = ProbabilityMask((Piece(tuple(v / 2 for v in piece.box), piece.grid),))
        changed = {"mask": small.cut(0.5, shape), "probability": small}
        coarse.append(dataclasses.replace(instance, **changed))
    refined = refiner.refine(half, coarse, pixel_size_um=100.0)
    ious = [iou(i.mask, t[::2, ::2]) for i, t in zip(refined, truths, strict=True)]
    assert np.mean(ious) > 0.9


def test_other_classes_and_masks_without_probabilities_stay(refiner):
    rgb, _, found = scene(7)
    other = dataclasses.replace(found[0], class_name="shell")
    old = dataclasses.replace(found[1], probability=None)
    assert refiner.refine(rgb, [other, old]) == [other, old]


def test_what_would_vanish_stays(refiner):
    rgb, _, found = scene(8)
    black = np.zeros_like(rgb)
    assert all(i.mask.area for i in refiner.refine(black, found))


def test_pieces_of_tiles_and_borders_of_the_slice(refiner):
    rgb, truths, found = scene(9)
    (piece,) = found[0].probability.pieces
    x0, y0, x1, y1 = piece.box
    # The left of the fossil is cut off, and two tiles saw it a little apart.
    pieces = tuple(Piece((x0 - d, y0, x1 - d, y1), piece.grid) for d in (40, 44))
    both = dataclasses.replace(found[0], probability=ProbabilityMask(pieces))
    (refined,) = refiner.refine(rgb[:, 40:], [both])
    (new,) = refined.probability.pieces
    assert new.box[0] == 0
    assert new.grid.shape == (new.box[3] - new.box[1], new.box[2] - new.box[0])
    assert iou(refined.mask, truths[0][:, 40:]) > 0.9


def test_exclusive_masks_share_no_pixel_and_the_better_one_keeps_it(refiner):
    rgb, _, found = scene(10)
    double = dataclasses.replace(found[0], score=0.2)
    refined = refiner.refine(rgb, [*found, double])
    apart = exclusive(refined, SHAPE)
    assert np.sum([i.mask.to_array() for i in apart], axis=0).max() == 1
    assert [i.score for i in apart] == [0.9] * len(found)
    assert apart[0].mask.area >= 0.99 * refined[0].mask.area


def painted(box, value, score):
    y0, x0, y1, x1 = box
    grid = np.full((y1 - y0, x1 - x0), round(value * 255), np.uint8)
    probability = ProbabilityMask((Piece((x0, y0, x1, y1), grid, exact=True),))
    mask = probability.cut(0.5, SHAPE)
    return Instance(0, CLASS, mask, score, origin=Origin.MODEL, probability=probability)


def test_a_halo_that_draws_nothing_takes_nothing_from_one_that_draws():
    sure = painted((20, 20, 40, 40), 0.9, 0.4)
    (piece,) = painted((60, 60, 80, 80), 1.0, 0.95).probability.pieces
    (halo,) = painted((20, 30, 40, 60), 0.45, 0.95).probability.pieces
    other = dataclasses.replace(
        painted((60, 60, 80, 80), 1.0, 0.95), probability=ProbabilityMask((piece, halo))
    )
    first, second = exclusive([other, sure], SHAPE)
    assert second.mask == sure.mask
    assert first.mask == other.mask
    # Where nobody draws, it is still there for a lower cut.
    low = first.probability.cut(0.4, SHAPE).to_array()
    assert low[30, 50]
    assert not low[30, 35]


def test_what_exclusive_masks_leave_of_each_other_is_no_island():
    # The first covers the second but for a rim, two pixels wide.
    one, rim = painted((20, 20, 40, 38), 0.9, 0.9), painted((20, 20, 40, 40), 0.9, 0.5)
    assert [i.mask.area for i in exclusive([one, rim], SHAPE, 4)] == [360, 40]
    assert exclusive([one, rim], SHAPE, 9) == exclusive([one], SHAPE)


def test_what_breaks_off_between_two_large_pixels_is_not_drawn():
    grid = np.zeros((12, 12), np.uint8)
    grid[2:6, 2:6] = 255
    # A bridge by a corner: in these pixels it holds, in finer ones it breaks above 9 / 16.
    grid[6:8, 6:8] = 255
    assert (cleaned(grid, 3) == grid).all()
    wide = _enlarged(grid, 3, (48, 48))
    assert (wide[8:24, 8:24] >= 128).sum() >= 16 * 16 - 4
    assert wide[26:, 26:].max() <= 9 / 16 * 256
    assert (wide[10:22, 10:22] == 255).all()


def test_a_single_instance_gives_a_network_too():
    rgb, truths, found = scene(11)
    example = example_of(rgb, found[:1], [Mask.from_array(truths[0])])
    data = samples([example], 1, 1.0)
    assert len(data.truth) == 4000
    refiner = Refiner(
        RefinerRecord(model_hash="abc", classes=(CLASS,)), {CLASS: fit_network(data, steps=60)}
    )
    (refined,) = refiner.refine(rgb, found[:1])
    assert iou(refined.mask, truths[0]) > iou(found[0].mask, truths[0])


def test_only_known_pixels_are_learned_from():
    rgb, truths, found = scene(12)
    masks = [Mask.from_array(t) for t in truths]
    left = np.zeros(SHAPE, dtype=np.bool_)
    left[:, :200] = True
    example = example_of(rgb, found, masks, left)
    data = samples([example], len(found), 1.0)
    # Two of four columns of discs lie in the left half.
    assert len(data.truth) == 6 * 4000


class TestFiles:
    def test_what_was_saved_refines_alike(self, refiner, tmp_path):
        written = save_refiner(refiner, tmp_path)
        record = read_refiner_record(tmp_path, "model", "abc")
        assert record == written
        again = load_refiner(tmp_path, record)
        assert again.hash == refiner.hash == record.refiner_hash
        rgb, _, found = scene(13)
        assert again.refine(rgb, found) == refiner.refine(rgb, found)

    def test_of_another_model_is_refused(self, refiner, tmp_path):
        save_refiner(refiner, tmp_path)
        with pytest.raises(FossilError, match="fitted for another model than 'other'"):
            read_refiner_record(tmp_path, "other", "def")

    def test_none_is_told_with_the_command_that_fits_one(self, tmp_path):
        with pytest.raises(FossilError, match="fossiledit refine PROJECT --model lite"):
            read_refiner_record(tmp_path, "lite", "abc")

    def test_other_weights_are_refused(self, refiner, tmp_path):
        record = save_refiner(refiner, tmp_path)
        other = record.model_copy(update={"smallest": 3})
        with pytest.raises(FossilError, match="does not belong to its"):
            load_refiner(tmp_path, other)

    def test_of_an_older_version_is_to_be_fitted_again(self, refiner, tmp_path):
        save_refiner(refiner, tmp_path)
        file = tmp_path / "refiner.json"
        file.write_text(file.read_text().replace('"format_version": 2', '"format_version": 1'))
        with pytest.raises(FossilError, match=r"format_version.*2") as told:
            read_refiner_record(tmp_path, "lite", "abc")
        assert "Fit it again: 'fossiledit refine PROJECT" in str(told.value)

    def test_a_truncated_file_is_refused(self, refiner, tmp_path):
        record = save_refiner(refiner, tmp_path)
        file = tmp_path / "refiner.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(FossilError, match="cannot be read"):
            load_refiner(tmp_path, record)

    def test_another_file_in_place_of_the_record_is_refused(self, tmp_path):
        (tmp_path / "refiner.json").write_text('{"model_hash": "abc"}')
        with pytest.raises(FossilError, match="is not the record of a refiner"):
            read_refiner_record(tmp_path, "lite", "abc")
