"""Rooms are imported in a fresh process and may load only what they are allowed to."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import napari_fossiledit

QT = {"PyQt5", "PyQt6", "PySide2", "PySide6", "magicgui", "napari", "qtpy", "superqt", "vispy"}
TORCH = {"timm", "torch", "torchvision"}
NOT_PURE = {"cli", "editing", "models", "morphospace", "saliency", "widgets"}
ROOMS = {module.name for module in pkgutil.iter_modules(napari_fossiledit.__path__)}

LOADED_BY = """
import importlib, json, pkgutil, sys
for name in sys.argv[1:]:
    room = importlib.import_module(name)
    for module in pkgutil.walk_packages(getattr(room, "__path__", []), name + "."):
        importlib.import_module(module.name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded_by(*modules: str, prefix: str = "napari_fossiledit.") -> set[str]:
    """Return the top-level packages that importing modules, and all below them, brings in."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED_BY, *(prefix + module for module in modules)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_package_loads_neither_torch_nor_qt() -> None:
    assert not loaded_by("errors") & (QT | TORCH)


def test_pure_rooms_load_neither_torch_nor_qt() -> None:
    assert not loaded_by(*sorted(ROOMS - NOT_PURE)) & (QT | TORCH)


def test_rooms_with_torch_load_no_qt() -> None:
    assert not loaded_by("editing", "models", "morphospace", "saliency") & QT


def test_the_window_loads_no_torch() -> None:
    assert not loaded_by("widgets") & TORCH


def test_the_command_starts_without_torch_and_qt() -> None:
    assert not loaded_by("cli") & (QT | TORCH)


def test_the_check_itself_sees_what_is_loaded() -> None:
    assert "numpy" in loaded_by("masks")
    assert "qtpy" in loaded_by("qtpy.QtCore", prefix="")


def test_points_are_read_without_torch() -> None:
    assert not loaded_by("morphospace.embedding") & (QT | TORCH)
