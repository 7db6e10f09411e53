"""Predictions against the review."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.params.review import AgreementParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.review import agreement
from napari_fossiledit.workflows.stack import new

SHAPE = (60, 80)
MODEL = "model:reef:0123456789ab"


def rectangle(y: int, x: int, height: int = 10, width: int = 10) -> Mask:
    return Mask.from_crop(np.ones((height, width), dtype=bool), (y, x), SHAPE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for z in range(3):
        imsave(images / f"{z}.png", np.full(SHAPE, 90, np.uint8), check_contrast=False)
    made = tmp_path / "rock.fossil"
    new.run(made, images, NewParams(pixel_size=10, slice_spacing=20))
    return made


def test_predictions_are_counted_against_what_was_found_right(path: Path) -> None:
    one = Instance(0, "a", rectangle(0, 0), 0.9, origin=Origin.MODEL)
    found = [
        one,
        replace(one, mask=rectangle(20, 0)),
        replace(one, mask=rectangle(40, 0)),
        replace(one, mask=rectangle(40, 20), score=0.3),
        replace(one, mask=rectangle(2, 2, 3, 3), part=Part.CAVITY),
        replace(one, mask=rectangle(0, 60), class_name="b"),
    ]
    own = [
        replace(one, score=1.0),
        replace(one, mask=rectangle(20, 0, 10, 8), score=1.0),
        replace(one, mask=rectangle(40, 40), score=1.0),
        replace(one, mask=rectangle(30, 60), score=1.0, unsure=True),
    ]
    with Project.open(path) as project:
        project.ledger.store(MODEL, 0, found)
        ids = project.ledger.store(ANNOTATIONS, 0, own)
        with pytest.raises(FossilError, match=r"nothing to compare.*traced or wholly reviewed"):
            agreement.run(path, AgreementParams())
        project.ledger.set_reviewed(ids)
    result = agreement.run(path, AgreementParams())
    assert (result.source, result.slices) == (MODEL, (0,))
    a, b = result.classes
    assert (a.kept, a.changed, a.wrong, a.missed) == (1, 1, 1, 1)
    assert a.iou == pytest.approx((1 + 0.8) / 2)
    assert a.area_bias == pytest.approx(200 / 180 - 1)
    assert (b.kept, b.wrong, b.missed, b.iou) == (0, 1, 0, None)
    assert result.summary()["classes"][0]["kept"] == 1
    assert agreement.run(path, AgreementParams(score=0.2)).classes[0].wrong == 2
