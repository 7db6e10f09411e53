"""Causes of a wrong mask: the place, the tests that fit it, and what they show."""

from dataclasses import replace

import numpy as np
import pytest

from napari_fossiledit.evaluation.causes import (
    Cause,
    Found,
    Outcome,
    Place,
    fitting_tests,
    misled_by,
    outcome,
    ranking,
)
from napari_fossiledit.masks import Instance, Mask

FOSSIL, MICROBE = "archaeocyathid", "calcimicrobe"
SHAPE = (60, 80)


def box(y0, x0, y1, x1):
    array = np.zeros(SHAPE, dtype=bool)
    array[y0:y1, x0:x1] = True
    return Mask.from_array(array)


def traced(class_name, mask):
    return Instance(0, class_name, mask)


PLACE = Place(0, box(20, 20, 40, 40), FOSSIL, Instance(0, FOSSIL, box(20, 20, 40, 40), id=7))


def test_the_best_answer_to_a_place_is_that_of_score_and_overlap():
    half = Instance(0, FOSSIL, box(20, 20, 40, 30), score=0.9)
    whole = Instance(0, FOSSIL, box(20, 20, 40, 40), score=0.6)
    other = Instance(0, MICROBE, box(20, 20, 40, 40), score=1.0)
    assert PLACE.found_in([half, whole, other]) == Found(0.6, 1.0)
    assert PLACE.found_in([half]) == Found(0.9, 0.5)
    assert PLACE.found_in([]) == Found(0.0, 0.0)


def test_what_a_place_lies_on_counts_before_what_frames_it():
    ground = traced("rock_face", box(0, 0, 60, 80))
    on = traced(MICROBE, box(20, 20, 40, 30))
    beside = traced("shell", box(15, 40, 45, 50))
    assert PLACE.neighbour([ground, on, beside]) == MICROBE
    assert PLACE.neighbour([ground, beside, traced(FOSSIL, box(0, 0, 9, 9))]) == "shell"
    assert PLACE.neighbour([traced(FOSSIL, box(20, 20, 40, 40))]) == ""
    assert PLACE.neighbour([]) == ""


def test_the_frame_of_a_place_lies_around_it():
    frame = PLACE.frame.to_array()
    assert not (frame & PLACE.pixels.to_array()).any()
    assert frame[19, 30]
    assert frame[17, 30]
    assert not frame[10, 30]


def everywhere():
    tests = fitting_tests(PLACE, MICROBE, coloured=True, textured=False)
    return next(t for t in tests if t.everywhere)


def test_what_the_others_suffer_is_taken_off():
    wrong = Instance(0, FOSSIL, PLACE.pixels, score=0.8)
    right = Instance(0, FOSSIL, box(5, 50, 15, 70), score=0.9)
    faint = replace(right, score=0.45)
    whole = outcome(PLACE, everywhere(), [wrong, right], [faint])
    assert (whole.others, whole.effect) == pytest.approx((0.5, 0.5))
    local = outcome(PLACE, replace(everywhere(), everywhere=False), [wrong, right], [faint])
    assert (local.others, local.effect) == (0.0, 1.0)
    alone = outcome(PLACE, everywhere(), [wrong], [])
    assert (alone.others, alone.effect) == (0.0, 1.0)
    assert "while the others change by 0.50" in misled_by(PLACE, Found(0.8, 1.0), [whole], "")


def test_for_a_missed_fossil_what_is_won_counts():
    place = Place(0, PLACE.pixels, FOSSIL, None, "box 20:40,20:40")
    tests = fitting_tests(place, "", coloured=False, textured=True)
    assert [t.cause for t in tests] == [Cause.NEIGHBOUR, Cause.TEXTURE, Cause.TEXTURE]
    after = [Instance(0, FOSSIL, PLACE.pixels, score=0.7)]
    assert outcome(place, tests[0], [], after).effect == pytest.approx(0.7)


def shown(cause, effect, words="it is tried"):
    return Outcome(cause, words, "", Found(0.4, 0.5), effect)


def test_of_causes_that_tell_the_same_the_more_telling_one_is_named():
    tests = [shown(Cause.TEXTURE, 1.0), shown(Cause.CLASS, 0.95), shown(Cause.NEIGHBOUR, 0.2)]
    assert [t.cause for t in ranking(tests)] == [Cause.CLASS, Cause.TEXTURE, Cause.NEIGHBOUR]
    told = misled_by(PLACE, Found(0.8, 1.0), tests, MICROBE)
    assert told.startswith(f"The model seems to be misled by the class {MICROBE}")
    assert "from score 0.80 with overlap 1.00 to score 0.40 with overlap 0.50" in told
    assert "It leans on more than that" in told


def test_small_effects_name_no_cause():
    told = misled_by(PLACE, Found(0.8, 1.0), [shown(Cause.COLOUR, 0.3)], "")
    assert told.startswith("No single cause is clear")
    assert "0.30" in told
    assert "not known" in misled_by(PLACE, Found(0.8, 1.0), [], "")
