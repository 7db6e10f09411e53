"""The project folder: made, opened, moved, and refused where it is damaged."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import ZDirection
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import Project
from napari_fossiledit.stacks import open_stack

PARAMS = NewParams(pixel_size=10.0, slice_spacing=50.0, z_direction=ZDirection.OUT_OF)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "photos"
    folder.mkdir(parents=True)
    for z in range(3):
        Image.fromarray(np.full((20, 30), 10 * z, dtype=np.uint8)).save(folder / f"{z:03d}.png")
    return folder


@pytest.fixture
def made(photographs: Path) -> Path:
    path = photographs.parent / "rock.fossil"
    Project.create(path, open_stack(photographs), PARAMS).close()
    return path


def edit(path: Path, **changes: object) -> None:
    file = path / "project.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_project_comes_back(made: Path) -> None:
    with Project.open(made) as project:
        assert project.shape == (3, 20, 30)
        assert project.slice_shape == (20, 30)
        assert project.names == ("000.png", "001.png", "002.png")
        assert project.geometry.voxel_size.zyx == (50.0, 10.0, 10.0)
        assert project.geometry.handedness == -1
        assert project.settings.classes == ("archaeocyathid",)
        assert (project.stack.read(2) == 20).all()
        assert not project.read_only


def test_only_the_settings_are_written_at_first(made: Path) -> None:
    assert [f.name for f in made.iterdir()] == ["project.json"]


def test_project_and_photographs_move_together(made: Path, tmp_path: Path) -> None:
    assert json.loads((made / "project.json").read_text())["stack"]["path"] == "../photos"
    shutil.move(made.parent, tmp_path / "elsewhere")
    with Project.open(tmp_path / "elsewhere" / "rock.fossil") as project:
        assert (project.stack.read(1) == 10).all()


def test_photographs_elsewhere_are_named_whole(photographs: Path, tmp_path: Path) -> None:
    path = tmp_path / "other" / "rock.fossil"
    with Project.create(path, open_stack(photographs), PARAMS) as project:
        assert project.settings.stack.path == photographs.resolve()


def test_moved_photographs_can_be_told(made: Path, photographs: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.move(photographs, moved)
    with Project.open(made) as project:
        with pytest.raises(FossilError, match=r"moved or removed.*photos.*fossiledit move"):
            _ = project.stack
        project.set_stack_path(moved)
        assert (project.stack.read(2) == 20).all()
    with Project.open(made) as project:
        assert project.stack.path == moved


def test_other_photographs_are_refused(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.new("L", (30, 20)).save(other / "a.png")
    with Project.open(made) as project, pytest.raises(FossilError, match=r"not the stack.*shape"):
        project.set_stack_path(other)


def test_updates_keep_what_another_window_wrote(made: Path) -> None:
    with Project.open(made) as first, Project.open(made) as second:
        first.update(pinned_slices=(2,))
        second.update(mud_colour=(120, 60, 40))
        assert second.settings.pinned_slices == (2,)
    with Project.open(made) as project:
        assert project.settings.mud_colour == (120, 60, 40)


def test_a_bad_update_changes_nothing(made: Path) -> None:
    before = (made / "project.json").read_bytes()
    with Project.open(made) as project, pytest.raises(FossilError, match="pixel_size_um"):
        project.update(pixel_size_um=-1.0)
    assert (made / "project.json").read_bytes() == before


def test_a_taken_folder_is_refused(made: Path, photographs: Path) -> None:
    other = PARAMS.model_copy(update={"pixel_size": 11.0})
    with pytest.raises(FossilError, match="a project already; expected a new folder"):
        Project.create(made, open_stack(photographs), other)
    Project.open(made).ledger.begin_run("train", {})
    with pytest.raises(FossilError, match="a project already"):
        Project.create(made, open_stack(photographs), PARAMS)
    with pytest.raises(FossilError, match="new or empty folder"):
        Project.create(photographs, open_stack(photographs), PARAMS)


@pytest.mark.parametrize("left", ["no ledger", "a ledger", "one without tables", "a journal"])
def test_a_project_that_holds_nothing_can_be_made_again(
    made: Path, photographs: Path, left: str
) -> None:
    before = (made / "project.json").read_bytes()
    if left == "a ledger":
        Project.open(made).ledger.close()
    elif left != "no ledger":
        with contextlib.closing(sqlite3.connect(made / "ledger.sqlite")) as db:
            db.execute("PRAGMA journal_mode=WAL")
    if left == "a journal":
        (made / "ledger.sqlite-journal").touch()
    Project.create(made, open_stack(photographs), PARAMS).close()
    assert (made / "project.json").read_bytes() == before


@pytest.mark.parametrize("part", ["reports", "models", "edits", "labels.zarr", "ledger.sqlite"])
def test_links_out_of_the_project_are_refused(made: Path, tmp_path: Path, part: str) -> None:
    (tmp_path / "outside").mkdir()
    (made / part).symlink_to(tmp_path / "outside")

    def use() -> None:
        with Project.open(made) as project:
            for used in (project.models, project.edits.names, project.ledger.runs):
                used()
            _ = project.reports

    with pytest.raises(FossilError, match=f"'{part}' leads out of"):
        use()
    assert not list((tmp_path / "outside").iterdir())


def test_a_run_of_a_process_that_ended_is_interrupted(made: Path) -> None:
    with Project.open(made) as project:
        project.ledger.begin_run("train", {})
        code = (
            "import sys, os; from pathlib import Path\n"
            "from napari_fossiledit.project import Project\n"
            "Project.open(Path(sys.argv[1])).ledger.begin_run('train', {}); os._exit(9)"
        )
        subprocess.run([sys.executable, "-c", code, str(made)], check=False)
        assert [r.status for r in project.ledger.runs()] == ["running", "interrupted"]


def test_a_folder_without_settings_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(FossilError, match=r"no project; expected a folder with project\.json"):
        Project.open(tmp_path)
    with pytest.raises(FossilError, match="no project"):
        Project.open(tmp_path / "not there")


def test_a_newer_project_is_refused(made: Path) -> None:
    edit(made, schema_version=2, surprise=True)
    with pytest.raises(FossilError, match=r"project\.json was made by a newer version.*found 2"):
        Project.open(made)


STACK = {"kind": "folder", "path": "../photos", "dtype": "uint8", "rgb": False}
HOSTILE = [
    {"schema_version": "1"},
    {"schema_version": True},
    {"schema_version": 0},
    {"pixel_size_um": "wide"},
    {"pixel_size_um": 0},
    {"slice_spacing_um": float("nan")},
    {"z_direction": "sideways"},
    {"classes": []},
    {"classes": "archaeocyathid"},
    {"mud_colour": [1, 2]},
    {"mud_colour": [1, 2, 10**30]},
    {"pinned_slices": [-1]},
    {"surprise": 1},
    {"stack": None},
    {"stack": STACK | {"names": ["a"], "shape": [10**40, 5, 5]}},
    {"stack": STACK | {"names": ["a"], "shape": [1, 5, 0]}},
    {"stack": STACK | {"names": ["a"], "shape": [1, 5, 5, 3]}},
    {"stack": STACK | {"names": ["a", "b"], "shape": [1, 5, 5]}},
    {"stack": STACK | {"names": ["../../secret.png"], "shape": [1, 5, 5]}},
    {"stack": STACK | {"names": ["/etc/passwd"], "shape": [1, 5, 5]}},
    {"stack": STACK | {"names": ["a\0.png"], "shape": [1, 5, 5]}},
    {"stack": STACK | {"names": ["a"], "shape": [1, 5, 5], "path": "pho\0tos"}},
    {"stack": STACK | {"names": ["a"], "shape": [1, 5, 5], "dtype": "object"}},
]


@pytest.mark.parametrize("changes", HOSTILE, ids=lambda c: str(c)[:60])
def test_hostile_settings_are_refused(made: Path, changes: dict[str, object]) -> None:
    edit(made, **changes)
    with pytest.raises(FossilError, match=r"project\.json"):
        Project.open(made)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\0", "9" * 9000, "[" * 90000, "\xff"])
def test_text_that_is_no_project_is_refused(made: Path, text: str) -> None:
    (made / "project.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FossilError, match=r"project\.json"):
        Project.open(made)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["schema_version", "stack", "classes", "mud_colour", "pinned_slices"]), JSON)
def test_any_value_opens_or_is_refused(made: Path, key: str, value: object) -> None:
    edit(made, **{key: value})
    with contextlib.suppress(FossilError):
        Project.open(made).close()


def test_a_stack_path_may_not_climb_out(made: Path) -> None:
    content = json.loads((made / "project.json").read_text())
    edit(made, stack=content["stack"] | {"path": "../../../../etc"})
    with Project.open(made) as project, pytest.raises(FossilError, match="outside"):
        _ = project.stack


def test_models_are_folders_with_plain_names(made: Path) -> None:
    with Project.open(made) as project:
        for name in ("b", "a"):
            folder = project.model_folder(name)
            folder.mkdir(parents=True)
            (folder / "model.json").write_text("{}")
        (made / "models" / "unfinished").mkdir()
        assert project.models() == ["a", "b"]
        for name in ("", ".", "..", "../a", "a/b", "/tmp", "a\0"):
            with pytest.raises(FossilError):
                project.model_folder(name)


def test_read_only_projects_refuse_changes(made: Path, photographs: Path) -> None:
    before = sorted(f.name for f in made.iterdir())
    with Project.open(made, read_only=True) as project:
        assert project.ledger.sources() == []
        assert (project.stack.read(1) == 10).all()
        refused = [
            lambda: project.update(pinned_slices=(1,)),
            lambda: project.set_stack_path(photographs),
            lambda: project.ledger.set_meta("a", 1),
            lambda: project.ledger.edit(0, put=[]),
            project.ledger.undo,
            project.ledger.reserve_id,
        ]
        for change in refused:
            with pytest.raises(FossilError, match=r"for reading only.*Copy the project"):
                change()
    assert sorted(f.name for f in made.iterdir()) == before
