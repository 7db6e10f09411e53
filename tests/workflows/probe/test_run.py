"""Probing a model that takes everything bright for a fossil."""

import json
import pickle

import numpy as np
import pytest
import skimage.io
import tifffile
from scipy import ndimage

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.evaluation.numbers import percent
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.params.editing import Scope
from napari_fossiledit.params.perturb import Preset
from napari_fossiledit.params.probe import ProbeParams, chosen_presets
from napari_fossiledit.params.segment import Device
from napari_fossiledit.progress import Job, Progress
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.probe import report as probe_report
from napari_fossiledit.workflows.probe import run as probe
from napari_fossiledit.workflows.shared.model_refs import ModelRef
from napari_fossiledit.workflows.shared.perturbed_slices import Prepared, prepared

FOSSIL, MICROBE = "archaeocyathid", "calcimicrobe"


@pytest.fixture(scope="module")
def reef_home(make_home):
    """A sample reef that shows a pitted, a mud-filled fossil and a calcimicrobe."""
    return make_home(slices=4, size=160, seed=7, cups_per_cm3=12)


def bright(image):
    """Connected bright places, as boolean arrays."""
    found, count = ndimage.label(image.mean(axis=2) > 110)
    parts = [found == i for i in range(1, count + 1)]
    return [p for p in parts if p.sum() >= 25]


class Naive:
    """Takes everything bright for a fossil, the larger the surer."""

    notes = ()
    preprocessing = Preprocessing()

    def predict(self, image, *, slice_index=0, **_):
        parts = sorted(bright(image), key=lambda p: -p.sum())
        return [
            Instance(slice_index, FOSSIL, Mask.from_array(p), score=0.99 - 0.001 * i)
            for i, p in enumerate(parts)
        ]


@pytest.fixture
def naive(monkeypatch, blank_model):
    """A model of the project that finds everything bright."""
    monkeypatch.setattr(ModelRef, "load", lambda *_: Naive())
    return blank_model


def params(name, **values):
    fixed = {"model": name, "device": Device.CPU, "slices": "1,3"}
    return ProbeParams(**{**fixed, **values})


PROBED = chosen_presets(ProbeParams())
"""What a probe does where nothing else is asked for: the paper's perturbations."""


def test_all_perturbations_tell_what_the_model_takes_for_fossils(reef_project, naive):
    result = probe.run(reef_project, params(naive))
    assert [t.preset for t in result.tried] == list(PROBED)
    assert all(t.slices == (1, 3) for t in result.tried)
    assert result.skipped == ()
    assert result.evidence.hidden.main == MICROBE
    assert MICROBE in result.weakness
    assert pickle.loads(pickle.dumps(result)).weakness == result.weakness


def test_shares_are_those_of_the_truth(reef_project, tiny_reef, naive):
    result = probe.run(reef_project, params(naive, presets="occlude-fossils"))
    fossils, microbes, shells = (
        tifffile.imread(tiny_reef / f"labels_{name}_zyx.tif") > 0
        for name in (FOSSIL, MICROBE, "shell")
    )
    area = on = elsewhere = 0
    with Project.open(reef_project, read_only=True) as project:
        for z in (1, 3):
            made = prepared(project, z, params(naive, preset=Preset.OCCLUDE_FOSSILS))
            found = np.any(bright(made.perturbed), axis=0)
            assert np.array_equal(made.changed, fossils[z])
            area += found.sum()
            on += (found & microbes[z] & ~fossils[z]).sum()
            elsewhere += (found & ~microbes[z] & ~shells[z] & ~fossils[z]).sum()
    hidden = result.evidence.hidden
    assert (hidden.area, hidden.on[MICROBE], hidden.on.get("", 0)) == (area, on, elsewhere)
    assert hidden.fossils == fossils[[1, 3]].sum()
    figures = json.loads((result.report.parent / "probe.json").read_text())
    assert figures["hidden"]["area_on"][MICROBE] == on
    assert figures["main_confusion"]["class_name"] == MICROBE


