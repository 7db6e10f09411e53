"""Models in and out in the dock *Segment*, against workflows that only note their arguments."""

from __future__ import annotations

from pathlib import Path

import pytest
from qtpy.QtWidgets import QFileDialog, QPushButton

from napari_fossiledit.params.segment import CocoWeights
from napari_fossiledit.widgets.segment.segment_dock import SegmentDock
from napari_fossiledit.workflows.segment.fetch import FetchedModel
from napari_fossiledit.workflows.segment.model_files import ImportedModel

IMPORT, EXPORT = "Import a model file ...", "Export for detectron2 ..."


@pytest.fixture
def calls(calls):
    notes = ("The classes are assumed.",)
    calls.result = ImportedModel("theirs", "r50", ("a",), Path("f"), "0", notes)
    return calls


def press(widget, text):
    next(b for b in widget.findChildren(QPushButton) if b.text() == text).click()


def test_a_checkpoint_is_imported_in_a_process_with_the_settings_of_the_form(
    session, made, calls, monkeypatch, qtbot
):
    dock = made(SegmentDock)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("/far/model_final.pth", ""))
    dock.models.importing.fill(name="theirs", classes="archaeocyathid,-")
    with qtbot.waitSignal(session.models_changed):
        press(dock, IMPORT)
    ((name, (project, file, params)),) = calls.made
    assert name == "segment.model_files.import_model"
    assert calls.in_process == [True]
    assert (project, file) == (session.current.path, Path("/far/model_final.pth"))
    assert (params.name, params.classes, params.scale) == ("theirs", "archaeocyathid,-", 0)
    assert "Imported theirs" in dock.models.outcome.text()
    assert "The classes are assumed." in dock.models.outcome.text()


def test_the_chosen_model_is_exported_into_a_folder_of_its_own(session, made, calls, monkeypatch):
    dock = made(SegmentDock)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "/far")
    press(dock, EXPORT)
    ((function, (project, name, out, params)),) = calls.made
    assert function == "segment.model_files.export_model"
    assert (project, name) == (session.current.path, "reef-lite")
    assert (out, params.score) == (Path("/far/reef-lite-detectron2"), 0)


def test_weights_are_fetched_after_their_size_and_licence_were_told(made, calls):
    dock = made(SegmentDock)
    assert "178 MB from https://download.pytorch.org/" in dock.models.about.text()
    dock.models.fetching.fill(name=CocoWeights.DETECTRON2_X101)
    assert "431 MB from https://dl.fbaipublicfiles.com/" in dock.models.about.text()
    assert "Licence: CC BY-SA 3.0" in dock.models.about.text()
    calls.result = FetchedModel("its-name", Path("f"), "w.pkl", 9, "0", "u", ("A note.",))
    press(dock, "Fetch")
    ((function, (params,)),) = calls.made
    assert function == "segment.fetch.run"
    assert params.name is CocoWeights.DETECTRON2_X101
    assert "Fetched its-name" in dock.models.outcome.text()
    assert "A note." in dock.models.outcome.text()


def test_nothing_starts_where_the_dialog_is_cancelled_or_a_setting_is_wrong(
    session, made, calls, monkeypatch
):
    dock = made(SegmentDock)
    press(dock, IMPORT)
    press(dock, EXPORT)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("/far/m.pth", ""))
    dock.models.importing.fill(name="n" * 65)
    press(dock, IMPORT)
    assert calls.made == []
