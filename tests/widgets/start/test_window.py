"""The window as the command line opens it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from napari_fossiledit.widgets.start import window


def test_a_picture_of_the_window_shows_predictions_over_the_slice(qapp, project_path, tmp_path):
    window.picture(project_path, "model:first:0123456789ab", tmp_path / "p" / "window.png")
    shown = np.asarray(Image.open(tmp_path / "p" / "window.png").convert("RGB"))
    assert shown.shape[0] > 500
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 50
