"""Editing a model: solved, tried on tuning slices, saved, judged on pinned ones, told on a page."""

import errno
import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from napari_fossiledit import files
from napari_fossiledit.cli.commands import app
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.evaluation import Kind
from napari_fossiledit.evaluation.numbers import Spread
from napari_fossiledit.evaluation.protocol import protocol
from napari_fossiledit.masks import Instance, Mask, Part, cut_at
from napari_fossiledit.masks.probability import Piece, ProbabilityMask
from napari_fossiledit.params.editing import EditParams, Scope
from napari_fossiledit.params.perturb import Preset
from napari_fossiledit.params.segment import Device, EvaluateParams, PredictParams, Views
from napari_fossiledit.progress import Job, check, never
from napari_fossiledit.project import ANNOTATIONS, EditState, Project
from napari_fossiledit.workflows.edit import decide as edits
from napari_fossiledit.workflows.edit import run as edit
from napari_fossiledit.workflows.edit.slices import (
    Recipe,
    choose_slices,
    proposed_slices,
    shown_pair,
    spread_over,
)
from napari_fossiledit.workflows.segment import evaluate, predict
from napari_fossiledit.workflows.shared.ground_truth import judged_slice, read_ground_truth
from napari_fossiledit.workflows.shared.model_refs import find_model

TINY = {
    "model": "blank",
    "name": "mud",
    "slices": "0",
    "tuning": "1",
    "pinned": "2",
    "preserve": "3",
    "levels": "2-3",
    "scope": "all",
    "solver": "direct",
    "pull_to": "output",
    "iterations": 2,
    "strengths": "0.5,1",
    "device": Device.CPU,
}


def params(**values):
    return EditParams(**{**TINY, **values})


def find_bright(self, image, *, slice_index=0, cancel=never, **_):
    """Take everything bright for a fossil: quicker than a network."""
    check(cancel)
    found, count = ndimage.label(image.mean(axis=2) > 110)
    parts = [found == i for i in range(1, count + 1)]
    found = [p for p in parts if p.sum() >= 25]
    return [
        Instance(
            slice_index,
            "archaeocyathid",
            Mask.from_array(pixels),
            score=0.9,
            probability=sloping(pixels),
        )
        for pixels in found
    ]


def sloping(pixels):
    """Probabilities that fall from the inside of a mask to its border, where they are one half."""
    depth = ndimage.distance_transform_edt(pixels)
    grid = np.where(pixels, 128 + np.minimum(depth, 6) * 20, 0).astype(np.uint8)
    return ProbabilityMask((Piece((0, 0, *pixels.shape[::-1]), grid, exact=True),))


@pytest.fixture
def project_path(reef_home, tmp_path, monkeypatch):
    """A copy of that project which a test may damage; its model predicts in no time."""
    from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter

    monkeypatch.setattr(MaskRcnnSegmenter, "predict", find_bright)
    return shutil.copytree(reef_home, tmp_path / "home") / "tiny.fossil"


@pytest.fixture(scope="module")
def done(reef_home, tmp_path_factory):
    """A judged edit: the project, the result, and the progress it told."""
    path = shutil.copytree(reef_home, tmp_path_factory.mktemp("done") / "home") / "tiny.fossil"
    told = []
    result = edit.run(path, params(), job=Job(told.append))
    return path, result, told


def test_an_edit_is_saved_as_a_proposal_and_judged(done):
    path, result, _ = done
    with Project.open(path, read_only=True) as project:
        record = project.edits.read("mud")
    assert (record.parent, record.state) == ("blank", EditState.PROPOSED)
    assert (record.strength, record.score) == (result.strength, result.score)
    assert record.judged["before"]["truths"] == len(result.comparison.before.truths) > 0
    assert record.judged["warnings"] == list(result.warnings)
    assert [t["strength"] for t in record.judged["tried"]] == [0.0, 0.5, 1.0]
    assert result.judged.slices == (2,)
    assert set(result.drift) == set(result.losses) == set(record.curves)
    assert all(after < before for before, after in result.losses.values())
    assert all(isinstance(c.kind, Kind) and c.slice == 2 for c in result.changes)
    assert pickle.loads(pickle.dumps(result)).verdict == result.verdict
    json.dumps(result.summary(), allow_nan=False)


