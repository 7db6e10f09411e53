"""Edits in use: predicted with as if they were models, kept, rolled back, combined, written out."""

import errno
import json
import shutil

import numpy as np
import pytest

from napari_fossiledit import files
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.params.segment import Device, EvaluateParams, PredictParams
from napari_fossiledit.progress import Job
from napari_fossiledit.project import EditState, Project
from napari_fossiledit.workflows.edit import decide as edits
from napari_fossiledit.workflows.segment import evaluate, predict
from napari_fossiledit.workflows.shared.model_refs import (
    EditRef,
    find_model,
    in_use,
    model_names,
    set_in_use,
)
from napari_fossiledit.workflows.stack import info


def params(model, **values):
    fixed = {"device": Device.CPU, "max_detections": 5, "slices": "0-1"}
    return PredictParams(model=model, **{**fixed, **values})


def random_edit(segmenter, seed, size=0.3):
    import torch

    from napari_fossiledit.editing.edit import Edit

    noise = torch.Generator().manual_seed(seed)
    layers = segmenter.layers().items()
    return Edit({n: size * torch.randn(conv.weight.shape, generator=noise) for n, conv in layers})


def make(path, name, parent="blank", seed=1, **known):
    with Project.open(path) as project:
        ref = find_model(project, parent)
        edit = random_edit(ref.load(Device.CPU), seed)
        return edits.save_edit(project, ref, edit, name, {"seed": seed}, **known).record


@pytest.fixture(scope="module")
def template(reef_home, tmp_path_factory):
    """A project with a model of random weights and a random edit of it, named mud; made once."""
    home = shutil.copytree(reef_home, tmp_path_factory.mktemp("edited") / "home")
    make(home / "tiny.fossil", "mud")
    return home


@pytest.fixture
def edited(template, tmp_path):
    """A copy of that project which a test may damage."""
    home = shutil.copytree(template, tmp_path / "home")
    return home / "tiny.fossil"


def found(path, source):
    """Instances of a source as plain values, bit by bit."""
    with Project.open(path, read_only=True) as project:
        rows = project.ledger.instances(source)
        return [(i.id, i.slice, i.score.hex(), i.class_name, i.mask.counts) for i in rows]


def weights(path, name):
    with Project.open(path, read_only=True) as project:
        segmenter = find_model(project, name).load(Device.CPU)
    return {k: v.numpy() for k, v in segmenter.network.state_dict().items()}


def same(one, other, tolerance=0.0):
    return one.keys() == other.keys() and all(
        np.allclose(one[k], other[k], rtol=0, atol=tolerance) for k in one
    )


def test_rolling_back_restores_predictions_bit_by_bit(edited):
    model = edited / "models" / "blank"
    files_before = {f.name: f.read_bytes() for f in model.iterdir()}
    before = predict.run(edited, params("blank"))
    rows = found(edited, before.source)
    assert rows
    applied = edits.apply(edited, "mud")
    assert (applied.in_use, applied.record.state) == ("mud", EditState.KEPT)
    changed = predict.run(edited, params(""))
    assert changed.model == "mud"
    assert [r[2:] for r in found(edited, changed.source)] != [r[2:] for r in rows]
    undone = edits.rollback(edited, "mud")
    assert (undone.in_use, undone.record.state) == ("blank", EditState.ROLLED_BACK)
    after = predict.run(edited, params(""))
    assert (after.source, after.predicted) == (before.source, ())
    assert found(edited, after.source) == rows
    assert {f.name: f.read_bytes() for f in model.iterdir()} == files_before
    # And computed anew: the model itself is the same.
    with Project.open(edited) as project:
        for z in (0, 1):
            project.ledger.store(before.source, z, [])
            project.ledger._database._connection.execute("DELETE FROM done WHERE z = ?", (z,))
    fresh = predict.run(edited, params("blank"))
    assert fresh.predicted == (0, 1)
    assert [r[1:] for r in found(edited, fresh.source)] == [r[1:] for r in rows]


def test_an_edit_is_evaluated_and_listed_like_a_model(edited):
    asked = EvaluateParams(model="mud", slices="0", device=Device.CPU)
    result = evaluate.run(edited, asked)
    assert result.source.startswith("model:mud:")
    with Project.open(edited) as project:
        assert model_names(project)[:2] == ["blank", "mud"]
        ref = find_model(project, "mud")
        assert isinstance(ref, EditRef)
        assert ref.model_hash == ref.load(Device.CPU).model_hash
        assert ref.root.name == ref.parent.address == ref.record.model == "blank"
        assert len(ref.record.drift) == 4


