"""The window as the command line opens it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
from PIL import Image

from napari_fossiledit.widgets.start import window


def test_a_picture_of_the_window_shows_predictions_over_the_slice(qapp, project_path, tmp_path):
    window.picture(project_path, "model:first:0123456789ab", tmp_path / "p" / "window.png")
    shown = np.asarray(Image.open(tmp_path / "p" / "window.png").convert("RGB"))
    assert shown.shape[0] > 500
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 50


def test_a_window_that_cannot_be_drawn_says_so_in_place_of_a_traceback(project_path):
    main = "from napari_fossiledit.cli import main; main()"
    command = [sys.executable, "-c", main, "open", str(project_path)]
    ended = subprocess.run(
        command,
        check=False,
        # Without a screen, Qt has no OpenGL.
        env={k: v for k, v in os.environ.items() if k != "DISPLAY"}
        | {"QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert ended.returncode == 1
    assert "The window cannot be drawn" in ended.stderr
    assert "Traceback" not in ended.stderr