def test_the_judged_figures_are_those_of_the_stored_predictions(done):
    path, result, _ = done
    with Project.open(path, read_only=True) as project:
        counts = [len(project.instances(s, 2)) for s in result.judged.sources]
    assert [result.comparison.before.predictions, result.comparison.after.predictions] == counts


def test_everything_is_judged_at_the_mask_cut(project_path):
    made = edit.run(project_path, params(mask_cut=0.7))
    with Project.open(project_path, read_only=True) as project:
        for z, figures in ((1, made.tried[0].figures), (2, made.comparison.before)):
            truth = read_ground_truth(project, z)
            found = find_bright(None, project.stack.read(z), slice_index=z)
            wanted, at_half = (
                protocol([judged_slice(project, truth, cut_at(found, at, ""), "archaeocyathid")])
                for at in (0.7, 0.5)
            )
            assert figures.iou.mean == wanted.iou.mean != at_half.iou.mean
        assert project.edits.read("mud").params["mask_cut"] == 0.7


def test_the_edit_is_judged_at_equal_recall(project_path):
    result = edit.run(project_path, params())
    judged, found = result.judged, result.judged.at_equal_recall
    # Nothing changes what is bright: the edit has the recall of the model itself, which stays the
    # same up to the last cut below its least probability, 148 of 255.
    assert found.cut == pytest.approx(0.55)
    assert found.gains["precision"].mean == pytest.approx(0, abs=1e-9)
    assert not judged.earned
    assert "No better than a moved mask cut" in judged.words
    assert result.summary()["judged"]["at_equal_recall"]["recall_all"] == found.recall_all
    assert "No better than a moved mask cut" in result.report.read_text()
    assert found.before["matched"] == found.after["matched"] > 0
    with Project.open(project_path, read_only=True) as project:
        kept = project.edits.read("mud").judged["at_equal_recall"]
    assert kept["better"] is False


def test_an_edit_is_evaluated_against_what_it_was_made_from(project_path):
    made = edit.run(project_path, params())
    asked = EvaluateParams(model="mud", slices="2", device=Device.CPU)
    found = evaluate.run(project_path, asked)
    assert found.at_equal_recall == made.judged.at_equal_recall
    assert "No better than a moved mask cut" in found.notes[-1]
    assert found.summary()["at_equal_recall"]["better"] is False
    # A model by itself claims nothing.
    alone = evaluate.run(project_path, asked.model_copy(update={"model": "blank"}))
    assert alone.at_equal_recall is None
    assert "at_equal_recall" not in alone.summary()
    # What several views give is compared with one.
    options = {"model": "blank", "views": Views.FOUR}
    predict.run(project_path, PredictParams(slices="2", device=Device.CPU, **options))
    several = asked.model_copy(update=options)
    viewed = evaluate.run(project_path, several)
    assert viewed.source != alone.source
    assert viewed.notes[-1].startswith(f"Compared with {alone.source}: ")
    assert not any(note.startswith("Judged was") for note in viewed.notes)
    assert viewed.at_equal_recall.gains["iou_all"].mean == pytest.approx(0, abs=1e-9)
    with Project.open(project_path) as project, project.ledger.transaction() as db:
        db.execute("UPDATE instances SET probability = NULL")
    old = evaluate.run(project_path, asked.model_copy(update={"against": "blank"}))
    assert old.at_equal_recall is None
    assert "was predicted before mask probabilities were kept" in old.notes[-1]


@pytest.mark.parametrize(
    ("rose", "better", "within", "verdict", "advice", "tone"),
    [
        (True, True, True, "keep the edit", "keep", "good"),
        (
            True,
            False,
            True,
            "not clearly more than a tighter mask cut",
            "move the mask cut",
            "plain",
        ),
        (True, True, False, "nobody can tell whether a tighter mask", "look", "plain"),
        (True, None, True, "nobody can tell whether a tighter mask", "look", "plain"),
        (False, True, True, "No clear gain", "look", "plain"),
    ],
)
def test_an_edit_has_to_beat_a_mask_cut(done, rose, better, within, verdict, advice, tone):
    _, result, _ = done
    found = Spread(0.05, 0.01, (0.03 if rose else -0.01, 0.07))
    comparison = replace(
        result.judged.comparison, deltas={**result.judged.comparison.deltas, "precision": found}
    )
    gain = Spread(0.02, 0.01, (0.01 if better else -0.01, 0.03))
    rival = replace(result.judged.at_equal_recall, gains={"precision": gain}, within=within)
    if better is None:
        rival = None
    judged = replace(result.judged, comparison=comparison, at_equal_recall=rival, warnings=())
    told = replace(result, judged=judged)
    assert verdict in told.verdict
    assert (told.advice, told.tone) == (advice, tone)


