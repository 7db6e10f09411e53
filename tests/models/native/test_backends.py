"""The backend detectron2: what is told where it is missing, and the checks where it is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import napari_fossiledit
from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.inference.preprocessing import Preprocessing
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.native import backends
from napari_fossiledit.models.native.backends import has_detectron2, on_backend, require_backend
from napari_fossiledit.models.native.segmenter import native_config
from napari_fossiledit.models.network.mask_rcnn import MaskRcnn
from napari_fossiledit.models.network.spec import default_spec
from napari_fossiledit.params.segment import Architecture, Backend

CHECKS = Path(__file__).with_name("backend_checks.py")
SOURCE = Path(napari_fossiledit.__file__).parents[1]

without = pytest.mark.skipif(has_detectron2(), reason="detectron2 is installed here")


@pytest.mark.detectron2
@pytest.mark.timeout(900)  # it waits for the download
def test_all_checks_hold_where_detectron2_is_there(native_path):
    path = os.pathsep.join([str(SOURCE), native_path])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CHECKS)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout


@without
def test_a_missing_detectron2_is_told():
    with pytest.raises(FossilError, match=r"not installed.*docs/detectron2.*backend twin"):
        require_backend(Backend.DETECTRON2)


@without
def test_a_missing_detectron2_is_told_for_a_model():
    twin = MaskRcnnSegmenter(MaskRcnn(default_spec("lite", ("a",))), Preprocessing())
    assert on_backend(twin, Backend.TWIN) is twin
    # What is wrong with the model is told first: installing would not help.
    with pytest.raises(FossilError, match="lite model cannot run in detectron2"):
        on_backend(twin, Backend.DETECTRON2)


@without
def test_a_folder_of_that_name_is_no_detectron2(tmp_path, monkeypatch):
    (tmp_path / "detectron2").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not has_detectron2()


@pytest.mark.parametrize(
    "error",
    [
        ImportError("_C.so: undefined symbol"),
        AttributeError("module 'numpy' has no attribute 'bool'"),
        TypeError("an argument that is no more"),
    ],
)
def test_a_broken_detectron2_is_told(tmp_path, monkeypatch, error):
    package = tmp_path / "detectron2"
    package.mkdir()
    (package / "__init__.py").write_text(f"raise {error!r}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(backends, "has_detectron2", lambda: True)
    require_backend(Backend.DETECTRON2, Architecture.R50)
    said = rf"cannot be imported.*found {type(error).__name__}: {error}\. Build it again"
    with pytest.raises(FossilError, match=said):
        native_config({})


def test_twin_needs_nothing():
    for architecture in Architecture:
        require_backend(Backend.TWIN, architecture)
