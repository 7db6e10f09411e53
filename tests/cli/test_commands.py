"""The commands as a user types them: names, options, results, and bad input."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from typer.testing import CliRunner

from napari_fossiledit.cli.commands import app

RUNNER = CliRunner()

FIXED = {
    ("demo",): ["--out", "--no-gui"],
    ("sample", "reef"): ["--slices", "--size", "--seed"],
    ("new",): ["--pixel-size", "--slice-spacing"],
    ("info",): [],
    ("annotations", "import"): ["--class", "--slices"],
    ("annotations", "export"): ["--mask-cut"],
    ("annotations", "fill"): ["--mask-cut"],
    ("train",): [
        "--name", "--architecture", "--slices", "--validation", "--init", "--max-minutes", "--seed",
        "--region", "--classes",
    ],
    ("predict",): [
        "--model", "--slices", "--tiles", "--again", "--refine", "--exclusive", "--calibrated",
    ],
    ("calibrate",): ["--model", "--slices", "--region"],
    ("refine",): ["--model", "--slices", "--region", "--smallest"],
    ("evaluate",): ["--model", "--slices", "--score", "--region", "--mask-cut"],
    ("distance",): ["--model", "--known", "--slices", "--other", "--no-quality", "--class"],
    ("expect",): ["--model", "--slices", "--other", "--candidates", "--class"],
    ("suggest",): ["--model", "--rule", "--count", "--slices", "--seed"],
    ("link",): ["--source", "--relink", "--mask-cut"],
    ("mesh",): ["--format", "--mask-cut"],
    ("measure",): ["--mask-cut"],
    ("pictures",): ["--mask-cut"],
    ("open",): [],
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
    assert result.exit_code in (1, 2), result.output
    assert "Traceback" not in result.output
    assert "fossiledit: " in result.stderr
    return json.loads(result.stdout)["error"]


@pytest.mark.parametrize("command", list(FIXED), ids=" ".join)
def test_documented_commands_keep_their_options(command):
    shown = RUNNER.invoke(app, [*command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).stdout
    assert all(f"{option} " in shown for option in [*FIXED[command], "--json"])


@pytest.fixture
def photographs(tmp_path):
    """Six grey slices of 40 x 50 pixels as JPEG."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for z in range(6):
        pixels = noise.integers(0, 255, (40, 50), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"s{z}.jpg")
    return folder


@pytest.fixture
def project(photographs, tmp_path):
    path = tmp_path / "rock.fossil"
    told("new", path, photographs, "--pixel-size", 10, "--slice-spacing", 70)
    return path


def coco(tmp_path, **changes):
    """Write a good COCO file of one square cup with a hole in slice 2, changed where told."""
    square = [5, 5, 30, 5, 30, 25, 5, 25]
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [square]}
    content = {
        "images": [{"id": 1, "file_name": "s2.jpg", "height": 40, "width": 50}],
        "annotations": [annotation | changes.pop("annotation", {})],
        "categories": [{"id": 1, "name": "archaeocyathid"}],
    } | changes
    path = tmp_path / "traced.json"
    path.write_text(json.dumps(content))
    return path


def test_a_project_goes_from_photographs_to_a_table(project, tmp_path):
    info = told("info", project)
    assert info["stack"]["shape"] == [6, 40, 50]
    assert info["geometry"]["slice_spacing_um"] == 70
    assert told("annotations", "import", project, coco(tmp_path))["instances"] == 1
    assert told("link", project)["specimens"] == 1
    assert told("mesh", project, tmp_path / "meshes", "--format", "ply")["closed"] == 1
    told("measure", project, tmp_path / "out.csv")
    row = (tmp_path / "out.csv").read_text().splitlines()
    assert len(row) == 2
    assert "volume_um3" in row[0]
    told("annotations", "export", project, tmp_path / "back.json")
    assert len(json.loads((tmp_path / "back.json").read_text())["annotations"]) == 1


VOXEL = ("--pixel-size", "10", "--slice-spacing", "70")