@pytest.mark.parametrize("step", ["judged", "write_report", "finished"])
def test_the_same_command_ends_an_edit_that_was_not_finished(
    done, reef_home, tmp_path, monkeypatch, step
):
    def killed(*_, **__):
        raise KeyboardInterrupt

    path = shutil.copytree(reef_home, tmp_path / "home") / "tiny.fossil"
    with monkeypatch.context() as patch:
        patch.setattr(edit, step, killed)
        with pytest.raises(KeyboardInterrupt):
            edit.run(path, params())
    with pytest.raises(FossilError, match="'mud' was saved, but the program ended before it was"):
        edits.apply(path, "mud")
    with pytest.raises(FossilError, match="an edit 'mud' already"):
        edit.run(path, params(preset=Preset.BOTH))
    monkeypatch.setattr("napari_fossiledit.editing.solve.solve", killed)  # not solved again
    again, undisturbed = edit.run(path, params()).summary(), done[1].summary()
    for changing in ("folder", "page", "seconds"):
        del again[changing], undisturbed[changing]
    assert again == undisturbed
    records = [Project.open(p, read_only=True).edits.read("mud") for p in (path, done[0])]
    assert records[0].judged == records[1].judged
    edits.apply(path, "mud")


def test_an_edit_predicts_by_its_name_and_leaves_its_parent_untouched(done, reef_home):
    path, result, _ = done
    old, new_ = ({f.name: f.read_bytes() for f in (p / "tiny.fossil/models/blank").iterdir()}
                 for p in (reef_home, path.parent))  # fmt: skip
    assert old == new_
    asked = PredictParams(model="mud", slices="2", device=Device.CPU)
    found = predict.run(path, asked)
    assert (found.source, found.predicted) == (result.judged.sources[1], ())


def test_only_the_chosen_levels_are_edited(done):
    with Project.open(done[0], read_only=True) as project:
        ref = find_model(project, "mud")
        edited, parent = ref.load(Device.CPU), ref.parent.load(Device.CPU)
        delta = ref.edit.deltas
    pairs = zip(parent.layers().values(), edited.layers().values(), strict=True)
    moved = [bool((a.weight != b.weight).any()) for a, b in pairs]
    assert moved == [False, False, True, True]
    assert len(delta) == 2


def test_by_default_outlines_alone_are_edited(project_path):
    assert EditParams().scope is Scope.MASKS
    made = edit.run(project_path, params(scope=Scope.MASKS, strengths="1"))
    with Project.open(project_path, read_only=True) as project:
        ref = find_model(project, made.name)
        assert set(ref.edit.deltas) == {"mask_outputs.2", "mask_outputs.3"}
        edited, parent = ref.load(Device.CPU), ref.parent.load(Device.CPU)
        image = project.stack.read(1)
    assert edited.network.spec.mask_levels == (2, 3)
    before, after = parent.predict(image), edited.predict(image)
    assert [i.score for i in before] == [i.score for i in after]
    assert made.comparison.before.predictions == made.comparison.after.predictions


def test_progress_tells_what_is_done_and_how_far(done):
    messages = [p.message for p in done[2]]
    assert "Choosing the strength: strength 1 on slice 1" in messages
    assert "Judging mud" in messages
    choosing = [p for p in done[2] if p.message.startswith("Choosing the strength")]
    assert [(p.done, p.total) for p in choosing] == [(0, 3), (1, 3), (2, 3)]
    assert all(0 <= p.done <= p.total for p in done[2])


def test_the_page_holds_everything(done):
    path, result, _ = done
    page = result.report.read_text()
    assert result.report.parent == path / "reports" / "edit-mud"
    assert result.verdict in page
    assert f"fossiledit edits apply {path} mud" in page
    for heading in ("Before and after", "Trade-off", "What changed", "How it was solved"):
        assert heading in page
    # Two charts and one pinned slice.
    assert page.count("data:image/png;base64,") == 3
    assert [f.name for f in (result.report.parent / "overlays").iterdir()] == ["slice_0002.png"]
    assert not list((path / "reports").glob(".*"))