def test_an_edit_adds_its_strength_to_the_parent(edited):
    make(edited, "half", seed=1, strength=0.5)
    base, full, half = (weights(edited, name) for name in ("blank", "mud", "half"))
    changed = [k for k in base if not np.array_equal(base[k], full[k])]
    assert len(changed) == 4
    for key in changed:
        assert np.allclose(half[key], (base[key] + full[key]) / 2, atol=1e-6)


def test_a_chain_is_applied_and_rolled_back_as_a_whole(edited):
    make(edited, "more", parent="mud", seed=2)
    edits.apply(edited, "mud")
    assert edits.apply(edited, "more").also == ()
    assert predict.run(edited, params("", slices="0")).model == "more"
    both, mud = weights(edited, "more"), weights(edited, "mud")
    assert not same(both, mud)
    undone = edits.rollback(edited, "mud")
    assert (undone.in_use, undone.also) == ("blank", ("more",))
    again = edits.apply(edited, "more")
    assert (again.in_use, again.also) == ("more", ("mud",))
    assert edits.rollback(edited, "more").in_use == "mud"
    assert same(weights(edited, "mud"), mud)


def test_rolling_back_leaves_another_model_in_use(edited):
    make(edited, "other", seed=3)
    edits.apply(edited, "other")
    assert edits.rollback(edited, "mud").in_use == "other"
    with Project.open(edited) as project:
        set_in_use(project, "")
    assert edits.rollback(edited, "other").in_use == "blank"


def test_another_strength_is_another_model(edited):
    judged = {"before": {"iou": 0.5}, "after": {"iou": 0.6}}
    make(edited, "judged", seed=4, judged=judged)
    first = predict.run(edited, params("judged", slices="0"))
    result = edits.apply(edited, "judged", strength=0.5, score=0.25)
    assert (result.record.strength, result.record.score) == (0.5, 0.25)
    second = predict.run(edited, params("judged", slices="0"))
    assert second.source != first.source
    assert second.predicted == (0,)
    assert result.record.judged == {"strength": 1.0, **judged}
    back = edits.apply(edited, "judged", strength=1.0)
    assert predict.run(edited, params("judged", slices="0")).source == first.source
    assert back.record.judged["strength"] == 1.0
    (entry,) = [e for e in edits.listing(edited).entries if e.name == "judged"]
    assert (entry.figures, entry.judged_at) == ({"iou": (0.5, 0.6)}, 1.0)


def test_impossible_strengths_are_refused(edited):
    for bad in (float("nan"), float("inf"), 11, -11):
        with pytest.raises(FossilError, match=r"strength of an edit cannot be .* expected -10"):
            edits.apply(edited, "mud", strength=bad)
        with pytest.raises(FossilError, match=r"score threshold of an edit cannot be"):
            edits.apply(edited, "mud", score=bad)
    assert not edits.listing(edited).in_use


def test_the_strength_below_other_edits_is_fixed(edited):
    make(edited, "more", parent="mud", seed=2)
    with pytest.raises(FossilError, match=r"'mud' cannot change.*edits more.*edits compose"):
        edits.apply(edited, "mud", strength=0.5)
    assert edits.apply(edited, "mud", strength=1.0).record.strength == 1.0
    assert predict.run(edited, params("more", slices="0")).model == "more"


def test_a_strength_that_no_edit_above_fits_can_be_set_back(edited):
    # As where the strength changes while an edit on top of it is being solved.
    with Project.open(edited) as project:
        ref = find_model(project, "mud")
        edits.apply(edited, "mud", strength=0.5)
        edit = random_edit(ref.load(Device.CPU), 2)
        edits.save_edit(project, ref, edit, "late", {})
    with pytest.raises(FossilError, match=r"'late' was made from another 'mud'"):
        predict.run(edited, params("late"))
    assert edits.apply(edited, "mud", strength=1.0).record.strength == 1.0
    assert predict.run(edited, params("late", slices="0")).model == "late"


def test_an_edit_is_not_added_twice(edited):
    make(edited, "more", parent="mud", seed=2)
    with pytest.raises(FossilError, match=r"on top of mud, which would be added twice.*more, mud"):
        edits.compose(edited, ["more", "mud"], "sum")


