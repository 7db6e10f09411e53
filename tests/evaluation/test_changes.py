"""Before and after: pairs against brute force, intervals against a plain loop, shapes by hand."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation import Kind, changes, compare, judge, worse
from napari_fossiledit.evaluation.changes import class_masks, ground_classes, matched_pairs
from napari_fossiledit.evaluation.hallucinated import combined, hallucinated
from napari_fossiledit.evaluation.protocol import protocol
from napari_fossiledit.evaluation.weakness import (
    Topic,
    findings,
    gather_evidence,
    mistaken,
    verdict,
)
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.params.perturb import Preset

SHAPE = (60, 80)
FOSSIL, MICROBE = "archaeocyathid", "calcimicrobe"


def box(y0, x0, y1, x1, **fields):
    array = np.zeros(SHAPE, dtype=bool)
    array[y0:y1, x0:x1] = True
    return Instance(0, fields.pop("class_name", FOSSIL), Mask.from_array(array), **fields)


def judged(annotations, predictions):
    return judge(0, SHAPE, annotations, predictions, class_name=FOSSIL)


# ------------------------------------------------------------------- changes


def test_every_kind_of_change_is_told_with_what_it_sits_on():
    kept, moved = box(0, 0, 10, 10), box(20, 0, 30, 10)
    gone, new = box(40, 0, 50, 10), box(40, 40, 50, 50)
    truths = [box(0, 0, 12, 12), box(40, 40, 50, 47, class_name=MICROBE)]
    found = changes([kept, moved, gone], [box(22, 0, 32, 10), new, kept], truths=truths)
    assert [c.kind for c in found] == [Kind.GAINED, Kind.LOST, Kind.CHANGED, Kind.SAME]
    gained, lost, changed, same = found
    assert (gained.before, gained.after, gained.sits_on) == (None, new, MICROBE)
    assert gained.share_on == pytest.approx(0.7)
    assert gained.box == (40, 40, 50, 50)
    assert (lost.after, lost.sits_on, lost.share_on) == (None, "", 1.0)
    assert changed.iou == pytest.approx(80 / 120)
    assert (same.sits_on, same.share_on, same.iou) == (FOSSIL, 1.0, 1.0)
    assert gained.summary()["score_before"] is None


def test_an_instance_that_becomes_another_class_has_changed():
    (change,) = changes([box(0, 0, 9, 9)], [box(0, 0, 9, 9, class_name=MICROBE)])
    assert (change.kind, change.iou) == ("changed", 1.0)


def test_cavities_are_no_instances():
    assert changes([], [box(0, 0, 9, 9, part=Part.CAVITY)]) == ()
    assert changes([], []) == ()


def test_to_sit_on_the_rock_face_tells_nothing():
    rock = box(0, 0, 50, 60, class_name="rock_face")
    truths = [rock, box(5, 5, 15, 15), box(30, 30, 40, 40, class_name=MICROBE)]
    (plain,) = changes([], [box(20, 20, 28, 28)], truths=truths)
    (microbe,) = changes([], [box(30, 30, 40, 44)], truths=truths)
    assert (plain.sits_on, microbe.sits_on) == ("", MICROBE)
    assert ground_classes(class_masks(truths, SHAPE)) == {"rock_face"}
    assert ground_classes(class_masks([rock], SHAPE)) == set()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.5])
)
def test_pairs_have_the_highest_sum_of_iou(rows, columns, seed, least):
    iou = np.random.default_rng(seed).random((rows, columns)).round(2)
    allowed = np.where(iou >= max(least, 1e-9), iou, 0.0)
    wide = allowed if rows <= columns else allowed.T
    best = max(
        sum(wide[i, j] for i, j in enumerate(order))
        for order in permutations(range(wide.shape[1]), wide.shape[0])
    )
    pairs = matched_pairs(iou, least)
    assert sum(iou[p] for p in pairs) == pytest.approx(best)
    assert all(iou[p] >= least and iou[p] > 0 for p in pairs)
    assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == len(pairs)


# ------------------------------------------------------------------- compare


def scene(seed, count=12, shift=0.0):
    """Truths on a grid, each found with an error that grows with `shift`; some are missed."""
    rng = np.random.default_rng(seed)
    truths, before, after = [], [], []
    for i in range(count):
        y, x = 15 * (i // 4) + 1, 20 * (i % 4) + 1
        texture = "pitted" if i % 2 else "mud_filled"
        truths.append(box(y, x, y + 10, x + 10, id=i, texture=texture))
        for found, extra in ((before, 0.0), (after, shift)):
            if rng.random() < 0.85:
                cut = int(rng.integers(1, 5) + extra)
                found.append(box(y, x, y + 10 - cut, x + 10 + cut, score=float(rng.random())))
    return judged(truths, before), judged(truths, after)


def plain_bootstrap(before, after, name, matched_only, resamples=1000, seed=0):
    """The same draws, one truth at a time."""
    count = len(before)
    draws = np.random.default_rng(seed).integers(count, size=(resamples, count))
    values = []
    for draw in draws:
        means = []
        for truths in (before, after):
            chosen = [truths[i] for i in draw if truths[i].matched or not matched_only]
            means.append(np.mean([getattr(t, name) for t in chosen]))
        values.append(means[1] - means[0])
    return np.percentile(values, [2.5, 97.5])


@pytest.mark.parametrize("name", ["precision", "recall", "iou", "recall_all", "iou_all"])
def test_differences_and_intervals_are_those_of_a_plain_loop(name):
    pairs = [scene(seed) for seed in range(2)]
    before, after = [p[0] for p in pairs], [p[1] for p in pairs]
    delta = compare(before, after).deltas[name]
    old, new = protocol(before), protocol(after)
    assert delta.mean == pytest.approx(getattr(new, name).mean - getattr(old, name).mean)
    field, matched_only = name.removesuffix("_all"), not name.endswith("_all")
    expected = plain_bootstrap(old.truths, new.truths, field, matched_only)
    assert delta.interval == pytest.approx(expected)


def test_both_takes_the_instances_matched_both_times():
    before, after = scene(3)
    result = compare([before], [after])
    pairs = zip(result.before.truths, result.after.truths, strict=True)
    both = [b.iou - a.iou for a, b in pairs if a.matched and b.matched]
    assert 0 < len(both) < 12
    assert result.deltas["iou_both"].mean == pytest.approx(np.mean(both))
    assert result.deltas["matched"].mean == result.after.matched - result.before.matched


def test_a_comparison_with_itself_is_nothing():
    before, _ = scene(1)
    result = compare([before], [before])
    assert all(d.mean == 0 and d.interval == (0, 0) for d in result.deltas.values())
    assert not any(result.rose(n) or result.fell(n) for n in result.deltas)
    assert worse(result) == []


def test_thresholds_may_differ_before_and_after():
    before, _ = scene(1)
    result = compare([before], [before], score_after=1.1)
    assert (result.after.matched, result.deltas["precision"].mean) == (0, None)
    told = worse(result)
    assert any(s.startswith("Precision fell from") and "no instance" in s for s in told)
    assert f"Matched instances fell from {result.before.matched} to 0 of 12." in told


def test_what_got_worse_is_told_with_its_interval():
    before, after = scene(4, shift=4.0)
    result = compare([before], [after])
    told = worse(result, matched_share=1.0)
    (sentence,) = [s for s in told if s.startswith("IoU fell from")]
    assert f"{result.before.iou.mean:.3f} to {result.after.iou.mean:.3f}" in sentence
    assert "95 % interval -0." in sentence
    assert result.fell("iou")
    assert worse(result, tolerance=1.0, matched_share=1.0) == []


def test_textures_are_compared_apart():
    before, after = scene(5)
    result = compare([before], [after])
    assert set(result.textures) == {"pitted", "mud_filled"}
    part = result.textures["pitted"]
    assert part.before.truths == tuple(t for t in result.before.truths if t.texture == "pitted")
    assert result.summary()["textures"]["pitted"]["before"]["truths"] == 6


def test_other_truths_cannot_be_compared():
    before, after = scene(1)
    with pytest.raises(FossilError, match=r"do not judge the same instances.*expected 12 true"):
        compare([before], [after, after])


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_truths_have_no_interval(count):
    truths = [box(0, 0, 9, 9, id=1)][:count]
    result = compare([judged(truths, truths)], [judged(truths, truths)])
    assert all(d.interval is None for d in result.deltas.values())
    assert result.deltas["iou"].mean == (0 if count else None)


# -------------------------------------------------------------- hallucinated


def test_finds_on_a_class_and_on_nothing_are_counted_by_pixel():
    truths = [box(0, 0, 10, 10), box(20, 20, 40, 40, class_name=MICROBE)]
    finds = [box(25, 30, 35, 44, score=0.9), box(50, 60, 55, 70, score=0.8)]
    filled = truths[0].mask.to_array()
    result = hallucinated(judged(truths, [*finds, box(0, 50, 9, 60, score=0.1)]), filled)
    assert result.area == 140 + 50
    assert result.on == {MICROBE: 100, "": 40 + 50}
    assert result.framed == {}
    assert result.ratio == pytest.approx(1.9)
    assert (result.main, result.main_share) == (MICROBE, 1.0)
    assert result.counts == {MICROBE: 1, "": 1}
    assert result.summary()["shares"]["background"] == pytest.approx(90 / 190)


def test_a_find_on_the_fill_counts_for_what_frames_it():
    fossil = box(20, 20, 40, 40)
    ring = np.zeros(SHAPE, dtype=bool)
    ring[10:50, 10:50] = True
    ring[20:40, 20:40] = False
    microbe = Instance(0, MICROBE, Mask.from_array(ring))
    scene_ = judged([fossil, microbe], [box(20, 20, 40, 40, score=0.9)])
    result = hallucinated(scene_, fossil.mask.to_array())
    assert (result.on, result.framed) == ({}, {MICROBE: 400})
    (change,) = result.instances
    assert (change.kind, change.sits_on, change.share_on) == (Kind.GAINED, MICROBE, 1.0)


def test_a_frame_of_two_kinds_shares_the_fill():
    fossil = box(20, 20, 40, 40)
    left = box(0, 0, 60, 30, class_name=MICROBE)
    result = hallucinated(
        judged([fossil, left], [box(20, 20, 40, 40, score=0.9)]), fossil.mask.to_array()
    )
    assert result.framed == {MICROBE: 200, "": 200}


def test_overlapping_finds_on_the_fill_count_once_and_slices_add_up():
    fossil = box(10, 10, 50, 50)
    finds = [box(10, 10, 40, 40, score=0.9), box(10, 10, 40, 50, score=0.8)]
    result = hallucinated(judged([fossil], finds), fossil.mask.to_array())
    assert result.framed == {"": 30 * 40}
    twice = combined([result, result])
    assert (twice.area, twice.fossils, len(twice.instances)) == (2400, 3200, 4)
    assert twice.framed == {"": 2400}
    assert combined([]).ratio is None


# ------------------------------------------------------------------ weakness


def test_the_confusion_is_named_with_its_figure():
    truths = [box(0, 0, 20, 20, id=1), box(30, 30, 50, 70, class_name=MICROBE)]
    before = judged(truths, [box(0, 0, 20, 20, score=0.9), box(30, 30, 40, 40, score=0.9)])
    assert mistaken([before]).share(MICROBE) == pytest.approx(0.2)
    hidden = hallucinated(
        judged(truths, [box(30, 30, 40, 70, score=0.9)]), truths[0].mask.to_array()
    )
    found = findings(gather_evidence(FOSSIL, [before], {}, hidden))
    assert (found[0].topic, found[0].about, found[0].cost) == (Topic.CLASSES, MICROBE, 1.0)
    assert verdict(found).startswith("The largest weakness is the confusion with calcimicrobe:")
    assert "100 % of their area" in verdict(found)
    assert "class calcimicrobe -> mud" in found[0].advice


def test_a_texture_that_is_missed_is_named():
    truths = [
        box(y, x, y + 8, x + 8, id=y + x, texture="pitted" if y else "mud_filled")
        for y in (0, 30)
        for x in (0, 20, 40)
    ]
    before = judged(truths, [t for t in truths if t.texture == "pitted"])
    after = judged(truths, truths)
    tried = {Preset.FOSSILS_TO_TEXTURE: compare([before], [after])}
    (first, *_) = findings(gather_evidence(FOSSIL, [before], tried, None))
    assert (first.topic, first.about, first.cost) == (Topic.TEXTURES, "mud_filled", 0.5)
    assert "0.000 for mud-filled and 1.000 for pitted" in first.words
    assert "rises from 0.500 to 1.000" in first.words


def test_fossils_that_go_with_their_surroundings_are_named():
    truths = [box(0, 20 * i, 10, 20 * i + 10, id=i) for i in range(4)]
    before, after = judged(truths, truths), judged(truths, truths[:1])
    tried = {Preset.BACKGROUND_TO_MUD: compare([before], [after])}
    (first, *_) = findings(gather_evidence(FOSSIL, [before], tried, None))
    assert (first.topic, first.cost) == (Topic.SURROUNDINGS, 0.75)
    assert "lost together with their surroundings" in first.title


def test_the_blur_of_outlines_is_no_find_on_the_background():
    truth, blurred = box(10, 10, 30, 30), box(9, 9, 31, 31)
    assert mistaken([judged([truth], [blurred])]).background == 0
    assert mistaken([judged([truth], [box(40, 40, 50, 50)])]).background == 100


def test_a_perfect_model_has_no_weakness():
    truths = [box(0, 0, 20, 20, id=1), box(30, 30, 50, 70, class_name=MICROBE)]
    perfect = judged(truths, truths[:1])
    hidden = hallucinated(judged(truths, []), truths[0].mask.to_array())
    found = findings(gather_evidence(FOSSIL, [perfect], {}, hidden))
    assert verdict(found) == "No weakness stands out on these slices."
