"""The commands about models as a user types them: options, results, bad input."""

import json

import pytest
from typer.testing import CliRunner

from napari_fossiledit.cli.commands import app
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.workflows.stack import new

RUNNER = CliRunner()
DOCUMENTED = {
    ("models", "list"): [],
    ("models", "import"): ["--name", "--classes", "--config", "--scale"],
    ("models", "fetch"): ["NAME", "--verbose"],
    ("models", "export"): ["--score", "--max-detections"],
}


def run(*arguments):
    return RUNNER.invoke(app, [str(a) for a in arguments])


def refused(*arguments):
    """Message of a command that must fail without a traceback."""
    result = run(*arguments, "--json")
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    assert "fossiledit: " in result.stderr
    return json.loads(result.stdout)["error"]


@pytest.fixture
def project(tmp_path):
    from PIL import Image

    (tmp_path / "photographs").mkdir()
    for z in range(2):
        Image.new("RGB", (40, 30), (z, 0, 0)).save(tmp_path / "photographs" / f"{z}.png")
    new.run(
        tmp_path / "p.fossil",
        tmp_path / "photographs",
        NewParams(pixel_size=72.7, slice_spacing=500),
    )
    return tmp_path / "p.fossil"


@pytest.mark.parametrize("command", list(DOCUMENTED), ids=" ".join)
def test_documented_commands_keep_their_options(command):
    shown = RUNNER.invoke(app, [*command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).stdout
    assert all(f"{option} " in shown for option in [*DOCUMENTED[command], "--json"])


def test_models_are_listed(project):
    result = run("models", "list", project, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["model_in_use"] == ""
    assert told["models"]["reef-lite"]["kind"] == "shipped"
    assert told["models"]["reef-lite"]["architecture"] == "lite"


def test_refusals_name_file_expectation_and_what_was_found(project, tmp_path):
    error = refused("models", "import", project, tmp_path)
    assert str(tmp_path) in error["message"]
    assert error["expected"] == "a checkpoint file (.pth or .pkl)"
    assert error["found"] == "a folder with no such file"
    assert error["advice"]
    missing = tmp_path / "none.pkl"
    assert str(missing) in refused("models", "import", project, missing)["message"]
    error = refused("models", "import", project, missing, "--scale", "9")
    assert "scale" in error["message"]
    error = refused("models", "export", project, "reef-lite", tmp_path / "out")
    assert error["found"].startswith("lite")
    assert "r101" in error["expected"]
    assert not (tmp_path / "out").exists()
    assert refused("models", "export", project, "none", tmp_path / "out")["message"]