def test_the_report_is_one_page_with_its_pictures(reef_project, naive):
    result = probe.run(reef_project, params(naive, slices="2"))
    page = result.report.read_text()
    assert result.report.parent.parent == reef_project / "reports"
    assert page.count("data:image/png;base64,") == 4
    assert "Probe of blank" in page
    assert result.weakness.split(":")[0] in page
    overlays = sorted(p.name for p in (result.report.parent / "overlays").iterdir())
    assert overlays == sorted(f"slice_0002_{p}.png" for p in PROBED)
    assert list((reef_project / "reports").glob(".*")) == []


def test_masks_without_probabilities_cannot_be_cut_elsewhere(reef_project, naive):
    with pytest.raises(FossilError, match=r"masks of blank .* cannot be cut at 0.7"):
        probe.run(reef_project, params(naive, mask_cut=0.7))


def test_only_the_original_slices_are_stored(reef_project, naive):
    probe.run(reef_project, params(naive))
    probe.run(reef_project, params(naive))
    with Project.open(reef_project, read_only=True) as project:
        stored = {s.name: s.slices for s in project.ledger.sources() if s.name != ANNOTATIONS}
        runs = [(run.kind, run.status) for run in project.ledger.runs()]
        last = project.ledger.runs()[-1].summary
    assert list(stored.values()) == [2]
    assert runs.count(("predict", "done")) == 1
    assert runs[-1] == ("probe", "done")
    assert last["main_confusion"]["class_name"] == MICROBE


def test_custom_steps_are_compared_like_the_others(reef_project, naive):
    steps = f"class {MICROBE} -> mud"
    wanted = params(naive, preset=Preset.CUSTOM, presets="custom", steps=steps)
    result = probe.run(reef_project, wanted)
    (tried,) = result.tried
    assert (tried.steps, tried.hidden) == (steps, None)
    assert tried.protocol.deltas["precision"].mean > 0
    # The calcimicrobe touches the fossil: what was one bright place is now the fossil alone.
    assert {(name, c.kind, c.sits_on) for name, c in result.changes} == {
        ("custom", "changed", FOSSIL)
    }
    assert all(change.slice in (1, 3) for _, change in result.changes)


def test_slices_are_spread_over_the_traced_ones(reef_project, naive):
    result = probe.run(reef_project, params(naive, slices="", presets="background-to-mud"))
    assert result.slices == (0, 1, 2, 3)


def test_slices_that_judge_are_not_probed_by_themselves(reef_project, naive):
    with Project.open(reef_project) as project:
        project.update(pinned_slices=(1, 2))
    result = probe.run(reef_project, params(naive, slices="", presets="background-to-mud"))
    assert result.slices == (0, 3)


def test_wrong_places_are_shown_the_main_confusion_first(reef_project, naive):
    result = probe.run(reef_project, params(naive, presets="background-to-mud"))
    name, share = result.evidence.mistaken.main
    assert name == MICROBE
    assert result.sentence == f"Takes {MICROBE} for {FOSSIL}: {percent(share)} of the false area."
    first = result.places[0]
    assert (first.on, first.missed) == (MICROBE, False)
    part = percent(first.pixels / first.instance.mask.area)
    assert first.sentence == (
        f"Slice {first.instance.slice}: this {FOSSIL} lies on {MICROBE}, by {part} of its area."
    )
    assert (first.picture == (0, 255, 255)).all(axis=-1).any()
    assert max(first.picture.shape) <= 160
    assert set(result.worst) <= {1, 3}
    assert result.edit["scope"] is Scope.ALL


def test_cancelling_leaves_no_report(reef_project, naive):
    seen = []

    def note(progress: Progress):
        seen.append(progress)

    with pytest.raises(CancelledError, match=r"(Probing|Perturbing) was cancelled"):
        probe.run(
            reef_project,
            params(naive),
            job=Job(note, lambda: any("both" in p.message for p in seen)),
        )
    assert list((reef_project / "reports").iterdir()) == []
    assert seen[-1].total == 8
    with Project.open(reef_project, read_only=True) as project:
        assert ("probe", "cancelled") in {(r.kind, r.status) for r in project.ledger.runs()}


