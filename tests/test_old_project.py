"""A project that an earlier version wrote opens as it did then (`data/make_old_project.py`).

All through the command line and the project folder, which every version keeps.
"""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from napari_fossiledit.cli.commands import app
from napari_fossiledit.masks import Origin
from napari_fossiledit.masks.rle import iou_matrix
from napari_fossiledit.project import ANNOTATIONS, LABELS, EditState, Project

ARCHIVE = Path(__file__).parent / "data" / "old_project.zip"
STORED = {
    "model:lite-own:64111cf88b1f": {"2": 98},
    "model:lite-own:ca75f7c4b4d3": {"0": 12, "1": 11, "2": 12},
    "model:outlines:64c9dca8652a": {"0": 12, "1": 11, "2": 12},
    "model:outlines:a09c84bd5a3e": {"2": 98},
    "model:whole:0599932f3c95": {"0": 12, "1": 11, "2": 12},
    "model:whole:db8581174822": {"2": 99},
}
"""Sources of predictions by slice; the settings of a prediction are part of its hash."""
WHOLE = {m: next(s for s in STORED if m in s and "0" in STORED[s]) for m in ("lite-own", "whole")}


@pytest.fixture
def old_project(tmp_path):
    with zipfile.ZipFile(ARCHIVE) as file:
        file.extractall(tmp_path)
    return tmp_path / "old.fossil"


def values_of(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_info_and_the_history_of_edits(old_project):
    info = values_of("info", old_project)
    sources = {s["name"]: s["instances_per_slice"] for s in info["sources"]}
    bodies = {"0": 3, "1": 3, "2": 4}
    assert sources == STORED | {ANNOTATIONS: bodies, LABELS: bodies}
    assert "labels.zarr of an earlier version is not shown" in info["notes"][0]
    assert info["stack"]["found"]
    assert info["stack"]["shape"] == [3, 96, 128, 3]
    assert info["traced"] == {"slices": "0-2", "partly": "1"}
    assert (info["models"], info["model_in_use"]) == (["lite-own"], "whole")
    assert [(e["name"], e["state"], e["problem"]) for e in info["edits"]] == [
        ("outlines", "proposed", ""), ("whole", "kept", ""),
    ]  # fmt: skip
    assert [r["status"] for r in info["runs"]] == ["done"] * 11

    history = values_of("edits", "list", old_project)["history"]
    assert set(history["lite-own"]["edits"]) == {"outlines", "whole"}
    shown = values_of("edits", "show", old_project, "whole")
    assert (shown["parent"], shown["params"]["solver"]) == ("lite-own", "direct")
    assert list(shown["drift"]) == ["backbone.fpn.layer_blocks.3.0"]


def test_instances_stay_and_labels_are_taken_over(old_project):
    with Project.open(old_project) as project:
        ledger = project.ledger
        assert {len(project.instances(ANNOTATIONS, z)) for z in (0, 1)} == {4}
        painted = project.instances(ANNOTATIONS, 2)
        assert {i.origin for i in painted} == {Origin.HUMAN}
        assert 20 * 28 in [int(i.mask.area) for i in painted]
        assert any(i.specimen is not None for i in painted)
        area = ledger.traced()[1]
        assert area is not None
        assert (area.area, ledger.traced()[0]) == (60 * 80, None)
        assert project.edits.read("whole").state is EditState.KEPT

        # All slices had annotations: the labels are a source of their own.
        assert "Slices 0-2 had annotations and keep them" in project.notes[1]
        square = next(i for i in project.instances(LABELS, 2) if i.mask.area == 20 * 28)
        assert square.mask.box == (10, 12, 30, 40)
        assert {i.mask for i in project.instances(LABELS, 2)} == {i.mask for i in painted}
        assert ledger.counts(LABELS) == {0: 3, 1: 3, 2: 4}
    assert not (old_project / "labels.zarr").exists()
    assert (old_project / "labels-taken-over.zarr").exists()
    written = values_of("annotations", "export", old_project, old_project / "labels.json",
                        "--source", "labels")  # fmt: skip
    assert (written["source"], written["instances"]) == ("labels", 13)


def test_a_command_says_that_labels_were_taken_over(old_project):
    """On stderr: stdout holds the result alone."""
    program = "from napari_fossiledit.cli.commands import app; app()"
    command = [sys.executable, "-c", program, "annotations", "trace", str(old_project),
               "--slices", "1", "--json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["slices"] == "1"
    assert "fossiledit: labels.zarr of an earlier version was taken over" in done.stderr
    assert "INFO" not in done.stderr


def test_nothing_but_the_labels_changes_by_opening(old_project):
    with Project.open(old_project, read_only=True) as project:
        before = {s: project.ledger.instances(s) for s in [*STORED, ANNOTATIONS]}
        traced = project.ledger.traced()
    Project.open(old_project).close()
    with Project.open(old_project) as project:
        assert before == {s: project.ledger.instances(s) for s in [*STORED, ANNOTATIONS]}
        assert project.ledger.traced() == traced
        assert project.ledger.history() == []


@pytest.mark.parametrize("model", ["lite-own", "whole"])
def test_a_model_and_its_edit_predict_what_they_did(old_project, model):
    """Neither hash has changed, nor have the detections."""
    command = ("predict", old_project, "--model", model, "--slices", "1", "--max-detections")
    again = values_of(*command, 12)
    assert (again["source"], again["kept"], again["predicted"]) == (WHOLE[model], 1, "")

    new = values_of(*command, 13)
    assert new["predicted"] == "1"
    with Project.open(old_project, read_only=True) as project:
        before, after = (project.instances(s, 1) for s in (WHOLE[model], new["source"]))
    overlap = iou_matrix([i.mask for i in before], [i.mask for i in after])
    large = [n for n, i in enumerate(before) if i.mask.area > 50]
    assert len(large) >= 8
    # Processors and numbers of threads differ in the last digits.
    for n in large:
        same = int(overlap[n].argmax())
        assert overlap[n, same] > 0.9
        assert after[same].score == pytest.approx(before[n].score, abs=0.02)


def test_specimens_are_linked_anew(old_project):
    linked = values_of("link", old_project, "--source", "lite-own")
    assert (linked["source"], linked["specimens"]) == (WHOLE["lite-own"], 25)
    assert (linked["instances"], linked["unlinked"]) == (35, 0)
