"""The commands about edits as a user types them: options, results, bad input."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from napari_fossiledit.cli.commands import app
from napari_fossiledit.project import EditRecord, Project
from napari_fossiledit.workflows.edit import decide as edits_workflow
from napari_fossiledit.workflows.edit import run as edit_workflow
from napari_fossiledit.workflows.probe import run as probe
from napari_fossiledit.workflows.shared import perturbed_slices as perturbing

RUNNER = CliRunner()

DOCUMENTED = {
    ("perturb",): ["--out", "--preset", "--steps", "--mud", "--texture", "--class"],
    ("mud",): [],
    ("probe",): ["--model", "--slices", "--presets", "--class", "--score", "--mask-cut"],
    ("edit",): [
        "--name", "--model", "--slices", "--preserve", "--tuning", "--pinned", "--preset",
        "--solver", "--steps", "--pull", "--levels", "--strengths", "--tolerance", "--mask-cut",
    ],
    ("repair",): ["--model", "--slice", "--instance", "--outline", "--name", "--mask-cut"],
    ("edits", "list"): [],
    ("edits", "show"): [],
    ("edits", "apply"): ["--strength", "--score"],
    ("edits", "rollback"): [],
    ("edits", "export"): [],
    ("edits", "compose"): ["--name"],
    ("edits", "invert"): ["--name"],
}  # fmt: skip


def run(*arguments):
    return RUNNER.invoke(app, [str(a) for a in arguments])


def told(*arguments):
    """Result of a command that must succeed, from stdout alone."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments):
    """Message of a command that must fail without a traceback."""
    result = run(*arguments, "--json")
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return json.loads(result.stdout)["error"]


@pytest.mark.parametrize("command", list(DOCUMENTED), ids=" ".join)
def test_documented_commands_keep_their_options(command):
    shown = RUNNER.invoke(app, [*command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).stdout
    assert all(f"{option} " in shown for option in [*DOCUMENTED[command], "--json"])


@pytest.fixture
def project(tmp_path):
    """A project with two edits on top of each other, whose model is gone."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for z in range(2):
        Image.fromarray(np.full((40, 50, 3), 90, dtype=np.uint8)).save(folder / f"s{z}.png")
    path = tmp_path / "rock.fossil"
    told("new", path, folder, "--pixel-size", 72.7, "--slice-spacing", 500)
    with Project.open(path) as opened:
        for name, parent in (("mud", "gone"), ("more", "mud")):
            record = EditRecord(
                name=name, parent=parent, parent_hash="0", result_hash="0", model="gone"
            )
            opened.edits.save(record, b"no weights")
    return path


def test_edits_are_listed_shown_and_rolled_back(project):
    tree = told("edits", "list", project)["history"]
    assert tree["gone"]["edits"]["mud"]["edits"]["more"]["state"] == "proposed"
    assert "not there any more" in tree["gone"]["problem"]
    assert told("edits", "show", project, "mud")["children"] == ["more"]
    done = told("edits", "rollback", project, "mud")
    assert (done["state"], done["model_in_use"], done["also"]) == ("rolled_back", "gone", ["more"])
    assert told("info", project)["model_in_use"] == "gone"
    text = run("edits", "list", project).stdout
    assert "\n      mud:\n" in text
    assert "\n          more:\n" in text


def test_bad_edits_are_refused_with_a_message(project, tmp_path):
    for command in (["show"], ["apply"], ["rollback"], ["export"], ["compose"], ["invert"]):
        more = {
            "export": [tmp_path / "out"], "compose": ["--name", "n"], "invert": ["--name", "n"]
        }.get(command[0], [])  # fmt: skip
        error = refused("edits", *command, project, "nobody", *more)
        assert "no edit 'nobody'" in error["message"]
        assert error["expected"] == "one of more, mud"
    assert "gone" in refused("edits", "apply", project, "mud")["message"]
    assert "name" in refused("edits", "invert", project, "mud", "--name", "../x")["message"]
    assert "strength" in refused("edits", "apply", project, "mud", "--strength", "nan")["message"]


@pytest.mark.parametrize(
    ("module", "function", "arguments", "expected"),
    [
        (perturbing, "run", ["perturb", 1, "--out", "a.png", "--mud", "auto"], {"mud": "auto"}),
        (perturbing, "pick_mud", ["mud", 1, 12, 7.5], None),
        (probe, "run", ["probe", "--presets", "both"], {"presets": "both"}),
        (edit_workflow, "run", ["edit", "--solver", "ridge", "--name", "a"], {"solver": "ridge"}),
        (edits_workflow, "compose", ["edits", "compose", "a", "b", "--name", "c"], None),
        (edits_workflow, "apply", ["edits", "apply", "a", "--strength", 0.5], None),
    ],
)
def test_options_reach_the_workflow(monkeypatch, module, function, arguments, expected):
    calls = []

    class Result:
        def summary(self):
            return {"done": True}

    def fake(*values, job):
        calls.append(values)
        return Result()

    monkeypatch.setattr(module, function, fake)
    at = 2 if arguments[0] == "edits" else 1
    assert told(*arguments[:at], "rock.fossil", *arguments[at:]) == {"done": True}
    ((path, *values),) = calls
    assert str(path) == "rock.fossil"
    if expected is not None:
        params = next(v for v in values if hasattr(v, "model_dump"))
        assert expected.items() <= params.model_dump(mode="json").items()
    if function == "pick_mud":
        assert values == [1, 12.0, 7.5]
    if function == "compose":
        assert values == [["a", "b"], "c"]
    if function == "apply":
        assert values == ["a", 0.5, None]