def no_texture(path):
    with Project.open(path) as project:
        ids = [i.id for i in project.ledger.instances(ANNOTATIONS)]
        project.ledger.describe(ids, texture="")


def test_a_preset_that_does_not_suit_is_left_out_of_all(reef_project, naive):
    no_texture(reef_project)
    result = probe.run(reef_project, params(naive))
    tried = {t.preset for t in result.tried}
    assert tried == {Preset.BACKGROUND_TO_MUD, Preset.OCCLUDE_FOSSILS}
    assert len(result.skipped) == 4
    assert "has no pitted archaeocyathid" in result.skipped[0]
    assert "has no pitted archaeocyathid" in result.report.read_text()


def test_a_preset_that_was_named_must_suit(reef_project, naive):
    no_texture(reef_project)
    with pytest.raises(FossilError, match="has no pitted archaeocyathid"):
        probe.run(reef_project, params(naive, presets="fossils-to-texture"))
    assert list((reef_project / "reports").iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"presets": "all,blur"}, r"no such perturbation; expected one of background-to-mud"),
        ({"presets": "custom"}, r"custom perturbation has no steps.*'class calcimicrobe -> mud'"),
        ({"slices": "7"}, r"Slices 7 are not in the stack; expected 0 to 3"),
        (
            {"class_name": "trilobite"},
            r"No trilobite is traced on slices 1,3.*found archaeocyathid",
        ),
        ({"model": "none"}, r"There is no model 'none'"),
        ({"mud": "90;52;40"}, r"mud colour cannot be read; expected r,g,b"),
        ({"mud": "90,52,400"}, r"cannot hold the colour; expected values from 0 to 255"),
        ({"texture": "9:0:9,0:9"}, r"The crop 9:0:9,0:9 lies outside the stack"),
        ({"texture": "1:0:4,0:4"}, r"crop is too small; expected 8 x 8"),
    ],
)
def test_bad_input_is_told_before_anything_is_done(reef_project, naive, values, message):
    with pytest.raises(FossilError, match=message):
        probe.run(reef_project, params(naive, **values))
    with Project.open(reef_project, read_only=True) as project:
        assert "probe" not in {run.kind for run in project.ledger.runs()}


def test_cancelling_while_a_slice_is_perturbed_is_not_taken_for_a_misfit(
    reef_project, naive, monkeypatch
):
    def cancelled(*_, cancel, **__):
        raise CancelledError("Perturbing was cancelled")

    monkeypatch.setattr(probe, "prepared", cancelled)
    with pytest.raises(CancelledError, match="Perturbing was cancelled"):
        probe.run(reef_project, params(naive))
    assert list((reef_project / "reports").iterdir()) == []


def test_both_sides_of_an_overlay_are_scaled_alike(tmp_path):
    image = np.full((20, 30, 3), 1000, np.uint16)
    perturbed = image.copy()
    perturbed[:10] = 4000
    empty = Mask.from_array(np.zeros((20, 30), bool))
    made = Prepared(0, image, perturbed, image[..., 0] > 0, 1.0, "", None, ())
    probe_report.draw_overlay(made, [], empty, tmp_path / "both.png")
    both = skimage.io.imread(tmp_path / "both.png")
    assert (both[15, 5] == both[15, -5]).all()
    assert both[5, -5, 0] == 255


def test_a_slice_that_is_not_traced_cannot_be_probed(reef_project, naive):
    with Project.open(reef_project) as project:
        project.ledger.unset_traced(3)
    with pytest.raises(FossilError, match="Slice 3 is not traced"):
        probe.run(reef_project, params(naive))


def test_a_model_that_finds_nothing_still_gets_its_page(reef_project, monkeypatch, blank_model):
    class Blind:
        notes = ()
        preprocessing = Preprocessing()

        def predict(self, image, **_):
            return []

    monkeypatch.setattr(ModelRef, "load", lambda *_: Blind())
    result = probe.run(reef_project, params(blank_model))
    assert result.evidence.hidden.area == 0
    assert "the model finds no fossil where there is none" in result.report.read_text()
