"""From traced slices to training crops."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from skimage.transform import rescale

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.training.augment import (
    Variation,
    _Place,
    random_batch,
    random_cut,
    target_of,
)
from napari_fossiledit.models.training.sampling import (
    PreparedSlices,
    TrainingSlice,
    prepare,
    survey,
)
from napari_fossiledit.models.training.validation import Judged, split

STILL = Variation(free_turns=0.0, zoom=1.0, light=0.0)
SETTINGS = Preprocessing()


def _box_mask(y0, x0, y1, x1, shape=(80, 120)):
    mask = np.zeros(shape, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return Mask.from_array(mask)


def _instance(mask, name="a", **more):
    return Instance(0, name, mask, **more)


def _slice(instances, ignore=None, shape=(80, 120)):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    return TrainingSlice(image, instances, ignore)


@dataclass
class Samples:
    traced: TrainingSlice
    slices: tuple[int, ...] = (0,)
    validation: tuple[int, ...] = ()
    pixel_size_um: float | None = None
    reads: list[int] = field(default_factory=list)

    def read(self, z):
        self.reads.append(z)
        return self.traced


def test_unsure_and_untraced_instances_become_ignored_area():
    ignore = np.zeros((80, 120), dtype=bool)
    ignore[:, 100:] = True
    traced = _slice(
        [
            _instance(_box_mask(10, 10, 30, 30)),
            _instance(_box_mask(40, 10, 60, 30), unsure=True),
            _instance(_box_mask(10, 95, 30, 118)),
            _instance(_box_mask(40, 80, 60, 102)),
            _instance(_box_mask(40, 40, 60, 60), "other"),
            _instance(_box_mask(15, 15, 20, 20), part=Part.CAVITY),
        ],
        ignore,
    )
    found = prepare(traced, SETTINGS, ("b", "a"))
    assert found.labels == (2, 2)
    assert found.areas == (400, 440)
    assert found.ignore[40:60, 10:30].all()
    assert found.ignore[10:30, 95:].all()
    assert not found.ignore[40:60, 40:60].any()
    assert found.ignore.sum() == 80 * 20 + 20 * 20 + 20 * 5


def test_overlapping_instances_keep_their_whole_masks():
    boxes = [(10, 10, 40, 40), (30, 30, 60, 60), (35, 35, 70, 80), (0, 90, 9, 99)]
    found = prepare(_slice([_instance(_box_mask(*b)) for b in boxes]), SETTINGS, ("a",))
    assert len(found.layers) == 3
    for number, (y0, x0, y1, x1) in enumerate(boxes, 1):
        mask = np.any([layer == number for layer in found.layers], axis=0)
        assert mask[y0:y1, x0:x1].all()
        assert mask.sum() == (y1 - y0) * (x1 - x0) == found.areas[number - 1]


@pytest.mark.parametrize("scale", [0.5, 0.31, 1.7])
def test_masks_are_scaled_like_the_image(scale):
    y, x = np.ogrid[:80, :120]
    disc = (y - 40.2) ** 2 + (x - 66.7) ** 2 <= 25**2
    settings = Preprocessing(scale=scale)
    found = prepare(_slice([_instance(Mask.from_array(disc))]), settings, ("a",))
    assert found.layers[0].shape == found.rgb.shape[:2]
    wanted = rescale(disc.astype(float), scale, anti_aliasing=True) > 0.5
    ours = found.layers[0] == 1
    if wanted.shape == ours.shape:
        assert (ours & wanted).sum() / (ours | wanted).sum() > 0.93
    assert ours.sum() == pytest.approx(disc.sum() * scale**2, rel=0.05)
    y0, x0, y1, x1 = found.boxes[0]
    assert ours[y0:y1, x0:x1].sum() == ours.sum()


def test_survey_finds_scale_and_range():
    samples = Samples(
        _slice([_instance(_box_mask(0, 0, 32, 32)), _instance(_box_mask(0, 40, 32, 72))])
    )
    found = survey(samples, ("a",))
    assert found.scale == pytest.approx(64 / (2 * np.sqrt(1024 / np.pi)), abs=1e-3)
    assert (found.low, found.high) == (0.0, 255.0)


def test_survey_says_what_is_missing():
    samples = Samples(_slice([_instance(_box_mask(0, 0, 9, 9), "b")]), slices=(0, 3))
    with pytest.raises(FossilError, match="expected instances of a; found none on 2 slices"):
        survey(samples, ("a",))


def test_prepared_slices_keep_within_their_budget():
    samples = Samples(_slice([]), slices=(0, 1))
    kept = PreparedSlices(samples, SETTINGS, ("a",))
    assert kept(0) is kept(0)
    assert samples.reads == [0]
    tight = PreparedSlices(samples, SETTINGS, ("a",), budget_bytes=1)
    samples.reads.clear()
    for z in (0, 1, 0):
        tight(z)
    assert samples.reads == [0, 1, 0]


def _pattern():
    """A slice whose colour tells the place: red is the row, green the column."""
    image = np.zeros((120, 120, 3), dtype=np.uint8)
    image[..., 0], image[..., 1] = np.arange(120)[:, None], np.arange(120)
    mask = np.zeros((120, 120), dtype=bool)
    mask[30:70, 50:80] = True
    return prepare(TrainingSlice(image, [_instance(Mask.from_array(mask))]), SETTINGS, ("a",))


@pytest.mark.parametrize("seed", range(12))
def test_image_and_masks_move_together(seed):
    source = _pattern()
    variation = Variation(free_turns=0.5, zoom=1.3, light=0.0)
    cut = random_cut(source, 64, variation, np.random.default_rng(seed))
    inside = ~cut.ignore
    rows, columns = (cut.rgb[..., c].astype(float) for c in (0, 1))
    shown = (rows > 31) & (rows < 68) & (columns > 51) & (columns < 78) & inside
    hidden = ((rows < 28) | (rows > 71) | (columns < 48) | (columns > 81)) & inside
    assert (cut.layers[0][shown] == 1).all()
    assert not cut.layers[0][hidden].any()


def test_quarter_turns_copy_pixels_exactly():
    source = _pattern()
    cuts = [random_cut(source, 120, STILL, np.random.default_rng(s)) for s in range(30)]
    wanted = {np.rot90(m, k).tobytes() for m in (source.rgb, source.rgb[:, ::-1]) for k in range(4)}
    assert {cut.rgb.tobytes() for cut in cuts} <= wanted
    assert len({cut.rgb.tobytes() for cut in cuts}) > 4


def test_beyond_the_slice_is_ignored():
    place = _Place(20, (1.0, 0.0, -5.0, 0.0, 1.0, 0.0))
    ignored = place.ignored(np.zeros((40, 40), dtype=bool))
    assert ignored[:, :5].all()
    assert not ignored[:, 5:].any()


def test_remnants_at_the_border_are_ignored_and_cut_ones_kept():
    source = _pattern()
    place = _Place(64, (1.0, 0.0, 16.0, 0.0, 1.0, 0.0))
    cut = random_cut(source, 64, STILL, np.random.default_rng(0))
    moved = type(cut)(
        place.colours(source.rgb), (place.numbers(source.layers[0]),), cut.ignore & False, 1.0
    )
    target = target_of(moved, source)
    assert target["boxes"].tolist() == [[34, 30, 64, 64]]
    assert target["masks"][0].sum() == 30 * 34
    assert not target["ignore"].any()
    place = _Place(64, (1.0, 0.0, 0.0, 0.0, 1.0, -28.0))
    moved = type(cut)(moved.rgb, (place.numbers(source.layers[0]),), cut.ignore & False, 1.0)
    target = target_of(moved, source)
    assert target["boxes"].shape == (0, 4)
    assert target["masks"].shape == (0, 64, 64)
    assert target["ignore"].sum() == 6 * 14


def test_crops_lie_where_something_was_traced():
    ignore = np.ones((200, 200), dtype=bool)
    ignore[150:, 150:] = False
    source = prepare(_slice([], ignore, (200, 200)), SETTINGS, ("a",))
    cuts = [random_cut(source, 64, STILL, np.random.default_rng(s)) for s in range(20)]
    assert all(not cut.ignore.all() for cut in cuts)


def test_a_batch_depends_on_its_random_numbers_alone():
    source = _pattern()
    one, other, third = (
        random_batch([source] * 2, 64, SETTINGS, Variation(), np.random.default_rng(s))
        for s in ([0, 5], [0, 5], [0, 6])
    )
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[0], third[0])
    assert one[0].shape == (2, 3, 64, 64)


def test_validation_takes_a_quarter_that_is_not_learned_from():
    boxes = [(5, 5, 15, 15), (5, 65, 15, 75), (40, 70, 50, 80), (60, 100, 70, 110)]
    source = prepare(_slice([_instance(_box_mask(*b)) for b in boxes]), SETTINGS, ("a",))
    rest, judged = split(source)
    assert (rest.ignore ^ judged.ignore).all()
    assert rest.ignore.sum() == 80 * 30
    piece = Judged.of(judged, ("a",))
    assert len(piece.truth) == 2
    assert piece.ignore.area == piece.rgb.shape[0] * piece.rgb.shape[1] - 80 * 30


def test_what_judges_is_not_learned_from():
    boxes = [(20, 8, 40, 28), (50, 12, 70, 28), (20, 62, 40, 82), (44, 90, 64, 110)]
    source = prepare(_slice([_instance(_box_mask(*box)) for box in boxes]), SETTINGS, ("a",))
    rest, judged = split(source)
    assert [box[:2] for box in rest.boxes] == [(20, 62), (44, 90)]
    assert rest.ignore[20:40, 8:28].all()
    assert np.unique(np.concatenate([layer.ravel() for layer in rest.layers])).tolist() == [0, 1, 2]
    assert rest.layers[0][30, 70] == 1
    assert len(Judged.of(judged, ("a",)).truth) == 2


def test_what_is_known_counts_even_under_an_unsure_mask():
    unsure = _instance(_box_mask(0, 0, 60, 60), unsure=True)
    sure = _instance(_box_mask(20, 20, 40, 40))
    for order in ([unsure, sure], [sure, unsure]):
        prepared = prepare(_slice(order), SETTINGS, ("a",))
        assert [box[:2] for box in prepared.boxes] == [(20, 20)]
        assert not prepared.ignore[20:40, 20:40].any()
        assert prepared.ignore[:20, :20].all()
