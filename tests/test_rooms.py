"""Each room is imported in a fresh process and may load only what it is allowed to."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import pytest

import napari_fossiledit

QT = {"PyQt5", "PyQt6", "PySide2", "PySide6", "magicgui", "napari", "qtpy", "superqt", "vispy"}
TORCH = {"timm", "torch", "torchvision"}
NOT_PURE = {"cli", "editing", "models", "morphospace", "saliency", "widgets"}
ROOMS = {module.name for module in pkgutil.iter_modules(napari_fossiledit.__path__)}

LOADED_BY = """
import importlib, json, pkgutil, sys
room = importlib.import_module(sys.argv[1])
if sys.argv[2] == "deep":
    for module in pkgutil.walk_packages(getattr(room, "__path__", []), room.__name__ + "."):
        importlib.import_module(module.name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded_by(module: str, *, deep: bool = True) -> set[str]:
    """Return the top-level packages that importing `module` (and all below it) brings in."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED_BY, module, "deep" if deep else "flat"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_package_loads_neither_torch_nor_qt() -> None:
    assert not loaded_by("napari_fossiledit", deep=False) & (QT | TORCH)


@pytest.mark.parametrize("room", sorted(ROOMS - NOT_PURE))
def test_a_pure_room_loads_neither_torch_nor_qt(room: str) -> None:
    assert not loaded_by(f"napari_fossiledit.{room}") & (QT | TORCH)


@pytest.mark.parametrize("room", ["editing", "models", "morphospace", "saliency"])
def test_rooms_with_torch_load_no_qt(room: str) -> None:
    assert not loaded_by(f"napari_fossiledit.{room}") & QT


def test_the_command_starts_without_torch_and_qt() -> None:
    assert not loaded_by("napari_fossiledit.cli") & (QT | TORCH)


def test_the_check_itself_sees_what_is_loaded() -> None:
    assert "numpy" in loaded_by("napari_fossiledit.masks")
    assert "qtpy" in loaded_by("qtpy", deep=False)


def test_points_are_read_without_torch() -> None:
    assert not loaded_by("napari_fossiledit.morphospace.embedding") & (QT | TORCH)
