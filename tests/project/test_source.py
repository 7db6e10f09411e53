"""The source of instances as a value and as the text of the ledger."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.project import Ledger, Source

MODEL = "model:first:0123456789ab"


@pytest.mark.parametrize(
    "text", ["annotations", "labels", MODEL, "pass:first:0123456789ab", "model:a:b:c", "x:y:z", ""]
)
def test_the_text_of_a_source_is_kept(text: str) -> None:
    assert str(Source.parse(text)) == text


def test_a_source_of_predictions_is_named_by_model_weights_and_settings() -> None:
    digest = hashlib.sha256(b"cafe:False:100:0.05").hexdigest()[:12]
    source = Source.predicted("first", "cafe", "False:100:0.05")
    assert str(source) == f"model:first:{digest}"
    assert Source.parse(str(source)) == source
    assert source.title == f"first ({digest[:7]})"


def test_predictions_and_the_latest_of_a_model_are_found(tmp_path) -> None:
    mask = Mask.from_crop(np.ones((2, 2), dtype=bool), (0, 0), (4, 4))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for name in (MODEL, "model:first:two:0", "pass:first:1", "annotations"):
            ledger.store(name, 0, [Instance(0, "a", mask)])
        assert [s.name for s in ledger.predictions("first")] == [MODEL]
        assert [s.name for s in ledger.predictions()] == [MODEL, "model:first:two:0"]
        assert ledger.latest("first") == ""
        ledger.set_latest(Source.parse(MODEL))
        assert ledger.latest("first") == MODEL
        assert ledger.get_meta("latest:first") == MODEL
