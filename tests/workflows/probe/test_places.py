"""Which places are shown first, of masks that are wrong and fossils that were missed."""

from types import SimpleNamespace

import numpy as np

from napari_fossiledit.evaluation import JudgedSlice
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.workflows.probe.places import wrong_places

SHAPE = (40, 60)
PROJECT = SimpleNamespace(
    slice_shape=SHAPE, stack=SimpleNamespace(read=lambda _: np.zeros((*SHAPE, 3), np.uint8))
)


def box(y0, y1, x0, x1):
    mask = np.zeros(SHAPE, np.bool_)
    mask[y0:y1, x0:x1] = True
    return Mask.from_array(mask)


def instance(*place, score=0.9):
    return Instance(3, "archaeocyathid", box(*place), score)


def test_masks_that_spill_over_the_main_class_come_first_and_missed_fossils_last():
    fossil, missed = instance(0, 10, 0, 10), instance(30, 40, 50, 60)
    spilled, blurred = instance(0, 10, 0, 15), instance(0, 11, 0, 10)
    on_shell, on_nothing = instance(20, 40, 0, 10), instance(20, 30, 20, 30, score=0.7)
    judged = JudgedSlice(
        3,
        SHAPE,
        (fossil, missed),
        (spilled, blurred, on_shell, on_nothing, instance(20, 30, 32, 40, score=0.4)),
        {"calcimicrobe": box(0, 10, 11, 20), "shell": box(18, 40, 0, 10)},
    )
    places = wrong_places(PROJECT, [judged], "calcimicrobe", 0.5)
    assert [p.instance for p in places] == [spilled, on_shell, on_nothing, missed]
    assert [(p.words, p.pixels) for p in places] == [
        ("calcimicrobe", 40),
        ("shell", 200),
        ("not traced", 100),
        ("missed", 100),
    ]
    assert places[0].sentence == (
        "Slice 3: this archaeocyathid lies on calcimicrobe, by 27 % of its area."
    )
    assert places[-1].sentence == "Slice 3: this archaeocyathid was missed."