def test_the_run_is_recorded(done):
    with Project.open(done[0], read_only=True) as project:
        (run, *_) = [r for r in project.ledger.runs() if r.kind == "edit"]
    assert (run.status, run.summary["edit"]) == ("done", "mud")


def test_an_edit_is_made_on_top_of_an_edit(done):
    path, _, _ = done
    result = edit.run(path, params(model="mud", name="more", tuning="4", solver="ridge"))
    with Project.open(path, read_only=True) as project:
        record = project.edits.read("more")
    assert (record.parent, record.model) == ("mud", "blank")
    assert result.parent == "mud"


# ------------------------------------------------------------------------ slices


def chosen(path, **values):
    with Project.open(path) as project:
        ref = find_model(project, "blank")
        return choose_slices(
            project, params(**{"tuning": "", "pinned": "", "preserve": "", **values}), ref
        )


def test_slices_that_are_not_named_are_held_out_in_turns(project_path):
    slices = chosen(project_path)
    assert (slices.edit, slices.tuning, slices.pinned) == ((0,), (1, 3), (2, 4))
    assert slices.preserve == ()


def test_pinned_slices_of_the_project_judge_and_the_others_choose(project_path):
    with Project.open(project_path) as project:
        project.update(pinned_slices=(4,))
    slices = chosen(project_path)
    assert (slices.pinned, slices.tuning) == ((4,), (1, 2, 3))
    slices = chosen(project_path, tuning="1")
    assert slices.preserve == (2, 3)


def proposed(path, wrong=()):
    with Project.open(path) as project:
        slices = proposed_slices(project, find_model(project, "blank"), wrong)
    return slices.edit, slices.tuning, slices.pinned


def test_slices_are_proposed_to_teach_tune_and_judge(project_path):
    # Slices 0 to 4 are traced.
    assert proposed(project_path) == ((2,), (0, 3), (1, 4))
    assert proposed(project_path, wrong=(3, 0)) == ((3,), (0, 2), (1, 4))
    with Project.open(project_path) as project:
        project.update(pinned_slices=(3,))
    assert proposed(project_path, wrong=(3, 0)) == ((0,), (1, 2, 4), (3,))
    with Project.open(project_path) as project:
        project.update(pinned_slices=())
        for z in (0, 1, 2):
            project.ledger.unset_traced(z)
    # One that is left judges.
    assert proposed(project_path) == ((4,), (), (3,))


def test_slices_that_taught_the_model_are_proposed_to_teach_again(project_path):
    record = project_path / "models" / "blank" / "model.json"
    content = json.loads(record.read_text())
    content["training"]["slices"] = [1, 3]
    record.write_text(json.dumps(content))
    assert proposed(project_path) == ((1, 3), (0, 4), (2,))
    assert proposed(project_path, wrong=(0, 3)) == ((3,), (0, 4), (2,))


@pytest.mark.parametrize(
    "named", [{"tuning": "1"}, {"pinned": "1"}, {"tuning": "1", "pinned": "2"}]
)
def test_preserved_slices_are_none_of_the_others(project_path, named):
    slices = chosen(project_path, **named)
    assert not set(slices.preserve) & {*slices.edit, *slices.tuning, *slices.pinned}


# Trainings record numbers.
@pytest.mark.parametrize("recorded", ["1,3", [1, 3]])
def test_slices_the_model_was_trained_on_neither_choose_nor_judge(project_path, recorded):
    record = project_path / "models" / "blank" / "model.json"
    content = json.loads(record.read_text())
    content["training"]["slices"] = recorded
    record.write_text(json.dumps(content))
    slices = chosen(project_path)
    assert (slices.tuning, slices.pinned, slices.preserve) == ((2,), (4,), (1, 3))


def test_slices_that_chose_the_checkpoint_neither_choose_nor_judge(project_path):
    record = project_path / "models" / "blank" / "model.json"
    content = json.loads(record.read_text())
    content["training"] |= {"slices": "1", "validation": "3"}
    record.write_text(json.dumps(content))
    assert not {*chosen(project_path).tuning, *chosen(project_path).pinned} & {1, 3}


