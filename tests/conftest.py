"""What every test may use, and what no test may touch: the user's settings and display."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
WINDOW_FIXTURES = {"make_napari_viewer", "qapp", "qtbot"}

# Read when napari, Qt or OpenMP are first imported, so they are set before any test is.
_SETTINGS = tempfile.TemporaryDirectory(prefix="fossiledit-tests-")
os.environ["XDG_CACHE_HOME"] = str(Path(_SETTINGS.name) / "cache")
os.environ["NAPARI_CONFIG"] = str(Path(_SETTINGS.name) / "settings.yaml")
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, str(min(2, os.cpu_count() or 1)))
if sys.platform == "linux":
    # napari draws with OpenGL, which Qt's "offscreen" platform does not have.
    os.environ["QT_QPA_PLATFORM"] = "xcb"


def _windows_can_open() -> bool:
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or shutil.which("Xvfb"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests that open a window last, and skip them where Qt would abort for want of a display.

    Software OpenGL brings an LLVM of its own: torch's triton crashes when it is loaded after it.
    """
    items.sort(key=_opens_window)
    if _windows_can_open():
        return
    skip = pytest.mark.skip(reason="no display and no Xvfb (apt package xvfb)")
    for item in filter(_opens_window, items):
        item.add_marker(skip)


def _opens_window(item: pytest.Item) -> bool:
    return bool(WINDOW_FIXTURES & set(getattr(item, "fixturenames", ())))


def pytest_unconfigure() -> None:
    """Remove the temporary settings."""
    _SETTINGS.cleanup()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with data that nobody of this project made; it is not part of the repository."""
    named = os.environ.get("FOSSILEDIT_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder} (set FOSSILEDIT_TEST_DATA)")
    return folder
