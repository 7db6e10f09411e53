"""Models in and out in the dock *Segment*, against workflows that only note their arguments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from qtpy.QtWidgets import QFileDialog, QPushButton

from napari_fossiledit.widgets.common.job_panel import JobPanel
from napari_fossiledit.widgets.segment.segment_dock import SegmentDock
from napari_fossiledit.workflows.segment.model_files import export_model, import_model

IMPORT, EXPORT = "Import a model file ...", "Export for detectron2 ..."


@pytest.fixture
def started(monkeypatch):
    """What was given to the job panel; every job ends at once."""
    jobs = []
    result = SimpleNamespace(name="theirs", folder=Path("f"), notes=("The classes are assumed.",))

    def start(self, title, function, *args, in_process=True, then=None):
        jobs.append((function, args, in_process))
        then(result)
        return True

    monkeypatch.setattr(JobPanel, "start", start)
    return jobs


def press(widget, text):
    next(b for b in widget.findChildren(QPushButton) if b.text() == text).click()


def test_a_checkpoint_is_imported_in_a_process_with_the_settings_of_the_form(
    session, made, started, monkeypatch, qtbot
):
    dock = made(SegmentDock)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("/far/model_final.pth", ""))
    dock.models.importing.fill(name="theirs", classes="archaeocyathid,-")
    with qtbot.waitSignal(session.models_changed):
        press(dock, IMPORT)
    ((function, (project, file, params), in_process),) = started
    assert function is import_model
    assert in_process
    assert (project, file) == (session.current.path, Path("/far/model_final.pth"))
    assert (params.name, params.classes, params.scale) == ("theirs", "archaeocyathid,-", 0)
    assert "Imported theirs" in dock.models.told.text()
    assert "The classes are assumed." in dock.models.told.text()


def test_the_chosen_model_is_exported_into_a_folder_of_its_own(session, made, started, monkeypatch):
    dock = made(SegmentDock)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "/far")
    press(dock, EXPORT)
    ((function, (project, name, out, params), _),) = started
    assert function is export_model
    assert (project, name) == (session.current.path, "reef-lite")
    assert (out, params.score) == (Path("/far/reef-lite-detectron2"), 0)


def test_nothing_starts_where_the_dialog_is_cancelled_or_a_setting_is_wrong(
    session, made, started, monkeypatch
):
    dock = made(SegmentDock)
    press(dock, IMPORT)
    press(dock, EXPORT)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("/far/m.pth", ""))
    dock.models.importing.fill(name="n" * 65)
    press(dock, IMPORT)
    assert started == []


def test_the_window_loads_no_torch_for_it():
    dock = "napari_fossiledit.widgets.segment.segment_dock"
    code = f"import sys, {dock}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