def test_slices_the_edits_below_were_made_with_neither_choose_nor_judge(done):
    path, result, _ = done
    edits.compose(path, ["mud"], "copy")
    edits.invert(path, "mud", "away")
    fresh = {"tuning": "", "pinned": "", "preserve": ""}
    for name in ("mud", "copy", "away"):
        with Project.open(path, read_only=True) as project:
            ref = find_model(project, name)
            slices = choose_slices(project, params(slices="0", **fresh), ref)
        # Edited with 0, tuned on 1, preserved 3; 2 judged and may do so again.
        assert {*slices.tuning, *slices.pinned} == {2, 4}
    assert (result.slices.edit, result.slices.tuning, result.slices.preserve) == ((0,), (1,), (3,))


def test_pinned_slices_of_the_project_never_choose_nor_are_preserved(project_path):
    with Project.open(project_path) as project:
        project.update(pinned_slices=(1, 4))
    slices = chosen(project_path, pinned="2")
    assert (slices.pinned, slices.tuning) == ((2,), (3,))
    slices = chosen(project_path, pinned="2", tuning="3")
    assert slices.preserve == ()


def test_pinned_slices_of_the_project_are_not_edited_with(project_path):
    with Project.open(project_path) as project:
        project.update(pinned_slices=(0, 4))
    with pytest.raises(FossilError, match="Slices 0 are pinned: they only judge"):
        chosen(project_path, pinned="2")


def test_with_tuning_slices_named_the_others_judge(project_path):
    assert chosen(project_path, tuning="1").pinned == (2, 3, 4)


def test_pinned_slices_that_the_model_knows_are_told(done):
    path, _, _ = done
    again = params(model="mud", name="again", slices="4", tuning="3", pinned="0", preserve="2")
    result = edit.run(path, again)
    assert any("pinned slices 0 are not independent: the model 'mud'" in w for w in result.warnings)


