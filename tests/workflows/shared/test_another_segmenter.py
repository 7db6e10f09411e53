"""Workflows know the protocol of a model only: one of another kind takes part by providing it."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.models.files import registry
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.network.spec import default_spec
from napari_fossiledit.params.segment import Device, EvaluateParams, PredictParams
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.segment import evaluate, predict

MOST = 3


class BrightAreas(Segmenter):
    """Finds what is brighter than the mean of a slice; no network, nothing to edit."""

    classes = ("archaeocyathid",)
    model_hash = "bright"
    device = torch.device("cpu")
    spec = default_spec("lite", classes)
    preprocessing = Preprocessing()

    def to(self, device):
        return self

    def weights(self):
        return {}

    def predict(self, image, *, slice_index=0, max_detections, score_floor=0.0, **options):
        assert set(options) <= {"pixel_size_um", "tiles", "prior", "views", "views_find", "cancel"}
        grey = image if image.ndim == 2 else image.mean(axis=2)
        areas, count = ndimage.label(grey > grey.mean())
        masks = [Mask.from_array(areas == n) for n in range(1, count + 1)]
        largest = sorted(masks, key=lambda mask: -mask.area)[: min(max_detections, MOST)]
        return [Instance(slice_index, self.classes[0], mask, score=0.9) for mask in largest]


@pytest.fixture
def bright(monkeypatch, blank_model):
    """Name of a model of the project that loads as `BrightAreas`."""
    monkeypatch.setattr(registry, "load_model", lambda path, device: BrightAreas())
    return blank_model


def test_another_segmenter_predicts_and_is_judged(reef_project, bright):
    params = PredictParams(model=bright, slices="1-2", device=Device.CPU)
    result = predict.run(reef_project, params)
    assert (result.predicted, result.instances, result.notes) == ((1, 2), 2 * MOST, ())
    with Project.open(reef_project, read_only=True) as project:
        found = project.ledger.instances(result.source, slices=[2])
        expected = BrightAreas().predict(project.stack.read(2), max_detections=MOST)
    assert {i.mask for i in found} == {i.mask for i in expected}
    judged = evaluate.run(reef_project, EvaluateParams(model=bright, slices="1-2"))
    assert judged.source == result.source
    detection = judged.figures.detection
    assert len(detection.found) + detection.invented > 0


def test_what_has_no_layers_says_that_it_cannot_be_edited():
    model = BrightAreas()
    assert isinstance(model, Segmenter)
    assert (model.notes, model.scopes, model.layers()) == ((), (), {})
    with pytest.raises(FossilError, match="cannot be edited"):
        model.capture(np.zeros((8, 8), dtype=np.uint8))
    with pytest.raises(FossilError, match="cannot be edited"):
        model.edited({})