def test_bad_stacks_are_refused_with_a_message(photographs, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no" in refused("new", tmp_path / "a.fossil", tmp_path / "empty", *VOXEL)["message"]
    Image.fromarray(np.zeros((41, 50), dtype=np.uint8)).save(photographs / "s3.jpg")
    odd = refused("new", tmp_path / "b.fossil", photographs, *VOXEL)
    assert "s3.jpg" in odd["message"]
    assert "40" in odd["expected"]
    assert "41" in odd["found"]
    (photographs / "s3.jpg").unlink()
    (photographs / "s3.tif").write_text("not a picture")
    assert "s3.tif" in refused("new", tmp_path / "c.fossil", photographs, *VOXEL)["message"]
    assert not list(tmp_path.glob("*.fossil"))


def test_a_truncated_photograph_is_named_when_it_is_read(project, photographs, tmp_path):
    path = photographs / "s4.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    error = refused("pictures", project, tmp_path / "p", "--slices", "4", "--no-specimens")
    assert "s4.jpg" in error["message"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"id": 1, "file_name": "x.jpg", "height": 40, "width": 50}]}, "x.jpg"),
        ({"annotation": {"segmentation": {"size": [40, 50], "counts": "###"}}}, "broken"),
        ({"annotation": {"segmentation": [[1, 1, 9, 9]]}}, "point"),
        ({"annotation": {"category_id": 7}}, "categor"),
    ],
)
def test_bad_annotations_are_refused_with_a_message(project, tmp_path, changes, message):
    error = refused("annotations", "import", project, coco(tmp_path, **changes))
    assert message in json.dumps(error)
    assert told("info", project)["sources"] == []


def test_files_that_hold_something_else_are_refused(project, tmp_path):
    savemat(tmp_path / "other.mat", {"pressure": np.arange(5)})
    assert (
        "other.mat" in refused("annotations", "import", project, tmp_path / "other.mat")["message"]
    )
    (tmp_path / "list.json").write_text("[1, 2]")
    assert (
        "list.json" in refused("annotations", "import", project, tmp_path / "list.json")["message"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such"], "No such command 'no-such'"),
        (["new", "only.fossil", *VOXEL], "Missing argument 'STACK'"),
        (["new", "p.fossil", "photos"], "Missing option '--pixel-size'"),
        (["info", "x.fossil", "--wrong"], "No such option: --wrong"),
        (["annotations", "import", "p", "f", "--part", "x"], "Invalid value for '--part'"),
    ],
)
def test_errors_of_usage_are_json_where_that_is_asked_for(arguments, message):
    done = run(*arguments, "--json")
    assert done.exit_code == 2
    error = json.loads(done.stdout)["error"]
    assert message in error["message"]
    assert set(error) == {"message", "expected", "found", "advice"}
    assert run(*arguments).stdout == ""


def test_typing_errors_are_told(project, tmp_path):
    refused = run("evaluate", project, "--class", "archeocyathid", "--slices", "0", "--json")
    error = json.loads(refused.stdout)["error"]
    assert error["expected"].startswith("one of archaeocyathid")
    assert error["advice"] == "Do you mean 'archaeocyathid'?"
    small = run("new", tmp_path / "s.fossil", tmp_path, *VOXEL, "--pixel-size", "1e-300", "--json")
    assert "greater than or equal to 0.0001" in json.loads(small.stdout)["error"]["expected"]


@pytest.mark.skipif(sys.platform == "win32", reason="file names are Unicode there")
def test_file_names_that_are_no_text_and_consoles_that_know_few_letters(tmp_path):
    home = tmp_path / os.fsdecode(b"bad\xff \xe6\x97\xa5")
    (home / "photos").mkdir(parents=True)
    for name in (b"1\xff.png", b"2.png"):
        grey = np.zeros((9, 9), np.uint8)
        Image.fromarray(grey).save(home / "photos" / os.fsdecode(name))
    code = "from napari_fossiledit.cli import main; main()"
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    for words in (["new", home / "p.fossil", home / "photos", *VOXEL], ["info", home / "p.fossil"]):
        command = [sys.executable, "-c", code, *map(str, words)]
        ended = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert ended.returncode == 0, ended.stderr
    assert rb"\udcff" in ended.stdout


def test_a_name_that_is_too_long_is_told(project):
    for words in (["annotations", "import", project], ["new", "p.fossil", *VOXEL], ["info"]):
        error = json.loads(run(*words, "y" * 300, "--json").stdout)["error"]
        assert error["message"].endswith("File name too long")
        assert error["advice"] == "Choose a shorter name."


def test_a_project_of_a_newer_program_is_refused_unharmed(project):
    path = project / "project.json"
    newer = json.loads(path.read_text()) | {"schema_version": 99}
    path.write_text(json.dumps(newer))
    error = refused("info", project)
    assert "newer" in json.dumps(error)
    assert json.loads(path.read_text()) == newer


def test_what_is_not_there_is_named(project, tmp_path):
    assert "gone.fossil" in refused("info", tmp_path / "gone.fossil")["message"]
    assert "nobody" in refused("predict", project, "--model", "nobody")["message"]
    assert "9" in refused("evaluate", project, "--model", "reef-lite", "--slices", "9")["message"]
    assert refused("link", project)["advice"]
    assert refused("mesh", project, tmp_path / "m")["advice"]


def test_help_needs_no_heavy_import():
    buffer = io.StringIO(RUNNER.invoke(app, ["--help"]).stdout)
    assert "Turn photographs" in buffer.read()