def test_few_slices_are_spread_over_many():
    assert spread_over(range(60), 4) == (7, 22, 37, 52)
    assert spread_over([5, 9], 4) == (5, 9)
    assert spread_over([], 4) == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slices": ""}, "No slice to edit with"),
        ({"slices": "2"}, "2 would judge an edit that they were edited with"),
        ({"tuning": "2"}, "2 would judge an edit that they were tuned on"),
        ({"preserve": "2"}, "2 would judge an edit that preserves them"),
        ({"tuning": "0"}, "0 would choose the strength of an edit that they were edited with"),
        ({"preserve": "1,3"}, "1 would choose the strength"),
        ({"slices": "9"}, "9"),
        ({"strengths": "a"}, "The strengths cannot be read"),
        ({"scores": "2"}, "The scores cannot be read"),
        ({"name": "../x"}, "The name of an edit"),
        ({"name": "blank"}, "a model 'blank' already"),
        ({"model": "none"}, "There is no model 'none'"),
        ({"preset": Preset.CUSTOM, "steps": "class nothing -> mud"}, "no instance of the class"),
        ({"preset": Preset.CUSTOM, "steps": "box 900:901 -> mud"}, "no pixel of slice 0"),
        ({"mud": "999,-1,nan"}, "mud colour cannot be read; expected r,g,b such as 90,52,40"),
        ({"mud": "999,1,1"}, "cannot hold the colour; expected values from 0 to 255"),
        ({"texture": "junk"}, "crop cannot be read; expected SLICE:x0:x1,y0:y1.* found 'junk'"),
        ({"class_name": "fish"}, "no instance of the class 'fish'"),
        ({"levels": "7"}, "7"),
        ({"region": "9:3"}, "The region is empty or incomplete"),
        ({"region": "900:901"}, "The region lies outside the traced area"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_bad_input_is_told_and_leaves_the_project_as_it_was(project_path, values, message):
    with pytest.raises(FossilError, match=message):
        edit.run(project_path, params(**values))
    with Project.open(project_path, read_only=True) as project:
        assert project.edits.names() == []
        assert not list((project_path).glob("edits/.*"))


def test_a_region_limits_what_is_fitted_and_what_is_judged(project_path):
    with Project.open(project_path, read_only=True) as project:
        (truth,) = project.ledger.instances(
            ANNOTATIONS, slices=[2], part=Part.BODY, class_name="archaeocyathid"
        )
        edge = truth.mask.box[3] - 3
        left = params(region=f":{edge}", marked_only=True)
        whole, part = (
            shown_pair(project, Recipe(0, p), p) for p in (params(marked_only=True), left)
        )
    assert part.mask.any()
    assert np.array_equal(part.mask[:, :edge], whole.mask[:, :edge])
    assert not part.mask[:, edge:].any()
    result = edit.run(project_path, left)
    (judged,) = result.judged.comparison.before.truths
    assert judged.area == truth.mask.to_array()[:, :edge].sum() < truth.mask.area
    with Project.open(project_path, read_only=True) as project:
        assert project.edits.read("mud").params["region"] == f":{edge}"


def test_a_name_is_taken_once(done):
    with pytest.raises(FossilError, match="an edit 'mud' already"):
        edit.run(done[0], params())


def while_solving(monkeypatch, do):
    solved = edit.solved

    def solve(plan, segmenter, job):
        solution = solved(plan, segmenter, job)
        do(plan.project)
        return solution

    monkeypatch.setattr(edit, "solved", solve)


def test_a_name_that_is_taken_meanwhile_costs_no_edit(project_path, monkeypatch):
    def other(project):
        segmenter = find_model(project, "blank").load(Device.CPU)
        name, layer = list(segmenter.layers().items())[3]
        delta = {name: layer.weight.detach()}
        edits.save_edit(project, find_model(project, "blank"), Edit(delta), "mud", {})

    from napari_fossiledit.editing.edit import Edit

    while_solving(monkeypatch, other)
    result = edit.run(project_path, params(solver="ridge"))
    assert result.name == "mud-2"
    assert any("'mud' was taken meanwhile" in w for w in result.warnings)
    with Project.open(project_path, read_only=True) as project:
        assert project.edits.names() == ["mud", "mud-2"]
        assert "before" in project.edits.read("mud-2").judged
        assert project.edits.read("mud").judged == {}


def test_a_model_that_is_replaced_meanwhile_is_told(project_path, monkeypatch, blank_segmenter):
    from napari_fossiledit.models.files.registry import save_model

    def retrain(project):
        save_model(blank_segmenter(seed=1), project.path / "models" / "blank")

    while_solving(monkeypatch, retrain)
    with pytest.raises(FossilError, match=r"'blank' was replaced.*expected hash .*found"):
        edit.run(project_path, params(solver="ridge"))
    with Project.open(project_path, read_only=True) as project:
        assert project.edits.names() == []


def untrace(path, *slices):
    with Project.open(path) as project:
        for z in slices:
            project.ledger.unset_traced(z)


def test_untraced_slices_cannot_judge(project_path):
    untrace(project_path, 2)
    with pytest.raises(FossilError, match="Slices 2 are not traced"):
        edit.run(project_path, params())


def test_damaged_weights_are_refused(project_path):
    import torch
    from safetensors.torch import load_file, save_file

    weights = next((project_path / "models" / "blank").glob("*.safetensors"))
    tensors = load_file(weights)
    name = next(n for n in tensors if "fpn.inner_blocks.3" in n and n.endswith("weight"))
    tensors[name] = torch.full_like(tensors[name], np.nan)
    save_file(tensors, weights)
    with pytest.raises(FossilError):
        edit.run(project_path, params())


def test_keys_that_are_not_numbers_are_refused(project_path, monkeypatch):
    import torch

    from napari_fossiledit.workflows.shared.model_refs import ModelRef

    load = ModelRef.load

    def damaged(self, device=Device.AUTO):
        segmenter = load(self, device)
        with torch.no_grad():
            for name, weight in segmenter.network.named_parameters():
                if "inner_blocks.3" in name:
                    weight.fill_(np.nan)
        return segmenter

    monkeypatch.setattr(ModelRef, "load", damaged)
    with pytest.raises(FossilError, match=r"The keys of .* cannot be used"):
        edit.run(project_path, params())
    with Project.open(project_path, read_only=True) as project:
        assert project.edits.names() == []


def test_a_full_disk_harms_nothing(project_path, monkeypatch):
    write = files.write_whole

    def full(path, data):
        if "edits" in path.parts:
            raise FossilError(f"Writing {path} failed: {errno.errorcode[errno.ENOSPC]}")
        write(path, data)

    monkeypatch.setattr("napari_fossiledit.project.edits.write_whole", full)
    with pytest.raises(FossilError, match="ENOSPC"):
        edit.run(project_path, params())
    assert list(project_path.glob("edits/*")) == []
    with Project.open(project_path, read_only=True) as project:
        assert project.ledger.runs()[-1].status == "failed"


# -------------------------------------------------------------- what cannot be judged


def test_a_run_that_cannot_judge_says_so(project_path):
    untrace(project_path, 1, 2, 3, 4)
    result = edit.run(project_path, params(tuning="", pinned=""))
    assert result.judged is None
    assert (result.strength, result.tried) == (edit.UNTRIED_STRENGTH, ())
    assert "not judged" in result.verdict
    assert any("No traced slice is left to choose the strength" in w for w in result.warnings)
    assert any("The edit was not judged: no traced slice" in w for w in result.warnings)
    page = result.report.read_text()
    assert "was not judged" in page
    with Project.open(project_path, read_only=True) as project:
        record = project.edits.read("mud")
    assert "before" not in record.judged
    assert "not judged" in record.note


@pytest.mark.parametrize(
    ("strengths", "scores", "taken"), [("1", "0.3", (1.0, 0.3)), ("0.2,0.6", "0.3,0.1", (0.6, 0.1))]
)
def test_without_tuning_slices_what_was_asked_for_is_taken(project_path, strengths, scores, taken):
    untrace(project_path, 1, 2, 3, 4)
    asked = params(tuning="", pinned="", strengths=strengths, scores=scores, solver="ridge")
    result = edit.run(project_path, asked)
    assert (result.strength, result.score) == taken
    assert any(f"{taken[0]:g} was taken" in w for w in result.warnings)


def test_pinned_slices_without_the_class_judge_nothing(project_path):
    with Project.open(project_path) as project:
        found = project.ledger.instances(ANNOTATIONS, slices=[2])
        others = [i for i in found if i.class_name != "archaeocyathid"]
        project.ledger.store(ANNOTATIONS, 2, [replace(i, id=None, parent=None) for i in others])
    result = edit.run(project_path, params())
    assert result.judged is None
    assert any("slices 2 show no archaeocyathid" in w for w in result.warnings)


def test_without_a_slice_to_spare_the_weights_are_held(project_path):
    result = edit.run(project_path, params(tuning="1,3", pinned="2,4", preserve="", strengths="1"))
    assert result.slices.preserve == ()
    assert any("held to the weights" in w for w in result.warnings)


# ------------------------------------------------------------------------ cancelling


class Stop:
    """Asks to stop as soon as progress tells a message."""

    def __init__(self, message):
        self.message, self.seen = message, False

    def hooks(self):
        return {"job": Job(self.note, lambda: self.seen)}

    def note(self, progress):
        self.seen |= self.message in progress.message


@pytest.mark.parametrize(
    "message",
    ["Capturing slice", "Summing preserved", "Editing ", "Choosing the strength: strength 0.5"],
)
def test_a_cancelled_edit_leaves_nothing(project_path, message):
    stop = Stop(message)
    with pytest.raises(CancelledError):
        edit.run(project_path, params(), **stop.hooks())
    assert stop.seen
    with Project.open(project_path, read_only=True) as project:
        assert project.edits.names() == []
        assert project.ledger.runs()[-1].status == "cancelled"


@pytest.mark.parametrize("message", ["Editing ", "Choosing the strength: strength 0.5"])
def test_a_cancelled_edit_may_be_kept(project_path, message):
    result = edit.run(project_path, params(keep_partial=True), **Stop(message).hooks())
    assert result.cancelled
    assert result.judged is None
    assert any("cancelled" in w for w in result.warnings)
    with Project.open(project_path, read_only=True) as project:
        assert project.edits.read("mud").strength == edit.UNTRIED_STRENGTH


def test_a_cancelled_judging_leaves_a_proposed_edit(project_path):
    result = edit.run(project_path, params(), **Stop("Judging mud").hooks())
    assert result.cancelled
    assert any("judging was cancelled" in w for w in result.warnings)
    with Project.open(project_path) as project:
        record = project.edits.read("mud")
        assert (record.state, record.strength) == (EditState.PROPOSED, result.strength)
        assert "before" not in record.judged
    assert edits.apply(project_path, "mud").in_use == "mud"


# ---------------------------------------------------------------------- command line


def test_the_command_edits_and_prints_json(project_path):
    options = {**TINY, "device": "cpu"}
    typed = [part for n, v in options.items() for part in (f"--{n.replace('_', '-')}", str(v))]
    result = CliRunner().invoke(app, ["edit", str(project_path), *typed, "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["edit"], told["slices"]["pinned"]) == ("mud", "2")
    assert told["page"].endswith("index.html")
