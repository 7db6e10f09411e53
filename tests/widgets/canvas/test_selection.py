"""A click picks a mask; what is done with it is one change that can be undone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Mask
from napari_fossiledit.perturb.mud import ROCK_CLASS
from napari_fossiledit.project import ANNOTATIONS
from napari_fossiledit.widgets.canvas import correcting
from napari_fossiledit.widgets.canvas.layers import Role, find, show_predictions
from tests.widgets.conftest import SHAPE, SOURCE, found

SURE, DOUBTED = (2, 15, 17), (2, 25, 45)


def place(session, voxel):
    return tuple(
        n * um for n, um in zip(voxel, session.current.geometry.voxel_size.zyx, strict=True)
    )


def own(session):
    return session.current.instances(ANNOTATIONS, 2)


@pytest.fixture
def selection(session):
    show_predictions(session, SOURCE, 0.0)
    session.go_to(2)
    return session.view.selection


def test_a_click_tells_what_a_mask_is_and_one_beside_it_picks_nothing(session, selection):
    selection.pick_at(place(session, SURE))
    area = selection.picked.instance.mask.area * 70 * 70 / 1e6
    assert f"archaeocyathid, {area:.3g} mm², longest diameter 1," in selection.text
    assert "score 0.90, found by first" in selection.text
    selection.pick_at(place(session, (2, 2, 2)))
    assert (selection.picked, selection.text) == (None, "")


def test_a_prediction_is_accepted_merged_and_deleted_and_all_is_undone(session, selection, qtbot):
    selection.pick_at(place(session, SURE))
    selection.accept()
    qtbot.waitUntil(lambda: len(own(session)) == 1)
    qtbot.waitUntil(lambda: selection.picked is not None and selection.picked.is_own)
    assert "taken over from a prediction" in selection.text
    single = own(session)[0].mask.area
    selection.merge()
    selection.pick_at(place(session, DOUBTED))
    qtbot.waitUntil(lambda: own(session)[0].mask.area > single)
    qtbot.waitUntil(lambda: selection.picked is not None and selection.picked.is_own)
    selection.delete()
    qtbot.waitUntil(lambda: not own(session))
    qtbot.waitUntil(lambda: selection.picked is None)
    for count in (1, 1, 0):
        correcting.undo(session)
        assert len(own(session)) == count


@pytest.mark.parametrize("role", [Role.PREDICTIONS, Role.LABELS])
def test_a_key_undoes_what_was_taken_over_whatever_layer_is_selected(
    session, selection, qtbot, role
):
    selection.pick_at(place(session, SURE))
    selection.accept()
    qtbot.waitUntil(lambda: selection.picked is not None and selection.picked.is_own)
    layer = find(session.viewer, role)
    session.viewer.layers.selection = {layer}
    canvas = session.viewer.window._qt_viewer.canvas.native
    control = Qt.KeyboardModifier.ControlModifier
    QTest.keyClick(canvas, Qt.Key.Key_Z, control)
    assert own(session) == []
    QTest.keyClick(canvas, Qt.Key.Key_Z, control | Qt.KeyboardModifier.ShiftModifier)
    assert len(own(session)) == 1


def test_a_click_on_the_rock_face_picks_nothing(session, selection):
    rock = replace(
        found(2)[0], class_name=ROCK_CLASS, mask=Mask.from_array(np.ones(SHAPE[1:], bool))
    )
    session.current.ledger.store(ANNOTATIONS, 2, [rock])
    labels = correcting.edit(session)
    aside = place(session, (2, 2, 2))
    assert labels.get_value(aside, world=True)
    selection.pick_at(aside)
    assert selection.picked is None
    # The prediction below it can be picked.
    selection.pick_at(place(session, SURE))
    assert not selection.picked.is_own


def test_what_cannot_be_done_is_told(session, selection):
    with pytest.raises(FossilError, match="No mask is picked"):
        selection.accept()
    selection.pick_at(place(session, SURE))
    with pytest.raises(FossilError, match="Predictions cannot be deleted"):
        selection.delete()
    session.go_to(3)
    assert selection.picked is None