def test_edits_are_added_up_and_inverted(edited):
    more = make(edited, "more", parent="mud", seed=2, strength=0.5)
    base, mud, both = (weights(edited, name) for name in ("blank", "mud", "more"))
    assert edits.compose(edited, ["mud", "more"], "sum").record.parent == "blank"
    assert same(weights(edited, "sum"), both, 1e-6)
    copy = edits.compose(edited, ["more"], "copy").record
    assert (copy.parent, copy.result_hash) == ("mud", more.result_hash)
    edits.invert(edited, "mud", "away")
    assert same(weights(edited, "away"), base, 1e-6)
    # The first edit is taken out of the chain, the second stays.
    edits.compose(edited, ["mud", "more", "away"], "only more")
    expected = {key: base[key] + (both[key] - mud[key]) for key in base}
    assert same(weights(edited, "only more"), expected, 1e-5)


def test_only_edits_of_one_model_are_added_up(edited):
    shutil.copytree(edited / "models" / "blank", edited / "models" / "twin")
    make(edited, "stranger", parent="reef-lite", seed=2)
    with pytest.raises(FossilError, match=r"different models.*mud of blank, stranger of reef-lite"):
        edits.compose(edited, ["mud", "stranger"], "sum")
    for names in ([], ["mud", "mud"]):
        with pytest.raises(FossilError, match="cannot be added up"):
            edits.compose(edited, names, "sum")
    make(edited, "cousin", parent="twin", seed=2)
    assert edits.compose(edited, ["mud", "cousin"], "sum").record.parent == "blank"


def test_taken_names_are_refused(edited):
    for name in ("mud", "blank", "reef-lite", "a/b", ""):
        for use in (
            lambda name=name: edits.compose(edited, ["mud"], name),
            lambda name=name: edits.invert(edited, "mud", name),
        ):
            with pytest.raises(FossilError, match="name"):
                use()
    with pytest.raises(FossilError, match="has a model 'blank' already"):
        make(edited, "blank")


def test_an_export_stands_alone(edited, tmp_path):
    make(edited, "more", parent="mud", seed=2)
    out = tmp_path / "exported"
    result = edits.export(edited, "more", out)
    with Project.open(edited) as project:
        assert result.model_hash == find_model(project, "more").model_hash
    with pytest.raises(FossilError, match="exported cannot take a model; expected a new or empty"):
        edits.export(edited, "more", out)
    shutil.rmtree(edited / "models")
    shutil.rmtree(edited / "edits")
    assert predict.run(edited, params(str(out), slices="0")).model == "exported"
    told = json.loads((out / "model.json").read_text())["training"]["edits"]
    assert [e["name"] for e in told] == ["mud", "more"]


# --------------------------------------------------------------------- damage


def harmed(path, name="mud", **values):
    file = path / "edits" / name / "edit.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def refused(path, text, name="mud"):
    for use in (lambda: predict.run(path, params(name)), lambda: edits.apply(path, name)):
        with pytest.raises(FossilError, match=text):
            use()
    with Project.open(path) as project:
        assert in_use(project) == ""


def test_a_retrained_parent_is_told(edited, blank_segmenter):
    from napari_fossiledit.models.files.registry import save_model

    predict.run(edited, params("mud", slices="0"))
    save_model(blank_segmenter(seed=9), edited / "models" / "blank")
    refused(edited, r"'mud' was made from another 'blank'; expected a model with hash")
    (entry,) = [e for e in edits.listing(edited).entries if e.is_edit]
    assert "made from another 'blank'" in entry.problem
    assert edits.rollback(edited, "mud").in_use == "blank"


def test_a_parent_of_another_architecture_is_told(edited, blank_segmenter):
    from napari_fossiledit.models.files.registry import save_model

    record = save_model(blank_segmenter(channels=16), edited / "models" / "blank")
    refused(edited, r"made from another 'blank'")
    harmed(edited, parent_hash=record.model_hash)
    refused(edited, r"does not fit the model: backbone.*expected shape .32.*found")


def test_a_deleted_parent_is_told(edited):
    make(edited, "more", parent="mud", seed=2)
    shutil.rmtree(edited / "models" / "blank")
    for name in ("mud", "more"):
        refused(edited, r"'mud' was made from the model 'blank', which is not there", name)
    told = {e.name: e.problem for e in edits.listing(edited).entries}
    assert "not there any more" in told["blank"]
    assert "'blank' it was made from is not there" in told["mud"]
    shutil.rmtree(edited / "edits" / "mud")
    refused(edited, r"'more' was made from the model 'mud', which is not there", "more")


