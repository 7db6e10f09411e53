"""A slice and all that follow, moved by hand in the window."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.placement import Alignment, Placement
from napari_fossiledit.widgets.canvas import correcting
from napari_fossiledit.widgets.canvas.layers import Role, find
from napari_fossiledit.widgets.stack.stack_dock import StackDock
from napari_fossiledit.workflows.stack.align import AlignResult
from tests.widgets.conftest import settled


@pytest.fixture
def dock(session):
    dock = StackDock(session.viewer)
    session.go_to(1)
    return dock


def test_what_is_moved_is_seen_at_once_and_written_when_it_is_kept(session, dock):
    panel = dock.align
    shown = find(session.viewer, Role.IMAGE)
    before = np.asarray(session.current.stack.read(1))
    for _ in range(3):
        panel.move_by(Placement(0, 1))
    panel.move_by(Placement(2, 0))
    pixel = session.current.geometry.pixel_size_um
    np.testing.assert_allclose(shown.affine.translate[1:], [2 * pixel, 3 * pixel])
    masks = find(session.viewer, Role.LABELS)
    np.testing.assert_array_equal(masks.affine.affine_matrix, shown.affine.affine_matrix)
    session.go_to(0)
    for layer in (shown, masks):
        np.testing.assert_allclose(layer.affine.translate, 0)
    assert session.current.ledger.alignment().entries == ()
    session.go_to(1)
    panel.keep()
    settled(session)
    assert session.current.ledger.alignment().entries == ((1, Placement(2, 3)),)
    assert "From slice 1: +2.00 px down" in panel.lies.text()
    shown = find(session.viewer, Role.IMAGE)
    data = shown.data[0] if shown.multiscale else shown.data
    np.testing.assert_array_equal(np.asarray(data[1])[2:, 3:], before[:-2, :-3])
    assert panel.pending.is_none
    correcting.undo(session)
    settled(session)
    assert "as they were taken" in panel.lies.text()
    shown = find(session.viewer, Role.IMAGE)
    data = shown.data[0] if shown.multiscale else shown.data
    np.testing.assert_array_equal(np.asarray(data[1]), before)


def test_jumps_are_told_and_the_slices_shown_anew(session, dock):
    panel = dock.align
    session.current.ledger.set_alignment(Alignment.of({1: Placement(2, 3)}))
    panel._found(AlignResult(Alignment(), (1,), (2,), ("Link again.",)))
    settled(session)
    assert "From slice 1" in panel.lies.text()


def test_the_same_places_lie_over_each_other(session, dock, qtbot):
    panel = dock.align
    panel.mark()
    layer = panel._places()
    layer.data = [[1, 5, 5], [1, 20, 25], [0, 7, 4], [0, 22, 24]]
    # A place stays where it is in the photograph, and is seen where that is seen.
    panel.move_by(Placement(0, 3))
    shown = find(session.viewer, Role.IMAGE)
    np.testing.assert_allclose(layer.data_to_world([1, 5, 5]), shown.data_to_world([1, 5, 5]))
    panel.use_places()
    assert (panel.pending.dy, panel.pending.dx) == pytest.approx((2, -1), abs=0.05)
    assert panel._places() is None
    panel.flicker.click()
    qtbot.waitUntil(lambda: panel._before is not None)
    panel._turn()
    assert not panel._before.visible
    session.go_to(2)
    assert panel._before is None
    assert "Slice before" not in session.viewer.layers
    panel.show_cut()
    qtbot.waitUntil(lambda: not panel.cut.pixmap().isNull())


def test_flicker_that_cannot_start_is_not_on(session, dock):
    flicker = dock.align.flicker
    session.go_to(0)
    flicker.setChecked(True)
    with pytest.raises(FossilError, match="Slice 0 has none before"):
        dock.align._flicker()
    assert not flicker.isChecked()
    flicker.setChecked(True)
    # The slice before slice 2 arrives when the user is elsewhere already.
    dock.align._show_before(2, np.zeros((8, 8), np.uint8))
    assert not flicker.isChecked()
    assert "Slice before" not in session.viewer.layers
