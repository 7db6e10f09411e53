"""Every figure against a plain loop over boolean images, or against pycocotools."""

import contextlib
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from napari_fossiledit.evaluation import evaluate, judge, judged_area
from napari_fossiledit.evaluation.figures import average_precision, detection, greedy_pairs, pixels
from napari_fossiledit.evaluation.numbers import bootstrap, harmonic, spread
from napari_fossiledit.evaluation.protocol import protocol
from napari_fossiledit.geometry import Region
from napari_fossiledit.masks import Instance, Mask, Part

SHAPE = (60, 80)
CLASS = "archaeocyathid"


def box(y0, x0, y1, x1, **fields):
    array = np.zeros(SHAPE, dtype=bool)
    array[y0:y1, x0:x1] = True
    return instance(array, **fields)


def instance(array, **fields):
    return Instance(0, fields.pop("class_name", CLASS), Mask.from_array(array), **fields)


def judged(annotations, predictions, **options):
    return judge(0, SHAPE, annotations, predictions, class_name=CLASS, **options)


def random_scene(seed, count=6):
    """Overlapping discs: truths, and predictions moved and resized, with random scores."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]

    def disc(cy, cx, r):
        return (y - cy) ** 2 + (x - cx) ** 2 <= r**2

    centres = [(rng.uniform(0, 60), rng.uniform(0, 80), rng.uniform(2, 12)) for _ in range(count)]
    truths = [instance(disc(*c), id=i) for i, c in enumerate(centres)]
    moved = [disc(*(np.array(c) + rng.normal(0, 2, 3))) for c in centres for _ in range(2)]
    predictions = [instance(m, score=float(s)) for m, s in zip(moved, rng.random(99), strict=False)]
    return truths, predictions


def plain_protocol(truths, predictions):
    """The protocol of the paper on full images: (recall, IoU, precision) of matched truths."""
    union = np.any([t.mask.to_array() for t in truths], axis=0)
    found = []
    for truth in truths:
        g = truth.mask.to_array()
        arrays = [p.mask.to_array() for p in predictions]
        ious = [(p & g).sum() / max((p | g).sum(), 1) for p in arrays]
        best = int(np.argmax(ious)) if ious else 0
        if ious and ious[best] > 0:
            p = arrays[best]
            found.append(((p & g).sum() / g.sum(), ious[best], (p & union).sum() / p.sum()))
    return np.array(found)


@pytest.mark.parametrize("seed", range(5))
def test_protocol_equals_a_plain_loop_over_images(seed):
    truths, predictions = random_scene(seed)
    result = protocol([judged(truths, predictions)])
    plain = plain_protocol(truths, sorted(predictions, key=lambda p: -p.score))
    for column, name in enumerate(("recall", "iou", "precision")):
        figure = getattr(result, name)
        assert figure.mean == pytest.approx(plain[:, column].mean(), abs=1e-12)
        assert figure.std == pytest.approx(plain[:, column].std(ddof=0), abs=1e-12)
    assert result.matched == len(plain)
    assert result.iou_all.mean == pytest.approx(plain[:, 1].sum() / len(truths))


def test_precision_counts_pixels_on_any_truth_as_right():
    """A mask over two touching truths has precision 1, though half of it lies on the other."""
    truths = [box(0, 0, 10, 10), box(0, 10, 10, 20)]
    result = protocol([judged(truths, [box(0, 0, 10, 20)])])
    assert result.precision.mean == 1.0
    assert result.iou.mean == 0.5
    assert result.matched == 2


def test_missed_truths_lower_the_means_over_all_only():
    truths = [box(0, 0, 10, 10), box(40, 40, 50, 50)]
    result = protocol([judged(truths, [box(0, 0, 10, 5), box(20, 20, 30, 30)])])
    assert (result.matched, result.missed, result.predictions, result.spurious) == (1, 1, 2, 1)
    assert result.recall.mean == 0.5
    assert result.recall_all.mean == 0.25


def test_score_threshold_drops_predictions():
    scene = judged([box(0, 0, 10, 10)], [box(0, 0, 10, 10, score=0.4)])
    assert protocol([scene], score=0.0).matched == 1
    assert protocol([scene], score=0.5).matched == 0
    assert detection([scene], score=0.4).recall == 1.0


def test_only_the_best_predictions_of_a_slice_are_judged():
    weak, strong = box(0, 0, 10, 10, score=0.1), box(30, 30, 40, 40, score=0.9)
    scene = judged([box(0, 0, 10, 10)], [weak, strong], max_detections=1)
    assert [p.score for p in scene.predictions] == [0.9]


def test_the_limit_of_detections_counts_every_class():
    other = box(30, 30, 40, 40, score=0.9, class_name="calcimicrobe")
    scene = judged([], [other, box(0, 0, 10, 10, score=0.1)], max_detections=1)
    assert scene.predictions == ()


def test_unsure_truths_and_what_lies_on_them_do_not_count():
    truths = [box(0, 0, 10, 10), box(20, 20, 30, 30, unsure=True)]
    on_unsure = box(20, 20, 30, 35, score=0.9)
    partly = box(0, 0, 10, 30, score=0.8)
    scene = judged(truths, [on_unsure, partly])
    assert len(scene.truths) == 1
    assert scene.predictions[0].mask == partly.mask
    assert scene.left_out == (1, 1)


def test_pixels_on_unsure_masks_are_taken_from_predictions():
    unsure = box(0, 10, 10, 14, unsure=True)
    scene = judged([box(0, 0, 10, 10), unsure], [box(0, 0, 10, 14)])
    assert protocol([scene]).precision.mean == 1.0
    assert protocol([scene]).iou.mean == 1.0


def test_truth_wins_where_it_overlaps_an_unsure_mask():
    scene = judged([box(0, 0, 10, 10), box(0, 5, 10, 15, unsure=True)], [box(0, 0, 10, 10)])
    assert protocol([scene]).recall.mean == 1.0


def test_an_unsure_instance_of_another_class_excuses_predictions_too():
    patch = box(20, 20, 40, 40, class_name="calcimicrobe", unsure=True)
    scene = judged([box(0, 0, 10, 10), patch], [box(22, 22, 38, 38)])
    assert scene.predictions == ()
    assert scene.others == {}


def test_outside_the_area_neither_truth_nor_prediction_counts():
    area = judged_area(SHAPE, None, Region(x0=40))
    truths = [box(0, 0, 10, 10), box(0, 50, 10, 60), box(20, 36, 30, 48), box(40, 30, 50, 44)]
    predictions = [box(0, 0, 10, 10), box(20, 30, 30, 48), box(40, 30, 50, 46, score=0.5)]
    scene = judged(truths, predictions, area=area)
    # The third truth is cut to x >= 40; the fourth lies outside mostly and is left out,
    # and with it the prediction that has half its pixels or more where nothing counts.
    assert [t.mask.box for t in scene.truths] == [(0, 50, 10, 60), (20, 40, 30, 48)]
    assert scene.left_out == (2, 3)
    assert scene.predictions == ()


def test_traced_area_and_region_are_both_respected():
    traced = box(0, 0, 30, 80).mask
    area = judged_area(SHAPE, traced, Region(x0=10, x1=20))
    assert area.box == (0, 10, 30, 20)
    assert judged_area(SHAPE, traced, Region()) is traced
    assert judged_area(SHAPE, None, Region()) is None


def test_cavities_are_neither_truth_nor_prediction():
    cavity = box(3, 3, 6, 6, part=Part.CAVITY)
    scene = judged([box(0, 0, 10, 10), cavity], [cavity])
    assert (len(scene.truths), len(scene.predictions)) == (1, 0)


def plain_greedy(truths, predictions, least):
    """One-to-one matching with sets of pixels."""
    free = {i: set(zip(*np.nonzero(t.mask.to_array()), strict=True)) for i, t in enumerate(truths)}
    found = []
    for p in sorted(predictions, key=lambda p: -p.score):
        pixels_of = set(zip(*np.nonzero(p.mask.to_array()), strict=True))
        ious = {i: len(g & pixels_of) / len(g | pixels_of) for i, g in free.items()}
        best = max(ious, key=ious.get, default=None)
        if best is not None and ious[best] >= least:
            found.append(ious[best])
            del free[best]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_detection_equals_a_matching_of_pixel_sets(seed):
    truths, predictions = random_scene(seed)
    result = detection([judged(truths, predictions)], score=0.0, least_iou=0.3)
    found = plain_greedy(truths, predictions, 0.3)
    assert result.found == pytest.approx(tuple(found))
    assert result.invented == len(predictions) - len(found)
    assert result.f1 == pytest.approx(2 * len(found) / (len(predictions) + len(truths)))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 6), st.integers(0, 6), st.randoms(use_true_random=False))
def test_greedy_pairs_use_each_row_and_column_once(rows, columns, random):
    iou = np.array([[random.random() for _ in range(columns)] for _ in range(rows)])
    pairs = greedy_pairs(iou.reshape(rows, columns), 0.5)
    assert len({p for p, _ in pairs}) == len({t for _, t in pairs}) == len(pairs)
    assert all(iou[p, t] >= 0.5 for p, t in pairs)


def test_invented_pixels_are_told_by_class():
    microbe = box(0, 20, 10, 30, class_name="calcimicrobe")
    scene = judged([box(0, 0, 10, 10), microbe], [box(0, 0, 10, 25), box(30, 0, 40, 5)])
    result = pixels([scene])
    assert (result.predicted, result.true, result.shared) == (300, 100, 100)
    assert result.interclass == {"calcimicrobe": 50 / 200}
    assert (result.precision, result.recall) == (1 / 3, 1.0)


def test_interclass_needs_invented_pixels():
    microbe = box(0, 20, 10, 30, class_name="calcimicrobe")
    scene = judged([box(0, 0, 10, 10), microbe], [box(0, 0, 10, 10)])
    assert pixels([scene]).interclass == {"calcimicrobe": None}


def coco_eval(scenes):
    """AP, AP50 and AP75 by pycocotools itself."""
    truth, found = COCO(), []
    images = [{"id": n, "height": SHAPE[0], "width": SHAPE[1]} for n in range(len(scenes))]
    annotations = []
    for n, (truths, predictions) in enumerate(scenes):
        for t in truths:
            record = {"segmentation": t.mask.coco, "area": t.mask.area, "iscrowd": 0, "bbox": []}
            annotations.append(record | {"id": len(annotations) + 1, "image_id": n})
        for p in predictions:
            found.append({"segmentation": p.mask.coco, "score": p.score, "image_id": n})
    for record in annotations + found:
        record["category_id"] = 1
    truth.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1}]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return tuple(evaluation.stats[:3])


def test_average_precision_equals_pycocotools_and_is_silent(capfd):
    scenes = [random_scene(seed) for seed in range(4)]
    result = average_precision([judged(*s) for s in scenes])
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert (result.ap, result.ap50, result.ap75) == pytest.approx(coco_eval(scenes), abs=1e-9)
    assert 0 < result.ap75 < result.ap50 < 1


def test_perfect_predictions_score_one():
    truths, _ = random_scene(7)
    result = evaluate([judged(truths, truths)])
    assert result.ap.ap == pytest.approx(1.0)
    assert result.detection.f1 == result.pixels.precision == result.protocol.iou.mean == 1.0


def test_textures_are_told_apart():
    truths = [box(0, 0, 10, 10, texture="pitted"), box(20, 20, 30, 30, texture="mud_filled")]
    result = evaluate([judged(truths, [box(0, 0, 10, 10)])])
    assert {n: r.matched for n, r in result.textures.items()} == {"pitted": 1, "mud_filled": 0}
    assert result.summary()["textures"]["mud_filled"]["recall_all"]["mean"] == 0.0
    assert evaluate([judged([box(0, 0, 9, 9)], [])]).textures == {}


@pytest.mark.parametrize(
    ("annotations", "predictions"),
    [([], []), ([box(0, 0, 5, 5)], []), ([], [box(0, 0, 5, 5)]), ([box(0, 0, 0, 0)], [])],
)
def test_summaries_hold_no_nan_where_there_is_nothing(annotations, predictions):
    result = evaluate([judged(annotations, predictions)])
    text = json.dumps(result.summary(), allow_nan=False)
    assert json.loads(text)["protocol"]["precision"]["mean"] is None
    assert json.loads(json.dumps(evaluate([]).summary(), allow_nan=False))["slices"] == []


def test_bootstrap_interval_is_seeded_and_near_the_normal_one():
    values = np.random.default_rng(0).normal(5, 2, 400).tolist()
    low, high = bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) == (low, high) != bootstrap(values, seed=4)
    half = 1.96 * np.std(values) / math.sqrt(len(values))
    assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=0.03)
    assert bootstrap([1.0], seed=0) is None


def test_undefined_numbers_are_none():
    assert spread([]).summary() == {"mean": None, "std": None, "interval_95": None}
    assert harmonic(None, 1.0) is None
    assert harmonic(0.0, 0.0) == 0.0