def test_damaged_weights_are_told(edited):
    file = edited / "edits" / "mud" / "delta.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refused(edited, r"delta\.safetensors is truncated or was changed")
    file.unlink()
    refused(edited, r"delta\.safetensors failed: No such file")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"strength": 0.75}, "gives another model than its record holds.*at strength 0.75"),
        ({"result_hash": "f" * 64}, "gives another model than its record holds"),
        ({"delta_hash": "f" * 64}, "truncated or was changed"),
        ({"parent": "mud"}, "never end"),
        ({"parent": "../../blank"}, "parent"),
        ({"parent": "/" + "x" * 5000}, "not there any more"),
    ],
)
def test_records_that_were_changed_are_told(edited, values, text):
    harmed(edited, **values)
    with pytest.raises(FossilError, match=text):
        predict.run(edited, params("mud"))
    assert info.run(edited).summary()["edits"][0]["name"] == "mud"
    if values == {"strength": 0.75}:
        # What the message advises mends it.
        assert edits.apply(edited, "mud").record.strength == 0.75
        assert predict.run(edited, params("mud", slices="0")).predicted == (0,)


def test_a_model_and_an_edit_of_one_name_are_told(edited):
    shutil.copytree(edited / "models" / "blank", edited / "models" / "mud")
    with pytest.raises(FossilError, match="has a model and an edit named 'mud'"):
        predict.run(edited, params("mud"))


def test_a_full_disk_harms_nothing(edited, monkeypatch, tmp_path):
    before = (edited / "edits" / "mud" / "edit.json").read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    for use in (
        lambda: edits.apply(edited, "mud", strength=0.5),
        lambda: edits.compose(edited, ["mud"], "copy"),
        lambda: edits.export(edited, "mud", tmp_path / "out"),
    ):
        with pytest.raises(FossilError, match=r"No space left.*free some space"):
            use()
    assert (edited / "edits" / "mud" / "edit.json").read_bytes() == before
    with Project.open(edited) as project:
        assert in_use(project) == ""
        assert [r.status for r in project.ledger.runs() if r.kind == "edits apply"] == ["failed"]


def test_cancelling_changes_nothing(edited):
    for use in (
        lambda: edits.apply(edited, "mud", strength=0.5, job=Job(cancelled=lambda: True)),
        lambda: edits.rollback(edited, "mud", job=Job(cancelled=lambda: True)),
        lambda: edits.compose(edited, ["mud"], "copy", job=Job(cancelled=lambda: True)),
        lambda: edits.invert(edited, "mud", "away", job=Job(cancelled=lambda: True)),
    ):
        with pytest.raises(CancelledError):
            use()
    with Project.open(edited) as project:
        assert project.edits.names() == ["mud"]
        assert (project.edits.read("mud").strength, in_use(project)) == (1.0, "")


def test_unknown_edits_and_no_model_are_told(edited):
    for use in (edits.show, edits.apply, edits.rollback):
        with pytest.raises(FossilError, match=r"no edit 'blank'.*expected one of mud"):
            use(edited, "blank")
    with pytest.raises(FossilError, match=r"No model was named, and none is in use.*blank, mud"):
        predict.run(edited, params(""))


def test_the_overview_tells_edits(edited):
    curve = [[n, 1 / n] for n in range(1, 50)]
    make(edited, "more", parent="mud", seed=2, curves={"fpn": curve})
    edits.apply(edited, "mud")
    told = json.loads(json.dumps(info.run(edited).summary(), allow_nan=False))
    assert told["model_in_use"] == "mud"
    assert [(e["name"], e["parent"], e["state"]) for e in told["edits"]] == [
        ("mud", "blank", "kept"),
        ("more", "mud", "proposed"),
    ]
    tree = json.loads(json.dumps(edits.listing(edited).summary(), allow_nan=False))["history"]
    assert tree["blank"]["edits"]["mud"]["edits"]["more"]["strength"] == 1.0
    shown = edits.show(edited, "mud").summary()
    assert (shown["children"], shown["params"]) == (["more"], {"seed": 1})
    assert edits.show(edited, "more").summary()["curves"] == {"fpn": [[1, 1], [49, 1 / 49]]}
