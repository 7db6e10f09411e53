"""The project in a real viewer: what is shown, painted, hidden, and turned."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Layer
from napari.utils._proxies import PublicOnlyProxy

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import ZDirection
from napari_fossiledit.project import LABELS, Project
from napari_fossiledit.widgets.canvas import correcting, navigation
from napari_fossiledit.widgets.canvas.layers import (
    Role,
    describe,
    find,
    prediction_array,
    show_labels,
    show_predictions,
)
from napari_fossiledit.widgets.canvas.project_view import attach, open_project
from napari_fossiledit.widgets.canvas.readers import PROJECT, read_project
from napari_fossiledit.widgets.canvas.regions import draw_area, drawn_area
from napari_fossiledit.widgets.canvas.view3d import face_camera
from napari_fossiledit.widgets.common.compat import camera_of
from napari_fossiledit.widgets.common.session import session_of

SOURCE = "model:first:0123456789ab"


def test_a_viewer_has_one_session_also_through_the_proxy_that_plugins_get(viewer):
    assert session_of(viewer) is session_of(PublicOnlyProxy(viewer))


def test_without_a_project_the_message_tells_what_to_do(viewer):
    with pytest.raises(FossilError, match="Start here"):
        session_of(viewer).current  # noqa: B018


def test_the_photographs_are_shown_in_um(session):
    layer = find(session.viewer, Role.IMAGE)
    assert layer is not None
    assert layer.rgb
    np.testing.assert_allclose(layer.scale, (500, 70, 70))
    assert [str(u) for u in layer.units] == ["micrometer"] * 3
    assert tuple(session.viewer.dims.axis_labels) == ("z", "y", "x")


def test_closing_the_project_takes_its_layers_away(session):
    session.viewer.add_points(np.zeros((1, 3)), name="mine")
    session.close()
    assert [layer.name for layer in session.viewer.layers] == ["mine"]


@pytest.mark.parametrize("docks_first", [True, False])
def test_a_dropped_project_is_taken_over(viewer, project_path, qtbot, docks_first):
    session = session_of(viewer)
    if docks_first:
        attach(session)
    for data, options, kind in read_project(str(project_path)):
        viewer.add_layer(Layer.create(data, options, kind))
    attach(session).adopt_layers()
    qtbot.waitUntil(lambda: session.project is not None, timeout=5000)
    assert session.current.path == project_path
    assert [lay.metadata.get(PROJECT) for lay in viewer.layers] == [None] * len(viewer.layers)
    assert find(viewer, Role.IMAGE) is not None
    session.close()


def test_an_unusable_folder_leaves_the_open_project_open(session, tmp_path):
    before = session.project
    with pytest.raises(FossilError, match="is no project"):
        open_project(session, tmp_path)
    assert session.project is before


def test_predictions_lie_over_the_photographs(session):
    layer = show_predictions(session, SOURCE, 0.5)
    session.go_to(2)
    shown = np.asarray(layer.data[2])
    ids = [i.id for i in session.current.ledger.instances(SOURCE, slices=[2], min_score=0.5)]
    assert set(np.unique(shown)) == {0, *ids}
    assert not layer.editable


def test_status_tells_class_and_score(session):
    layer = show_predictions(session, SOURCE, 0.0)
    session.go_to(2)
    describe(layer, prediction_array(layer).painted(2).instances)
    inside = layer.data_to_world((2, 15, 17))
    assert "class: archaeocyathid, score: 0.90" in layer.get_status(inside, world=True)["value"]
    outside = layer.data_to_world((2, 0, 0))
    assert layer.get_status(outside, world=True)["value"] == "0"


def test_painting_writes_straight_to_the_project(session, project_path):
    value = correcting.new_instance(session)
    layer = show_labels(session)
    z = session.slice
    layer.brush_size = 6
    layer.paint((z, 20, 30), value)
    with Project.open(project_path, read_only=True) as again:
        assert again.labels.read(z)[20, 30] == value
        assert [i.id for i in again.ledger.instances(LABELS, ids=[value])] == [value]
    layer.undo()
    assert not session.current.labels.read(z).any()


def test_every_new_instance_has_an_id_of_its_own(session):
    first, second = correcting.new_instance(session), correcting.new_instance(session)
    layer = find(session.viewer, Role.LABELS)
    assert first != second
    assert layer.selected_label == second
    assert layer.mode == "paint"


def test_the_key_m_takes_a_fresh_id_instead_of_naparis_next_number(session):
    layer = show_labels(session)
    keys = {str(k): v for k, v in layer.keymap.items()}
    keys["M"](layer)
    assert layer.selected_label > 8  # ids of predictions and annotations are taken


def test_a_deleted_instance_comes_back_with_undo(session):
    value = correcting.new_instance(session)
    layer, z = show_labels(session), session.slice
    layer.paint((z, 20, 30), value)
    painted = session.current.labels.read(z).copy()
    assert correcting.delete(session, value) == (painted == value).sum()
    assert not session.current.labels.read(z).any()
    layer.undo()
    np.testing.assert_array_equal(session.current.labels.read(z), painted)


def test_deleting_nothing_tells_where_to_point(session):
    with pytest.raises(FossilError, match="no instance under the cursor"):
        correcting.delete(session, 0)


def test_a_read_only_project_is_not_painted(session, project_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    session.open(project_path)
    with pytest.raises(FossilError, match="reading only"):
        correcting.new_instance(session)


def test_steps_go_to_annotated_slices_and_say_where_they_end(session):
    session.go_to(0)
    assert navigation.step(session, 1) == 1
    assert navigation.step(session, 1) == 3
    assert session.slice == 3
    with pytest.raises(FossilError, match="last annotated slice"):
        navigation.step(session, 1)


def test_a_drawn_area_becomes_a_mask(session):
    layer = draw_area(session)
    corners = np.array([[2, 5, 10], [2, 5, 30], [2, 20, 30], [2, 20, 10]], float)
    layer.add_rectangles([corners])
    mask = drawn_area(session, 2)
    assert mask.shape == session.current.slice_shape
    assert mask.box[0] in (5, 6)
    assert 15 * 20 * 0.9 < mask.area < 16.5 * 21.5
    with pytest.raises(FossilError, match="No area is drawn on slice 3"):
        drawn_area(session, 3)


def test_3d_reads_no_slice_at_full_resolution(session, monkeypatch):
    show_predictions(session, SOURCE, 0.5)
    show_labels(session)
    stack, asked = session.current.stack, []
    whole = type(stack).read
    monkeypatch.setattr(type(stack), "read", lambda self, z: asked.append(z) or whole(self, z))
    # The reduced copy is read on purpose, in a thread.
    session.viewer.dims.events.ndisplay.disconnect(session.view._on_ndisplay)
    session.viewer.dims.ndisplay = 3
    assert asked == []
    flat = [find(session.viewer, role) for role in (Role.IMAGE, Role.PREDICTIONS, Role.LABELS)]
    assert not any(layer.visible for layer in flat)
    session.viewer.dims.events.ndisplay.connect(session.view._on_ndisplay)


def test_3d_shows_a_reduced_copy_that_follows_the_slice(session, qtbot):
    session.go_to(1)
    with qtbot.waitSignal(session.view.reducing.stopped, timeout=20_000):
        session.viewer.dims.ndisplay = 3
    layer = find(session.viewer, Role.REDUCED)
    assert layer.visible
    assert layer.plane.position[0] == 1
    session.go_to(3)
    assert layer.plane.position[0] == 3
    session.viewer.dims.ndisplay = 2
    assert layer not in session.viewer.layers
    assert session.slice == 3
    session.viewer.dims.ndisplay = 3
    assert layer in session.viewer.layers


def test_back_in_2d_the_same_layers_are_shown_again(session):
    predictions = show_predictions(session, SOURCE, 0.5)
    image = find(session.viewer, Role.IMAGE)
    predictions.visible = False
    session.viewer.dims.ndisplay = 3
    session.viewer.dims.ndisplay = 2
    assert image.visible
    assert not predictions.visible


@pytest.mark.parametrize(
    ("direction", "away"), [(ZDirection.INTO, True), (ZDirection.OUT_OF, False)]
)
def test_the_rock_is_seen_as_the_camera_saw_it(viewer, direction, away):
    """Seen along the camera's axis x is right, y is down and slices go away from the observer."""
    viewer.dims.ndisplay = 3
    face_camera(viewer, direction)
    camera_of(viewer).angles = (0, 0, 90)
    looks_along_z = camera_of(viewer).view_direction[0] > 0
    assert looks_along_z == away
    viewer.dims.ndisplay = 2
